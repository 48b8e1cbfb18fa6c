"""The training loop: the only place where state changes."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.mapping import Planner
from accelsim.numerics.random_bits import permutation, stream_key
from accelsim.program import Program
from accelsim.recipe import Recipe
from accelsim.run.chip_executor import ChipExecutor
from accelsim.run.decoding import greedy_decode, sequence_errors
from accelsim.run.objective import Score, Total, bits, probabilities_of, score
from accelsim.run.progress import Metric, Progress, Watcher
from accelsim.run.recording import steps_per_epoch
from accelsim.run.sharing import Shared
from accelsim.run.state import TrainingState
from accelsim.run.step import move_parameters, prepared, shared_gradients
from accelsim.workload import Dataset, Workload

F32 = NDArray[np.float32]
Labels = NDArray[np.int64]


@dataclass
class _Clock:
    """Wall-clock pace of a run on this machine; it never reaches a value."""

    started: float
    samples: int = 0

    def rate(self) -> float:
        return self.samples / max(time.monotonic() - self.started, 1e-9)


class TrainingRun:
    """One training run in progress."""

    def __init__(
        self,
        planner: Planner,
        workload: Workload,
        recipe: Recipe,
        dataset: Dataset,
        program: Program,
        state: TrainingState,
        watcher: Watcher | None,
        shared: Shared,
    ) -> None:
        self._shared = shared
        self._name = planner.chip.name
        self._workload = workload
        self._recipe = recipe
        self._state = state
        self._watcher = watcher
        self._executor = ChipExecutor(planner, recipe, program.rules, state, workload.seed)
        self._train = (prepared(dataset.train_x, workload, recipe), dataset.train_y)
        self._test = (prepared(dataset.test_x, workload, recipe), dataset.test_y)
        self._steps = steps_per_epoch(workload)
        self._clock = _Clock(time.monotonic())

    def epoch(self) -> None:
        """One pass over the training data, then the test."""
        number = len(self._state.epochs) + 1
        started = time.monotonic()
        order = permutation(stream_key(self._workload.seed, "order", number), len(self._train[0]))
        loss_sum, total = 0.0, Total()
        for step in range(self._steps):
            chosen = order[step * self._workload.batch : (step + 1) * self._workload.batch]
            self._executor.watch(closely=step == self._steps - 1)
            x, labels = self._train[0][chosen], self._train[1][chosen]
            scored = self._step(x, labels, number - 1 + step / self._steps)
            loss_sum += scored.loss
            total.add(scored)
            self._tell(number, step + 1, loss_sum / (step + 1), total.accuracy)
        self._close_epoch(number, loss_sum / self._steps, total.accuracy, started)

    def _step(self, x: F32, labels: Labels, epoch: float) -> Score:
        """Forward, backward, update of one mini-batch; how well it was known before."""
        scored = shared_gradients(self._executor, self._workload, x, labels, self._shared.chips)
        move_parameters(self._executor, self._workload, self._recipe, epoch)
        self._clock.samples += len(x)
        return scored

    def _tested(self) -> Total:
        """The score of the test data, on the first chip, with running statistics."""
        total = Total()
        for x, labels in self._test_batches():
            self._executor.begin(training=False)
            logits = self._workload.network.forward(x, self._executor)
            total.add(score(probabilities_of(self._executor.vector, logits), labels))
        return total

    def _test_batches(self) -> Iterator[tuple[F32, Labels]]:
        samples, labels = self._test
        for first in range(0, len(samples), self._shared.batch):
            part = slice(first, first + self._shared.batch)
            yield samples[part], labels[part]

    def _metric(self, tested: Total) -> Metric:
        """The figure that people judge this task by."""
        data = self._workload.data
        if data.layout is None:
            return Metric("accuracy", tested.accuracy) if not data.targets else bits(data.symbol, tested.loss)
        edits = wanted = 0
        for x, labels in self._test_batches():
            found = greedy_decode(self._workload.network, self._executor, x, data.layout)
            errors = sequence_errors(found, labels, data.layout)
            edits, wanted = edits + errors[0], wanted + errors[1]
        return Metric(f"{data.symbol} error rate", edits / max(wanted, 1))

    def _close_epoch(self, number: int, loss: float, accuracy: float, started: float) -> None:
        tested = self._tested()
        metric = self._metric(tested)
        self._state.tensors += [
            {"epoch": number, **row}
            for row in (self._executor.observed.rows() if self._executor.observed else ())
        ]
        if self._executor.activity is not None:
            self._state.activity += self._executor.activity.rows(number)
        self._state.epochs.append(
            {
                "epoch": number,
                "steps": self._steps,
                "train_loss": loss,
                "train_accuracy": accuracy,
                "test_loss": tested.loss,
                "test_accuracy": tested.accuracy,
                "metric": {"name": metric.name, "value": metric.value},
                "learning_rate": self._workload.learning_rate.at(number - 1, self._workload.epochs),
                "host_seconds": time.monotonic() - started,
            }
        )
        self._tell(number, self._steps, loss, accuracy, tested.accuracy, metric)

    def _tell(
        self,
        epoch: int,
        step: int,
        loss: float,
        accuracy: float,
        test_accuracy: float | None = None,
        metric: Metric | None = None,
    ) -> None:
        if self._watcher is None:
            return
        rate = self._clock.rate()
        left = (self._workload.epochs - epoch) * self._steps + self._steps - step
        self._watcher(
            Progress(
                chip=self._name,
                epoch=epoch,
                epochs=self._workload.epochs,
                step=step,
                steps=self._steps,
                loss=loss,
                accuracy=accuracy,
                samples_per_second=rate,
                seconds_left=left * self._workload.batch / max(rate, 1e-9),
                phase="train" if test_accuracy is None else "test",
                test_accuracy=test_accuracy,
                metric=metric,
            )
        )
