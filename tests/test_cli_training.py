"""The shell with the simulator behind it: a small network really trained, stopped and resumed."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from accelsim.cli import main as shell
from accelsim.record import read_record

ROOT = Path(__file__).resolve().parent.parent

WORKLOAD = """\
name: tiny
description: Two layers on two blobs, for the tests of the shell
data: blobs.npz
batch: 20
epochs: 3
seed: 3
normalise: {mean: 0.5, deviation: 0.25}
optimizer: {kind: sgd, momentum: 0.9, weight_decay: 0.0001}
learning_rate: {schedule: constant, initial: 0.05}
network:
  - linear: {features: 8}
  - batch_norm
  - relu
  - linear: {features: 8}
  - batch_norm
  - relu
  - linear: {features: 2, bias: true}
"""


@pytest.fixture
def workload(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A workload of 200 + 40 samples in an empty folder; the current directory is that folder."""
    generator = np.random.default_rng(5)
    labels = generator.integers(0, 2, 240)
    samples = generator.integers(0, 120, (240, 6)) + 100 * labels[:, None]
    arrays = {"train_x": samples[:200], "test_x": samples[200:]}
    np.savez(
        tmp_path / "blobs.npz",
        **{key: value.astype(np.uint8) for key, value in arrays.items()},
        train_y=labels[:200],
        test_y=labels[200:],
    )
    (tmp_path / "tiny.yaml").write_text(WORKLOAD, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return "tiny.yaml"


def test_compare_trains_both_chips(workload: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The main job on a small network: both chips learn, and the report stands."""
    assert (
        shell.main(["compare", "fp4_training", "fp16_training", workload, "--out", "o", "--threads", "1"])
        == 0
    )
    printed = capsys.readouterr()
    ours, baseline = (read_record(f"o/{name}/record.json") for name in ("fp4_training", "fp16_training"))
    assert ours.training is not None
    assert baseline.training is not None
    assert baseline.training.final_accuracy > 0.9
    assert ours.training.final_accuracy > 0.8
    assert "fp4_training" in printed.out
    assert "Resource that binds" in printed.out
    assert printed.err.count("epoch 1/3") == 2
    assert Path("o/report.html").stat().st_size > 10_000
    assert sorted(path.name for path in Path("o/fp4_training").iterdir()) == ["record.json"]


def test_options_reach_the_record(workload: str) -> None:
    """Seed, epochs and batch stand in the record as they were given."""
    words = ["--seed", "11", "--epochs", "1", "--batch", "25", "--threads", "1", "--quiet", "--out", "o"]
    assert shell.main(["run", "fp4_training", workload, *words]) == 0
    record = read_record("o/fp4_training/record.json")
    assert (record.seed, record.epochs, record.batch, record.threads) == (11, 1, 25, 1)
    assert record.command == f"accelsim run fp4_training tiny.yaml {' '.join(words)}"


def test_stopped_run_resumes_to_the_same_weights(workload: str) -> None:
    """Ctrl-C, then --resume: exit code 130, one last line, and the digest of an unbroken run."""
    words = [
        sys.executable,
        "-m",
        "accelsim",
        "run",
        "fp4_training",
        workload,
        "--epochs",
        "40",
        "--out",
        "broken",
    ]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        words,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # a shell's background ignores it
    )
    checkpoint = Path("broken/fp4_training/checkpoint.npz")
    deadline = time.monotonic() + 120
    while not checkpoint.exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    out, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    assert out == ""
    last = errors.splitlines()[-1]
    assert last.startswith("stopped: fp4_training in epoch ")
    again = f"accelsim run fp4_training {workload} --epochs 40 --out broken --resume"
    assert last.endswith(f"kept {checkpoint}; go on with: {again}")
    assert "Traceback" not in errors
    assert not list(Path("broken").rglob("*.part"))

    words = ["run", "fp4_training", workload, "--epochs", "40", "--quiet", "--out"]
    assert shell.main([*words, "broken", "--resume"]) == 0
    assert shell.main([*words, "whole"]) == 0
    resumed, whole = (
        read_record(f"{folder}/fp4_training/record.json").training for folder in ("broken", "whole")
    )
    assert resumed is not None
    assert whole is not None
    assert resumed.weight_digest == whole.weight_digest
    assert [epoch.train_loss for epoch in resumed.epochs] == [epoch.train_loss for epoch in whole.epochs]


@pytest.mark.usefixtures("workload")
def test_a_shape_is_refused_before_anything_is_announced(capsys: pytest.CaptureFixture[str]) -> None:
    """Hours of training are not promised for a workload that has no samples, and no folder is made."""
    assert shell.main(["run", "fp4_training", "resnet50_imagenet", "--out", "o"]) == 2
    told = "error: data: the workload gives only the shape of its data: it can be priced, not trained\n"
    assert capsys.readouterr().err == told
    assert not Path("o").exists()


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("blobs.npz", "gone.npz", "tiny.yaml:3:1: data: no such file: "),
        ("batch: 20", "batch: 0", "tiny.yaml:4:"),
        ("seed: 3", "sed: 3", "tiny.yaml:6:1: unknown key 'sed' (did you mean 'seed'?)"),
        ("features: 2,", "features: 3,", "tiny.yaml:"),
    ],
)
def test_mistakes_in_the_workload_are_found_first(
    workload: str, capsys: pytest.CaptureFixture[str], old: str, new: str, text: str
) -> None:
    """A mistake in the user's file is one line with its place, before any folder is made."""
    Path(workload).write_text(WORKLOAD.replace(old, new), encoding="utf-8")
    assert shell.main(["run", "fp4_training", workload, "--out", "o"]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {text}")
    assert printed.err.count("\n") == 1
    assert not Path("o").exists()


def test_a_run_that_diverges_says_so(workload: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Even --quiet tells that the loss was lost: an accuracy alone would look like a bad recipe."""
    Path(workload).write_text(WORKLOAD.replace("initial: 0.05", "initial: 1.0e+30"), encoding="utf-8")
    assert shell.main(["run", "fp16_training", workload, "--out", "o", "--threads", "1", "-q"]) == 0
    record = read_record("o/fp16_training/record.json")
    assert record.training is not None
    assert record.training.epochs[0].train_loss is None
    told = "fp16_training: the training diverged: the loss is not a finite number from epoch 1 on."
    assert told in capsys.readouterr().out.splitlines()
