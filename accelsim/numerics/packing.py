"""Operands in the order in which tiles read them.

Matrices arrive as they lie in memory: a buffer without gaps, and the steps in it of a row and of a column.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numba.extending import register_jitable
from numpy.typing import NDArray

from accelsim.numerics.compiled import kernel


def flat_buffer(array: NDArray[Any]) -> NDArray[Any]:
    """The buffer of a 2-D array or of a transposed one, without a copy where it has no gaps."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    if array.flags.f_contiguous:
        return array.T.reshape(-1)
    return np.ascontiguousarray(array).reshape(-1)


def steps_of(array: NDArray[Any]) -> tuple[int, int]:
    """Steps in elements, of a row and of a column, in the buffer that `flat_buffer` gives."""
    rows, cols = array.shape
    return (1, rows) if array.flags.f_contiguous and not array.flags.c_contiguous else (cols, 1)


@kernel(parallel=True)
def pack_panels(
    b: Any, row_step: int, col_step: int, k: int, n: int, cols: int, lanes: int, side: int
) -> Any:
    """b as (panels, k / side, cols, side): panels of ``cols`` columns, ``side`` neighbours of k together.

    k is padded to whole groups; padding is zero.
    """
    padded = -(-k // lanes) * lanes
    panels = np.zeros((-(-n // cols), padded // side, cols, side), b.dtype)
    for p in prange(panels.shape[0]):
        width = min(cols, n - p * cols)
        for step in range(-(-k // side)):
            for i in range(min(side, k - step * side)):
                at = (step * side + i) * row_step + p * cols * col_step
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
    a: Any, row_step: int, col_step: int, first_row: int, rows: int, first_k: int, last_k: int,
    packed: Any, height: int, side: int,
) -> None:  # fmt: skip
    """``rows`` rows of a from ``first_k`` to ``last_k`` as (k / side, height, side), zeros where ragged."""
    whole = (last_k - first_k) // side
    if rows < height or whole * height * side < packed.size:
        packed[:] = 0
    if row_step == 1:  # a transposed operand: neighbours in memory are rows
        for i in range(last_k - first_k):
            at = (first_k + i) * col_step + first_row
            line = a[at : at + rows]
            target = packed[(i // side) * height * side + i % side :]
            for r in range(rows):
                target[r * side] = line[r]
        return
    for r in range(rows):
        at = (first_row + r) * row_step + first_k * col_step
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
def pack_values(buffer: Any, line_step: int, k_step: int, lines: int, k: int, width: int, padded: int) -> Any:
    """Lines (rows of a, columns of b) as float64 (lines / width, padded, width), with zeros to fill up."""
    tiles = np.zeros((-(-lines // width), padded, width))
    for t in prange(tiles.shape[0]):
        used = min(width, lines - t * width)
        for i in range(k):
            at = t * width * line_step + i * k_step
            for j in range(used):
                tiles[t, i, j] = buffer[at + j * line_step]
    return tiles


@kernel(parallel=True)
def pack_decoded(
    buffer: Any, table: Any, line_step: int, k_step: int, lines: int, k: int, width: int, padded: int
) -> Any:
    """`pack_values` of the values of codes; ``table``: float64 by code."""
    tiles = np.zeros((-(-lines // width), padded, width))
    for t in prange(tiles.shape[0]):
        used = min(width, lines - t * width)
        for i in range(k):
            at = t * width * line_step + i * k_step
            for j in range(used):
                tiles[t, i, j] = table[buffer[at + j * line_step]]
    return tiles
