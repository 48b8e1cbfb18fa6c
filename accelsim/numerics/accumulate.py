"""One accumulation rule, and the fastest kernel that provably computes it.

The rule (order of additions): products of a group of ``lanes`` are added exactly; the group sum is
added to the partial sum with one rounding; after ``chunk`` products the partial sum is added to the
outer accumulator with one rounding; k ascends; every zero result is +0. Chunk-based accumulation:
Wang et al., NeurIPS 2018, section 2.3.

Kernels, tried in this order; each name is what a record reports:

- ``simd_exact``: single precision carries every add of the inner accumulation exactly, because
  all products are multiples of one unit and stay below 2**24 of it.
- ``simd_sticky``: single precision with the dropped part tracked.
- ``general``: exact expansions; any format, infinities and NaNs, overflow.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import llvmlite.binding
import numpy as np
from numba import get_num_threads, prange
from numba.extending import overload, register_jitable
from numpy.typing import NDArray

from accelsim.numerics.compiled import kernel
from accelsim.numerics.exact_sum import accumulate_general, rounding_fields
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.tile_kernel import ROUNDINGS, TileConfig, accumulate_tile

_EXACT_INTEGERS = 2**24  # single precision holds every integer up to here
_K_BLOCK = 1024  # products between two visits of a tile; a matter of cache, not of bits
_BLOCK_TILES = 16


@dataclass(frozen=True)
class Accumulation:
    """What fixes the bits of a sum of products.

    ``overflow``: ``format`` does what the accumulator's format does above its range (infinity or
    NaN), ``saturate`` stays at the largest value.
    """

    lanes: int
    chunk: int
    accumulator: str
    overflow: str = "format"


@dataclass(frozen=True)
class Matrix:
    """One GEMM operand: codes with their value table, or values themselves.

    ``array``: 2-D, uint8 codes or float32 values (rows, columns), any strides.
    ``format``: the number format of codes or values.
    """

    array: NDArray[Any]
    format: NumberFormat

    @property
    def table(self) -> NDArray[np.float32]:
        """float32 values of all codes (of one element where the array holds values)."""
        if self.array.dtype == np.float32:
            return np.zeros(1, np.float32)
        return _value_table(self.format)

    def values(self) -> NDArray[np.float32]:
        """The operand's values, float32, the same shape."""
        if self.array.dtype == np.float32:
            return self.array
        return _value_table(self.format)[self.array]

    def largest(self) -> float:
        """The largest magnitude held (inf or NaN if there is one)."""
        if self.array.size == 0:
            return 0.0
        if self.array.dtype == np.float32:
            return float(max(self.array.max(), -self.array.min()))
        return float(np.abs(_value_table(self.format)).max())

    def transposed(self) -> Matrix:
        """The same operand with rows and columns exchanged (a view)."""
        return Matrix(self.array.T, self.format)


@cache
def _value_table(fmt: NumberFormat) -> NDArray[np.float32]:
    return fmt.decode(np.arange(1 << fmt.bits)).astype(np.float32)


def multiply(rule: Accumulation, a: Matrix, b: Matrix) -> tuple[NDArray[np.float32], str]:
    """The product of a (m, k) and b (k, n), accumulated by ``rule``, and the kernel's name.

    Returns float32 (m, n): every value is a value of the accumulator's format.
    """
    (m, k), n = a.array.shape, b.array.shape[1]
    out = np.zeros((m, n), np.float32)
    if min(m, k, n) == 0:
        return out, "empty"
    choice = choose_kernel(rule, a, b)
    if choice is None:
        _multiply_general(rule, a, b, out)
        return out, "general"
    _multiply_tiled(rule, choice, a, b, out)
    return out, "simd_sticky" if choice.sticky_inner else "simd_exact"


def choose_kernel(rule: Accumulation, a: Matrix, b: Matrix) -> TileConfig | None:
    """The tile configuration that is provably exact for these operands, or None.

    A rounded sum never exceeds twice the sum of magnitudes, because the sum before the last product
    is itself a candidate of the rounding; so four times the sum of magnitudes bounds the outer sum.
    """
    if rule.accumulator not in ROUNDINGS:
        return None
    accumulator = number_format(rule.accumulator)
    k = a.array.shape[1]
    unit = a.format.unit * b.format.unit
    largest_product = a.largest() * b.largest()
    if not 4.0 * k * largest_product < accumulator.max_value or unit < 2.0**-120:
        return None
    if rule.lanes == 1:
        group_exact = a.format.significand_bits + b.format.significand_bits <= 24
    else:
        group_exact = rule.lanes * a.format.max_value * b.format.max_value <= _EXACT_INTEGERS * unit
    if not group_exact:
        return None
    inner_exact = 2.0 * min(rule.chunk, k) * largest_product <= _EXACT_INTEGERS * unit
    smallest_normal = 2.0 ** (1 - accumulator.bias)
    rows, vectors, width = _tile_shape(b.array.shape[1])
    return TileConfig(
        rounding=rule.accumulator,
        lanes=rule.lanes,
        sticky_inner=not inner_exact,
        underflow=unit < smallest_normal,
        rows=rows,
        vectors=vectors,
        width=width,
    )


@cache
def _vector_width() -> int:
    features = llvmlite.binding.get_host_cpu_features()
    return 16 if features.get("avx512f") else 8


