"""A small workload file with one of everything, for tests to load and to spoil."""

from __future__ import annotations

from pathlib import Path

import pytest

from accelsim.errors import InputError
from accelsim.workload import load_workload

TEXT = """\
name: tiny
description: A tiny network
data: digits8x8
batch: 10
epochs: 4
normalise: {mean: 0.5, deviation: 0.25}
optimizer: {kind: sgd}
learning_rate: {schedule: constant, initial: 0.1}
blocks:
  pair:
    parameters: {width: null, kernel: 3}
    layers:
      - conv2d: {channels: $width, kernel: $kernel}
      - relu
network:
  - block: {use: pair, width: 4}
  - residual:
      body:
        - block: {use: pair, width: 4, kernel: 1}
  - repeat:
      times: 2
      layers:
        - batch_norm
  - flatten
  - linear: {features: 10}
"""


def written(tmp_path: Path, text: str) -> Path:
    """A workload file of that text."""
    path = tmp_path / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """The tiny workload with the first occurrence of a text replaced."""
    assert old in TEXT
    return written(tmp_path, TEXT.replace(old, new, 1))


def complaint(path: Path) -> str:
    """The one line that loading the file ends in, from the line number on."""
    with pytest.raises(InputError) as caught:
        load_workload(path)
    text = str(caught.value)
    assert text.splitlines() == [text]
    assert text.isprintable()
    return text.removeprefix(f"{path}:")
