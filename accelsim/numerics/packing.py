"""Operands in the order in which tiles read them.

Matrices, or stacks of them, arrive as they lie in memory: a buffer without gaps, and the steps in it from one
matrix, row and column to the next.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange
from numba.extending import register_jitable
from numpy.typing import NDArray

from accelsim.numerics.compiled import kernel


def flat_buffer(array: NDArray[Any]) -> NDArray[Any]:
    """The buffer of matrices (..., rows, columns) or of transposed ones, not copied where it has no gaps."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    return np.ascontiguousarray(array.swapaxes(-1, -2) if _is_transposed(array) else array).reshape(-1)


def steps_of(array: NDArray[Any]) -> tuple[int, int, int]:
    """Steps in elements, of a matrix, a row and a column, in the buffer that `flat_buffer` gives."""
    rows, cols = array.shape[-2:]
    return (rows * cols, 1, rows) if _is_transposed(array) else (rows * cols, cols, 1)


def stack_of(array: NDArray[Any]) -> int:
    """How many matrices there are."""
    return math.prod(array.shape[:-2])


def in_buffer_order(buffer: NDArray[Any], array: NDArray[Any]) -> NDArray[Any]:
    """A buffer like that of `flat_buffer` in the shape of ``array``."""
    if not _is_transposed(array):
        return buffer.reshape(array.shape)
    *stack, rows, cols = array.shape
    return buffer.reshape(*stack, cols, rows).swapaxes(-1, -2)


def _is_transposed(array: NDArray[Any]) -> bool:
    return not array.flags.c_contiguous and array.swapaxes(-1, -2).flags.c_contiguous


@register_jitable
def _side_by_side(source: Any, at: int, step: int, width: int, side: int, target: Any) -> None:
    """target[j * side + i] = source[at + i * step + j]: ``side`` lines, their neighbours together.

    The loops are written out so that the compiler knows every distance.
    """
    if side == 1:
        line = source[at : at + width]
        for j in range(width):
            target[j] = line[j]
    elif side == 2:
        first, second = source[at : at + width], source[at + step : at + step + width]
        for j in range(width):
            target[2 * j] = first[j]
            target[2 * j + 1] = second[j]
    else:
        first, second = source[at : at + width], source[at + step : at + step + width]
        third = source[at + 2 * step : at + 2 * step + width]
        fourth = source[at + 3 * step : at + 3 * step + width]
        for j in range(width):
            target[4 * j] = first[j]
            target[4 * j + 1] = second[j]
            target[4 * j + 2] = third[j]
            target[4 * j + 3] = fourth[j]


@register_jitable
def _spread(line: Any, steps: int, apart: int, side: int, target: Any) -> None:
    """target[s * apart + i] = line[s * side + i]: ``side`` neighbours stay together."""
    if side == 1:
        for s in range(steps):
            target[s * apart] = line[s]
    elif side == 2:
        for s in range(steps):
            target[s * apart] = line[2 * s]
            target[s * apart + 1] = line[2 * s + 1]
    else:
        for s in range(steps):
            target[s * apart] = line[4 * s]
            target[s * apart + 1] = line[4 * s + 1]
            target[s * apart + 2] = line[4 * s + 2]
            target[s * apart + 3] = line[4 * s + 3]


