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


@kernel(parallel=True)
def pack_panels(
    b: Any, stack: int, stack_step: int, row_step: int, col_step: int, k: int, n: int, cols: int, lanes: int,
    side: int,
) -> Any:  # fmt: skip
    """b as (stack * panels, k / side, cols, side): ``cols`` columns each, ``side`` neighbours of k together.

    k is padded to whole groups; padding is zero.
    """
    padded = -(-k // lanes) * lanes
    count = -(-n // cols)
    panels = np.zeros((stack * count, padded // side, cols, side), b.dtype)
    for p in prange(panels.shape[0]):
        first = p % count * cols
        width = min(cols, n - first)
        corner = p // count * stack_step + first * col_step
        for step in range(-(-k // side)):
            for i in range(min(side, k - step * side)):
                at = corner + (step * side + i) * row_step
                if col_step == 1:  # written out so that the compiler sees neighbours in memory
                    line = b[at : at + width]
                    for j in range(width):
                        panels[p, step, j, i] = line[j]
                else:
                    for j in range(width):
                        panels[p, step, j, i] = b[at + j * col_step]
    return panels


@register_jitable
def pack_rows(
    a: Any, corner: int, row_step: int, col_step: int, first_row: int, rows: int, first_k: int, last_k: int,
    packed: Any, height: int, side: int,
) -> None:  # fmt: skip
    """``rows`` rows of a from ``first_k`` to ``last_k`` as (k / side, height, side), zeros where ragged."""
    whole = (last_k - first_k) // side
    if rows < height or whole * height * side < packed.size:
        packed[:] = 0
    if row_step == 1:  # a transposed operand: neighbours in memory are rows
        for i in range(last_k - first_k):
            at = corner + (first_k + i) * col_step + first_row
            line = a[at : at + rows]
            target = packed[(i // side) * height * side + i % side :]
            for r in range(rows):
                target[r * side] = line[r]
        return
    for r in range(rows):
        at = corner + (first_row + r) * row_step + first_k * col_step
        line = a[at : at + (last_k - first_k)]
        target = packed[r * side :]
        for step in range(whole):
            for i in range(side):
                target[step * height * side + i] = line[step * side + i]
        for i in range(last_k - first_k - whole * side):
            target[whole * height * side + i] = line[whole * side + i]


@kernel(parallel=True)
def start_sums(panels: Any, lanes: int, offset: int) -> Any:
    """-offset times the sum of each group of b: what an offset on all of a adds too much.

    panels (panels, k / i, cols, i) -> int32 (panels, groups, cols).
    """
    count, steps, cols, side = panels.shape
    per_group = lanes // side
    start = np.zeros((count, steps // per_group, cols), np.int32)
    for p in prange(count):
        for step in range(steps):
            for j in range(cols):
                for i in range(side):
                    start[p, step // per_group, j] -= offset * panels[p, step, j, i]
    return start


@kernel(parallel=True)
def pack_values(
    buffer: Any, stack: int, stack_step: int, line_step: int, k_step: int, lines: int, k: int, width: int,
    padded: int,
) -> Any:  # fmt: skip
    """Lines (rows of a, columns of b) as float64 (stack * lines / width, padded, width), with zeros."""
    count = -(-lines // width)
    tiles = np.zeros((stack * count, padded, width))
    for t in prange(tiles.shape[0]):
        first = t % count * width
        corner = t // count * stack_step + first * line_step
        for i in range(k):
            for j in range(min(width, lines - first)):
                tiles[t, i, j] = buffer[corner + i * k_step + j * line_step]
    return tiles


@kernel(parallel=True)
def pack_decoded(
    buffer: Any, table: Any, stack: int, stack_step: int, line_step: int, k_step: int, lines: int, k: int,
    width: int, padded: int,
) -> Any:  # fmt: skip
    """`pack_values` of the values of codes; ``table``: float64 by code."""
    count = -(-lines // width)
    tiles = np.zeros((stack * count, padded, width))
    for t in prange(tiles.shape[0]):
        first = t % count * width
        corner = t // count * stack_step + first * line_step
        for i in range(k):
            for j in range(min(width, lines - first)):
                tiles[t, i, j] = table[buffer[corner + i * k_step + j * line_step]]
    return tiles
