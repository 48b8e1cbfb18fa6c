"""LayerWork x Plans x Chip -> LayerCost: all counts of a layer, and how long they take together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from accelsim.chip import Chip
from accelsim.cost.activity import mac_energy_aj, stated_ratio
from accelsim.cost.counts import count_gemm
from accelsim.cost.energy import (
    Energy,
    clock_energy_aj,
    dram_energy_aj,
    operand_buffer_energy_aj,
    ring_energy_aj,
    scratchpad_energy_aj,
    static_energy_aj,
)
from accelsim.cost.layer_cost import GemmCost, LayerCost, LayerTime
from accelsim.cost.traffic import Traffic, gemm_traffic, total_traffic, vector_traffic
from accelsim.cost.vector import VectorCounts, count_vector, vector_energy_aj
from accelsim.mapping import Plan
from accelsim.mapping.memory_rates import MemoryRates
from accelsim.mapping.tiling import first_pass_bytes
from accelsim.operations import Gemm, LayerWork


def price_step(works: Sequence[LayerWork], chip: Chip, plans: Mapping[Gemm, Plan]) -> tuple[LayerCost, ...]:
    """The cost of every layer and phase of one mini-batch, in the order of ``works``.

    ``plans`` holds the plan of each GEMM of ``works``. Layers run one after another, so a step takes the
    sum of their cycles and energies.
    """
    rates = _Rates.of(chip)
    return tuple(_price(work, plans, chip, rates) for work in works)


def price_layer(work: LayerWork, plans: Mapping[Gemm, Plan], chip: Chip) -> LayerCost:
    """The cost of one layer in one phase of one mini-batch; ``plans`` holds the plan of each GEMM."""
    return _price(work, plans, chip, _Rates.of(chip))


@dataclass(frozen=True)
class _Rates:
    """What all layers share: the chip's memories, and MAC energy at the stated activity over the file's."""

    memory: MemoryRates
    mac_ratio: Fraction

    @classmethod
    def of(cls, chip: Chip) -> _Rates:
        return cls(MemoryRates(chip), stated_ratio(chip))


def _price(work: LayerWork, plans: Mapping[Gemm, Plan], chip: Chip, rates: _Rates) -> LayerCost:
    gemms = tuple(
        GemmCost(gemm, plan, count_gemm(gemm, plan)) for gemm in work.gemms for plan in (plans[gemm],)
    )
    of_gemms = (gemm_traffic(each.gemm, each.plan, each.counts, chip) for each in gemms)
    traffic = total_traffic((*of_gemms, vector_traffic(work, chip)))
    vector = count_vector(work.vector_work, chip)
    time = _time(gemms, traffic, vector, chip, rates.memory)
    return LayerCost(
        layer=work.layer,
        kind=work.kind,
        phase=work.phase,
        macs=work.macs,
        ideal_cycles=sum((_ideal_cycles(each) for each in gemms), Fraction(0)),
        time=time,
        traffic=traffic,
        vector_operations=vector.operations,
        energy=_energy(gemms, traffic, vector, time, chip, rates.mac_ratio),
        gemms=gemms,
    )


def _time(
    gemms: Sequence[GemmCost], traffic: Traffic, vector: VectorCounts, chip: Chip, rates: MemoryRates
) -> LayerTime:
    """Cycles of each resource: its work over its rate, rounded up once per layer and phase."""
    first = next((each for each in gemms if each.gemm.macs), None)
    filled_bytes = first_pass_bytes(first.gemm, first.plan, chip) if first else 0
    latency_cycles = rates.first_byte_cycles(traffic.dram_bytes, traffic.scratchpad_bytes)
    return LayerTime(
        array_cycles=sum(each.counts.array_cycles for each in gemms),
        dram_cycles=rates.dram_cycles(traffic.dram_read_bytes, traffic.dram_write_bytes),
        scratchpad_cycles=rates.scratchpad_cycles(
            traffic.scratchpad_read_bytes, traffic.scratchpad_write_bytes
        ),
        vector_cycles=vector.cycles,
        fill_cycles=rates.dram_cycles(filled_bytes) + latency_cycles,
    )


def _ideal_cycles(cost: GemmCost) -> Fraction:
    plan = cost.plan
    return Fraction(cost.gemm.macs, plan.workers * plan.rows * plan.output_cols * plan.lanes)


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
