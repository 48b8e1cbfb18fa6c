"""The chosen plan against every plan of the space, priced and walked one by one."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from fractions import Fraction
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priced_chip import WIDE_PORT_BYTES, priced_chip
from walk import walk

from accelsim.chip import Chip, load_chip
from accelsim.cost import price_layer
from accelsim.mapping import Plan, plan_gemm
from accelsim.mapping.appraisal import Appraiser
from accelsim.mapping.partition import count_plan
from accelsim.mapping.tiling import Tile, first_pass_bytes, operand_loads
from accelsim.operations import Gemm, LayerWork, Tensor
from accelsim.storage import shipped

OBJECTIVES = ("latency", "energy", "edp")


def gemm_of(m: int, k: int, n: int, groups: int = 1, repeats: int = 1, out: Any = "stream") -> Gemm:
    """A GEMM whose A holds each element ``repeats`` times, like an im2col matrix."""
    a = Tensor("a", -(-groups * m * k // repeats), 4, "saved")
    b = Tensor("b", groups * k * n, 4, "parameter")
    return Gemm(
        "conv1", "update", m, k, n, "int4", "int4", a, b, Tensor("out", groups * m * n, 16, out), groups
    )


def ways_to_cut(chip: Chip) -> list[tuple[int, int, int, int]]:
    """Pieces of M, N, groups and K that use every array; K only with a ring."""
    numbers = range(1, chip.workers + 1)
    return [
        (m, n, groups, k)
        for m, n, groups, k in product(numbers, repeat=4)
        if m * n * groups * k == chip.workers and (k == 1 or chip.ring is not None)
    ]


def arrangements(gemm: Gemm, chip: Chip, given_plan: Plan) -> Iterator[Plan]:
    """Every dataflow and cut, with the chunk that the dataflow makes; tiles are still those given."""
    for dataflow, (m, n, groups, k) in product(chip.array.dataflows, ways_to_cut(chip)):
        chunk = chip.array.rows * given_plan.lanes
        if dataflow == "output_stationary":
            lane_groups = -(-gemm.k // given_plan.lanes)
            piece = gemm.k if k == 1 else -(-lane_groups // k) * given_plan.lanes
            chunk = min(chip.array.output_chunk or piece, gemm.k)
        splits = {"m_splits": m, "n_splits": n, "group_splits": groups, "k_splits": k}
        yield replace(given_plan, dataflow=dataflow, chunk=chunk, **splits)


def tilings(gemm: Gemm, plan: Plan) -> Iterator[Plan]:
    """Every tile of the space in both loop orders, whether it fits or not."""
    held, streamed = plan.output_cols, plan.rows
    unit_m, unit_n = (held, streamed) if plan.dataflow == "input_stationary" else (streamed, held)
    unit_m, unit_n = unit_m * plan.m_splits, unit_n * plan.n_splits
    for tile_m, tile_n, loop_order in product(
        extents(unit_m, gemm.m), extents(unit_n, gemm.n), ("m_outer", "n_outer")
    ):
        one_chunk = plan.dataflow == "output_stationary" and plan.chunk * plan.k_splits >= gemm.k
        in_the_array = one_chunk and tile_m <= unit_m and tile_n <= unit_n
        steps = (plan.lanes if in_the_array else plan.chunk) * plan.k_splits
        for tile_k in [*range(steps, gemm.k, steps), gemm.k]:
            yield replace(plan, tile_m=tile_m, tile_n=tile_n, tile_k=tile_k, loop_order=loop_order)


def extents(unit: int, whole: int) -> list[int]:
    """``unit`` doubled as long as it stays below the whole, and the whole."""
    found = []
    while unit < whole:
        found.append(unit)
        unit *= 2
    return [*found, whole]


def fits(gemm: Gemm, chip: Chip, plan: Plan) -> bool:
    """Two tiles of each operand and the sums of every piece of K, of all groups at work."""
    groups = min(gemm.groups, plan.group_splits)
    a_share = Fraction(plan.tile_m * plan.tile_k, gemm.groups * gemm.m * gemm.k)
    b_share = Fraction(plan.tile_n * plan.tile_k, gemm.groups * gemm.n * gemm.k)
    operands = 2 * (a_share * gemm.a.elements * gemm.a.bits + b_share * gemm.b.elements * gemm.b.bits)
    sums = plan.tile_m * plan.tile_n * plan.sum_bits * plan.k_splits
    return operands + sums <= 8 * (chip.cores * chip.scratchpad.capacity_kib * 1024 // 2) // groups


def price(gemm: Gemm, chip: Chip, plan: Plan) -> dict[str, int]:
    """The three objectives, from the price of a layer that is this GEMM and nothing else."""
    cost = price_layer(LayerWork(gemm.layer, "conv2d", gemm.phase, gemms=(gemm,)), {gemm: plan}, chip)
    cycles, energy = cost.time.total_cycles, cost.energy.total_aj
    return {"latency": cycles, "energy": energy, "edp": cycles * energy}


@settings(max_examples=10, deadline=None)
@given(data=st.data())
def test_no_plan_of_the_space_is_better(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    """Every dataflow, cut, tile and loop order, priced in full: none costs less, for any objective."""
    draw = data.draw
    chip = priced_chip(
        tmp_path_factory.mktemp("c"),
        rows=2, cols=2, lanes=draw(st.sampled_from([1, 2])), cores=draw(st.sampled_from([1, 2, 4])),
        capacity_kib=1, output_chunk=draw(st.sampled_from([None, 4])), pipelined=draw(st.booleans()),
        scratchpad_bandwidth=draw(st.sampled_from([2, 64])), dram_bandwidth=draw(st.sampled_from([0.2, 20])),
        ring_bandwidth=draw(st.sampled_from([None, 1, 16])), multicast=draw(st.booleans()),
    )  # fmt: skip
    gemm = gemm_of(
        draw(st.integers(1, 70)), draw(st.integers(1, 40)), draw(st.integers(1, 30)),
        draw(st.integers(1, 3)), draw(st.sampled_from([1, 3])), draw(st.sampled_from(["stream", "saved"])),
    )  # fmt: skip
    chosen = {objective: plan_gemm(gemm, chip, objective) for objective in OBJECTIVES}
    space = arrangements(gemm, chip, chosen["latency"])
    prices = [
        price(gemm, chip, plan) for each in space for plan in tilings(gemm, each) if fits(gemm, chip, plan)
    ]
    for objective, plan in chosen.items():
        assert price(gemm, chip, plan)[objective] == min(each[objective] for each in prices)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_walked_plan_is_faster(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    """Where memory does not bind, the chosen plan takes the fewest cycles of all that are walked."""
    draw = data.draw
    chip = priced_chip(
        tmp_path_factory.mktemp("c"),
        rows=draw(st.integers(1, 3)), cols=2, lanes=draw(st.integers(1, 2)), cores=draw(st.integers(1, 4)),
        output_chunk=draw(st.sampled_from([None, 2])), pipelined=draw(st.booleans()),
        scratchpad_bandwidth=WIDE_PORT_BYTES, dram_bandwidth=1e6,
        ring_bandwidth=draw(st.sampled_from([1, 9])), hop_cycles=draw(st.integers(1, 2)),
    )  # fmt: skip
    gemm = gemm_of(
        draw(st.integers(1, 6)), draw(st.integers(1, 12)), draw(st.integers(1, 5)), draw(st.integers(1, 2))
    )
    plan = plan_gemm(gemm, chip)
    walked = [walked_cycles(each) for each in arrangements(gemm, chip, plan)]
    assert walked_cycles(plan) == min(walked)


ROWS_ALONE = ("eyeriss_rows", "eyeriss_banks")  # their rows are not tiled
SEARCHED = [name for name in shipped("arch_configs") if name not in ROWS_ALONE]


@pytest.mark.parametrize("name", SEARCHED)
def test_the_search_appraises_as_cost_prices(name: str) -> None:
    """A lone GEMM of any shipped chip: the same cycles and, but for the MACs, the same attojoules."""
    chip = load_chip(name)
    mode = chip.array.modes[0]
    a_format, b_format = mode.operands[0]
    for m, k, n, out in ((9, 400, 16, "parameter"), (800, 288, 64, "stream"), (3000, 300, 1000, "saved")):
        gemm = replace(gemm_of(m, k, n, out=out), a_format=a_format, b_format=b_format)
        plan = plan_gemm(gemm, chip)
        tile = Tile(plan.tile_m, plan.tile_n, plan.tile_k, plan.loop_order)
        first = first_pass_bytes(gemm, plan, chip)
        appraiser = Appraiser(gemm, chip, mode, plan.sum_bits)
        found = appraiser.appraise(count_plan(plan), operand_loads(m, k, n, tile), first)
        work = LayerWork(gemm.layer, "conv2d", gemm.phase, gemms=(gemm,))
        cost = price_layer(work, {gemm: plan}, chip)
        assert found.total_cycles == cost.time.total_cycles
        assert found.energy_aj - gemm.macs * plan.energy_aj_per_mac == cost.energy.total_aj - cost.energy.mac


def walked_cycles(plan: Plan) -> int:
    """Cycles of the register-by-register walk on random integers."""
    source, groups = random.Random(3), range(plan.groups)

    def matrices(rows: int, cols: int) -> Any:
        made = [[[source.randint(-8, 7) for _ in range(cols)] for _ in range(rows)] for _ in groups]
        return made[0] if plan.groups == 1 else made

    return walk(plan, matrices(plan.m, plan.k), matrices(plan.k, plan.n), lambda value: value).cycles


def test_objectives_disagree_where_speed_costs_energy(tmp_path: Path) -> None:
    """Splitting K over eight arrays is faster, and costs more joules than letting fewer reads suffice."""
    chip = priced_chip(tmp_path, cores=8, ring_bandwidth=64, dram_bandwidth=400, scratchpad_bandwidth=256)
    gemm = gemm_of(8, 512, 8)
    found = {objective: price(gemm, chip, plan_gemm(gemm, chip, objective)) for objective in OBJECTIVES}
    assert found["latency"]["latency"] < found["energy"]["latency"]
    assert found["energy"]["energy"] < found["latency"]["energy"]
    assert found["edp"]["edp"] <= min(found["latency"]["edp"], found["energy"]["edp"])
