"""Sliding windows of ONNX operators, along one axis or two, as the settings of a layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from accelsim.errors import InputError
from accelsim.importing.onnx_graph import Graph, Node
from accelsim.importing.problem import one_or_two

Pair = tuple[int, int]


@dataclass(frozen=True)
class Sliding:
    """Kernel, step and step between taps, each (down, across); zeros as (top, left, bottom, right)."""

    kernel: Pair
    stride: Pair
    dilation: Pair
    edges: tuple[int, int, int, int]

    def padding(self) -> int | list[int]:
        """The zeros as a workload file says them."""
        top, left, bottom, right = self.edges
        if (top, left) != (bottom, right):
            return [*self.edges]
        return one_or_two((top, left))

    @property
    def centred(self) -> bool:
        """Whether the zeros are those that a convolution has by default."""
        half = tuple(d * (k // 2) for d, k in zip(self.dilation, self.kernel, strict=True))
        return self.edges == half * 2


def sliding(graph: Graph, node: Node, kernel: Sequence[int], where: str) -> Sliding:
    """The window of a convolution or pool over an image, or over positions with channels first.

    Raises `InputError` naming the node for values of another rank, and negative zeros.
    """
    before = graph.shape(node.inputs[0])
    axes = len(before) - 2
    if axes not in (1, 2) or len(kernel) != axes:
        raise InputError(f"{node}: only images (n, c, h, w) or sequences (n, c, t), got {before}", where)
    stride = _each(node, "strides", axes, 1, where)
    dilation = _each(node, "dilations", axes, 1, where)
    begins, ends = _edges(node, before[2:], kernel, stride, dilation, where)
    if min(*begins, *ends) < 0:
        raise InputError(
            f"{node}: pads {[*begins, *ends]}: cuts off what is outside; no layer does it", where
        )
    reach = [(taps - 1) * step + 1 for taps, step in zip(kernel, dilation, strict=True)]
    room = [sum(each) for each in zip(before[2:], begins, ends, strict=True)]
    if any(long > wide for long, wide in zip(reach, room, strict=True)):
        message = f"a window of {reach} is larger than its input of {room}, zeros at the edges included"
        raise InputError(f"{node}: {message}", where)
    pairs = [_pair(values, fill) for values, fill in ((kernel, 1), (stride, 1), (dilation, 1))]
    return Sliding(pairs[0], pairs[1], pairs[2], (*_pair(begins, 0), *_pair(ends, 0)))


def _each(node: Node, name: str, count: int, default: int, where: str) -> list[int]:
    """The ``count`` numbers of an attribute; steps are at least 1."""
    values = [int(value) for value in node.attributes.get(name) or [default] * count]
    if len(values) != count or (min(values) < default and default == 1):
        wanted = f"must be {count} numbers" + (" of at least 1" if default else "")
        raise InputError(f"{node}: {name}: {wanted}, got {values}", where)
    return values


def _pair(values: Sequence[int], fill: int) -> Pair:
    """(down, across); what slides along one axis only does so down an image of one column."""
    return (values[0], values[1]) if len(values) == 2 else (values[0], fill)


def _edges(
    node: Node,
    extents: Sequence[int],
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    where: str,
) -> tuple[list[int], list[int]]:
    """(zeros before, zeros after) along each axis."""
    automatic: Any = node.attributes.get("auto_pad", b"NOTSET")
    automatic = automatic.decode("ascii", "replace") if isinstance(automatic, bytes) else automatic
    axes = len(extents)
    if automatic == "VALID":
        return [0] * axes, [0] * axes
    if automatic in ("SAME_UPPER", "SAME_LOWER"):
        missing = [
            max(
                (-(-extents[i] // stride[i]) - 1) * stride[i]
                + (kernel[i] - 1) * dilation[i]
                + 1
                - extents[i],
                0,
            )
            for i in range(axes)
        ]
        less, more = [each // 2 for each in missing], [each - each // 2 for each in missing]
        return (less, more) if automatic == "SAME_UPPER" else (more, less)
    pads = _each(node, "pads", 2 * axes, 0, where)
    return pads[:axes], pads[axes:]
