"""Which plan a GEMM gets on a chip, and that it is the best of the space it was chosen from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hand_plan import hand_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from priced_chip import WIDE_PORT_BYTES, priced_chip
from walk import teams

from accelsim.chip import Chip, load_chip
from accelsim.errors import InputError
from accelsim.mapping import Planner, plan_gemm, search
from accelsim.mapping.attojoules import attojoules
from accelsim.mapping.partition import array_shape, count_plan, partitions
from accelsim.mapping.passes import Share, output_stationary
from accelsim.mapping.plan import Splits
from accelsim.mapping.scratchpad import half_capacity_bytes
from accelsim.mapping.search import array_of
from accelsim.mapping.tiling import Room, Tile, choose_tile, operand_loads, pass_extents
from accelsim.operations import Gemm, Tensor
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.workload import load_workload

EXTENT = st.integers(1, 40)


def gemm_of(
    m: int, k: int, n: int, groups: int = 1, formats: tuple[str, str] = ("int4", "int4"), bits: int = 4
) -> Gemm:
    """A GEMM whose operands are read from DRAM."""
    a = Tensor("a", groups * m * k, bits, "saved")
    b = Tensor("b", groups * k * n, bits, "parameter")
    out = Tensor("out", groups * m * n, 16, "stream")
    return Gemm("conv1", "forward", m, k, n, *formats, a, b, out, groups)


def test_a_plan_repeats_the_gemm_and_the_chip(tmp_path: Path) -> None:
    """A plan carries what decides bits, cycles and energy, from the GEMM and the chip file."""
    chip = priced_chip(tmp_path, rows=4, cols=3, simd=2, lanes=8, cores=3, corelets=2)
    plan = plan_gemm(gemm_of(50, 70, 30, groups=2, formats=("fp4_r4_even", "int4")), chip)
    assert (plan.m, plan.k, plan.n, plan.groups) == (50, 70, 30, 2)
    assert (plan.rows, plan.cols, plan.simd, plan.lanes, plan.output_cols) == (4, 3, 2, 8, 6)
    assert (plan.accumulator, plan.overflow, plan.pipelined) == ("fp16", "format", True)
    assert plan.workers == plan.splits.workers == 6
    assert plan.energy_aj_per_mac == 62_500


@pytest.mark.parametrize("dataflow", ["weight_stationary", "input_stationary"])
def test_a_stationary_chunk_is_what_the_rows_hold(tmp_path: Path, dataflow: str) -> None:
    """Rows lie along K: a chunk is rows times lanes, whatever K is."""
    chip = priced_chip(tmp_path, dataflows=dataflow, rows=5, lanes=4)
    assert [plan_gemm(gemm_of(9, k, 9), chip).chunk for k in (0, 1, 20, 999)] == [20] * 4


@pytest.mark.parametrize(("output_chunk", "chunks"), [(8, [1, 1, 7, 8, 8, 8]), (None, [1, 1, 7, 8, 9, 100])])
def test_an_output_stationary_chunk_is_the_chips_or_all_of_k(
    tmp_path: Path, output_chunk: int | None, chunks: list[int]
) -> None:
    """Output stationary adds output_chunk products before it drains, or all of K; never fewer than one."""
    chip = priced_chip(tmp_path, dataflows="output_stationary", output_chunk=output_chunk)
    assert [plan_gemm(gemm_of(9, k, 9), chip).chunk for k in (0, 1, 7, 8, 9, 100)] == chunks


def test_a_plan_that_starves_its_array_is_not_chosen(tmp_path: Path) -> None:
    """Wide ports: short streams behind many reloads win by array cycles; narrow ports: long streams."""
    gemm = gemm_of(64, 64, 16)
    wide = priced_chip(tmp_path, cores=2, rows=4, cols=5, scratchpad_bandwidth=WIDE_PORT_BYTES)
    narrow = priced_chip(tmp_path, cores=2, rows=4, cols=5, scratchpad_bandwidth=4)
    fast, fed = plan_gemm(gemm, wide), plan_gemm(gemm, narrow)
    fast_counts, fed_counts = count_plan(fast), count_plan(fed)
    assert fast_counts.array_cycles < fed_counts.array_cycles
    fast_reads = fast_counts.a_buffer_reads + fast_counts.b_buffer_reads
    assert fast_reads > fed_counts.a_buffer_reads + fed_counts.b_buffer_reads


def test_the_best_dataflow_differs_between_forward_and_update(tmp_path: Path) -> None:
    """An MLP layer 784 x 512, batch 128, on 32 x 32: outputs stay in the forward pass, not in dW."""
    chip = priced_chip(
        tmp_path,
        rows=32,
        cols=32,
        lanes=1,
        output_chunk=None,
        pipelined=False,
        capacity_kib=4096,
        scratchpad_bandwidth=WIDE_PORT_BYTES,
    )
    assert plan_gemm(gemm_of(128, 784, 512), chip).dataflow == "output_stationary"
    assert plan_gemm(gemm_of(784, 128, 512), chip).dataflow == "weight_stationary"


def test_equal_cycles_go_to_fewer_bytes_then_to_the_files_order(tmp_path: Path) -> None:
    """Ties: fewest operand-buffer bytes, then the order of the chip file, then split m before n."""
    square = gemm_of(16, 8, 16)
    for dataflows in ("weight_stationary, input_stationary", "input_stationary, weight_stationary"):
        plan = plan_gemm(
            square, priced_chip(tmp_path, dataflows=dataflows, scratchpad_bandwidth=WIDE_PORT_BYTES)
        )
        assert (plan.dataflow, plan.split) == (dataflows.split(",")[0], "m")
    wide_a = replace(square, a=Tensor("a", 128, 16, "saved"))
    wide_b = replace(square, b=Tensor("b", 128, 16, "saved"))
    chip = priced_chip(
        tmp_path, dataflows="weight_stationary, input_stationary", scratchpad_bandwidth=WIDE_PORT_BYTES
    )
    assert plan_gemm(wide_a, chip).dataflow == "input_stationary"
    assert plan_gemm(wide_b, chip).dataflow == "weight_stationary"


def test_groups_are_dealt_to_the_workers_when_that_is_fastest(tmp_path: Path) -> None:
    """A depthwise convolution has nothing to cut along N and goes by groups."""
    plan = plan_gemm(gemm_of(1, 9, 1, groups=32), priced_chip(tmp_path, cores=4))
    assert plan.splits == Splits(groups=4)


@pytest.mark.parametrize("shape", [(0, 5, 6), (5, 0, 6), (5, 6, 0)])
def test_an_empty_gemm_has_a_plan_and_no_cycles(tmp_path: Path, shape: tuple[int, int, int]) -> None:
    """Empty dimensions are planned like any other and take no time."""
    plan = plan_gemm(gemm_of(*shape), priced_chip(tmp_path, cores=2))
    counts = count_plan(plan)
    assert (plan.chunk >= 1, counts.array_cycles, counts.passes) == (True, 0, 0)
    assert counts.a_buffer_reads == counts.b_buffer_reads == counts.psum_writes == counts.psum_reads == 0


@pytest.mark.parametrize("extent", [0, 1, 3, 4, 5, 11])
@pytest.mark.parametrize("dimension", ["m", "k", "n", "groups"])
def test_counts_of_the_chip_are_those_of_its_arrays(dimension: str, extent: int) -> None:
    """Cycles are those of the largest share, passes and reads the sum over the shares of all workers."""
    plan = hand_plan(
        **{"m": 7, "k": 9, "n": 6, "groups": 2, dimension: extent},
        m_splits=2, n_splits=3, group_splits=2, k_splits=4, dataflow="output_stationary", chunk=2, rows=2,
    )  # fmt: skip
    shares = [Share(len(m), len(k), len(n), len(g)) for team in teams(plan) for g, m, n, k in team]
    alone = [output_stationary(share, array_shape(plan)) for share in shares]
    counts = count_plan(plan)
    assert counts.array_cycles - counts.merge_cycles == max((each.array_cycles for each in alone), default=0)
    for name in ("passes", "a_buffer_reads", "b_buffer_reads"):
        assert getattr(counts, name) == sum(getattr(each, name) for each in alone)


@pytest.mark.parametrize(("workers", "ways"), [(1, 1), (2, 4), (7, 4), (8, 20), (12, 40)])
def test_all_ways_to_cut_are_tried(workers: int, ways: int) -> None:
    """Every product m x n x groups x k is there once, the plain cut along M first; without a ring K stays."""
    found = partitions(workers, split_k=True)
    assert found[0] == Splits(m=workers)
    assert len(set(found)) == len(found) == ways
    assert {each.workers for each in found} == {workers}
    assert set(partitions(workers, split_k=False)) == {each for each in found if each.k == 1}


def test_a_long_k_is_split_where_there_is_a_ring(tmp_path: Path) -> None:
    """A weight gradient with few outputs and a long K leaves arrays idle unless they share K."""
    gemm = gemm_of(9, 9800, 16)
    sizes = {"cores": 8, "lanes": 1, "rows": 8, "cols": 11, "capacity_kib": 512}
    without = plan_gemm(gemm, priced_chip(tmp_path, **sizes, scratchpad_bandwidth=128, dram_bandwidth=400))
    split = plan_gemm(
        gemm,
        priced_chip(tmp_path, **sizes, scratchpad_bandwidth=128, dram_bandwidth=400, ring_bandwidth=128),
    )
    assert without.k_splits == 1 < split.k_splits
    assert 3 * count_plan(split).array_cycles < count_plan(without).array_cycles
    assert (split.link_bytes_per_cycle, split.hop_cycles, split.sum_bits) == (128, 1, 16)


def test_a_slow_ring_is_not_used(tmp_path: Path) -> None:
    """Where adding the pieces up takes longer than it saves, K stays whole."""
    gemm = gemm_of(64, 64, 64)
    fast, slow = (priced_chip(tmp_path, cores=4, ring_bandwidth=2, hop_cycles=hop) for hop in (1, 4000))
    assert plan_gemm(gemm, slow).k_splits == 1
    assert count_plan(plan_gemm(gemm, fast)).array_cycles <= count_plan(plan_gemm(gemm, slow)).array_cycles


def test_an_unset_output_chunk_is_a_piece_of_k(tmp_path: Path) -> None:
    """Output stationary without output_chunk drains once a piece, in whole groups of lanes."""
    chip = priced_chip(tmp_path, output_chunk=None, lanes=4, ring_bandwidth=8, cores=2)
    extents = (0, 1, 5, 8, 9, 16, 100)
    chunks = [array_of(chip, "output_stationary", 4, k, Splits(k=2)).chunk for k in extents]
    assert chunks == [1, 1, 4, 4, 8, 8, 52]


@pytest.mark.parametrize(
    ("splits", "text"), [(Splits(), "m"), (Splits(n=4), "n"), (Splits(m=2, k=4), "m 2 x k 4")]
)
def test_splits_in_words(splits: Splits, text: str) -> None:
    """One dimension by its name, more with their pieces."""
    assert str(splits) == text


def test_a_pair_of_formats_without_a_mode_is_an_error(tmp_path: Path) -> None:
    """The message names the layer, the chip, the pair and every pair the chip takes."""
    text = (
        r"^layer 'conv1' \(forward\): chip 'priced' has no mode that multiplies int4 x fp16; "
        r"its modes take: int4 x int4, int4 x fp4_r4_even, fp16 x fp16$"
    )
    with pytest.raises(InputError, match=text):
        plan_gemm(gemm_of(4, 4, 4, formats=("int4", "fp16")), priced_chip(tmp_path))


def test_a_tile_that_cannot_fit_is_an_error(tmp_path: Path) -> None:
    """Much of K at once through a small scratchpad: the message names the GEMM, the chip and the cure."""
    chip = priced_chip(tmp_path, dataflows="output_stationary", output_chunk=4096, capacity_kib=1)
    text = (
        r"^layer 'conv1' \(forward\): the smallest tile of its 4 x 5000 x 4 GEMM does not fit into half of "
        r"the scratchpads of chip 'priced' \(1 x 1 KiB\); raise scratchpad.capacity_kib or lower "
        r"array.output_chunk$"
    )
    with pytest.raises(InputError, match=text):
        plan_gemm(gemm_of(4, 5000, 4), chip)


def test_sums_that_stay_in_the_array_need_no_deep_tile(tmp_path: Path) -> None:
    """Output stationary over all of K streams a long K through a small scratchpad, one pass at a time."""
    chip = priced_chip(tmp_path, dataflows="output_stationary", output_chunk=None, capacity_kib=1)
    gemm = gemm_of(40, 5000, 40)
    plan = plan_gemm(gemm, chip)
    assert plan.chunk == 5000
    assert plan.tile_m <= plan.rows
    assert plan.tile_n <= plan.output_cols
    assert plan.tile_k % plan.lanes == 0
    assert tile_bits(gemm, Tile(plan.tile_m, plan.tile_n, plan.tile_k, plan.loop_order)) <= 8 * 512


def test_a_dataflow_whose_tiles_cannot_fit_is_passed_over(tmp_path: Path) -> None:
    """Another dataflow with smaller tiles takes the GEMM, although it needs more cycles."""
    chip = priced_chip(
        tmp_path, output_chunk=4096, pipelined=False, capacity_kib=1, scratchpad_bandwidth=WIDE_PORT_BYTES
    )
    roomy = priced_chip(
        tmp_path, output_chunk=4096, pipelined=False, capacity_kib=256, scratchpad_bandwidth=WIDE_PORT_BYTES
    )
    assert plan_gemm(gemm_of(4, 5000, 4), roomy).dataflow == "output_stationary"
    assert plan_gemm(gemm_of(4, 5000, 4), chip).dataflow == "weight_stationary"


@given(
    extents=st.tuples(*[st.integers(1, 9)] * 3),
    tile=st.builds(Tile, *[st.integers(1, 9)] * 3, st.sampled_from(["m_outer", "n_outer"])),
)
def test_loads_are_those_of_the_walked_loop_nest(extents: tuple[int, int, int], tile: Tile) -> None:
    """A loop nest that loads a tile whenever it does not hold it already moves the same elements."""
    m, k, n = extents
    m_starts, n_starts, k_starts = (range(0, m, tile.m), range(0, n, tile.n), range(0, k, tile.k))
    outer_m = [(i, j, x) for i in m_starts for j in n_starts for x in k_starts]
    outer_n = [(i, j, x) for j in n_starts for i in m_starts for x in k_starts]
    held_a = held_b = None
    a_elements = b_elements = 0
    for i, j, x in outer_m if tile.loop_order == "m_outer" else outer_n:
        depth = min(tile.k, k - x)
        a_elements += 0 if held_a == (i, x) else min(tile.m, m - i) * depth
        b_elements += 0 if held_b == (x, j) else min(tile.n, n - j) * depth
        held_a, held_b = (i, x), (x, j)
    assert operand_loads(m, k, n, tile) == (a_elements // (m * k), b_elements // (k * n))
    assert a_elements % (m * k) == b_elements % (k * n) == 0


def tile_bits(gemm: Gemm, tile: Tile) -> int:
    """What a tile step holds, in bits, for operands without repeated elements."""
    operands = tile.m * tile.k * gemm.a.bits + tile.k * tile.n * gemm.b.bits
    return 2 * operands + tile.m * tile.n * 16


@settings(max_examples=40, deadline=None)
@given(m=st.integers(1, 400), k=st.integers(1, 400), n=st.integers(1, 400))
def test_the_tile_fits_and_no_other_of_its_space_moves_less(
    tmp_path_factory: pytest.TempPathFactory, m: int, k: int, n: int
) -> None:
    """Against every power-of-two tile tried one by one: capacity is kept, DRAM bytes are least."""
    chip = priced_chip(tmp_path_factory.mktemp("c"), capacity_kib=2, cores=2)
    gemm = gemm_of(m, k, n)
    plan = plan_gemm(gemm, chip)
    capacity_bits = 8 * half_capacity_bytes(chip)
    own = Tile(plan.tile_m, plan.tile_n, plan.tile_k, plan.loop_order)
    assert tile_bits(gemm, own) <= capacity_bits
    assert plan.tile_k % plan.chunk == 0 or plan.tile_k == k
    unit_m, unit_n = pass_extents(plan.dataflow, plan.splits, plan.rows, plan.output_cols)
    depths = [*range(plan.chunk, k, plan.chunk), k]
    powers = [1 << power for power in range(9)]
    others = [
        Tile(min(unit_m * up, m), min(unit_n * across, n), depth, order)
        for up in powers
        for across in powers
        for depth in (depths[0], depths[-1])
        for order in ("m_outer", "n_outer")
    ]
    moved = [dram_reads(gemm, tile) for tile in others if tile_bits(gemm, tile) <= capacity_bits]
    assert dram_reads(gemm, own) == min(moved)


def dram_reads(gemm: Gemm, tile: Tile) -> int:
    """Bytes of both operands from DRAM."""
    a_loads, b_loads = operand_loads(gemm.m, gemm.k, gemm.n, tile)
    return a_loads * gemm.a.size_bytes + b_loads * gemm.b.size_bytes


def tile_on(chip: Chip, gemm: Gemm) -> Tile | None:
    """The tile for weights that stay and rows that are dealt out."""
    plan = plan_gemm(gemm, chip)
    return choose_tile(Room(gemm, chip, "weight_stationary", Splits(), array_shape(plan), plan.sum_bits))


def test_a_convolutions_tile_holds_each_input_once(tmp_path: Path) -> None:
    """A 3 x 3 im2col matrix repeats its input ninefold, so nine times as much of it fits."""
    plain = gemm_of(4096, 36, 8)
    windows = replace(plain, a=Tensor("a", 4096 * 4, 4, "saved"))
    chip = priced_chip(tmp_path, capacity_kib=256, dataflows="weight_stationary")
    assert tile_on(chip, plain).m < tile_on(chip, windows).m == 4096


@given(capacity_kib=st.integers(1, 63), m=st.integers(1, 300), k=st.integers(1, 300))
@settings(max_examples=30, deadline=None)
def test_less_memory_never_moves_less(
    tmp_path_factory: pytest.TempPathFactory, capacity_kib: int, m: int, k: int
) -> None:
    """DRAM reads never fall when the scratchpad shrinks."""
    gemm, reads = gemm_of(m, k, 200), []
    for size_kib in (capacity_kib, capacity_kib + 1, 64):
        plan = plan_gemm(gemm, priced_chip(tmp_path_factory.mktemp("c"), capacity_kib=size_kib))
        reads.append(dram_reads(gemm, Tile(plan.tile_m, plan.tile_n, plan.tile_k, plan.loop_order)))
    assert reads == sorted(reads, reverse=True)


@pytest.mark.parametrize(
    ("picojoules", "expected"),
    [(1, 1_000_000), (0.1, 100_000), (0.0000005, 0), (0.0000015, 2), (0.50, 500_000), (7.65, 7_650_000)],
)
def test_attojoules_come_from_the_decimal_text(picojoules: float, expected: int) -> None:
    """Energies are whole attojoules of the decimal number, half to even."""
    assert attojoules(picojoules) == expected


def test_a_network_is_searched_shape_by_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of ResNet-50 on eight arrays with a ring: equal shapes once, and few choices opened in each."""
    calls = Counter[str]()

    def counted(name: str) -> None:
        whole = getattr(search, name)
        monkeypatch.setattr(search, name, lambda *given: calls.update([name]) or whole(*given))

    counted("count_chip")
    counted("choose_tile")
    program = compile_program(load_workload("resnet50_imagenet"), load_recipe("ibm2020_fp4"), 256)
    chip = load_chip("fp4_training")
    planner = Planner(chip)
    plans = planner.plans(program.gemms)
    assert len(plans) == len(set(program.gemms)) > 3 * 53
    space = len(chip.array.dataflows) * len(partitions(chip.workers, split_k=True))
    shapes, rest = divmod(calls["count_chip"], space)
    assert (rest, calls["choose_tile"] < 4 * shapes, shapes < len(plans) / 2) == (0, True, True)
    done = calls.copy()
    assert planner.plans(program.gemms) == plans
    assert calls == done
