"""Zeros and toggles of operands against a walk over every register, and what they do to energy."""

from __future__ import annotations

from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hand_plan import hand_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from small_workloads import write_workload

from accelsim import InputError, gemm_report, train
from accelsim.chip import PositiveQuantity, load_chip
from accelsim.cost import energy_ratio, mac_energy_aj, stated_ratio, toggle_energy_aj
from accelsim.datapath.activity import StreamActivity, observe
from accelsim.mapping import Plan
from accelsim.network import Operand
from accelsim.numerics.accumulate import Matrix
from accelsim.numerics.formats import number_format
from accelsim.operations import Gemm, Tensor
from accelsim.report.activity import activity_rows, activity_sentence
from accelsim.run.activity_meter import ActivityMeter

ROOT = Path(__file__).resolve().parent.parent
DATAFLOWS = ("weight_stationary", "output_stationary", "input_stationary")


def matrix(array: Any, name: str) -> Matrix:
    """An operand of a format."""
    return Matrix(array, number_format(name))


def walked_registers(plan: Plan, a: Any, b: Any) -> dict[str, list[list[int]]]:
    """What each PE's input registers hold in turn within each pass, one list a register and pass."""
    m, k, n = plan.m, plan.k, plan.n
    seen: dict[str, list[list[int]]] = {"a": [], "b": []}
    for start in range(0, k, plan.chunk):
        depth = range(start, min(start + plan.chunk, k))
        if plan.dataflow == "weight_stationary":
            seen["a"] += [[int(a[row, deep]) for row in range(m)] for deep in depth for _ in range(n)]
        elif plan.dataflow == "input_stationary":
            seen["b"] += [[int(b[deep, col]) for col in range(n)] for deep in depth for _ in range(m)]
        else:
            for lane in range(plan.lanes):
                turns = list(depth)[lane :: plan.lanes]
                seen["a"] += [[int(a[row, deep]) for deep in turns] for row in range(m) for _ in range(n)]
                seen["b"] += [[int(b[deep, col]) for deep in turns] for col in range(n) for _ in range(m)]
    return seen


def toggle_share(registers: list[list[int]], bits: int) -> Fraction | None:
    """Toggled bits over bits that could toggle; None where nothing follows anything."""
    pairs = [pair for held in registers for pair in pairwise(held)]
    flips = sum((old ^ new).bit_count() for old, new in pairs)
    return Fraction(flips, len(pairs) * bits) if pairs else None


def share(stream: StreamActivity) -> Fraction | None:
    """The same of what was counted."""
    return Fraction(stream.toggled_bits, stream.observed_bits) if stream.observed_bits else None


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 5), st.integers(1, 9), st.integers(1, 5)),
    dataflow=st.sampled_from(DATAFLOWS),
    lanes=st.integers(1, 3),
    rows=st.integers(1, 3),
    seed=st.integers(0, 2**32 - 1),
)
def test_counts_equal_a_walk_over_all_registers(
    shape: tuple[int, int, int], dataflow: Any, lanes: int, rows: int, seed: int
) -> None:
    """Toggles per register bit, idle products and zeros: as walked, for every dataflow and ragged shapes."""
    (m, k, n), draw = shape, np.random.default_rng(seed)
    a = draw.integers(0, 16, (m, k)).astype(np.uint8) * (draw.random((m, k)) < 0.7)
    b = draw.integers(0, 16, (k, n)).astype(np.uint8) * (draw.random((k, n)) < 0.7)
    plan = hand_plan(m=m, k=k, n=n, dataflow=dataflow, lanes=lanes, rows=rows, chunk=2 * lanes)
    seen = observe(plan, matrix(a, "int4"), matrix(b, "fp4_r4_even"))
    registers = walked_registers(plan, a, b)
    assert share(seen.a) == toggle_share(registers["a"], 4)
    assert share(seen.b) == toggle_share(registers["b"], 4)
    zero = number_format("fp4_r4_even").decode(np.arange(16)) == 0
    idle = sum(
        bool(a[row, deep] == 0 or zero[b[deep, col]])
        for row in range(m) for deep in range(k) for col in range(n)
    )  # fmt: skip
    assert (seen.products, seen.idle_products) == (m * k * n, idle)
    assert (seen.a.zeros, seen.b.zeros) == (int(np.sum(a == 0)), int(np.sum(zero[b])))


