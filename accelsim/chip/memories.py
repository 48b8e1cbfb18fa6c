"""The keys of a chip's memories and of the ways between them."""

from __future__ import annotations

from fractions import Fraction
from typing import Annotated, Literal

from pydantic import Field

from accelsim.chip.quantity import Cycles, Geometry, Part, PositiveQuantity, Quantity, Text

PortBytes = Annotated[int, Field(ge=1, le=2**20)]


class Ports(Part):
    """Separate read and write ports of one core's scratchpad."""

    read_bytes_per_cycle: PortBytes
    write_bytes_per_cycle: PortBytes


class Banks(Part):
    """Single-ported banks of one core's scratchpad: each reads or writes ``width_bytes`` in a cycle."""

    count: Geometry
    width_bytes: Geometry


class Scratchpad(Part):
    """The on-chip memory of one core; ``bandwidth_bytes_per_cycle`` is of reads and writes together.

    ``ports`` and ``banks`` limit it further. ``multicast``: what several arrays need at the same time is
    read once for all of them. ``residency``: ``streams`` keeps what one layer hands to the next, where it
    fits; ``searched`` also what the best choice by the objective keeps from the forward pass for the
    backward one (`accelsim.cost.residency`). ``weights``: whether forward passes for inference find them in
    place, where all of them fit (`accelsim.cost.resident_weights`).
    """

    capacity_kib: int = Field(ge=1, le=2**30)
    multicast: bool = False
    residency: Literal["streams", "searched"] = "streams"
    weights: Literal["streamed", "resident"] = "streamed"
    bandwidth_bytes_per_cycle: int = Field(ge=1, le=2**20)
    read_energy_pj_per_byte: PositiveQuantity
    write_energy_pj_per_byte: PositiveQuantity
    area_mm2: PositiveQuantity
    ports: Ports | None = None
    banks: Banks | None = None


class OperandBuffer(Part):
    """The small buffers at the edges of a PE array, read once per operand that enters it."""

    energy_pj_per_byte: PositiveQuantity


class Ring(Part):
    """One-way links from each corelet to the next, on which the sums of a GEMM split along K are added up.

    ``hop_cycles``: from the last byte's leaving one corelet to the next one's being able to send it on.
    """

    bandwidth_bytes_per_cycle: int = Field(ge=1, le=2**20)
    hop_cycles: Cycles
    energy_pj_per_byte: PositiveQuantity


class Interconnect(Part):
    """The network between the cores and their scratchpads; see `accelsim.mapping.interconnect`.

    ``bandwidth_bytes_per_cycle`` is that of each link and direction, ``hop_cycles`` the latency of one link.
    """

    topology: Literal["ring", "mesh"]
    bandwidth_bytes_per_cycle: PortBytes
    hop_cycles: Cycles
    energy_pj_per_byte_hop: PositiveQuantity


class Dram(Part):
    """The memory outside the die, shared by all cores.

    ``bandwidth_gb_per_s`` is that of reads, and of writes unless ``write_bandwidth_gb_per_s`` is given.
    ``latency_ns``: from a request to the first byte, paid once by each layer and phase that uses DRAM.
    ``burst_bytes``: what one access moves at least; a tensor moves in whole bursts.
    """

    kind: Text
    capacity_gib: float = Field(ge=1e-6, le=2**20, allow_inf_nan=False)
    bandwidth_gb_per_s: PositiveQuantity
    read_energy_pj_per_bit: PositiveQuantity
    write_energy_pj_per_bit: PositiveQuantity
    write_bandwidth_gb_per_s: PositiveQuantity | None = None
    latency_ns: Quantity | None = None
    burst_bytes: Geometry = 1

    @property
    def capacity_bytes(self) -> int:
        """The capacity, which need not be whole gibibytes, in whole bytes."""
        return int(Fraction(str(self.capacity_gib)) * 2**30)
