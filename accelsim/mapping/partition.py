"""A GEMM over the chip's arrays: cut along M, N or groups, never along K.

Every worker (one corelet's array) takes one contiguous piece; pieces differ by at most one row,
column or group. So there are at most two sizes of piece, and the chip's counts are closed forms too.
"""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Literal

from accelsim.mapping.passes import DATAFLOWS, ArrayCounts, ArrayShape, Share
from accelsim.mapping.plan import Dataflow, Plan

Split = Literal["m", "n", "groups"]
SPLITS: tuple[Split, ...] = ("m", "n", "groups")

_CYCLES = ("fill_cycles", "compute_cycles", "stall_cycles", "drain_cycles")


def partition(whole: Share, split: Split, workers: int) -> tuple[tuple[int, Share], ...]:
    """``((workers, share), ...)``, the largest share first; workers with nothing to do are left out."""
    size, larger = divmod(getattr(whole, split), workers)
    pieces = ((larger, size + 1), (workers - larger, size))
    return tuple((count, replace(whole, **{split: piece})) for count, piece in pieces if count and piece)


def count_chip(
    whole: Share, dataflow: Dataflow, split: Split, workers: int, array: ArrayShape
) -> ArrayCounts:
    """Counts of a whole GEMM: cycles of the slowest worker, everything else summed over the workers.

    The slowest worker is the one with the largest share: no count of a larger share is smaller.
    """
    counts = [(count, DATAFLOWS[dataflow](share, array)) for count, share in partition(whole, split, workers)]
    if not counts:
        return ArrayCounts()
    slowest = counts[0][1]
    totals = {
        item.name: getattr(slowest, item.name)
        if item.name in _CYCLES
        else sum(count * getattr(each, item.name) for count, each in counts)
        for item in fields(ArrayCounts)
    }
    return ArrayCounts(**totals)


def array_shape(plan: Plan) -> ArrayShape:
    """The array as ``plan`` uses it."""
    return ArrayShape(plan.rows, plan.cols, plan.simd, plan.lanes, plan.chunk, plan.pipelined)


def count_plan(plan: Plan) -> ArrayCounts:
    """Exact counts of the GEMM that ``plan`` maps, over all workers."""
    whole = Share(plan.m, plan.k, plan.n, plan.groups)
    return count_chip(whole, plan.dataflow, plan.split, plan.workers, array_shape(plan))
