"""A probe looks at a chip's step and changes no bit of it; what it says can be told from other sources."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from click.testing import CliRunner
from small_workloads import PERCEPTRON, write_workload

from accelsim.chip import load_chip
from accelsim.cli.probe import command
from accelsim.errors import InputError
from accelsim.mapping import Planner
from accelsim.numerics.formats import number_format
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.record.probe import ProbeRecord, probe_text, read_probe
from accelsim.report.probe_figures import probe_csv
from accelsim.run.chip_executor import ChipExecutor
from accelsim.run.probing import probe
from accelsim.run.state import initial_state
from accelsim.run.step import forward_backward, move_parameters, prepared
from accelsim.workload import load_workload

SHAPE_ONLY = """\
name: shape_only
description: A network without data.
data: {shape: [6, 6, 2], classes: 5, samples: 100}
batch: 4
epochs: 1
normalise: {mean: 0.5, deviation: 0.25}
optimizer: {kind: sgd}
learning_rate: {schedule: constant, initial: 0.1}
network:
  - conv2d: {channels: 4, kernel: 3, name: stem}
  - relu
  - conv2d: {channels: 4, kernel: 3, name: middle}
  - relu
  - flatten
  - linear: {features: 5, name: head}
"""


@pytest.fixture(scope="module")
def probed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ProbeRecord]:
    """Three steps of a small perceptron on the 4-bit chip."""
    path = write_workload(tmp_path_factory.mktemp("probe"), PERCEPTRON)
    return path, probe("fp4_training", path, steps=3, command="accelsim probe")


def plain_steps(path: Path, chip_name: str, batch: int, steps: int) -> tuple[str, float]:
    """Digest of the weights after so many steps that nobody looks at, and the last one's loss."""
    chip, workload = load_chip(chip_name), load_workload(path)
    recipe = load_recipe(chip.recipe)
    dataset, state = workload.source.load(), initial_state(workload)
    plain = ChipExecutor(Planner(chip), recipe, compile_program(workload, recipe).rules, state, workload.seed)
    x = prepared(dataset.train_x, workload, recipe)
    for step in range(steps):
        part = slice(step * batch, (step + 1) * batch)
        loss = forward_backward(plain, workload, x[part], dataset.train_y[part]).loss
        move_parameters(plain, workload, recipe, 0.0)
    return state.digest(), loss


def test_looking_changes_no_bit(probed: tuple[Path, ProbeRecord]) -> None:
    """The weights after three probed steps are those of three plain steps on the same samples."""
    path, record = probed
    assert (record.weight_digest, record.steps[-1].loss) == plain_steps(path, "fp4_training", 40, 3)


def test_a_step_of_16_bits_agrees_with_float32_and_four_bits_less(
    probed: tuple[Path, ProbeRecord],
) -> None:
    """Every tensor of the 16-bit chip is within a part in a hundred of float32; those of 4 bits are not."""
    path, record = probed
    wide = probe("fp16_training", path, steps=1)
    assert all(one.cosine is not None and one.cosine > 0.99 for one in wide.agreement)
    assert all(abs((one.gain or 0) - 1) < 0.02 for one in wide.agreement)
    assert not wide.operands
    narrow = [one.cosine or 0 for one in record.agreement if one.phase == "update"]
    assert 0.5 < min(narrow) < 0.99


def test_every_layer_and_phase_is_there_once(probed: tuple[Path, ProbeRecord]) -> None:
    """The table has a line per layer and phase; the quantised layer in the middle has its operands."""
    _, record = probed
    lines = [(one.layer, one.phase) for one in record.agreement]
    assert len(set(lines)) == len(lines) == 9
    middle = {one.role: one for one in record.operands if one.layer == "linear2"}
    assert set(middle) == {"activation", "gradient_input", "gradient_weight"}
    gradient = middle["gradient_input"]
    assert gradient.format == "fp4_r4_even"
    assert 0 < sum(gradient.octaves.values()) <= 40 * 32
    assert 0 <= gradient.underflow < 1
    assert 0.8 < (gradient.cosine or 0) < 1


def test_the_accumulator_loses_about_its_last_bit(probed: tuple[Path, ProbeRecord]) -> None:
    """Sums in DLFloat16 (9 fraction bits) are off by 2**-13 to 2**-8 of their size, never by nothing."""
    _, record = probed
    for product in record.products:
        assert product.error_rms is not None
        assert 2.0**-13 < product.error_rms < 2.0**-8, product


STACKS = """\
  - conv2d: {channels: 4, kernel: 3, stride: 2}
  - conv2d: {channels: 4, kernel: 3, groups: 4}
  - as_sequence
  - linear: {features: 12}
  - attention: {heads: 2}
  - mean_positions
  - linear: {features: 10}
"""


