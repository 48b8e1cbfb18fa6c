"""What a mapping of one GEMM costs on its chip: the cycles and the energy that the search minimises.

A GEMM is appraised alone, as the only work of its layer: operands, result and partial sums, no vector
unit. The rules of traffic, time and energy are those of `accelsim.cost`, which prices whole layers from
finished plans and cannot be seen from here; a test holds the two equal. Only a MAC costs here what the
chip's file says, whatever its operands do: that is the same for every mapping.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from accelsim.chip import Chip, Mode
from accelsim.mapping.attojoules import attojoules, exact, rounded
from accelsim.mapping.edges import edge_bytes
from accelsim.mapping.interconnect import hop_energy_aj_per_byte
from accelsim.mapping.memory_rates import MemoryRates
from accelsim.mapping.passes import ArrayCounts, ceil_div
from accelsim.mapping.scratchpad import dram_bytes
from accelsim.operations import Gemm


@dataclass(frozen=True)
class Appraisal:
    """Cycles from the first operand's request to the last result, energy in attojoules, array cycles."""

    total_cycles: int
    energy_aj: int
    array_cycles: int


class Appraiser:
    """Prices the mappings of one GEMM on one chip."""

    def __init__(self, gemm: Gemm, chip: Chip, mode: Mode, sum_bits: int) -> None:
        self._gemm, self.lanes, self.sum_bits = gemm, mode.lanes, sum_bits
        self._a_bytes, self._b_bytes = dram_bytes(gemm.a, chip), dram_bytes(gemm.b, chip)
        self._out_bytes = dram_bytes(gemm.out, chip)
        self._rates, self._multicast = MemoryRates(chip), chip.scratchpad.multicast
        powers = [power for power in (chip.static_power_mw, chip.clock_power_mw) if power]
        clock_mhz = exact(chip.clock_mhz.value)
        self._aj_a_cycle = [exact(power.value) * 10**9 / clock_mhz for power in powers]
        self._macs_aj = gemm.macs * attojoules(mode.energy_pj_per_mac.value)
        pad, dram = chip.scratchpad, chip.dram
        hops_aj = hop_energy_aj_per_byte(chip)
        self._pad_read_aj = attojoules(pad.read_energy_pj_per_byte.value) + hops_aj
        self._pad_write_aj = attojoules(pad.write_energy_pj_per_byte.value) + hops_aj
        self._buffer_aj = attojoules(chip.operand_buffer.energy_pj_per_byte.value)
        self._link_aj = attojoules(chip.ring.energy_pj_per_byte.value) if chip.ring else 0
        self._dram_read_aj = 8 * attojoules(dram.read_energy_pj_per_bit.value)
        self._dram_write_aj = 8 * attojoules(dram.write_energy_pj_per_bit.value)

    def appraise(self, counts: ArrayCounts, loads: tuple[int | Fraction, int], first_bytes: int) -> Appraisal:
        """The cost of a mapping with these counts.

        ``loads``: how often A and B cross from DRAM; ``first_bytes``: what must arrive before the arrays
        can start (`accelsim.mapping.tiling`). More loads never cost less.
        """
        edges = edge_bytes(self._gemm, counts, self.sum_bits, multicast=self._multicast)
        from_dram = ceil_div(loads[0] * self._a_bytes, 1) + loads[1] * self._b_bytes
        pad_read = edges.a_read + edges.b_read + self._out_bytes
        pad_write = from_dram + self._gemm.out.size_bytes
        busiest = max(
            counts.array_cycles,
            self._rates.dram_cycles(from_dram, self._out_bytes),
            self._rates.scratchpad_cycles(pad_read, pad_write),
        )
        latency_cycles = self._rates.first_byte_cycles(from_dram + self._out_bytes, pad_read + pad_write)
        total_cycles = busiest + self._rates.dram_cycles(first_bytes) + latency_cycles
        energy_aj = (
            self._macs_aj
            + (edges.a + edges.b + edges.psums) * self._buffer_aj
            + edges.link * self._link_aj
            + pad_read * self._pad_read_aj
            + pad_write * self._pad_write_aj
            + from_dram * self._dram_read_aj
            + self._out_bytes * self._dram_write_aj
            + sum(rounded(total_cycles, each) for each in self._aj_a_cycle)
        )
        return Appraisal(total_cycles, energy_aj, counts.array_cycles)
