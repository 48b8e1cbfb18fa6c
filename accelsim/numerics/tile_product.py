"""Products by the single-precision and integer tiles, where they are provably exact."""

from __future__ import annotations

from functools import cache, lru_cache
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from accelsim.numerics.accumulation import Accumulation, plain_rule
from accelsim.numerics.compiled import kernel, threads_in_use
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.instructions import instruction_set, vector_width
from accelsim.numerics.integer_product import Grouping, multiply_integers
from accelsim.numerics.operand import Matrix, largest_integer
from accelsim.numerics.packing import flat_buffer, pack_panels, pack_rows, stack_of, steps_of
from accelsim.numerics.tile_kernel import (
    ROUNDINGS,
    TileConfig,
    accumulate_tile,
)

_EXACT_INTEGERS = 2**24  # single precision holds every integer up to here
_K_BLOCK = 1024  # products between two visits of a tile; a matter of cache, not of bits
_BLOCK_TILES = 16


def choose_tile(rule: Accumulation, a: Matrix, b: Matrix) -> TileConfig | None:
    """The tile configuration that is provably exact for these operands, or None.

    A rounded sum never exceeds twice the sum of magnitudes, because the sum before the last product
    is itself a candidate of the rounding; so four times the sum of magnitudes bounds the outer sum.
    Where that bound does not exclude overflow, the tile watches its sums, and an overflow seen
    sends the product to the general kernel.
    """
    coded = a.coded and b.coded
    (m, k), n = a.shape[-2:], b.shape[-1]
    # values of an operand's own have a largest one of their own: nothing to remember
    choose = _tile_for if coded else _tile_for.__wrapped__
    return choose(rule, a.format, b.format, a.largest(), b.largest(), coded, m, k, n)


@lru_cache(maxsize=4096)
def _tile_for(
    rule: Accumulation, a: NumberFormat, b: NumberFormat, a_largest: float, b_largest: float, coded: bool,
    m: int, k: int, n: int,
) -> TileConfig | None:  # fmt: skip
    unit, largest_product = a.unit * b.unit, a_largest * b_largest
    plain = plain_rule(rule, k, largest_product, unit)
    if plain is None or plain.accumulator not in ROUNDINGS:
        return None
    accumulator = number_format(plain.accumulator)
    bound = 4.0 * k * largest_product
    if not bound < 2.0**120 or unit < 2.0**-120:
        return None
    if rule.lanes == 1:
        group_exact = a.significand_bits + b.significand_bits <= 24
    else:
        group_exact = rule.lanes * largest_integer(a) * largest_integer(b) <= _EXACT_INTEGERS
    if not group_exact:
        return None
    inner_exact = 2.0 * min(rule.chunk, k) * largest_product <= _EXACT_INTEGERS * unit
    smallest_normal = 2.0 ** (1 - accumulator.bias)
    rows, vectors, width = tile_shape(m, n)
    underflow = unit < smallest_normal
    carrier = "f32" if underflow or not coded else integer_carrier(rule.lanes, a, b)
    return TileConfig(
        rounding=plain.accumulator,
        lanes=rule.lanes,
        sticky_inner=not inner_exact,
        underflow=underflow,
        rows=rows,
        vectors=vectors,
        width=width,
        carrier=carrier,
        corrected=carrier == "i8" and a.signed,
        watched=bound >= accumulator.max_value,
    )


def integer_carrier(lanes: int, a: NumberFormat, b: NumberFormat) -> str:
    """The narrowest integers that hold the codes of both in units of their formats, or f32.

    Bytes: ``a`` is made unsigned by an offset; two products must fit in 16 signed bits, and so must
    the sum of a group's (half of it, as two sums run side by side).
    """
    known = instruction_set()
    if known == "portable":
        return "f32"
    a_top, b_top = int(largest_integer(a)), int(largest_integer(b))
    offset = a_top if a.signed else 0
    a_is_byte = int(a.max_value / a.unit) + offset <= 255 and known != "sse2"
    if lanes % 4 == 0 and a_is_byte and b_top <= 127 and lanes * (2 * a_top + 1) * b_top < 2**15:
        return "i8"
    return "i16" if lanes % 2 == 0 and max(a_top, b_top) < 2**15 else "f32"


