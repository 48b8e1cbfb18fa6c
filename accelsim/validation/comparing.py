"""Sheets -> findings: published, ours, error; calibrations first, each from its own one measurement."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import fsum
from typing import Literal

from accelsim.cost import chip_area
from accelsim.errors import InputError, unknown
from accelsim.validation.equal_area import cycles_on_one_um2
from accelsim.validation.outcome import Outcome
from accelsim.validation.quantities import ENERGIES, PEAKS, QUANTITIES, of_chip, of_electricity, of_outcome
from accelsim.validation.running import run_chip, run_outcome, run_outcomes, run_workload
from accelsim.validation.schema import Calibration, Figure, QuantityName, Run, Sheet, Span


@dataclass(frozen=True)
class Finding:
    """One line of the table.

    ``published``: (low, high), equal where one number was published. ``ours``: the simulator's; where a
    calibration applies, ``uncalibrated`` is what it says without. ``factor``: of that calibration.
    """

    row: str
    label: str
    quantity: QuantityName
    unit: str
    published: tuple[float, float]
    ours: float
    status: Literal["calibrated", "predicted"]
    uncalibrated: float | None
    factor: float | None
    chip: str
    source: str
    note: str
    missing: str

    @property
    def inside(self) -> bool:
        """Whether ours lies in a published range."""
        low, high = self.published
        return low <= self.ours <= high

    @property
    def error(self) -> float:
        """Ours over published less 1; 0 inside a published range, else from its nearer end."""
        low, high = self.published
        return 0.0 if self.inside else self.ours / (low if self.ours < low else high) - 1


def compare_sheets(sheets: Sequence[Sheet], known: Sequence[Sheet] = ()) -> list[Finding]:
    """Every figure of ``sheets`` repeated, in their order.

    ``known``: further sheets whose calibrations may be named.
    Raises `InputError` for a file that is not there, a calibration that none states, and whatever an
    estimate of the same chip and workload would raise.
    """
    stated = {item.name: item for sheet in (*known, *sheets) for item in sheet.calibrations}
    named = {figure.calibration for sheet in sheets for figure in sheet.figures if figure.calibration}
    for name in sorted(named):
        if name not in stated:
            raise unknown("calibration", name, stated)
    factors = {name: energy_factor(stated[name]) for name in sorted(named)}
    return [_finding(sheet, figure, factors) for sheet in sheets for figure in sheet.figures]


def energy_factor(calibration: Calibration) -> float:
    """What the chip's energy must be multiplied by to meet the one measurement."""
    ours = of_outcome(calibration.quantity, run_outcome(calibration.run))
    if ours == 0:
        raise InputError(f"the run of calibration '{calibration.name}' takes no energy", "run")
    ratio = calibration.published / ours
    return 1 / ratio if calibration.quantity == "tops_per_w" else ratio


def _finding(sheet: Sheet, figure: Figure, factors: dict[str, float]) -> Finding:
    factor = factors[figure.calibration] if figure.calibration else None
    ours = _value(figure, factor or 1.0)
    published = figure.published
    low, high = (published.low, published.high) if isinstance(published, Span) else (published, published)
    return Finding(
        row=sheet.row,
        label=figure.label,
        quantity=figure.quantity,
        unit=QUANTITIES[figure.quantity].unit,
        published=(low, high),
        ours=ours,
        status=figure.status,
        uncalibrated=_value(figure, 1.0) if factor else None,
        factor=factor,
        chip=figure.run.chip or "",
        source=" ".join(sheet.source.split()),
        note=figure.note or "",
        missing=figure.missing or "",
    )


def _value(figure: Figure, factor: float) -> float:
    run, quantity = figure.run, figure.quantity
    if run.electricity_kwh is not None:
        return of_electricity(quantity, run.electricity_kwh, run.grid or "world")
    if quantity == "die_mm2":
        return chip_area(run_chip(run)).die_mm2
    if quantity in PEAKS:
        assert run.mode is not None
        chips = run.chips if quantity == "peak_tops" else 1
        return chips * of_chip(quantity, run_chip(run), run.mode)
    if figure.against is not None:
        return _speedup(quantity, run, figure.against)
    if quantity == "peak_tops_per_w":
        assert run.mode is not None
        power_w = run_outcome(run).with_energy_scaled(factor).on_chip_w
        return of_chip("peak_tops", run_chip(run), run.mode) / power_w
    if not run.workloads:
        return _scaled(quantity, run_outcome(run), factor)
    values = [_scaled(quantity, outcome, factor) for outcome in run_outcomes(run)]
    if figure.over == "mean":
        return fsum(values) / len(values)
    return min(values) if figure.over == "lowest" else max(values)


def _scaled(quantity: QuantityName, outcome: Outcome, factor: float) -> float:
    return of_outcome(quantity, outcome.with_energy_scaled(factor) if quantity in ENERGIES else outcome)


def _speedup(quantity: QuantityName, run: Run, against: Run) -> float:
    """Time of ``against`` over time of ``run``."""
    if quantity == "speedup":
        return float(run_outcome(against).seconds / run_outcome(run).seconds)
    times = []
    for each in (against, run):
        assert each.workload is not None
        times.append(cycles_on_one_um2(run_workload(each, each.workload), run_chip(each), each.modes))
    return float(times[0] / times[1])
