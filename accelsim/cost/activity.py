"""Energy of a multiply-accumulate against what its operands do: zeros and toggles."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from accelsim.chip import ActivityModel, Chip
from accelsim.mapping.attojoules import attojoules, exact, rounded

_RANDOM_TOGGLES = Fraction(1, 2)
"""Toggle fraction of the bits of random operands."""


def energy_ratio(model: ActivityModel | None, zero_fraction: Fraction) -> Fraction:
    """MAC energy over the chip file's ``energy_pj_per_mac``; 1 without a model.

    ``zero_fraction``: share of products with a zero operand; the model's curve is straight between its
    points and goes straight on beyond the last. Never below 0.
    """
    return Fraction(1) if model is None else max(_on_curve(model, zero_fraction), Fraction(0))


def toggle_energy_aj(
    model: ActivityModel | None, macs: int, energy_aj_per_mac: int, bits: int, excess_toggles: Fraction
) -> int:
    """What toggles add to the energy of ``macs`` products (or save: below 0), rounded once, half to even.

    ``bits``: of both operands of a product. ``excess_toggles``: toggle fraction of those bits less that of
    independent elements with as many zeros, whose toggles the curve holds already. 0 where the model gives
    toggles no price.
    """
    if model is None:
        return 0
    if model.energy_pj_per_toggle is not None:
        return rounded(macs * bits * attojoules(model.energy_pj_per_toggle.value), excess_toggles)
    share = exact(model.toggle_share.value) if model.toggle_share else Fraction(0)
    return rounded(macs * energy_aj_per_mac, share * excess_toggles / _RANDOM_TOGGLES)


def stated_ratio(chip: Chip) -> Fraction:
    """The ratio at the activity that the chip's file states."""
    model = chip.array.activity
    if model is None:
        return Fraction(1)
    return energy_ratio(model, Fraction(str(model.stated_zero_fraction.value)))


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
