"""The choice of a plan: every dataflow the chip allows times every way to cut the GEMM.

The arrays compute while the scratchpads' ports feed them, so a choice takes the longer of its array
cycles and the cycles in which the ports pass on what enters the arrays' edges, the result, and each
tensor's one way from or to DRAM (further loads come with the tile, which is chosen later). The
shortest wins, then fewest array cycles, then fewest bytes through the operand buffers, then the order
in which the chip file lists its dataflows, then the split m, n, groups. All counts are closed forms,
so the search is exact, takes no time to speak of and gives the same plan on every machine.
"""

from __future__ import annotations

from accelsim.chip import Chip, Mode
from accelsim.errors import InputError
from accelsim.mapping.attojoules import attojoules
from accelsim.mapping.edges import edge_bytes
from accelsim.mapping.partition import SPLITS, Split, count_chip
from accelsim.mapping.passes import ArrayCounts, ArrayShape, Share, ceil_div
from accelsim.mapping.plan import Dataflow, Plan
from accelsim.mapping.scratchpad import dram_bytes
from accelsim.mapping.tiling import Tile, choose_tile
from accelsim.operations import Gemm

Choice = tuple[Dataflow, Split, ArrayShape]


def plan_gemm(gemm: Gemm, chip: Chip) -> Plan:
    """How ``gemm`` runs on ``chip``; a pure function of the two.

    Raises InputError if no mode of the array takes the operands' formats, or if not even the
    smallest tile fits into half of the scratchpads.
    """
    mode = chip.array.mode_for(gemm.a_format, gemm.b_format)
    if mode is None:
        raise _no_mode(gemm, chip)
    for dataflow, split, array in _ranked(gemm, chip, mode.lanes):
        tile = choose_tile(gemm, chip, dataflow, split, array)
        if tile is not None:
            return _plan(gemm, chip, mode, (dataflow, split, array), tile)
    raise InputError(
        f"layer '{gemm.layer}' ({gemm.phase}): the smallest tile of its {gemm.m} x {gemm.k} x {gemm.n} GEMM "
        f"does not fit into half of the scratchpads of chip '{chip.name}' ({chip.cores} x "
        f"{chip.scratchpad.capacity_kib} KiB); raise scratchpad.capacity_kib or lower array.output_chunk"
    )


def _ranked(gemm: Gemm, chip: Chip, lanes: int) -> list[Choice]:
    """All choices, the best first (the sort is stable, so ties keep the order of the loops)."""
    whole = Share(gemm.m, gemm.k, gemm.n, gemm.groups)
    ranked: list[tuple[tuple[int, int, int], Choice]] = []
    for dataflow in chip.array.dataflows:
        array = _array(gemm, chip, dataflow, lanes)
        for split in SPLITS:
            counts = count_chip(whole, dataflow, split, chip.workers, array)
            ranked.append((_merit(gemm, chip, counts), (dataflow, split, array)))
    return [choice for _, choice in sorted(ranked, key=lambda item: item[0])]


def _merit(gemm: Gemm, chip: Chip, counts: ArrayCounts) -> tuple[int, int, int]:
    """What to minimise: cycles of array or ports, array cycles, operand-buffer bytes."""
    a_bytes, b_bytes, psum_bytes = edge_bytes(gemm, counts, chip.array.accumulator)
    to_and_from_dram = sum(dram_bytes(tensor, chip) for tensor in (gemm.a, gemm.b, gemm.out))
    port_bytes = a_bytes + b_bytes + gemm.out.size_bytes + to_and_from_dram
    port_cycles = ceil_div(port_bytes, chip.scratchpad.bandwidth_bytes_per_cycle * chip.cores)
    array_cycles = counts.array_cycles
    return max(array_cycles, port_cycles), array_cycles, a_bytes + b_bytes + psum_bytes


def _array(gemm: Gemm, chip: Chip, dataflow: Dataflow, lanes: int) -> ArrayShape:
    """The array and the products of K that one pass adds up before they leave it.

    Stationary: the rows lie along K, so a pass covers rows * lanes. Output stationary: the chip's
    ``output_chunk``, which is whole groups of lanes, or the whole of K if that is less or unset.
    """
    array = chip.array
    chunk = array.rows * lanes
    if dataflow == "output_stationary":
        whole = max(gemm.k, 1)
        chunk = min(array.output_chunk or whole, whole)
    return ArrayShape(array.rows, array.cols, array.simd, lanes, chunk, array.pipelined)


def _plan(gemm: Gemm, chip: Chip, mode: Mode, choice: Choice, tile: Tile) -> Plan:
    dataflow, split, array = choice
    return Plan(
        m=gemm.m,
        k=gemm.k,
        n=gemm.n,
        groups=gemm.groups,
        dataflow=dataflow,
        rows=array.rows,
        cols=array.cols,
        simd=array.simd,
        lanes=array.lanes,
        chunk=array.chunk,
        accumulator=chip.array.accumulator,
        overflow=chip.array.overflow,
        pipelined=array.pipelined,
        workers=chip.workers,
        split=split,
        tile_m=tile.m,
        tile_n=tile.n,
        tile_k=tile.k,
        loop_order=tile.loop_order,
        energy_aj_per_mac=attojoules(mode.energy_pj_per_mac.value),
        rounding=chip.array.rounding,
        alignment_bits=chip.array.alignment_bits,
        readout=chip.vector_unit.storage_format,
    )


def _no_mode(gemm: Gemm, chip: Chip) -> InputError:
    pairs = ", ".join(f"{a} x {b}" for mode in chip.array.modes for a, b in mode.operands)
    return InputError(
        f"layer '{gemm.layer}' ({gemm.phase}): chip '{chip.name}' has no mode that multiplies "
        f"{gemm.a_format} x {gemm.b_format}; its modes take: {pairs}"
    )
