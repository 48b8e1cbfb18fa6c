"""What the savings study keeps: one row per pair of chips and model, as JSON."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

from accelsim.record.reading import read_part
from accelsim.record.schema import Frozen

SCHEMA: Literal["accelsim.savings/1"] = "accelsim.savings/1"

Binding = Literal["array_low", "array_16bit", "dram", "scratchpad", "vector", "link"]
"""What binds a layer; MAC arrays apart by whether their operands have 16 bits or fewer."""


class Side(Frozen):
    """One chip on one model: a training step, the whole run, and what it costs at the meter.

    ``time_share``: share of the step in layers bound by each resource. ``battery_charges``: chip energy of
    the run over the battery's, None for a chip without one. Digests are SHA-256 of the files' texts.
    """

    chip: str
    chip_sha256: str
    recipe: str
    recipe_sha256: str
    step_cycles: int
    step_energy_aj: int
    step_seconds: float
    run_seconds: float
    run_j: float
    kwh: float
    co2e_kg: float
    money: float
    currency: str
    battery_charges: float | None
    peak_bytes: int
    capacity_bytes: int
    time_share: dict[Binding, float]

    @property
    def binding(self) -> Binding:
        """What binds the largest share of the step's time."""
        return max(self.time_share, key=lambda name: self.time_share[name])


class Row(Frozen):
    """A chip against its 16-bit baseline on one model.

    ``key`` is the digest of everything the row follows from. ``batch`` is the mini-batch estimated: the
    workload's, halved ``halvings`` times until a step fits the DRAM of both chips. ``all_low`` is the
    chip again with first and last layers in 4 bits too, which costs accuracy. ``widest`` is the
    16-bit layer that binds the chip longest, with its share of the step; None where none binds.
    """

    key: str
    pair: str
    model: str
    workload_sha256: str
    macs: int
    parameters: int
    batch: int
    halvings: int
    epochs: int
    steps: int
    chip: Side
    all_low: Side
    widest: tuple[str, float] | None
    baseline: Side

    @property
    def speedup(self) -> float:
        """Training throughput, chip / baseline."""
        return self.baseline.step_seconds / self.chip.step_seconds

    @property
    def all_low_speedup(self) -> float:
        """Training throughput with first and last layers in 4 bits too, chip / baseline."""
        return self.baseline.step_seconds / self.all_low.step_seconds

    @property
    def energy_ratio(self) -> float:
        """Energy of the run, baseline / chip."""
        return self.baseline.run_j / self.chip.run_j


class Savings(Frozen):
    """The whole study: how it was made, and its rows in the order of pairs and models."""

    schema_name: Literal["accelsim.savings/1"] = SCHEMA
    command: str
    versions: dict[str, str | None]
    code_sha256: str
    grid: str
    mac_ratios: dict[str, float]
    rows: tuple[Row, ...]

    def of(self, pair: str) -> list[Row]:
        """The rows of one pair of chips."""
        return [row for row in self.rows if row.pair == pair]


def savings_text(savings: Savings) -> str:
    """The study as JSON: keys sorted, the same text every time."""
    data = savings.model_dump(mode="json")
    return json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_savings(path: Path) -> Savings:
    """Read a kept study. Raises `InputError` with the file for anything that is none."""
    return read_part(Savings, path, "a savings study")
