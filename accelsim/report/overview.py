"""One training step at a glance: where its time goes and where its energy goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelsim.record import COMPONENTS, RESOURCES, RunRecord
from accelsim.report import quantities as q
from accelsim.report.drawing import (
    COMPONENT_HUES,
    INK,
    RESOURCE_HUES,
    Hue,
    axis_unit,
    legend_handles,
    new_figure,
    shortened,
    text_on,
)
from accelsim.report.readings import JOULE_PER_AJ, read_off, step_name

_LEAST_LABELLED = 0.085
"""Share of the longest bar below which a segment is too short for its label."""


def step_overview(records: Sequence[RunRecord]) -> Any:
    """Two panels, a bar a chip: step time by the resource that binds, step energy by component."""
    figure = new_figure(10.0, 1.55 + 0.45 * len(records))
    panels = figure.subplots(1, 2, sharey=True)
    names = [shortened(record.chip.name) for record in records]
    left = 0.015 + 0.0078 * max(len(name) for name in names)
    height = figure.get_figheight()
    figure.subplots_adjust(left=left, right=0.975, top=1 - 0.95 / height, bottom=0.5 / height, wspace=0.12)
    times = [_time_parts(record) for record in records]
    energies = [_energy_parts(record) for record in records]
    step = step_name(records)
    _draw_panel(panels[0], f"Time of a {step}, by the resource that binds", times, RESOURCE_HUES, "s")
    _draw_panel(panels[1], f"Energy of a {step}, by component", energies, COMPONENT_HUES, "J")
    panels[0].set_yticks(range(len(names)), names, color=INK)
    panels[0].set_ylim(len(names) - 0.5, -0.5)
    return figure


def _time_parts(record: RunRecord) -> dict[str, float]:
    """Seconds of a step in layers bound by each resource: they add up to the step."""
    reading = read_off(record)
    return {name: reading.bound_share[name] * reading.step_seconds for name in RESOURCES}


def _energy_parts(record: RunRecord) -> dict[str, float]:
    """Joules of a step by component."""
    factor = record.chips * JOULE_PER_AJ
    return {name: record.cost.step_energy_aj.of(name) * factor for name in COMPONENTS}


def _draw_panel(
    panel: Any, title: str, bars: Sequence[Mapping[str, float]], hues: Mapping[str, Hue], unit: str
) -> None:
    largest = max(sum(parts.values()) for parts in bars)
    factor, axis_text = axis_unit(largest, unit)
    for row, parts in enumerate(bars):
        _draw_stack(panel, row, parts, hues, largest, factor)
        total = sum(parts.values())
        panel.text(
            total / factor + 0.012 * largest / factor, row, q.si(total, unit, 0), va="center", weight="bold"
        )
    legend_top = 1 + 0.55 / (panel.get_position().height * panel.figure.get_figheight())
    handles = legend_handles({hues[name].name: hues[name].colour for name in _used(bars)})
    panel.legend(handles=handles, loc="upper left", bbox_to_anchor=(0, legend_top), ncols=3)
    panel.set_title(title, pad=48)
    panel.set_xlabel(axis_text)
    panel.set_xlim(0, 1.17 * largest / factor)
    panel.grid(axis="y", visible=False)
    panel.spines["left"].set_visible(False)


def _used(bars: Sequence[Mapping[str, float]]) -> list[str]:
    return [name for name in bars[0] if any(parts[name] > 0 for parts in bars)]


def _draw_stack(
    panel: Any, row: int, parts: Mapping[str, float], hues: Mapping[str, Hue], largest: float, factor: float
) -> None:
    start, total = 0.0, sum(parts.values())
    for name, amount in parts.items():
        if amount <= 0:
            continue
        colour = hues[name].colour
        panel.barh(row, amount / factor, 0.66, left=start / factor, color=colour, linewidth=0)
        if amount > _LEAST_LABELLED * largest:
            middle = (start + amount / 2) / factor
            share = q.percent(amount / total, 0)
            panel.text(middle, row, share, ha="center", va="center", color=text_on(colour), fontsize=8.5)
        start += amount
