"""One ONNX operator -> the layers of a workload that say the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from accelsim.errors import InputError
from accelsim.importing.naming import layer_name
from accelsim.importing.onnx_graph import Graph, Node
from accelsim.importing.onnx_layouts import Layout, layouts, mean_axes
from accelsim.importing.onnx_patterns import SHAPING
from accelsim.importing.onnx_windows import sliding
from accelsim.importing.problem import one_or_two
from accelsim.importing.writing import Item

_NORM_KINDS = {
    "BatchNormalization": ("batch_norm", 1e-5), "LayerNormalization": ("layer_norm", 1e-5),
    "RmsNormalization": ("rms_norm", 1e-6), "RMSNormalization": ("rms_norm", 1e-6),
}  # fmt: skip
"""Kind of the layer and the epsilon that it has by default."""
_NORMS = ("batch_norm", "layer_norm", "rms_norm")


@dataclass
class Translator:
    """Turns nodes into items one by one; keeps names that are taken, tables of embeddings and notes."""

    graph: Graph
    notes: list[str]
    names: set[str] = field(default_factory=set)
    tables: dict[str, str] = field(default_factory=dict)

    @cached_property
    def layouts(self) -> dict[str, Layout]:
        """The layout of every value."""
        return layouts(self.graph)

    def extend(self, items: list[Item], node: Node) -> None:
        """Add what ``node`` does to ``items``, or a bias to the last of them.

        Raises `InputError` naming the node for an operator or attribute that no layer has.
        """
        translate = _OPERATORS.get(node.op)
        if translate is None:
            written = set(_OPERATORS) - {"Part", "RmsNormalization", "ShuffleChannels"}
            known = ", ".join(sorted(written | {"Concat", "Slice", "Split"}))
            raise self.mistake(node, f"no layer does this operator; known: {known}")
        translate(self, items, node)

    def layout(self, node: Node) -> Layout:
        """The layout of what a node reads."""
        return self.layouts[self.graph.dynamic(node)[0]]

    def mistake(self, node: Node, message: str) -> InputError:
        """An error of one node."""
        return InputError(f"{node}: {message}", str(self.graph.path))

    def note(self, node: Node, message: str) -> None:
        """Something that is left out or assumed, told once."""
        text = f"{node}: {message}"
        if text not in self.notes:
            self.notes.append(text)

    def named(self, node: Node, settings: dict[str, Any]) -> dict[str, Any]:
        """Settings with the node's name, as far as a workload can have it."""
        name = layer_name(node.name, self.names)
        self.names.add(name)
        return settings | {"name": name} if name else settings

    def attribute(self, node: Node, name: str, default: Any) -> Any:
        """An attribute as plain numbers or text."""
        value = node.attributes.get(name, default)
        if isinstance(value, bytes):
            return value.decode("ascii", "replace")
        return list(value) if isinstance(value, tuple) else value


def _conv(t: Translator, items: list[Item], node: Node) -> None:
    weight = t.graph.constant(node, 1)
    if weight is None:
        raise t.mistake(node, "its weight is computed from the data")
    window = sliding(t.graph, node, weight.shape[2:], str(t.graph.path))
    if t.layout(node).flat:  # one pixel: a linear layer
        if window.kernel != (1, 1):
            raise t.mistake(node, "a kernel over the one pixel that a mean has left")
        _linear(t, items, node, weight.origin, weight.shape[0], len(node.inputs) > 2)
        return
    groups, given = t.attribute(node, "group", 1), t.graph.shape(node.inputs[0])[1]
    if weight.shape[1] * groups != given:
        taken = f"{weight.shape[1]} channels in each of {groups} groups"
        raise t.mistake(node, f"its weight takes {taken}, its input has {given}")
    settings: dict[str, Any] = {"channels": weight.shape[0], "kernel": one_or_two(window.kernel)}
    settings |= {"stride": one_or_two(window.stride)} if window.stride != (1, 1) else {}
    settings |= {} if window.centred else {"padding": window.padding()}
    settings |= {"dilation": one_or_two(window.dilation)} if window.dilation != (1, 1) else {}
    settings |= {"groups": groups} if groups > 1 else {}
    settings |= {"bias": True} if len(node.inputs) > 2 else {}
    items.append(("conv2d", t.named(node, settings)))


