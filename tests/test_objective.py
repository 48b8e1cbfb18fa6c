"""The loss over labels that count, clipping by norm, and greedy decoding, each against a slow twin."""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
import pytest

from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.run.clipping import clip_factor
from accelsim.run.decoding import edit_distance, greedy_decode, sequence_errors
from accelsim.run.objective import Total, bits, probabilities_of, score
from accelsim.workload import IGNORED, PairLayout

LAYOUT = PairLayout(source=3, padding=0, start=1, stop=2)


def test_a_score_is_over_the_labels_that_count() -> None:
    """Loss and hits against a plain loop over (sample, position); padding is left out."""
    random = np.random.default_rng(1)
    logits = random.normal(size=(3, 4, 5)).astype(np.float32)
    labels = random.integers(IGNORED, 5, (3, 4))
    assert (labels == IGNORED).any()
    found = score(probabilities_of(ChipVectorUnit("dlfloat16"), logits), labels)
    loss, hits, counted = 0.0, 0, 0
    for i, t in np.ndindex(3, 4):
        if labels[i, t] >= 0:
            powers = [math.exp(value) for value in logits[i, t]]
            loss -= math.log(powers[labels[i, t]] / sum(powers))
            hits += int(np.argmax(logits[i, t])) == labels[i, t]
            counted += 1
    assert (found.hits, found.labels) == (hits, counted)
    assert found.loss == pytest.approx(loss / counted, rel=1e-5)


def test_only_padding_scores_nothing() -> None:
    """Rows without a label that counts add nothing to a total."""
    total = Total()
    assert (total.loss, total.accuracy) == (0.0, 0.0)
    total.add(score(np.full((2, 4), 0.25, np.float32), np.array([IGNORED, IGNORED])))
    total.add(score(np.full((2, 4), 0.25, np.float32), np.array([0, IGNORED])))
    assert (total.labels, total.hits) == (1, 1)
    assert bits("character", total.loss).value == pytest.approx(2)


@pytest.mark.parametrize("loss_scale", [1.0, 1024.0])
def test_clipping_brings_the_norm_down_to_the_limit(loss_scale: float) -> None:
    """The factor is limit / norm of all gradients without the loss scale, and 1 below the limit."""
    random = np.random.default_rng(2)
    shapes = {"b": (7,), "a": (3, 5), "conv": (2, 2, 3, 4)}
    true = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    norm = math.sqrt(math.fsum(float(value) ** 2 for array in true.values() for value in array.ravel()))
    scaled = {name: array * np.float32(loss_scale) for name, array in true.items()}
    vector = ChipVectorUnit("dlfloat16")
    assert clip_factor(vector, scaled, 0.5, loss_scale) == pytest.approx(0.5 / norm, rel=1e-5)
    assert clip_factor(vector, scaled, 2 * norm, loss_scale) == 1.0
    assert clip_factor(vector, scaled, None, loss_scale) == 1.0
    reordered = dict(reversed(scaled.items()))
    assert clip_factor(vector, reordered, 0.5, loss_scale) == clip_factor(vector, scaled, 0.5, loss_scale)
    for odd in (math.nan, math.inf):
        assert clip_factor(vector, {"a": np.float32([odd])}, 0.5, loss_scale) == 1.0


def naive_distance(a: tuple[int, ...], b: tuple[int, ...]) -> int:
    """The definition: the cheapest of all ways to edit the last symbol."""

    @cache
    def until(i: int, j: int) -> int:
        if min(i, j) == 0:
            return max(i, j)
        replaced = until(i - 1, j - 1) + (a[i - 1] != b[j - 1])
        return min(until(i - 1, j) + 1, until(i, j - 1) + 1, replaced)

    return until(len(a), len(b))


def test_edit_distance_is_that_of_the_definition() -> None:
    """Random short sequences, empty ones too, and in both directions."""
    random = np.random.default_rng(3)
    for _ in range(200):
        a, b = (tuple(random.integers(0, 3, random.integers(0, 7)).tolist()) for _ in range(2))
        assert edit_distance(a, b) == edit_distance(b, a) == naive_distance(a, b)


class Speller:
    """A network that spells a given target: at each place what must follow the row it is given."""

    def __init__(self, targets: list[list[int]]) -> None:
        self.targets = targets
        self.passes = 0

    def forward(self, x: Any, chip: Any) -> Any:
        self.passes += 1
        logits = np.zeros((len(x), x.shape[1] - LAYOUT.source, 9), np.float32)
        for row, target in enumerate(self.targets):
            given = x[row, LAYOUT.source :].astype(int).tolist()
            assert given[0] == LAYOUT.start
            for place, symbol in enumerate(target):
                right = given[1 : place + 1] == target[:place]
                logits[row, place, symbol if right else 8] = 1
        return logits


class Bench:
    """An executor that only counts how often a step begins."""

    def __init__(self) -> None:
        self.begun: list[bool] = []

    def begin(self, *, training: bool) -> None:
        self.begun.append(training)


def decoded(targets: list[list[int]], places: int) -> tuple[Any, int]:
    """What greedy decoding makes of rows of which the target part holds garbage, and its passes."""
    x = np.full((len(targets), LAYOUT.source + places), 7, np.float32)
    network, bench = Speller(targets), Bench()
    found = greedy_decode(network, bench, x, LAYOUT)  # type: ignore[arg-type]
    assert bench.begun == [False] * network.passes
    assert (x == 7).all()
    return found, network.passes


def test_decoding_feeds_back_what_it_chose() -> None:
    """Only a network that sees its own earlier choices spells the target; labels given are not looked at."""
    found, passes = decoded([[3, 4, 5, 2], [6, 2, 0, 0]], 4)
    assert found[0].tolist() == [3, 4, 5, 2]
    assert found[1, :2].tolist() == [6, 2]
    assert passes == 4


def test_decoding_ends_when_all_have_stopped() -> None:
    """No pass is spent once every row has its stop."""
    found, passes = decoded([[3, 2, 0, 0], [2, 0, 0, 0]], 4)
    assert passes == 2
    assert sequence_errors(found, np.array([[3, 2, -1, -1], [4, 2, -1, -1]]), LAYOUT) == (1, 2)


def test_errors_are_counted_up_to_the_stop() -> None:
    """What follows a stop is no symbol, padding of labels neither; without a stop the whole row counts."""
    found = np.array([[3, 4, 2, 9], [3, 4, 5, 6], [2, 3, 4, 5]])
    labels = np.array([[3, 5, 2, -1], [3, 4, 2, -1], [3, 2, -1, -1]])
    assert sequence_errors(found, labels, LAYOUT) == (1 + 2 + 1, 2 + 2 + 1)
