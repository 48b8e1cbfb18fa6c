"""Quantities of a run by name: unit, and how each follows from chip and outcome."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from accelsim.chip import Chip
from accelsim.cost import chip_area, grid_record, load_grid
from accelsim.errors import InputError, unknown
from accelsim.record import GridRecord
from accelsim.report.footprint import JOULE_PER_KWH, footprint
from accelsim.validation.outcome import Outcome
from accelsim.validation.schema import QuantityName

_POUND_KG = 0.45359237


@dataclass(frozen=True)
class Quantity:
    """Unit and name for tables, and the value of an outcome (None where it does not follow from one)."""

    name: str
    unit: str
    of: Callable[[Outcome], float] | None = None


QUANTITIES: dict[QuantityName, Quantity] = {
    "peak_tops": Quantity("peak", "T(FL)OPS"),
    "peak_macs_per_dram_byte": Quantity("ridge", "MACs per byte of DRAM"),
    "peak_tops_per_mm2": Quantity("peak by area", "T(FL)OPS/mm2"),
    "die_mm2": Quantity("die", "mm2"),
    "macs": Quantity("useful multiply-accumulates", "MACs", lambda run: run.macs),
    "cycles": Quantity("cycles", "cycles", lambda run: float(run.cycles)),
    "array_cycles": Quantity("array cycles", "cycles", lambda run: run.array_cycles),
    "stream_cycles": Quantity("streaming cycles", "cycles", lambda run: run.stream_cycles),
    "latency_ms": Quantity("latency", "ms", lambda run: float(run.seconds * 1000)),
    "array_latency_ms": Quantity(
        "latency of the arrays alone", "ms", lambda run: float(run.array_cycles / run.clock_mhz / 1000)
    ),
    "samples_per_s": Quantity("throughput", "samples/s", lambda run: float(run.samples / run.seconds)),
    "samples_per_j": Quantity(
        "samples by energy without DRAM", "samples/J", lambda run: run.samples / run.on_chip_j
    ),
    "tops": Quantity("sustained speed", "T(FL)OPS", lambda run: run.tops),
    "utilization": Quantity("utilization", "of peak", lambda run: float(run.ideal_cycles / run.cycles)),
    "power_mw": Quantity("power without DRAM", "mW", lambda run: run.on_chip_w * 1000),
    "power_with_dram_mw": Quantity("power with DRAM", "mW", lambda run: run.total_w * 1000),
    "tops_per_w": Quantity("efficiency without DRAM", "T(FL)OPS/W", lambda run: run.tops / run.on_chip_w),
    "tops_per_w_with_dram": Quantity(
        "efficiency with DRAM", "T(FL)OPS/W", lambda run: run.tops / run.total_w
    ),
    "peak_tops_per_w": Quantity("peak over power without DRAM", "T(FL)OPS/W"),
    "energy_mj": Quantity("energy without DRAM", "mJ", lambda run: run.on_chip_j * 1000),
    "energy_with_dram_mj": Quantity("energy with DRAM", "mJ", lambda run: run.total_j * 1000),
    "pj_per_mac": Quantity("energy of a MAC without DRAM", "pJ", lambda run: run.on_chip_j * 1e12 / run.macs),
    "dram_mb": Quantity("DRAM traffic", "MB", lambda run: run.dram_bytes / 1e6),
    "dram_bytes_per_mac": Quantity("DRAM traffic", "bytes/MAC", lambda run: run.dram_bytes / run.macs),
    "ops_per_dram_byte": Quantity(
        "operations by DRAM byte", "ops/byte", lambda run: 2 * run.macs / run.dram_bytes
    ),
    "scratchpad_mb": Quantity("scratchpad reads and writes", "MB", lambda run: run.scratchpad_bytes / 1e6),
    "speedup": Quantity("speedup", "x"),
    "speedup_at_equal_area": Quantity("speedup at equal area", "x"),
    "co2e_tonnes": Quantity("emissions", "t CO2e"),
    "co2e_lb": Quantity("emissions", "lb CO2e"),
}

PEAKS: tuple[QuantityName, ...] = ("peak_tops", "peak_macs_per_dram_byte", "peak_tops_per_mm2")
"""Quantities of a chip in one mode, without a run."""

ENERGIES: frozenset[QuantityName] = frozenset(
    (
        "power_mw",
        "power_with_dram_mw",
        "tops_per_w",
        "tops_per_w_with_dram",
        "peak_tops_per_w",
        "samples_per_j",
        "energy_mj",
        "energy_with_dram_mj",
        "pj_per_mac",
    )
)
"""Quantities that a calibration of the chip's energy changes."""


def of_outcome(quantity: QuantityName, outcome: Outcome) -> float:
    """The value of a quantity that follows from one run.

    Raises `InputError` where it would be over nothing: a run without cycles, products, energy or traffic.
    """
    function = QUANTITIES[quantity].of
    assert function is not None, quantity
    try:
        return function(outcome)
    except ZeroDivisionError:
        raise InputError(f"the run does too little to have a '{quantity}'", "run") from None


def of_electricity(quantity: QuantityName, kwh: float, grid_name: str) -> float:
    """Emissions of ``kwh`` at the meter. Raises `InputError` for a grid that is not there."""
    grid = GridRecord.model_validate(grid_record(load_grid(grid_name)))
    co2e_kg = footprint(kwh * JOULE_PER_KWH / grid.pue, grid).co2e_kg
    return co2e_kg / _POUND_KG if quantity == "co2e_lb" else co2e_kg / 1000


def of_chip(quantity: QuantityName, chip: Chip, mode_name: str) -> float:
    """A peak of ``chip`` in one mode. Raises `InputError` for a mode it does not have."""
    modes = {mode.name: mode for mode in chip.array.modes}
    if mode_name not in modes:
        raise unknown("mode", mode_name, modes, f"chip {chip.name}")
    mode = modes[mode_name]
    if quantity == "peak_tops":
        return chip.peak_tops(mode)
    if quantity == "peak_tops_per_mm2":
        return chip.peak_tops(mode) / chip_area(chip).die_mm2
    bytes_per_us = chip.dram.bandwidth_gb_per_s.value * 1000
    return chip.macs_per_cycle(mode) * chip.clock_mhz.value / bytes_per_us
