"""Cycles and edge crossings of one array: closed forms, one function per dataflow.

The array has R rows and C columns of PEs. In one cycle a PE takes ``lanes`` elements of the operand
that passes through it, multiplies them with ``simd`` sets of ``lanes`` elements of the other operand
and adds each exact sum to one partial sum. Operands and partial sums move one PE per cycle, so row r
and column c work r + c cycles behind PE (0, 0): the *skew* of the last PE is R + C - 2.

**One pass** in which T waves enter at the array's edge, one per cycle:

- *stationary* (weights or inputs): one operand is shifted in from the top, R rows in R cycles
  (*fill*); the other streams through, T cycles (*compute*); the last wave reaches the last PE, at
  whose lower edge its partial sum leaves, R + C - 2 cycles later (*drain*). In all R + T + R + C - 2.
- *output stationary*: both operands stream, T cycles; the last wave needs the skew, R + C - 2; then
  the sums are shifted out below, R rows in R cycles (both *drain*). In all T + R + C - 2 + R.

**Not pipelined**, passes follow each other whole and a GEMM takes the sum of its passes.

**Pipelined**, the next pass enters right behind the last one and only two things can hold it up:

- *stationary*: each PE has a second register in which the next operand is shifted in, column c one
  cycle behind column c - 1. Column 0 frees that register as a pass p starts (start s_p) and needs R
  cycles to shift; the stream needs T_p. So s_{p+1} = s_p + max(T_p, R), with s_0 = R. After the
  last start come its T waves and the skew: R + sum over all but the last of max(T_p, R) + T_last +
  R + C - 2.
- *output stationary*: a finished sum waits in its PE's drain register until the column's lowest PE
  has finished, then the R sums of the column move down, one row per cycle. Row r's register has
  passed on the sum of row 0 at the very cycle in which row r of the next pass may put its own there
  if the *last* waves e_p of two passes enter at least R cycles apart: e_{p+1} = e_p + max(T_{p+1}, R),
  with e_0 + 1 = T_0. After the last wave come the skew and R rows of drain: T_0 + sum over all but
  the first of max(T_p, R) + R + C - 2 + R.

Both are: fill once, drain once, sum of T_p (*compute*) and sum of max(R - T_p, 0) (*stall*) over all
passes but one: the last (stationary, where all T_p are equal) or the first (output stationary).

A ragged pass takes the time of a full one (empty rows and columns compute on zeros); in output
stationary a last short chunk streams only what it has. Reads, writes and products count real
elements only. All counts are Python integers. The closed forms agree with SCALE-Sim (Samajdar et
al., ISPASS 2020, section III) pass by pass, except that its output stationary leaves out the drain.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

from accelsim.mapping.plan import Dataflow


@dataclass(frozen=True)
class ArrayShape:
    """One array in the mode of one GEMM; ``chunk`` is the products of K in one pass."""

    rows: int
    cols: int
    simd: int
    lanes: int
    chunk: int
    pipelined: bool

    @property
    def output_cols(self) -> int:
        """Independent output columns: PE columns times SIMD width."""
        return self.cols * self.simd

    @property
    def skew(self) -> int:
        """Cycles from a wave's entry at the first PE to its arrival at the last."""
        return self.rows + self.cols - 2


