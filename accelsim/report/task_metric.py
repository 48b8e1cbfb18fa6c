"""The figure a task is judged by, where that is not its accuracy: bits per character, error rates."""

from __future__ import annotations

from collections.abc import Sequence

from accelsim.record import MetricRecord, RunRecord, TrainingRecord
from accelsim.report import quantities as q


def task_metric(record: RunRecord) -> MetricRecord | None:
    """The metric after the last epoch; None for an estimate, and where accuracy says it all."""
    return _own(record.training.epochs[-1].metric) if record.training else None


def common_metric(records: Sequence[RunRecord]) -> str | None:
    """The name of the metric that all trained records share; None where accuracy is the figure to draw."""
    found = [task_metric(record) for record in records if record.training]
    names = {metric.name if metric else None for metric in found}
    return names.pop() if len(names) == 1 else None


def metric_history(training: TrainingRecord) -> list[float]:
    """The metric by epoch, as it is drawn: error rates in percent, a gap where it is not finite."""
    found = [epoch.metric for epoch in training.epochs]
    gap = float("nan")
    return [gap if one is None or one.value is None else one.value * _factor(one.name) for one in found]


def axis_label(name: str) -> str:
    """What stands beside an axis of the metric."""
    return f"{name}, %" if _is_rate(name) else name


def metric_text(metric: MetricRecord) -> str:
    """'2.310 bits per character', '35.3 % phoneme error rate'."""
    if metric.value is None:
        return f"no finite {metric.name}"
    value = q.percent(metric.value) if _is_rate(metric.name) else f"{metric.value:.3f}"
    return f"{value} {metric.name}"


def metric_difference(ours: MetricRecord | None, theirs: MetricRecord | None) -> str | None:
    """'+0.061 bits per character', '+4.4 points of phoneme error rate'; None unless both have it."""
    if ours is None or theirs is None or ours.name != theirs.name:
        return None
    if ours.value is None or theirs.value is None:
        return None
    difference = ours.value - theirs.value
    if _is_rate(ours.name):
        return f"{q.points(100 * difference)} of {ours.name}"
    return f"{difference:+.3f} {ours.name}".replace("-", "\N{MINUS SIGN}", 1)


def _own(metric: MetricRecord | None) -> MetricRecord | None:
    return metric if metric and metric.less_is_better else None


def _is_rate(name: str) -> bool:
    return name.endswith("rate")


def _factor(name: str) -> float:
    return 100.0 if _is_rate(name) else 1.0
