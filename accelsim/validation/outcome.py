"""What a run came to: the numbers that any published quantity is worked out from."""

from __future__ import annotations

from dataclasses import dataclass, replace
from fractions import Fraction

_AJ_PER_J = 10**18


@dataclass(frozen=True)
class Outcome:
    """One run, all layers one after another.

    ``cycles`` at ``clock_mhz``; ``array_cycles`` those in which the arrays are busy; ``stream_cycles``
    those in which operands stream through the arrays, without fill, stall and drain; ``ideal_cycles`` with
    every PE busy in every cycle; ``scratchpad_bytes`` those read and written; ``on_chip_aj`` and ``dram_aj``
    energies in attojoules.
    """

    samples: int
    macs: int
    cycles: Fraction
    array_cycles: int
    stream_cycles: int
    ideal_cycles: Fraction
    clock_mhz: Fraction
    on_chip_aj: Fraction
    dram_aj: int
    dram_bytes: int
    scratchpad_bytes: int = 0

    @property
    def seconds(self) -> Fraction:
        """Time from the first operand's request to the last result."""
        return self.cycles / (self.clock_mhz * 10**6)

    @property
    def on_chip_j(self) -> float:
        """Energy of the chip without its DRAM."""
        return float(self.on_chip_aj / _AJ_PER_J)

    @property
    def total_j(self) -> float:
        """Energy with DRAM."""
        return float((self.on_chip_aj + self.dram_aj) / _AJ_PER_J)

    @property
    def on_chip_w(self) -> float:
        """Mean power of the chip without its DRAM."""
        return self.on_chip_j / float(self.seconds)

    @property
    def total_w(self) -> float:
        """Mean power with DRAM."""
        return self.total_j / float(self.seconds)

    @property
    def tops(self) -> float:
        """Useful tera-operations a second, 1 MAC = 2 operations."""
        return float(2 * self.macs / self.seconds / 10**12)

    def on_chips(self, chips: int) -> Outcome:
        """The same on each of ``chips`` chips at the same time, each with its own samples."""
        return replace(
            self,
            samples=chips * self.samples,
            macs=chips * self.macs,
            on_chip_aj=chips * self.on_chip_aj,
            dram_aj=chips * self.dram_aj,
            dram_bytes=chips * self.dram_bytes,
            scratchpad_bytes=chips * self.scratchpad_bytes,
        )

    def with_energy_scaled(self, factor: float) -> Outcome:
        """The same run with all energy but DRAM's times ``factor``."""
        return replace(self, on_chip_aj=self.on_chip_aj * Fraction(factor))
