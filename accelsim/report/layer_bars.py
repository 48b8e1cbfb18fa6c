"""The per-layer figures: one row a layer, one panel a phase, one stacked bar a chip."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelsim.record import RunRecord
from accelsim.report.drawing import INK, Hue, axis_unit, legend_handles, new_figure, shortened
from accelsim.report.layer_series import LayerSeries, Stack

_ROW_INCHES = {1: 0.24, 2: 0.34}
_HEAD_INCHES = 0.95
_FOOT_INCHES = 0.5
_WIDTH_INCHES = 10.0
BASELINE_ALPHA = 0.5


def draw_layers(
    records: Sequence[RunRecord], series: LayerSeries, hues: Mapping[str, Hue], unit: str, what: str
) -> Any:
    """A matplotlib figure of ``series``: the chip's bar above, the baseline's fainter one below it."""
    labels = [shortened(label) for label in series.labels]
    height = _HEAD_INCHES + _FOOT_INCHES + _ROW_INCHES[len(records)] * len(labels)
    figure = new_figure(_WIDTH_INCHES, height)
    panels = figure.subplots(1, len(series.phases), sharex=True, sharey=True, squeeze=False)[0]
    left = 0.15 + 0.075 * max(len(label) for label in labels)
    figure.subplots_adjust(
        left=left / _WIDTH_INCHES,
        right=0.985,
        bottom=_FOOT_INCHES / height,
        top=1 - _HEAD_INCHES / height,
        wspace=0.06,
    )
    factor, axis_text = axis_unit(series.largest, unit)
    for panel, phase in zip(panels, series.phases, strict=True):
        panel.set_title(phase)
        panel.grid(axis="y", visible=False)
        panel.spines["left"].set_visible(False)
        for (index, label, bar_phase), stack in series.stacks.items():
            if bar_phase == phase:
                _draw_bar(panel, stack, series.labels.index(label), index, len(records), factor, hues)
    panels[0].set_yticks(range(len(labels)), labels, color=INK)
    panels[0].set_ylim(len(labels) - 0.4, -0.6)
    panels[0].set_xlim(0, 1.03 * series.largest / factor)
    panels[len(panels) // 2].set_xlabel(f"{what}, {axis_text}")
    _draw_legend(figure, records, series, hues, left, height)
    return figure


def _draw_bar(
    panel: Any, stack: Stack, row: int, index: int, bars: int, factor: float, hues: Mapping[str, Hue]
) -> None:
    thickness = 0.74 / bars
    top = row - 0.37 + index * thickness
    start = 0.0
    for part, amount in stack.parts.items():
        if amount > 0:
            panel.barh(
                top, amount / factor, thickness * 0.92, left=start / factor, align="edge",
                color=hues[part].colour, alpha=BASELINE_ALPHA if index else None, linewidth=0,
            )  # fmt: skip
            start += amount
    if stack.mark:
        ends = [top - 0.03, top + thickness * 0.92 + 0.03]
        panel.plot([stack.mark / factor] * 2, ends, color=INK, linewidth=1.6, solid_capstyle="butt")


def _draw_legend(
    figure: Any,
    records: Sequence[RunRecord],
    series: LayerSeries,
    hues: Mapping[str, Hue],
    left: float,
    height: float,
) -> None:
    """Two lines above the panels: the colours, then which bar and which mark is what."""
    parts = {name for stack in series.stacks.values() for name, amount in stack.parts.items() if amount > 0}
    handles = legend_handles({hue.name: hue.colour for name, hue in hues.items() if name in parts})
    x = left / _WIDTH_INCHES
    figure.legend(
        handles=handles, loc="upper left", bbox_to_anchor=(x, 1 - 0.12 / height), ncols=len(handles)
    )
    sentences = []
    if len(records) == 2:
        sentences.append(f"upper bar: {records[0].chip.name}; lower, fainter bar: {records[1].chip.name}")
    if any(stack.mark for stack in series.stacks.values()):
        sentences.append("upright mark: elapsed time (resources work at the same time)")
    figure.text(x, 1 - 0.48 / height, "; ".join(sentences), fontsize=8.5, va="center")
