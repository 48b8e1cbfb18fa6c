"""Windows of images to the words that integer tiles read, without the windows in between.

The images' codes are looked up once and get edges of zeros; words of a tile are then copied from where a
window's elements lie together. Tiles and words as in `word_packing`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numba.extending import register_jitable
from numpy.typing import NDArray

from accelsim.numerics.compiled import kernel
from accelsim.numerics.nibbles import translate
from accelsim.numerics.window_operand import Layout, Windows
from accelsim.numerics.word_joining import join_lines
from accelsim.numerics.word_packing import (
    b_pieces_of,
    deal_words,
    pack_b_piece,
    side_by_side,
    tile_words,
    tiles_together,
)

_WORD = 4  # bytes


def fits_words(windows: Windows, table: NDArray[Any]) -> bool:
    """Whether each run of a window's elements is whole words, as `pack_window_words` needs it."""
    return bool(windows.images.shape[-1] * table.itemsize % _WORD == 0)


def with_edges(images: NDArray[np.uint8], layout: Layout, table: NDArray[Any]) -> NDArray[Any]:
    """Images as the elements of ``table`` that their codes name, with edges of code 0; flat."""
    out = np.empty(layout.shape[0] * layout.step, table.dtype)
    _lay_around(np.ascontiguousarray(images).reshape(-1), layout.shape, layout.around, table, out)
    return out


@kernel(parallel=True)
def _lay_around(images: Any, shape: Any, around: Any, table: Any, out: Any) -> None:
    count, height, width, channels = shape
    tall, wide, top, left = around
    line, inside = wide * channels, width * channels
    for row in prange(count * tall):
        image, y = row // tall, row % tall - top
        begin = row * line
        if 0 <= y < height:
            at = begin + left * channels
            out[begin:at] = table[0]
            translate(images, (image * height + y) * inside, inside, table, out, at)
            out[at + inside : begin + line] = table[0]
        else:
            out[begin : begin + line] = table[0]


@register_jitable
def pack_row_tiles(
    words: Any, layout: Any, places: Any, runs: Any, top: int, rows: int, begin: int, end: int, height: int,
    apart: int, packed: Any,
) -> None:  # fmt: skip
    """Words ``begin`` to ``end`` of windows ``top`` on as tiles (words, height); all counted in words.

    ``layout``: (elements to a word, words from an image to the next, words of a run, _).
    """
    side, step, length, _ = layout
    image, place = top // places.size, top % places.size
    at = np.empty(height, np.int64)
    for t in range(-(-rows // height)):
        for r in range(height):
            if t * height + r < rows:  # rows that fill up the last tile repeat the last one
                at[r] = image * step + places[place] // side
                place += 1
                if place == places.size:
                    image, place = image + 1, 0
            elif r > 0:
                at[r] = at[r - 1]
        for run in range(runs.size):
            low, high = max(begin, run * length), min(end, (run + 1) * length)
            if low < high:
                shift = runs[run] // side + low - run * length
                target = packed[t * apart + (low - begin) * height :]
                side_by_side(words, at, shift, high - low, height, target)


@register_jitable
def _pack_columns(
    pixels: Any, layout: Any, places: Any, runs: Any, start: int, k: int, top: int, rows: int, begin: int,
    end: int, height: int, apart: int, packed: Any,
) -> None:  # fmt: skip
    """The same of the transposed matrix: k runs over windows, ``start`` is the first of them."""
    side, step, length, _ = layout
    tiles = -(-rows // height)
    joined, at = np.empty(tiles * height, np.int32), np.zeros(4, np.int64)
    first = start + begin * side
    image, place = first // places.size, first % places.size
    for word in range(end - begin):
        for i in range(side):
            if (begin + word) * side + i < k:
                at[i] = image * step * side + places[place]
                place += 1
                if place == places.size:
                    image, place = image + 1, 0
        for run in range(runs.size):
            low, high = max(top, run * length * side), min(top + rows, (run + 1) * length * side)
            if low < high:
                shift = runs[run] + low - run * length * side
                join_lines(pixels, at, shift, high - low, joined, low - top)
        for row in range(rows, tiles * height):
            joined[row] = joined[rows - 1]
        deal_words(joined, tiles, height, apart, packed[word * height :])


@kernel(parallel=True)
def _pack_products(
    pixels: Any, words: Any, layout: Any, places: Any, runs: Any, start: int, b: Any, b_steps: Any,
    b_table: Any, shape: Any, cut: Any, tile: Any, offset: int, tiles: Any, panels: Any, starts: Any,
) -> None:  # fmt: skip
    _, m, k, n = shape
    count, per_group, block = cut
    height, together = tile[0], tiles_together(tile[0])
    blocks, row_tiles, apart = -(-count // block), -(-m // height), tile_words(block, height)
    pieces = -(-row_tiles // together)
    flat = tiles.reshape(-1)
    for piece in prange(blocks * pieces + b_pieces_of(b_steps, n, count, per_group, tile[1])):
        if piece >= blocks * pieces:
            pack_b_piece(
                piece - blocks * pieces, b, b_steps, b_table, shape, cut, tile[1], offset, panels, starts
            )
            continue
        part, top = piece // pieces, piece % pieces * together
        begin, end = part * block, min(part * block + block, count)
        rows, packed = min(together * height, m - top * height), flat[(part * row_tiles + top) * apart :]
        if layout[3]:
            _pack_columns(
                pixels, layout, places, runs, start, k, top * height, rows, begin, end, height, apart, packed
            )
        else:
            pack_row_tiles(
                words, layout, places, runs, start + top * height, rows, begin, end, height, apart, packed
            )


def pack_window_words(
    windows: Windows, a_table: NDArray[Any], b: NDArray[Any], b_steps: tuple[int, int, int],
    b_table: NDArray[Any], shape: tuple[int, ...], cut: tuple[int, int, int], tile: tuple[int, int],
    offset: int, tiles: NDArray[np.int32], panels: NDArray[np.int32], starts: NDArray[np.int32],
) -> None:  # fmt: skip
    """`word_packing.pack_words` of one product whose first operand are windows that `fits_words`."""
    layout = windows.layout()
    pixels = with_edges(windows.images, layout, a_table)
    side = _WORD // a_table.itemsize
    words = side, layout.step // side, layout.length // side, int(windows.transposed)
    _pack_products(
        pixels, pixels.view(np.int32), words, layout.places, layout.runs, windows.first, b, b_steps, b_table,
        shape, cut, tile, offset, tiles, panels, starts,
    )  # fmt: skip
