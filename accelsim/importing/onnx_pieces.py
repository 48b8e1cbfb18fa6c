"""Small pieces of graphs put together before the patterns: padding, parts of channels, norms, rotations."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from accelsim.importing.onnx_graph import Graph, Node


def padded(graph: Graph) -> Graph:
    """Convolutions and pools that pad by themselves, in place of a `Pad` of zeros before each."""
    nodes = []
    for node in graph.nodes:
        pad = graph.producer.get(node.inputs[0]) if node.op in ("Conv", "MaxPool") and node.inputs else None
        around = _zeros_around(graph, pad) if pad is not None and pad.op == "Pad" else None
        automatic = node.attributes.get("auto_pad", b"NOTSET") in (b"NOTSET", b"VALID")
        if pad is None or around is None or not automatic:
            nodes.append(node)
            continue
        own = node.attributes.get("pads") or [0] * len(around)
        if len(own) != len(around):
            nodes.append(node)
            continue
        pads = [int(a) + int(b) for a, b in zip(own, around, strict=True)]
        attributes = {**node.attributes, "pads": pads, "auto_pad": b"NOTSET"}
        nodes.append(replace(node, inputs=(pad.inputs[0], *node.inputs[1:]), attributes=attributes))
    return graph.rewired(nodes)


def _zeros_around(graph: Graph, pad: Node) -> list[int] | None:
    """Zeros before and after each axis of an image, if nothing else is padded."""
    constant, value = graph.constant(pad, 1), graph.constant(pad, 2)
    given = pad.attributes.get("pads")
    if given is None and constant is not None and constant.values is not None:
        given = constant.values.reshape(-1).tolist()
    fill = value.values if value is not None else None
    plain = pad.attributes.get("mode", b"constant") == b"constant"
    rank = len(graph.shapes.get(pad.inputs[0], ()))
    if given is None or len(given) != 2 * rank or rank < 3 or not plain:
        return None
    if fill is not None and (fill.reshape(-1) > 0).any():
        return None
    others = [given[0], given[1], given[rank], given[rank + 1]]
    return None if any(others) else [*given[2:rank], *given[rank + 2 :]]


def parts(graph: Graph) -> Graph:
    """Every used output of a split, and every slice of one axis, as a node of its own."""
    nodes: list[Node] = []
    for node in graph.nodes:
        found = _pieces(graph, node)
        nodes += found if found else [node]
    return graph.rewired(nodes)


def _pieces(graph: Graph, node: Node) -> list[Node]:
    """``Part`` nodes with ``axis``, ``first`` and ``count``, or none where the node is something else."""
    data = graph.dynamic(node)
    if node.op == "Unsqueeze":
        return _picked(graph, node)
    if node.op not in ("Split", "Slice") or len(data) != 1 or data[0] not in graph.shapes:
        return []
    shape = graph.shapes[data[0]]
    if node.op == "Split":
        axis, first, made = int(node.attributes.get("axis", 0)) % len(shape), 0, []
        for value in node.outputs:
            count = graph.shapes[value][axis] if value in graph.shapes else 0
            attributes = {"axis": axis, "first": first, "count": count}
            made.append(Node("Part", node.name, (data[0],), (value,), attributes))
            first += count
        return made if first == shape[axis] else []
    starts, _, axes, steps = (_numbers(graph, node, i) for i in range(1, 5))
    axes = axes or [*range(len(starts))]
    if len(axes) != 1 or len(starts) != 1 or steps not in ([], [1]) or node.outputs[0] not in graph.shapes:
        return []
    axis = axes[0] % len(shape)
    first = starts[0] if starts[0] >= 0 else starts[0] + shape[axis]
    attributes = {"axis": axis, "first": first, "count": graph.shapes[node.outputs[0]][axis]}
    return [Node("Part", node.name, (data[0],), node.outputs, attributes)]


def _picked(graph: Graph, node: Node) -> list[Node]:
    """One channel of an image, picked by its number, with its axis put back."""
    pick = graph.producer.get(node.inputs[0])
    index = graph.constant(pick, 1) if pick is not None and pick.op == "Gather" else None
    if pick is None or index is None or index.values is None or index.shape != ():
        return []
    axes = node.attributes.get("axes") or _numbers(graph, node, 1)
    axis, shape = int(pick.attributes.get("axis", 0)), graph.shapes.get(pick.inputs[0], ())
    if [*axes] != [axis] or len(shape) != 4:
        return []
    attributes = {"axis": axis, "first": int(index.values) % shape[axis], "count": 1}
    return [Node("Part", node.name, (pick.inputs[0],), node.outputs, attributes)]


def _numbers(graph: Graph, node: Node, index: int) -> list[int]:
    constant = graph.constant(node, index)
    values = constant.values if constant is not None else None
    return [] if values is None else [int(value) for value in values.reshape(-1)]


def shuffles(graph: Graph) -> Iterator[Node]:
    """Channels as (groups, each), turned around, and as channels again."""
    for node in graph.nodes:
        split = graph.producer.get(node.inputs[0]) if node.op == "Transpose" else None
        joined = [each for each in graph.consumers.get(node.outputs[0], ()) if each.op == "Reshape"]
        if split is None or split.op != "Reshape" or len(joined) != 1:
            continue
        outer, inner = graph.shapes.get(split.inputs[0], ()), graph.shapes.get(node.inputs[0], ())
        same = graph.shapes.get(joined[0].outputs[0]) == outer
        if list(node.attributes.get("perm", ())) == [0, 2, 1, 3, 4] and len(outer) == 4 and same:
            yield Node(
                "ShuffleChannels", node.name, (split.inputs[0],), joined[0].outputs, {"groups": inner[1]}
            )


def rms_norms(graph: Graph) -> Iterator[Node]:
    """x / sqrt(mean(x * x) + epsilon), or times its inverse, and the scale where it is."""
    for node in graph.nodes:
        shifted = graph.producer.get(node.inputs[0]) if node.op == "Sqrt" else None
        mean = shifted and _dynamic_maker(graph, shifted, "Add", "ReduceMean")
        square = mean and graph.producer.get(mean.inputs[0])
        if not shifted or not square or square.op not in ("Pow", "Mul"):
            continue
        x, inverse = square.inputs[0], node.outputs[0]
        following = graph.consumers.get(inverse, [])
        if len(following) == 1 and following[0].op in ("Reciprocal", "Div") and x not in following[0].inputs:
            inverse = following[0].outputs[0]
            following = graph.consumers.get(inverse, [])
        if len(following) != 1 or following[0].op not in ("Mul", "Div"):
            continue
        end = following[0]
        if graph.producer.get(x) and graph.producer[x].op == "Sub":  # a layer norm
            continue
        scale = [each for each in graph.consumers.get(end.outputs[0], ()) if each.op == "Mul"]
        constant = [value for each in scale for value in each.inputs if value in graph.constants]
        if len(scale) == 1 and constant and len(graph.constants[constant[0]].shape) == 1:
            end = scale[0]
        attributes = {"epsilon": graph.scalar(shifted) or 1e-6}
        yield Node("RmsNormalization", node.name, (x,), end.outputs, attributes)


def _dynamic_maker(graph: Graph, node: Node, op: str, wanted: str) -> Node | None:
    """The node of kind ``wanted`` that makes the data of a node of kind ``op``."""
    data = graph.dynamic(node)
    found = graph.producer.get(data[0]) if node.op == op and len(data) == 1 else None
    return found if found is not None and found.op == wanted else None


def rotated(graph: Graph, node: Node) -> str | None:
    """What rotary positions turn (Su et al., arXiv:2104.09864): x cos + (-second half, first half) sin."""
    if node.op != "Add" or len(graph.dynamic(node)) != 2:
        return None
    for plain, turned in (node.inputs, node.inputs[::-1]):
        x, halves = (_times_constant(graph, value) for value in (plain, turned))
        joined = graph.producer.get(halves or "")
        if not x or joined is None or joined.op != "Concat" or len(joined.inputs) != 2:
            continue
        if {_half_of(graph, value) for value in joined.inputs} == {x}:
            return x
    return None


def _times_constant(graph: Graph, value: str) -> str | None:
    node = graph.producer.get(value)
    data = graph.dynamic(node) if node is not None and node.op == "Mul" else []
    return data[0] if len(data) == 1 else None


def _half_of(graph: Graph, value: str) -> str | None:
    """The value of which this is a part, perhaps negated."""
    node = graph.producer.get(value)
    if node is not None and node.op == "Neg":
        node = graph.producer.get(node.inputs[0])
    return node.inputs[0] if node is not None and node.op in ("Slice", "Split", "Part") else None
