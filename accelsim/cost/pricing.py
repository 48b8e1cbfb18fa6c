"""LayerWork x Plans x Chip -> LayerCost: all counts of a layer, and how long they take together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from typing import NamedTuple

from accelsim.chip import Chip
from accelsim.cost.activity import mac_energy_aj, stated_ratio
from accelsim.cost.counts import GemmCost, GemmCounts, count_gemm
from accelsim.cost.energy import (
    Energy,
    clock_energy_aj,
    dram_energy_aj,
    operand_buffer_energy_aj,
    ring_energy_aj,
    scratchpad_energy_aj,
    static_energy_aj,
)
from accelsim.cost.layer_cost import LayerCost, LayerTime
from accelsim.cost.traffic import Traffic, layer_traffic
from accelsim.cost.vector import VectorCounts, count_vector, vector_energy_aj
from accelsim.mapping import Plan
from accelsim.mapping.memory_rates import MemoryRates
from accelsim.mapping.scratchpad import Scratchpads
from accelsim.mapping.tiling import first_pass_bytes
from accelsim.operations import Gemm, LayerWork

_NO_CYCLES = Fraction(0)


def price_step(works: Sequence[LayerWork], chip: Chip, plans: Mapping[Gemm, Plan]) -> tuple[LayerCost, ...]:
    """The cost of every layer and phase of one mini-batch, in the order of ``works``.

    ``plans`` holds the plan of each GEMM of ``works``. Layers run one after another, so a step takes the
    sum of their cycles and energies.
    """
    pricer = Pricer(chip)
    return tuple(pricer.price(work, plans) for work in works)


def price_layer(work: LayerWork, plans: Mapping[Gemm, Plan], chip: Chip) -> LayerCost:
    """The cost of one layer in one phase of one mini-batch; ``plans`` holds the plan of each GEMM."""
    return Pricer(chip).price(work, plans)


class DramBytes(NamedTuple):
    """Bytes that a work reads from and writes to DRAM, and those that its arrays wait for at its start."""

    read: int = 0
    write: int = 0
    first: int = 0

    def plus(self, more: DramBytes) -> DramBytes:
        """The sum, byte by byte."""
        return DramBytes(self.read + more.read, self.write + more.write, self.first + more.first)

    def less(self, other: DramBytes) -> DramBytes:
        """The difference."""
        return DramBytes(self.read - other.read, self.write - other.write, self.first - other.first)


class Pricer:
    """Prices layers of one chip: what they share is worked out once, GEMMs of one plan are counted once."""

    def __init__(self, chip: Chip) -> None:
        self._chip, self._pads, self._memory = chip, Scratchpads(chip), MemoryRates(chip)
        self._mac_ratio = stated_ratio(chip)
        self._counted: dict[tuple[Plan, int | Fraction, int | Fraction], GemmCounts] = {}

    def price(self, work: LayerWork, plans: Mapping[Gemm, Plan]) -> LayerCost:
        """The cost of one layer in one phase."""
        chip = self._chip
        gemms = tuple(self._gemm_cost(gemm, plans[gemm]) for gemm in work.gemms)
        traffic = layer_traffic(work, gemms, self._pads)
        vector = count_vector(work.vector_work, chip)
        array_cycles = sum(each.counts.array_cycles for each in gemms)
        time = _time(array_cycles, vector.cycles, traffic, _first_bytes(gemms, chip), self._memory)
        return LayerCost(
            layer=work.layer,
            kind=work.kind,
            phase=work.phase,
            macs=work.macs,
            ideal_cycles=_ideal_cycles(gemms),
            time=time,
            traffic=traffic,
            vector_operations=vector.operations,
            energy=_energy(gemms, traffic, vector, time, chip, self._mac_ratio),
            gemms=gemms,
        )

    def dram_bytes(self, cost: LayerCost) -> DramBytes:
        """What a priced layer moves over the DRAM interface."""
        first = _first_bytes(cost.gemms, self._chip)
        return DramBytes(cost.traffic.dram_read_bytes, cost.traffic.dram_write_bytes, first)

    def with_dram_bytes(self, cost: LayerCost, moved: DramBytes) -> tuple[int, int]:
        """(cycles, attojoules) of a priced layer whose tensors live elsewhere: DRAM moves ``moved``."""
        chip, was = self._chip, cost.traffic
        traffic = Traffic(
            moved.read,
            moved.write,
            was.scratchpad_read_bytes + moved.write - was.dram_write_bytes,
            was.scratchpad_write_bytes + moved.read - was.dram_read_bytes,
        )
        time = _time(cost.time.array_cycles, cost.time.vector_cycles, traffic, moved.first, self._memory)
        energy = replace(
            cost.energy,
            scratchpad=cost.energy.scratchpad
            + scratchpad_energy_aj(traffic, chip)
            - scratchpad_energy_aj(was, chip),
            dram=dram_energy_aj(traffic, chip),
            static=static_energy_aj(time.total_cycles, chip),
            clock=clock_energy_aj(time.total_cycles, chip),
        )
        return time.total_cycles, energy.total_aj

    def _gemm_cost(self, gemm: Gemm, plan: Plan) -> GemmCost:
        key = plan, gemm.a.bits, gemm.b.bits
        counts = self._counted.get(key)
        if counts is None:
            counts = self._counted[key] = count_gemm(gemm, plan)
        return GemmCost(gemm, plan, counts)


def _first_bytes(gemms: Sequence[GemmCost], chip: Chip) -> int:
    """DRAM bytes that must arrive before the arrays can start."""
    first = next((each for each in gemms if each.gemm.macs), None)
    return first_pass_bytes(first.gemm, first.plan, chip) if first else 0


def _time(
    array_cycles: int, vector_cycles: int, traffic: Traffic, first_bytes: int, rates: MemoryRates
) -> LayerTime:
    """Cycles of each resource: its work over its rate, rounded up once per layer and phase."""
    latency_cycles = rates.first_byte_cycles(traffic.dram_bytes, traffic.scratchpad_bytes)
    return LayerTime(
        array_cycles=array_cycles,
        dram_cycles=rates.dram_cycles(traffic.dram_read_bytes, traffic.dram_write_bytes),
        scratchpad_cycles=rates.scratchpad_cycles(
            traffic.scratchpad_read_bytes, traffic.scratchpad_write_bytes
        ),
        vector_cycles=vector_cycles,
        fill_cycles=rates.dram_cycles(first_bytes) + latency_cycles,
    )


def _ideal_cycles(gemms: Sequence[GemmCost]) -> Fraction:
    """The MACs of all GEMMs over what the chip's arrays do in a cycle in the mode of each."""
    macs: dict[int, int] = {}
    for each in gemms:
        plan = each.plan
        a_cycle = plan.workers * plan.rows * plan.output_cols * plan.lanes
        macs[a_cycle] = macs.get(a_cycle, 0) + each.gemm.macs
    parts = [Fraction(count, a_cycle) for a_cycle, count in macs.items()]
    return parts[0] if len(parts) == 1 else sum(parts, _NO_CYCLES)


def _energy(
    gemms: Sequence[GemmCost],
    traffic: Traffic,
    vector: VectorCounts,
    time: LayerTime,
    chip: Chip,
    ratio: Fraction,
) -> Energy:
    buffer_bytes = sum(each.counts.operand_buffer_bytes for each in gemms)
    ring_bytes = sum(each.counts.ring_bytes for each in gemms)
    return Energy(
        mac=sum(mac_energy_aj(each.gemm.macs, each.plan.energy_aj_per_mac, ratio) for each in gemms),
        operand_buffer=operand_buffer_energy_aj(buffer_bytes, chip),
        scratchpad=scratchpad_energy_aj(traffic, chip) + ring_energy_aj(ring_bytes, chip),
        dram=dram_energy_aj(traffic, chip),
        vector_unit=vector_energy_aj(vector, chip),
        static=static_energy_aj(time.total_cycles, chip),
        clock=clock_energy_aj(time.total_cycles, chip),
    )
