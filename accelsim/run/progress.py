"""What a run tells whoever watches it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Metric:
    """The figure that people judge a task by: 'accuracy' (a share of 1, more is better), or one of which
    less is better: 'bits per character', 'phoneme error rate' (edits per phoneme, so it can exceed 1)."""

    name: str
    value: float


@dataclass(frozen=True)
class Progress:
    """One step of a training run, or the test at the end of an epoch.

    ``loss`` and ``accuracy`` are means over the epoch so far; ``samples_per_second`` is the speed of
    the simulation on this machine; ``test_accuracy`` and ``metric`` are there once the epoch's test is
    done.
    """

    chip: str
    epoch: int
    epochs: int
    step: int
    steps: int
    loss: float
    accuracy: float
    samples_per_second: float
    seconds_left: float
    phase: Literal["train", "test"]
    test_accuracy: float | None = None
    metric: Metric | None = None


Watcher = Callable[[Progress], None]
