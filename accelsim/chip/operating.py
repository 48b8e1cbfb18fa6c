"""A chip at another clock or voltage: what follows, by the laws that its file gives numbers for.

With V the supply voltage and V0 that of the file, and its clock f0 the highest at V0:

- highest clock f0 s(V) / s(V0) with s(V) = (V - threshold)^alpha / V, the alpha-power law (Sakurai and
  Newton, IEEE Journal of Solid-State Circuits 25(2), 1990);
- energy of an operation on the die as (V / V0)^2, DRAM's as it is;
- clock power as (V / V0)^2 f / f0, static power (leakage) as (V / V0)^leakage_exponent.
"""

from __future__ import annotations

from typing import Any

from accelsim.chip.quantity import Part, Quantity
from accelsim.chip.schema import Chip, OperatingPoint
from accelsim.errors import InputError

_CLOCK_SLACK = 1 + 1e-9
"""A clock read off a rounded voltage may pass its limit by this much."""


_CLOCKS_MHZ = (1e-6, 1e6)
"""Hertz to terahertz: outside, seconds and attojoules leave what a float holds."""


def operating_at(chip: Chip, *, clock_mhz: float | None = None, voltage_v: float | None = None) -> Chip:
    """``chip`` at a clock, a voltage or both; without a clock, at the highest of the voltage.

    Its file's text stays; every number that changes says so in its source.

    Raises
    ------
    InputError: a clock of 0 or below, or above what the voltage allows; a voltage that is not above the
        threshold or above twice the file's; a voltage for a chip whose file gives no ``operating_point``.
    """
    if clock_mhz is None and voltage_v is None:
        return chip
    if clock_mhz is not None and not _CLOCKS_MHZ[0] <= clock_mhz <= _CLOCKS_MHZ[1]:
        message = f"must be between {_CLOCKS_MHZ[0]:g} and {_CLOCKS_MHZ[1]:.0f}, got {clock_mhz:g}"
        raise InputError(message, "clock_mhz")
    point = chip.operating_point
    if point is None:
        if voltage_v is not None:
            message = f"chip '{chip.name}' has no 'operating_point', so its voltage cannot change"
            raise InputError(message, "voltage_v")
        assert clock_mhz is not None
        return _scaled_chip(chip, clock_mhz, 1.0, 1.0)
    nominal = point.voltage_v.value
    voltage = nominal if voltage_v is None else voltage_v
    highest = highest_clock_mhz(chip, point, voltage)
    clock = highest if clock_mhz is None else clock_mhz
    if clock > highest * _CLOCK_SLACK:
        message = f"chip '{chip.name}' reaches at most {highest:,.4g} at {voltage:g} V, got {clock:g}"
        raise InputError(message, "clock_mhz")
    ratio = voltage / nominal
    return _scaled_chip(chip, clock, ratio, ratio**point.leakage_exponent.value)


def highest_clock_mhz(chip: Chip, point: OperatingPoint, voltage_v: float) -> float:
    """The alpha-power law; raises `InputError` for a voltage outside of it."""
    threshold, nominal = point.threshold_v.value, point.voltage_v.value
    if not threshold < voltage_v <= 2 * nominal:
        message = (
            f"must be above the threshold of {threshold:g} and at most {2 * nominal:g}, got {voltage_v:g}"
        )
        raise InputError(message, "voltage_v")
    if voltage_v == nominal:
        return chip.clock_mhz.value

    def speed(voltage: float) -> float:
        return float((voltage - threshold) ** point.alpha.value / voltage)

    return chip.clock_mhz.value * speed(voltage_v) / speed(nominal)


def with_stated_zeros(chip: Chip, fraction: float) -> Chip:
    """``chip`` with another stated share of products with a zero operand.

    Raises
    ------
    InputError: a share outside 0..1, or a chip whose file gives no ``array.activity``.
    """
    if not 0 <= fraction <= 1:
        raise InputError(f"must be between 0 and 1, got {fraction:g}", "zeros")
    if chip.array.activity is None:
        raise InputError(f"chip '{chip.name}' has no 'array.activity', so zeros change nothing", "zeros")
    stated = Quantity(value=fraction, source="given by the user", evidence="estimated")
    activity = chip.array.activity.model_copy(update={"stated_zero_fraction": stated})
    return chip.model_copy(update={"array": chip.array.model_copy(update={"activity": activity})})


def _scaled_chip(chip: Chip, clock_mhz: float, voltage_ratio: float, leakage_ratio: float) -> Chip:
    squared = voltage_ratio**2
    on_die = ("array", "scratchpad", "operand_buffer", "ring", "interconnect", "vector_unit")
    changed: dict[str, Any] = {
        name: _energies_times(getattr(chip, name), squared, "") for name in on_die if squared != 1
    }
    speed = clock_mhz / chip.clock_mhz.value
    changed["clock_mhz"] = _times(chip.clock_mhz, speed)
    changed["static_power_mw"] = _times(chip.static_power_mw, leakage_ratio)
    if chip.clock_power_mw is not None:
        changed["clock_power_mw"] = _times(chip.clock_power_mw, squared * speed)
    return chip.model_copy(update=changed)


def _energies_times(value: Any, factor: float, key: str) -> Any:
    """A part with every energy in it times ``factor``; ``key`` is the nearest key with a unit."""
    if isinstance(value, Quantity):
        return _times(value, factor) if "_pj" in key else value
    if isinstance(value, Part):
        names = type(value).model_fields
        inner = {name: f"{key}.{name}" for name in names}
        return value.model_copy(
            update={name: _energies_times(getattr(value, name), factor, inner[name]) for name in names}
        )
    if isinstance(value, tuple):
        return tuple(_energies_times(item, factor, key) for item in value)
    return value


def _times(quantity: Quantity, factor: float) -> Quantity:
    """A quantity times ``factor``, which its source then says."""
    if factor == 1:
        return quantity
    source = f"{quantity.source}; times {factor:.6g} for another clock or voltage"
    return quantity.model_copy(
        update={"value": quantity.value * factor, "source": source, "evidence": "derived"}
    )
