"""Windows of images to the values that tiles of chains read, without the windows in between.

Values get edges of zeros; those of a tile are then copied from where a window's elements lie together, as
words of 32 bits: see `window_packing`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numba.extending import register_jitable
from numpy.typing import NDArray

from accelsim.numerics.compiled import kernel
from accelsim.numerics.operand import Matrix, WindowMatrix
from accelsim.numerics.window_operand import Layout
from accelsim.numerics.window_packing import pack_row_tiles
from accelsim.numerics.word_packing import deal_words, tiles_together

_STRIP = 512  # of k, packed in one go


def pack_window_tiles(operand: WindowMatrix, height: int, scale: float) -> NDArray[np.float32]:
    """Values of windows (m, k) times ``scale``: (tiles, k, height), rows of a tile side by side.

    Rows that fill up the last tile repeat the last one. A power of two as ``scale``, which loses nothing.
    """
    windows = operand.windows
    (m, k), layout = windows.shape, windows.layout()
    framed = _framed(_values(operand), layout)
    if scale != 1.0:
        framed *= np.float32(scale)
    tiles = np.empty((-(-m // height), k, height), np.float32)
    _pack_tiles(
        framed.view(np.int32), (1, layout.step, layout.length, int(windows.transposed)), layout.places,
        layout.runs, windows.first, m, tiles.view(np.int32),
    )  # fmt: skip
    return tiles


def _values(operand: WindowMatrix) -> NDArray[np.float32]:
    """Of the images (n, h, w, c)."""
    flat = Matrix(operand.elements().reshape(1, -1), operand.format)
    return flat.values().reshape(operand.windows.images.shape)


def _framed(images: NDArray[np.float32], layout: Layout) -> NDArray[np.float32]:
    """Images with edges of zeros, flat."""
    (count, height, width, channels), (tall, wide, top, left) = layout.shape, layout.around
    if (tall, wide) == (height, width):
        return images.reshape(-1).copy()
    framed = np.zeros((count, tall, wide, channels), np.float32)
    framed[:, top : top + height, left : left + width] = images
    return framed.reshape(-1)


@register_jitable
def _pack_column_tiles(
    words: Any, layout: Any, places: Any, runs: Any, start: int, top: int, rows: int, begin: int, end: int,
    height: int, apart: int, packed: Any,
) -> None:  # fmt: skip
    """Elements ``top`` on of windows ``start`` + ``begin`` on, as tiles (windows, height)."""
    _, step, length, _ = layout
    tiles = -(-rows // height)
    line = np.empty(tiles * height, np.int32)
    image, place = (start + begin) // places.size, (start + begin) % places.size
    for window in range(end - begin):
        corner = image * step + places[place]
        place += 1
        if place == places.size:
            image, place = image + 1, 0
        for run in range(runs.size):
            low, high = max(top, run * length), min(top + rows, (run + 1) * length)
            if low < high:
                at = corner + runs[run] + low - run * length
                source, target = words[at : at + high - low], line[low - top : high - top]
                for i in range(target.size):
                    target[i] = source[i]
        for row in range(rows, tiles * height):
            line[row] = line[rows - 1]
        deal_words(line, tiles, height, apart, packed[window * height :])


@kernel(parallel=True)
def _pack_tiles(words: Any, layout: Any, places: Any, runs: Any, start: int, m: int, tiles: Any) -> None:
    """``layout``: (1, words from an image to the next, words of a run, whether rows are elements)."""
    count, k, height = tiles.shape
    together, apart = tiles_together(height), k * height
    flat = tiles.reshape(-1)
    strips = -(-k // _STRIP) if layout[3] else 1
    for part in prange(-(-count // together) * strips):
        first, begin = part // strips * together, part % strips * _STRIP
        top = first * height
        rows = min(together * height, m - top)
        if layout[3]:
            packed = flat[first * apart + begin * height :]
            _pack_column_tiles(
                words, layout, places, runs, start, top, rows, begin, min(begin + _STRIP, k), height, apart,
                packed,
            )  # fmt: skip
        else:
            packed = flat[first * apart :]
            pack_row_tiles(words, layout, places, runs, start + top, rows, 0, k, height, apart, packed)
