"""What DRAM tiles of a direct convolution share: against a walk over every input, and in what it costs."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from itertools import product
from math import ceil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis.strategies import DrawFn, composite, integers
from priced_chip import priced_chip
from walking.patches import element, taps

from accelsim.chip import Chip
from accelsim.cost.pricing import Pricer
from accelsim.errors import InputError
from accelsim.mapping import Plan, plan_gemm
from accelsim.mapping.halo import Cut, Halos, held_inputs
from accelsim.mapping.scratchpad import dram_bytes
from accelsim.mapping.search import Restriction
from accelsim.mapping.tiling import Tile, operand_loads, plan_loads
from accelsim.network import Conv2d, Site
from accelsim.operations import Axis, Gemm, LayerWork, Sliding, TensorFormats

FORMATS = TensorFormats("int4", "int4", "int4", "int4", "fp16", "fp32")


@composite
def axes(draw: DrawFn) -> Axis:
    """A small axis, its windows perhaps beyond both ends, with gaps or dilated."""
    return Axis(
        draw(integers(1, 7)), draw(integers(1, 6)), draw(integers(1, 3)), draw(integers(1, 3)),
        draw(integers(-2, 1)), draw(integers(1, 2)),
    )  # fmt: skip


@composite
def images(draw: DrawFn) -> Sliding:
    """One or two small images."""
    return Sliding(draw(integers(1, 2)), draw(integers(1, 3)), draw(axes()), draw(axes()), "m")


def runs(whole: int, size: int, pieces: int, piece: int) -> list[range]:
    """The runs of all tiles, one by one."""
    if size >= whole:
        return [range(whole)]
    found = []
    for start in range(0, whole, piece):
        end = min(start + piece, whole)
        length = ceil(size / pieces)
        found += [range(at, min(at + length, end)) for at in range(start, end, length)]
    return found


def box(sliding: Sliding, run: range) -> set[int]:
    """The taps and channels that a tile holds for a run: its rows, or columns of one, or channels of one."""
    across, channels = sliding.across.taps, sliding.channels
    rows = {tap // (across * channels) for tap in run}
    places = {tap // channels for tap in run}
    if len(rows) > 1:
        return {tap for tap in taps(sliding) if tap // (across * channels) in rows}
    return {tap for tap in taps(sliding) if tap // channels in places} if len(places) > 1 else set(run)


def met(sliding: Sliding, positions: range, tap_run: set[int]) -> set[tuple[int, ...]]:
    """The inputs that the rows of these positions meet at these taps."""
    width = sliding.across.positions
    rows = {position // width for position in positions}
    whole_rows = [row * width + col for row in rows for col in range(width)]
    found = (element(sliding, position, tap) for position in whole_rows for tap in tap_run)
    return {each for each in found if each is not None}


@settings(max_examples=150, deadline=None)
@given(
    sliding=images(), tile=integers(1, 80), depth=integers(1, 30), pieces=integers(1, 3), parts=integers(1, 3)
)
def test_inputs_held_are_those_of_the_walk(
    sliding: Sliding, tile: int, depth: int, pieces: int, parts: int
) -> None:
    """All tiles of random windows, input by input; and a tile holds what its own windows meet, at least."""
    whole = sliding.samples * sliding.down.positions * sliding.across.positions
    positions = Cut(whole, tile, pieces, ceil(whole / pieces))
    depth_cut = Cut(len(taps(sliding)), depth, parts, ceil(len(taps(sliding)) / parts))
    total, largest = held_inputs(sliding, positions, depth_cut)
    pairs = list(product(*(runs(*vars(cut).values()) for cut in (positions, depth_cut))))
    sizes = [len(met(sliding, run, box(sliding, depth_run))) for run, depth_run in pairs]
    assert total == sum(sizes)
    assert largest == max(sizes) * positions.runs_a_tile * depth_cut.runs_a_tile
    own = {one for run, depth_run in pairs for p in run for t in depth_run if (one := element(sliding, p, t))}
    assert total >= len(own)


def test_one_tile_has_no_halo() -> None:
    """A tile that is the whole crosses once; rows of a 3 x 3 window cut in two share two of them."""
    sliding = Sliding(1, 5, Axis(8, 8, 3, 1, -1), Axis(8, 8, 3, 1, -1), "m")
    halos = Halos(sliding, 64, 45)
    assert halos.crossings(64, 45) == 1
    assert halos.crossings(32, 45) == Fraction(10, 8)
    assert halos.most_inputs(32, 45) == 5 * 8 * 5
    apart = Axis(4, 2, 1, 2, -4)
    assert Halos(Sliding(1, 1, apart, apart, "m"), 4, 1).crossings(2, 1) == 1


def chip_with_windows(folder: Path, capacity_kib: int) -> Chip:
    """A small chip whose convolutions are all direct, and what they read from DRAM is dear."""
    chip = priced_chip(folder, capacity_kib=capacity_kib, dram_bandwidth=2, output_chunk=16)
    array = chip.array.model_copy(update={"convolution": "direct", "window_bytes": 4096})
    return chip.model_copy(update={"array": array})


def products(samples: int) -> list[Gemm]:
    """Forward, dL/dx and dL/dW of a convolution whose images are in DRAM."""
    layer, site = Conv2d(channels=24, kernel=3), Site("conv", (12, 12, 16))
    given = site, samples, FORMATS
    gemms = [layer.forward_gemm(*given), *layer.backward_gemms(*given), layer.update_gemm(*given)]
    return [replace(gemm, a=replace(gemm.a, residence="saved")) for gemm in gemms]


def dram_reads(gemm: Gemm, plan: Plan, chip: Chip) -> int:
    """Bytes that the product alone reads from DRAM."""
    work = LayerWork("conv", "conv2d", gemm.phase, (gemm,))
    return Pricer(chip).price(work, {gemm: plan}).traffic.dram_read_bytes


@pytest.mark.parametrize("index", range(3))
def test_halos_are_read_and_must_fit(tmp_path: Path, index: int) -> None:
    """With little room A crosses a fraction more often than its tiles ask for; they fit with their halos."""
    gemm, chip = products(6)[index], chip_with_windows(tmp_path, 8)
    plan = plan_gemm(gemm, chip)
    assert plan.patches is not None
    tile = Tile(plan.tile_m, plan.tile_n, plan.tile_k, plan.loop_order)
    a_loads, b_loads = operand_loads(gemm.m, gemm.k, gemm.n, tile)
    with_halos = plan_loads(plan)
    assert with_halos[0] > a_loads
    assert with_halos[1] == b_loads
    a_bytes, b_bytes = dram_bytes(gemm.a, chip), dram_bytes(gemm.b, chip)
    assert a_bytes
    assert dram_reads(gemm, plan, chip) == ceil(with_halos[0] * a_bytes) + b_loads * b_bytes
    assert plan.splits.workers == 1
    held_bits = 2 * Halos(plan.patches.sliding, gemm.m, gemm.k).most_inputs(plan.tile_m, plan.tile_k) * 4
    assert held_bits + 2 * plan.tile_k * plan.tile_n * 4 <= 8 * chip.cores * 4096


def test_no_tile_reads_less(tmp_path: Path) -> None:
    """Of all tiles of the space, priced one by one, none reads fewer bytes from DRAM than the chosen one."""
    gemm, chip = products(6)[0], chip_with_windows(tmp_path, 8)
    chosen = plan_gemm(gemm, chip, "energy")
    assert chosen.patches is not None
    patch = chosen.patches.rows, chosen.patches.cols, chosen.patches.chunks
    only = Restriction(chosen.dataflow, chosen.splits, convolution="direct", patch=patch)
    least = dram_reads(gemm, chosen, chip)
    found = []
    sizes = [[4 << power for power in range(9)] + [whole] for whole in (gemm.m, gemm.n)]
    depths = range(chosen.chunk, gemm.k + chosen.chunk, chosen.chunk)
    for m, n, k, order in product(*sizes, depths, ("m_outer", "n_outer")):
        tile = Tile(min(m, gemm.m), min(n, gemm.n), min(k, gemm.k), order)  # type: ignore[arg-type]
        try:
            found.append(dram_reads(gemm, plan_gemm(gemm, chip, "energy", replace(only, tile=tile)), chip))
        except InputError:
            continue
    assert len(found) > 20
    assert least <= min(found)
