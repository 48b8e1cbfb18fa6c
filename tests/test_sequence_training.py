"""Training on labels of every position: padding, smoothing, clipping and the task's own figure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.record import TrainingRecord

TEXT = """\
name: steps
description: Two classes at each of four steps
data: steps.npz
batch: 20
epochs: 4
seed: 3
normalise: {mean: 0, deviation: 1}
optimizer: {kind: sgd}
learning_rate: {schedule: inverse_sqrt, initial: 0.1, warmup_epochs: 1}
network:
  - linear: {features: 16, bias: true}
  - relu
  - linear: {features: 2, bias: true}
"""


def write_steps(folder: Path, extra: str = "") -> Path:
    """Sequences of four pairs of numbers; the class is the sign of their product; some labels are padding."""
    random = np.random.default_rng(4)
    x = random.uniform(-1, 1, (240, 4, 2)).astype(np.float32)
    y = (x[..., 0] * x[..., 1] > 0).astype(np.int64)
    y[::3, 3] = -1
    np.savez(folder / "steps.npz", train_x=x[:200], train_y=y[:200], test_x=x[200:], test_y=y[200:])
    path = folder / "steps.yaml"
    path.write_text(TEXT.replace("network:", f"{extra}network:"), encoding="utf-8")
    return path


def trained(path: Path, **options: Any) -> TrainingRecord:
    """The training part of a run on the 4-bit chip."""
    record = accelsim.train("fp4_training", path, **options)
    assert record.training is not None
    return record.training


def test_every_position_is_learnt_and_the_figure_is_in_bits(tmp_path: Path) -> None:
    """The loss falls below chance, and the metric is the test loss in bits."""
    training = trained(write_steps(tmp_path), epochs=12)
    last = training.epochs[-1]
    assert last.test_accuracy > 0.75
    assert last.metric is not None
    assert last.metric.name == "bits per token"
    assert last.metric.less_is_better
    assert last.metric.value == pytest.approx((last.test_loss or 9) / math.log(2))
    assert (last.metric.value or 9) < 0.9


def test_a_class_task_has_accuracy_for_its_figure() -> None:
    """One label a sample: the metric repeats the accuracy."""
    training = accelsim.train("fp16_training", "letters_mlp", epochs=1, batch=1600).training
    assert training is not None
    (epoch,) = training.epochs
    assert epoch.metric is not None
    assert (epoch.metric.name, epoch.metric.value) == ("accuracy", epoch.test_accuracy)
    assert not epoch.metric.less_is_better


def test_nothing_is_learnt_from_padding(tmp_path: Path) -> None:
    """Other inputs where labels are ignored leave every weight as it was; elsewhere they do not."""
    path = write_steps(tmp_path)
    with np.load(tmp_path / "steps.npz") as file:
        arrays = dict(file)
    digests = []
    for hidden in (arrays["train_y"] == -2, arrays["train_y"] == -1, arrays["train_y"] == 0):
        changed = np.where(hidden[..., None], np.float32(0.7), arrays["train_x"])
        np.savez(tmp_path / "steps.npz", **arrays | {"train_x": changed})
        record = accelsim.train("fp16_training", path, epochs=1)
        assert record.training is not None
        digests.append(record.training.weight_digest)
    assert digests[0] == digests[1] != digests[2]


def test_smoothing_and_clipping_change_a_run_only_when_they_act(tmp_path: Path) -> None:
    """A limit no norm reaches leaves every bit alone; a low one and smoothing do not."""
    plain = trained(write_steps(tmp_path), epochs=1).weight_digest
    digests = {
        extra: trained(write_steps(tmp_path, extra), epochs=1).weight_digest
        for extra in ("clip_norm: 1000\n", "clip_norm: 0.1\n", "label_smoothing: 0.1\n")
    }
    assert digests["clip_norm: 1000\n"] == plain
    assert len(set(digests.values())) == 3


def test_clipping_bounds_the_step(tmp_path: Path) -> None:
    """With a tiny limit the weights hardly move: the loss stays where it began, far from the free run's."""
    held = trained(write_steps(tmp_path, "clip_norm: 1.0e-6\n"), epochs=2).epochs
    free = trained(write_steps(tmp_path), epochs=2).epochs
    assert abs((held[0].test_loss or 9) - (held[1].test_loss or 0)) < 1e-3
    assert abs((free[0].test_loss or 9) - (free[1].test_loss or 0)) > 1e-3


def test_clipping_and_smoothing_are_work_of_the_vector_unit(tmp_path: Path) -> None:
    """The squares of the norm and the smoothed labels are counted."""

    def operations(extra: str) -> int:
        record = accelsim.estimate("fp4_training", write_steps(tmp_path, extra))
        return sum(layer.vector_operations for layer in record.cost.layers)

    plain = operations("")
    assert operations("clip_norm: 1.0\n") == plain + 2 * (2 * 16 + 16 + 16 * 2 + 2)
    assert operations("label_smoothing: 0.1\n") == plain + 20 * 4 * 2


def test_a_sequence_run_resumes_like_any_other(tmp_path: Path) -> None:
    """Stopped after an epoch and resumed: every number of the record is the same, the metric included."""
    path, checkpoint = write_steps(tmp_path, "clip_norm: 0.5\nlabel_smoothing: 0.1\n"), tmp_path / "run.npz"
    whole = trained(path, epochs=3)

    def stop(event: accelsim.Progress) -> None:
        if (event.epoch, event.step) == (2, 3):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        accelsim.train("fp4_training", path, epochs=3, checkpoint=checkpoint, progress=stop)
    resumed = trained(path, epochs=3, checkpoint=checkpoint, resume=True)
    assert resumed.weight_digest == whole.weight_digest
    assert [epoch.metric for epoch in resumed.epochs] == [epoch.metric for epoch in whole.epochs]
