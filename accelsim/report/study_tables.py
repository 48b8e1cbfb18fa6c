"""The tables of an accuracy study: every task on every system, with spread, against the baseline."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

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
    """Labels by key, in the order of the tables, and the system the others are compared with.

    ``questions``: of the systems that are ablations of ``ablated``, what each of them asks.
    """

    tasks: Mapping[str, str]
    systems: Mapping[str, str]
    baseline: str
    ablated: str | None = None
    questions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Cell:
    """A task on a system: mean over seeds, sample standard deviation (None of one run), runs.

    ``difference`` and ``difference_spread``: the same of the difference from the other system's run with
    the same seed, positive where the system is better; None where the other has no such run.
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


def cells(rows: Sequence[StudyRow], other: str) -> dict[tuple[str, str], Cell]:
    """(task, system) -> cell, of the final epochs; differences from the system ``other``."""
    final = {(row.task, row.system, row.seed): scores(row)[-1] for row in rows}
    sign = {row.task: 1.0 if metric_of(row).higher_is_better else -1.0 for row in rows}
    found = {}
    for task, system in dict.fromkeys((row.task, row.system) for row in rows):
        mine = {seed: value for (t, s, seed), value in final.items() if (t, s) == (task, system)}
        gains = [
            sign[task] * (value - final[task, other, seed])
            for seed, value in sorted(mine.items())
            if (task, other, seed) in final
        ]
        mean, spread = mean_and_spread(list(mine.values()))
        gain, gain_spread = mean_and_spread(gains) if gains else (None, None)
        found[task, system] = Cell(mean, spread, len(mine), gain, gain_spread, len(gains))
    return found


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Arithmetic mean and sample standard deviation, the latter None for a single value."""
    mean = math.fsum(values) / len(values)
    if len(values) == 1:
        return mean, None
    return mean, math.sqrt(math.fsum((value - mean) ** 2 for value in values) / (len(values) - 1))


def study_markdown(rows: Sequence[StudyRow], names: StudyNames) -> str:
    """Three tables, systems down and tasks across: figures, differences, and cost at equal figures."""
    found = cells(rows, names.baseline)
    metrics = {row.task: metric_of(row) for row in rows}
    tasks = [task for task in names.tasks if task in metrics]
    held = [system for system in names.systems if any((task, system) in found for task in tasks)]
    systems = [system for system in held if system not in names.questions]
    others = [system for system in systems if system != names.baseline]
    heads = ["system", *(f"{names.tasks[task]}<br>{metrics[task].label}" for task in tasks)]
    ratios = {
        (task, system): cost_ratios(rows, task, system, names.baseline) for task in tasks for system in others
    }

    def lines(shown: Sequence[str], text: Callable[[str, str], str]) -> list[str]:
        return table(heads, [[names.systems[one], *(text(task, one) for task in tasks)] for one in shown])

    baseline = names.systems[names.baseline]
    return "\n".join(
        (
            "Mean over seeds ± sample standard deviation (number of seeds), after the last epoch.",
            "",
            *lines(systems, lambda task, one: figure(found.get((task, one)), metrics[task])),
            "",
            f"Difference from {baseline} with the same seed, above zero where the system is better (number "
            "of pairs).",
            "",
            *lines(others, lambda task, one: gain(found.get((task, one)), metrics[task])),
            "",
            f"Time / energy of {baseline} over the system's until both have reached the same figure, the "
            "best that both reach with that seed: geometric mean over pairs. Above 1 the system is ahead.",
            "",
            *lines(others, lambda task, one: _ratio(ratios[task, one])),
            "",
        )
    )


def cost_ratios(rows: Sequence[StudyRow], task: str, system: str, other: str) -> list[tuple[float, float]]:
    """(time, energy) of ``other`` over those of ``system``, seed by seed, to the best figure both reach.

    Runs count to the end of the epoch that first reaches it; a pair with a run that never had a finite
    figure has none.
    """
    runs = {(row.system, row.seed): row for row in rows if row.task == task}
    found = []
    for (name, seed), ours in sorted(runs.items()):
        theirs = runs.get((other, seed))
        if name != system or theirs is None:
            continue
        higher = metric_of(ours).higher_is_better
        bests = [_best(scores(run), higher) for run in (ours, theirs)]
        if any(math.isnan(best) for best in bests):
            continue
        target = min(bests) if higher else max(bests)
        mine, its = (_share_until(run, target, higher) for run in (ours, theirs))
        found.append(
            (
                its * theirs.simulated_seconds / (mine * ours.simulated_seconds),
                its * theirs.energy_joules / (mine * ours.energy_joules),
            )
        )
    return found


def _best(history: Sequence[float], higher: bool) -> float:
    finite = [value for value in history if not math.isnan(value)]
    return (max(finite) if higher else min(finite)) if finite else math.nan


def _share_until(row: StudyRow, target: float, higher: bool) -> float:
    """The part of the run until an epoch reaches ``target``, which one does."""
    history = scores(row)
    first = next(i for i, value in enumerate(history, 1) if (value >= target if higher else value <= target))
    return first / len(history)


def table(heads: Sequence[str], body: Sequence[Sequence[str]], texts: int = 1) -> list[str]:
    """Lines of a Markdown table; the first ``texts`` columns are text, the others numbers."""
    lines = [heads, [*("---" for _ in heads[:texts]), *("---:" for _ in heads[texts:])], *body]
    return [f"| {' | '.join(line)} |" for line in lines]


def signed(value: float, decimals: int) -> str:
    """'+0.3', '−0.3', and '0.0' where rounding leaves nothing."""
    text = f"{value:+.{decimals}f}"
    return text[1:] if float(text) == 0 else text.replace("-", "−")


def figure(cell: Cell | None, metric: Metric) -> str:
    """Mean, spread and number of runs; a dash for none."""
    if cell is None:
        return "–"
    if math.isnan(cell.mean):
        return f"diverges ({cell.runs})"
    spread = "" if cell.spread is None else f" ± {cell.spread:.{metric.decimals}f}"
    return f"{cell.mean:.{metric.decimals}f}{spread} ({cell.runs})"


def gain(cell: Cell | None, metric: Metric) -> str:
    """Mean difference, its spread and the number of pairs; a dash for none."""
    if cell is None or cell.difference is None:
        return "–"
    if math.isnan(cell.difference):
        return f"diverges ({cell.paired_runs})"
    spread = cell.difference_spread
    after = "" if spread is None else f" ± {spread:.{metric.decimals}f}"
    return f"{signed(cell.difference, metric.decimals)}{after} ({cell.paired_runs})"


def _ratio(pairs: Sequence[tuple[float, float]]) -> str:
    if not pairs:
        return "–"
    time, energy = (
        math.exp(math.fsum(map(math.log, each)) / len(pairs)) for each in zip(*pairs, strict=True)
    )
    return f"{time:.2f} / {energy:.2f} ({len(pairs)})"


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
