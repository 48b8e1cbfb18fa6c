"""Joules of a chip -> kWh at the meter, kg CO2e, money and battery charges."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.record import GridRecord, RunRecord

JOULE_PER_KWH = 3.6e6
JOULE_PER_WH = 3600


@dataclass(frozen=True)
class Footprint:
    """What an amount of chip energy costs at the meter.

    ``kwh``: chip energy times the data centre's overhead. ``co2e_kg``: carbon dioxide equivalent.
    ``money``: in ``currency``. ``battery_charges``: chip energy over the battery's, None without one.
    """

    kwh: float
    co2e_kg: float
    money: float
    currency: str
    battery_charges: float | None


def electricity_sentence(records: Sequence[RunRecord]) -> str:
    """Where the electricity of these records comes from, once for each place; empty where none says it."""
    places = dict.fromkeys(_place(record.grid) for record in records if record.grid)
    return f"Electricity: {'; '.join(places)}." if places else ""


def _place(grid: GridRecord) -> str:
    overhead = "battery" if grid.battery_wh and grid.pue == 1 else f"PUE {grid.pue:g}"
    price = f"{grid.price_per_kwh:g} {grid.currency}"
    return f"{grid.name} {grid.year}, {grid.carbon_g_per_kwh:g} g CO2e and {price} a kWh, {overhead}"


def footprint(chip_j: float, grid: GridRecord) -> Footprint:
    """The footprint of ``chip_j`` joules on ``grid``: kWh = J / 3.6e6 x PUE, carbon and price by the kWh."""
    kwh = chip_j / JOULE_PER_KWH * grid.pue
    return Footprint(
        kwh=kwh,
        co2e_kg=kwh * grid.carbon_g_per_kwh / 1000,
        money=kwh * grid.price_per_kwh,
        currency=grid.currency,
        battery_charges=chip_j / (grid.battery_wh * JOULE_PER_WH) if grid.battery_wh else None,
    )
