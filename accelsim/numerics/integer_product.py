"""Products by integer tiles: both operands packed from their codes, blocks of k by blocks of rows.

A block of b's words stays in the first-level cache while the rows of a block pass by, and sums lie in the
result itself between two blocks of k. None of that changes an order of additions.
"""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.compiled import kernel, threads_in_use
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.integer_tile import PER_WORD, accumulate_block
from accelsim.numerics.operand import Matrix, WindowMatrix, largest_integer, value_table
from accelsim.numerics.packing import flat_buffer, steps_of
from accelsim.numerics.tile_kernel import TileConfig
from accelsim.numerics.window_packing import fits_words, pack_window_words
from accelsim.numerics.word_packing import pack_words, tile_words

_BLOCK_WORDS = 256  # of k; times the columns of a panel they fill a first-level cache
_PACKED_WORDS = 1 << 15  # of a, in a second-level cache


@lru_cache(maxsize=4096)
def _prepared(
    rule: Accumulation, tile: TileConfig, m: int, k: int, threads: int
) -> tuple[tuple[int, ...], tuple[int, int]]:
    """How a product is cut (words, words per group, groups per chunk, words per block, rows per part), and
    what `_blocked_kernel` runs it so."""
    side = PER_WORD[tile.carrier]
    per_group = rule.lanes // side
    turn = next(turn for turn in (4, 2, 1) if per_group % turn == 0)
    words = -(-k // (side * turn)) * turn
    per_group = min(per_group, words)
    whole = rule.chunk >= k
    per_chunk = 1 if whole else -(-rule.chunk // rule.lanes)
    step = per_group * per_chunk
    block = min(step * max(1, _BLOCK_WORDS // step), words)
    fit = max(1, _PACKED_WORDS // (block * tile.rows))
    rows = min(fit, -(-m // (tile.rows * threads))) * tile.rows
    # the lanes are no matter of compilation here
    compiled = replace(tile, lanes=0).pack(), -turn if whole else turn
    return (words, per_group, per_chunk, block, rows), compiled


def multiply_integers(
    rule: Accumulation, tile: TileConfig, a: Matrix, b: Matrix, out: NDArray[np.float32]
) -> bool:
    """Multiply codes into ``out`` (C-contiguous, whatever it holds); false if the accumulator would have
    overflowed (``out`` is then void)."""
    (*_, m, k), n = a.shape, out.shape[-1]
    stack = math.prod(a.shape[:-2])
    cut, compiled = _prepared(rule, tile, m, k, threads_in_use())
    words, per_group, _, block, rows = cut
    offset = int(largest_integer(a.format)) if tile.corrected else 0
    blocks, groups, count = -(-words // block), -(-words // per_group), -(-n // tile.cols)
    tiles = np.empty((stack, blocks, -(-m // tile.rows), tile_words(block, tile.rows)), np.int32)
    panels = np.empty(stack * count * words * tile.cols, np.int32)
    start = np.empty(stack * count * groups * tile.cols if offset else 1, np.int32)
    table = _integers(a.format, tile.carrier, offset)
    others = (
        flat_buffer(b.array), steps_of(b.array), _integers(b.format, tile.carrier, 0),
        (stack, m, k, n), (words, per_group, block), (tile.rows, tile.cols), offset, tiles, panels, start,
    )  # fmt: skip
    if isinstance(a, WindowMatrix) and fits_words(a.windows, table):
        pack_window_words(a.windows, table, *others)
    else:
        pack_words(flat_buffer(a.array), steps_of(a.array), table, *others)
    unit = a.format.unit * b.format.unit
    peaks = np.zeros(stack * -(-m // rows) * tile.width, np.float32)
    _blocked_kernel(*compiled)(tiles, panels, start, cut, np.float32(unit), peaks, out.reshape(stack, m, n))
    return not tile.watched or float(peaks.max()) * unit <= number_format(tile.rounding).max_value


@cache
def _integers(fmt: NumberFormat, carrier: str, offset: int) -> NDArray[Any]:
    """The values of all codes in the format's unit plus an offset: int16, or the bits of bytes as uint8."""
    found = np.nan_to_num(value_table(fmt) / fmt.unit + offset, nan=0.0, posinf=0.0, neginf=0.0)
    integers: NDArray[Any] = found.astype(np.int16)
    return integers if carrier == "i16" else integers.astype(np.uint8)


@cache
def _blocked_kernel(config: int, turn: int) -> Any:
    """The compiled loops around one tile configuration."""
    tile = TileConfig.unpack(config)
    height, cols, width = tile.rows, tile.cols, tile.width

    @kernel(parallel=True)
    def multiply_blocks(
        tiles: Any, panels: Any, start: Any, cut: Any, unit: Any, peaks: Any, out: Any
    ) -> None:
        """Parts of rows; one kernel, because no cache knows one that holds another compiled function."""
        stack, m, n = out.shape
        blocks, row_tiles, apart = tiles.shape[1:]
        flat_tiles, flat = tiles.reshape(-1), out.reshape(-1)
        words, per_group, per_chunk, block, part_rows = cut
        groups, count, parts = -(-words // per_group), -(-n // cols), -(-m // part_rows)
        for part in prange(stack * parts):
            matrix, top = part // parts, part % parts * part_rows
            rows, first_tile = min(part_rows, m - top), matrix * blocks * row_tiles + top // height
            scratch = np.empty(height * cols, np.float32)
            for at in range(0, words, block):
                end = min(at + block, words)
                fresh, factor = int(at == 0), unit if end == words else np.float32(1)
                for p in range(count):
                    panel = matrix * count + p
                    b_at = (panel * words + at) * cols
                    start_at = (panel * groups + at // per_group) * cols if start.size > 1 else 0
                    wide = min(cols, n - p * cols)
                    for t in range(-(-rows // height)):
                        place = (matrix * m + top + t * height) * n + p * cols
                        tall = min(height, rows - t * height)
                        a_at = (first_tile + at // block * row_tiles + t) * apart
                        if wide == cols and tall == height:
                            accumulate_block(
                                config, turn, flat_tiles, a_at, panels, b_at, flat, place, n, start, start_at,
                                peaks, part * width, end - at, per_group, per_chunk, fresh, factor,
                            )  # fmt: skip
                            continue
                        for r in range(tall):
                            for j in range(wide):
                                scratch[r * cols + j] = flat[place + r * n + j]
                        accumulate_block(
                            config, turn, flat_tiles, a_at, panels, b_at, scratch, 0, cols, start, start_at,
                            peaks, part * width, end - at, per_group, per_chunk, fresh, factor,
                        )  # fmt: skip
                        for r in range(tall):
                            for j in range(wide):
                                flat[place + r * n + j] = scratch[r * cols + j]

    return multiply_blocks
