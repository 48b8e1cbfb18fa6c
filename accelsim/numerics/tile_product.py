"""Products by the single-precision and integer tiles, where they are provably exact."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import get_num_threads, prange
from numpy.typing import NDArray

from accelsim.numerics.accumulation import Accumulation, plain_rule
from accelsim.numerics.compiled import kernel
from accelsim.numerics.formats import number_format
from accelsim.numerics.operand import Matrix, largest_integer, value_table
from accelsim.numerics.packing import flat_buffer, pack_panels, pack_rows, stack_of, start_sums, steps_of
from accelsim.numerics.tile_kernel import (
    INTERLEAVE,
    ROUNDINGS,
    TileConfig,
    accumulate_tile,
    instruction_set,
    vector_width,
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
    k = a.array.shape[-1]
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
        group_exact = rule.lanes * largest_integer(a.format) * largest_integer(b.format) <= _EXACT_INTEGERS
    if not group_exact:
        return None
    inner_exact = 2.0 * min(rule.chunk, k) * largest_product <= _EXACT_INTEGERS * unit
    smallest_normal = 2.0 ** (1 - accumulator.bias)
    rows, vectors, width = _tile_shape(a.array.shape[-2], b.array.shape[-1])
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
    a_top, b_top = int(largest_integer(a.format)), int(largest_integer(b.format))
    offset = a_top if a.format.signed else 0
    a_is_byte = int(a.format.max_value / a.format.unit) + offset <= 255
    if lanes % 4 == 0 and a_is_byte and b_top <= 127 and lanes * (2 * a_top + 1) * b_top < 2**15:
        return "i8"
    return "i16" if lanes % 2 == 0 and max(a_top, b_top) < 2**15 else "f32"


def _tile_shape(m: int, n: int) -> tuple[int, int, int]:
    """(rows, vectors, width) of the register tile, eight vectors in all: flat, tall or in between."""
    width = vector_width()
    if n <= width:
        return 8, 1, width
    return (1, 8, width) if m == 1 else (2, 4, width) if m == 2 else (4, 2, width)


def multiply_tiled(
    rule: Accumulation, tile: TileConfig, a: Matrix, b: Matrix, out: NDArray[np.float32]
) -> bool:
    """Multiply into ``out``; false if the accumulator would have overflowed (``out`` is then void)."""
    (m, k), stack = a.array.shape[-2:], stack_of(a.array)
    chunk = -(-min(rule.chunk, k) // rule.lanes) * rule.lanes
    block = chunk * max(1, _K_BLOCK // chunk)
    tiles_per_block = max(1, min(_BLOCK_TILES, -(-m // (tile.rows * 4 * get_num_threads()))))
    offset = int(largest_integer(a.format)) if tile.corrected else 0
    side = INTERLEAVE[tile.carrier]
    left, right = _carried(a, tile.carrier, offset), _carried(b, tile.carrier, 0)
    order = *steps_of(right), k, out.shape[-1], tile.cols, rule.lanes, side
    panels = pack_panels(flat_buffer(right), stack, *order)
    start = start_sums(panels, rule.lanes, offset) if offset else np.zeros((1, 1, 1), np.int32)
    unit = 1.0 if tile.carrier == "f32" else a.format.unit * b.format.unit
    peaks = np.zeros((stack * -(-m // (tiles_per_block * tile.rows)), tile.width), np.float32)
    _tiled_kernel(tile.pack())(
        flat_buffer(left), *steps_of(left), panels, start, k, chunk, block, tiles_per_block,
        np.float32(unit), peaks, out.reshape(stack, *out.shape[-2:]),
    )  # fmt: skip
    return float(peaks.max()) * unit <= number_format(tile.rounding).max_value


def _carried(operand: Matrix, carrier: str, offset: int) -> NDArray[Any]:
    """The operand as what a tile multiplies, in the layout it has: float32, or integers in its unit.

    ``offset`` is added to bytes, which are then unsigned.
    """
    array = operand.array
    if array.dtype == np.float32:
        return array
    table: NDArray[Any] = value_table(operand.format)
    if carrier != "f32":
        integers = table / operand.format.unit + offset
        table = integers.astype(np.int16 if carrier == "i16" else np.uint8 if offset else np.int8)
    return operand.decoded(table)


@cache
def _tiled_kernel(config: int) -> Any:
    """The compiled loop nest around one tile configuration."""
    tile = TileConfig.unpack(config)
    height, cols, lanes, side = tile.rows, tile.cols, tile.lanes, INTERLEAVE[tile.carrier]
    size = height * cols

    @kernel(parallel=True)
    def multiply_tiles(
        a: Any, stack_step: int, row_step: int, col_step: int, panels: Any, start: Any, k: int, chunk: int,
        block: int, tiles_per_block: int, unit: Any, peaks: Any, out: Any,
    ) -> None:  # fmt: skip
        stack, m, n = out.shape
        count = panels.shape[0] // stack
        block_rows = tiles_per_block * height
        flat = panels.reshape(-1)
        starts = start.reshape(-1)
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
                        side,
                    )
                    for p in range(count):
                        panel = matrix * count + p
                        at = (panel * panels.shape[1] + first // side) * cols * side
                        start_at = (panel * start.shape[1] + first // lanes) * cols if start.size > 1 else 0
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
                            out[matrix, top + t * height + r, p * cols + j] = value

    return multiply_tiles
