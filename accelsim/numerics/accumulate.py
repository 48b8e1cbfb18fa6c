"""One accumulation rule, and the fastest kernel that provably computes it.

The rule, and with it the order of additions, is an `accumulation.Accumulation`.

Kernels, tried in this order; each name is what a record reports:

- ``i8``, ``i16``: group sums by integer dot products of bytes or 16-bit words;
- ``f32``: group sums in single precision;
- ``general``: exact expansions; any rule, any format, infinities and NaNs, overflow.

The first three end in ``_exact`` where single precision carries every add of the inner accumulation
exactly (all products are multiples of one unit and stay below 2**24 of it), else in ``_sticky``: the
dropped part is tracked.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numba import get_num_threads, prange
from numba.extending import register_jitable
from numpy.typing import NDArray

from accelsim.numerics.accumulation import Accumulation, plain_rule
from accelsim.numerics.accumulator import EXACT
from accelsim.numerics.compiled import kernel
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.general_kernel import accumulate_general
from accelsim.numerics.tile_kernel import (
    INTERLEAVE,
    ROUNDINGS,
    TileConfig,
    accumulate_tile,
    instruction_set,
    vector_width,
)

__all__ = ["Accumulation", "Matrix", "choose_kernel", "multiply"]

_EXACT_INTEGERS = 2**24  # single precision holds every integer up to here
_K_BLOCK = 1024  # products between two visits of a tile; a matter of cache, not of bits
_BLOCK_TILES = 16
_NARROW = 8


@dataclass(frozen=True)
class Matrix:
    """One GEMM operand: codes with their value table, or values themselves.

    ``array``: 2-D, uint8 codes or float32 values (rows, columns), any strides.
    ``format``: the number format of codes or values.
    """

    array: NDArray[Any]
    format: NumberFormat

    def values(self) -> NDArray[np.float32]:
        """The operand's values, float32, the same shape."""
        if self.array.dtype == np.float32:
            return self.array
        return np.asarray(_value_table(self.format)[self.array], np.float32)

    def largest(self) -> float:
        """The largest magnitude held (inf or NaN if there is one)."""
        if self.array.size == 0:
            return 0.0
        if self.array.dtype == np.float32:
            return float(max(self.array.max(), -self.array.min()))
        used = np.unique(self.array) if self.format.has_nan else slice(None)
        return float(np.abs(_value_table(self.format)[used]).max())

    def transposed(self) -> Matrix:
        """The same operand with rows and columns exchanged (a view)."""
        return Matrix(self.array.T, self.format)


@cache
def _value_table(fmt: NumberFormat) -> NDArray[np.float32]:
    return fmt.decode(np.arange(1 << fmt.bits)).astype(np.float32)


def multiply(
    rule: Accumulation, a: Matrix, b: Matrix, origin: tuple[int, int] = (0, 0)
) -> tuple[NDArray[Any], str]:
    """The product of a (m, k) and b (k, n), accumulated by ``rule``, and the kernel's name.

    ``origin``: row and column of the product's first element in the whole result that it is a tile of
    (it decides the random bits of stochastic rounding).

    Returns (m, n) of ``rule.dtype``: every value is a value of ``rule.format``.

    Raises `InputError` if a chunk is not whole groups of lanes, or if a sum is a NaN (or an infinity that
    would wrap) and the format has none.
    """
    (m, k), n = a.array.shape, b.array.shape[1]
    out = np.zeros((m, n), np.float32)
    if min(m, k, n) == 0:
        return out.astype(rule.dtype), "empty"
    # A narrow result wastes the columns of a tile; its transpose has the same bits and fills the tile.
    turned = n < min(m, _NARROW)
    left, right = (b.transposed(), a.transposed()) if turned else (a, b)
    choice = choose_kernel(rule, left, right)
    if choice is not None:
        result = np.empty((n, m), np.float32) if turned else out
        if _multiply_tiled(rule, choice, left, right, result):
            out[...] = result.T if turned else result
            return _read_out(rule, out), f"{choice.carrier}_{'sticky' if choice.sticky_inner else 'exact'}"
    left_values = np.ascontiguousarray(a.values(), dtype=np.float64)
    right_values = np.ascontiguousarray(b.values().T, dtype=np.float64)
    return accumulate_general(rule, left_values, right_values, (a.format, b.format), origin), "general"


