"""Loop nests of mapping tools (ZigZag's workload YAML, Timeloop's problem YAML) -> problems.

Both say an operation as loops with sizes and three tensors with the loops that index them. That alone tells
the matrix product: loops of all three tensors are groups (or the batch), of input and output positions, of
weight and output outputs, of both operands but not the output products. Formats: Mei et al., IEEE Trans.
Computers 2021 (ZigZag); Parashar et al., ISPASS 2019 (Timeloop).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelsim.errors import InputError
from accelsim.importing.problem import Problem, Window


@dataclass(frozen=True)
class Slide:
    """An input axis made of an output loop and a tap loop: ``stride`` x output + ``dilation`` x tap."""

    output: str
    tap: str
    stride: int
    dilation: int


@dataclass(frozen=True)
class Nest:
    """One operation: sizes of its loops, loops of each tensor, its sliding axes, and the batch's loop."""

    name: str
    sizes: Mapping[str, int]
    output: frozenset[str]
    operands: tuple[frozenset[str], frozenset[str]]
    slides: tuple[Slide, ...]
    batch_loop: str


def nest_problem(nest: Nest, where: str) -> Problem:
    """The nest as a matrix product or convolution; the operand with the batch's loop or taps is the input.

    Raises `InputError` when the loops do not make a matrix product.
    """
    data, weight = _operands(nest)
    loops = {loop for loop, size in nest.sizes.items() if size > 1}
    batch = nest.batch_loop if nest.batch_loop in data and nest.batch_loop not in weight else ""
    kinds = {
        "positions": (data & nest.output) - weight - {batch},
        "outputs": (weight & nest.output) - data,
        "products": (data & weight) - nest.output,
        "groups": data & weight & nest.output,
    }
    left = loops - {batch}.union(*kinds.values())
    if left:
        text = f"loop {sorted(left)[0]} indexes one tensor only: this is no matrix product or convolution"
        raise InputError(text, where)
    size = {kind: math.prod(nest.sizes[loop] for loop in found) for kind, found in kinds.items()}
    window, extent = _window(nest, kinds["positions"], kinds["products"])
    return Problem(nest.name, **size, batch=nest.sizes.get(batch, 1), window=window, extent=extent)


def _operands(nest: Nest) -> tuple[frozenset[str], frozenset[str]]:
    """(input, weight): the input has the sliding axes, or else the batch's loop, or else comes first."""
    first, second = nest.operands
    sliding = {slide.output for slide in nest.slides} or {nest.batch_loop}
    return (second, first) if sliding & second and not sliding & first else (first, second)


def _window(
    nest: Nest, positions: frozenset[str], products: frozenset[str]
) -> tuple[Window | None, tuple[int, int]]:
    """The convolution's window and output extent, if the positions are those of at most two sliding axes."""
    slides = [slide for slide in nest.slides if slide.tap in products]
    rest = {loop for loop in positions - {slide.output for slide in slides} if nest.sizes[loop] > 1}
    if not slides or rest or len(slides) > 2:
        return None, (1, 1)
    down, across = (*slides, *[None] * (2 - len(slides)))[:2]
    axes = [_axis(nest, slide) for slide in (down, across)]
    window = Window(*((axes[0][part], axes[1][part]) for part in range(3)))
    return window, (axes[0][3], axes[1][3])


def _axis(nest: Nest, slide: Slide | None) -> tuple[int, int, int, int]:
    """(taps, stride, dilation, output extent) of one axis; an axis that is not there has one position."""
    if slide is None:
        return 1, 1, 1, 1
    taps = nest.sizes[slide.tap]
    return taps, slide.stride, slide.dilation if taps > 1 else 1, nest.sizes[slide.output]


def whole(value: Any, what: str, where: str) -> int:
    """A count of the file. Raises `InputError` unless it is a whole number of at least 1."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise InputError(f"{what}: must be a whole number of at least 1, got {str(value)[:40]!r}", where)
    return value


def sized(names: Sequence[Any], sizes: Mapping[str, Any], where: str) -> dict[str, int]:
    """Sizes of the loops; a loop of the tensors that has none is a mistake, told with what there is."""
    for name in names:
        if name not in sizes:
            given = ", ".join(map(str, sizes)) or "none"
            raise InputError(f"loop {str(name)[:40]!r} has no size; sizes are given for: {given}", where)
    return {str(name): whole(sizes[name], str(name), where) for name in names}