def tile_shape(m: int, n: int) -> tuple[int, int, int]:
    """(rows, vectors, width) of the register tile, eight vectors in all: flat, tall or in between."""
    width = vector_width()
    if n <= width:
        return 8, 1, width
    return (1, 8, width) if m == 1 else (2, 4, width) if m == 2 else (4, 2, width)


def multiply_tiled(
    rule: Accumulation, tile: TileConfig, a: Matrix, b: Matrix, out: NDArray[np.float32]
) -> bool:
    """Multiply into ``out``; false if the accumulator would have overflowed (``out`` is then void)."""
    if tile.carrier != "f32":
        return multiply_integers(Grouping(rule.lanes, rule.chunk), tile, a, b, out)[0]
    (m, k), stack = a.array.shape[-2:], stack_of(a.array)
    chunk = -(-min(rule.chunk, k) // rule.lanes) * rule.lanes
    block = chunk * max(1, _K_BLOCK // chunk)
    tiles_per_block = max(1, min(_BLOCK_TILES, -(-m // (tile.rows * 4 * threads_in_use()))))
    left, right = a.values(), b.values()
    order = *steps_of(right), k, out.shape[-1], tile.cols, rule.lanes, 1
    panels = pack_panels(flat_buffer(right), stack, *order)
    peaks = np.zeros((stack * -(-m // (tiles_per_block * tile.rows)), tile.width), np.float32)
    _tiled_kernel(tile.pack())(
        flat_buffer(left), *steps_of(left), panels, k, chunk, block, tiles_per_block, peaks,
        out.reshape(stack, *out.shape[-2:]),
    )  # fmt: skip
    return float(peaks.max()) <= number_format(tile.rounding).max_value


@cache
def _tiled_kernel(config: int) -> Any:
    """The compiled loop nest around one tile configuration."""
    tile = TileConfig.unpack(config)
    height, cols, lanes = tile.rows, tile.cols, tile.lanes
    size = height * cols

    @kernel(parallel=True)
    def multiply_tiles(
        a: Any, stack_step: int, row_step: int, col_step: int, panels: Any, k: int, chunk: int, block: int,
        tiles_per_block: int, peaks: Any, out: Any,
    ) -> None:  # fmt: skip
        stack, m, n = out.shape
        count = panels.shape[0] // stack
        block_rows = tiles_per_block * height
        flat = panels.reshape(-1)
        peak = peaks.reshape(-1)
        width = peaks.shape[1]
        parts = -(-m // block_rows)
        for part in prange(stack * parts):
            matrix, top = part // parts, part % parts * block_rows
            tiles = -(-min(block_rows, m - top) // height)
            sums = np.zeros(tiles * count * size, np.float32)
            packed = np.empty(-(-min(block, k) // lanes) * lanes * height, a.dtype)
            for first in range(0, k, block):
                last = min(first + block, k)
                groups = -(-(last - first) // lanes)
                for t in range(tiles):
                    row = top + t * height
                    rows = min(height, m - row)
                    pack_rows(
                        a,
                        matrix * stack_step,
                        row_step,
                        col_step,
                        row,
                        rows,
                        first,
                        last,
                        packed,
                        height,
                        1,
                    )
                    for p in range(count):
                        panel = matrix * count + p
                        at = (panel * panels.shape[1] + first) * cols
                        place = (t * count + p) * size
                        accumulate_tile(
                            config, packed, 0, flat, at, sums, place, peak, part * width, groups,
                            chunk // lanes,
                        )  # fmt: skip
            for t in range(tiles):
                for p in range(count):
                    place = (t * count + p) * size
                    for r in range(min(height, m - top - t * height)):
                        for j in range(min(cols, n - p * cols)):
                            # adding +0 makes a negative zero positive
                            value = sums[place + r * cols + j] + np.float32(0)
                            out[matrix, top + t * height + r, p * cols + j] = value

    return multiply_tiles
