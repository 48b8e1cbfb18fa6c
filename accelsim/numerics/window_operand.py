"""Windows of images as a matrix that is made only where somebody asks for its elements.

Tiles of integers are packed straight from the images (`window_packing`), which are a ninth as large as the
windows of a 3 x 3 kernel.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.window_walk import Walk


class Layout(NamedTuple):
    """Where the elements of windows lie in images that have their edges laid around them.

    ``shape``: of the images (n, h, w, c). ``around``: rows and columns of an image with its edges, and
    where the image begins among them. ``step``: elements from an image to the next. ``places``: of an
    image's windows, int32. ``runs``: where the elements of a window that lie together begin, from its place
    on, int32; ``length``: how many lie together.
    """

    shape: tuple[int, int, int, int]
    around: tuple[int, int, int, int]
    step: int
    places: NDArray[np.int32]
    runs: NDArray[np.int32]
    length: int


@dataclass(frozen=True, eq=False)
class Windows:
    """Rows ``first`` to ``last`` of the windows of ``images`` (n, h, w, c), or that matrix transposed.

    A row is a window: (tap row, tap column, channel).
    """

    images: NDArray[Any]
    walk: Walk
    first: int
    last: int
    transposed: bool = False

    @property
    def shape(self) -> tuple[int, int]:
        """(rows, columns)."""
        down, across = self.walk.taps
        rows, columns = self.last - self.first, down * across * self.images.shape[-1]
        return (columns, rows) if self.transposed else (rows, columns)

    @cached_property
    def array(self) -> NDArray[Any]:
        """The matrix itself."""
        # the compiler is loaded here, so that what only reads a workload does not pay for it
        from accelsim.numerics.window_kernels import window_rows

        rows = window_rows(self.images, self.walk)[self.first : self.last]
        return rows.T if self.transposed else rows

    def turned(self) -> Windows:
        """The matrix transposed."""
        return replace(self, transposed=not self.transposed)

    def part(self, first: int, last: int) -> Windows:
        """Windows ``first`` to ``last`` of these: rows, or columns where they are transposed.

        Images that they do not touch are left out.
        """
        rows, cols = self.walk.positions
        each, first, last = rows * cols, self.first + first, min(self.first + last, self.last)
        image = first // each
        images = self.images[image : -(-last // each)]
        return Windows(images, self.walk, first - image * each, last - image * each, self.transposed)

    def layout(self) -> Layout:
        """Where the elements lie once the images have edges."""
        return _layout(self.images.shape, tuple(self.walk))


def all_windows(images: NDArray[Any], walk: Walk) -> Windows:
    """All windows of images (n, h, w, c), as rows."""
    return Windows(images, walk, 0, len(images) * walk.positions[0] * walk.positions[1])


@lru_cache(maxsize=1024)
def _layout(shape: tuple[int, int, int, int], walk: tuple[tuple[int, int], ...]) -> Layout:
    channels = shape[3]
    (top, tall), (left, wide) = (
        _with_edges(shape[1 + axis], *(two[axis] for two in walk)) for axis in (0, 1)
    )
    positions, taps, first, stride, tap = walk
    lines, columns = (
        (np.arange(positions[axis]) * stride[axis] + first[axis] + before)
        for axis, before in ((0, top), (1, left))
    )
    places = (lines[:, None] * wide + columns).reshape(-1) * channels
    down, across = (np.arange(taps[axis]) * tap[axis] for axis in (0, 1))
    together = tap[1] == 1
    starts = down * wide if together else (down[:, None] * wide + across).reshape(-1)
    return Layout(
        shape, (tall, wide, top, left), tall * wide * channels, places.astype(np.int32),
        (starts * channels).astype(np.int32), (taps[1] if together else 1) * channels,
    )  # fmt: skip


def _with_edges(extent: int, positions: int, taps: int, first: int, stride: int, tap: int) -> tuple[int, int]:
    """What windows need before an axis, and the axis' extent with all that they need."""
    ends = first, first + (positions - 1) * stride
    reach = tap * (taps - 1)
    before = max(0, -min(*ends, ends[0] + reach))
    after = max(0, max(*ends, ends[1] + reach) - (extent - 1))
    return before, before + extent + after
