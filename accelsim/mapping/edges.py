"""Bytes through the operand buffers at the arrays' edges, and over the links between arrays."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.mapping.passes import ArrayCounts, ceil_div
from accelsim.mapping.row_mapping import RowMapping
from accelsim.operations import Gemm


@dataclass(frozen=True)
class EdgeBytes:
    """Bytes of A in, of B in, of sums out and back, and of sums from array to array.

    ``a_read`` and ``b_read`` are what the scratchpads give for ``a`` and ``b``: less where reads are shared.
    ``waiting``: sums that a row-stationary array puts into the scratchpads and takes back, one way.
    """

    a: int
    b: int
    psums: int
    link: int
    a_read: int
    b_read: int
    waiting: int = 0


def row_edge_bytes(mapping: RowMapping) -> EdgeBytes:
    """What moves in a row-stationary array: sums from PE to PE, operands from the scratchpad, sums both ways.

    There are no operand buffers: what is read reaches the PEs on a bus that the read includes.
    """
    word_bytes = mapping.store.word_bytes
    return EdgeBytes(
        a=0,
        b=0,
        psums=mapping.passed_sums() * word_bytes,
        link=0,
        a_read=mapping.input_reads() * word_bytes,
        b_read=mapping.weight_reads() * word_bytes,
        waiting=mapping.waiting_sums() * word_bytes,
    )


def edge_bytes(gemm: Gemm, counts: ArrayCounts, sum_bits: int, *, multicast: bool = False) -> EdgeBytes:
    """What crosses the arrays' edges, each rounded up to whole bytes per GEMM.

    Operand elements have the bits they have in memory, sums ``sum_bits``.
    """
    a, b = ceil_div(counts.a_buffer_reads * gemm.a.bits, 8), ceil_div(counts.b_buffer_reads * gemm.b.bits, 8)
    fetched = ceil_div(counts.patch_reads * gemm.a.bits, 8)
    a_shared = ceil_div(counts.a_shared_reads * gemm.a.bits, 8) if multicast else a
    return EdgeBytes(
        a + fetched,
        b,
        ceil_div((counts.psum_writes + counts.psum_reads) * sum_bits, 8),
        ceil_div(counts.link_sums * sum_bits, 8),
        fetched or a_shared,
        ceil_div(counts.b_shared_reads * gemm.b.bits, 8) if multicast else b,
    )