def _pool(t: Translator, items: list[Item], node: Node) -> None:
    window = sliding(t.graph, node, t.attribute(node, "kernel_shape", ()), str(t.graph.path))
    if window.dilation != (1, 1):
        raise t.mistake(node, f"dilations {list(window.dilation)}: no pool spreads its window")
    if window.kernel == window.stride == (1, 1) or t.layout(node).flat:
        return
    if node.op == "MaxPool" and max(window.kernel) > 15:
        raise t.mistake(node, f"a window of {list(window.kernel)}: at most 15 positions along an axis")
    if any(2 * edge > window.kernel[i % 2] for i, edge in enumerate(window.edges)):
        raise t.mistake(node, f"pads {list(window.edges)}: more than half of the window")
    settings: dict[str, Any] = {"size": one_or_two(window.kernel), "stride": one_or_two(window.stride)}
    settings |= {"padding": window.padding()} if any(window.edges) else {}
    settings |= {"ceil": True} if t.attribute(node, "ceil_mode", 0) else {}
    counted = node.op == "AveragePool" and any(window.edges) and t.attribute(node, "count_include_pad", 0)
    settings |= {"count_padding": True} if counted else {}
    items.append(("max_pool" if node.op == "MaxPool" else "average_pool", settings))


def _resize(t: Translator, items: list[Item], node: Node) -> None:
    shape = t.graph.shape(node.outputs[0])
    mode = t.attribute(node, "mode", "nearest")
    place = t.attribute(node, "coordinate_transformation_mode", "half_pixel")
    if len(shape) != 4 or mode not in ("nearest", "linear"):
        raise t.mistake(node, f"mode {mode} of shape {shape}: only nearest or linear, of images")
    if mode == "linear" and place not in ("half_pixel", "pytorch_half_pixel"):
        t.note(node, f"{place} counts as half_pixel: the same work, other weights")
    settings: dict[str, Any] = {"height": shape[2], "width": shape[3]}
    items.append(("resize", settings | ({"method": "nearest"} if mode == "nearest" else {})))


def _part(t: Translator, items: list[Item], node: Node) -> None:
    """Some of the channels, or all of an axis."""
    shape, axis = t.graph.shape(node.inputs[0]), node.attributes["axis"]
    first, count = node.attributes["first"], node.attributes["count"]
    if count == shape[axis]:
        return
    if axis == t.layout(node).axis:
        items.append(("take_channels", {"first": first, "count": count} if first else {"count": count}))
    elif len(shape) == 3 and count == 1 and first in (0, shape[1] - 1) and axis == 1:
        items.append(("take_last" if first else "take_first", {}))
    else:
        raise t.mistake(
            node, f"positions {first} to {first + count - 1} of axis {axis}: no layer cuts them out"
        )


def _mean(t: Translator, items: list[Item], node: Node) -> None:
    """A mean over the whole image, or over all positions of a sequence."""
    layout, rank = t.layout(node), len(t.graph.shape(node.inputs[0]))
    axes = sorted(axis % rank for axis in mean_axes(t.graph, node, rank))
    if layout.flat:
        return
    everywhere = rank > 2 and axes == sorted({*range(1, rank)} - {layout.axis})
    if node.op == "GlobalAveragePool" or (everywhere and (rank == 4 or layout.axis == 1)):
        items.append(("average_pool", {}))
    elif everywhere and rank == 3:
        items.append(("mean_positions", {}))
    else:
        raise t.mistake(node, f"a mean over axes {axes} of {rank}: only over an image or over positions")


