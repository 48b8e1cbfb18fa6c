"""The main table, for a terminal, a CSV file and a Markdown file."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from accelsim.record import RunRecord
from accelsim.report import quantities as q
from accelsim.report.comparison import Comparison, compare_all, energy_phrase, headline
from accelsim.report.drawing import RESOURCE_HUES
from accelsim.report.readings import Reading, cost_to_reach, read_off
from accelsim.report.task_metric import metric_difference, metric_text

Group = Literal["result", "reading"]


@dataclass(frozen=True)
class TableRow:
    """One line: a quantity, its value for each record (number in ``unit``, and text), what it means.

    ``group`` is ``result`` for the rows everybody reads and ``reading`` for the architect's further ones.
    ``reading`` is empty for a single record.
    """

    key: str
    label: str
    unit: str
    values: tuple[float | None, ...]
    texts: tuple[str, ...]
    reading: str
    group: Group


def comparison_table(records: Sequence[RunRecord]) -> tuple[TableRow, ...]:
    """The main table of one record, or of a chip's record and a baseline's (in that order).

    Raises `InputError` unless there are one or two records of one workload.
    """
    comparison = compare_all(records)
    readings = [read_off(record) for record in records]
    rows = [_row(line, readings, comparison) for line in (*_metric_lines(readings), *_LINES)]
    if all(record.phases == "forward" for record in records):
        rows = [replace(row, label=_OF_FORWARD.get(row.key, row.label)) for row in rows]
    return tuple(row for row in rows if any(value is not None for value in row.values)) + _target_rows(
        records
    )


@dataclass(frozen=True)
class _Line:
    """How one row is made: ``value`` of a reading, ``text`` of it, ``meaning`` of the comparison."""

    key: str
    label: str
    unit: str
    value: Callable[[Reading], float | None]
    text: Callable[[Reading], str]
    meaning: Callable[[Comparison], str] = lambda comparison: ""
    group: Group = "result"


def _row(line: _Line, readings: Sequence[Reading], comparison: Comparison | None) -> TableRow:
    values = tuple(line.value(reading) for reading in readings)
    texts = tuple(
        "–" if value is None else line.text(reading) for value, reading in zip(values, readings, strict=True)
    )
    meaning = line.meaning(comparison) if comparison else ""
    return TableRow(line.key, line.label, line.unit, values, texts, meaning, line.group)


def _metric_lines(readings: Sequence[Reading]) -> tuple[_Line, ...]:
    """The row of the figure that the task is judged by, where that is not accuracy."""
    names = {reading.metric.name for reading in readings if reading.metric}
    return tuple(
        _Line(
            "metric",
            f"{name[:1].upper()}{name[1:]} on the test data after the last epoch",
            name,
            lambda r: r.metric.value if r.metric else None,
            lambda r: metric_text(r.metric) if r.metric else "",
            lambda c: metric_difference(c.chip.metric, c.baseline.metric) or "",
        )
        for name in sorted(names)
    )


def _all_reduce_text(reading: Reading) -> str:
    time, energy = reading.all_reduce_share or (0.0, 0.0)
    return f"{q.percent(time)} of time, {q.percent(energy)} of energy"


def _binding_text(reading: Reading) -> str:
    share = q.percent(reading.bound_share[reading.binding], 0)
    return f"{RESOURCE_HUES[reading.binding].name} ({share} of time)"


def _sustained_text(reading: Reading) -> str:
    share = q.percent(reading.sustained_tops / reading.peak_tops, 0)
    return f"{q.number(reading.sustained_tops)} TOPS ({share} of peak)"


def _binding_meaning(comparison: Comparison) -> str:
    ours, theirs = (RESOURCE_HUES[one.binding].name for one in (comparison.chip, comparison.baseline))
    return "the same on both" if ours == theirs else f"{theirs} → {ours}"


def _area_meaning(ratio: float, iso_area: bool) -> str:
    return f"{q.times(ratio)}, {'iso-area' if iso_area else 'not iso-area'}"


def _points_text(comparison: Comparison) -> str:
    return "" if comparison.accuracy_points is None else q.points(comparison.accuracy_points)


def _ratio_text(ratio: float | None, words: str) -> str:
    return "" if ratio is None else f"{q.times(ratio)} {words}"


def _less(ours: float, theirs: float, words: tuple[str, str] = ("less", "more")) -> str:
    """How two amounts of something costly compare."""
    if ours <= 0 or theirs <= 0:
        return ""
    return (
        f"{q.times(theirs / ours)} {words[0]}" if ours <= theirs else f"{q.times(ours / theirs)} {words[1]}"
    )


def _shorter(ours: float, theirs: float) -> str:
    return _less(ours, theirs, ("shorter", "longer"))


def _bandwidth_meaning(comparison: Comparison) -> str:
    if comparison.bandwidth_ratio is None:
        return ""
    same = abs(comparison.bandwidth_ratio - 1) < 1e-9
    return "iso-bandwidth" if same else f"{q.times(comparison.bandwidth_ratio)}, not iso-bandwidth"


def _footprint_meaning(comparison: Comparison, key: str) -> str:
    """How much less the chip takes of one item of its footprint; empty where a side does not know it."""
    ours, theirs = comparison.chip.footprint, comparison.baseline.footprint
    if not ours or not theirs or (key == "money" and ours.currency != theirs.currency):
        return ""
    amounts = getattr(ours, key), getattr(theirs, key)
    return _less(*amounts) if all(amounts) else ""


_OF_FORWARD = {
    "samples_per_second": "Throughput of the forward pass, simulated",
    "energy_per_sample": "Energy per sample",
}
"""Labels of rows whose own speak of training."""

_LINES = (
    _Line(
        "accuracy", "Test accuracy after the last epoch", "fraction",
        lambda r: r.accuracy, lambda r: q.percent(r.accuracy or 0), _points_text,
    ),
    _Line(
        "samples_per_second", "Training throughput, simulated", "samples/s",
        lambda r: r.samples_per_second, lambda r: f"{q.number(r.samples_per_second)} samples/s",
        lambda c: f"{q.times(c.speedup)} the speed",
    ),
    _Line(
        "energy_per_sample", "Energy per training sample", "J",
        lambda r: r.energy_per_sample_j, lambda r: q.joules(r.energy_per_sample_j), energy_phrase,
    ),
    _Line(
        "energy_per_run", "Energy of the whole run", "J",
        lambda r: r.energy_per_run_j, lambda r: q.joules(r.energy_per_run_j),
        lambda c: _less(c.chip.energy_per_run_j, c.baseline.energy_per_run_j),
    ),
    _Line(
        "run_seconds", "Time of the whole run, simulated", "s",
        lambda r: r.run_seconds, lambda r: q.seconds(r.run_seconds),
        lambda c: _shorter(c.chip.run_seconds, c.baseline.run_seconds),
    ),
    _Line(
        "power", "Average power", "W",
        lambda r: r.power_w, lambda r: q.si(r.power_w, "W"),
        lambda c: _less(c.chip.power_w, c.baseline.power_w),
    ),
    _Line(
        "meter_kwh", "Energy of the whole run at the meter", "kWh",
        lambda r: r.footprint.kwh if r.footprint else None,
        lambda r: q.si(1000 * (r.footprint.kwh if r.footprint else 0), "Wh"),
        lambda c: _footprint_meaning(c, "kwh"), "reading",
    ),
    _Line(
        "co2e_kg", "Carbon of the whole run, CO2 equivalent", "kg",
        lambda r: r.footprint.co2e_kg if r.footprint else None,
        lambda r: q.mass(r.footprint.co2e_kg if r.footprint else 0),
        lambda c: _footprint_meaning(c, "co2e_kg"),
    ),
    _Line(
        "money", "Electricity of the whole run", "currency of the grid",
        lambda r: r.footprint.money if r.footprint else None,
        lambda r: q.money(r.footprint.money, r.footprint.currency) if r.footprint else "",
        lambda c: _footprint_meaning(c, "money"),
    ),
    _Line(
        "battery_charges", "Share of the battery, whole run", "charges",
        lambda r: r.footprint.battery_charges if r.footprint else None,
        lambda r: q.share(r.footprint.battery_charges or 0) if r.footprint else "",
        lambda c: _footprint_meaning(c, "battery_charges"),
    ),
    _Line(
        "mac_array_area", "Area of the MAC arrays", "mm2",
        lambda r: r.mac_array_mm2, lambda r: f"{q.number(r.mac_array_mm2)} mm²",
        lambda c: _area_meaning(c.array_area_ratio, c.iso_area),
    ),
    _Line(
        "die_area", "Area of the die", "mm2",
        lambda r: r.die_mm2, lambda r: f"{q.number(r.die_mm2)} mm²",
        lambda c: _area_meaning(c.die_area_ratio, c.iso_area),
    ),
    _Line(
        "bound_share", "Resource that binds", "fraction of time",
        lambda r: r.bound_share[r.binding], _binding_text,
        _binding_meaning,
    ),
    _Line(
        "measured_energy_per_sample", "Energy per training sample, with measured operand activity", "J",
        lambda r: r.measured_energy_per_sample_j, lambda r: q.joules(r.measured_energy_per_sample_j or 0),
        lambda c: _less(
            c.chip.measured_energy_per_sample_j or 0, c.baseline.measured_energy_per_sample_j or 0
        ), "reading",
    ),
    _Line(
        "best_accuracy", "Best test accuracy of any epoch", "fraction",
        lambda r: r.best_accuracy, lambda r: q.percent(r.best_accuracy or 0),
        lambda c: "" if c.chip.best_accuracy is None or c.baseline.best_accuracy is None
        else q.points(100 * (c.chip.best_accuracy - c.baseline.best_accuracy)), "reading",
    ),
    _Line(
        "chips", "Chips that share each mini-batch", "chips",
        lambda r: r.chips if r.chips > 1 else None, lambda r: f"{r.chips:,}",
    ),
    _Line(
        "all_reduce_share", "All-reduce of gradients between chips", "fraction of step time",
        lambda r: r.all_reduce_share[0] if r.all_reduce_share else None, _all_reduce_text,
    ),
    _Line(
        "array_seconds", "Step time if only the MAC arrays took time", "s",
        lambda r: r.array_seconds, lambda r: q.seconds(r.array_seconds),
        lambda c: _ratio_text(c.array_speedup, "the speed: the ceiling of this mapping"), "reading",
    ),
    _Line(
        "step_seconds", "Step time as it is", "s",
        lambda r: r.step_seconds, lambda r: q.seconds(r.step_seconds),
        lambda c: _shorter(c.chip.step_seconds, c.baseline.step_seconds), "reading",
    ),
    _Line(
        "peak_tops", "Peak rate of the MAC arrays", "TOPS",
        lambda r: r.peak_tops, lambda r: f"{q.number(r.peak_tops)} TOPS ({r.peak_mode})",
        lambda c: q.times(c.chip.peak_tops / c.baseline.peak_tops), "reading",
    ),
    _Line(
        "sustained_tops", "Sustained rate over a step", "TOPS",
        lambda r: r.sustained_tops,
        _sustained_text,
        lambda c: q.times(c.speedup), "reading",
    ),
    _Line(
        "samples_per_second_per_1000_macs", "iso-PE: speed per 1,000 MAC units", "samples/s",
        lambda r: 1000 * r.samples_per_second / r.peak_macs_per_cycle,
        lambda r: f"{q.number(1000 * r.samples_per_second / r.peak_macs_per_cycle)} samples/s",
        lambda c: f"{q.times(c.iso_pe_speedup)} with {q.times(c.mac_ratio)} the MAC units", "reading",
    ),
    _Line(
        "samples_per_second_per_mm2", "iso-area: speed per mm² of die", "samples/s/mm2",
        lambda r: r.samples_per_second / r.die_mm2,
        lambda r: f"{q.number(r.samples_per_second / r.die_mm2)} samples/s/mm²",
        lambda c: q.times(c.speedup / c.die_area_ratio), "reading",
    ),
    _Line(
        "dram_bandwidth", "DRAM bandwidth", "GB/s",
        lambda r: r.dram_gb_per_s, lambda r: f"{q.number(r.dram_gb_per_s or 0)} GB/s",
        _bandwidth_meaning, "reading",
    ),
    _Line(
        "dram_bytes_per_sample", "DRAM traffic per sample", "B",
        lambda r: r.dram_bytes_per_sample, lambda r: q.size(r.dram_bytes_per_sample),
        lambda c: _less(c.chip.dram_bytes_per_sample, c.baseline.dram_bytes_per_sample), "reading",
    ),
)  # fmt: skip


def _target_rows(records: Sequence[RunRecord]) -> tuple[TableRow, ...]:
    """Time and energy to the best accuracy that both runs reach: the fair reading when accuracies differ."""
    bests = [record.training.best_accuracy for record in records if record.training]
    if len(bests) != 2:
        return ()
    target = min(bests)
    reached = [cost_to_reach(record, target) for record in records]
    return tuple(
        _target_row(what, unit, target, [None if cost is None else cost[index] for cost in reached], text)
        for index, (what, unit, text) in enumerate((("Time", "s", q.seconds), ("Energy", "J", q.joules)))
    )


def _target_row(
    what: str, unit: str, target: float, values: Sequence[float | None], text: Callable[[float], str]
) -> TableRow:
    ours, theirs = values
    return TableRow(
        key=f"{what.lower()}_to_common_accuracy",
        label=f"{what} to first reach {q.percent(target)}, the most that both reach",
        unit=unit,
        values=tuple(values),
        texts=tuple("–" if value is None else text(value) for value in values),
        reading=(_shorter if what == "Time" else _less)(ours or 0, theirs or 0),
        group="reading",
    )


def table_csv(records: Sequence[RunRecord]) -> str:
    """The main table as CSV: full-precision numbers, one column per record, what they mean in words."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(["quantity", "unit", *(record.chip.name for record in records), "meaning"])
    for row in comparison_table(records):
        numbers = ["" if value is None else repr(float(value)) for value in row.values]
        writer.writerow([row.key, row.unit, *numbers, row.reading])
    return out.getvalue()


