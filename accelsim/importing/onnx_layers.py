"""One ONNX operator -> the layers of a workload that say the same."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from accelsim.errors import InputError
from accelsim.importing.naming import layer_name
from accelsim.importing.onnx_graph import Graph, Node
from accelsim.importing.writing import Item

_ELEMENTWISE = {"relu", "relu6", "sigmoid", "tanh", "gelu", "swish", "dropout", "batch_norm"}

_NORMS = ("batch_norm", "layer_norm")


@dataclass
class Translator:
    """Turns nodes into items one by one; keeps names that are taken, tables of embeddings and notes."""

    graph: Graph
    notes: list[str]
    names: set[str] = field(default_factory=set)
    tables: dict[str, str] = field(default_factory=dict)

    def extend(self, items: list[Item], node: Node) -> None:
        """Add what ``node`` does to ``items``, or a bias to the last of them.

        Raises `InputError` naming the node for an operator or attribute that no layer has.
        """
        translate = _OPERATORS.get(node.op)
        if translate is None:
            known = ", ".join(sorted([*_OPERATORS, "Concat"]))
            raise self.mistake(node, f"no layer does this operator; known: {known}")
        translate(self, items, node)

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


def _square(t: Translator, node: Node, name: str, default: int) -> int:
    """A list of equal numbers as one: height and width."""
    values = t.attribute(node, name, [default])
    if len(set(values)) != 1:
        raise t.mistake(node, f"{name} {list(values)}: a layer has one for both axes")
    return int(values[0])


def _padding(t: Translator, node: Node, kernel: int) -> int:
    automatic = t.attribute(node, "auto_pad", "NOTSET")
    if automatic == "VALID":
        return 0
    if automatic != "NOTSET":
        stride = _square(t, node, "strides", 1)
        if stride > 1 or kernel % 2 == 0:
            raise t.mistake(node, f"auto_pad {automatic} pads unevenly here: a layer pads all edges alike")
        return kernel // 2
    return _square(t, node, "pads", 0)


def _pooled(items: Sequence[Item]) -> bool:
    """Whether the values come from a mean over the whole image, which here is flat already."""
    computing = [item for item in items if item[0] not in _ELEMENTWISE]
    return computing[-1:] == [("average_pool", {})]


def _image(t: Translator, node: Node) -> None:
    if len(t.graph.shape(node.inputs[0])) != 4:
        raise t.mistake(node, f"only images (n, c, h, w), got {t.graph.shape(node.inputs[0])}")
    if _square(t, node, "dilations", 1) != 1:
        raise t.mistake(node, "dilations above 1: no layer spreads its taps")


def _conv(t: Translator, items: list[Item], node: Node) -> None:
    _image(t, node)
    weight = t.graph.constant(node, 1)
    if weight is None:
        raise t.mistake(node, "its weight is computed from the data")
    if weight.shape[2] != weight.shape[3]:
        raise t.mistake(node, f"kernel {weight.shape[2]} x {weight.shape[3]}: only square ones")
    kernel = weight.shape[2]
    if _pooled(items) and kernel == 1:  # a classifier written as a convolution of one pixel
        _linear(t, items, node, weight.origin, weight.shape[0], len(node.inputs) > 2)
        return
    settings: dict[str, Any] = {"channels": weight.shape[0], "kernel": kernel}
    stride, padding = _square(t, node, "strides", 1), _padding(t, node, kernel)
    groups = t.attribute(node, "group", 1)
    settings |= {"stride": stride} if stride > 1 else {}
    settings |= {"padding": padding} if padding != kernel // 2 else {}
    settings |= {"groups": groups} if groups > 1 else {}
    settings |= {"bias": True} if len(node.inputs) > 2 else {}
    items.append(("conv2d", t.named(node, settings)))


def _pool(t: Translator, items: list[Item], node: Node) -> None:
    _image(t, node)
    size, stride = _square(t, node, "kernel_shape", 1), _square(t, node, "strides", 1)
    padding, ceil = _pool_edges(t, node, size, stride)
    if size == stride == 1:
        return
    if node.op == "AveragePool":
        extents = t.graph.shape(node.inputs[0])[2:]
        if padding or (ceil and any((extent - size) % stride for extent in extents)):
            raise t.mistake(node, "an average over padding: no layer does it")
        items.append(("average_pool", {"size": size, "stride": stride}))
        return
    settings: dict[str, Any] = {"size": size, "stride": stride}
    settings |= {"padding": padding} if padding else {}
    items.append(("max_pool", settings | ({"ceil": True} if ceil else {})))


def _pool_edges(t: Translator, node: Node, size: int, stride: int) -> tuple[int, bool]:
    """(padding, whether a last window reaches over the edge).

    Padding at the lower and right edge only is the older way to say the latter.
    """
    pads = t.attribute(node, "pads", [0, 0, 0, 0])
    ceil = bool(t.attribute(node, "ceil_mode", 0))
    if node.op == "AveragePool" or len(set(pads)) == 1 or t.attribute(node, "auto_pad", "NOTSET") != "NOTSET":
        return _padding(t, node, size), ceil
    before, after = t.graph.shape(node.inputs[0])[2:], t.graph.shape(node.outputs[0])[2:]
    reaching = tuple(-(-(extent + 2 * pads[0] - size) // stride) + 1 for extent in before)
    if pads[0] != pads[1] or after != reaching:
        raise t.mistake(node, f"pads {pads}: a layer pads all edges alike")
    return pads[0], True


def _mean(t: Translator, items: list[Item], node: Node) -> None:
    """A mean over the whole image, or over all positions of a sequence."""
    rank = len(t.graph.shape(node.inputs[0]))
    axes = t.attribute(node, "axes", None)
    constant = t.graph.constant(node, 1)
    if axes is None and constant is not None and constant.values is not None:
        axes = constant.values.tolist()
    axes = sorted(axis % rank for axis in (axes if axes is not None else range(rank)))
    if node.op == "GlobalAveragePool" or (rank == 4 and axes == [2, 3]):
        items.append(("average_pool", {}))
    elif rank == 3 and axes == [1]:
        items.append(("mean_positions", {}))
    else:
        raise t.mistake(node, f"a mean over axes {axes} of {rank}: only over an image or over positions")


def _moved(t: Translator, items: list[Item], node: Node) -> None:
    """Reshape and its like: an image laid out flat, or nothing."""
    before, after = t.graph.shape(node.inputs[0]), t.graph.shape(node.outputs[0])
    if len(before) == 4 and len(after) == 2:
        if not _pooled(items):
            items.append(("flatten", {}))
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
        raise t.mistake(node, "two activations: only their sum (Add) has a layer")
    if found[0].elements > max(t.graph.shape(node.outputs[0])[1:]):
        raise t.mistake(node, f"a constant of shape {found[0].shape}: no layer does it")
    if items and items[-1][0] in _NORMS:
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
        last = int(index.values.reshape(-1)[0]) in (-1, shape[1] - 1)
        if last and t.attribute(node, "axis", 0) == 1:
            items.append(("take_last", {}))
            return
    raise t.mistake(node, "only rows of a constant table, or the last position of a sequence")


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
    if node.op == "LayerNormalization" and t.attribute(node, "axis", -1) % rank != rank - 1:
        raise t.mistake(node, "normalises more than the last axis: no layer does it")
    kind = "layer_norm" if node.op == "LayerNormalization" else "batch_norm"
    items.append((kind, {} if epsilon == 1e-5 else {"epsilon": epsilon}))


def _turned(t: Translator, items: list[Item], node: Node) -> None:
    """Batch and positions change places around an LSTM; within a sample nothing moves."""
    perm = list(t.attribute(node, "perm", []))
    around = [*t.graph.consumers.get(node.outputs[0], ()), *(kind for kind, _ in items[-1:])]
    recurrent = any(each == "lstm" or (isinstance(each, Node) and each.op == "LSTM") for each in around)
    if not recurrent or perm not in ([1, 0, 2], [0, 2, 1, 3]):
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
    t.note(node, "left out: the loss does it")


def _plain(kind: str) -> Callable[[Translator, list[Item], Node], None]:
    return lambda t, items, node: items.append((kind, {}))


def _nothing(t: Translator, items: Sequence[Item], node: Node) -> None:
    """Operators that change nothing for a chip."""


_OPERATORS: dict[str, Callable[[Translator, list[Item], Node], None]] = {
    "Add": _add_constant, "Attention": _attention, "AveragePool": _pool, "BatchNormalization": _normalised,
    "Cast": _nothing, "Clip": _clip, "Conv": _conv, "Div": _scaled, "Dropout": _dropout, "Flatten": _moved,
    "Gather": _gather, "Gelu": _plain("gelu"), "Gemm": _gemm, "GlobalAveragePool": _mean,
    "Identity": _nothing, "LSTM": _lstm, "LayerNormalization": _normalised, "LogSoftmax": _left_out,
    "MatMul": _matmul, "MaxPool": _pool, "Mul": _scaled, "ReduceMean": _mean, "Relu": _plain("relu"),
    "Reshape": _moved, "Sigmoid": _plain("sigmoid"), "Softmax": _left_out, "Squeeze": _moved,
    "Sub": _scaled, "Swish": _plain("swish"), "Tanh": _plain("tanh"), "Transpose": _turned,
    "Unsqueeze": _moved,
}  # fmt: skip
