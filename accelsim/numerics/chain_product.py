"""Products with a rounding at every add, by the chain of fused multiply-adds, where that is right."""

from __future__ import annotations

import math
from functools import cache
from typing import Any, TypeGuard

import numpy as np
from numba import prange
from numpy.typing import NDArray

from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import EXACT, AccumulatorFormat
from accelsim.numerics.chain_intrinsic import chain_tile
from accelsim.numerics.chain_tile import LARGEST_SUM, SMALLEST, ChainConfig, fused, truncates
from accelsim.numerics.compiled import kernel, threads_in_use
from accelsim.numerics.format_record import NumberFormat
from accelsim.numerics.format_rules import binade_power
from accelsim.numerics.instructions import vector_width
from accelsim.numerics.operand import Matrix, WindowMatrix, value_table
from accelsim.numerics.packing import flat_buffer, pack_panels, pack_rows, stack_of, steps_of
from accelsim.numerics.paired_tile import MOST_BITS
from accelsim.numerics.window_tiles import pack_window_tiles

_SINGLE_BITS = 24
_LOWEST = -126  # the exponent of single precision's smallest normal number
_K_BLOCK = 1024  # products between two visits of a tile; a matter of cache, not of bits
_BLOCK_TILES = 16
_ROUNDINGS = ("nearest_up", "nearest_even", "toward_zero")


def choose_chain(rule: Accumulation, a: Matrix, b: Matrix) -> tuple[ChainConfig, float] | None:
    """The chain that gives the rule's bits for these operands and the scale of its sums, or None.

    A sum rounded to nearest never exceeds twice the sum of its products' magnitudes, because the sum before
    the last product is itself a candidate of the rounding; so four times that bounds the outer sum. It
    must exclude overflow: by the largest factors, or else by the longest row and column (Cauchy-Schwarz).
    """
    fmt, k = rule.format, a.shape[-1]
    if (
        rule.lanes != 1
        or rule.alignment_bits is not None
        or rule.accumulator == EXACT
        or not (fused() or truncates())
    ):
        return None
    if not _is_float(fmt) or rule.rounding_used not in _ROUNDINGS or rule.piece(k) < k:
        return None
    first = a.largest()
    largest = first * b.largest()
    bound = 4.0 * k * largest
    if not bound < fmt.max_value:
        bound = 4.0 * _longest(a, b) if bound < np.inf else bound
    unit = a.format.unit * b.format.unit
    inside = unit >= math.ldexp(1.0, binade_power(fmt, 1))
    apart = not fused()
    scale = 1.0 if inside or apart else math.ldexp(1.0, _LOWEST - _lowest(fmt))
    held = first * scale < LARGEST_SUM and a.format.unit * scale >= 2.0**-149
    if not (bound < fmt.max_value and bound * scale < LARGEST_SUM and held):
        return None
    exact = inside and 2.0 * min(rule.chunk, k) * largest <= 2.0**_SINGLE_BITS * unit
    product_bits = a.format.significand_bits + b.format.significand_bits
    method = _method(fmt, product_bits, even=rule.rounding_used == "nearest_even", exact=exact)
    flush = not inside and fmt.lowest_binade == "normal"
    fading = apart and not inside and not flush
    if method is None or (apart and not _adds_apart(method, product_bits, unit, fading=fading)):
        return None
    if (
        method == "tied"
        and not (apart or flush)
        and a.format.significand_bits <= fmt.significand_bits <= MOST_BITS
    ):
        method = "paired"
    shape = _tile_shape(a.shape[-2], b.shape[-1], method, deep=flush)
    return ChainConfig(method, flush, *shape, apart, fading), scale


def _adds_apart(method: str, product_bits: int, unit: float, *, fading: bool) -> bool:
    """Whether products are singles, and sums lie where all are rounded at one place, or are looked at."""
    products_held = product_bits <= _SINGLE_BITS and unit >= 2.0**_LOWEST
    return products_held and (method == "tied" or (method == "truncated" and not fading))


