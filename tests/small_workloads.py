"""Workloads that train in a second, written as files: a few hundred digits, a small CNN or perceptron."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from accelsim.workload import load_dataset

HEAD = """\
name: small
description: A test workload.
data: digits.npz
batch: {batch}
epochs: {epochs}
seed: 5
normalise: {{mean: 0.02, deviation: 0.025}}     # pixels are 0..16
optimizer: {optimizer}
learning_rate: {{schedule: {schedule}, initial: {rate}}}
network:
"""

CNN = """\
  - conv2d: {channels: 8, kernel: 3}
  - batch_norm
  - relu
  - residual:
      body:
        - conv2d: {channels: 8, kernel: 3}
        - batch_norm
  - relu
  - max_pool: {size: 2}
  - conv2d: {channels: 16, kernel: 3, stride: 2}
  - batch_norm
  - relu
  - average_pool
  - linear: {features: 10, bias: true}
"""

PERCEPTRON = """\
  - flatten
  - linear: {features: 32, bias: true}
  - relu
  - linear: {features: 32, bias: true}
  - relu
  - linear: {features: 10, bias: true}
"""

SGD = "{kind: sgd, momentum: 0.9, weight_decay: 0.0005}"
ADAM = "{kind: adam}"


def write_digits(folder: Path, *, train: int = 400, test: int = 100, first: int = 0) -> Path:
    """Some of the bundled 8 x 8 digits as the user's own ``.npz``."""
    digits = load_dataset("digits8x8")
    path = folder / "digits.npz"
    np.savez(
        path,
        train_x=digits.train_x[first : first + train],
        train_y=digits.train_y[first : first + train],
        test_x=digits.test_x[:test],
        test_y=digits.test_y[:test],
    )
    return path


def write_workload(
    folder: Path,
    network: str = CNN,
    *,
    batch: int = 40,
    epochs: int = 2,
    optimizer: str = SGD,
    schedule: str = "cosine",
    rate: str = "0.1",
) -> Path:
    """A workload on the digits beside it, which are written too unless they are there."""
    if not (folder / "digits.npz").exists():
        write_digits(folder)
    path = folder / "small.yaml"
    head = HEAD.format(batch=batch, epochs=epochs, optimizer=optimizer, schedule=schedule, rate=rate)
    path.write_text(head + network, encoding="utf-8")
    return path
