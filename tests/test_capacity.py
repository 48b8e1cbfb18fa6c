"""DRAM at its fullest, by class; traffic by class; memories with ports, banks, bursts and latency."""

from __future__ import annotations

import re
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priced_chip import priced_chip
from sample_records import sample_record

from accelsim import InputError, estimate
from accelsim.chip import Chip, load_chip
from accelsim.cost import Standing, dram_traffic_by_residence, gradient_bytes, peak_memory, price_layer
from accelsim.cost.capacity import weight_code_bytes
from accelsim.mapping import plan_gemm
from accelsim.mapping.memory_rates import MemoryRates
from accelsim.mapping.scratchpad import dram_bytes
from accelsim.operations import Gemm, LayerWork, Tensor, VectorWork
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.record import CostRecord
from accelsim.report.memory import fit_sentence, memory_rows
from accelsim.storage import resource_dir
from accelsim.workload import load_workload

KIB = 1024
STANDING = Standing(weight_codes=1, master_weights=10, optimizer_state=100, mini_batch=1000)
NOTE = 'source: "a test", evidence: estimated'


def saved(name: str, size: int) -> Tensor:
    """A tensor kept for the backward pass."""
    return Tensor(name, size, 8, "saved")


def chip_with(tmp_path: Path, section: str, lines: str) -> Chip:
    """The priced chip with more keys in one of its sections."""
    priced_chip(tmp_path)
    path = tmp_path / "priced.yaml"
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace(f"\n{section}:\n", f"\n{section}:\n{lines}"), encoding="utf-8")
    return load_chip(path)


def test_the_fullest_moment_by_hand(tmp_path: Path) -> None:
    """Saved tensors pile up, and go when their last reader is done; a spilled tensor counts while in use."""
    spilled = Tensor("s", 64 * KIB, 8, "stream")
    works = (
        LayerWork("one", "t", "forward", writes=(saved("a", 300),)),
        LayerWork("two", "t", "forward", writes=(saved("b", 500),)),
        LayerWork("two", "t", "backward", reads=(saved("b", 500), spilled)),
        LayerWork("one", "t", "backward", reads=(saved("a", 300), replace(spilled, elements=65 * KIB))),
    )
    found = peak_memory(works, priced_chip(tmp_path), STANDING)
    assert (found.layer, found.phase) == ("one", "backward")
    assert found.parts == {
        **vars(STANDING), "saved_activations": 300, "gradients": 0, "handed_over": 65 * KIB
    }  # fmt: skip
    assert found.peak_bytes == 1111 + 300 + 65 * KIB
    roomy = peak_memory(works, priced_chip(tmp_path, capacity_kib=256), STANDING)
    assert (roomy.layer, roomy.phase, roomy.parts["saved_activations"]) == ("two", "forward", 800)


def test_gradients_go_with_their_layer_or_stay_till_all_are_there(tmp_path: Path) -> None:
    """A layer's gradient counts once, whatever its names; for an all-reduce or a norm all stay."""

    def update(layer: str, size: int) -> LayerWork:
        part = Tensor(f"{layer}.dW", size, 16, "parameter")
        gemm = Gemm(layer, "update", 1, 1, size, "int4", "int4", saved("x", 1), saved("y", 1), part)
        return LayerWork(
            layer, "t", "update", (gemm,), reads=(Tensor(f"{layer}.gradient", size + 1, 16, "parameter"),)
        )

    works = [update("one", 40), update("two", 30)]
    chip = priced_chip(tmp_path)
    assert gradient_bytes(works) == 2 * (41 + 31)
    assert peak_memory(works, chip, STANDING).parts["gradients"] == 2 * 41
    kept = peak_memory(works, chip, STANDING, keep_gradients=True)
    assert (kept.layer, kept.parts["gradients"]) == ("two", 2 * (41 + 31))
    normed = [replace(work, vector_work=(VectorWork("gradient_norm", 1, adds=1),)) for work in works]
    assert peak_memory(normed, chip, STANDING) == kept


def naive_peak(works: list[LayerWork], chip: Chip) -> int:
    """The largest sum over all moments, each looked at on its own."""
    peak = 0
    for now, work in enumerate(works):
        held = 0
        for place, writer in enumerate(works[: now + 1]):
            for tensor in writer.writes:
                reads = [i for i, reader in enumerate(works) if tensor.name in {t.name for t in reader.reads}]
                needed_until = max(reads, default=len(works))
                later = any(t.name == tensor.name for w in works[place + 1 : now + 1] for t in w.writes)
                if tensor.residence == "saved" and now <= max(needed_until, place) and not later:
                    held += tensor.size_bytes
        moving = {t.name: t for t in (*work.reads, *work.writes) if t.residence == "stream"}
        held += sum(dram_bytes(tensor, chip) for tensor in moving.values())
        peak = max(peak, held)
    return peak


