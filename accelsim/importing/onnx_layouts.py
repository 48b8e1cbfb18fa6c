"""Where the channels of each value lie, since ONNX has them first in images and last in sequences."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.importing.onnx_graph import Graph, Node, Shape

_FIRST = {
    "Conv", "MaxPool", "AveragePool", "GlobalAveragePool", "BatchNormalization", "Resize", "ShuffleChannels",
}  # fmt: skip
"""Operators of images, whose channels come second, behind the batch."""
_LAST = {"MatMul", "Gemm", "LayerNormalization", "RmsNormalization", "Attention", "Joined", "LSTM"}
_SHAPED = {"Reshape", "Flatten", "Squeeze", "Unsqueeze"}


@dataclass(frozen=True)
class Layout:
    """``axis``: where channels lie; ``flat``: an image of one pixel after a mean, held here as (c,)."""

    axis: int
    flat: bool = False


def layouts(graph: Graph) -> dict[str, Layout]:
    """The layout of every value whose shape is known."""
    found = {name: Layout(_input_axis(graph, name)) for name in graph.inputs}
    for node in graph.nodes:
        data = [value for value in graph.dynamic(node) if value in found]
        # a gate of one number a channel says nothing of the image that it multiplies
        leading = next((value for value in data if not found[value].flat), data[0] if data else "")
        given = found.get(leading, Layout(1))
        for value in node.outputs:
            shape, before = graph.shapes.get(value, ()), graph.shapes.get(leading, ())
            found[value] = Layout(_axis(node, given, before, shape), _flat(graph, node, given, shape))
    return found


def _input_axis(graph: Graph, name: str) -> int:
    rank = len(graph.shapes.get(name, ()))
    readers = graph.consumers.get(name, [])
    while len(readers) == 1 and readers[0].op in ("Cast", "Identity", "Pad"):
        readers = graph.consumers.get(readers[0].outputs[0], [])
    if rank == 4:
        turned = [tuple(node.attributes.get("perm", ())) for node in readers]
        return 3 if (0, 3, 1, 2) in turned else 1
    images = any(node.op in _FIRST for node in readers)
    return 1 if rank == 3 and images else max(rank - 1, 0)


def _axis(node: Node, given: Layout, before: Shape, after: Shape) -> int:
    last = max(len(after) - 1, 0)
    if node.op in _FIRST:
        return 1
    if node.op in _LAST or (node.op == "Gather" and len(after) > len(before)):
        return last
    if node.op == "Transpose" and given.axis in node.attributes.get("perm", ()):
        return tuple(node.attributes["perm"]).index(given.axis)
    if node.op in _SHAPED:
        return given.axis if before[: given.axis + 1] == after[: given.axis + 1] else last
    if len(before) == len(after):
        return given.axis
    return min(given.axis, last)


def _flat(graph: Graph, node: Node, given: Layout, shape: Shape) -> bool:
    """Whether a value is the mean of an image with its axes kept, or follows from one."""
    if len(shape) not in (3, 4) or node.op == "Resize":
        return False
    if node.op == "GlobalAveragePool":
        return True
    rank = len(shape)
    if node.op == "ReduceMean" and node.attributes.get("keepdims", 1):
        axes = {axis % rank for axis in mean_axes(graph, node, rank)}
        return axes == set(range(1, rank)) - {given.axis} and (rank == 4 or given.axis == 1)
    return given.flat


def mean_axes(graph: Graph, node: Node, rank: int) -> list[int]:
    """The axes of a mean, from an attribute or an input; all, where neither is there."""
    given = node.attributes.get("axes")
    constant = graph.constant(node, 1)
    if given is None and constant is not None and constant.values is not None:
        given = constant.values.reshape(-1).tolist()
    return [int(axis) for axis in given] if given is not None else [*range(rank)]
