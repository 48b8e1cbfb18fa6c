"""Training runs: the same inputs give the same bits, whatever stops, splits or threads them; they learn."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_chips import write_array_chip
from small_workloads import ADAM, CNN, PERCEPTRON, write_digits, write_workload

import accelsim
from accelsim.errors import InputError
from accelsim.record import RunRecord, TrainingRecord, read_record, record_text
from accelsim.storage import resource_dir

ROOT = Path(__file__).resolve().parent.parent
CHIPS = ["fp4_training", "fp16_training"]


def trained(chip: str | Path, workload: Path, **options: Any) -> TrainingRecord:
    """The training part of a run's record."""
    record = accelsim.train(chip, workload, **options)
    assert record.training is not None
    return record.training


def numbers(training: TrainingRecord) -> dict[str, Any]:
    """All that a run computed, without the seconds it took."""
    data = training.model_dump()
    for epoch in data["epochs"]:
        del epoch["host_seconds"]
    return data


@pytest.fixture
def workload(tmp_path: Path) -> Path:
    """A small CNN with every kind of layer, two epochs of ten steps."""
    return write_workload(tmp_path)


@pytest.fixture
def ieee_chip(tmp_path: Path) -> Path:
    """The 16-bit chip in IEEE half: formats and accumulator, by changing its file only."""
    text = (resource_dir("arch_configs") / "fp16_training.yaml").read_text(encoding="utf-8")
    path = tmp_path / "ieee.yaml"
    changed = text.replace("dlfloat16", "fp16").replace("recipe: fp16_fp16", "recipe: fp16_ieee")
    changed = changed.replace("recipe: fp16_dlfloat", "recipe: fp16_ieee")
    path.write_text(changed, encoding="utf-8")
    return path


@pytest.mark.parametrize("chip", CHIPS)
def test_threads_and_repetition_do_not_change_a_run(chip: str, workload: Path) -> None:
    """One thread, two threads and a second run: the same weights, losses and observations."""
    first = trained(chip, workload, threads=1)
    assert numbers(trained(chip, workload, threads=2)) == numbers(first)
    assert numbers(trained(chip, workload, threads=1)) == numbers(first)


PROCESS = """\
import sys
import accelsim
print(accelsim.train(sys.argv[1], sys.argv[2], epochs=1).training.weight_digest)
"""


