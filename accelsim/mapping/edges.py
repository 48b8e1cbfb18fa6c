"""Bytes through the operand buffers at the arrays' edges, and over the links between arrays."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.mapping.passes import ArrayCounts, ceil_div
from accelsim.operations import Gemm


@dataclass(frozen=True)
class EdgeBytes:
    """Bytes of A in, of B in, of sums out and back, and of sums from array to array.

    ``a_read`` and ``b_read`` are what the scratchpads give for ``a`` and ``b``: less where reads are shared.
    """

    a: int
    b: int
    psums: int
    link: int
    a_read: int
    b_read: int


def edge_bytes(gemm: Gemm, counts: ArrayCounts, sum_bits: int, *, multicast: bool = False) -> EdgeBytes:
    """What crosses the arrays' edges, each rounded up to whole bytes per GEMM.

    Operand elements have the bits they have in memory, sums ``sum_bits``.
    """
    a, b = ceil_div(counts.a_buffer_reads * gemm.a.bits, 8), ceil_div(counts.b_buffer_reads * gemm.b.bits, 8)
    return EdgeBytes(
        a,
        b,
        ceil_div((counts.psum_writes + counts.psum_reads) * sum_bits, 8),
        ceil_div(counts.link_sums * sum_bits, 8),
        ceil_div(counts.a_shared_reads * gemm.a.bits, 8) if multicast else a,
        ceil_div(counts.b_shared_reads * gemm.b.bits, 8) if multicast else b,
    )