def _moved(t: Translator, items: list[Item], node: Node) -> None:
    """Reshape and its like: an image laid out flat or as positions, or nothing."""
    before, after = t.graph.shape(node.inputs[0]), t.graph.shape(node.outputs[0])
    layout = t.layout(node)
    if layout.flat:
        return
    if len(before) == 4 and len(after) == 2:
        items.append(("flatten", {}))
        return
    if len(before) == 4 and len(after) == 3 and layout.axis == 3 and after[2] == before[3]:
        items.append(("as_positions", {}))
        return
    if len(before) == 4 and len(after) == 3 and layout.axis == 1 and after[1] == before[1]:
        return
    if len(before) == 3 and len(after) == 2 and after[-1] == math.prod(before[1:]) != before[-1]:
        items.append(("flatten", {}))
        return
    core = [[extent for extent in shape if extent != 1] for shape in (before, after)]
    rows = max(len(before), len(after)) < 4 and before[-1] == after[-1]
    directions = bool(items) and items[-1][0] == "lstm"  # two directions, side by side
    if core[0] != core[1] and not rows and not directions:
        raise t.mistake(node, f"no layer turns {before} into {after}")


def _gemm(t: Translator, items: list[Item], node: Node) -> None:
    weight = t.graph.constant(node, 1)
    plain = t.attribute(node, "transA", 0) == 0 and t.attribute(node, "alpha", 1.0) == 1.0
    if weight is None or not plain:
        raise t.mistake(node, "only data x constant weight, without transA and alpha")
    features = weight.shape[0] if t.attribute(node, "transB", 0) else weight.shape[1]
    _linear(t, items, node, weight.origin, features, len(node.inputs) > 2)


def _matmul(t: Translator, items: list[Item], node: Node) -> None:
    weight = t.graph.constant(node, 1)
    if weight is None or len(weight.shape) != 2:
        raise t.mistake(node, "a product of two activations outside an attention that could be recognised")
    _linear(t, items, node, weight.origin, weight.shape[1], False)


def _linear(t: Translator, items: list[Item], node: Node, origin: str, features: int, bias: bool) -> None:
    if origin and origin in t.tables:
        items.append(("unembedding", {"of": t.tables[origin]}))
        return
    settings: dict[str, Any] = {"features": features}
    items.append(("linear", t.named(node, settings | ({"bias": True} if bias else {}))))


def _add_constant(t: Translator, items: list[Item], node: Node) -> None:
    """A bias after a linear layer or convolution, a table of positions, or a shift that is left out."""
    constant = next(t.graph.constants[value] for value in node.inputs if value in t.graph.constants)
    out = t.graph.shape(node.outputs[0])
    if constant.elements in (out[-1], out[1]) and items and items[-1][0] in ("linear", "conv2d"):
        kind, settings = items[-1]
        items[-1] = (kind, {**settings, "bias": True})
    elif len(out) == 3 and constant.elements == out[1] * out[2]:
        items.append(("positions", {"kind": "learned"}))
    elif constant.elements <= max(out[1:]) and items and items[-1][0] in _NORMS:
        return  # the normalisation has a scale and a shift of its own
    elif constant.elements <= max(out[1:]):
        t.note(node, "adding a constant is left out")
    else:
        raise t.mistake(node, f"adding a constant of shape {constant.shape}: no layer does it")


def _scaled(t: Translator, items: list[Item], node: Node) -> None:
    found = [t.graph.constants[value] for value in node.inputs if value in t.graph.constants]
    if not found:
        raise t.mistake(node, "a value and itself: no layer does it")
    if found[0].elements > max(t.graph.shape(node.outputs[0])[1:]):
        raise t.mistake(node, f"a constant of shape {found[0].shape}: no layer does it")
    if items and items[-1][0] in _NORMS:
        return
    channels = t.graph.shape(node.outputs[0])[t.layout(node).axis]
    if node.op == "Mul" and found[0].elements == channels > 1:
        items.append(("scale", {}))
        return
    t.note(node, "scaling by a constant is left out")