@settings(max_examples=60, deadline=None)
@given(data=st.data(), length=st.integers(1, 6))
def test_the_peak_is_that_of_a_look_at_every_moment(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, length: int
) -> None:
    """Random programs, written once and read anywhere later: the walk finds the same fullest moment."""
    chip = priced_chip(tmp_path_factory.mktemp("chip"), capacity_kib=1)
    works = []
    for place in range(length):
        names = [f"t{index}" for index in range(place)]
        reads = data.draw(st.lists(st.sampled_from(names), unique=True)) if names else []
        size = data.draw(st.integers(0, 2000))
        stream = Tensor(f"s{place}", data.draw(st.integers(0, 2000)), 8, "stream")
        works.append(
            LayerWork(f"w{place}", "t", "forward", (), (), tuple(saved(name, 1) for name in reads),
                      (saved(f"t{place}", size), stream))
        )  # fmt: skip
    nothing = Standing(0, 0, 0, 0)
    assert peak_memory(works, chip, nothing).peak_bytes == naive_peak(works, chip)


@pytest.mark.parametrize("chip_name", ["fp4_training", "edge_fp16"])
def test_traffic_by_class_is_all_the_traffic(chip_name: str) -> None:
    """Classes add up to the DRAM bytes of the layers; standing memory to what the program needs."""
    chip, workload = load_chip(chip_name), load_workload("fashion_cnn")
    program = compile_program(workload, load_recipe(chip.recipe))
    plans = {gemm: plan_gemm(gemm, chip) for gemm in program.gemms}
    layers = [price_layer(work, plans, chip) for work in program.works]
    moved = dram_traffic_by_residence(program.works, plans, chip)
    assert sum(moved.values()) == sum(layer.traffic.dram_bytes for layer in layers)
    memory = estimate(chip_name, "fashion_cnn").cost.memory
    assert memory.dram_traffic == moved
    assert memory.classes["weight_codes"] + memory.classes["master_weights"] == memory.parameter_bytes
    assert memory.classes["saved_activations"] == memory.saved_activation_bytes


def test_codes_of_a_strided_convolution_count_once() -> None:
    """The parts in which a strided backward convolution reads its weights are parts of one tensor."""
    workload = load_workload("fashion_cnn")
    program = compile_program(workload, load_recipe("fp16_dlfloat"))
    weights = sum(
        leaf.layer.parameters(leaf.site)["weight"].elements
        for leaf in workload.network.leaves()
        if "weight" in leaf.layer.parameters(leaf.site)
    )
    assert weight_code_bytes(program.works) == 2 * weights


def test_a_record_whose_classes_are_not_its_peak_is_refused() -> None:
    """The classes at the peak add up to the peak, or the record does not load."""
    content = sample_record().cost.model_dump()
    content["memory"]["classes"] = {"weight_codes": 1}
    with pytest.raises(ValueError, match=r"peak_bytes is \d+ but its classes add up to 1"):
        CostRecord.model_validate(content)


def record_with(peak_bytes: int, classes: dict[str, int]) -> Any:
    """A sample record of 64 samples and 16 GiB with another peak."""
    record = sample_record()
    memory = record.cost.memory.model_copy(update={"peak_bytes": peak_bytes, "classes": classes})
    return record.model_copy(update={"cost": record.cost.model_copy(update={"memory": memory})})


def test_what_does_not_fit_is_said_with_what_would() -> None:
    """A peak of the capacity fits; one byte more does not, and the sentence names a mini-batch that does."""
    assert fit_sentence(record_with(16 << 30, {})) == ""
    assert fit_sentence(record_with((16 << 30) + 1, {})).endswith("needs 16.0 GiB of 16.0 GiB.")
    half = record_with(24 << 30, {"master_weights": 8 << 30, "saved_activations": 16 << 30})
    assert "a mini-batch of about 32 samples fits, this one has 64" in fit_sentence(half)
    none = record_with(17 << 30, {"master_weights": (17 << 30) - 1, "saved_activations": 1})
    assert "no mini-batch fits" in fit_sentence(none)
    assert dict(memory_rows([none]))["Fits"] == ("no",)