def _tile_shape(n: int) -> tuple[int, int, int]:
    """(rows, vectors, width) of the register tile: narrow results get a tall tile."""
    width = _vector_width()
    return (8, 1, width) if n <= width else (4, 2, width)


def _multiply_general(rule: Accumulation, a: Matrix, b: Matrix, out: NDArray[np.float32]) -> None:
    fields, limits = rounding_fields(number_format(rule.accumulator), saturate=rule.overflow == "saturate")
    left = np.ascontiguousarray(a.values(), dtype=np.float64)
    right = np.ascontiguousarray(b.values().T, dtype=np.float64)
    accumulate_general(left, right, rule.lanes, rule.chunk, fields, limits, out)


def _multiply_tiled(
    rule: Accumulation, tile: TileConfig, a: Matrix, b: Matrix, out: NDArray[np.float32]
) -> None:
    m, k = a.array.shape
    chunk = -(-min(rule.chunk, k) // rule.lanes) * rule.lanes
    block = chunk * max(1, _K_BLOCK // chunk)
    tiles_per_block = max(1, min(_BLOCK_TILES, -(-m // (tile.rows * 4 * get_num_threads()))))
    panels = _pack_panels(_flat(b.array), b.table, *_steps(b.array), k, out.shape[1], tile.cols, rule.lanes)
    _tiled_kernel(tile.pack())(
        _flat(a.array), a.table, *_steps(a.array), panels, k, chunk, block, tiles_per_block, out
    )


def _flat(array: NDArray[Any]) -> NDArray[Any]:
    """The buffer of a 2-D array or of a transposed one, without a copy where it has no gaps."""
    if array.flags.c_contiguous:
        return array.reshape(-1)
    if array.flags.f_contiguous:
        return array.T.reshape(-1)
    return np.ascontiguousarray(array).reshape(-1)


def _steps(array: NDArray[Any]) -> tuple[int, int]:
    """Steps in elements, of a row and of a column, in the buffer that `_flat` gives."""
    rows, cols = array.shape
    return (1, rows) if array.flags.f_contiguous and not array.flags.c_contiguous else (cols, 1)


def _carrier(table: Any, element: Any) -> Any:
    raise TypeError("compiled only")  # pragma: no cover


@overload(_carrier)
def _carrier_of_type(table, element):  # type: ignore[no-untyped-def]
    """A code is looked up, a value is itself: decided when the kernel is compiled."""
    if element.name.startswith("uint"):
        return lambda table, element: table[element]
    return lambda table, element: element


@kernel(parallel=True)
def _pack_panels(
    b: Any, table: Any, row_step: int, col_step: int, k: int, n: int, cols: int, lanes: int
) -> Any:
    """b as panels of ``cols`` columns, (panels, k padded to whole groups, cols), zeros where ragged."""
    k_padded = -(-k // lanes) * lanes
    panels = np.zeros((-(-n // cols), k_padded, cols), np.float32)
    for p in prange(panels.shape[0]):
        width = min(cols, n - p * cols)
        for i in range(k):
            for j in range(width):
                panels[p, i, j] = _carrier(table, b[i * row_step + (p * cols + j) * col_step])
    return panels


@register_jitable
def _pack_rows(a, table, row_step, col_step, first_row, rows, first_k, last_k, packed, height):  # type: ignore[no-untyped-def]
    """``rows`` rows of a between ``first_k`` and ``last_k`` as (k, height), zeros where ragged."""
    packed[:] = 0
    start = first_row * row_step
    for i in range(first_k, last_k):
        place = (i - first_k) * height
        for r in range(rows):
            packed[place + r] = _carrier(table, a[start + r * row_step + i * col_step])


@cache
def _tiled_kernel(config: int) -> Any:
    """The compiled loop nest around one tile configuration."""
    tile = TileConfig.unpack(config)
    height, cols, lanes = tile.rows, tile.cols, tile.lanes
    size = height * cols

    @kernel(parallel=True)
    def multiply_tiles(a, table, row_step, col_step, panels, k, chunk, block, tiles_per_block, out):  # type: ignore[no-untyped-def]
        m, n = out.shape
        block_rows = tiles_per_block * height
        for part in prange(-(-m // block_rows)):
            top = part * block_rows
            tiles = -(-min(block_rows, m - top) // height)
            sums = np.zeros(tiles * panels.shape[0] * size, np.float32)
            packed = np.empty(-(-min(block, k) // lanes) * lanes * height, np.float32)
            flat = panels.reshape(-1)
            for first in range(0, k, block):
                last = min(first + block, k)
                groups = -(-(last - first) // lanes)
                for t in range(tiles):
                    row = top + t * height
                    _pack_rows(
                        a, table, row_step, col_step, row, min(height, m - row), first, last, packed, height
                    )
                    for p in range(panels.shape[0]):
                        at = (p * panels.shape[1] + first) * cols
                        place = (t * panels.shape[0] + p) * size
                        accumulate_tile(config, packed, 0, flat, at, sums, place, groups, chunk // lanes)
            for t in range(tiles):
                for p in range(panels.shape[0]):
                    place = (t * panels.shape[0] + p) * size
                    for r in range(min(height, m - top - t * height)):
                        for j in range(min(cols, n - p * cols)):
                            # adding +0 makes a negative zero positive
                            out[top + t * height + r, p * cols + j] = sums[place + r * cols + j] + np.float32(
                                0
                            )

    return multiply_tiles
