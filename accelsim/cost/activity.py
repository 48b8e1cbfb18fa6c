"""Energy of a multiply-accumulate against what its operands do: zeros and toggles."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from accelsim.chip import ActivityModel, Chip
from accelsim.mapping.attojoules import exact, rounded


def energy_ratio(model: ActivityModel | None, zero_fraction: Fraction, excess_toggles: Fraction) -> Fraction:
    """MAC energy over the chip file's ``energy_pj_per_mac``; 1 without a model.

    ``zero_fraction``: share of products with a zero operand; the model's curve is straight between its
    points and goes straight on beyond the last. ``excess_toggles``: toggle fraction of the operand bits
    less that of independent elements with as many zeros (whose toggles the curve holds already), over the
    one half of random operands; the model's ``toggle_share`` of the energy follows it. Never below 0.
    """
    if model is None:
        return Fraction(1)
    share = Fraction(str(model.toggle_share.value)) if model.toggle_share else Fraction(0)
    return max(_on_curve(model, zero_fraction) + share * excess_toggles, Fraction(0))


def stated_ratio(chip: Chip) -> Fraction:
    """The ratio at the activity that the chip's file states."""
    model = chip.array.activity
    if model is None:
        return Fraction(1)
    return energy_ratio(model, Fraction(str(model.stated_zero_fraction.value)), Fraction(0))


def mac_energy_aj(macs: int, energy_aj_per_mac: int, ratio: Fraction) -> int:
    """Energy of ``macs`` products, rounded once, half to even."""
    return rounded(macs * energy_aj_per_mac, ratio)


def _on_curve(model: ActivityModel, zero_fraction: Fraction) -> Fraction:
    zeros, ratios = _exact(model.zero_fractions), _exact(model.energy_ratios)
    upper = next((index for index, zero in enumerate(zeros) if zero >= zero_fraction), len(zeros) - 1)
    upper = max(upper, 1)
    run, rise = zeros[upper] - zeros[upper - 1], ratios[upper] - ratios[upper - 1]
    return ratios[upper - 1] + rise * (zero_fraction - zeros[upper - 1]) / run


def _exact(values: Sequence[float]) -> list[Fraction]:
    return [exact(value) for value in values]
