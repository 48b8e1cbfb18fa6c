"""Products by integer tiles: both operands packed from their codes, blocks of k by blocks of rows.

A block of b's words stays in the first-level cache while the rows of a block pass by, and sums lie in the
result itself between two blocks of k. None of that changes an order of additions.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from accelsim.numerics.compiled import kernel, threads_in_use
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.integer_block import accumulate_block
from accelsim.numerics.integer_tile import PER_WORD
from accelsim.numerics.operand import Matrix, WindowMatrix, largest_integer, value_table
from accelsim.numerics.packing import flat_buffer, steps_of
from accelsim.numerics.tile_kernel import TileConfig
from accelsim.numerics.window_packing import fits_words, pack_window_words
from accelsim.numerics.word_lengths import lengths_kernel
from accelsim.numerics.word_packing import pack_words, tile_words

_BLOCK_WORDS = 256  # of k; times the columns of a panel they fill a first-level cache
_PACKED_WORDS = 1 << 15  # of a, in a second-level cache


@dataclass(frozen=True)
class Grouping:
    """How products are taken together: ``group`` products (a multiple of a word's) in one dot product.

    ``chunk``: products of a chunk, whole groups, at least k if all is one. ``lanes``: 0 if a group is added
    with one rounding, else the products of each of the additions that a certified group stands for.
    """

    group: int
    chunk: int
    lanes: int = 0


@lru_cache(maxsize=4096)
def _prepared(
    grouping: Grouping, tile: TileConfig, m: int, k: int, threads: int
) -> tuple[tuple[int, ...], tuple[int, int]]:
    """How a product is cut (words, words per group, groups per chunk, words per block, rows per part), and
    what `_blocked_kernel` runs it so."""
    side = PER_WORD[tile.carrier]
    per_group = grouping.group // side
    turn = next(turn for turn in (4, 2, 1) if per_group % turn == 0)
    words = -(-k // (side * turn)) * turn
    per_group = min(per_group, words)
    whole = grouping.chunk >= k
    per_chunk = 1 if whole else -(-grouping.chunk // grouping.group)
    step = per_group * per_chunk
    block = min(step * max(1, _BLOCK_WORDS // step), words)
    fit = max(1, _PACKED_WORDS // (block * tile.rows))
    rows = min(fit, -(-m // (tile.rows * threads))) * tile.rows
    # groups and chunks are no matter of compilation here
    compiled = replace(tile, lanes=grouping.lanes).pack(), -turn if whole else turn
    return (words, per_group, per_chunk, block, rows), compiled


def multiply_integers(
    grouping: Grouping, tile: TileConfig, a: Matrix, b: Matrix, out: NDArray[np.float32]
) -> tuple[bool, NDArray[np.int64]]:
    """Multiply codes into ``out`` (C-contiguous, whatever it holds).

    Returns false if the accumulator would have overflowed (``out`` is then void), and for each part of the
    work of how many rows of a tile and group the certificate failed.
    """
    (*_, m, k), n = a.shape, out.shape[-1]
    stack = math.prod(a.shape[:-2])
    cut, compiled = _prepared(grouping, tile, m, k, threads_in_use())
    words, per_group, _, block, rows = cut
    offset = int(largest_integer(a.format)) if tile.corrected else 0
    blocks, groups, count = -(-words // block), -(-words // per_group), -(-n // tile.cols)
    bands = -(-m // tile.rows)
    tiles = np.empty((stack, blocks, bands, tile_words(block, tile.rows)), np.int32)
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
    held = -(-k // PER_WORD[tile.carrier]) if grouping.lanes else 0
    heights, widths = _lengths(tile, tiles, panels, (words, per_group, block), held, offset)
    unit = a.format.unit * b.format.unit
    parts = stack * -(-m // rows)
    peaks, failed = np.zeros(parts * tile.width, np.float32), np.zeros(parts, np.int64)
    _blocked_kernel(*compiled)(
        tiles, panels, start, heights.reshape(-1), widths.reshape(-1), cut, np.int32(offset),
        np.float32(unit), peaks, failed, out.reshape(stack, m, n),
    )  # fmt: skip
    inside = not tile.watched or float(peaks.max()) * unit <= number_format(tile.rounding).max_value
    return inside, failed


def _lengths(
    tile: TileConfig, tiles: NDArray[np.int32], panels: NDArray[np.int32], cut: tuple[int, int, int],
    held: int, offset: int,
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:  # fmt: skip
    """Lengths of rows and columns by tile or panel, and group (`word_lengths`); empty if none are needed."""
    stack, _, bands, _ = tiles.shape
    groups, counted = -(-cut[0] // cut[1]), min(held, 1)
    heights = np.empty((counted * stack * bands, groups), np.float32)
    widths = np.empty((counted * panels.size // (cut[0] * tile.cols), groups, tile.cols), np.float32)
    if held:
        compiled = lengths_kernel(tile.carrier, tile.rows, tile.cols, tile.width)
        compiled(tiles, panels, cut, held, np.int32(offset), heights, widths)
    return heights, widths


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
    height, cols, width, certified = tile.rows, tile.cols, tile.width, tile.lanes > 0

    @kernel(parallel=True)
    def multiply_blocks(
        tiles: Any, panels: Any, start: Any, heights: Any, widths: Any, cut: Any, offset: Any, unit: Any,
        peaks: Any, failed: Any, out: Any,
    ) -> None:  # fmt: skip
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
                end, group = min(at + block, words), at // per_group
                fresh, factor = int(at == 0), unit if end == words else np.float32(1)
                for p in range(count):
                    panel = matrix * count + p
                    b_at, line = (panel * words + at) * cols, (panel * groups + group) * cols
                    start_at, w_at = line if start.size > 1 else 0, line if certified else 0
                    wide = min(cols, n - p * cols)
                    for t in range(-(-rows // height)):
                        place = (matrix * m + top + t * height) * n + p * cols
                        tall = min(height, rows - t * height)
                        a_at = (first_tile + at // block * row_tiles + t) * apart
                        h_at = (matrix * row_tiles + top // height + t) * groups + group if certified else 0
                        if wide == cols and tall == height:
                            accumulate_block(
                                config, turn, flat_tiles, a_at, panels, b_at, flat, place, n, start, start_at,
                                peaks, part * width, heights, h_at, widths, w_at, failed, part, end - at,
                                per_group, per_chunk, offset, fresh, factor,
                            )  # fmt: skip
                            continue
                        for r in range(tall):
                            for j in range(wide):
                                scratch[r * cols + j] = flat[place + r * n + j]
                        accumulate_block(
                            config, turn, flat_tiles, a_at, panels, b_at, scratch, 0, cols, start, start_at,
                            peaks, part * width, heights, h_at, widths, w_at, failed, part, end - at,
                            per_group, per_chunk, offset, fresh, factor,
                        )  # fmt: skip
                        for r in range(tall):
                            for j in range(wide):
                                flat[place + r * n + j] = scratch[r * cols + j]

    return multiply_blocks
