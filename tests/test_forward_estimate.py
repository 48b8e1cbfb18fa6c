"""Forward passes of inference chips: what `estimate` and `map` say of chips that cannot train."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelsim import InputError, estimate
from accelsim.api import map_gemms
from accelsim.chip import load_chip
from accelsim.cli.main import main
from accelsim.program import compile_program, inference_program
from accelsim.recipe import load_recipe
from accelsim.record import read_record, record_text
from accelsim.report.memory import memory_rows
from accelsim.report.page import report_html
from accelsim.validation.running import run_outcome
from accelsim.validation.schema import Run
from accelsim.workload import load_workload

WORKLOADS = ("resnet18_imagenet", "alexnet_imagenet")


@pytest.mark.parametrize("workload", WORKLOADS)
@pytest.mark.parametrize("chip", ["tpu_v1", "nvdla_2048", "eyeriss"])
def test_inference_chips_run_real_networks(chip: str, workload: str, tmp_path: Path) -> None:
    """The forward pass as the validation runs it: the same cycles and energy, no other phase, no masters."""
    record = estimate(chip, workload, batch=4, phases="forward")
    assert record.phases == "forward"
    assert {layer.phase for layer in record.cost.layers} == {"forward"}
    again = run_outcome(Run(chip=chip, workload=workload, batch=4, work="inference"))
    assert record.cost.step_cycles == again.cycles
    assert record.cost.step_energy_aj.total_aj == again.on_chip_aj + again.dram_aj
    assert set(record.cost.memory.classes) == {
        "weight_codes", "other_parameters", "mini_batch", "handed_over",
    }  # fmt: skip
    path = tmp_path / "record.json"
    path.write_text(record_text(record), encoding="utf-8")
    assert read_record(path) == record


def test_a_chip_that_cannot_train_is_estimated_forward() -> None:
    """Without a word the TPU runs forward, a training chip trains; asked to train, the TPU says why not."""
    assert estimate("tpu_v1", "letters_mlp").phases == "forward"
    assert estimate("fp4_training", "letters_mlp").phases == "training"
    with pytest.raises(InputError, match=r"\(update\): chip 'tpu_v1' has no mode that multiplies uint8 x"):
        estimate("tpu_v1", "letters_mlp", phases="training")
    with pytest.raises(
        InputError,
        match=r"unknown phases 'forwards' \(did you mean 'forward'\?\); allowed: forward, training",
    ):
        estimate("tpu_v1", "letters_mlp", phases="forwards")


def test_a_pass_is_over_the_test_data() -> None:
    """Epochs of a forward pass are passes over the test data, one unless more are asked for."""
    letters = load_workload("letters_mlp")
    record = estimate("tpu_v1", letters, batch=64)
    assert (record.epochs, record.steps_per_epoch) == (1, -(-letters.data.test_samples // 64))
    assert estimate("tpu_v1", letters, epochs=3).epochs == 3


def test_chips_share_a_forward_pass_without_an_all_reduce() -> None:
    """There are no gradients to add up: two chips of eight samples cost what one with eight does."""
    two = estimate("fp4_training", "letters_mlp", batch=16, chips=2, phases="forward")
    one = estimate("fp4_training", "letters_mlp", batch=8, phases="forward")
    assert two.cost.layers == one.cost.layers
    assert two.chips == 2


def test_memory_of_a_forward_pass_by_hand() -> None:
    """Codes of both weights, biases as masters, samples in the code of the first layer."""
    letters = load_workload("letters_mlp")
    recipe = load_recipe("int8_inference")
    program = compile_program(letters, recipe, 10)
    leaves = list(letters.network.leaves())
    weights = others = 0
    for leaf in leaves:
        for name, one in leaf.layer.parameters(leaf.site).items():
            weights += one.elements if one.operand_of else 0
            normalised = leaf.layer.kind == "batch_norm" and name != "beta"
            others += 0 if one.operand_of or normalised else 4 * one.elements
    need = inference_program(letters, program, 10).memory
    assert need.parameter_bytes == weights + others
    assert need.input_bytes == 10 * leaves[0].site.elements
    assert need.optimizer_bytes == need.saved_activation_bytes == 0


def test_the_map_of_an_inference_chip() -> None:
    """`map` lists the forward GEMMs that the chip can run, and of a training chip all of them."""
    mapped = map_gemms("nvdla_2048", "alexnet_imagenet", batch=2)
    assert {each.gemm.phase for each in mapped} == {"forward"}
    assert len(mapped) == 8
    trained = map_gemms(load_chip("fp4_training"), "letters_mlp")
    assert {each.gemm.phase for each in trained} == {"forward", "backward", "update"}


def test_the_command_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    """One line why, one line what; a baseline that could train is then run forward, too."""
    words = ["estimate", "tpu_v1", "letters_mlp", "--quiet"]
    assert main([*words, "--baseline", "fp4_training"]) == 0
    shown = capsys.readouterr().out
    assert (
        "tpu_v1 cannot train with recipe int8_inference: its MACs take no GEMM of a backward pass." in shown
    )
    assert "fp4_training: forward pass only (inference" in shown
    assert "Throughput of the forward pass, simulated" in shown
    assert "training sample" not in shown
    assert main([*words, "--phases", "training"]) == 2
    assert "has no mode that multiplies" in capsys.readouterr().err


def test_the_report_of_a_forward_pass() -> None:
    """The page names the pass and leaves out what training alone has."""
    records = [estimate(chip, "letters_mlp", phases="forward") for chip in ("tpu_v1", "nvdla_2048")]
    page = report_html(records, {})
    assert "nvdla_2048: forward pass only" in page
    assert "Training speed" not in page
    labels = [label for label, _ in memory_rows(records)]
    assert "Biases, shifts and tables of the vector units" in labels
    assert "Optimiser state" not in labels
