"""How fast memories move bytes: DRAM both ways and its latency, scratchpads with ports and banks."""

from __future__ import annotations

from fractions import Fraction
from math import lcm

from accelsim.chip import Chip
from accelsim.mapping.attojoules import exact
from accelsim.mapping.interconnect import mean_hops, network_cycles_per_byte
from accelsim.mapping.passes import ceil_div


class MemoryRates:
    """Cycles that a chip's memories need; all rates are exact fractions, rounded up once per question."""

    def __init__(self, chip: Chip) -> None:
        clock_mhz = exact(chip.clock_mhz.value)
        dram, pad = chip.dram, chip.scratchpad
        # 1 GB/s is 1000 bytes per microsecond
        read = clock_mhz / (exact(dram.bandwidth_gb_per_s.value) * 1000)
        writes = dram.write_bandwidth_gb_per_s or dram.bandwidth_gb_per_s
        write = clock_mhz / (exact(writes.value) * 1000)
        # a byte's cycles over one common denominator: whole numbers are quicker than fractions
        self._parts = lcm(read.denominator, write.denominator)
        self._read_parts, self._write_parts = int(read * self._parts), int(write * self._parts)
        latency_ns = exact(dram.latency_ns.value) if dram.latency_ns else Fraction(0)
        self.dram_latency_cycles = _up(latency_ns * clock_mhz / 1000)
        self._both = pad.bandwidth_bytes_per_cycle * chip.cores
        if pad.banks is not None:
            self._both = min(self._both, pad.banks.count * pad.banks.width_bytes * chip.cores)
        self._read = pad.ports.read_bytes_per_cycle * chip.cores if pad.ports else self._both
        self._network_cycles_a_byte = network_cycles_per_byte(chip)
        network = chip.interconnect
        hops = mean_hops(network.topology, chip.cores) if network else Fraction(0)
        self.network_latency_cycles = _up(hops * network.hop_cycles) if network else 0
        self._write = pad.ports.write_bytes_per_cycle * chip.cores if pad.ports else self._both

    def dram_cycles(self, read_bytes: int, write_bytes: int = 0) -> int:
        """Cycles in which DRAM moves these bytes: one bus, reads and writes in turn, each at its rate."""
        return ceil_div(read_bytes * self._read_parts + write_bytes * self._write_parts, self._parts)

    def first_byte_cycles(self, dram_bytes: int, scratchpad_bytes: int) -> int:
        """Cycles before the first byte arrives, paid once by a layer that moves any: DRAM's and the hops'."""
        return (self.dram_latency_cycles if dram_bytes else 0) + (
            self.network_latency_cycles if scratchpad_bytes else 0
        )

    def scratchpad_cycles(self, read_bytes: int, write_bytes: int) -> int:
        """Cycles in which the scratchpads of all cores move these bytes.

        Reads go through read ports, writes through write ports (where the chip has such), and all of them
        to banks, each of which does one or the other in a cycle. Streams are spread over the banks word by
        word, so that the banks' sum is what limits them. What the network between cores lets through limits
        all of it together.
        """
        network = self._network_cycles_a_byte
        return max(
            ceil_div(read_bytes + write_bytes, self._both),
            ceil_div(read_bytes, self._read),
            ceil_div(write_bytes, self._write),
            ceil_div((read_bytes + write_bytes) * network.numerator, network.denominator),
        )


def _up(exact: Fraction) -> int:
    return ceil_div(exact.numerator, exact.denominator)
