"""Where the electricity comes from: carbon and price of a kWh, and the data centre's overhead."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field

from accelsim.chip.quantity import Part, Quantity, Text
from accelsim.errors import InputError
from accelsim.storage import find_resource
from accelsim.yamlfile import parse, read_yaml, split_unit

_GIVEN = "given by the user"


class Overhead(Quantity):
    """Power of a whole data centre over that of its computers."""

    value: float = Field(ge=1, le=10, allow_inf_nan=False, description="the number itself")


class Grid(Part):
    """Electricity of one place and year. ``pue``: power usage effectiveness of a data centre there."""

    name: Text
    description: Text
    year: int = Field(ge=1900, le=2100)
    carbon_g_per_kwh: Quantity
    price_per_kwh: Quantity
    currency: Text
    pue: Overhead


def load_grid(name_or_path: str | Path) -> Grid:
    """Read a grid by the name of a shipped one or by the path of a YAML file.

    Raises `InputError` with file, line, key, the value given and what is allowed.
    """
    return parse(Grid, read_yaml(find_resource("grids", name_or_path)))


def grid_record(
    grid: Grid, battery_wh: float | None = None, *, price: float | None = None, pue: float | None = None
) -> dict[str, Any]:
    """The record's ``grid``: what turns a chip's joules into kWh at the meter, kg CO2e and money.

    A chip with a battery (of ``battery_wh``) stands in no data centre: its overhead is 1 unless ``pue``
    says otherwise.
    ``price`` (per kWh, in the grid's currency) and ``pue`` replace the file's numbers.

    Raises
    ------
    InputError: a negative price, an overhead below 1.
    """
    if price is not None and not 0 <= price <= 1e6:
        raise InputError(f"must be between 0 and 1000000 {grid.currency} a kWh, got {price:g}", "price")
    if pue is not None and not 1 <= pue <= 10:
        raise InputError(f"must be between 1 and 10, got {pue:g}", "pue")
    overhead: Quantity = grid.pue
    if pue is not None:
        overhead = Quantity(value=pue, source=_GIVEN, evidence="estimated")
    elif battery_wh is not None:
        overhead = Quantity(value=1, source="runs on its battery, in no data centre", evidence="derived")
    rate = grid.price_per_kwh
    if price is not None:
        rate = Quantity(value=price, source=_GIVEN, evidence="estimated")
    used = {"carbon_g_per_kwh": grid.carbon_g_per_kwh, "price_per_kwh": rate, "pue": overhead}
    return {
        "name": grid.name,
        "year": grid.year,
        "currency": grid.currency,
        "battery_wh": battery_wh,
        **{key: quantity.value for key, quantity in used.items()},
        "sources": [_source_row(key, quantity, grid.currency) for key, quantity in used.items()],
    }


def _source_row(key: str, quantity: Quantity, currency: str) -> dict[str, Any]:
    unit = f"{currency}/kWh" if key == "price_per_kwh" else split_unit(key)[1]
    return {
        "key": f"grid.{key}",
        "value": quantity.value,
        "unit": "g/kWh" if key == "carbon_g_per_kwh" else unit,
        "source": quantity.source,
        "evidence": quantity.evidence,
    }
