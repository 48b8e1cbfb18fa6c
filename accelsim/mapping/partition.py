"""A GEMM over the chip's arrays: cut along M, N, the groups and K at once.

Every worker (one corelet's array) takes one contiguous piece of each dimension. Pieces of M, N and the
groups differ by at most one; pieces of K are equal numbers of whole chunks, but for the last ones (the
rule of `accelsim.numerics.accumulation`). The first pieces are the largest, so the first worker is the
slowest: no count of a larger share is smaller. What all workers do together is a product of one sum per
dimension, as each worker's counts are products of one factor per dimension.

Where a scratchpad read is multicast, the arrays go through the loops of the first one together (smaller
shares idle), so that those that need the same element of A, because they cut only N, take it in the same
cycle: as often as the one with the most blocks of columns does. The same holds for B and M.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

from accelsim.mapping.direct import pieces_of_rows, run_patches
from accelsim.mapping.merging import Link, merge_cycles
from accelsim.mapping.passes import DATAFLOWS, ArrayCounts, ArrayShape, Share, ceil_div, tiled_cycles
from accelsim.mapping.plan import Dataflow, Patches, Plan, Splits
from accelsim.mapping.row_mapping import RowMapping
from accelsim.operations import Sliding


@cache
def partitions(workers: int, *, split_k: bool) -> tuple[Splits, ...]:
    """All ways to write ``workers`` as m x n x groups x k, the least cut K first, then groups, then N."""
    return tuple(
        Splits(workers // (n * groups * k), n, groups, k)
        for k in (_divisors(workers) if split_k else (1,))
        for groups in _divisors(workers // k)
        for n in _divisors(workers // (k * groups))
    )


def _divisors(number: int) -> Iterator[int]:
    return (each for each in range(1, number + 1) if number % each == 0)


def pieces_of_k(k: int, chunk: int, splits: int) -> tuple[int, int]:
    """(products in the first piece, pieces that hold any) of a K in whole chunks."""
    chunks = ceil_div(k, chunk)
    chunks_a_piece = max(ceil_div(chunks, splits), 1)
    return min(chunks_a_piece * chunk, k), ceil_div(chunks, chunks_a_piece)


def count_chip(
    whole: Share, dataflow: Dataflow, splits: Splits, array: ArrayShape, link: Link
) -> ArrayCounts:
    """Counts of a whole GEMM: cycles of the slowest worker, everything else summed over the workers."""
    if not whole.macs:
        return ArrayCounts()
    piece, members = pieces_of_k(whole.k, array.chunk, splits.k)
    m, n, groups = (
        ceil_div(whole.m, splits.m), ceil_div(whole.n, splits.n), ceil_div(whole.groups, splits.groups)
    )  # fmt: skip
    slowest = DATAFLOWS[dataflow](Share(m, piece, n, groups), array)
    row_unit, column_unit = _block_units(dataflow, array)
    row_blocks = _blocks(whole.m, splits.m, row_unit)
    column_blocks = _blocks(whole.n, splits.n, column_unit)
    chunks = ceil_div(whole.k, array.chunk)
    merged = whole.outputs if members > 1 else 0
    return ArrayCounts(
        fill_cycles=slowest.fill_cycles,
        compute_cycles=slowest.compute_cycles,
        stall_cycles=slowest.stall_cycles,
        drain_cycles=slowest.drain_cycles,
        passes=whole.groups * chunks * row_blocks * column_blocks,
        a_buffer_reads=whole.groups * whole.m * whole.k * column_blocks,
        b_buffer_reads=whole.groups * whole.k * whole.n * row_blocks,
        psum_writes=whole.outputs * chunks + merged,
        psum_reads=whole.outputs * (chunks - members) + merged * members,
        merge_cycles=merge_cycles(m * n * groups, members, link),
        link_sums=merged * (members - 1),
        a_shared_reads=whole.groups * whole.m * whole.k * (ceil_div(n, column_unit) if column_unit else 1),
        b_shared_reads=whole.groups * whole.k * whole.n * (ceil_div(m, row_unit) if row_unit else 1),
    )


def count_direct(
    by_elements: ArrayCounts,
    whole: Share,
    dataflow: Dataflow,
    splits: Splits,
    array: ArrayShape,
    link: Link,
    patches: Patches,
    *,
    multicast: bool,
) -> ArrayCounts:
    """The same of a directly mapped convolution (`accelsim.mapping.direct`); ``by_elements``: by im2col."""
    if not whole.macs:
        return by_elements
    piece, members = pieces_of_k(whole.k, array.chunk, splits.k)
    columns = min(whole.n, splits.n)
    if patches.sliding.positions_along == "k":
        fetched, _ = run_patches(patches.sliding, array.chunk, patches.chunks, splits.k)
        together = 1 if multicast else min(whole.m, splits.m) * columns
        return replace(by_elements, patch_reads=whole.groups * fetched * together)
    row_unit, column_unit = _block_units(dataflow, array)
    n, groups = ceil_div(whole.n, splits.n), ceil_div(whole.groups, splits.groups)
    pieces = [(each, count) for each, count in pieces_of_rows(patches, splits.m) if each.tiles]
    found = [
        (
            tiled_cycles(dataflow, Share(each.positions, piece, n, groups), array, each.tiles, each.last),
            merge_cycles(each.positions * n * groups, members, link),
        )
        for each, _ in pieces
    ]
    slowest, merging = max(found, key=lambda one: one[0].array_cycles + one[1])
    blocks = sum(count * each.blocks(row_unit) for each, count in pieces)
    fetched = sum(count * each.fetched for each, count in pieces)
    together = 1 if multicast else columns * members
    column_blocks = _blocks(whole.n, splits.n, column_unit)
    return replace(
        by_elements,
        fill_cycles=slowest.fill_cycles,
        compute_cycles=slowest.compute_cycles,
        stall_cycles=slowest.stall_cycles,
        drain_cycles=slowest.drain_cycles,
        merge_cycles=merging,
        passes=whole.groups * ceil_div(whole.k, array.chunk) * blocks * column_blocks,
        b_buffer_reads=whole.groups * whole.k * whole.n * blocks,
        b_shared_reads=whole.groups * whole.k * whole.n * max(each.blocks(row_unit) for each, _ in pieces),
        patch_reads=whole.groups * fetched * together,
    )


def least_direct(
    by_elements: ArrayCounts, whole: Share, dataflow: Dataflow, array: ArrayShape, sliding: Sliding
) -> ArrayCounts:
    """Counts that no direct mapping of a dataflow and its pieces undercuts, from those by im2col.

    Its tiles cut passes, so no array is done sooner; every input that a window meets is fetched at least
    once, and every block of rows needs B.
    """
    if not whole.macs:
        return by_elements
    row_unit, _ = _block_units(dataflow, array)
    blocks = ceil_div(whole.m, row_unit) if row_unit else 1
    down, across = sliding.down, sliding.across
    image = down.reached(0, down.positions) * across.reached(0, across.positions) * sliding.channels
    return replace(
        by_elements,
        b_buffer_reads=min(by_elements.b_buffer_reads, whole.groups * whole.k * whole.n * blocks),
        patch_reads=whole.groups * sliding.samples * image,
    )


def _block_units(dataflow: Dataflow, array: ArrayShape) -> tuple[int | None, int | None]:
    """Rows of A and columns of B that one pass takes; None: all of a streamed operand."""
    if dataflow == "output_stationary":
        return array.rows, array.output_cols
    return (array.output_cols, None) if dataflow == "input_stationary" else (None, array.output_cols)


def _blocks(extent: int, splits: int, unit: int | None) -> int:
    """Blocks of ``unit`` of all pieces of ``extent``; a piece is one block where ``unit`` is None."""
    if unit is None:
        return min(extent, splits)
    size, larger = divmod(extent, splits)
    return larger * ceil_div(size + 1, unit) + (splits - larger) * ceil_div(size, unit)


def _count_rows(mapping: RowMapping) -> ArrayCounts:
    """Counts of a row-stationary product: filters fill the array, which then waits for sums."""
    return ArrayCounts(
        passes=mapping.shape.groups * mapping.passes,
        fill_cycles=mapping.loading_cycles(),
        compute_cycles=mapping.stream_cycles(),
        stall_cycles=mapping.waiting_cycles(),
        a_buffer_reads=mapping.input_reads(),
        b_buffer_reads=mapping.weight_reads(),
        psum_writes=mapping.waiting_sums() + mapping.shape.groups * mapping.shape.outputs,
        psum_reads=mapping.waiting_sums(),
    )


def array_shape(plan: Plan) -> ArrayShape:
    """The array as ``plan`` uses it."""
    return ArrayShape(plan.rows, plan.cols, plan.simd, plan.lanes, plan.chunk, plan.pipelined)


def count_plan(plan: Plan) -> ArrayCounts:
    """Exact counts of the GEMM that ``plan`` maps, over all workers."""
    if plan.by_rows is not None:
        return _count_rows(plan.by_rows)
    whole = Share(plan.m, plan.k, plan.n, plan.groups)
    link = Link(plan.link_bytes_per_cycle, plan.hop_cycles, plan.sum_bits)
    given = whole, plan.dataflow, plan.splits, array_shape(plan), link
    by_elements = count_chip(*given)
    if plan.patches is None:
        return by_elements
    return count_direct(by_elements, *given, plan.patches, multicast=plan.multicast)
