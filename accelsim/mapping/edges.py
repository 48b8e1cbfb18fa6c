"""Bytes through the operand buffers at the arrays' edges."""

from __future__ import annotations

from accelsim.mapping.passes import ArrayCounts, ceil_div
from accelsim.numerics.accumulator import accumulator_bits
from accelsim.operations import Gemm


def edge_bytes(gemm: Gemm, counts: ArrayCounts, accumulator: str) -> tuple[int, int, int]:
    """Bytes of A in, of B in, and of sums out and back, each rounded up to whole bytes per GEMM.

    Operand elements have the bits they have in memory, sums those of ``accumulator``.
    """
    sum_bits = accumulator_bits(accumulator, gemm.a_format, gemm.b_format, gemm.k)
    psums = counts.psum_writes + counts.psum_reads
    return (
        ceil_div(counts.a_buffer_reads * gemm.a.bits, 8),
        ceil_div(counts.b_buffer_reads * gemm.b.bits, 8),
        ceil_div(psums * sum_bits, 8),
    )
