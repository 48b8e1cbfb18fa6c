"""What an array does at a time, and how a piece of work is cut into such passes."""

from __future__ import annotations

from dataclasses import dataclass

Element = tuple[int, int, int, int]  # sample, row, column and channel of an image


@dataclass(frozen=True)
class Pass:
    """What the array does at a time: one chunk of K of the outputs ``rows`` x ``columns`` of one group.

    In the stationary dataflows ``rows`` are the streamed lines and ``columns`` those of the held operand.
    """

    group: int
    rows: list[int]
    columns: list[int]
    chunk: int
    depth: list[int]
    patch: frozenset[Element] | None = None
    tile: int = 0


def pieces(items: list[int], size: int) -> list[list[int]]:
    """``items`` cut into runs of ``size``, the last one shorter."""
    return [items[start : start + size] for start in range(0, len(items), size)]
