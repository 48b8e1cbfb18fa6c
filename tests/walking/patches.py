"""What a directly mapped convolution holds of its images, element by element: no sums, no closed forms."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from accelsim.mapping.plan import Patches, Plan
from accelsim.operations import Sliding
from walking.passes import Element, Pass, pieces


def element(sliding: Sliding, position: int, tap: int) -> Element | None:
    """The input that a window meets at a tap; None outside the image."""
    across, down = sliding.across, sliding.down
    sample, place = divmod(position, down.positions * across.positions)
    row, col = divmod(place, across.positions)
    ky, rest = divmod(tap, across.taps * sliding.channels)
    kx, channel = divmod(rest, sliding.channels)
    y = down.first + row * down.stride + ky * down.dilation
    x = across.first + col * across.stride + kx * across.dilation
    inside = 0 <= y < down.extent and 0 <= x < across.extent
    return (sample, y, x, channel) if inside else None


def taps(sliding: Sliding) -> range:
    """All taps and channels."""
    return range(sliding.down.taps * sliding.across.taps * sliding.channels)


def position_rows(plan: Plan) -> list[list[int]]:
    """Positions of each row of positions, image after image."""
    assert plan.patches is not None
    width = plan.patches.sliding.across.positions
    return [list(range(plan.m))[at : at + width] for at in range(0, plan.m, width)]


def tiles(
    patches: Patches, rows: list[int], depth: list[int], chunk: int
) -> Iterator[tuple[list[int], list[int], int, list[int]]]:
    """(rows of A, its K, chunks before, positions whose windows are fetched) of each tile of a piece."""
    sliding = patches.sliding
    width, height = sliding.across.positions, sliding.down.positions
    if sliding.positions_along == "m":
        strips = [rows[at : at + width] for at in range(0, len(rows), width)]
        by_image: dict[int, list[list[int]]] = {}
        for strip in strips:
            by_image.setdefault(strip[0] // (width * height), []).append(strip)
        for image in by_image.values():
            for at in range(0, len(image), patches.rows):
                for left in range(0, width, patches.cols):
                    block = image[at : at + patches.rows]
                    tile = [place for strip in block for place in strip[left : left + patches.cols]]
                    yield tile, depth, 0, tile
        return
    for before, run in enumerate(pieces(depth, chunk * patches.chunks)):
        whole_rows = {position // width for position in run}
        reached = [row * width + col for row in whole_rows for col in range(width)]
        yield rows, run, before * patches.chunks, reached


def with_patch(each: Pass, patches: Patches, first: int, before: int, reached: list[int]) -> Pass:
    """The pass with the inputs that its tile, which begins at position ``first``, has fetched."""
    sliding = patches.sliding
    met = (element(sliding, position, tap) for position in reached for tap in taps(sliding))
    patch = frozenset(one for one in met if one is not None)
    return replace(each, chunk=each.chunk + before, patch=patch, tile=first)
