"""Energy by component: counts times the chip's table, in whole attojoules."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from accelsim.chip import Chip, Quantity
from accelsim.cost.traffic import Traffic
from accelsim.mapping.attojoules import attojoules, exact, rounded
from accelsim.mapping.interconnect import hop_energy_aj_per_byte


@dataclass(frozen=True)
class Energy:
    """Attojoules (10^-18 J) by component; all integers, so sums are exact in any order.

    ``scratchpad`` holds the ring's share too: both carry data between units on the die.
    """

    mac: int
    operand_buffer: int
    scratchpad: int
    dram: int
    vector_unit: int
    static: int
    clock: int = 0
    link: int = 0

    @property
    def total_aj(self) -> int:
        """The sum of the components."""
        return sum(self.as_record().values())

    def as_record(self) -> dict[str, int]:
        """The record's ``energy_aj``."""
        return {
            "mac": self.mac,
            "operand_buffer": self.operand_buffer,
            "scratchpad": self.scratchpad,
            "dram": self.dram,
            "vector_unit": self.vector_unit,
            "static": self.static,
            "clock": self.clock,
            "link": self.link,
        }


def operand_buffer_energy_aj(moved_bytes: int, chip: Chip) -> int:
    """Energy of bytes through the operand buffers."""
    return moved_bytes * attojoules(chip.operand_buffer.energy_pj_per_byte.value)


def scratchpad_energy_aj(traffic: Traffic, chip: Chip) -> int:
    """Energy of reads and writes of the scratchpads, and of the way between them and the units."""
    pad = chip.scratchpad
    return (
        traffic.scratchpad_read_bytes * attojoules(pad.read_energy_pj_per_byte.value)
        + traffic.scratchpad_write_bytes * attojoules(pad.write_energy_pj_per_byte.value)
        + traffic.scratchpad_bytes * hop_energy_aj_per_byte(chip)
    )


def ring_energy_aj(moved_bytes: int, chip: Chip) -> int:
    """Energy of bytes from array to array; a chip without a ring moves none."""
    return moved_bytes * attojoules(chip.ring.energy_pj_per_byte.value) if chip.ring else 0


def dram_energy_aj(traffic: Traffic, chip: Chip) -> int:
    """Energy of reads and writes of DRAM, 8 bits to the byte."""
    return 8 * (
        traffic.dram_read_bytes * attojoules(chip.dram.read_energy_pj_per_bit.value)
        + traffic.dram_write_bytes * attojoules(chip.dram.write_energy_pj_per_bit.value)
    )


def static_energy_aj(total_cycles: int, chip: Chip) -> int:
    """Static power times ``total_cycles``, half to even."""
    return _power_energy_aj(total_cycles, chip.static_power_mw, chip)


def clock_energy_aj(total_cycles: int, chip: Chip) -> int:
    """The clock tree's power times ``total_cycles``, half to even; 0 where it is not given."""
    return _power_energy_aj(total_cycles, chip.clock_power_mw, chip) if chip.clock_power_mw else 0


def _power_energy_aj(total_cycles: int, power: Quantity, chip: Chip) -> int:
    return rounded(total_cycles, aj_a_cycle(power.value, chip.clock_mhz.value))


@cache
def aj_a_cycle(power_mw: float, clock_mhz: float) -> Fraction:
    """Attojoules of a power in one clock cycle: 1 mW for one cycle at 1 MHz is 10^-9 J."""
    return exact(power_mw) * 10**9 / exact(clock_mhz)