def test_wide_operands_toggle_in_their_own_bits() -> None:
    """A float32 array stands for 16-bit codes: 1 and -1 differ in one bit of sixteen."""
    column = np.array([[1.0], [-1.0], [-1.0], [0.0]], np.float32)
    plan = hand_plan(m=4)
    seen = observe(plan, matrix(column, "fp16"), matrix(np.ones((1, 1), np.float32), "fp16"))
    one = int(number_format("fp16").encode(np.array(-1.0)))
    assert seen.a == StreamActivity(4, 1, 16, 3 * 16, 1 + 0 + one.bit_count())
    assert seen.b.observed_bits == 0


def model(**changes: Any) -> Any:
    """The activity model of a shipped chip."""
    found = load_chip("fp4_training").array.activity
    assert found is not None
    return found.model_copy(update=changes)


@pytest.mark.parametrize(
    ("zeros", "ratio"),
    [("0", "1"), ("0.5", "0.855"), ("0.625", "0.7745"), ("0.9", "0.478"), ("1", "0.334")],
)
def test_energy_follows_the_curve(zeros: str, ratio: str) -> None:
    """At its points the curve is the file's, between them and beyond the last it is straight."""
    assert energy_ratio(model(), Fraction(zeros)) == Fraction(ratio)


def test_toggles_count_as_the_file_says() -> None:
    """A tenth of the energy going with toggles: half as many toggles more cost a twentieth more."""
    ten_percent = model(toggle_share=model().stated_zero_fraction.model_copy(update={"value": 0.1}))
    assert toggle_energy_aj(ten_percent, 30, 1000, 8, Fraction(1, 4)) == 30 * 50
    assert toggle_energy_aj(ten_percent, 30, 1000, 8, Fraction(-1, 2)) == -30 * 100
    assert toggle_energy_aj(model(), 30, 1000, 8, Fraction(1, 4)) == 0
    assert toggle_energy_aj(None, 30, 1000, 8, Fraction(1, 4)) == 0


def test_a_toggle_has_a_price_of_its_own() -> None:
    """Two attojoules a toggle: of 8 bits a product, a quarter toggling more than random ones do."""
    priced = model(energy_pj_per_toggle=PositiveQuantity(value=2e-6, source="a test", evidence="estimated"))
    assert toggle_energy_aj(priced, 30, 1000, 8, Fraction(1, 4)) == 30 * 8 * 2 // 4
    assert toggle_energy_aj(priced, 30, 1000, 8, Fraction(-1, 2)) == -30 * 8


@pytest.mark.parametrize("codes", [[[3, 3], [3, 3]], [[7, 8], [8, 7]]])
def test_a_meter_prices_the_toggles_it_counts(codes: list[list[int]], tmp_path: Path) -> None:
    """Streams that never toggle save, streams that always do cost: as a walk over all registers says."""
    chip = load_chip(priced_toggles(tmp_path))
    tensor = Tensor("t", 4, 4, "saved")
    gemm = Gemm("fc", "forward", 2, 2, 2, "int4", "int4", tensor, tensor, tensor)
    plan = hand_plan(m=2, k=2, n=2, energy_aj_per_mac=100_000)
    a = np.array(codes, np.uint8)
    meter = ActivityMeter(chip)
    meter.note(gemm, plan, Operand(a, "int4"), Operand(a, "int4"))
    (row,) = meter.rows(1)
    registers = walked_registers(plan, a, a)
    shares = [toggle_share(registers[side], 4) or Fraction(0) for side in ("a", "b")]
    excess = Fraction(4 * shares[0] + 4 * shares[1], 8) - Fraction(1, 2)
    assert row["toggle_mac_aj"] == round(8 * 8 * 5_000 * excess)
    assert row["stated_mac_aj"] == 800_000
    assert row["measured_mac_aj"] == 800_000 + row["toggle_mac_aj"]
    cheap = ActivityMeter(chip)
    cheap.note(gemm, hand_plan(m=2, k=2, n=2, energy_aj_per_mac=1), Operand(a, "int4"), Operand(a, "int4"))
    assert cheap.rows(1)[0]["measured_mac_aj"] == max(8 + row["toggle_mac_aj"], 0)