def _gather(t: Translator, items: list[Item], node: Node) -> None:
    """Rows of a table by token id, or one position of a sequence."""
    table = t.graph.constant(node, 0)
    if table is not None and len(table.shape) == 2 and t.attribute(node, "axis", 0) == 0:
        settings = t.named(node, {"tokens": table.shape[0], "features": table.shape[1]})
        items.append(("embedding", settings))
        if "name" in settings:
            t.tables[table.origin] = settings["name"]
        return
    index = t.graph.constant(node, 1)
    shape = t.graph.shapes.get(node.inputs[0], ())
    if index is not None and index.elements == 1 and index.values is not None and len(shape) == 3:
        place = int(index.values.reshape(-1)[0]) % shape[1]
        if place in (0, shape[1] - 1) and t.attribute(node, "axis", 0) == 1:
            items.append(("take_last" if place else "take_first", {}))
            return
    raise t.mistake(node, "only rows of a constant table, or the first or last position of a sequence")


def _clip(t: Translator, items: list[Item], node: Node) -> None:
    bounds: list[float | None] = [t.attribute(node, "min", None), t.attribute(node, "max", None)]
    for place in (1, 2):
        constant = t.graph.constant(node, place)
        if constant is not None and constant.values is not None:
            bounds[place - 1] = float(constant.values.reshape(-1)[0])
    low, high = bounds
    if low == 0 and high == 6:
        items.append(("relu6", {}))
    elif low == 0 and (high is None or high > 1e30):
        items.append(("relu", {}))
    else:
        raise t.mistake(node, f"a clip from {low} to {high}: only from 0, to 6 or without end")


def _dropout(t: Translator, items: list[Item], node: Node) -> None:
    constant = t.graph.constant(node, 1)
    rate = t.attribute(node, "ratio", 0.5)
    if constant is not None and constant.values is not None:
        rate = float(constant.values.reshape(-1)[0])
    if 0 < rate < 1:
        items.append(("dropout", {"rate": round(rate, 6)}))


def _normalised(t: Translator, items: list[Item], node: Node) -> None:
    epsilon = float(f"{t.attribute(node, 'epsilon', 1e-5):.6g}")  # an exporter's float32
    rank = len(t.graph.shape(node.inputs[0]))
    if node.op != "BatchNormalization" and t.attribute(node, "axis", -1) % rank != t.layout(node).axis:
        raise t.mistake(node, "normalises more than the last axis: no layer does it")
    kind, usual = _NORM_KINDS[node.op]
    items.append((kind, {} if epsilon == usual else {"epsilon": epsilon}))


def _turned(t: Translator, items: list[Item], node: Node) -> None:
    """Channels from first to last or back; or batch and positions, where within a sample nothing moves."""
    perm, shape, axis = (
        list(t.attribute(node, "perm", [])),
        t.graph.shape(node.inputs[0]),
        t.layout(node).axis,
    )
    around = [*t.graph.consumers.get(node.outputs[0], ()), *(kind for kind, _ in items[-1:])]
    recurrent = any(each == "lstm" or (isinstance(each, Node) and each.op == "LSTM") for each in around)
    others = [place for place in perm if place != axis]
    if perm == [1, 0, 2] and (recurrent or 1 in shape[:2]):
        return
    if recurrent and perm == [0, 2, 1, 3]:
        return
    if t.layout(node).flat or (len(perm) == 4 and others == sorted(others) and perm[0] == 0 != axis):
        return
    if perm == [0, 2, 1] and axis in (1, 2):
        items.append(("as_positions" if axis == 1 else "as_image", {}))
        return
    raise t.mistake(node, f"axes in the order {perm}: no layer does it")


