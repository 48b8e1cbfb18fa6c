"""Chips in a ring that add up their gradients: time, traffic and energy of one chip's part.

The gradients of all parameters, G bytes in the storage format, are cut into as many pieces as there are
chips. In chips - 1 turns each chip sends a piece to the next, which adds its own (reduce-scatter); in as
many turns again the finished pieces go round (all-gather). So each chip sends 2 (chips - 1) pieces, adds
chips - 1 of them on its vector units, reads its own G bytes from DRAM once and writes the sums there once;
what passes through waits in the scratchpads (Patarasuk and Yuan, Journal of Parallel and Distributed
Computing 69(2), 2009). Nothing of it overlaps with the layers' own work.
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from accelsim.chip import Chip, System
from accelsim.cost.capacity import gradient_bytes
from accelsim.cost.energy import (
    Energy,
    clock_energy_aj,
    dram_energy_aj,
    scratchpad_energy_aj,
    static_energy_aj,
)
from accelsim.cost.layer_cost import LayerCost, LayerTime
from accelsim.cost.traffic import Traffic
from accelsim.cost.vector import VectorCounts, count_vector, vector_energy_aj
from accelsim.mapping.attojoules import attojoules
from accelsim.mapping.memory_rates import MemoryRates
from accelsim.mapping.passes import ceil_div
from accelsim.numerics.formats import number_format
from accelsim.operations import LayerWork, VectorWork


def all_reduce_cost(works: Sequence[LayerWork], chip: Chip, system: System, chips: int) -> LayerCost:
    """What the all-reduce of the gradients of ``works`` takes on one of at least two ``chips``."""
    total_bytes = gradient_bytes(works)
    piece_bytes = ceil_div(total_bytes, chips)
    sent_bytes = 2 * (chips - 1) * piece_bytes
    traffic = Traffic(
        dram_read_bytes=total_bytes,
        dram_write_bytes=total_bytes,
        scratchpad_read_bytes=total_bytes + sent_bytes,
        scratchpad_write_bytes=total_bytes + sent_bytes,
    )
    bits = number_format(chip.vector_unit.storage_format).bits
    added = (chips - 1) * ceil_div(8 * piece_bytes, bits)
    vector = count_vector([VectorWork("all_reduce", added, adds=1)], chip)
    time = _time(traffic, vector, 2 * (chips - 1), piece_bytes, chip, system)
    return LayerCost(
        layer="all_reduce",
        kind="ring_all_reduce",
        phase="update",
        macs=0,
        ideal_cycles=Fraction(0),
        time=time,
        traffic=traffic,
        vector_operations=vector.operations,
        energy=Energy(
            mac=0,
            operand_buffer=0,
            scratchpad=scratchpad_energy_aj(traffic, chip),
            dram=dram_energy_aj(traffic, chip),
            vector_unit=vector_energy_aj(vector, chip),
            static=static_energy_aj(time.total_cycles, chip),
            clock=clock_energy_aj(time.total_cycles, chip),
            link=8 * sent_bytes * attojoules(system.link_energy_pj_per_bit.value),
        ),
        gemms=(),
    )


def _time(
    traffic: Traffic, vector: VectorCounts, turns: int, piece_bytes: int, chip: Chip, system: System
) -> LayerTime:
    rates = MemoryRates(chip)
    return LayerTime(
        array_cycles=0,
        dram_cycles=rates.dram_cycles(traffic.dram_read_bytes, traffic.dram_write_bytes),
        scratchpad_cycles=rates.scratchpad_cycles(
            traffic.scratchpad_read_bytes, traffic.scratchpad_write_bytes
        ),
        vector_cycles=vector.cycles,
        fill_cycles=rates.first_byte_cycles(traffic.dram_bytes, traffic.scratchpad_bytes),
        link_cycles=link_cycles(turns, piece_bytes, chip, system),
    )


def link_cycles(turns: int, piece_bytes: int, chip: Chip, system: System) -> int:
    """Clock cycles of ``turns`` in each of which a piece crosses a link: latency and transfer, rounded up."""
    bytes_per_ns = Fraction(str(system.link_bandwidth_gb_per_s.value))
    turn_ns = Fraction(str(system.link_latency_ns.value)) + piece_bytes / bytes_per_ns
    exact = turns * turn_ns * Fraction(str(chip.clock_mhz.value)) / 1000
    return ceil_div(exact.numerator, exact.denominator)
