"""Traffic, time, energy and area of layers, by hand arithmetic and as sums of their parts."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from math import fsum
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priced_chip import priced_chip

from accelsim.chip import Chip
from accelsim.cost import LayerCost, LayerTime, chip_area, price_layer, price_step
from accelsim.mapping import Plan, plan_gemm
from accelsim.operations import Gemm, LayerWork, Tensor, VectorWork

KIB = 1024


def layer(
    m: int = 16,
    k: int = 16,
    n: int = 8,
    *,
    residence: Any = "saved",
    out_residence: Any = "stream",
    **given_work: Any,
) -> LayerWork:
    """A layer with one int4 GEMM (m, k) x (k, n), and the vector work that is given."""
    a = Tensor("x", m * k, 4, residence)
    b = Tensor("w", k * n, 4, "parameter")
    out = Tensor("y", m * n, 16, out_residence)
    gemm = Gemm("fc", "forward", m, k, n, "int4", "int4", a, b, out)
    return LayerWork("fc", "linear", "forward", gemms=(gemm,), **given_work)


def vector_layer(*tensors: Tensor, work: tuple[VectorWork, ...] = ()) -> LayerWork:
    """A layer without a GEMM that reads ``tensors`` and writes nothing."""
    return LayerWork("relu", "activation", "forward", vector_work=work, reads=tensors)


def price(work: LayerWork, chip: Chip) -> LayerCost:
    """The layer's cost with the plans the chip would choose."""
    return price_layer(work, {gemm: plan_gemm(gemm, chip) for gemm in work.gemms}, chip)


