"""The ablations of an accuracy study: one part of a system changed, what it does to figures and gradients."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.record.schema import TensorRecord
from accelsim.record.study import StudyRow
from accelsim.report.study_tables import StudyNames, cells, figure, gain, mean_and_spread, metric_of, table

_GRADIENT_COLUMNS = ("gain", "cosine", "% to zero", "% at the top")


@dataclass(frozen=True)
class GradientState:
    """How dL/dy fares on its way into a product: means over its layers and both products of one epoch.

    ``gain`` and ``cosine`` of the codes against the tensor before; shares (0..1) of its numbers that
    became zero, or stand at the largest code or above.
    """

    gain: float
    cosine: float
    to_zero: float
    at_top: float


def gradient_state(row: StudyRow, epoch: int) -> GradientState | None:
    """The state in one epoch; None where no gradient was quantised or the epoch was not kept."""
    seen = gradients_of(row, epoch)
    if not seen:
        return None
    return GradientState(
        _mean([one.gain for one in seen]),
        _mean([one.cosine for one in seen]),
        _mean([one.underflow for one in seen]),
        _mean([one.saturated for one in seen]),
    )


def gradients_of(row: StudyRow, epoch: int) -> list[TensorRecord]:
    """What was seen of gradients in one epoch, both products, from the last layer to the first."""
    return [one for one in row.tensors if one.role.startswith("gradient") and one.epoch == epoch]


def _mean(values: Sequence[float | None]) -> float:
    known = [value for value in values if value is not None]
    return math.fsum(known) / len(known) if known else math.nan


def ablation_markdown(rows: Sequence[StudyRow], names: StudyNames) -> str:
    """A table a task: what was changed, the figure, the difference, and the state of the gradients."""
    if names.ablated is None:
        return ""
    shown = [row for row in rows if row.system in names.questions]
    tasks = [task for task in names.tasks if any(row.task == task for row in shown)]
    if not tasks:
        return ""
    label = names.systems[names.ablated]
    parts = [
        f"## Ablations of {label}",
        "",
        f"Differences from {label} with the same seed (number of pairs). Of the gradients dL/dy as they "
        "enter the products, in the last epoch, mean over layers and seeds: gain and cosine against the "
        "tensor before four bits, share that became zero, share at the largest code.",
    ]
    for task in tasks:
        parts += ["", f"### {names.tasks[task]}", "", *_of_task(rows, names, task, names.ablated)]
    return "\n".join([*parts, ""])


def _of_task(rows: Sequence[StudyRow], names: StudyNames, task: str, ablated: str) -> list[str]:
    here = [row for row in rows if row.task == task]
    found, metric = cells(here, ablated), metric_of(here[0])
    body = []
    for system in (ablated, *names.questions):
        if (task, system) in found:
            cell = found[task, system]
            difference = "" if system == ablated else gain(cell, metric)
            states = _states([row for row in here if row.system == system])
            question = names.questions.get(system, "as published")
            body.append([question, names.systems[system], figure(cell, metric), difference, *states])
    return table(["question", "system", metric.label, "difference", *_GRADIENT_COLUMNS], body, texts=2)


def _states(rows: Sequence[StudyRow]) -> list[str]:
    """The four gradient columns."""
    states = [one for row in rows if (one := gradient_state(row, row.epochs[-1].epoch))]
    if not states:
        return ["\N{EN DASH}"] * len(_GRADIENT_COLUMNS)
    columns = (
        ([one.gain for one in states], 1.0, 2),
        ([one.cosine for one in states], 1.0, 3),
        ([one.to_zero for one in states], 100.0, 1),
        ([one.at_top for one in states], 100.0, 2),
    )
    return [f"{factor * mean_and_spread(values)[0]:.{places}f}" for values, factor, places in columns]


def operands_csv(rows: Sequence[StudyRow]) -> str:
    """One line per run, kept epoch, layer and operand: how it fared on its way into four bits."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ("task", "system", "seed", "epoch", "layer", "operand", "gain", "cosine", "underflow", "saturated",
         "scale", "octaves")
    )  # fmt: skip
    for row in sorted(rows, key=lambda one: (one.task, one.system, one.seed)):
        for one in row.tensors:
            writer.writerow(
                (row.task, row.system, row.seed, one.epoch, one.layer, one.role, one.gain, one.cosine,
                 one.underflow, one.saturated, one.scale, octaves(one))
            )  # fmt: skip
    return text.getvalue()


def octaves(tensor: TensorRecord) -> int | None:
    """How many octaves the middle 99 % of its numbers that are not zero span; None if all are zero."""
    total = sum(count for _, count in tensor.exponents)
    if not total:
        return None
    below, low, high = 0, None, None
    for exponent, count in tensor.exponents:
        below += count
        if low is None and below > 0.005 * total:
            low = exponent
        if high is None and below >= 0.995 * total:
            high = exponent
    return None if low is None or high is None else high - low + 1
