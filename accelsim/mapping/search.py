"""The choice of a plan: the best of a space of mappings, by one of three objectives.

The space, for one GEMM on one chip:

- every dataflow the chip allows, but row_stationary, whose products have a space of their own
  (`accelsim.mapping.row_stationary`): what can run so does, unless a pin says otherwise;
- every way to write its number of arrays as a product of pieces of M, N, the groups and K (K only where
  the chip has a ring, on which the pieces meet);
- for a convolution, windows out of scratchpads (im2col) or out of a window buffer with every tile of
  `accelsim.mapping.direct`, as the chip's ``array.convolution`` allows: ``direct`` is what runs wherever two
  patches fit, ``either`` leaves both;
- every tile of `accelsim.mapping.tiling` with both loop orders, K innermost;
- how many products a pass adds up before they leave the array follows: stationary, what the rows hold;
  output stationary, the chip's ``output_chunk``, else all of a piece of K.

The least cost wins: ``latency`` is cycles, then energy; ``energy`` is energy, then cycles; ``edp`` is
their product, then cycles. Then the fewest array cycles win, then the order of the chip file's
dataflows, then the least cut K, groups, N. Costs are those of `accelsim.mapping.appraisal`.

The search is exact. A choice of dataflow and pieces is first appraised with each operand loaded once,
which no tile beats, and all direct mappings of one together with each input fetched once; choices are
opened in that order, and the first whose bound is not below the best cost found ends the search. All counts
are closed forms in integers, so the plan is the same everywhere.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from fractions import Fraction
from heapq import heappop, heappush
from typing import Literal

from accelsim.chip import Chip, Mode
from accelsim.errors import InputError
from accelsim.mapping.appraisal import Appraisal, Appraiser
from accelsim.mapping.direct import candidates
from accelsim.mapping.merging import Link
from accelsim.mapping.modes import mode_of
from accelsim.mapping.partition import count_chip, count_direct, least_direct, partitions
from accelsim.mapping.passes import ArrayCounts, ArrayShape, Share, ceil_div
from accelsim.mapping.plan import Convolution, Dataflow, Patches, Plan, Splits
from accelsim.mapping.row_mapping import RowChoice
from accelsim.mapping.row_stationary import plan_rows, runs_by_rows
from accelsim.mapping.tiling import (
    Room,
    Tile,
    choose_tile,
    first_bytes,
    halos_of,
    loads_with_halos,
    tile_fits,
)
from accelsim.mapping.whole import whole_plan
from accelsim.numerics.accumulator import accumulator_bits
from accelsim.operations import Gemm

Objective = Literal["latency", "energy", "edp"]
_MOST_PATCHES = 1 << 12
"""More than the direct mappings of one dataflow and its pieces."""

OBJECTIVES: tuple[Objective, ...] = ("latency", "energy", "edp")

Cost = tuple[int, int, int, int]
"""What to minimise: the objective, what breaks its ties, array cycles, place in the space."""


@dataclass(frozen=True)
class Choice:
    """A point of the space but for its tile, with its counts."""

    dataflow: Dataflow
    splits: Splits
    array: ArrayShape
    counts: ArrayCounts
    first_bytes: int
    by_elements: ArrayCounts
    """What it would count by im2col."""
    patches: Patches | None = None
    stands_for_all: bool = False
    """Whether it stands for all direct mappings of its dataflow and pieces: none counts less."""


@dataclass(frozen=True)
class Restriction:
    """What is left of the space: only this dataflow, these pieces, this tile, these rows (where not None)."""

    dataflow: Dataflow | None = None
    splits: Splits | None = None
    tile: Tile | None = None
    rows: RowChoice | None = None
    convolution: Convolution | None = None
    patch: tuple[int, int, int] | None = None
    """Rows, columns and chunks of a tile of positions."""

    @property
    def allows_rows(self) -> bool:
        """Whether a row-stationary mapping is left: it has neither pieces nor tiles."""
        return self.dataflow in (None, "row_stationary") and self.splits is None and self.tile is None


ANYTHING = Restriction()


def plan_gemm(gemm: Gemm, chip: Chip, objective: Objective = "latency", only: Restriction = ANYTHING) -> Plan:
    """How ``gemm`` runs best on ``chip``, in the space that ``only`` leaves; a pure function of the four.

    Raises InputError if no mode of the array takes the operands' formats, or if not even the
    smallest tile (or not the only one allowed) fits into half of the scratchpads.
    """
    mode = mode_of(gemm, chip)
    sum_bits = accumulator_bits(chip.array.accumulator, gemm.a_format, gemm.b_format, gemm.k)
    if only.allows_rows and runs_by_rows(gemm, chip):
        return plan_rows(gemm, chip, mode, sum_bits, only.rows)
    best = _best(gemm, chip, Appraiser(gemm, chip, mode, sum_bits), objective, only)
    if best is None:
        raise _no_tile(gemm, chip)
    return _plan(gemm, chip, mode, *best, sum_bits)


def _best(
    gemm: Gemm, chip: Chip, appraiser: Appraiser, objective: Objective, only: Restriction
) -> tuple[Choice, Tile] | None:
    """The cheapest choice that has a tile, by bounds."""
    open_choices: list[tuple[Cost, Choice]] = []

    def add(place: int, choice: Choice) -> None:
        bound = appraiser.appraise(choice.counts, (1, 1), choice.first_bytes)
        heappush(open_choices, (_cost(bound, objective, place), choice))

    for index, choice in enumerate(_choices(gemm, chip, appraiser, only)):
        add(index * _MOST_PATCHES, choice)
    best: tuple[Cost, Choice, Tile] | None = None
    while open_choices:
        bound_cost, choice = heappop(open_choices)
        if best is not None and bound_cost >= best[0]:
            break
        if choice.stands_for_all:
            for index, patches in enumerate(candidates(gemm, chip, choice.array.chunk, choice.splits.k), 1):
                add(bound_cost[-1] + index, _direct(gemm, chip, choice, patches, appraiser.sum_bits))
            continue
        tile = _tile(gemm, chip, choice, appraiser.sum_bits, only.tile)
        if tile is None:
            continue
        exact = appraiser.appraise(choice.counts, _loads(gemm, choice, tile), choice.first_bytes)
        cost = _cost(exact, objective, bound_cost[-1])
        if best is None or cost < best[0]:
            best = cost, choice, tile
    return best and best[1:]


def _direct(gemm: Gemm, chip: Chip, choice: Choice, patches: Patches, sum_bits: int) -> Choice:
    """The same dataflow and pieces by a direct mapping."""
    given = choice.by_elements, Share(gemm.m, gemm.k, gemm.n, gemm.groups), choice.dataflow, choice.splits
    link, multicast = link_of(chip, sum_bits), chip.scratchpad.multicast
    counts = count_direct(*given, choice.array, link, patches, multicast=multicast)
    return replace(choice, counts=counts, patches=patches, stands_for_all=False)


def _tile(gemm: Gemm, chip: Chip, choice: Choice, sum_bits: int, wanted: Tile | None) -> Tile | None:
    room = Room(gemm, chip, choice.dataflow, choice.splits, choice.array, sum_bits, choice.patches)
    if wanted is None:
        return choose_tile(room)
    return wanted if tile_fits(room, wanted) else None


def _cost(found: Appraisal, objective: Objective, place: int) -> Cost:
    cycles, energy_aj = found.total_cycles, found.energy_aj
    if objective == "latency":
        return cycles, energy_aj, found.array_cycles, place
    if objective == "energy":
        return energy_aj, cycles, found.array_cycles, place
    return cycles * energy_aj, cycles, found.array_cycles, place


def _loads(gemm: Gemm, choice: Choice, tile: Tile) -> tuple[int | Fraction, int]:
    halos = halos_of(choice.patches, gemm.m, gemm.k, choice.splits, choice.array.chunk)
    return loads_with_halos(gemm.m, gemm.k, gemm.n, tile, halos) if gemm.macs else (0, 0)


def _choices(gemm: Gemm, chip: Chip, appraiser: Appraiser, only: Restriction) -> Iterator[Choice]:
    whole = Share(gemm.m, gemm.k, gemm.n, gemm.groups)
    link = link_of(chip, appraiser.sum_bits)
    ways = (only.splits,) if only.splits else partitions(chip.workers, split_k=chip.ring is not None)
    dataflows = (only.dataflow,) if only.dataflow else chip.array.dataflows
    either = chip.array.convolution == "either" and only.convolution is None
    for dataflow in (name for name in dataflows if name != "row_stationary"):
        for splits in ways:
            array = array_of(chip, dataflow, appraiser.lanes, gemm.k, splits)
            shape = array.rows, array.output_cols, array.chunk
            first = first_bytes(gemm, chip, dataflow, splits, shape) if gemm.macs else 0
            by_elements = count_chip(whole, dataflow, splits, array, link)
            choice = Choice(dataflow, splits, array, by_elements, first, by_elements)
            if either:
                yield choice
                if gemm.sliding is not None and gemm.sliding.repeats:
                    least = least_direct(by_elements, whole, dataflow, array, gemm.sliding)
                    yield replace(choice, counts=least, stands_for_all=True)
                continue
            allowed = _allowed_patches(gemm, chip, array, splits, only)
            if allowed is None:
                yield choice
            for patches in allowed or ():
                yield _direct(gemm, chip, choice, patches, appraiser.sum_bits)


def _allowed_patches(
    gemm: Gemm, chip: Chip, array: ArrayShape, splits: Splits, only: Restriction
) -> list[Patches] | None:
    """The direct mappings of a dataflow and its pieces that are left; None: the product runs by im2col."""
    if chip.array.convolution == "im2col" or only.convolution == "im2col":
        return None
    found = list(candidates(gemm, chip, array.chunk, splits.k))
    if only.patch is not None:
        # a run longer than the K of a shorter last batch is cut to it
        most = max((each.chunks for each in found), default=0)
        covers = most * array.chunk * splits.k >= gemm.k
        chunks = min(only.patch[2], most) if covers else only.patch[2]
        found = [each for each in found if (each.rows, each.cols, each.chunks) == (*only.patch[:2], chunks)]
    return found if found or only.convolution == "direct" else None


def link_of(chip: Chip, sum_bits: int) -> Link:
    """The ring between arrays as partial sums see it; 0 bytes a cycle where there is none."""
    if chip.ring is None:
        return Link(0, 1, sum_bits)
    return Link(chip.ring.bandwidth_bytes_per_cycle, chip.ring.hop_cycles, sum_bits)


def array_of(chip: Chip, dataflow: Dataflow, lanes: int, k: int, splits: Splits) -> ArrayShape:
    """The array and the products of K that one pass adds up before they leave it.

    Stationary: the rows lie along K, so a pass covers rows * lanes. Output stationary: the chip's
    ``output_chunk``, which is whole groups of lanes, or all of a piece of K if that is less or unset.
    """
    array = chip.array
    chunk = array.rows * lanes
    if dataflow == "output_stationary":
        whole = max(k, 1)
        piece = whole if splits.k == 1 else ceil_div(ceil_div(whole, lanes), splits.k) * lanes
        chunk = min(array.output_chunk or piece, whole)
    return ArrayShape(array.rows, array.cols, array.simd, lanes, chunk, array.pipelined)


def _plan(gemm: Gemm, chip: Chip, mode: Mode, choice: Choice, tile: Tile, sum_bits: int) -> Plan:
    splits, link = choice.splits, link_of(chip, sum_bits)
    return replace(
        whole_plan(gemm, chip, mode, choice.dataflow, sum_bits),
        chunk=choice.array.chunk,
        workers=chip.workers,
        m_splits=splits.m,
        n_splits=splits.n,
        group_splits=splits.groups,
        k_splits=splits.k,
        tile_m=tile.m,
        tile_n=tile.n,
        tile_k=tile.k,
        loop_order=tile.loop_order,
        link_bytes_per_cycle=link.bytes_per_cycle,
        hop_cycles=link.hop_cycles,
        multicast=chip.scratchpad.multicast,
        patches=choice.patches,
    )


def _no_tile(gemm: Gemm, chip: Chip) -> InputError:
    return InputError(
        f"layer '{gemm.layer}' ({gemm.phase}): the smallest tile of its {gemm.m} x {gemm.k} x {gemm.n} GEMM "
        f"does not fit into half of the scratchpads of chip '{chip.name}' ({chip.cores} x "
        f"{chip.scratchpad.capacity_kib} KiB); raise scratchpad.capacity_kib or lower array.output_chunk"
    )