def _lstm(t: Translator, items: list[Item], node: Node) -> None:
    if node.inputs[0] in t.graph.inputs:
        raise t.mistake(node, "its input has the batch second; export the model with the batch first")
    direction = t.attribute(node, "direction", "forward")
    if direction == "reverse":
        raise t.mistake(node, "direction reverse: only forward or bidirectional")
    settings: dict[str, Any] = {"features": t.attribute(node, "hidden_size", 0)}
    settings |= {"bidirectional": True} if direction == "bidirectional" else {}
    items.append(("lstm", t.named(node, settings)))
    states = [bool(value and t.graph.consumers.get(value)) for value in (*node.outputs, "", "")[:3]]
    if states[1] and not states[0] and direction == "forward":
        items.append(("take_last", {}))
    elif states[1] or states[2]:
        raise t.mistake(node, "its last states are used; only its outputs, or the last of a forward one")


def _attention(t: Translator, items: list[Item], node: Node) -> None:
    settings: dict[str, Any] = {"heads": node.attributes["heads"]}
    items.append(
        ("attention", t.named(node, settings | ({"causal": True} if node.attributes["causal"] else {})))
    )


def _left_out(t: Translator, items: list[Item], node: Node) -> None:
    readers = t.graph.consumers.get(node.outputs[0], ())
    if any(each.op not in SHAPING for each in readers):
        raise t.mistake(node, "a softmax inside the network, outside an attention that could be recognised")
    t.note(node, "left out: the loss does it")


def _hard(kind: str) -> Callable[[Translator, list[Item], Node], None]:
    def translate(t: Translator, items: list[Item], node: Node) -> None:
        slope, middle = t.attribute(node, "alpha", 1 / 6), t.attribute(node, "beta", 0.5)
        if node.op == "HardSigmoid" and "alpha" not in node.attributes:
            slope = 0.2  # what the operator means without it
        if abs(slope - 1 / 6) > 1e-6 or abs(middle - 0.5) > 1e-6:
            raise t.mistake(node, f"slope {slope:.4g} and middle {middle:.4g}: only 1/6 and 1/2")
        items.append((kind, {}))

    return translate


def _shuffled(t: Translator, items: list[Item], node: Node) -> None:
    items.append(("shuffle_channels", {"groups": node.attributes["groups"]}))


def _plain(kind: str) -> Callable[[Translator, list[Item], Node], None]:
    return lambda t, items, node: items.append((kind, {}))


def _nothing(t: Translator, items: Sequence[Item], node: Node) -> None:
    """Operators that change nothing for a chip."""


_OPERATORS: dict[str, Callable[[Translator, list[Item], Node], None]] = {
    "Add": _add_constant, "Attention": _attention, "AveragePool": _pool, "BatchNormalization": _normalised,
    "Cast": _nothing, "Clip": _clip, "Conv": _conv, "Div": _scaled, "Dropout": _dropout, "Flatten": _moved,
    "Gather": _gather, "Gelu": _plain("gelu"), "Gemm": _gemm, "GlobalAveragePool": _mean,
    "HardSigmoid": _hard("hard_sigmoid"), "HardSwish": _hard("hard_swish"), "Identity": _nothing,
    "LSTM": _lstm, "LayerNormalization": _normalised, "LogSoftmax": _left_out, "MatMul": _matmul,
    "MaxPool": _pool, "Mul": _scaled, "Part": _part, "RMSNormalization": _normalised, "ReduceMean": _mean,
    "Relu": _plain("relu"), "Reshape": _moved, "Resize": _resize, "RmsNormalization": _normalised,
    "ShuffleChannels": _shuffled, "Sigmoid": _plain("sigmoid"), "Softmax": _left_out, "Squeeze": _moved,
    "Sub": _scaled, "Swish": _plain("swish"), "Tanh": _plain("tanh"), "Transpose": _turned,
    "Unsqueeze": _moved, "Upsample": _resize,
}  # fmt: skip