def test_processes_do_not_change_a_run(workload: Path) -> None:
    """Another process with other hash seeds, threads and BLAS settings ends in the same digest."""
    here = trained("fp4_training", workload, epochs=1).weight_digest
    for hash_seed, threads in (("0", "1"), ("77", "2")):
        environment = os.environ | {
            "PYTHONPATH": str(ROOT),
            "PYTHONHASHSEED": hash_seed,
            "NUMBA_NUM_THREADS": threads,
            "OMP_NUM_THREADS": threads,
        }
        words = [sys.executable, "-c", PROCESS, "fp4_training", str(workload)]
        done = subprocess.run(words, env=environment, check=False, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [here]


def test_the_seed_decides(workload: Path) -> None:
    """Another seed is another run: other first weights and another order of the samples."""
    digests = {trained("fp4_training", workload, epochs=1, seed=seed).weight_digest for seed in (5, 6, 7)}
    assert len(digests) == 3
    assert trained("fp4_training", workload, epochs=1).weight_digest in digests


@pytest.mark.parametrize("optimizer", ["{kind: sgd}", ADAM])
@pytest.mark.parametrize("chip", CHIPS)
def test_resumed_run_ends_like_an_unbroken_one(chip: str, optimizer: str, tmp_path: Path) -> None:
    """Stopped after the first of three epochs and resumed: every number of the record is the same."""
    workload = write_workload(tmp_path, epochs=3, optimizer=optimizer, rate="0.01")
    checkpoint = tmp_path / "run" / "checkpoint.npz"
    whole = trained(chip, workload)
    with pytest.raises(KeyboardInterrupt):
        accelsim.train(chip, workload, checkpoint=checkpoint, progress=_stop_at(epoch=2, step=1))
    assert numbers(trained(chip, workload, checkpoint=checkpoint, resume=True)) == numbers(whole)
    # and once more from the checkpoint of the finished run, given as text: nothing is left to do
    again = trained(chip, workload, checkpoint=str(checkpoint), resume=True)
    assert again.weight_digest == whole.weight_digest


def _stop_at(*, epoch: int, step: int) -> Any:
    def watch(event: accelsim.Progress) -> None:
        if (event.epoch, event.step) == (epoch, step):
            raise KeyboardInterrupt

    return watch


def test_stop_in_an_epoch_leaves_the_last_checkpoint(workload: Path, tmp_path: Path) -> None:
    """Ctrl-C in the middle of an epoch: the file is that of the epoch before, byte for byte, and alone."""
    folder = tmp_path / "run"
    checkpoint = folder / "checkpoint.npz"
    contents = []

    def watch(event: accelsim.Progress) -> None:
        if (event.epoch, event.step) == (2, 1):
            contents.append(checkpoint.read_bytes())
        if (event.epoch, event.step) == (2, 6):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        accelsim.train("fp4_training", workload, checkpoint=checkpoint, progress=watch)
    assert [checkpoint.read_bytes()] == contents
    assert [path.name for path in folder.iterdir()] == ["checkpoint.npz"]


def test_stop_in_the_first_epoch_leaves_nothing(workload: Path, tmp_path: Path) -> None:
    """No checkpoint is written before an epoch is done, and no half of one stays behind."""
    checkpoint = tmp_path / "run" / "checkpoint.npz"
    with pytest.raises(KeyboardInterrupt):
        accelsim.train("fp4_training", workload, checkpoint=checkpoint, progress=_stop_at(epoch=1, step=3))
    assert not checkpoint.parent.exists()


@pytest.mark.parametrize("chip", CHIPS)
def test_networks_learn(chip: str, tmp_path: Path) -> None:
    """The loss falls from epoch to epoch and the test accuracy ends far above the chance of one in ten."""
    training = trained(chip, write_workload(tmp_path, epochs=8))
    losses = [epoch.train_loss or 9e9 for epoch in training.epochs]
    assert losses[-1] < 0.5 * losses[0]
    assert losses[1] < losses[0]
    assert training.final_accuracy > 0.7
    assert training.epochs[-1].train_accuracy > 0.8
    assert training.best_accuracy == max(epoch.test_accuracy for epoch in training.epochs)


@pytest.mark.parametrize("chip", CHIPS)
def test_perceptrons_learn_with_adam(chip: str, tmp_path: Path) -> None:
    """Adam, biases, no normalisation: both chips learn."""
    workload = write_workload(tmp_path, PERCEPTRON, epochs=6, optimizer=ADAM, rate="0.01")
    assert trained(chip, workload).final_accuracy > 0.6


def test_ieee_half_by_changing_the_chip_file_only(ieee_chip: Path, workload: Path) -> None:
    """fp16 operands, accumulators and storage with a loss scale: it learns, and not with the 1-6-9 bits."""
    record = accelsim.train(ieee_chip, workload, epochs=4)
    assert record.training is not None
    assert record.recipe.name == "fp16_ieee"
    assert {gemm.a_format for layer in record.cost.layers for gemm in layer.gemms} == {"fp16"}
    assert record.training.final_accuracy > 0.6
    assert record.training.weight_digest != trained("fp16_training", workload, epochs=4).weight_digest


def test_the_four_bit_run_uses_four_bits(workload: Path) -> None:
    """Inner layers on INT4 and radix-4 FP4, first and last in 16 bits; the record tells how they fared."""
    record = accelsim.train("fp4_training", workload, epochs=1)
    assert record.training is not None
    rows = {(row.layer, row.phase): row for row in record.cost.layers}
    pairs = [rows["conv2d2", phase].gemms[0] for phase in ("forward", "backward", "update")]
    assert [{gemm.a_format, gemm.b_format} for gemm in pairs] == [
        {"uint4", "int4"},
        {"fp4_r4_even", "int4"},
        {"uint4", "fp4_r4_odd"},
    ]
    assert rows["conv2d1", "forward"].gemms[0].a_format == "dlfloat16"
    assert rows["linear1", "update"].gemms[0].b_format == "dlfloat16"
    seen = {(row.layer, row.role) for row in record.training.tensors}
    roles = ("activation", "gradient_input", "gradient_weight")
    assert seen == {(layer, role) for layer in ("conv2d2", "conv2d3") for role in roles}
    assert sum(record.training.kernels.values()) > 0


@pytest.mark.parametrize("chip", CHIPS)
def test_estimate_and_run_cost_the_same(chip: str, workload: Path) -> None:
    """Both come from the same plans: cost, data, batch and chip of the two records are identical."""
    estimate = accelsim.estimate(chip, workload, batch=30, epochs=1)
    run = accelsim.train(chip, workload, batch=30, epochs=1)
    assert estimate.cost == run.cost
    left_out = {"kind", "created", "command", "threads", "training", "versions"}
    assert estimate.model_dump(exclude=left_out) == run.model_dump(exclude=left_out)
    assert (estimate.kind, run.kind, estimate.training) == ("estimate", "train", None)
    assert run.steps_per_epoch == 400 // 30


def test_progress_tells_every_step_and_every_test(workload: Path) -> None:
    """One event a step, one a test; the last one agrees with the record."""
    events: list[accelsim.Progress] = []
    training = trained("fp16_training", workload, progress=events.append)
    steps = [(event.epoch, event.step) for event in events if event.phase == "train"]
    assert steps == [(epoch, step) for epoch in (1, 2) for step in range(1, 11)]
    tests = [event for event in events if event.phase == "test"]
    assert [event.test_accuracy for event in tests] == [epoch.test_accuracy for epoch in training.epochs]
    assert [event.loss for event in tests] == [epoch.train_loss for epoch in training.epochs]
    assert events[-1].seconds_left == 0
    assert all(event.samples_per_second > 0 and event.test_accuracy is None for event in events[:5])


@pytest.mark.parametrize("chip", [*CHIPS, "ieee"])
@pytest.mark.parametrize(
    ("network", "rate"), [(PERCEPTRON, "1.0e+6"), (CNN, "1.0e+6"), (CNN, "1.0e+37"), (PERCEPTRON, "1.0e+37")]
)
def test_a_run_that_diverges_ends_with_a_record(
    chip: str, network: str, rate: str, tmp_path: Path, ieee_chip: Path
) -> None:
    """A learning rate without reason: no warning, no traceback, a record that can be written and read."""
    write_digits(tmp_path, train=160, test=40)
    workload = write_workload(tmp_path, network, schedule="constant", rate=rate)
    checkpoint = tmp_path / "checkpoint.npz"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = accelsim.train(ieee_chip if chip == "ieee" else chip, workload, checkpoint=checkpoint)
    (tmp_path / "record.json").write_text(record_text(record), encoding="utf-8")
    again = read_record(tmp_path / "record.json")
    assert again == record
    assert again.training is not None
    if rate == "1.0e+37":
        assert [epoch.test_loss for epoch in again.training.epochs] == [None, None]
    assert again.training.final_accuracy < 0.4


def test_a_diverged_run_is_repeatable_and_resumable(tmp_path: Path) -> None:
    """NaNs in the weights have one bit pattern in the digest, and a checkpoint brings them back."""
    workload = write_workload(tmp_path, PERCEPTRON, schedule="constant", rate="1.0e+37")
    checkpoint = tmp_path / "checkpoint.npz"
    whole = trained("fp16_training", workload, threads=1)
    with pytest.raises(KeyboardInterrupt):
        accelsim.train("fp16_training", workload, checkpoint=checkpoint, progress=_stop_at(epoch=2, step=2))
    resumed = trained("fp16_training", workload, checkpoint=checkpoint, resume=True)
    assert numbers(resumed) == numbers(whole)


GOLDEN = {
    "fp4": "f93ed1d547490bd3659581e261164c18e901dc9da07704f0328fb4c5113e1163",
    "fp16": "028c1a154a3a8d6e75d57ad22d48a79cbdc7841877719181f8a9524bc7fa84a1",
}


@pytest.mark.parametrize("name", list(GOLDEN))
def test_golden_digest(name: str, tmp_path: Path) -> None:
    """Fixed chip, network and data end in fixed weights on every machine; a change of bits is on purpose."""
    wide = [("dlfloat16", "dlfloat16")]
    low = [("uint4", "int4"), ("int4", "int4")]
    low += [(code, grid) for code in ("int4", "uint4") for grid in ("fp4_r4_even", "fp4_r4_odd")]
    chip = write_array_chip(tmp_path, low + wide if name == "fp4" else wide, lanes=1, rows=8)
    recipe = "ibm2020_fp4" if name == "fp4" else "fp16_dlfloat"
    training = trained(chip.path, write_workload(tmp_path), recipe=recipe)
    assert training.weight_digest == GOLDEN[name]


def write_checkpoint(workload: Path, folder: Path) -> Path:
    """The checkpoint of a finished one-epoch run on the 16-bit chip."""
    path = folder / "checkpoint.npz"
    accelsim.train("fp16_training", workload, epochs=1, checkpoint=path)
    return path


def test_checkpoint_of_another_run_is_refused(workload: Path, tmp_path: Path) -> None:
    """Another chip (and recipe), seed, batch, length, network or data set: one line, and the file stays."""
    path = write_checkpoint(workload, tmp_path)
    before = path.read_bytes()
    changes = ({"chip": "fp4_training"}, {"seed": 6}, {"batch": 20}, {"epochs": 2})
    for change in changes:
        _refused(path, workload, **{"chip": "fp16_training", "epochs": 1, **change})
    write_workload(tmp_path, PERCEPTRON)
    _refused(path, workload, chip="fp16_training", epochs=1)
    write_digits(tmp_path, first=7)
    write_workload(tmp_path)
    _refused(path, workload, chip="fp16_training", epochs=1)
    write_digits(tmp_path)
    accelsim.train("fp16_training", workload, epochs=1, checkpoint=path, resume=True)
    assert path.read_bytes() == before


def _refused(path: Path, workload: Path, *, chip: str, **options: Any) -> None:
    text = (
        "the checkpoint belongs to another chip, number of chips, workload, recipe, data set, seed, batch, "
        "number of epochs or version of accelsim; remove it or use another --out"
    )
    with pytest.raises(InputError) as caught:
        accelsim.train(chip, workload, checkpoint=path, resume=True, **options)
    assert str(caught.value) == f"{path}: {text}"


def test_resume_needs_a_checkpoint(workload: Path, tmp_path: Path) -> None:
    """Without a path, without a file, and with a folder in its place: each says so."""
    with pytest.raises(InputError, match=r"^resume: needs the checkpoint of the run to go on with$"):
        accelsim.train("fp16_training", workload, resume=True)
    with pytest.raises(InputError, match=r"gone\.npz: no checkpoint to resume from$"):
        accelsim.train("fp16_training", workload, checkpoint=tmp_path / "gone.npz", resume=True)
    with pytest.raises(InputError, match=r": cannot read the checkpoint: Is a directory$"):
        accelsim.train("fp16_training", workload, checkpoint=tmp_path, resume=True)


def test_what_is_no_checkpoint_is_refused(workload: Path, tmp_path: Path) -> None:
    """Empty, text, cut, altered and foreign files are named as damaged, never a traceback."""
    path = write_checkpoint(workload, tmp_path)
    whole = path.read_bytes()
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, notes=np.frombuffer(b"{}", np.uint8), weight=np.zeros(3, np.float32))
    array = tmp_path / "array.npy"
    np.save(array, np.zeros(3))
    listed = tmp_path / "listed.npz"
    np.savez(listed, notes=np.frombuffer(b"[]", np.uint8))
    middle = len(whole) // 2
    damaged = [b"", b"weights", whole[:middle], whole[:middle] + b"0123" + whole[middle + 4 :]]
    damaged += [other.read_bytes() for other in (foreign, array, listed, tmp_path / "digits.npz")]
    for content in damaged:
        path.write_bytes(content)
        with pytest.raises(
            InputError, match=r"checkpoint\.npz: not a checkpoint of accelsim, or a damaged one$"
        ):
            accelsim.train("fp16_training", workload, epochs=1, checkpoint=path, resume=True)