def test_dram_reads_and_writes_take_turns_at_their_own_rates(tmp_path: Path) -> None:
    """8 bytes a cycle in, 2 out: the bus is busy for the sum, rounded up once; latency is 50 cycles."""
    chip = chip_with(
        tmp_path, "dram",
        f"  write_bandwidth_gb_per_s: {{value: 1, {NOTE}}}\n  latency_ns: {{value: 99.9, {NOTE}}}\n",
    )  # fmt: skip
    rates = MemoryRates(chip)
    assert rates.dram_cycles(1001, 3) == -(-(Fraction(1001, 8) + Fraction(3, 2)) // 1)
    assert rates.dram_latency_cycles == 50
    quiet = LayerWork("t", "t", "forward", reads=(Tensor("t", 8, 8, "stream"),))
    loud = LayerWork("t", "t", "forward", reads=(Tensor("t", 8, 8, "input"),))
    assert [price_layer(work, {}, chip).time.fill_cycles for work in (quiet, loud)] == [0, 50]


def test_a_tensor_moves_in_whole_bursts(tmp_path: Path) -> None:
    """65 bytes in bursts of 64 are 128 in time and energy; what stays on the chip is not rounded."""
    chip = chip_with(tmp_path, "dram", "  burst_bytes: 64\n")
    read = LayerWork("t", "t", "forward", reads=(Tensor("t", 65, 8, "input"), Tensor("s", 65, 8, "stream")))
    cost = price_layer(read, {}, chip)
    assert cost.traffic.dram_read_bytes == 128
    assert cost.energy.dram == 128 * 8 * 4_100_000


def test_ports_and_banks_limit_the_scratchpad(tmp_path: Path) -> None:
    """16 bytes a cycle in all, 4 of them writes; four banks of two bytes halve the sum."""
    ported = MemoryRates(
        chip_with(tmp_path, "scratchpad", "  ports: {read_bytes_per_cycle: 16, write_bytes_per_cycle: 4}\n")
    )
    assert [ported.scratchpad_cycles(*moved) for moved in ((160, 0), (0, 160), (150, 10))] == [10, 40, 10]
    banked = MemoryRates(chip_with(tmp_path, "scratchpad", "  banks: {count: 4, width_bytes: 2}\n"))
    assert [banked.scratchpad_cycles(*moved) for moved in ((160, 0), (81, 80))] == [20, 21]


@pytest.mark.parametrize(
    ("section", "line", "message"),
    [
        ("dram", "  burst_bytes: 0\n", "dram.burst_bytes: must be .*1.*, got 0"),
        ("dram", f"  latency_ns: {{value: -1, {NOTE}}}\n", "dram.latency_ns.value: must be .*0.*, got -1"),
        ("scratchpad", "  banks: {count: 4}\n", "scratchpad.banks: missing key 'width_bytes'"),
        (
            "scratchpad",
            "  ports: {read_bytes_per_cycle: 4, write: 4}\n",
            "unknown key 'write' in scratchpad.ports",
        ),
    ],
)
def test_mistakes_in_memory_keys(tmp_path: Path, section: str, line: str, message: str) -> None:
    """Each is one line with file, line and key."""
    with pytest.raises(InputError, match=message):
        chip_with(tmp_path, section, line)


@pytest.mark.parametrize(("written", "held_bytes"), [("0.5", 2**29), ("3", 3 * 2**30), ("0.001", 1_073_741)])
def test_a_capacity_may_be_a_part_of_a_gibibyte(tmp_path: Path, written: str, held_bytes: int) -> None:
    """A chip with half a gibibyte, or a thousandth: whole bytes, rounded down, reach the record."""
    text = (resource_dir("arch_configs") / "edge_fp4.yaml").read_text(encoding="utf-8")
    path = tmp_path / "small.yaml"
    path.write_text(re.sub("capacity_gib: .*", f"capacity_gib: {written}", text), encoding="utf-8")
    assert estimate(path, "letters_mlp").cost.memory.dram_capacity_bytes == held_bytes


@pytest.mark.parametrize(
    ("written", "message"),
    [("0", "must be at least 1e-06, got 0"), ("true", "must be a number, got true"), ("2000000", "at most")],
)
def test_a_capacity_must_be_one(tmp_path: Path, written: str, message: str) -> None:
    """Nothing, a word and a million gibibytes are refused at their place."""
    text = (resource_dir("arch_configs") / "edge_fp4.yaml").read_text(encoding="utf-8")
    path = tmp_path / "bad.yaml"
    path.write_text(re.sub("capacity_gib: .*", f"capacity_gib: {written}", text), encoding="utf-8")
    with pytest.raises(InputError, match=rf"dram\.capacity_gib: {message}|dram\.capacity_gib: .*{message}"):
        load_chip(path)
