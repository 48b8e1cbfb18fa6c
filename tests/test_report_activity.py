"""What a report says about the activity of operands."""

from __future__ import annotations

import pytest
from sample_records import FP4, sample_pair, sample_record

from accelsim.report import comparison_table
from accelsim.report.activity import activity_rows, activity_sentence, last_activity, measured_step_aj
from accelsim.report.page import report_html
from accelsim.report.readings import read_off


def test_only_the_last_epoch_is_shown() -> None:
    """Rows of earlier epochs stay in the record."""
    record = sample_record()
    assert record.training is not None
    assert {row.epoch for row in record.training.activity} == {7, 8}
    assert {row.epoch for row in last_activity(record)} == {8}
    assert [row.difference for row in activity_rows(record)] == ["−12.0 %"] * 6


def test_measured_energy_replaces_stated_energy() -> None:
    """The step's energy less what was stated for the MACs plus what was measured, in exact integers."""
    record = sample_record()
    saved = 6 * 120_000 * FP4.aj_per_mac
    assert measured_step_aj(record) == record.cost.step_energy_aj.total_aj - saved
    found = read_off(record)
    assert found.measured_energy_per_sample_j == pytest.approx(
        found.energy_per_sample_j - saved * 1e-18 / record.batch
    )


def test_an_estimate_says_nothing_of_activity() -> None:
    """No row, no sentence, no section."""
    record = sample_record(trained=False)
    assert (measured_step_aj(record), activity_sentence(record), activity_rows(record)) == (None, "", ())
    assert "measured_energy_per_sample" not in {row.key for row in comparison_table([record])}
    assert 'id="activity"' not in report_html([record], {})


def test_the_page_shows_stated_and_measured() -> None:
    """The section names the share of idle products and both energies of each chip."""
    page = report_html(sample_pair(), {})
    assert 'id="activity"' in page
    assert page.count("40.0 % of the products had a zero operand") == 2
    assert "if independent" in page