def priced_toggles(folder: Path, more: str = "") -> Path:
    """The 4-bit training chip with a price for toggles: 5 fJ a bit."""
    text = (ROOT / "arch_configs" / "fp4_training.yaml").read_text(encoding="utf-8")
    key = "    energy_pj_per_toggle: {value: 0.005, source: a test, evidence: estimated}\n"
    path = folder / "toggles.yaml"
    path.write_text(text.replace("    stated_zero_fraction:", f"{key}{more}    stated_zero_fraction:"))
    return path


def test_priced_toggles_reach_record_and_report(tmp_path: Path) -> None:
    """The same run, bit for bit, at the same stated cost; what toggles add stands beside what zeros save."""
    workload = write_workload(tmp_path, batch=40, epochs=1)
    plain, priced = (train(chip, workload) for chip in ("fp4_training", priced_toggles(tmp_path)))
    assert plain.training is not None
    assert priced.training is not None
    assert plain.training.weight_digest == priced.training.weight_digest
    assert plain.cost == priced.cost
    for without, row in zip(plain.training.activity, priced.training.activity, strict=True):
        assert without.toggle_mac_aj is None
        assert row.toggle_mac_aj is not None
        assert row.measured_mac_aj == without.measured_mac_aj + row.toggle_mac_aj
        bits = row.products * 8 * 5_000
        excess = row.toggle_fraction - row.independent_toggle_fraction
        if row.layer == "conv2d2":  # both operands of four bits
            assert row.toggle_mac_aj == pytest.approx(max(bits * excess, -without.measured_mac_aj), rel=1e-6)
    assert "for zeros, " in activity_sentence(priced)
    assert "for zeros, " not in activity_sentence(plain)
    rows = activity_rows(priced)
    assert all(row.of_toggles[0] in "+−" for row in rows)
    assert {row.of_toggles for row in activity_rows(plain)} == {"–"}
    sources = {row.key: row for row in priced.sources}
    assert sources["array.activity.energy_pj_per_toggle"].unit == "pJ/toggle"


def test_toggles_are_priced_once(tmp_path: Path) -> None:
    """A share of the energy and an energy a toggle would charge them twice."""
    share = "    toggle_share: {value: 0.1, source: a test, evidence: estimated}\n"
    with pytest.raises(InputError, match="'toggle_share' prices toggles already; give one of the two"):
        load_chip(priced_toggles(tmp_path, share))


def test_without_a_model_data_do_not_matter() -> None:
    """A chip file without the key charges every MAC alike, to the last attojoule."""
    assert energy_ratio(None, Fraction(1)) == 1
    assert stated_ratio(load_chip("rapid_core")) == 1
    assert mac_energy_aj(7, 65_359, Fraction(1)) == 7 * 65_359


def test_an_estimate_charges_the_stated_activity(tmp_path: Path) -> None:
    """Half of the products stated as idle: every MAC energy of the step is 0.855 of what it was."""
    from accelsim import estimate

    text = (ROOT / "arch_configs" / "fp4_training.yaml").read_text(encoding="utf-8")
    path = tmp_path / "half.yaml"
    path.write_text(
        text.replace("stated_zero_fraction:\n      value: 0", "stated_zero_fraction:\n      value: 0.5"),
        encoding="utf-8",
    )
    dense, half = (estimate(chip, "letters_mlp", batch=10, epochs=1).cost for chip in ("fp4_training", path))
    for one, other in zip(dense.layers, half.layers, strict=True):
        assert other.energy_aj.mac == pytest.approx(one.energy_aj.mac * 0.855, abs=1)
        assert other.energy_aj.dram == one.energy_aj.dram


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "[0, 0.5, 0.75, 0.9]",
            "[0.1, 0.5, 0.75, 0.9]",
            "zero_fractions: must start at 0 and rise, got 0.1, 0.5",
        ),
        (
            "[0, 0.5, 0.75, 0.9]",
            "[0, 0.5, 0.5, 0.9]",
            "zero_fractions: must start at 0 and rise, got 0, 0.5, 0.5",
        ),
        (
            "[1, 0.855, 0.694, 0.478]",
            "[1, 0.5]",
            "energy_ratios: must be as many as the 4 zero_fractions, got 2",
        ),
    ],
)
def test_a_curve_that_is_none_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    """The message names the key and what is wrong with the points."""
    text = (ROOT / "arch_configs" / "fp4_training.yaml").read_text(encoding="utf-8")
    path = tmp_path / "bad.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    with pytest.raises(InputError, match=message):
        load_chip(path)


