"""What operands did on a run: zeros, toggles, and MAC energy as stated and as measured."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.operations import Phase
from accelsim.record import ActivityRecord, RunRecord
from accelsim.report import quantities as q

JOULE_PER_AJ = 1e-18


@dataclass(frozen=True)
class ActivityRow:
    """One layer and phase in words: shares of zeros and toggles, MAC energy of a step."""

    layer: str
    phase: Phase
    a_zeros: str
    b_zeros: str
    idle_products: str
    toggles: str
    independent_toggles: str
    stated: str
    of_zeros: str
    of_toggles: str
    measured: str
    difference: str


def last_activity(record: RunRecord) -> tuple[ActivityRecord, ...]:
    """The rows of the last epoch that was observed; none for an estimate."""
    rows = record.training.activity if record.training else ()
    last = max((row.epoch for row in rows), default=0)
    return tuple(row for row in rows if row.epoch == last)


def activity_rows(record: RunRecord) -> tuple[ActivityRow, ...]:
    """Every layer and phase with GEMMs, then all of them together."""
    rows = last_activity(record)
    lines = [
        ActivityRow(
            row.layer,
            row.phase,
            q.percent(row.a_zero_fraction),
            q.percent(row.b_zero_fraction),
            q.percent(row.idle_products / row.products),
            q.percent(row.toggle_fraction),
            q.percent(row.independent_toggle_fraction),
            q.joules(row.stated_mac_aj * JOULE_PER_AJ),
            _signed(_of_zeros(row)),
            "–" if row.toggle_mac_aj is None else _signed(row.toggle_mac_aj),
            q.joules(row.measured_mac_aj * JOULE_PER_AJ),
            _difference(row.stated_mac_aj, row.measured_mac_aj),
        )
        for row in rows
    ]
    return tuple(lines)


def activity_sentence(record: RunRecord) -> str:
    """MAC energy and step energy, stated against measured, in words; empty for an estimate."""
    rows = last_activity(record)
    if not rows:
        return ""
    stated, measured = (
        sum(getattr(row, key) for row in rows) for key in ("stated_mac_aj", "measured_mac_aj")
    )
    products = sum(row.products for row in rows)
    idle = q.percent(sum(row.idle_products for row in rows) / products)
    step_aj = record.cost.step_energy_aj.total_aj
    macs = (
        f"{q.joules(measured * JOULE_PER_AJ)} a step as measured, {q.joules(stated * JOULE_PER_AJ)} as stated"
    )
    step = (
        f"{q.joules((step_aj - stated + measured) * JOULE_PER_AJ)} against {q.joules(step_aj * JOULE_PER_AJ)}"
    )
    whose = f"{record.chip.name} (the first of {record.chips})" if record.chips > 1 else record.chip.name
    return (
        f"{whose}: {idle} of the products had a zero operand; MACs took {macs} "
        f"({_difference(stated, measured)}{_causes(rows)}), the whole step {step}."
    )


def _causes(rows: tuple[ActivityRecord, ...]) -> str:
    """How much of the difference comes of zeros and how much of toggles, where toggles have a price."""
    toggles = [row.toggle_mac_aj for row in rows if row.toggle_mac_aj is not None]
    if not toggles:
        return ""
    zeros = _signed(sum(map(_of_zeros, rows)))
    return f": {zeros} for zeros, {_signed(sum(toggles))} for toggles"


def _of_zeros(row: ActivityRecord) -> int:
    """What zeros add to the stated energy, or save."""
    return row.measured_mac_aj - row.stated_mac_aj - (row.toggle_mac_aj or 0)


def _signed(energy_aj: int) -> str:
    """'−12.3 µJ', '+1.00 nJ', '0 J'."""
    text = q.joules(abs(energy_aj) * JOULE_PER_AJ)
    return f"+{text}" if energy_aj > 0 else f"−{text}" if energy_aj else text


def measured_step_aj(record: RunRecord) -> int | None:
    """Energy of a step on one chip with its MACs as measured; None where nothing was measured."""
    rows = last_activity(record)
    if not rows:
        return None
    change = sum(row.measured_mac_aj - row.stated_mac_aj for row in rows)
    return record.cost.step_energy_aj.total_aj + change


def _difference(stated: int, measured: int) -> str:
    """Signed percentage: '−12.3 %'."""
    if not stated:
        return "–"
    text = q.percent(abs(measured - stated) / stated)
    if text == q.percent(0):
        return f"±{text}"
    return f"+{text}" if measured > stated else f"−{text}"