def table_markdown(records: Sequence[RunRecord]) -> str:
    """The main table as Markdown, under its headline."""
    comparison = compare_all(records)
    names = [record.chip.name for record in records]
    heading = ["", *names] + (["chip against baseline"] if comparison else [])
    lines = [f"# {title(records)}", "", _markdown_line(heading), _markdown_line(["---"] * len(heading))]
    for row in comparison_table(records):
        lines.append(_markdown_line([row.label, *row.texts] + ([row.reading] if comparison else [])))
    if comparison and comparison.differences:
        lines += ["", f"Not equal on both sides: {'; '.join(comparison.differences)}."]
    return "\n".join(lines) + "\n"


def title(records: Sequence[RunRecord]) -> str:
    """The headline of a comparison, or what a single run gave."""
    comparison = compare_all(records)
    if comparison:
        return headline(comparison)
    reading = read_off(records[0])
    speed = (
        f"{q.number(reading.samples_per_second)} samples/s at {q.joules(reading.energy_per_sample_j)} each"
    )
    learnt = "" if reading.accuracy is None else f"{q.percent(reading.accuracy)} accuracy, "
    if reading.metric:
        learnt = f"{metric_text(reading.metric)}, "
    return f"{reading.chip}: {learnt}{speed}"


def _markdown_line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
