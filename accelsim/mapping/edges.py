"""Bytes through the operand buffers at the arrays' edges, and over the links between arrays."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.mapping.passes import ArrayCounts, ceil_div
from accelsim.operations import Gemm


@dataclass(frozen=True)
class EdgeBytes:
    """Bytes of A in, of B in, of sums out and back, and of sums from array to array."""

    a: int
    b: int
    psums: int
    link: int


def edge_bytes(gemm: Gemm, counts: ArrayCounts, sum_bits: int) -> EdgeBytes:
    """What crosses the arrays' edges, each rounded up to whole bytes per GEMM.

    Operand elements have the bits they have in memory, sums ``sum_bits``.
    """
    psums = counts.psum_writes + counts.psum_reads
    return EdgeBytes(
        ceil_div(counts.a_buffer_reads * gemm.a.bits, 8),
        ceil_div(counts.b_buffer_reads * gemm.b.bits, 8),
        ceil_div(psums * sum_bits, 8),
        ceil_div(counts.link_sums * sum_bits, 8),
    )
