"""Tiles between DRAM and scratchpad: the cheapest traffic under the capacity.

A tile step holds an A tile (tile_m, tile_k) and a B tile (tile_k, tile_n), both twice (the next pair
loads while this one works), and an output tile (tile_m, tile_n) in the accumulator's width (one for each
piece of a split K), which stays while K advances: K is the innermost loop, so partial sums never spill
to DRAM. Pieces of K advance together, so a tile is as deep as all of them. A tile is loaded when it is
not the one held. With M, N, K cut into mt, nt, kt tiles and M the outer loop,

- an A tile is asked for once per n tile, but is still held if K is one tile: A is loaded once if
  kt = 1 or nt = 1, else nt times;
- B is asked for once per m tile, but is still held if it is a single tile: B is loaded once if mt = 1
  or nt = kt = 1, else mt times;

with N the outer loop the same with A and B, m and n exchanged.

A convolution's im2col matrix repeats elements that memory holds once, so a tile takes its share of
the tensor's distinct elements. What tiles share at their borders is neglected by im2col; a directly mapped
convolution holds and loads it for each (`accelsim.mapping.halo`). Tiles belong to all workers together and
are cut for DRAM alone: they do not cut the array's passes.

The space searched: tile_m and tile_n are powers of two times one array pass of every worker, or the
whole extent; tile_k is the whole of K, or the most whole chunks of every piece that fit; both loop
orders. Where output stationary adds up a whole piece of K before it drains, a tile of one array pass
holds its sums in the PEs, so its K may be cut at any group of lanes. Fewest DRAM bytes win, then fewest
tiles, then M outer.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from accelsim.chip import Chip
from accelsim.mapping.halo import Halos
from accelsim.mapping.partition import pieces_of_k
from accelsim.mapping.passes import ArrayShape, ceil_div
from accelsim.mapping.plan import LOOP_ORDERS, Dataflow, LoopOrder, Patches, Plan, Splits
from accelsim.mapping.row_mapping import RowMapping
from accelsim.mapping.scratchpad import dram_bytes, half_capacity_bytes
from accelsim.operations import Gemm


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


def plan_loads(plan: Plan) -> tuple[int | Fraction, int]:
    """How often (A, B) cross from DRAM by a plan, in whole; 0 for an empty product.

    A row-stationary array reads the rows that two strips of an image share twice, and a directly mapped
    convolution the inputs that two tiles share, so A may cross a fraction more often.
    """
    if not plan.m * plan.k * plan.n * plan.groups:
        return 0, 0
    if plan.by_rows is not None:
        return plan.by_rows.loads
    halos = halos_of(plan.patches, plan.m, plan.k, plan.splits, plan.chunk)
    tile = Tile(plan.tile_m, plan.tile_n, plan.tile_k, plan.loop_order)
    return loads_with_halos(plan.m, plan.k, plan.n, tile, halos)


def loads_with_halos(m: int, k: int, n: int, tile: Tile, halos: Halos | None) -> tuple[int | Fraction, int]:
    """`operand_loads`, where tiles of A hold ``halos`` too."""
    a_loads, b_loads = operand_loads(m, k, n, tile)
    return (a_loads * halos.crossings(tile.m, tile.k) if halos else a_loads), b_loads


def halos_of(patches: Patches | None, m: int, k: int, splits: Splits, chunk: int) -> Halos | None:
    """The halos of a directly mapped convolution's tiles; None of a product by im2col."""
    if patches is None:
        return None
    piece, _ = pieces_of_k(k, chunk, splits.k)
    return Halos(patches.sliding, m, k, (splits.m, ceil_div(m, splits.m)), (splits.k, piece))


def _outer_and_inner_loads(outer_tiles: int, inner_tiles: int, k_tiles: int) -> tuple[int, int]:
    """Loads of the operand that follows the outer loop, and of the other."""
    of_outer = 1 if k_tiles == 1 else inner_tiles
    of_inner = 1 if inner_tiles == k_tiles == 1 else outer_tiles
    return of_outer, of_inner


