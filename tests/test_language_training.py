"""Language tasks end to end on the chips: they learn, decode, and resume with the same bits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_workload import complaint

import accelsim
from accelsim.chip import load_chip
from accelsim.mapping import Planner
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.record import TrainingRecord
from accelsim.run.chip_executor import ChipExecutor
from accelsim.run.decoding import greedy_decode
from accelsim.run.state import initial_state
from accelsim.workload import load_workload

HEAD = """\
name: tiny
description: A language of a few letters
data: {data}
batch: {batch}
epochs: {epochs}
seed: 2
optimizer: {{kind: adam, beta2: 0.98}}
learning_rate: {{schedule: inverse_sqrt, initial: 0.02, warmup_epochs: 1}}
clip_norm: 1.0
network:
"""
TRANSLATOR = """\
  - encoder_decoder:
      source: 4
      encoder:
        - embedding: {tokens: 9, features: 16, deviation: 0.5}
        - positions: {kind: learned}
        - residual: {body: [layer_norm, linear: {features: 48}, attention: {heads: 1}]}
      decoder:
        - embedding: {tokens: 9, features: 16, deviation: 0.5}
        - positions: {kind: learned}
        - residual: {body: [layer_norm, linear: {features: 48}, attention: {heads: 1, causal: true}]}
        - residual: {body: [layer_norm, cross_attention: {heads: 1}]}
        - layer_norm
        - linear: {features: 6, bias: true}
"""
READER = """\
  - embedding: {tokens: 4, features: 8, deviation: 0.5}
  - lstm: {features: 16}
  - linear: {features: 4, bias: true}
"""


def write_pairs(folder: Path, epochs: int = 2, count: int = 240) -> Path:
    """One to three letters and the same in capitals: the target is the source, symbol by symbol."""
    random = np.random.default_rng(5)
    words = ["".join(random.choice(list("abc"), random.integers(1, 4))) for _ in range(count)]
    lines = "".join(f"{word}\t{word.upper()}\n" for word in words)
    (folder / "own.tsv").write_text(lines, encoding="utf-8")
    path = folder / "tiny.yaml"
    head = HEAD.format(data="{pairs: own.tsv}", batch=16, epochs=epochs)
    path.write_text(head + TRANSLATOR, encoding="utf-8")
    return path


def write_text(folder: Path, epochs: int = 3) -> Path:
    """A text in which every third letter follows from the two before it."""
    random = np.random.default_rng(6)
    pairs = random.integers(0, 2, (1200, 2))
    text = "".join("ab"[i] + "ab"[j] + "cd"[i ^ j] for i, j in pairs)
    (folder / "own.txt").write_text(text, encoding="utf-8")
    path = folder / "tiny.yaml"
    head = HEAD.format(data="{text: own.txt, window: 12}", batch=30, epochs=epochs)
    path.write_text(head + READER, encoding="utf-8")
    return path


def trained(chip: str, path: Path, **options: Any) -> TrainingRecord:
    """The training part of a run's record."""
    record = accelsim.train(chip, path, **options)
    assert record.training is not None
    return record.training


def last_metric(training: TrainingRecord) -> tuple[str, float]:
    """Name and value of the metric after the last epoch."""
    metric = training.epochs[-1].metric
    assert metric is not None
    assert metric.value is not None
    assert metric.less_is_better
    return metric.name, metric.value


@pytest.mark.parametrize("chip", ["fp4_training", "fp16_training"])
def test_an_lstm_learns_to_read(chip: str, tmp_path: Path) -> None:
    """Bits per character fall below the two bits of four letters, towards the 2/3 that are there."""
    name, value = last_metric(trained(chip, write_text(tmp_path, epochs=6)))
    assert name == "bits per character"
    assert 0.6 < value < 1.2


def test_a_transformer_learns_to_write(tmp_path: Path) -> None:
    """The error rate of greedy decoding on the 4-bit chip falls far below the 1 of writing nothing."""
    name, value = last_metric(trained("fp4_training", write_pairs(tmp_path, epochs=5)))
    assert name == "character error rate"
    assert value < 0.3


def write_few_pairs(folder: Path) -> Path:
    """Enough for three steps an epoch."""
    return write_pairs(folder, count=60)


@pytest.mark.parametrize("write", [write_few_pairs, write_text])
def test_language_runs_resume_with_the_same_bits(write: Any, tmp_path: Path) -> None:
    """Stopped after the first epoch and resumed: the same weights, losses and metrics."""
    path, checkpoint = write(tmp_path), tmp_path / "run.npz"
    whole = trained("fp4_training", path, epochs=2)

    def stop(event: accelsim.Progress) -> None:
        if (event.epoch, event.step) == (2, 2):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        accelsim.train("fp4_training", path, epochs=2, checkpoint=checkpoint, progress=stop)
    resumed = trained("fp4_training", path, epochs=2, checkpoint=checkpoint, resume=True)
    assert resumed.weight_digest == whole.weight_digest
    for one, other in zip(resumed.epochs, whole.epochs, strict=True):
        assert one.model_copy(update={"host_seconds": other.host_seconds}) == other


def test_decoding_does_not_depend_on_the_batch(tmp_path: Path) -> None:
    """A sample is written alike alone and among others, and whatever stands in its target part."""
    workload = load_workload(write_pairs(tmp_path))
    layout = workload.data.layout
    assert layout is not None
    chip, recipe = load_chip("fp16_training"), load_recipe("fp16_dlfloat")
    rules = compile_program(workload, recipe).rules
    executor = ChipExecutor(Planner(chip), recipe, rules, initial_state(workload))
    x = workload.source.load().test_x.astype(np.float32)
    together = greedy_decode(workload.network, executor, x, layout)
    for row, sample in enumerate(x[:6]):
        alone = sample[None].copy()
        alone[0, layout.source + 1 :] = 3
        (found,) = greedy_decode(workload.network, executor, alone, layout)
        length = found.tolist().index(layout.stop) + 1 if layout.stop in found else len(found)
        assert found[:length].tolist() == together[row, :length].tolist()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tokens: 4", "tokens: 3", "network: 'embedding' knows 3 tokens, the data has 4"),
        (
            "{text: own.txt, window: 12}",
            "{shape: [12], classes: 4, samples: 90, targets: [12]}",
            "network: the samples are numbers, which no 'embedding' takes",
        ),
        ("clip_norm: 1.0", "normalise: {mean: 0, deviation: 1}",
         "9:1: normalise: token ids enter as they are; remove this key"),
        ("own.txt", "gone.txt", "3:1: data: no such file: '"),
        ("own.txt", "own", "3:1: data: unknown text (or path of a .txt file) 'own'; allowed: pride_and_"),
        ("window: 12", "window: 0", "data: window: must be at least 1, got 0"),
        ("{text: own.txt, window: 12}", "{pairs: cmudict_g2p_30k, source: words}",
         "data: source: must be characters in 'cmudict_g2p_30k', got words"),
    ],
)  # fmt: skip
def test_mistakes_in_language_workloads_are_one_line(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """Too small an embedding, numbers for it, a rule for token ids, a text that is not there."""
    path = write_text(tmp_path)
    path.write_text(path.read_text(encoding="utf-8").replace(old, new, 1), encoding="utf-8")
    assert message in complaint(path)
