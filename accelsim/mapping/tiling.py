"""Tiles between DRAM and scratchpad: the cheapest traffic under the capacity.

A tile step holds an A tile (tile_m, tile_k) and a B tile (tile_k, tile_n), both twice (the next pair
loads while this one works), and an output tile (tile_m, tile_n) in the accumulator's width, which
stays while K advances: K is the innermost loop, so partial sums never spill to DRAM. A tile is loaded
when it is not the one held. With M, N, K cut into mt, nt, kt tiles and M the outer loop,

- an A tile is asked for once per n tile, but is still held if K is one tile: A is loaded once if
  kt = 1 or nt = 1, else nt times;
- B is asked for once per m tile, but is still held if it is a single tile: B is loaded once if mt = 1
  or nt = kt = 1, else mt times;

with N the outer loop the same with A and B, m and n exchanged.

A convolution's im2col matrix repeats elements that memory holds once, so a tile takes its share of
the tensor's distinct elements (overlaps at tile borders are neglected). Tiles belong to all workers
together and are cut for DRAM alone: they do not cut the array's passes.

The space searched: tile_m and tile_n are powers of two times one array pass of every worker, or the
whole extent; tile_k is the whole of K, or the most whole chunks that fit; both loop orders. Fewest
DRAM bytes win, then fewest tiles, then M outer.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil
from typing import Literal

from accelsim.chip import Chip
from accelsim.mapping.partition import Split
from accelsim.mapping.passes import ArrayShape, ceil_div
from accelsim.mapping.plan import Dataflow, Plan
from accelsim.mapping.scratchpad import dram_bytes, half_capacity_bytes
from accelsim.numerics.accumulator import accumulator_bits
from accelsim.operations import Gemm

LoopOrder = Literal["m_outer", "n_outer"]
LOOP_ORDERS: tuple[LoopOrder, ...] = ("m_outer", "n_outer")


@dataclass(frozen=True)
class Tile:
    """Tile extents in elements and the outer loop."""

    m: int
    n: int
    k: int
    loop_order: LoopOrder


def operand_loads(m: int, k: int, n: int, tile: Tile) -> tuple[int, int]:
    """How often (A, B) cross from DRAM in whole, for a GEMM (m, k) x (k, n) with no empty dimension."""
    m_tiles, n_tiles, k_tiles = ceil_div(m, tile.m), ceil_div(n, tile.n), ceil_div(k, tile.k)
    if tile.loop_order == "m_outer":
        return _outer_and_inner_loads(m_tiles, n_tiles, k_tiles)
    b_loads, a_loads = _outer_and_inner_loads(n_tiles, m_tiles, k_tiles)
    return a_loads, b_loads


def _outer_and_inner_loads(outer_tiles: int, inner_tiles: int, k_tiles: int) -> tuple[int, int]:
    """Loads of the operand that follows the outer loop, and of the other."""
    of_outer = 1 if k_tiles == 1 else inner_tiles
    of_inner = 1 if inner_tiles == k_tiles == 1 else outer_tiles
    return of_outer, of_inner


def pass_extents(
    dataflow: Dataflow, split: Split, workers: int, rows: int, output_cols: int
) -> tuple[int, int]:
    """(m, n) of the least tile that gives every worker one array pass.

    The streamed dimension of a stationary dataflow counts as ``rows`` long: as long as the next load.
    """
    m, n = (output_cols, rows) if dataflow == "input_stationary" else (rows, output_cols)
    return (m * workers if split == "m" else m), (n * workers if split == "n" else n)


def concurrent_groups(gemm: Gemm, split: Split, workers: int) -> int:
    """Groups that are on the chip at the same time."""
    return min(gemm.groups, workers) if split == "groups" else 1


def choose_tile(gemm: Gemm, chip: Chip, dataflow: Dataflow, split: Split, array: ArrayShape) -> Tile | None:
    """The tile of least DRAM traffic, or None if not even the smallest fits."""
    if not gemm.macs:
        return Tile(gemm.m, gemm.n, gemm.k, "m_outer")
    unit_m, unit_n = pass_extents(dataflow, split, chip.workers, array.rows, array.output_cols)
    capacity_bits = 8 * half_capacity_bytes(chip) // concurrent_groups(gemm, split, chip.workers)
    tiles = [
        Tile(tile_m, tile_n, tile_k, loop_order)
        for tile_m in _extents(unit_m, gemm.m)
        for tile_n in _extents(unit_n, gemm.n)
        if (tile_k := _depth(gemm, tile_m, tile_n, array.chunk, capacity_bits, chip.array.accumulator))
        for loop_order in LOOP_ORDERS
    ]
    return min(tiles, key=lambda tile: _traffic(gemm, chip, tile), default=None)


def _extents(unit: int, whole: int) -> list[int]:
    """The whole, then ``unit`` times powers of two below it."""
    doublings = max(ceil_div(whole, unit) - 1, 0).bit_length()
    return [whole, *(unit << power for power in reversed(range(doublings)))]


def _depth(gemm: Gemm, tile_m: int, tile_n: int, chunk: int, capacity_bits: int, accumulator: str) -> int:
    """The largest tile_k that fits: the whole of K or whole chunks; 0 if none does.

    Capacity >= 2 tile_k (tile_m A / (groups m k) + tile_n B / (groups k n)) + tile_m tile_n bits, where A
    and B are the operands' bits in memory; multiplied by groups m k n to stay in integers.
    """
    scale = gemm.groups * gemm.m * gemm.k * gemm.n
    sum_bits = accumulator_bits(accumulator, gemm.a_format, gemm.b_format, gemm.k)
    room = scale * (capacity_bits - tile_m * tile_n * sum_bits)
    a_bits, b_bits = gemm.a.elements * gemm.a.bits, gemm.b.elements * gemm.b.bits
    depth = room // (2 * (tile_m * a_bits * gemm.n + tile_n * b_bits * gemm.m))
    return gemm.k if depth >= gemm.k else max(depth // chunk * chunk, 0)


def _traffic(gemm: Gemm, chip: Chip, tile: Tile) -> tuple[int, int, int]:
    """What to minimise: DRAM bytes read for both operands, tiles, place of the loop order."""
    a_loads, b_loads = operand_loads(gemm.m, gemm.k, gemm.n, tile)
    read_bytes = a_loads * dram_bytes(gemm.a, chip) + b_loads * dram_bytes(gemm.b, chip)
    tiles = ceil_div(gemm.m, tile.m) * ceil_div(gemm.n, tile.n) * ceil_div(gemm.k, tile.k)
    return read_bytes, tiles, LOOP_ORDERS.index(tile.loop_order)


def first_pass_bytes(gemm: Gemm, plan: Plan, chip: Chip) -> int:
    """DRAM bytes that must arrive before every worker can start its first array pass.

    One chunk of K by one pass of every worker, of those operands that do not stay in the scratchpads;
    of a streamed operand, as many rows as the array is high.
    """
    unit_m, unit_n = pass_extents(plan.dataflow, plan.split, plan.workers, plan.rows, plan.output_cols)
    tile_k = min(plan.chunk, gemm.k)
    groups = concurrent_groups(gemm, plan.split, plan.workers)
    a_share = Fraction(groups * min(unit_m, gemm.m) * tile_k, gemm.groups * gemm.m * gemm.k)
    b_share = Fraction(groups * min(unit_n, gemm.n) * tile_k, gemm.groups * gemm.n * gemm.k)
    return ceil(a_share * dram_bytes(gemm.a, chip)) + ceil(b_share * dram_bytes(gemm.b, chip))
