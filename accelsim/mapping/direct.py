"""Convolutions mapped directly: an array takes its windows out of a part of the image that it holds.

By im2col every element of A, an input repeated once for each window that meets it, leaves a scratchpad on
its own. A directly mapped convolution cuts the positions of its windows into tiles. The inputs that the
windows of a tile meet, its *patch* with all channels, go from the scratchpads into the array's window buffer
once; every element of A then enters the array from there. So an input is fetched once per tile and group,
and where two tiles' windows overlap (the halo) once for each; zeros around the image are never fetched.

- *Positions along M* (forward, dL/dx class by class): a tile is ``rows`` x ``cols`` positions of one image.
  An array's piece of M is whole rows of positions, dealt out one by one; tiles start where the piece enters
  an image. For each group and tile the array goes through the passes of a GEMM that is the tile long, as
  its dataflow does. The order in which outputs are computed does not touch their bits.
- *Positions along K* (dL/dW): the order of additions runs over positions, so a tile is ``chunks`` whole
  chunks of K, one after another; its patch is all inputs that the rows of those positions meet. For each
  group and tile the array goes through all passes of those chunks.

K keeps its order (tap row, tap column, channel) or (sample, row, column) and its chunks, so the bits are
those of im2col by the same dataflow and pieces. Two patches must fit into ``array.window_bytes``: the next is
fetched while one is in use. A fetched element costs an operand-buffer access beside the one of each element
that enters the array. Every array fetches for itself; with ``scratchpad.multicast`` one fetch serves all
arrays that work on the same positions and groups.

The space: ``rows`` and ``chunks`` are powers of two or all, ``cols`` the whole width or a half, a quarter or
an eighth of it, rounded up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from math import ceil

import numpy as np
from numpy.typing import NDArray

from accelsim.chip import Chip
from accelsim.mapping.plan import Patches
from accelsim.operations import Axis, Gemm, Sliding


@dataclass(frozen=True)
class Piece:
    """What one array walks of positions along M: tiles by their positions, the last one's, inputs fetched.

    Inputs are those of one group and pass over the images.
    """

    tiles: tuple[tuple[int, int], ...]
    last: int
    fetched: int

    @property
    def positions(self) -> int:
        """Rows of A."""
        return sum(size * count for size, count in self.tiles)

    def blocks(self, unit: int | None) -> int:
        """Blocks of ``unit`` positions; a tile is one block where ``unit`` is None."""
        return sum(count * (1 if unit is None else -(-size // unit)) for size, count in self.tiles)


@cache
def pieces_of_rows(patches: Patches, splits: int) -> tuple[tuple[Piece, int], ...]:
    """The distinct pieces of all positions cut into ``splits``, and how many there are of each."""
    sliding = patches.sliding
    height = sliding.down.positions
    size, larger = divmod(sliding.samples * height, splits)
    found: Counter[Piece] = Counter()
    begin = 0
    for index in range(splits):
        end = begin + size + (index < larger)
        found[_piece(patches, begin % height, end - begin)] += 1
        begin = end
    return tuple(found.items())


@cache
def _piece(patches: Patches, first_row: int, row_count: int) -> Piece:
    """A piece of ``row_count`` rows of positions that begins in row ``first_row`` of an image."""
    height = patches.sliding.down.positions
    head = min(row_count, (height - first_row) % height)
    whole, tail = divmod(row_count - head, height)
    runs = ((first_row, head, 1), (0, height, whole), (0, tail, 1))
    strips: Counter[int] = Counter()
    rows_fetched = last = 0
    for start, count, times in runs:
        if count and times:
            heights, fetched = _cut(patches.sliding.down, start, count, patches.rows)
            strips.update({each: times * number for each, number in Counter(heights).items()})
            rows_fetched, last = rows_fetched + times * fetched, heights[-1]
    across = patches.sliding.across
    widths, cols_fetched = _cut(across, 0, across.positions, patches.cols)
    tiles: Counter[int] = Counter()
    for strip, strip_count in strips.items():
        for width, width_count in Counter(widths).items():
            tiles[strip * width] += strip_count * width_count
    fetched = rows_fetched * cols_fetched * patches.sliding.channels
    return Piece(tuple(tiles.items()), last * widths[-1], fetched)


def _cut(axis: Axis, start: int, count: int, size: int) -> tuple[list[int], int]:
    """(tile extents, inputs fetched for all of them) of ``count`` positions cut into tiles of ``size``."""
    starts = range(start, start + count, size)
    extents = [min(size, start + count - begin) for begin in starts]
    return extents, sum(axis.reached(begin, extent) for begin, extent in zip(starts, extents, strict=True))


@cache
def run_patches(sliding: Sliding, chunk: int, chunks: int, splits: int) -> tuple[int, int]:
    """(inputs fetched by all pieces, the largest patch) of positions along K, for one group."""
    positions = sliding.samples * sliding.down.positions * sliding.across.positions
    whole = ceil(positions / chunk)
    piece = max(-(-whole // splits), 1)
    first_chunks = np.concatenate(
        [np.arange(at, min(at + piece, whole), chunks) for at in range(0, whole, piece)]
    )
    ends = np.minimum(
        np.minimum(first_chunks + chunks, (first_chunks // piece + 1) * piece) * chunk, positions
    )
    sizes = rows_reached(sliding, first_chunks * chunk, ends)
    sizes = sizes * sliding.across.reached(0, sliding.across.positions) * sliding.channels
    return int(sizes.sum()), int(sizes.max())


def rows_reached(sliding: Sliding, begins: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """Input rows that the rows of positions ``begins`` .. ``ends`` - 1 meet, image by image."""
    down, width = sliding.down, sliding.across.positions
    height = down.positions
    reached = _reached(down)
    first, last = begins // width, (ends - 1) // width
    first_image, last_image = first // height, last // height
    within = reached[first % height, last % height]
    head, tail = reached[first % height, height - 1], reached[0, last % height]
    beyond = head + tail + (last_image - first_image - 1) * reached[0, height - 1]
    return np.where(first_image == last_image, within, beyond)


@cache
def _reached(axis: Axis) -> NDArray[np.int64]:
    """[i, j]: inputs that the positions i .. j meet (for j >= i)."""
    if axis.dilation > 1:
        return _reached_one_by_one(axis)
    begins = axis.first + axis.stride * np.arange(axis.positions)
    if axis.stride > axis.taps:
        alone = [axis.reached(position, 1) for position in range(axis.positions)]
        sums = np.cumsum([0, *alone])
        return np.asarray(sums[None, 1:] - sums[:-1, None], np.int64)
    ends = np.minimum(begins + axis.taps, axis.extent)
    return np.asarray(np.maximum(ends[None, :] - np.maximum(begins, 0)[:, None], 0), np.int64)


def _reached_one_by_one(axis: Axis) -> NDArray[np.int64]:
    """The same where a run of windows may leave out inputs between its taps."""
    reached = np.zeros((axis.positions, axis.positions), np.int64)
    for first in range(axis.positions):
        met: set[int] = set()
        for last in range(first, axis.positions):
            begin = axis.first + last * axis.stride
            taps = range(begin, begin + axis.span, axis.dilation)
            met.update(place for place in taps if 0 <= place < axis.extent)
            reached[first, last] = len(met)
    return reached


def candidates(gemm: Gemm, chip: Chip, chunk: int, splits_k: int) -> Iterator[Patches]:
    """The tiles of a convolution of which two patches fit into the window buffer."""
    sliding, window_bytes = gemm.sliding, chip.array.window_bytes
    if sliding is None or window_bytes is None or not gemm.macs or not sliding.repeats:
        return
    room = 8 * window_bytes // (2 * gemm.a.bits)
    if sliding.positions_along == "m":
        yield from _fitting_tiles(sliding, room)
        return
    whole = -(-gemm.k // chunk)
    for chunks in _powers(-(-whole // splits_k)):
        if run_patches(sliding, chunk, chunks, splits_k)[1] <= room:
            yield Patches(sliding, chunks=chunks)


@cache
def _fitting_tiles(sliding: Sliding, room: int) -> tuple[Patches, ...]:
    down, across = sliding.down, sliding.across
    widths = dict.fromkeys(-(-across.positions // parts) for parts in (1, 2, 4, 8))
    return tuple(
        Patches(sliding, rows, cols)
        for cols in widths
        for rows in _powers(down.positions)
        if _most(down, rows) * _most(across, cols) * sliding.channels <= room
    )


def _most(axis: Axis, size: int) -> int:
    """The most inputs that any ``size`` neighbouring positions meet."""
    size = min(size, axis.positions)
    return max(axis.reached(start, size) for start in range(axis.positions - size + 1))


def _powers(whole: int) -> list[int]:
    """Powers of two below ``whole``, and ``whole``."""
    return [*(1 << power for power in range((whole - 1).bit_length())), whole]
