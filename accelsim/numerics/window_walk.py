"""Where the windows of an image look; apart from the kernels, which only a run loads."""

from __future__ import annotations

from typing import NamedTuple


class Walk(NamedTuple):
    """Window i of an axis looks at ``first + i * stride + j * tap`` for its taps j.

    All are (down, across); ``tap`` is the step between taps, below zero where they are walked backwards.
    Kernels take it as a plain tuple, whose type Numba finds much faster than that of a named one.
    """

    positions: tuple[int, int]
    taps: tuple[int, int]
    first: tuple[int, int]
    stride: tuple[int, int]
    tap: tuple[int, int]
