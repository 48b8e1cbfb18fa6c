"""What the per-layer figures show: for each layer, phase and record one stack of numbers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from accelsim.operations import PHASES, Phase
from accelsim.record import COMPONENTS, RESOURCES, LayerRecord, RunRecord
from accelsim.report.readings import JOULE_PER_AJ

MOST_LAYERS = 60
"""Rows a figure can hold and still be read; smaller layers beyond them are drawn as one, 'other'."""


@dataclass(frozen=True)
class Stack:
    """One bar: ``parts`` by resource or component, and ``mark``, the elapsed time (None: no mark)."""

    parts: dict[str, float]
    mark: float | None = None


@dataclass(frozen=True)
class LayerSeries:
    """Stacks by (record index, layer label, phase); labels in network order, at most `MOST_LAYERS`."""

    labels: tuple[str, ...]
    phases: tuple[Phase, ...]
    stacks: dict[tuple[int, str, Phase], Stack]

    @property
    def largest(self) -> float:
        """The longest bar or mark."""
        return max(max(sum(stack.parts.values()), stack.mark or 0) for stack in self.stacks.values())


def time_series(records: Sequence[RunRecord]) -> LayerSeries:
    """Busy seconds of each resource by layer and phase; the mark is the elapsed time."""

    def stack(record: RunRecord, rows: Sequence[LayerRecord]) -> Stack:
        second_per_cycle = 1e-6 / record.cost.clock_mhz
        parts: dict[str, float] = {
            name: sum(row.busy_cycles(name) for row in rows) * second_per_cycle for name in RESOURCES
        }
        return Stack(parts, sum(row.total_cycles for row in rows) * second_per_cycle)

    return _series(records, stack)


def energy_series(records: Sequence[RunRecord]) -> LayerSeries:
    """Joules of each component by layer and phase, of all chips together."""

    def stack(record: RunRecord, rows: Sequence[LayerRecord]) -> Stack:
        factor = record.chips * JOULE_PER_AJ
        return Stack({name: sum(row.energy_aj.of(name) for row in rows) * factor for name in COMPONENTS})

    return _series(records, stack)


def _series(
    records: Sequence[RunRecord], stack: Callable[[RunRecord, Sequence[LayerRecord]], Stack]
) -> LayerSeries:
    label_of = _labels(records)
    labels = tuple(dict.fromkeys(label_of.values()))
    present = {row.phase for record in records for row in record.cost.layers}
    phases = tuple(phase for phase in PHASES if phase in present)
    rows: dict[tuple[int, str, Phase], list[LayerRecord]] = {
        (index, label, phase): [] for index in range(len(records)) for label in labels for phase in phases
    }
    for index, record in enumerate(records):
        for row in record.cost.layers:
            rows[index, label_of[row.layer], row.phase].append(row)
    return LayerSeries(labels, phases, {key: stack(records[key[0]], rows[key]) for key in rows})


def _labels(records: Sequence[RunRecord]) -> dict[str, str]:
    """The label each layer is drawn under: its own name, or 'other' when there are too many layers."""
    seconds: dict[str, float] = {}
    for record in records:
        for row in record.cost.layers:
            seconds[row.layer] = seconds.get(row.layer, 0) + row.total_cycles / record.cost.clock_mhz
    if len(seconds) <= MOST_LAYERS:
        return {layer: layer for layer in seconds}
    longest = set(sorted(seconds, key=lambda layer: -seconds[layer])[: MOST_LAYERS - 1])
    other = f"other ({len(seconds) - len(longest)} layers)"
    kept = [layer for layer in seconds if layer in longest]
    return {layer: layer if layer in longest else other for layer in [*kept, *seconds]}