def test_batch_larger_than_the_data_is_refused(workload: Path) -> None:
    """401 of 400 samples are refused, all 400 are one step."""
    with pytest.raises(InputError, match=r"^batch: must be at most the 400 training samples, got 401$"):
        accelsim.train("fp16_training", workload, batch=401)
    assert trained("fp16_training", workload, batch=400, epochs=1).epochs[0].steps == 1


def test_a_recipe_the_chip_cannot_run_is_refused(workload: Path) -> None:
    """Training and estimate stop with the same line, before any step."""
    texts = []
    for verb in (accelsim.train, accelsim.estimate):
        with pytest.raises(InputError) as caught:
            verb("fp16_training", workload, recipe="ibm2020_fp4")
        texts.append(str(caught.value))
    assert texts[0] == texts[1]
    assert "fp16_training" in texts[0]
    assert "\n" not in texts[0]


def test_an_unwritable_checkpoint_is_refused(workload: Path, tmp_path: Path) -> None:
    """The message of the storage room comes through as it is."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(InputError, match=r"cannot write the file: '.*file' is not a directory$"):
        accelsim.train("fp16_training", workload, epochs=1, checkpoint=tmp_path / "file" / "checkpoint.npz")


def test_compare_is_two_runs(workload: Path) -> None:
    """The verb `compare` trains both chips with the same options and holds their records together."""
    ours, theirs, comparison = accelsim.compare(
        "fp4_training", "fp16_training", workload, epochs=1, threads=1
    )
    assert isinstance(ours, RunRecord)
    assert (ours.chip.name, theirs.chip.name) == ("fp4_training", "fp16_training")
    assert ours.training == trained_like(ours, workload)
    assert comparison is not None


def test_16_bit_master_weights_are_stored_in_16_bits(workload: Path, tmp_path: Path) -> None:
    """Every trained parameter and velocity is a DLFloat16 value; threads do not change the random bits."""
    recipe = "ibm2020_fp4_dlfloat16_master"
    path = tmp_path / "checkpoint.npz"
    record = accelsim.train("fp4_training", workload, recipe=recipe, epochs=2, threads=1, checkpoint=path)
    again = accelsim.train("fp4_training", workload, recipe=recipe, epochs=2, threads=2)
    assert record.training is not None
    assert again.training is not None
    assert record.training.weight_digest == again.training.weight_digest
    assert record.training.epochs[1].train_loss < record.training.epochs[0].train_loss  # type: ignore[operator]
    dlfloat16 = accelsim.number_format("dlfloat16")
    with np.load(path) as file:
        stored = {key: file[key] for key in file.files if key != "notes" and "running" not in key}
    assert any(key.startswith("optimizer/") for key in stored)
    for key, values in stored.items():
        assert np.array_equal(values, dlfloat16.round(values)), key


@pytest.mark.parametrize("option", [{"checkpoint": "a.npz"}, {"resume": True}])
def test_compare_takes_no_checkpoint(option: dict[str, Any]) -> None:
    """Two runs would overwrite each other's."""
    with pytest.raises(InputError, match=r"two runs cannot share a checkpoint; call train for each of them$"):
        accelsim.compare("fp4_training", "fp16_training", "letters_mlp", **option)


def test_an_estimate_needs_a_full_batch_too(workload: Path) -> None:
    """What cannot be trained is not priced."""
    with pytest.raises(InputError, match=r"^batch: must be at most the 400 training samples, got 401$"):
        accelsim.estimate("fp4_training", workload, batch=401)


def trained_like(record: RunRecord, workload: Path) -> TrainingRecord:
    """The same run by itself, with the other's seconds, which no two runs share."""
    assert record.training is not None
    alone = trained(record.chip.name, workload, epochs=1)
    epochs = tuple(
        one.model_copy(update={"host_seconds": other.host_seconds})
        for one, other in zip(alone.epochs, record.training.epochs, strict=True)
    )
    return alone.model_copy(update={"epochs": epochs})