def _read_out(rule: Accumulation, sums: NDArray[np.float32]) -> NDArray[Any]:
    """Sums of a tile as ``rule.format`` has them: those of an exact accumulator are still to be rounded."""
    if rule.accumulator != EXACT:
        return sums.astype(rule.dtype, copy=False)
    rounded = number_format(rule.readout).round(sums, rule.rounding_used, rule.overflow_used)
    return (rounded + 0.0).astype(rule.dtype)  # there is one zero


def choose_kernel(rule: Accumulation, a: Matrix, b: Matrix) -> TileConfig | None:
    """The tile configuration that is provably exact for these operands, or None.

    A rounded sum never exceeds twice the sum of magnitudes, because the sum before the last product
    is itself a candidate of the rounding; so four times the sum of magnitudes bounds the outer sum.
    Where that bound does not exclude overflow, the tile watches its sums, and an overflow seen
    sends the product to the general kernel.
    """
    k = a.array.shape[1]
    unit = a.format.unit * b.format.unit
    largest_product = a.largest() * b.largest()
    plain = plain_rule(rule, k, largest_product, unit)
    if plain is None or plain.accumulator not in ROUNDINGS:
        return None
    accumulator = number_format(plain.accumulator)
    bound = 4.0 * k * largest_product
    if not bound < 2.0**120 or unit < 2.0**-120:
        return None
    if rule.lanes == 1:
        group_exact = a.format.significand_bits + b.format.significand_bits <= 24
    else:
        group_exact = rule.lanes * _largest_integer(a.format) * _largest_integer(b.format) <= _EXACT_INTEGERS
    if not group_exact:
        return None
    inner_exact = 2.0 * min(rule.chunk, k) * largest_product <= _EXACT_INTEGERS * unit
    smallest_normal = 2.0 ** (1 - accumulator.bias)
    rows, vectors, width = _tile_shape(a.array.shape[0], b.array.shape[1])
    underflow = unit < smallest_normal
    carrier = "f32" if underflow else _carrier_of(rule.lanes, a, b)
    return TileConfig(
        rounding=plain.accumulator,
        lanes=rule.lanes,
        sticky_inner=not inner_exact,
        underflow=underflow,
        rows=rows,
        vectors=vectors,
        width=width,
        carrier=carrier,
        corrected=carrier == "i8" and a.format.signed,
        watched=bound >= accumulator.max_value,
    )


def _carrier_of(lanes: int, a: Matrix, b: Matrix) -> str:
    """The narrowest integers that hold both operands in units of their formats, or f32.

    Bytes: ``a`` is made unsigned by an offset; two products must fit in 16 signed bits, and so must
    the sum of a group's (half of it, as two sums run side by side).
    """
    coded = a.array.dtype == np.uint8 and b.array.dtype == np.uint8
    if not coded or instruction_set() == "portable":
        return "f32"
    a_top, b_top = _largest_integer(a.format), _largest_integer(b.format)
    offset = a_top if a.format.signed else 0
    a_is_byte = int(a.format.max_value / a.format.unit) + offset <= 255
    if lanes % 4 == 0 and a_is_byte and b_top <= 127 and lanes * (2 * a_top + 1) * b_top < 2**15:
        return "i8"
    return "i16" if lanes % 2 == 0 and max(a_top, b_top) < 2**15 else "f32"


def _largest_integer(fmt: NumberFormat) -> int:
    """The largest magnitude of a format in its unit (-8 of int4 is 8)."""
    magnitudes = np.abs(_value_table(fmt))
    return int(magnitudes[np.isfinite(magnitudes)].max() / fmt.unit)


def _tile_shape(m: int, n: int) -> tuple[int, int, int]:
    """(rows, vectors, width) of the register tile, eight vectors in all: flat, tall or in between."""
    width = vector_width()
    if n <= width:
        return 8, 1, width
    return (1, 8, width) if m == 1 else (2, 4, width) if m == 2 else (4, 2, width)


