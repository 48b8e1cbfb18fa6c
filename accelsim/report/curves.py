"""What was learnt: by epoch, and by what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelsim.record import RunRecord, TrainingRecord
from accelsim.report import quantities as q
from accelsim.report.drawing import CHIP_COLOURS, axis_unit, new_figure, shortened
from accelsim.report.readings import read_off
from accelsim.report.task_metric import (
    axis_label,
    common_metric,
    metric_history,
    metric_text,
    task_metric,
)

_DASHES = ("-", (0, (4, 1.5)))
_MARKERS = ("o", "s")


def learning_curves(records: Sequence[RunRecord]) -> Any:
    """Accuracy (or the task's own metric) and loss by epoch: test in strong lines, training in thin ones."""
    metric = common_metric(records)
    figure, panels = _two_panels(f"{_titled(metric or 'accuracy')} by epoch", "Loss by epoch")
    for index, record, training in _trained(records):
        epochs = [epoch.epoch for epoch in training.epochs]
        for panel, (test, train) in zip(panels, _histories(training, metric), strict=True):
            panel.plot(epochs, train, **_line(index), linewidth=0.9, alpha=0.75)
            panel.plot(
                epochs,
                test,
                **_line(index),
                **_dots(index, training),
                linewidth=2.0,
                label=_name(record, training),
            )
    for panel in panels:
        panel.set_xlabel("epoch   (strong: test set; thin: training set)")
        panel.xaxis.get_major_locator().set_params(integer=True)
    panels[0].set_ylabel(axis_label(metric) if metric else "accuracy, %")
    panels[1].set_ylabel("mean cross-entropy")
    _legend(figure, panels[0])
    return figure


def accuracy_against_cost(records: Sequence[RunRecord]) -> Any:
    """Test accuracy (or the task's metric) against simulated energy and time spent, one point an epoch."""
    metric = common_metric(records)
    shown = _titled(metric or "test accuracy")
    figure, panels = _two_panels(f"{shown} against energy spent", f"{shown} against simulated time")
    readings = [read_off(record) for record in records]
    energy, energy_text = axis_unit(max(reading.energy_per_run_j for reading in readings), "J")
    time, time_text = axis_unit(max(reading.run_seconds for reading in readings), "s")
    for index, record, training in _trained(records):
        done = _share_done(training)
        accuracy, _ = _histories(training, metric)[0]
        spent = (readings[index].energy_per_run_j / energy, readings[index].run_seconds / time)
        for panel, whole in zip(panels, spent, strict=True):
            points = [share * whole for share in done]
            panel.plot(
                points,
                accuracy,
                **_line(index),
                **_dots(index, training),
                linewidth=2.0,
                label=_name(record, training),
            )
    panels[0].set_xlabel(f"energy since the start, {energy_text}")
    panels[1].set_xlabel(f"simulated time since the start, {time_text}")
    for panel in panels:
        panel.set_xlim(left=0)
        panel.set_ylabel(axis_label(metric) if metric else "test accuracy, %")
    _legend(figure, panels[0])
    return figure


def _trained(records: Sequence[RunRecord]) -> list[tuple[int, RunRecord, TrainingRecord]]:
    return [(index, record, record.training) for index, record in enumerate(records) if record.training]


def _titled(name: str) -> str:
    return f"{name[:1].upper()}{name[1:]}"


def _histories(training: TrainingRecord, metric: str | None) -> list[tuple[list[float], list[float]]]:
    """(test, training) curves of accuracy in percent, then of loss; a loss that is not finite is a gap.

    A ``metric`` takes the place of accuracy; it is known of the test data only.
    """
    epochs, gap = training.epochs, float("nan")
    accuracies = ([100 * one.test_accuracy for one in epochs], [100 * one.train_accuracy for one in epochs])
    if metric is not None:
        accuracies = (metric_history(training), [gap] * len(epochs))
    test_losses = [gap if one.test_loss is None else one.test_loss for one in epochs]
    train_losses = [gap if one.train_loss is None else one.train_loss for one in epochs]
    return [accuracies, (test_losses, train_losses)]


def _share_done(training: TrainingRecord) -> list[float]:
    """Share of all steps done at the end of each epoch."""
    total = sum(epoch.steps for epoch in training.epochs) or 1
    done = 0
    shares = []
    for epoch in training.epochs:
        done += epoch.steps
        shares.append(done / total)
    return shares


def _two_panels(*titles: str) -> tuple[Any, Sequence[Any]]:
    figure = new_figure(10.0, 3.6)
    panels: Sequence[Any] = figure.subplots(1, 2)
    figure.subplots_adjust(left=0.065, right=0.985, top=0.8, bottom=0.15, wspace=0.17)
    for panel, title in zip(panels, titles, strict=True):
        panel.set_title(title)
    return figure, panels


def _legend(figure: Any, panel: Any) -> None:
    """Above both panels, where no curve can run into it."""
    handles, names = panel.get_legend_handles_labels()
    figure.legend(handles, names, loc="upper left", bbox_to_anchor=(0.065, 0.975), ncols=2, handlelength=2.4)


def _name(record: RunRecord, training: TrainingRecord) -> str:
    metric = task_metric(record)
    reached = metric_text(metric) if metric else q.percent(training.final_accuracy)
    result = f"{reached} after {len(training.epochs)} epochs"
    return f"{shortened(record.chip.name)}: {result}"


def _line(index: int) -> dict[str, Any]:
    return {"color": CHIP_COLOURS[index], "linestyle": _DASHES[index]}


def _dots(index: int, training: TrainingRecord) -> dict[str, Any]:
    """Markers on every epoch of a short run, on about twenty epochs of a long one."""
    return {"marker": _MARKERS[index], "markersize": 4.5, "markevery": 1 + len(training.epochs) // 20}