def _is_float(fmt: AccumulatorFormat) -> TypeGuard[NumberFormat]:
    """Whether its numbers are singles but for their range, and a code's parity that of the significand."""
    return (
        isinstance(fmt, NumberFormat)
        and fmt.kind == "float"
        and fmt.radix == 2
        and 0 < fmt.fraction_bits < _SINGLE_BITS
        and fmt.lowest_binade != "zero"
    )


def _lowest(fmt: Any) -> int:
    """The exponent that becomes the lowest of single precision's normal ones."""
    return binade_power(fmt, 0 if fmt.lowest_binade == "normal" else 1)


def _method(fmt: Any, product_bits: int, *, even: bool, exact: bool) -> str | None:
    """The fastest way to round that is right, if there is one."""
    if fmt.significand_bits == _SINGLE_BITS:
        return "single" if even else None
    if even and exact:
        return "exact"
    if not truncates():
        return None
    if not even:
        return "truncated"
    return "tied" if product_bits <= _SINGLE_BITS else None


def _longest(a: Matrix, b: Matrix) -> float:
    """A bound of the sum of any row's and any column's products' magnitudes."""
    squares = [_row_squares(each.values()) for each in (a, b.transposed())]
    return math.sqrt(squares[0] * squares[1]) * 1.0001  # more than all roundings here


def _row_squares(values: NDArray[np.float32]) -> float:
    """The largest sum of squares in a row."""
    sums = np.zeros((stack_of(values), values.shape[-2]))
    _sum_squares(flat_buffer(values), *steps_of(values), values.shape[-1], sums)
    return float(sums.max())


@kernel()
def _sum_squares(buffer: Any, stack_step: int, row_step: int, col_step: int, k: int, sums: Any) -> None:
    stack, m = sums.shape
    for matrix in range(stack):
        if row_step == 1:
            for i in range(k):
                at = matrix * stack_step + i * col_step
                for row in range(m):
                    sums[matrix, row] += np.float64(buffer[at + row]) * np.float64(buffer[at + row])
        else:
            for row in range(m):
                line = buffer[matrix * stack_step + row * row_step :][:k]
                parts = np.zeros(8)  # in any order: it is a bound
                for i in range(0, k - k % 8, 8):
                    for j in range(8):
                        parts[j] += np.float64(line[i + j]) * np.float64(line[i + j])
                for i in range(k - k % 8, k):
                    parts[0] += np.float64(line[i]) * np.float64(line[i])
                for j in range(8):
                    sums[matrix, row] += parts[j]


def _tile_shape(m: int, n: int, method: str, *, deep: bool) -> tuple[int, int, int]:
    """(rows, vectors, width) of the register tile: flat, tall or in between; ``deep``: more in flight."""
    width = vector_width()
    # with one vector, what stands everywhere in a vector is read by the instruction that multiplies by it
    if n <= width or (m > 4 and method == "paired" and width == 16):
        return 8, 1, width
    if m > 4 and deep and width == 16:  # half of the registers of such a machine
        return 8, 2, width
    return (1, 8, width) if m == 1 else (2, 4, width) if m == 2 else (4, 2, width)