def test_a_meter_adds_up_what_it_sees() -> None:
    """Two GEMMs of one layer are one row; their energies are each GEMM's own, and nothing comes of none."""
    chip = load_chip("fp4_training")
    tensor = Tensor("t", 4, 4, "saved")
    gemm = Gemm("fc", "forward", 2, 2, 2, "int4", "int4", tensor, tensor, tensor)
    plan = hand_plan(m=2, k=2, n=2, energy_aj_per_mac=1000)
    ones, none = (Operand(np.full((2, 2), code, np.uint8), "int4") for code in (1, 0))
    meter = ActivityMeter(chip)
    meter.note(gemm, plan, ones, ones)
    meter.note(gemm, plan, none, ones)
    empty = Operand(np.zeros((2, 0), np.uint8), "int4")
    meter.note(gemm, hand_plan(m=2, k=0, n=2), empty, Operand(np.zeros((0, 2), np.uint8), "int4"))
    (row,) = meter.rows(3)
    assert (row["epoch"], row["layer"], row["phase"]) == (3, "fc", "forward")
    assert (row["products"], row["idle_products"], row["a_zero_fraction"]) == (16, 8, 0.5)
    assert row["stated_mac_aj"] == 16_000
    assert row["measured_mac_aj"] == 8_000 + round(8_000 * Fraction("0.334"))


def test_a_stack_is_measured_product_by_product() -> None:
    """What a meter says of a stack is what it says of its products, shown one after another."""
    draw = np.random.default_rng(3)
    tensor = Tensor("t", 24, 4, "saved")
    gemm = Gemm("conv", "forward", 2, 3, 4, "int4", "int4", tensor, tensor, tensor, 5)
    plan = hand_plan(m=2, k=3, n=4, energy_aj_per_mac=1000)
    a, b = (draw.integers(0, 3, shape).astype(np.uint8) for shape in ((5, 2, 3), (5, 3, 4)))
    together, alone = ActivityMeter(load_chip("fp4_training")), ActivityMeter(load_chip("fp4_training"))
    together.note(gemm, plan, Operand(a, "int4"), Operand(b, "int4"))
    for left, right in zip(a, b, strict=True):
        alone.note(gemm, plan, Operand(left, "int4"), Operand(right, "int4"))
    assert together.rows(1) == alone.rows(1)
    assert together.rows(1)[0]["products"] == 5 * 24


def test_a_run_measures_its_operands(tmp_path: Path) -> None:
    """The record of a run holds one row a layer and phase with GEMMs; sums are those of the priced step."""
    record = train("fp4_training", write_workload(tmp_path), epochs=1, threads=1)
    assert record.training is not None
    rows = record.training.activity
    priced = {(layer.layer, layer.phase): layer for layer in record.cost.layers if layer.macs}
    assert {(row.layer, row.phase) for row in rows} == set(priced)
    for row in rows:
        assert row.products == priced[row.layer, row.phase].macs
        assert row.stated_mac_aj == priced[row.layer, row.phase].energy_aj.mac
        assert 0 < row.measured_mac_aj <= row.stated_mac_aj
        assert 0 <= row.toggle_fraction <= 1


def test_a_lone_gemm_is_measured_too() -> None:
    """A report of one GEMM counts the zeros it was given: half of A's rows idle, charged by the curve."""
    a = np.ones((8, 16), np.uint8)
    a[::2] = 0
    report = gemm_report("fp4_training", 8, 16, 4, a=a, b=np.ones((16, 4), np.uint8))
    seen = report.activity
    assert (seen["products"], seen["idle_products"], seen["a_zero_fraction"]) == (512, 256, 0.5)
    assert seen["stated_mac_aj"] == report.cost.energy.mac
    assert seen["measured_mac_aj"] == round(Fraction("0.855") * report.cost.energy.mac)
    assert report.as_record()["activity"] == seen
