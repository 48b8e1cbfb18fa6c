"""What is minimised and reported: softmax cross-entropy over labels, some of which count for nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.run.progress import Metric
from accelsim.workload import IGNORED

F32 = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass(frozen=True)
class Score:
    """Of some samples: mean cross-entropy (nats) over the labels that count, how many, and how many hit."""

    loss: float
    labels: int
    hits: int


@dataclass
class Total:
    """Scores of several mini-batches together."""

    loss_sum: float = 0.0
    labels: int = 0
    hits: int = 0

    def add(self, score: Score) -> None:
        """Count one more, each label alike."""
        self.loss_sum += score.loss * score.labels
        self.labels += score.labels
        self.hits += score.hits

    @property
    def loss(self) -> float:
        """Mean cross-entropy over all labels."""
        return self.loss_sum / max(self.labels, 1)

    @property
    def accuracy(self) -> float:
        """Share of the labels that were hit."""
        return self.hits / max(self.labels, 1)


def together(scores: Sequence[Score]) -> Score:
    """The score of all parts of a mini-batch; of one part, its own to the last bit."""
    if len(scores) == 1:
        return scores[0]
    total = Total()
    for each in scores:
        total.add(each)
    return Score(total.loss, total.labels, total.hits)


def probabilities_of(vector: ChipVectorUnit, logits: F32) -> F32:
    """Softmax of logits (samples, *targets, classes), one row a label: (labels, classes)."""
    return vector.softmax(logits.reshape(-1, logits.shape[-1]))


def score(probabilities: F32, labels: Labels) -> Score:
    """The score of rows of probabilities against labels of any shape, for the record."""
    flat = labels.reshape(-1)
    counted = flat != IGNORED
    if not counted.all():
        probabilities, flat = probabilities[counted], flat[counted]
    return Score(_loss(probabilities, flat), len(flat), _hits(probabilities, flat))


def bits(symbol: str, loss: float) -> Metric:
    """A mean cross-entropy in nats, as bits per symbol."""
    return Metric(f"bits per {symbol}", loss / 0.6931471805599453)


def _loss(probabilities: F32, labels: Labels) -> float:
    """Mean cross-entropy; for the record only, so the host's logarithm may compute it."""
    if not len(labels):
        return 0.0
    chosen = probabilities[np.arange(len(labels)), labels].astype(np.float64)
    return float(np.mean(-np.log(np.maximum(chosen, 1e-30))))


def _hits(probabilities: F32, labels: Labels) -> int:
    return int(np.count_nonzero(np.argmax(probabilities, axis=1) == labels)) if len(labels) else 0