def test_a_layers_traffic_by_hand(tmp_path: Path) -> None:
    """Operands from DRAM through the scratchpad to the array's edge, the result into the scratchpad."""
    cost = price(layer(), priced_chip(tmp_path, dataflows="weight_stationary"))
    counts = cost.gemms[0].counts
    from_dram = 16 * 16 // 2 + 16 * 8 // 2
    assert (counts.a_buffer_bytes, counts.b_buffer_bytes) == (2 * 16 * 16 // 2, 16 * 8 // 2)
    assert (cost.traffic.dram_read_bytes, cost.traffic.dram_write_bytes) == (from_dram, 0)
    assert cost.traffic.scratchpad_write_bytes == from_dram + 2 * 16 * 8
    assert cost.traffic.scratchpad_read_bytes == counts.a_buffer_bytes + counts.b_buffer_bytes


def test_a_layers_energy_by_hand(tmp_path: Path) -> None:
    """Each component is its count times its own number of the chip file, in attojoules."""
    works = (VectorWork("relu", 100, adds=1, multiplies=2, compares=3, specials=4),)
    written = Tensor("z", 33, 16, "saved")
    work = layer(out_residence="saved", vector_work=works, writes=(written,))
    cost = price(work, priced_chip(tmp_path))
    traffic, energy = cost.traffic, cost.energy
    assert energy.mac == 16 * 16 * 8 * 62_500
    assert energy.operand_buffer == cost.gemms[0].counts.operand_buffer_bytes * 300_000
    assert energy.scratchpad == (
        traffic.scratchpad_read_bytes * 1_750_000 + traffic.scratchpad_write_bytes * 2_250_000
    )
    assert traffic.dram_write_bytes == 2 * 16 * 8 + 66
    assert energy.dram == 8 * (traffic.dram_read_bytes * 4_100_000 + traffic.dram_write_bytes * 5_300_000)
    assert energy.vector_unit == 100 * (110_000 + 2 * 130_000 + 3 * 170_000 + 4 * 190_000)
    assert energy.static == cost.time.total_cycles * 30 * 10**9 // 500
    assert energy.total_aj == sum(energy.as_record().values())


def test_static_energy_is_power_times_time(tmp_path: Path) -> None:
    """30 mW for n cycles at 700 MHz, rounded once, half to even."""
    cost = price(layer(), priced_chip(tmp_path, clock_mhz=700))
    assert cost.energy.static == round(Fraction(cost.time.total_cycles * 30 * 10**9, 700))


def test_a_stream_tensor_stays_while_it_fits_half_the_scratchpads(tmp_path: Path) -> None:
    """Up to half of all scratchpads together nothing goes to DRAM; one byte more and all of it does."""
    chip = priced_chip(tmp_path, cores=2, capacity_kib=64)
    fits = Tensor("t", 64 * KIB, 8, "stream")
    assert price(vector_layer(fits), chip).traffic.dram_bytes == 0
    assert price(vector_layer(fits), chip).traffic.scratchpad_bytes == 64 * KIB
    spilled = price(vector_layer(replace(fits, elements=64 * KIB + 1)), chip).traffic
    assert spilled.dram_read_bytes == 64 * KIB + 1
    assert spilled.scratchpad_bytes == 2 * (64 * KIB + 1)


@pytest.mark.parametrize("residence", ["saved", "parameter", "input"])
def test_other_tensors_always_cross_dram(tmp_path: Path, residence: Any) -> None:
    """What the backward pass, the optimiser or the host needs is in DRAM, however small it is."""
    chip = priced_chip(tmp_path)
    tensor = Tensor("t", 3, 4, residence)
    assert price(vector_layer(tensor), chip).traffic.dram_read_bytes == 2
    assert price(LayerWork("t", "t", "update", writes=(tensor,)), chip).traffic.dram_write_bytes == 2


def test_what_the_writer_leaves_in_the_scratchpad_its_reader_finds_there(tmp_path: Path) -> None:
    """A result that spills is read back from DRAM by the next GEMM, one that stays is not."""
    for capacity_kib, spills in ((64, False), (16, True)):
        chip = priced_chip(tmp_path, capacity_kib=capacity_kib)
        writer = price(layer(m=256, n=32, k=8), chip).traffic
        reader = layer(m=256, k=32, residence="stream").gemms[0]
        reader = replace(reader, a=replace(reader.a, bits=16))
        read = price(LayerWork("fc2", "linear", "forward", (reader,)), chip).traffic
        assert (writer.dram_write_bytes > 0, read.dram_read_bytes > 32 * 8 // 2) == (spills, spills)


def test_operands_that_do_not_fit_are_read_again(tmp_path: Path) -> None:
    """DRAM bytes are the tensors times the loads of the plan's tiles."""
    chip = priced_chip(tmp_path, capacity_kib=1)
    cost = price(layer(m=512, k=64, n=512), chip)
    plan = cost.gemms[0].plan
    assert (plan.tile_m, plan.tile_n) != (512, 512)
    tensor_bytes = 512 * 64 // 2
    assert cost.traffic.dram_read_bytes % tensor_bytes == 0
    assert cost.traffic.dram_read_bytes > 2 * tensor_bytes


def test_vector_cycles_are_rounded_up_for_each_piece_of_work(tmp_path: Path) -> None:
    """Operations times their cycles over all lanes of all corelets, one piece after another."""
    chip = priced_chip(tmp_path, cores=2, corelets=3)
    works = (VectorWork("a", 25, adds=1), VectorWork("b", 5, multiplies=1, compares=1, specials=2))
    cost = price(vector_layer(work=works), chip)
    assert cost.time.vector_cycles == -(-25 // 24) + -(-5 * (2 + 1 + 2 * 8) // 24)
    assert cost.vector_operations == 25 + 5 * 4


def test_memory_cycles_are_bytes_over_bandwidth(tmp_path: Path) -> None:
    """4 GB/s at 500 MHz are 8 bytes per cycle; two scratchpads of 16 bytes per cycle are 32."""
    chip = priced_chip(tmp_path, cores=2)
    cost = price(vector_layer(Tensor("t", 1001, 8, "input")), chip)
    assert cost.time.dram_cycles == -(-1001 // 8)
    assert cost.time.scratchpad_cycles == -(-2002 // 32)


def test_bandwidth_that_is_no_whole_number_is_exact(tmp_path: Path) -> None:
    """0.3 GB/s at 300 MHz is one byte per cycle, with no binary fraction left over."""
    chip = priced_chip(tmp_path, clock_mhz=300, dram_bandwidth=0.3)
    assert price(vector_layer(Tensor("t", 777, 8, "input")), chip).time.dram_cycles == 777


@pytest.mark.parametrize(
    ("cycles", "bound", "total"),
    [((5, 5, 5, 5), "array", 7), ((1, 9, 9, 2), "dram", 11), ((1, 2, 3, 3), "scratchpad", 5)],
)
def test_the_busiest_resource_binds(cycles: tuple[int, ...], bound: str, total: int) -> None:
    """A layer takes the longest of the four and the first fill; ties go to the first in order."""
    time = LayerTime(*cycles, fill_cycles=2)
    assert (time.bound, time.total_cycles) == (bound, total)
    assert LayerTime(0, 0, 0, 1, 0).bound == "vector"


def test_the_first_fill_is_one_pass_of_operands(tmp_path: Path) -> None:
    """Every worker's first 4 x 8 weights and four rows of inputs, at 8 bytes per cycle."""
    chip = priced_chip(tmp_path, dataflows="weight_stationary", cores=2)
    work = layer(m=64, k=64, n=4)
    cost = price(work, chip)
    assert cost.gemms[0].plan.split == "m"
    assert cost.time.fill_cycles == -(-(2 * 4 * 8 // 2 + 8 * 4 // 2) // 8)


def test_a_layer_without_work_costs_nothing(tmp_path: Path) -> None:
    """No GEMM, no vector work, no tensors: zero cycles, zero energy, zero utilization."""
    cost = price(vector_layer(), priced_chip(tmp_path))
    assert (cost.time.total_cycles, cost.energy.total_aj, cost.utilization) == (0, 0, 0.0)


def test_an_empty_gemm_reads_nothing_and_writes_its_zeros(tmp_path: Path) -> None:
    """A sum over no products is zero without a look at the operands, but it is still a result."""
    work = layer(k=0, out_residence="saved")
    cost = price(work, priced_chip(tmp_path))
    assert (cost.traffic.dram_read_bytes, cost.traffic.dram_write_bytes) == (0, 2 * 16 * 8)
    assert (cost.time.array_cycles, cost.time.fill_cycles) == (0, 0)


def test_utilization_is_one_for_an_array_that_never_idles(tmp_path: Path) -> None:
    """MACs over PEs x lanes x total cycles: by hand, and below one."""
    cost = price(layer(m=4000, k=8, n=4), priced_chip(tmp_path))
    assert cost.utilization == float(Fraction(4000 * 8 * 4, 4 * 4 * 2 * cost.time.total_cycles))
    assert 0 < cost.utilization < 1


@settings(max_examples=30, deadline=None)
@given(shapes=st.lists(st.tuples(*[st.integers(0, 50)] * 3), max_size=4))
def test_a_layer_is_the_sum_of_its_gemms(
    tmp_path_factory: pytest.TempPathFactory, shapes: list[tuple[int, int, int]]
) -> None:
    """MACs, array cycles, traffic and energy of a layer are those of its GEMMs added up, exactly."""
    chip = priced_chip(tmp_path_factory.mktemp("c"))
    works = [layer(*shape) for shape in shapes]
    whole = price(LayerWork("all", "linear", "forward", tuple(work.gemms[0] for work in works)), chip)
    plans: dict[Gemm, Plan] = {work.gemms[0]: plan_gemm(work.gemms[0], chip) for work in works}
    parts = price_step(works, chip, plans)
    assert whole.macs == sum(part.macs for part in parts)
    assert whole.time.array_cycles == sum(part.time.array_cycles for part in parts)
    for name in vars(whole.traffic):
        assert getattr(whole.traffic, name) == sum(getattr(part.traffic, name) for part in parts)
    for component in ("mac", "operand_buffer", "scratchpad", "dram", "vector_unit"):
        assert getattr(whole.energy, component) == sum(getattr(part.energy, component) for part in parts)


def test_a_record_row_holds_whole_numbers_and_the_gemms_plans(tmp_path: Path) -> None:
    """The row has the record's keys; all counts are Python integers and energies add up."""
    row = price(layer(), priced_chip(tmp_path, cores=2)).as_record()
    counts = {key: value for key, value in row.items() if key.endswith(("_cycles", "_bytes", "_operations"))}
    assert all(type(value) is int for value in [*counts.values(), *row["energy_aj"].values(), row["macs"]])
    assert (row["layer"], row["kind"], row["phase"]) == ("fc", "linear", "forward")
    assert row["scratchpad_bytes"] > row["dram_read_bytes"]
    assert row["gemms"] == [
        {
            "m": 16,
            "k": 16,
            "n": 8,
            "groups": 1,
            "a_format": "int4",
            "b_format": "int4",
            "dataflow": row["gemms"][0]["dataflow"],
            "split": row["gemms"][0]["split"],
            "workers": 2,
            "lanes": 2,
            "chunk": 8,
            "passes": row["gemms"][0]["passes"],
            "array_cycles": row["array_cycles"],
        }
    ]


def test_area_is_the_sum_of_its_parts(tmp_path: Path) -> None:
    """PEs, vector units and scratchpads as often as the chip has them, and the die is all of them."""
    area = chip_area(priced_chip(tmp_path, rows=8, cols=16, cores=3, corelets=2))
    assert area.mac_array_mm2 == pytest.approx(6 * 8 * 16 * 300e-6, rel=1e-15)
    assert (area.vector_unit_mm2, area.scratchpad_mm2, area.other_mm2) == (6 * 0.25, 3 * 1.5, 0.75)
    *parts, die_mm2 = area.as_record().values()
    assert die_mm2 == fsum(parts)


def test_what_arrays_share_is_read_once(tmp_path: Path) -> None:
    """With multicast the scratchpads give B once to four arrays that cut M; the arrays take no less."""
    own, shared = (
        priced_chip(tmp_path, cores=4, dataflows="weight_stationary", multicast=on) for on in (False, True)
    )
    work = layer(m=64, k=8, n=4)
    plan = replace(plan_gemm(work.gemms[0], own), m_splits=4, n_splits=1, group_splits=1)
    alone, together = (
        price_layer(work, {work.gemms[0]: replace(plan, multicast=chip.scratchpad.multicast)}, chip)
        for chip in (own, shared)
    )
    b_bytes = 8 * 4 // 2
    assert alone.gemms[0].counts.b_buffer_bytes == together.gemms[0].counts.b_buffer_bytes == 4 * b_bytes
    assert alone.traffic.scratchpad_read_bytes - together.traffic.scratchpad_read_bytes == 3 * b_bytes
    assert together.energy.operand_buffer == alone.energy.operand_buffer
    assert plan_gemm(work.gemms[0], shared).multicast
