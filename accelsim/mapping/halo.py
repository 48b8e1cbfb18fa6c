"""What DRAM tiles of a directly mapped convolution hold of its images, with what neighbouring tiles share.

A tile is a run of positions and a run of taps; of dimensions that several arrays have cut into pieces, one
run of each piece. It holds the inputs that the rows of its positions meet at the taps of its run: whole rows
of positions, and of taps the rows (of one row, the columns; of one tap, the channels) that the run touches.
Inputs that two tiles meet (the halo) are loaded for each, so that A crosses from DRAM more often than once.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from fractions import Fraction
from functools import cache

import numpy as np
from numpy.typing import NDArray

from accelsim.mapping.direct import rows_reached
from accelsim.operations import Axis, Sliding


@dataclass(frozen=True)
class Cut:
    """A dimension in ``pieces``, each of at most ``piece`` elements, walked in tiles of ``size`` elements."""

    whole: int
    size: int
    pieces: int = 1
    piece: int = 0

    @property
    def runs_a_tile(self) -> int:
        """Runs of one tile, a run of each piece; a tile that is the whole is one."""
        return 1 if self.size >= self.whole else self.pieces

    def runs(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Where the runs of all tiles begin and end, piece by piece."""
        if self.size >= self.whole:
            return np.zeros(1, np.int64), np.full(1, self.whole)
        length, piece = -(-self.size // self.pieces), self.piece or self.whole
        starts = range(0, self.whole, piece)
        begins = np.concatenate([np.arange(at, min(at + piece, self.whole), length) for at in starts])
        piece_ends = np.minimum((begins // piece + 1) * piece, self.whole)
        return begins, np.minimum(begins + length, piece_ends)


@dataclass(frozen=True)
class Halos:
    """The images of a product, and into how many pieces of what length its arrays cut M and K."""

    sliding: Sliding
    m: int
    k: int
    m_pieces: tuple[int, int] = (1, 0)
    k_pieces: tuple[int, int] = (1, 0)

    def crossings(self, tile_m: int, tile_k: int) -> Fraction:
        """How often all inputs of A cross where every tile is loaded once; 1 where one tile holds them."""
        inputs, _ = self._held(tile_m, tile_k)
        whole, _ = self._held(self.m, self.k)
        return Fraction(inputs, whole) if whole else Fraction(1)

    def most_inputs(self, tile_m: int, tile_k: int) -> int:
        """The inputs of a group that the largest tile holds."""
        return self._held(tile_m, tile_k)[1]

    def _held(self, tile_m: int, tile_k: int) -> tuple[int, int]:
        along_m, along_k = Cut(self.m, tile_m, *self.m_pieces), Cut(self.k, tile_k, *self.k_pieces)
        cuts = (along_m, along_k) if self.sliding.positions_along == "m" else (along_k, along_m)
        return held_inputs(self.sliding, *cuts)


@cache
def held_inputs(sliding: Sliding, positions: Cut, taps: Cut) -> tuple[int, int]:
    """(inputs of a group that all tiles hold together, those of the largest tile)."""
    begins, ends = positions.runs()
    boxes = Counter(_box(sliding, int(begin), int(end)) for begin, end in zip(*taps.runs(), strict=True))
    total = largest = 0
    for box, count in boxes.items():
        across = box.across.reached(0, box.across.positions) * box.channels
        inputs = rows_reached(box, begins, ends) * across
        total += count * int(inputs.sum())
        largest = max(largest, int(inputs.max()))
    return total, largest * positions.runs_a_tile * taps.runs_a_tile


def _box(sliding: Sliding, begin: int, end: int) -> Sliding:
    """The windows of the taps that a run of (row, column, channel) touches."""
    a_row = sliding.across.taps * sliding.channels
    (top, left), (bottom, right) = divmod(begin, a_row), divmod(end - 1, a_row)
    down = _taps(sliding.down, top, bottom)
    if top < bottom:
        return replace(sliding, down=down)
    first, last = left // sliding.channels, right // sliding.channels
    channels = end - begin if first == last else sliding.channels
    return replace(sliding, down=down, across=_taps(sliding.across, first, last), channels=channels)


def _taps(axis: Axis, first: int, last: int) -> Axis:
    """The axis under the taps ``first`` to ``last`` of its window."""
    return replace(axis, taps=last - first + 1, first=axis.first + first * axis.dilation)
