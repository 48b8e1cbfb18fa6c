"""Hops between cores against a walk over the network; their time and energy in a layer."""

from __future__ import annotations

from collections import deque
from fractions import Fraction
from pathlib import Path

import pytest
from priced_chip import priced_chip

from accelsim import InputError
from accelsim.chip import Chip, load_chip
from accelsim.cost import price_layer
from accelsim.mapping import plan_gemm
from accelsim.mapping.appraisal import Appraiser
from accelsim.mapping.interconnect import links, mean_hops, mesh_sides
from accelsim.mapping.partition import count_plan
from accelsim.mapping.tiling import Tile, first_pass_bytes, operand_loads
from accelsim.operations import Gemm, LayerWork, Tensor

NETWORK = """\
interconnect:
  topology: {topology}
  bandwidth_bytes_per_cycle: 3
  hop_cycles: 5
  energy_pj_per_byte_hop: {{value: 0.7, source: "a test", evidence: estimated}}
"""


def networked_chip(tmp_path: Path, topology: str = "ring", cores: int = 4) -> Chip:
    """The priced chip with a network between its cores."""
    priced_chip(tmp_path, cores=cores)
    path = tmp_path / "priced.yaml"
    path.write_text(path.read_text(encoding="utf-8") + NETWORK.format(topology=topology), encoding="utf-8")
    return load_chip(path)


def neighbours(topology: str, cores: int) -> dict[int, set[int]]:
    """The network as a graph, built link by link."""
    if topology == "ring":
        return {core: {(core + 1) % cores, (core - 1) % cores} - {core} for core in range(cores)}
    cols = mesh_sides(cores)[1]
    near: dict[int, set[int]] = {core: set() for core in range(cores)}
    for core in range(cores):
        for other, joined in ((core + 1, (core + 1) % cols != 0), (core + cols, True)):
            if joined and other < cores:
                near[core].add(other)
                near[other].add(core)
    return near


def walked_distance(near: dict[int, set[int]], start: int) -> int:
    """Sum of the shortest ways from one core to every core, by breadth-first search."""
    far, waiting = {start: 0}, deque([start])
    while waiting:
        here = waiting.popleft()
        for there in near[here] - set(far):
            far[there] = far[here] + 1
            waiting.append(there)
    return sum(far.values())


@pytest.mark.parametrize("topology", ["ring", "mesh"])
@pytest.mark.parametrize("cores", [1, 2, 3, 4, 5, 6, 9, 12, 16])
def test_hops_and_links_are_those_of_the_graph(topology: str, cores: int) -> None:
    """Mean shortest way over all pairs of cores, and links in both directions, as walked."""
    near = neighbours(topology, cores)
    total = sum(walked_distance(near, core) for core in near)
    assert mean_hops(topology, cores) == Fraction(total, cores * cores)
    assert links(topology, cores) == sum(len(others) for others in near.values())


def test_a_mesh_is_as_square_as_its_cores_allow() -> None:
    """Sixteen cores are 4 x 4, twelve 3 x 4, seven a line."""
    assert [mesh_sides(cores) for cores in (16, 12, 7, 1)] == [(4, 4), (3, 4), (1, 7), (1, 1)]


def test_a_byte_pays_its_way(tmp_path: Path) -> None:
    """A ring of four: one hop on average, eight links of three bytes a cycle, five cycles to the first."""
    work = LayerWork("t", "t", "forward", reads=(Tensor("t", 4800, 8, "stream"),))
    near = price_layer(work, {}, priced_chip(tmp_path, cores=4))
    far = price_layer(work, {}, networked_chip(tmp_path))
    assert far.energy.scratchpad - near.energy.scratchpad == 4800 * 700_000
    assert (near.time.scratchpad_cycles, far.time.scratchpad_cycles) == (75, 4800 // 24)
    assert far.time.total_cycles == 200 + 5


def test_one_core_has_no_way_to_go(tmp_path: Path) -> None:
    """A network of one core costs nothing."""
    work = LayerWork("t", "t", "forward", reads=(Tensor("t", 4800, 8, "stream"),))
    alone = price_layer(work, {}, networked_chip(tmp_path, cores=1))
    assert alone.time == price_layer(work, {}, priced_chip(tmp_path, cores=1)).time


@pytest.mark.parametrize("topology", ["ring", "mesh"])
def test_the_search_appraises_what_is_priced(tmp_path: Path, topology: str) -> None:
    """Cycles and energy of a mapping are the same to the search and to the price, network included."""
    chip = networked_chip(tmp_path, topology)
    tensors = (Tensor("x", 64 * 48, 4, "saved"), Tensor("w", 48 * 24, 4, "parameter"))
    gemm = Gemm("fc", "forward", 64, 48, 24, "int4", "int4", *tensors, Tensor("y", 64 * 24, 16, "saved"))
    plan = plan_gemm(gemm, chip)
    tile = Tile(plan.tile_m, plan.tile_n, plan.tile_k, plan.loop_order)
    mode = chip.array.mode_for("int4", "int4")
    assert mode is not None
    appraised = Appraiser(gemm, chip, mode, plan.sum_bits).appraise(
        count_plan(plan), operand_loads(64, 48, 24, tile), first_pass_bytes(gemm, plan, chip)
    )
    cost = price_layer(LayerWork("fc", "linear", "forward", (gemm,)), {gemm: plan}, chip)
    assert (appraised.total_cycles, appraised.energy_aj) == (cost.time.total_cycles, cost.energy.total_aj)


def test_an_unknown_topology_is_refused(tmp_path: Path) -> None:
    """The message lists those there are."""
    with pytest.raises(InputError, match=r"interconnect\.topology: must be one of ring, mesh, got 'star'"):
        networked_chip(tmp_path, "star")
