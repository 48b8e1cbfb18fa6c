"""Where the windows of an image look; apart from the kernels, which only a run loads."""

from __future__ import annotations

from typing import NamedTuple


class Walk(NamedTuple):
    """Window i of an axis looks at ``first + i * stride + direction * j`` for its taps j.

    ``positions``, ``taps``, ``first``: (down, across); ``direction``: 1, or -1 where the taps are walked
    backwards. Kernels take it as a plain tuple, whose type Numba finds much faster than that of a named one.
    """

    positions: tuple[int, int]
    taps: tuple[int, int]
    first: tuple[int, int]
    stride: int
    direction: int