def _multiply_tiled(
    rule: Accumulation, tile: TileConfig, a: Matrix, b: Matrix, out: NDArray[np.float32]
) -> bool:
    """Multiply into ``out``; false if the accumulator would have overflowed (``out`` is then void)."""
    m, k = a.array.shape
    chunk = -(-min(rule.chunk, k) // rule.lanes) * rule.lanes
    block = chunk * max(1, _K_BLOCK // chunk)
    tiles_per_block = max(1, min(_BLOCK_TILES, -(-m // (tile.rows * 4 * get_num_threads()))))
    offset = _largest_integer(a.format) if tile.corrected else 0
    side = INTERLEAVE[tile.carrier]
    left, right = _carried(a, tile.carrier, offset), _carried(b, tile.carrier, 0)
    panels = _pack_panels(_flat(right), *_steps(right), k, out.shape[1], tile.cols, rule.lanes, side)
    start = _start_sums(panels, rule.lanes, offset) if offset else np.zeros((1, 1, 1), np.int32)
    unit = 1.0 if tile.carrier == "f32" else a.format.unit * b.format.unit
    peaks = np.zeros((-(-m // (tiles_per_block * tile.rows)), tile.width), np.float32)
    _tiled_kernel(tile.pack())(
        _flat(left), *_steps(left), panels, start, k, chunk, block, tiles_per_block,
        np.float32(unit), peaks, out,
    )  # fmt: skip
    return float(peaks.max()) * unit <= number_format(tile.rounding).max_value


def _carried(operand: Matrix, carrier: str, offset: int) -> NDArray[Any]:
    """The operand as what a tile multiplies, in the layout it has: float32, or integers in its unit.

    ``offset`` is added to bytes, which are then unsigned.
    """
    array = operand.array
    if array.dtype == np.float32:
        return array
    table = _value_table(operand.format)
    if carrier != "f32":
        integers = table / operand.format.unit + offset
        table = integers.astype(np.int16 if carrier == "i16" else np.uint8 if offset else np.int8)
    flat = _flat(array)
    found = np.empty(flat.size, table.dtype)
    _look_up(flat, table, found)
    rows, cols = array.shape
    return found.reshape(rows, cols) if _steps(array)[1] == 1 else found.reshape(cols, rows).T


@kernel(parallel=True)
def _look_up(codes: Any, table: Any, out: Any) -> None:
    """out[i] = table[codes[i]]."""
    for i in prange(codes.size):
        out[i] = table[codes[i]]


@kernel(parallel=True)
def _start_sums(panels: Any, lanes: int, offset: int) -> Any:
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


@kernel(parallel=True)
def _pack_panels(
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
def _pack_rows(
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


@cache
def _tiled_kernel(config: int) -> Any:
    """The compiled loop nest around one tile configuration."""
    tile = TileConfig.unpack(config)
    height, cols, lanes, side = tile.rows, tile.cols, tile.lanes, INTERLEAVE[tile.carrier]
    size = height * cols

    @kernel(parallel=True)
    def multiply_tiles(
        a: Any, row_step: int, col_step: int, panels: Any, start: Any, k: int, chunk: int,
        block: int, tiles_per_block: int, unit: Any, peaks: Any, out: Any,
    ) -> None:  # fmt: skip
        m, n = out.shape
        count = panels.shape[0]
        block_rows = tiles_per_block * height
        flat = panels.reshape(-1)
        starts = start.reshape(-1)
        peak = peaks.reshape(-1)
        width = peaks.shape[1]
        for part in prange(-(-m // block_rows)):
            top = part * block_rows
            tiles = -(-min(block_rows, m - top) // height)
            sums = np.zeros(tiles * count * size, np.float32)
            packed = np.empty(-(-min(block, k) // lanes) * lanes * height, a.dtype)
            for first in range(0, k, block):
                last = min(first + block, k)
                groups = -(-(last - first) // lanes)
                for t in range(tiles):
                    row = top + t * height
                    rows = min(height, m - row)
                    _pack_rows(a, row_step, col_step, row, rows, first, last, packed, height, side)
                    for p in range(count):
                        at = (p * panels.shape[1] + first // side) * cols * side
                        start_at = (p * start.shape[1] + first // lanes) * cols if start.size > 1 else 0
                        place = (t * count + p) * size
                        accumulate_tile(
                            config, packed, 0, flat, at, sums, place, starts, start_at,
                            peak, part * width, groups, chunk // lanes,
                        )  # fmt: skip
            for t in range(tiles):
                for p in range(count):
                    place = (t * count + p) * size
                    for r in range(min(height, m - top - t * height)):
                        for j in range(min(cols, n - p * cols)):
                            # adding +0 makes a negative zero positive
                            value = sums[place + r * cols + j] * unit + np.float32(0)
                            out[top + t * height + r, p * cols + j] = value

    return multiply_tiles