def test_groups_and_heads_are_looked_at_one_by_one(tmp_path: Path) -> None:
    """Every multiply-accumulate of the step is in the table, and looking at stacks changes no bit."""
    path = write_workload(tmp_path, STACKS)
    record = probe("fp16_training", path, steps=2, batch=3)
    assert sum(one.macs for one in record.products) == record.macs_per_step
    heads = {one.phase: one.products for one in record.products if one.layer == "attention1"}
    assert heads == {"forward": 2 * 3 * 2, "backward": 4 * 3 * 2}
    depthwise = [one.products for one in record.products if one.layer == "conv2d2"]
    assert depthwise == [4, 4, 4]
    assert (record.weight_digest, record.steps[-1].loss) == plain_steps(path, "fp16_training", 3, 2)


def test_a_workload_without_data_is_probed_on_random_samples(tmp_path: Path) -> None:
    """Samples are drawn from the seed: the same digest twice, another one for another seed."""
    path = tmp_path / "shape_only.yaml"
    path.write_text(SHAPE_ONLY, encoding="utf-8")
    first, again = probe("fp4_training", path), probe("fp4_training", path)
    other = probe("fp4_training", path, seed=9)
    assert first.samples == "random samples"
    assert first.weight_digest == again.weight_digest != other.weight_digest
    assert math.isfinite(first.steps[0].float32_loss or math.nan)


def test_samples_of_another_shape_are_refused(tmp_path: Path) -> None:
    """The user's own samples must have the shape the network was built for."""
    path = write_workload(tmp_path, PERCEPTRON)
    shape_only = tmp_path / "shape_only.yaml"
    shape_only.write_text(SHAPE_ONLY, encoding="utf-8")
    with pytest.raises(InputError, match=r"samples of shape \(8, 8, 1\) with 10 classes do not fit"):
        probe("fp4_training", shape_only, data=path.parent / "digits.npz")


def test_a_batch_of_more_than_all_samples_is_refused() -> None:
    """16,000 letters make no mini-batch of a million."""
    with pytest.raises(InputError, match=r"must be at most the 16000 training samples, got 1000000"):
        probe("fp4_training", "letters_mlp", batch=1_000_000)


def test_a_recipe_of_other_16_bit_numbers_is_refused() -> None:
    """A chip whose vector unit writes DLFloat16 cannot compute in bf16: it would round twice."""
    with pytest.raises(
        InputError, match=r"stores tensors in bf16, but the vector unit of chip 'fp16_training'"
    ):
        probe("fp16_training", "letters_mlp", recipe="bf16")


def test_the_record_reads_back_and_a_broken_one_says_why(
    probed: tuple[Path, ProbeRecord], tmp_path: Path
) -> None:
    """JSON and back is the same record; a file that is none is told in one line."""
    _, record = probed
    path = tmp_path / "probe.json"
    path.write_text(probe_text(record), encoding="utf-8")
    assert read_probe(path) == record
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="not the record of a probe: created"):
        read_probe(path)
    with pytest.raises(InputError, match="cannot read the record of a probe"):
        read_probe(tmp_path / "none.json")


def test_the_table_has_a_line_for_all_that_was_measured(probed: tuple[Path, ProbeRecord]) -> None:
    """probe.csv: agreement, operands and products, one line each, under one head."""
    _, record = probed
    lines = probe_csv(record).splitlines()
    assert len(lines) == 1 + len(record.agreement) + len(record.operands) + len(record.products)
    assert lines[0].startswith("layer,what,elements,cosine")


def test_the_command_writes_record_table_and_figures(tmp_path: Path) -> None:
    """`accelsim probe` prints a line per layer and keeps JSON, CSV and three figures."""
    path = write_workload(tmp_path, PERCEPTRON)
    out = tmp_path / "out"
    outcome = CliRunner().invoke(command, ["fp4_training", str(path), "--out", str(out)], obj=())
    assert outcome.exit_code == 0, outcome.output
    assert "linear2" in outcome.stdout
    assert json.loads((out / "probe.json").read_text())["schema"] == "accelsim.probe/1"
    drawn = {each.name for each in (out / "figures").iterdir()}
    assert drawn == {
        f"{name}.{kind}" for name in ("agreement", "operands", "exponents") for kind in ("png", "svg")
    }
    assert number_format("fp4_r4_even").name in (out / "probe.csv").read_text()


def test_a_probe_takes_a_step() -> None:
    """None to look at is a mistake, told before any work."""
    with pytest.raises(InputError, match="steps: must be at least 1, got 0"):
        probe("fp4_training", "fashion_cnn", steps=0)
