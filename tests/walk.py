"""A naive walk of a Plan: every PE, every register, every cycle, on a tiny array.

It knows the hardware and no formula. Operands and partial sums sit in explicit registers and move
one PE per cycle; the controller starts the next load, stream or drain as soon as the registers it
needs are free, and the walk counts what it sees: cycles, passes, elements that leave the operand
buffers, sums that leave the array. Every element that moves carries the pass and the index it
belongs to, and every PE checks that the things which meet in it belong together, so a hazard is an
AssertionError and not a wrong number. It shares no code with `accelsim.mapping` or `accelsim.cost`.

Values are exact (int or Fraction) and are rounded by a callback wherever the machine rounds. A
callback that overflows may return the floats inf or nan: Python's arithmetic carries them on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction
from itertools import accumulate, chain, product
from typing import Any

from walking.chain import merge
from walking.machine import Meter, Number, OuterAccumulator, Place, Rounding
from walking.output_stationary import OutputStationary
from walking.patches import position_rows
from walking.stationary import Stationary

from accelsim.mapping.plan import Plan

Work = tuple[list[int], list[int], list[int], list[int]]
"""Groups, rows, columns and indices of K of one worker."""


@dataclass(frozen=True)
class WalkResult:
    """What the walk saw: the outputs of each group, and its counts over all workers.

    ``values`` is (m, n) for a plan of one group and (groups, m, n) for more. ``cycles`` (with those in
    which pieces of K are added up) are those of the slowest team of workers that share a result,
    ``fed_cycles`` (in which a new wave enters the array) those of the slowest worker. The n-th read of
    an element counts once for all workers in ``a_shared_reads`` and ``b_shared_reads``; so does the fetch
    of a tile's patch of a direct convolution in ``patch_shared_reads``.
    """

    values: list[Any]
    cycles: int
    fed_cycles: int
    passes: int
    a_buffer_reads: int
    b_buffer_reads: int
    psum_writes: int
    psum_reads: int
    link_sums: int
    a_shared_reads: int
    b_shared_reads: int
    patch_reads: int = 0
    patch_shared_reads: int = 0


def walk(plan: Plan, a: Any, b: Any, round_: Rounding, *, haste: int = 0) -> WalkResult:
    """Run ``plan`` on ``a`` (m, k) and ``b`` (k, n), or on lists of ``plan.groups`` such matrices.

    ``round_`` is called with every sum that enters the accumulator format. ``haste`` starts each
    pipelined pass that many cycles before the hardware is ready, to show that it must not.
    """
    a_groups, b_groups = ([a], [b]) if plan.groups == 1 else (a, b)
    sums: dict[Place, Number] = {}
    meters, cycles = [], [0]
    for team in teams(plan):
        members = []
        for groups, rows, columns, depth in team:
            members.append(OuterAccumulator(round_, Meter()))
            machine_type = OutputStationary if plan.dataflow == "output_stationary" else Stationary
            machine_type(plan, a_groups, b_groups, members[-1], haste).run(groups, rows, columns, depth)
        team_meters = [each.meter for each in members]
        if members:
            results, merge_cycles = merge(plan, members, round_)
            sums.update(results)
            cycles.append(max(meter.cycles for meter in team_meters) + merge_cycles)
        meters += team_meters
    values = [
        [[sums.get((g, i, j), Fraction(0)) for j in range(plan.n)] for i in range(plan.m)]
        for g in range(plan.groups)
    ]
    return WalkResult(
        values=values[0] if plan.groups == 1 else values,
        cycles=max(cycles),
        fed_cycles=max((meter.fed_cycles for meter in meters), default=0),
        passes=sum(meter.passes for meter in meters),
        a_buffer_reads=sum(meter.a_buffer_reads for meter in meters),
        b_buffer_reads=sum(meter.b_buffer_reads for meter in meters),
        psum_writes=sum(meter.psum_writes for meter in meters),
        psum_reads=sum(meter.psum_reads for meter in meters),
        link_sums=sum(meter.link_sums for meter in meters),
        a_shared_reads=coinciding(meter.a_elements for meter in meters),
        b_shared_reads=coinciding(meter.b_elements for meter in meters),
        patch_reads=sum(meter.fetched.total() for meter in meters),
        patch_shared_reads=coinciding(meter.fetched for meter in meters),
    )


def coinciding(reads: Iterable[Counter[Any]]) -> int:
    """Reads of all workers if the n-th read of an element serves everyone who reads it n times."""
    most: Counter[Any] = Counter()
    for own in reads:
        most |= own
    return most.total()


def teams(plan: Plan) -> list[list[Work]]:
    """The workers that share results, each with its groups, rows, columns and piece of K.

    Groups, rows and columns are dealt out one by one and kept contiguous; so are the chunks of K, but each
    worker takes as many as the first before the next gets any. A worker without work does not take part.
    """
    dealt = [
        hand_out(range(plan.groups), plan.group_splits),
        rows_by_worker(plan),
        hand_out(range(plan.n), plan.n_splits),
    ]
    chunks = [list(range(plan.k))[at : at + plan.chunk] for at in range(0, plan.k, plan.chunk)]
    most = max(len(hand_out(range(len(chunks)), plan.k_splits)[0]), 1)
    depths = [list(chain(*chunks[at : at + most])) for at in range(0, len(chunks), most)]
    return [
        [(groups, rows, columns, depth) for depth in depths if groups and rows and columns]
        for groups, rows, columns in product(*dealt)
    ]


def rows_by_worker(plan: Plan) -> list[list[int]]:
    """Rows of A of each piece of M: of a direct convolution over positions, whole rows of an image."""
    if plan.patches is None or plan.patches.chunks:
        return hand_out(range(plan.m), plan.m_splits)
    rows = position_rows(plan)
    dealt = hand_out(range(len(rows)), plan.m_splits)
    return [[position for row in piece for position in rows[row]] for piece in dealt]


def hand_out(items: range, workers: int) -> list[list[int]]:
    """Contiguous runs of ``items``, as long as dealing them out one by one makes them."""
    sizes = [0] * workers
    for index in items:
        sizes[index % workers] += 1
    starts = accumulate(sizes, initial=0)
    return [list(items[start : start + size]) for start, size in zip(starts, sizes, strict=False)]