def pass_extents(dataflow: Dataflow, splits: Splits, rows: int, output_cols: int) -> tuple[int, int]:
    """(m, n) of the least tile that gives every worker one array pass.

    The streamed dimension of a stationary dataflow counts as ``rows`` long: as long as the next load.
    """
    m, n = (output_cols, rows) if dataflow == "input_stationary" else (rows, output_cols)
    return m * splits.m, n * splits.n


def concurrent_groups(gemm: Gemm, splits: Splits) -> int:
    """Groups that are on the chip at the same time."""
    return min(gemm.groups, splits.groups)


class Room:
    """The tiles that one way to run a GEMM leaves: how deep each may be.

    capacity >= 2 tile_k (tile_m A / (groups m k) + tile_n B / (groups k n)) + pieces of K times tile_m tile_n
    sums, in bits, where A and B are the operands' bits in memory. All is multiplied by groups m k n to stay
    in integers. A tile of a directly mapped convolution that is not all of A also has to fit with its halo.
    """

    def __init__(
        self,
        gemm: Gemm,
        chip: Chip,
        dataflow: Dataflow,
        splits: Splits,
        array: ArrayShape,
        sum_bits: int,
        patches: Patches | None = None,
    ) -> None:
        self.halos = halos_of(patches, gemm.m, gemm.k, splits, array.chunk)
        self.gemm, self.dram_bytes = gemm, (dram_bytes(gemm.a, chip), dram_bytes(gemm.b, chip))
        self.scale = gemm.groups * gemm.m * gemm.k * gemm.n
        self.capacity_bits = 8 * half_capacity_bytes(chip) // concurrent_groups(gemm, splits)
        self.bits_a_result = sum_bits * splits.k
        self.a_bits_a_row = 2 * gemm.a.elements * gemm.a.bits * gemm.n
        self.b_bits_a_column = 2 * gemm.b.elements * gemm.b.bits * gemm.m
        self.chunks = array.chunk * splits.k
        self.one_pass = pass_extents(dataflow, splits, array.rows, array.output_cols)
        stays = dataflow == "output_stationary" and self.chunks >= gemm.k
        self.finest = array.lanes * splits.k if stays else self.chunks

    def step(self, tile_m: int, tile_n: int) -> int:
        """What tile_k is a multiple of: whole chunks, or groups of lanes of sums that stay in the PEs."""
        within_a_pass = tile_m <= self.one_pass[0] and tile_n <= self.one_pass[1]
        return self.finest if within_a_pass else self.chunks

    def depth(self, tile_m: int, tile_n: int) -> int:
        """The largest tile_k that fits: the whole of K or whole steps; 0 if none does."""
        room = self.scale * (self.capacity_bits - tile_m * tile_n * self.bits_a_result)
        depth = room // (tile_m * self.a_bits_a_row + tile_n * self.b_bits_a_column)
        step = self.step(tile_m, tile_n)
        steps = ceil_div(self.gemm.k, step) if depth >= self.gemm.k else max(depth // step, 0)
        if self.halos is not None and steps:
            steps = self._steps_with_halo(self.halos, tile_m, tile_n, step, steps)
        return min(steps * step, self.gemm.k)

    def _steps_with_halo(self, halos: Halos, tile_m: int, tile_n: int, step: int, most: int) -> int:
        """The most steps of K whose tile fits with what it shares with its neighbours."""
        low, high = 0, most
        while low < high:
            steps = (low + high + 1) // 2 if low or high < most else high
            tile_k = min(steps * step, self.gemm.k)
            fits = tile_m >= self.gemm.m and tile_k >= self.gemm.k
            if not fits:
                a_bits = 2 * halos.most_inputs(tile_m, tile_k) * self.gemm.a.bits
                others = tile_n * (tile_k * self.b_bits_a_column + tile_m * self.bits_a_result * self.scale)
                fits = a_bits * self.scale + others <= self.capacity_bits * self.scale
            low, high = (steps, high) if fits else (low, steps - 1)
        return low


def choose_tile(room: Room) -> Tile | None:
    """The tile of least DRAM traffic, or None if not even the smallest fits."""
    gemm = room.gemm
    everything = Tile(gemm.m, gemm.n, gemm.k, "m_outer")
    if not gemm.macs or room.depth(gemm.m, gemm.n) == gemm.k:
        return everything  # one tile loads each operand once
    unit_m, unit_n = room.one_pass
    tiles = [
        Tile(tile_m, tile_n, tile_k, loop_order)
        for tile_m in _extents(unit_m, gemm.m)
        for tile_n in _extents(unit_n, gemm.n)
        if (tile_k := room.depth(tile_m, tile_n))
        for loop_order in LOOP_ORDERS
    ]
    return min(tiles, key=lambda tile: _traffic(room, tile), default=None)


def tile_fits(room: Room, tile: Tile) -> bool:
    """Whether ``tile`` cuts K at whole chunks of every piece, and has room."""
    if not room.gemm.macs:
        return True
    whole_chunks = tile.k == room.gemm.k or tile.k % room.step(tile.m, tile.n) == 0
    return whole_chunks and room.depth(tile.m, tile.n) >= tile.k


def _extents(unit: int, whole: int) -> list[int]:
    """The whole, then ``unit`` times powers of two below it."""
    doublings = max(ceil_div(whole, unit) - 1, 0).bit_length()
    return [whole, *(unit << power for power in reversed(range(doublings)))]


def _traffic(room: Room, tile: Tile) -> tuple[int, int, int]:
    """What to minimise: DRAM bytes read for both operands, tiles, place of the loop order."""
    gemm, (a_bytes, b_bytes) = room.gemm, room.dram_bytes
    a_loads, b_loads = loads_with_halos(gemm.m, gemm.k, gemm.n, tile, room.halos if a_bytes else None)
    tiles = ceil_div(gemm.m, tile.m) * ceil_div(gemm.n, tile.n) * ceil_div(gemm.k, tile.k)
    return ceil_div(a_loads * a_bytes, 1) + b_loads * b_bytes, tiles, LOOP_ORDERS.index(tile.loop_order)


def first_pass_bytes(gemm: Gemm, plan: Plan, chip: Chip) -> int:
    """DRAM bytes that must arrive before every worker can start its first array pass.

    One chunk of each piece of K by one pass of every worker, of those operands that do not stay in the
    scratchpads; of a streamed operand, as many rows as the array is high.
    """
    if plan.by_rows is not None:
        return _first_row_bytes(gemm, plan.by_rows, chip)
    array = plan.rows, plan.output_cols, plan.chunk
    return first_bytes(gemm, chip, plan.dataflow, plan.splits, array)


def _first_row_bytes(gemm: Gemm, mapping: RowMapping, chip: Chip) -> int:
    """The inputs and weights of the first pass of a row-stationary array, as parts of their tensors."""
    inputs, weights = mapping.first_words()
    shape = mapping.shape
    all_inputs = shape.samples * shape.groups * shape.rows_in * shape.cols_in * shape.channels
    all_weights = shape.groups * shape.weights
    if not gemm.macs:
        return 0
    return ceil_div(inputs * dram_bytes(gemm.a, chip), all_inputs) + ceil_div(
        weights * dram_bytes(gemm.b, chip), all_weights
    )


def first_bytes(
    gemm: Gemm, chip: Chip, dataflow: Dataflow, splits: Splits, array: tuple[int, int, int]
) -> int:
    """`first_pass_bytes` on an array of (rows, output columns, products in a chunk)."""
    rows, output_cols, chunk = array
    unit_m, unit_n = pass_extents(dataflow, splits, rows, output_cols)
    depth = concurrent_groups(gemm, splits) * min(chunk * splits.k, gemm.k)
    a_part, b_part = depth * min(unit_m, gemm.m), depth * min(unit_n, gemm.n)
    return ceil_div(a_part * dram_bytes(gemm.a, chip), gemm.groups * gemm.m * gemm.k) + ceil_div(
        b_part * dram_bytes(gemm.b, chip), gemm.groups * gemm.k * gemm.n
    )
