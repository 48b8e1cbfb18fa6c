"""What one layer costs in one phase of one mini-batch: the rows of a record."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import Any, Literal

from accelsim.cost.counts import GemmCost
from accelsim.cost.energy import Energy
from accelsim.cost.traffic import Traffic
from accelsim.operations import Phase

Bound = Literal["array", "dram", "scratchpad", "vector", "link"]


@dataclass(frozen=True)
class LayerTime:
    """Busy cycles of the resources, and how long they take together.

    Double buffering lets them work at the same time, so a layer takes as long as the busiest plus
    ``fill_cycles``, in which nothing overlaps: the time DRAM takes to deliver the operands of the first
    array pass (the array waits for them; where DRAM is the busiest it stands for working off the last).
    """

    array_cycles: int
    dram_cycles: int
    scratchpad_cycles: int
    vector_cycles: int
    fill_cycles: int
    link_cycles: int = 0

    @property
    def bound(self) -> Bound:
        """The busiest resource; of equals the first of array, dram, scratchpad, vector, link."""
        cycles = self._busy_cycles()
        return max(cycles, key=lambda resource: cycles[resource])

    @property
    def total_cycles(self) -> int:
        """Cycles from the first operand's request to the last result."""
        return max(self._busy_cycles().values()) + self.fill_cycles

    def _busy_cycles(self) -> dict[Bound, int]:
        return {
            "array": self.array_cycles,
            "dram": self.dram_cycles,
            "scratchpad": self.scratchpad_cycles,
            "vector": self.vector_cycles,
            "link": self.link_cycles,
        }


@dataclass(frozen=True)
class LayerCost:
    """Cycles, traffic and energy of one layer in one phase; all exact but ``utilization``.

    ``ideal_cycles`` is what the MACs would take with every PE busy in every cycle.
    """

    layer: str
    kind: str
    phase: Phase
    macs: int
    ideal_cycles: Fraction
    time: LayerTime
    traffic: Traffic
    vector_operations: int
    energy: Energy
    gemms: tuple[GemmCost, ...]

    @property
    def utilization(self) -> float:
        """Useful MACs over what all PEs could do in the layer's total cycles (0..1)."""
        total = self.time.total_cycles
        return float(self.ideal_cycles / total) if total else 0.0

    def as_record(self) -> dict[str, Any]:
        """The record's ``cost.layers[]`` row."""
        return {
            "layer": self.layer,
            "kind": self.kind,
            "phase": self.phase,
            "macs": self.macs,
            "array_cycles": self.time.array_cycles,
            "dram_cycles": self.time.dram_cycles,
            "scratchpad_cycles": self.time.scratchpad_cycles,
            "vector_cycles": self.time.vector_cycles,
            "link_cycles": self.time.link_cycles,
            "total_cycles": self.time.total_cycles,
            "bound": self.time.bound,
            "utilization": self.utilization,
            "dram_read_bytes": self.traffic.dram_read_bytes,
            "dram_write_bytes": self.traffic.dram_write_bytes,
            "scratchpad_bytes": self.traffic.scratchpad_bytes,
            "vector_operations": self.vector_operations,
            "energy_aj": self.energy.as_record(),
            "gemms": [gemm.as_record() for gemm in self.gemms],
        }
