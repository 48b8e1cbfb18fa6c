"""Reports of tasks not judged by accuracy: tables, headline and curves show the task's own figure."""

from __future__ import annotations

import pytest
from sample_records import FP16, sample_pair, sample_record

from accelsim.record import MetricRecord, RunRecord, record_text
from accelsim.report import compare_records, comparison_table, headline, title
from accelsim.report.curves import accuracy_against_cost, learning_curves
from accelsim.report.task_metric import common_metric, metric_history, task_metric


def judged(record: RunRecord, name: str, values: list[float | None]) -> RunRecord:
    """The record with a metric in each of its last epochs."""
    assert record.training is not None
    epochs = record.training.epochs[-len(values) :]
    changed = tuple(
        epoch.model_copy(update={"metric": MetricRecord(name=name, value=value)})
        for epoch, value in zip(epochs, values, strict=True)
    )
    return record.model_copy(update={"training": record.training.model_copy(update={"epochs": changed})})


def pair(name: str, ours: float | None, theirs: float | None) -> tuple[RunRecord, RunRecord]:
    """A chip and a baseline that end in these values of the metric."""
    return judged(sample_record(), name, [9.0, ours]), judged(sample_record(FP16), name, [9.0, theirs])


@pytest.mark.parametrize(
    ("name", "values", "text", "difference"),
    [
        ("bits per character", (2.375, 2.25), "2.375 bits per character", "+0.125 bits per character"),
        ("bits per character", (2.25, 2.375), "2.250 bits per character", "−0.125 bits per character"),
        (
            "phoneme error rate",
            (0.397, 0.353),
            "39.7 % phoneme error rate",
            "+4.4 points of phoneme error rate",
        ),
    ],
)
def test_table_headline_and_title_name_the_metric(
    name: str, values: tuple[float, float], text: str, difference: str
) -> None:
    """The first row is the metric, with the difference; the headline and the title speak of it too."""
    records = pair(name, *values)
    row = comparison_table(records)[0]
    assert (row.key, row.unit, row.values, row.texts[0], row.reading) == (
        "metric",
        name,
        values,
        text,
        difference,
    )
    assert row.label.lower() == f"{name} on the test data after the last epoch"
    assert headline(compare_records(*records)).endswith(f" at {difference}")
    assert title(records[:1]).startswith(f"fp4_training: {text}, ")


def test_a_diverged_metric_is_told_as_such() -> None:
    """A figure that is not finite has no difference, and the rest of the report stands."""
    records = pair("bits per character", float("inf"), 2.25)
    assert task_metric(records[0]) == MetricRecord(name="bits per character", value=None)
    assert title(records[:1]).startswith("fp4_training: no finite bits per character, ")
    assert "bits" not in headline(compare_records(*records))
    assert str(metric_history(records[0].training)) == "[9.0, nan]"  # type: ignore[arg-type]
    assert read_record_again(records[0]) == records[0]


def read_record_again(record: RunRecord) -> RunRecord:
    """Through JSON and back."""
    return RunRecord.model_validate_json(record_text(record))


def test_curves_draw_the_metric_in_place_of_accuracy() -> None:
    """Axis, title and points of both figures; error rates in percent."""
    records = pair("phoneme error rate", 0.397, 0.353)
    assert common_metric(records) == "phoneme error rate"
    for figure in (learning_curves(records), accuracy_against_cost(records)):
        panel = figure.axes[0]
        assert panel.get_ylabel() == "phoneme error rate, %"
        assert panel.get_title().startswith("Phoneme error rate ")
        drawn = [line.get_ydata()[-1] for line in panel.get_lines() if len(line.get_ydata()) == 2]
        assert any(value == pytest.approx(39.7) for value in drawn)
        assert any(value == pytest.approx(35.3) for value in drawn)


def test_records_of_accuracy_look_as_before() -> None:
    """Without a metric, or with accuracy for one, nothing but accuracy is shown."""
    plain = sample_pair()
    judged_by_accuracy = [judged(record, "accuracy", [0.5, 0.6]) for record in plain]
    for records in (plain, judged_by_accuracy):
        assert common_metric(records) is None
        assert "metric" not in {row.key for row in comparison_table(records)}
        assert "points of accuracy" in headline(compare_records(*records))
        assert learning_curves(records).axes[0].get_ylabel() == "accuracy, %"