def pack_panels(
    b: NDArray[Any], stack: int, stack_step: int, row_step: int, col_step: int, k: int, n: int, cols: int,
    lanes: int, side: int,
) -> NDArray[Any]:  # fmt: skip
    """b as (stack * panels, k / side, cols, side): ``cols`` columns each, ``side`` neighbours of k together.

    k is padded to whole groups; padding is zero. ``side`` is 1, 2 or 4.
    """
    padded, count = -(-k // lanes) * lanes, -(-n // cols)
    # made here, because a compiled loop over four axes takes longer to write the zeros than all the rest
    made = np.empty if (padded, count * cols) == (k, n) else np.zeros
    panels = made((stack * count, padded // side, cols, side), b.dtype)
    lines = panels.reshape(stack * count, -1)
    _pack_panels(b, stack_step, row_step, col_step, k, n, cols, side, count, lines)
    return panels


@kernel(parallel=True)
def _pack_panels(
    b: Any, stack_step: int, row_step: int, col_step: int, k: int, n: int, cols: int, side: int, count: int,
    panels: Any,
) -> None:  # fmt: skip
    whole = k // side
    for p in prange(panels.shape[0]):
        first = p % count * cols
        width = min(cols, n - first)
        corner = p // count * stack_step + first * col_step
        panel = panels[p]
        if col_step == 1:
            for step in range(whole):
                place = panel[step * cols * side : (step + 1) * cols * side]
                _side_by_side(b, corner + step * side * row_step, row_step, width, side, place)
        else:  # a transposed operand: neighbours in memory are rows
            for j in range(width):
                at = corner + j * col_step
                _spread(b[at : at + k], whole, cols * side, side, panel[j * side :])
        for i in range(whole * side, k):
            for j in range(width):
                panel[(i // side * cols + j) * side + i % side] = b[corner + i * row_step + j * col_step]


@register_jitable
def pack_rows(
    a: Any, corner: int, row_step: int, col_step: int, first_row: int, rows: int, first_k: int, last_k: int,
    packed: Any, height: int, side: int,
) -> None:  # fmt: skip
    """``rows`` rows of a from ``first_k`` to ``last_k`` as (k / side, height, side), zeros where ragged."""
    whole = (last_k - first_k) // side
    if row_step == 1 and side == 1 and rows == 4 and height == 4:  # written out, so that they move together
        for i in range(last_k - first_k):
            at = corner + (first_k + i) * col_step + first_row
            packed[4 * i] = a[at]
            packed[4 * i + 1] = a[at + 1]
            packed[4 * i + 2] = a[at + 2]
            packed[4 * i + 3] = a[at + 3]
        packed[4 * (last_k - first_k) :] = 0
        return
    if rows < height or whole * height * side < packed.size:
        packed[:] = 0
    if row_step == 1:  # a transposed operand: neighbours in memory are rows
        for step in range(whole):
            at = corner + (first_k + step * side) * col_step + first_row
            _side_by_side(a, at, col_step, rows, side, packed[step * height * side :])
        for i in range(whole * side, last_k - first_k):
            at = corner + (first_k + i) * col_step + first_row
            for r in range(rows):
                packed[(i // side * height + r) * side + i % side] = a[at + r]
        return
    for r in range(rows):
        at = corner + (first_row + r) * row_step + first_k * col_step
        line = a[at : at + (last_k - first_k)]
        target = packed[r * side :]
        _spread(line, whole, height * side, side, target)
        for i in range(last_k - first_k - whole * side):
            target[whole * height * side + i] = line[whole * side + i]


def pack_values(
    buffer: NDArray[Any], stack: int, stack_step: int, line_step: int, k_step: int, lines: int, k: int,
    width: int, padded: int,
) -> NDArray[np.float64]:  # fmt: skip
    """Lines (rows of a, columns of b) as float64 (stack * lines / width, padded, width), with zeros."""
    tiles = np.zeros((stack * -(-lines // width), padded, width))
    _pack_values(buffer, stack, stack_step, line_step, k_step, lines, k, width, tiles)
    return tiles


@kernel(parallel=True)
def _pack_values(
    buffer: Any, stack: int, stack_step: int, line_step: int, k_step: int, lines: int, k: int, width: int,
    tiles: Any,
) -> None:  # fmt: skip
    count = len(tiles) // stack
    for t in prange(tiles.shape[0]):
        first = t % count * width
        corner = t // count * stack_step + first * line_step
        for i in range(k):
            for j in range(min(width, lines - first)):
                tiles[t, i, j] = buffer[corner + i * k_step + j * line_step]


def pack_decoded(
    buffer: NDArray[Any], table: NDArray[np.float64], stack: int, stack_step: int, line_step: int,
    k_step: int, lines: int, k: int, width: int, padded: int,
) -> NDArray[np.float64]:  # fmt: skip
    """`pack_values` of the values of codes; ``table``: float64 by code."""
    tiles = np.zeros((stack * -(-lines // width), padded, width))
    _pack_decoded(buffer, table, stack, stack_step, line_step, k_step, lines, k, width, tiles)
    return tiles


@kernel(parallel=True)
def _pack_decoded(
    buffer: Any, table: Any, stack: int, stack_step: int, line_step: int, k_step: int, lines: int, k: int,
    width: int, tiles: Any,
) -> None:  # fmt: skip
    count = len(tiles) // stack
    for t in prange(tiles.shape[0]):
        first = t % count * width
        corner = t // count * stack_step + first * line_step
        for i in range(k):
            for j in range(min(width, lines - first)):
                tiles[t, i, j] = table[buffer[corner + i * k_step + j * line_step]]