def multiply_chained(
    rule: Accumulation, config: ChainConfig, scale: float, a: Matrix, b: Matrix
) -> NDArray[np.float32]:
    """The product, float32 (..., m, n)."""
    (*stack, m, k), n = a.shape, b.shape[-1]
    count, chunk = math.prod(stack), min(rule.chunk, k)
    block = chunk * max(1, _K_BLOCK // chunk)
    tiles_per_block = max(1, min(_BLOCK_TILES, -(-m // (config.rows * 4 * threads_in_use()))))
    step = 1 << (_SINGLE_BITS - rule.format.significand_bits)
    half = 0 if rule.rounding_used == "toward_zero" else step >> 1
    zero = (_lowest(rule.format) - _LOWEST + 1) << 23 if config.apart else SMALLEST
    back, (scale, right_scale) = np.float32(1 / scale), _scales(config, scale, a, b)
    left, steps = _left(a, config.rows, scale)
    right = _singles(b)
    panels = pack_panels(flat_buffer(right), count, *steps_of(right), k, n, config.cols, 1, 1)
    if right_scale != 1.0:
        np.multiply(panels, np.float32(right_scale), out=panels)
    out = np.empty((count, m, n), np.float32)
    _chained_kernel(config.pack())(
        left, *steps, panels, k, chunk, block, tiles_per_block, np.float32(scale), back,
        np.int32(half), np.int32(step - 1), np.int32(zero), out,
    )  # fmt: skip
    return out.reshape(*stack, m, n)


def _left(a: Matrix, height: int, scale: float) -> tuple[NDArray[np.float32], tuple[int, int, int]]:
    """The first operand and its steps: 0 from row to row where it is packed as tiles, and scaled."""
    if isinstance(a, WindowMatrix):
        return pack_window_tiles(a, height, scale).reshape(-1), (0, 0, 0)
    values = _singles(a)
    return flat_buffer(values), steps_of(values)


def _scales(config: ChainConfig, scale: float, a: Matrix, b: Matrix) -> tuple[float, float]:
    """The scale of sums as one of each operand; of paired ones neither becomes subnormal, if that can be."""
    if config.method != "paired":
        return scale, 1.0
    left = min(1.0, max(scale, 2.0**_LOWEST / a.format.unit))
    return (left, scale / left) if b.format.unit * scale / left >= 2.0**-149 else (scale, 1.0)


def _singles(operand: Matrix) -> NDArray[np.float32]:
    """The operand's values in the layout it has."""
    return (
        operand.array if operand.array.dtype == np.float32 else operand.decoded(value_table(operand.format))
    )


@cache
def _chained_kernel(config: int) -> Any:
    """The compiled loop nest around one tile configuration."""
    tile = ChainConfig.unpack(config)
    height, cols = tile.rows, tile.cols
    size = height * cols
    paired = tile.method == "paired"

    @kernel(parallel=True)
    def multiply_chains(
        a: Any, stack_step: int, row_step: int, col_step: int, panels: Any, k: int, chunk: int, block: int,
        tiles_per_block: int, scale: Any, back: Any, half: Any, rest: Any, zero: Any, out: Any,
    ) -> None:  # fmt: skip
        stack, m, n = out.shape
        count = panels.shape[0] // stack
        block_rows = tiles_per_block * height
        flat = panels.reshape(-1)
        parts = -(-m // block_rows)
        for part in prange(stack * parts):
            matrix, top = part // parts, part % parts * block_rows
            tiles = -(-min(block_rows, m - top) // height)
            sums = np.zeros(tiles * count * size, np.float32)
            packed = np.empty(min(block, k) * height * (2 if paired else 1), np.float32)
            for first in range(0, k, block):
                last = min(first + block, k)
                for t in range(tiles):
                    row = top + t * height
                    used = packed[: (last - first) * height]
                    source, a_at = a, row * k + first * height
                    if row_step > 0:
                        corner, rows = matrix * stack_step, min(height, m - row)
                        pack_rows(a, corner, row_step, col_step, row, rows, first, last, used, height, 1)
                        if scale != np.float32(1):
                            for i in range(used.size):
                                used[i] *= scale
                    elif paired:
                        used[:] = a[a_at : a_at + used.size]
                    if paired:
                        for i in range(used.size):
                            packed[used.size + i] = used[i] * np.float32(rest + 2)
                    if paired or row_step > 0:
                        source, a_at = packed, 0
                    for p in range(count):
                        at = ((matrix * count + p) * k + first) * cols
                        place = (t * count + p) * size
                        products = last - first
                        chain_tile(
                            config, source, a_at, flat, at, sums, place, half, rest, zero, products, chunk
                        )  # fmt: skip
            for t in range(tiles):
                for p in range(count):
                    place = (t * count + p) * size
                    for r in range(min(height, m - top - t * height)):
                        for j in range(min(cols, n - p * cols)):
                            # adding +0 makes a negative zero positive
                            value = sums[place + r * cols + j] * back + np.float32(0)
                            out[matrix, top + t * height + r, p * cols + j] = value

    return multiply_chains
