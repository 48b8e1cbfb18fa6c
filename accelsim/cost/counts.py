"""The exact counts of one GEMM: cycles of the arrays and everything that crosses their edges."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from accelsim.mapping import Plan
from accelsim.mapping.edges import edge_bytes, row_edge_bytes
from accelsim.mapping.partition import count_plan
from accelsim.operations import Gemm


@dataclass(frozen=True)
class GemmCounts:
    """Counts of one GEMM on a whole chip, all integers.

    Cycles are those of the slowest worker, all else is summed over the workers; ``merge_cycles`` are those
    in which the pieces of a split K are added up, ``ring_bytes`` what passes between arrays for that. What
    each count means, and why it is what it is, stands in `accelsim.mapping.passes`. The ``_bytes`` are
    what the operand buffers pass on: elements in at the bits they have in memory, sums out and back at
    the accumulator's bits, each rounded up to whole bytes per GEMM; ``a_read_bytes`` and ``b_read_bytes``
    are what the scratchpads give for that, less where one read serves several arrays. Of a row-stationary
    array, sums move from PE to PE in place of operand buffers, and ``waiting_sum_bytes`` of them go to the
    scratchpads and come back.
    """

    macs: int
    array_passes: int
    fill_cycles: int
    compute_cycles: int
    stall_cycles: int
    drain_cycles: int
    merge_cycles: int
    a_buffer_reads: int
    b_buffer_reads: int
    psum_writes: int
    psum_reads: int
    a_buffer_bytes: int
    b_buffer_bytes: int
    psum_bytes: int
    ring_bytes: int
    a_read_bytes: int
    b_read_bytes: int
    waiting_sum_bytes: int = 0

    @property
    def array_cycles(self) -> int:
        """Cycles the GEMM keeps the arrays busy: fill + compute + stall + drain + merge."""
        pipeline = self.fill_cycles + self.compute_cycles + self.stall_cycles + self.drain_cycles
        return pipeline + self.merge_cycles

    @property
    def operand_buffer_bytes(self) -> int:
        """Bytes through the operand buffers: both operands, sums out, sums back."""
        return self.a_buffer_bytes + self.b_buffer_bytes + self.psum_bytes


@dataclass(frozen=True)
class GemmCost:
    """One GEMM with the plan it ran by and its counts."""

    gemm: Gemm
    plan: Plan
    counts: GemmCounts

    def as_record(self) -> dict[str, Any]:
        """The record's ``gemms[]`` row."""
        return {
            "m": self.gemm.m,
            "k": self.gemm.k,
            "n": self.gemm.n,
            "groups": self.gemm.groups,
            "a_format": self.gemm.a_format,
            "b_format": self.gemm.b_format,
            "dataflow": self.plan.dataflow,
            "split": self.plan.split,
            "workers": self.plan.workers,
            "lanes": self.plan.lanes,
            "chunk": self.plan.chunk,
            "passes": self.counts.array_passes,
            "array_cycles": self.counts.array_cycles,
        }


def count_gemm(gemm: Gemm, plan: Plan) -> GemmCounts:
    """Counts of ``gemm`` run by ``plan``, in closed form."""
    counts = count_plan(plan)
    if plan.by_rows is not None:
        edges = row_edge_bytes(plan.by_rows)
    else:
        edges = edge_bytes(gemm, counts, plan.sum_bits, multicast=plan.multicast)
    return GemmCounts(
        macs=gemm.macs,
        array_passes=counts.passes,
        fill_cycles=counts.fill_cycles,
        compute_cycles=counts.compute_cycles,
        stall_cycles=counts.stall_cycles,
        drain_cycles=counts.drain_cycles,
        merge_cycles=counts.merge_cycles,
        a_buffer_reads=counts.a_buffer_reads,
        b_buffer_reads=counts.b_buffer_reads,
        psum_writes=counts.psum_writes,
        psum_reads=counts.psum_reads,
        a_buffer_bytes=edges.a,
        b_buffer_bytes=edges.b,
        psum_bytes=edges.psums,
        ring_bytes=edges.link,
        a_read_bytes=edges.a_read,
        b_read_bytes=edges.b_read,
        waiting_sum_bytes=edges.waiting,
    )
