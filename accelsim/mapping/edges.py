"""Bytes through the operand buffers at the arrays' edges."""

from __future__ import annotations

from accelsim.mapping.passes import ArrayCounts, ceil_div
from accelsim.numerics.formats import number_format
from accelsim.operations import Gemm


def edge_bytes(gemm: Gemm, counts: ArrayCounts, accumulator: str) -> tuple[int, int, int]:
    """Bytes of A in, of B in, and of sums out and back, each rounded up to whole bytes per GEMM.

    Operand elements have the bits they have in memory, sums those of the format ``accumulator``.
    """
    psums = counts.psum_writes + counts.psum_reads
    return (
        ceil_div(counts.a_buffer_reads * gemm.a.bits, 8),
        ceil_div(counts.b_buffer_reads * gemm.b.bits, 8),
        ceil_div(psums * number_format(accumulator).bits, 8),
    )
