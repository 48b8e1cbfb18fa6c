"""What a workload file may say of a sliding window: one number for both axes, or one for each."""

from __future__ import annotations

from functools import lru_cache
from typing import Annotated

from pydantic import Field

from accelsim.network.windows import Window

Count = Annotated[int, Field(ge=1, le=1024)]
Edge = Annotated[int, Field(ge=0, le=1024)]
OneOrTwo = Count | tuple[Count, Count]
"""A number for both axes, or [down, across]."""
Padding = Edge | tuple[Edge, ...]
"""A number for all edges, [down, across], or [top, left, bottom, right] (the order of ONNX)."""


def both(value: OneOrTwo) -> tuple[int, int]:
    """(down, across)."""
    return (value, value) if isinstance(value, int) else value


def sides(padding: Padding) -> tuple[tuple[int, int], tuple[int, int]]:
    """((top, bottom), (left, right))."""
    given = (padding,) * 4 if isinstance(padding, int) else padding * (4 // len(padding))
    return (given[0], given[2]), (given[1], given[3])


def checked_padding(padding: Padding) -> Padding:
    """The padding. Raises `ValueError` for a list of another length than two or four."""
    if not isinstance(padding, int) and len(padding) not in (2, 4):
        wanted = "one number, [down, across] or [top, left, bottom, right]"
        raise ValueError(f"must be {wanted}, got a list of {len(padding)}")
    return padding


def extents_text(value: OneOrTwo) -> str:
    """An extent in a sentence: as it was given."""
    return str(value) if isinstance(value, int) else " x ".join(map(str, value))


@lru_cache(maxsize=4096)
def windows_of(
    kernel: OneOrTwo, stride: OneOrTwo, padding: Padding | None, dilation: OneOrTwo = 1
) -> tuple[Window, Window]:
    """The window along both axes; without padding said, that which keeps the extent of an odd kernel."""
    taps, steps, apart = both(kernel), both(stride), both(dilation)
    if padding is None:
        padding = (apart[0] * (taps[0] // 2), apart[1] * (taps[1] // 2))
    edges = sides(padding)
    down, across = (Window(taps[i], steps[i], *edges[i], apart[i]) for i in (0, 1))
    return down, across
