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

from dataclasses import dataclass
from fractions import Fraction
from typing import Any

from walking.machine import Meter, Number, OuterAccumulator, Place, Rounding
from walking.output_stationary import OutputStationary
from walking.stationary import Stationary

from accelsim.mapping.plan import Plan


@dataclass(frozen=True)
class WalkResult:
    """What the walk saw: the outputs of each group, and its counts over all workers.

    ``values`` is (m, n) for a plan of one group and (groups, m, n) for more. ``cycles`` and
    ``fed_cycles`` (in which a new wave enters the array) are those of the slowest worker.
    """

    values: list[Any]
    cycles: int
    fed_cycles: int
    passes: int
    a_buffer_reads: int
    b_buffer_reads: int
    psum_writes: int
    psum_reads: int


def walk(plan: Plan, a: Any, b: Any, round_: Rounding, *, haste: int = 0) -> WalkResult:
    """Run ``plan`` on ``a`` (m, k) and ``b`` (k, n), or on lists of ``plan.groups`` such matrices.

    ``round_`` is called with every sum that enters the accumulator format. ``haste`` starts each
    pipelined pass that many cycles before the hardware is ready, to show that it must not.
    """
    a_groups, b_groups = ([a], [b]) if plan.groups == 1 else (a, b)
    sums: dict[Place, Number] = {}
    meters = []
    for groups, rows, columns in worker_ranges(plan):
        meter = Meter()
        outer = OuterAccumulator(round_, meter)
        machine_type = OutputStationary if plan.dataflow == "output_stationary" else Stationary
        machine_type(plan, a_groups, b_groups, outer, haste).run(groups, rows, columns)
        sums.update(outer.sums)
        meters.append(meter)
    values = [
        [[sums.get((g, i, j), Fraction(0)) for j in range(plan.n)] for i in range(plan.m)]
        for g in range(plan.groups)
    ]
    return WalkResult(
        values=values[0] if plan.groups == 1 else values,
        cycles=max(meter.cycles for meter in meters),
        fed_cycles=max(meter.fed_cycles for meter in meters),
        passes=sum(meter.passes for meter in meters),
        a_buffer_reads=sum(meter.a_buffer_reads for meter in meters),
        b_buffer_reads=sum(meter.b_buffer_reads for meter in meters),
        psum_writes=sum(meter.psum_writes for meter in meters),
        psum_reads=sum(meter.psum_reads for meter in meters),
    )


def worker_ranges(plan: Plan) -> list[tuple[list[int], list[int], list[int]]]:
    """(groups, rows, columns) of each worker: deal the split dimension out one by one, keep it contiguous."""
    extent = {"m": plan.m, "n": plan.n, "groups": plan.groups}[plan.split]
    sizes = [0] * plan.workers
    for index in range(extent):
        sizes[index % plan.workers] += 1
    ranges, start = [], 0
    for size in sizes:
        own = list(range(start, start + size))
        start += size
        whole = {"groups": list(range(plan.groups)), "m": list(range(plan.m)), "n": list(range(plan.n))}
        whole[plan.split] = own
        ranges.append((whole["groups"], whole["m"], whole["n"]))
    return ranges