@dataclass(frozen=True)
class Share:
    """What one array computes of a GEMM: ``groups`` products (m, k) x (k, n), one after another."""

    m: int
    k: int
    n: int
    groups: int

    @property
    def outputs(self) -> int:
        """Distinct results."""
        return self.groups * self.m * self.n

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates."""
        return self.outputs * self.k


@dataclass(frozen=True)
class ArrayCounts:
    """Exact counts of array work; see the module's text for the four kinds of cycle.

    ``a_buffer_reads`` and ``b_buffer_reads`` are elements that enter the array's edge from the operand
    buffers, ``psum_writes`` sums that leave the array, one per output and chunk, ``psum_reads``
    sums read back to have a further chunk added (all but the first). Of a whole chip whose arrays split K
    (`accelsim.mapping.merging`), ``merge_cycles`` pass until the pieces are added up, and ``link_sums``
    sums cross from one array to the next; reads and writes of that addition are counted with the others.
    ``a_shared_reads`` and ``b_shared_reads`` are the elements that leave the scratchpads if one read serves
    all arrays that take the element in the same round of their loops (`accelsim.mapping.partition`).
    ``patch_reads`` are inputs that a directly mapped convolution fetches in place of ``a_shared_reads``.
    """

    passes: int = 0
    fill_cycles: int = 0
    compute_cycles: int = 0
    stall_cycles: int = 0
    drain_cycles: int = 0
    a_buffer_reads: int = 0
    b_buffer_reads: int = 0
    psum_writes: int = 0
    psum_reads: int = 0
    merge_cycles: int = 0
    link_sums: int = 0
    a_shared_reads: int = 0
    b_shared_reads: int = 0
    patch_reads: int = 0

    @property
    def array_cycles(self) -> int:
        """Cycles from the first operand's entry to the last result's exit."""
        pipeline = self.fill_cycles + self.compute_cycles + self.stall_cycles + self.drain_cycles
        return pipeline + self.merge_cycles


def ceil_div(dividend: int | Fraction, divisor: int) -> int:
    """``dividend / divisor`` rounded up, for a positive divisor."""
    return -(-dividend // divisor)


def weight_stationary(share: Share, array: ArrayShape) -> ArrayCounts:
    """B stays: a pass holds ``chunk`` = rows * lanes of K by C columns of N; the m rows of A stream."""
    column_blocks = ceil_div(share.n, array.output_cols)
    return _stationary(
        share,
        array,
        column_blocks,
        stream=share.m,
        a_reads=share.m * share.k * column_blocks,
        b_reads=share.k * share.n,
    )


def input_stationary(share: Share, array: ArrayShape) -> ArrayCounts:
    """A stays: a pass holds ``chunk`` = rows * lanes of K by C columns of M; the n columns of B stream."""
    column_blocks = ceil_div(share.m, array.output_cols)
    return _stationary(
        share,
        array,
        column_blocks,
        stream=share.n,
        a_reads=share.m * share.k,
        b_reads=share.k * share.n * column_blocks,
    )


def _stationary(
    share: Share, array: ArrayShape, column_blocks: int, *, stream: int, a_reads: int, b_reads: int
) -> ArrayCounts:
    passes = share.groups * ceil_div(share.k, array.chunk) * column_blocks
    cycles = pass_cycles(array, ((passes, stream),), fill=array.rows, drain=array.skew)
    return _with_accesses(cycles, share, array, a_reads, b_reads)


def output_stationary(share: Share, array: ArrayShape) -> ArrayCounts:
    """Sums stay: a pass holds R rows of M by C columns of N and streams one chunk of K, lanes per cycle."""
    row_blocks = ceil_div(share.m, array.rows)
    column_blocks = ceil_div(share.n, array.output_cols)
    blocks = share.groups * row_blocks * column_blocks
    full_chunks, rest = divmod(share.k, array.chunk)
    passes = (
        (blocks * full_chunks, ceil_div(array.chunk, array.lanes)),
        (blocks if rest else 0, ceil_div(rest, array.lanes)),
    )
    cycles = pass_cycles(array, passes, fill=0, drain=array.skew + array.rows)
    a_reads = share.m * share.k * column_blocks
    b_reads = share.k * share.n * row_blocks
    return _with_accesses(cycles, share, array, a_reads, b_reads)


def tiled_cycles(
    dataflow: Dataflow, share: Share, array: ArrayShape, tiles: Sequence[tuple[int, int]], last: int
) -> ArrayCounts:
    """Cycles of a share whose rows are walked tile by tile: ``tiles`` = ((rows, how many), ...).

    The passes of one tile follow those of the one before as those of one GEMM do; ``last`` is the rows of the
    last tile.
    """
    columns, chunks = ceil_div(share.n, array.output_cols), ceil_div(share.k, array.chunk)
    if dataflow == "weight_stationary":
        in_order = sorted(tiles, key=lambda tile: tile[0] != last)
        passes = [(share.groups * chunks * columns * count, rows) for rows, count in in_order]
        return pass_cycles(array, tuple(passes), fill=array.rows, drain=array.skew)
    if dataflow == "input_stationary":
        blocks = sum(count * ceil_div(rows, array.output_cols) for rows, count in tiles)
        passes = [(share.groups * chunks * blocks, share.n)]
        return pass_cycles(array, tuple(passes), fill=array.rows, drain=array.skew)
    blocks = share.groups * columns * sum(count * ceil_div(rows, array.rows) for rows, count in tiles)
    full_chunks, rest = divmod(share.k, array.chunk)
    passes = [
        (blocks * full_chunks, ceil_div(array.chunk, array.lanes)),
        (blocks if rest else 0, ceil_div(rest, array.lanes)),
    ]
    return pass_cycles(array, tuple(passes), fill=0, drain=array.skew + array.rows)


def pass_cycles(
    array: ArrayShape, passes: tuple[tuple[int, int], ...], *, fill: int, drain: int
) -> ArrayCounts:
    """Cycles of ``passes`` = ((how many, waves each), ...) whose ``fill`` and ``drain`` are given.

    Of the first kind is the pass that waits for no other.
    """
    kinds = [(count, waves) for count, waves in passes if count and waves]
    total = sum(count for count, _ in kinds)
    if not total:
        return ArrayCounts()
    compute = sum(count * waves for count, waves in kinds)
    if not array.pipelined:
        return ArrayCounts(total, total * fill, compute, 0, total * drain)
    waits = [(count, max(array.rows - waves, 0)) for count, waves in kinds]
    stall = sum(count * wait for count, wait in waits) - waits[0][1]
    return ArrayCounts(total, fill, compute, stall, drain)


def _with_accesses(
    cycles: ArrayCounts, share: Share, array: ArrayShape, a_reads: int, b_reads: int
) -> ArrayCounts:
    """Add what crosses the edges (``a_reads``, ``b_reads`` per group); nothing does without a pass."""
    if not cycles.passes:
        return cycles
    chunks = ceil_div(share.k, array.chunk)
    return ArrayCounts(
        cycles.passes,
        cycles.fill_cycles,
        cycles.compute_cycles,
        cycles.stall_cycles,
        cycles.drain_cycles,
        a_buffer_reads=share.groups * a_reads,
        b_buffer_reads=share.groups * b_reads,
        psum_writes=share.outputs * chunks,
        psum_reads=share.outputs * (chunks - 1),
    )


DATAFLOWS: dict[Dataflow, Callable[[Share, ArrayShape], ArrayCounts]] = {
    "weight_stationary": weight_stationary,
    "output_stationary": output_stationary,
    "input_stationary": input_stationary,
}
