"""The options that say where the electricity comes from, and what they do to records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import click

from accelsim import api
from accelsim.record import RunRecord

Command = TypeVar("Command", bound=Callable[..., Any])


def electricity_options(command: Command) -> Command:
    """``--grid``, ``--price`` and ``--pue``."""
    for option in (
        click.option("--pue", metavar="X", type=float, help="Data-centre power over chip power, 1 or more."),
        click.option("--price", metavar="X", type=float, help="Price of a kWh in the grid's currency."),
        click.option("--grid", metavar="NAME", help="Electricity of which place (shipped name or file)."),
    ):
        command = option(command)
    return command


def on_grid(
    records: Sequence[RunRecord], grid: str | None, price: float | None, pue: float | None
) -> list[RunRecord]:
    """The records with the electricity that the options name; as they are without any."""
    if grid is None and price is None and pue is None:
        return list(records)
    return [api.with_grid(record, grid or "world", price=price, pue=pue) for record in records]
