"""Figures derived from one record: speed, energy, power, what binds. Nothing here is stored anywhere."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.record import RESOURCES, MetricRecord, Resource, RunRecord
from accelsim.report.activity import measured_step_aj
from accelsim.report.footprint import Footprint, footprint
from accelsim.report.task_metric import task_metric

JOULE_PER_AJ = 1e-18


@dataclass(frozen=True)
class Reading:
    """One run at a glance. A step is one mini-batch; every step is charged as a full one.

    Where several ``chips`` share a mini-batch, energies, rates, bandwidth and areas are those of all of them.

    ``bound_share`` is the share of step time spent in layers bound by each resource (sums to 1).
    ``footprint`` is that of the whole run, None for a record that names no grid.
    ``measured_energy_per_sample_j`` charges the MACs for the zeros and toggles that a run measured (of
    several chips, on the first). ``all_reduce_share``: of step time, and of step energy; None on one chip.
    ``accuracy`` and ``metric`` are those of the test set after the last epoch, None for an estimate;
    ``metric`` is None too where the task is judged by its accuracy.
    """

    chip: str
    chips: int
    accuracy: float | None
    best_accuracy: float | None
    metric: MetricRecord | None
    steps: int
    step_seconds: float
    array_seconds: float
    run_seconds: float
    samples_per_second: float
    energy_per_sample_j: float
    energy_per_run_j: float
    power_w: float
    sustained_tops: float
    peak_tops: float
    peak_mode: str
    peak_macs_per_cycle: float
    bound_share: dict[Resource, float]
    dram_bytes_per_sample: float
    dram_gb_per_s: float | None
    mac_array_mm2: float
    die_mm2: float
    footprint: Footprint | None
    measured_energy_per_sample_j: float | None
    all_reduce_share: tuple[float, float] | None

    @property
    def binding(self) -> Resource:
        """The resource that binds the largest share of time; ties go to the order of `RESOURCES`."""
        return max(RESOURCES, key=lambda resource: self.bound_share[resource])


def read_off(record: RunRecord) -> Reading:
    """Derive the `Reading` of a record."""
    cost, training = record.cost, record.training
    clock_hz = cost.clock_mhz * 1e6
    step_seconds = cost.step_cycles / clock_hz
    step_j = record.chips * cost.step_energy_aj.total_aj * JOULE_PER_AJ
    steps = steps_run(record)
    mode = max(sorted(cost.peak_tops), key=lambda name: cost.peak_tops[name])
    peak_tops = record.chips * cost.peak_tops[mode]
    macs = record.chips * sum(layer.macs for layer in cost.layers)
    dram_bytes = record.chips * sum(layer.dram_read_bytes + layer.dram_write_bytes for layer in cost.layers)
    bandwidth = _source_value(record, "dram.bandwidth_gb_per_s")
    measured_aj = measured_step_aj(record)
    return Reading(
        chip=record.chip.name if record.chips == 1 else f"{record.chips} × {record.chip.name}",
        chips=record.chips,
        accuracy=training.final_accuracy if training else None,
        best_accuracy=training.best_accuracy if training else None,
        metric=task_metric(record),
        steps=steps,
        step_seconds=step_seconds,
        array_seconds=sum(layer.array_cycles for layer in cost.layers) / clock_hz,
        run_seconds=steps * step_seconds,
        samples_per_second=record.batch / step_seconds,
        energy_per_sample_j=step_j / record.batch,
        energy_per_run_j=steps * step_j,
        power_w=step_j / step_seconds,
        sustained_tops=2 * macs / step_seconds / 1e12,
        peak_tops=peak_tops,
        peak_mode=mode,
        peak_macs_per_cycle=peak_tops * 1e12 / 2 / clock_hz,
        bound_share=bound_share(record),
        dram_bytes_per_sample=dram_bytes / record.batch,
        dram_gb_per_s=None if bandwidth is None else record.chips * bandwidth,
        mac_array_mm2=record.chips * cost.area.mac_array_mm2,
        die_mm2=record.chips * cost.area.die_mm2,
        measured_energy_per_sample_j=None
        if measured_aj is None
        else record.chips * measured_aj * JOULE_PER_AJ / record.batch,
        all_reduce_share=all_reduce_share(record),
        footprint=footprint(steps * step_j, record.grid) if record.grid else None,
    )


def step_name(records: Sequence[RunRecord]) -> str:
    """What a step is: of training, or the forward pass of one mini-batch."""
    return "forward pass" if all(record.phases == "forward" for record in records) else "training step"


def phases_sentence(record: RunRecord) -> str:
    """That a record is of a forward pass alone; empty for one of training."""
    if record.phases == "training":
        return ""
    data = f"one pass over the test data, {record.steps_per_epoch:,} mini-batches of {record.batch:,}"
    return (
        f"{record.chip.name}: forward pass only (inference: nothing is kept for a backward pass, "
        f"normalisation is folded into the weights); an epoch is {data}."
    )


def steps_run(record: RunRecord) -> int:
    """Optimiser steps of the run: those made when it was trained, those planned when it was estimated."""
    if record.training is None:
        return record.epochs * record.steps_per_epoch
    return sum(epoch.steps for epoch in record.training.epochs)


def all_reduce_share(record: RunRecord) -> tuple[float, float] | None:
    """What adding up the gradients of several chips takes of a step's time and energy; None on one chip."""
    cost = record.cost
    rows = [layer for layer in cost.layers if layer.kind == "ring_all_reduce"]
    if not rows:
        return None
    energy_aj = sum(row.energy_aj.total_aj for row in rows)
    cycles = sum(row.total_cycles for row in rows)
    return cycles / cost.step_cycles, energy_aj / cost.step_energy_aj.total_aj


def bound_share(record: RunRecord) -> dict[Resource, float]:
    """Share of the step's cycles in layers bound by each resource."""
    cycles = dict.fromkeys(RESOURCES, 0)
    for layer in record.cost.layers:
        cycles[layer.bound] += layer.total_cycles
    return {resource: cycles[resource] / record.cost.step_cycles for resource in RESOURCES}


def cost_to_reach(record: RunRecord, accuracy: float) -> tuple[float, float] | None:
    """(seconds, joules) of simulated training until the test accuracy first reaches ``accuracy``.

    Counted to the end of that epoch; None when it is never reached or nothing was trained.
    """
    steps = 0
    reading = read_off(record)
    for epoch in record.training.epochs if record.training else ():
        steps += epoch.steps
        if epoch.test_accuracy >= accuracy:
            return steps * reading.step_seconds, steps * reading.energy_per_run_j / reading.steps
    return None


def _source_value(record: RunRecord, key: str) -> float | None:
    return next((row.value for row in record.sources if row.key == key), None)
