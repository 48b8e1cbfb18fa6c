"""Two runs of one workload side by side: ratios, areas, and the sentence that says it all."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.errors import InputError
from accelsim.record import RunRecord
from accelsim.report import quantities
from accelsim.report.readings import Reading, read_off
from accelsim.report.task_metric import metric_difference

ISO_AREA_TOLERANCE = 0.02


@dataclass(frozen=True)
class Comparison:
    """A chip against a baseline. Ratios are above 1 when they speak for the chip.

    ``speedup``: training throughput, chip / baseline; ``array_speedup``: the same if only the MAC arrays
    took time; ``energy_ratio``: energy per sample, baseline / chip; ``accuracy_points``: chip - baseline
    in percentage points, None unless both were trained. ``array_area_ratio``, ``die_area_ratio`` and
    ``mac_ratio`` (peak MACs per cycle) are chip / baseline. ``iso_area``: MAC arrays and dies both within
    2 %. ``iso_pe_speedup``: speed per MAC unit, speedup / mac_ratio. ``bandwidth_ratio``: DRAM bandwidth,
    chip / baseline, None when a record does not hold it. ``differences``: settings that are not equal.
    """

    chip: Reading
    baseline: Reading
    speedup: float
    array_speedup: float | None
    energy_ratio: float
    accuracy_points: float | None
    array_area_ratio: float
    die_area_ratio: float
    iso_area: bool
    mac_ratio: float
    iso_pe_speedup: float
    bandwidth_ratio: float | None
    differences: tuple[str, ...]


def compare_records(record: RunRecord, baseline: RunRecord) -> Comparison:
    """Compare a run with a baseline run of the same workload.

    Raises `InputError` when the two records are of different workloads.
    """
    ours, theirs = read_off(record), read_off(baseline)
    if record.workload.name != baseline.workload.name:
        names = f"'{record.workload.name}' and '{baseline.workload.name}'"
        raise InputError(f"the two records are of different workloads, {names}: they cannot be compared")
    speedup = ours.samples_per_second / theirs.samples_per_second
    mac_ratio = ours.peak_macs_per_cycle / theirs.peak_macs_per_cycle
    area_ratios = (ours.mac_array_mm2 / theirs.mac_array_mm2, ours.die_mm2 / theirs.die_mm2)
    return Comparison(
        chip=ours,
        baseline=theirs,
        speedup=speedup,
        array_speedup=_array_speedup(record, baseline),
        energy_ratio=theirs.energy_per_sample_j / ours.energy_per_sample_j,
        accuracy_points=_accuracy_points(ours, theirs),
        array_area_ratio=area_ratios[0],
        die_area_ratio=area_ratios[1],
        iso_area=all(abs(ratio - 1) <= ISO_AREA_TOLERANCE for ratio in area_ratios),
        mac_ratio=mac_ratio,
        iso_pe_speedup=speedup / mac_ratio,
        bandwidth_ratio=_ratio(ours.dram_gb_per_s, theirs.dram_gb_per_s),
        differences=_differences(record, baseline),
    )


def compare_all(records: Sequence[RunRecord]) -> Comparison | None:
    """The comparison of (chip, baseline), or None for a single record.

    Raises `InputError` unless there are one or two records.
    """
    if len(records) not in (1, 2):
        raise InputError(f"a report takes one record, or a chip's and a baseline's; got {len(records)}")
    return compare_records(records[0], records[1]) if len(records) == 2 else None


def headline(comparison: Comparison) -> str:
    """The result in one sentence."""
    ours, theirs = comparison.chip, comparison.baseline
    speed = quantities.times(comparison.speedup, 2)
    parts = f"{ours.chip}: {speed} the speed of {theirs.chip} and {energy_phrase(comparison, 2)}"
    if difference := metric_difference(ours.metric, theirs.metric):
        return f"{parts} at {difference}"
    if comparison.accuracy_points is None:
        return parts
    return f"{parts} at {quantities.points(comparison.accuracy_points)} of accuracy"


def energy_phrase(comparison: Comparison, digits: int = 3) -> str:
    """'5.1× less energy' or '1.2× more energy'."""
    if comparison.energy_ratio >= 1:
        return f"{quantities.times(comparison.energy_ratio, digits)} less energy"
    return f"{quantities.times(1 / comparison.energy_ratio, digits)} more energy"


def _array_speedup(record: RunRecord, baseline: RunRecord) -> float | None:
    """Speedup per sample if nothing but the MAC arrays took time; None when a chip's arrays are idle."""
    ours, theirs = read_off(record), read_off(baseline)
    return _ratio(theirs.array_seconds / baseline.batch, ours.array_seconds / record.batch)


def _ratio(numerator: float | None, denominator: float | None) -> float | None:
    return numerator / denominator if numerator and denominator else None


def _accuracy_points(ours: Reading, theirs: Reading) -> float | None:
    if ours.accuracy is None or theirs.accuracy is None:
        return None
    return 100 * (ours.accuracy - theirs.accuracy)


def _differences(record: RunRecord, baseline: RunRecord) -> tuple[str, ...]:
    """What a fair comparison would have kept equal, in words."""
    settings = {
        "kind of run": (record.kind, baseline.kind),
        "phases": (record.phases, baseline.phases),
        "text of the workload": (record.workload.sha256[:12], baseline.workload.sha256[:12]),
        "batch": (record.batch, baseline.batch),
        "epochs": (record.epochs, baseline.epochs),
        "seed": (record.seed, baseline.seed),
        "accelsim version": (record.versions.get("accelsim"), baseline.versions.get("accelsim")),
    }
    return tuple(
        f"{name}: {ours} against {theirs}" for name, (ours, theirs) in settings.items() if ours != theirs
    )
