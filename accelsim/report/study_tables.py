"""The tables of an accuracy study: every task on every system, with spread, against the baseline."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from accelsim.record.schema import EpochRecord
from accelsim.record.study import StudyRow


@dataclass(frozen=True)
class Metric:
    """How a task is judged: name in tables, factor and decimals of the figure shown, which way is up."""

    label: str
    factor: float
    decimals: int
    higher_is_better: bool


def metric_called(name: str) -> Metric:
    """Shares (accuracy and error rates) in percent, all else as it is; only of accuracy is more better."""
    if name == "accuracy" or name.endswith("rate"):
        return Metric(f"{name}, %", 100.0, 1, name == "accuracy")
    return Metric(name, 1.0, 3, False)


@dataclass(frozen=True)
class StudyNames:
    """Labels by key, in the order of the tables, and the system the others are compared with."""

    tasks: Mapping[str, str]
    systems: Mapping[str, str]
    baseline: str


@dataclass(frozen=True)
class Cell:
    """A task on a system: mean over seeds, sample standard deviation (None of one run), runs.

    ``difference`` and ``difference_spread``: the same of the difference from the baseline's run with the
    same seed, positive where the system is better; None where the baseline has no such run.
    """

    mean: float
    spread: float | None
    runs: int
    difference: float | None
    difference_spread: float | None
    paired_runs: int


def metric_of(row: StudyRow) -> Metric:
    """The metric of a run's task."""
    metric = row.epochs[-1].metric
    return metric_called(metric.name if metric else "accuracy")


def scores(row: StudyRow) -> list[float]:
    """The task's metric after each epoch, in the figures of the tables; NaN where a run diverged."""
    return [_score(epoch) for epoch in row.epochs]


def _score(epoch: EpochRecord) -> float:
    if epoch.metric is None:
        return 100.0 * epoch.test_accuracy
    value = epoch.metric.value
    return math.nan if value is None else metric_called(epoch.metric.name).factor * value


def cells(rows: Sequence[StudyRow], names: StudyNames) -> dict[tuple[str, str], Cell]:
    """(task, system) -> cell, of the final epochs."""
    final = {(row.task, row.system, row.seed): scores(row)[-1] for row in rows}
    sign = {row.task: 1.0 if metric_of(row).higher_is_better else -1.0 for row in rows}
    found = {}
    for task, system in dict.fromkeys((row.task, row.system) for row in rows):
        mine = {seed: value for (t, s, seed), value in final.items() if (t, s) == (task, system)}
        gains = [
            sign[task] * (value - final[task, names.baseline, seed])
            for seed, value in sorted(mine.items())
            if (task, names.baseline, seed) in final
        ]
        mean, spread = _mean_and_spread(list(mine.values()))
        gain, gain_spread = _mean_and_spread(gains) if gains else (None, None)
        found[task, system] = Cell(mean, spread, len(mine), gain, gain_spread, len(gains))
    return found


def _mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def study_markdown(rows: Sequence[StudyRow], names: StudyNames) -> str:
    """Two tables, systems down and tasks across: the figures, and the differences from the baseline."""
    found = cells(rows, names)
    metrics = {row.task: metric_of(row) for row in rows}
    tasks = [task for task in names.tasks if task in metrics]
    systems = [system for system in names.systems if any((task, system) in found for task in tasks)]
    heads = [f"{names.tasks[task]}<br>{metrics[task].label}" for task in tasks]
    figures = [
        [names.systems[system], *(_figure(found.get((task, system)), metrics[task]) for task in tasks)]
        for system in systems
    ]
    gains = [
        [names.systems[system], *(_gain(found.get((task, system)), metrics[task]) for task in tasks)]
        for system in systems
        if system != names.baseline
    ]
    return "\n".join(
        (
            "Mean over seeds ± sample standard deviation (number of seeds), after the last epoch.",
            "",
            *_table(["system", *heads], figures),
            "",
            f"Difference from {names.systems[names.baseline]} with the same seed, above zero where the "
            "system is better (number of pairs).",
            "",
            *_table(["system", *heads], gains),
            "",
        )
    )


def _table(heads: Sequence[str], body: Sequence[Sequence[str]]) -> list[str]:
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *body]
    return [f"| {' | '.join(line)} |" for line in lines]


def _figure(cell: Cell | None, metric: Metric) -> str:
    if cell is None:
        return "-"
    if math.isnan(cell.mean):
        return f"diverges ({cell.runs})"
    spread = "" if cell.spread is None else f" ± {cell.spread:.{metric.decimals}f}"
    return f"{cell.mean:.{metric.decimals}f}{spread} ({cell.runs})"


def _gain(cell: Cell | None, metric: Metric) -> str:
    if cell is None or cell.difference is None:
        return "-"
    if math.isnan(cell.difference):
        return f"diverges ({cell.paired_runs})"
    spread = "" if cell.difference_spread is None else f" ± {cell.difference_spread:.{metric.decimals}f}"
    return f"{cell.difference:+.{metric.decimals}f}{spread} ({cell.paired_runs})"


def study_csv(rows: Sequence[StudyRow]) -> str:
    """One line a run: what ran, what it reached, what it cost the chip, and the digest of its weights."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("task", "system", "seed", "chip", "recipe", "epochs", "metric", "final", "best", "train_loss",
         "test_loss", "simulated_seconds", "energy_joules", "weight_digest", "command")
    )  # fmt: skip
    for row in sorted(rows, key=lambda one: (one.task, one.system, one.seed)):
        metric, history, last = metric_of(row), scores(row), row.epochs[-1]
        best = max(history) if metric.higher_is_better else min(history)
        writer.writerow(
            (row.task, row.system, row.seed, row.chip.name, row.recipe.name, len(row.epochs), metric.label,
             history[-1], best, last.train_loss, last.test_loss, row.simulated_seconds, row.energy_joules,
             row.weight_digest, row.command)
        )  # fmt: skip
    return text.getvalue()
