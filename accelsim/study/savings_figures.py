"""The savings study drawn: ratios, where the time goes, energy of whole runs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from accelsim.report import quantities as q
from accelsim.report.drawing import (
    CHIP_COLOURS,
    INK,
    MUTED,
    RESOURCE_HUES,
    image_bytes,
    legend_handles,
    new_figure,
    style,
)
from accelsim.study.savings_record import Binding, Row, Savings

_HUES: Mapping[Binding, tuple[str, str]] = {
    "array_low": ("MAC arrays, 4-bit layers", RESOURCE_HUES["array"].colour),
    "array_16bit": ("MAC arrays, 16-bit layers", "#56b4e9"),
    "dram": ("DRAM", RESOURCE_HUES["dram"].colour),
    "scratchpad": ("scratchpads", RESOURCE_HUES["scratchpad"].colour),
    "vector": ("vector units", RESOURCE_HUES["vector"].colour),
    "link": ("links between chips", RESOURCE_HUES["link"].colour),
}
_ENERGY = "#009e73"


def savings_images(savings: Savings) -> dict[str, dict[str, bytes]]:
    """File stem -> {'png': bytes, 'svg': bytes}: two figures for each pair, and one of all runs."""
    images = {}
    with style():
        for pair in dict.fromkeys(row.pair for row in savings.rows):
            rows, ratio = savings.of(pair), savings.mac_ratios[pair]
            images[f"{pair}_ratios"] = image_bytes(ratios_figure(rows, ratio))
            images[f"{pair}_time"] = image_bytes(time_figure(rows, ratio))
        images["energy_per_run"] = image_bytes(energy_figure(savings))
    return images


def _bars(rows: Sequence[Row], title: str, width: float = 8.6) -> tuple[Any, Any]:
    """A figure with a line for each model, names at the left."""
    figure = new_figure(width, 1.3 + 0.3 * len(rows))
    height = figure.get_figheight()
    panel = figure.add_axes((0.24, 0.5 / height, 0.73, 1 - 1.1 / height))
    panel.set_yticks(range(len(rows)), [row.model for row in rows], color=INK)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.grid(axis="y", visible=False)
    panel.set_title(title, pad=22)
    return figure, panel


def _legend(panel: Any, colours: Mapping[str, str]) -> None:
    handles = legend_handles(colours)
    panel.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=5, fontsize=8)


def ratios_figure(rows: Sequence[Row], mac_ratio: float) -> Any:
    """Speed and energy of the chip over its baseline, with the ratio of their peaks."""
    names = f"{rows[0].chip.chip} against {rows[0].baseline.chip}"
    figure, panel = _bars(rows, f"Training on {names}")
    for place, row in enumerate(rows):
        for offset, value, colour in (
            (-0.19, row.speedup, CHIP_COLOURS[0]),
            (0.19, row.energy_ratio, _ENERGY),
        ):
            panel.barh(place + offset, value, 0.36, color=colour, linewidth=0)
            panel.text(value + 0.04, place + offset, f"{value:.2f}", va="center", fontsize=7.5)
        panel.plot([row.all_low_speedup], [place - 0.19], "d", color=INK, markersize=5, zorder=4)
    panel.axvline(1.0, color=MUTED, linewidth=1, zorder=0.5)
    _mark_peak(panel, mac_ratio, f"peak {mac_ratio:.1f} ", len(rows), "right")
    _legend(
        panel,
        {
            "speed, times": CHIP_COLOURS[0],
            "energy, times less": _ENERGY,
            "speed with first and last layers in 4 bits too": INK,
        },
    )
    panel.set_xlabel("16-bit / 4-bit")
    return figure


def _mark_peak(panel: Any, at: float, words: str, rows: int, side: str) -> None:
    """A dashed line where the ratio of the peaks lies."""
    panel.axvline(at, color=MUTED, linewidth=1, linestyle="--", zorder=3)
    panel.set_ylim(rows - 0.1, -0.6)
    panel.text(at, rows - 0.16, words, color=MUTED, fontsize=7.5, va="bottom", ha=side)


def time_figure(rows: Sequence[Row], mac_ratio: float) -> Any:
    """Time of a step on the 4-bit chip over that on its baseline, by the resource that binds."""
    title = f"Time of a training step on {rows[0].chip.chip} over {rows[0].baseline.chip}, by what binds"
    figure, panel = _bars(rows, title)
    for place, row in enumerate(rows):
        start = 0.0
        for name, (_, colour) in _HUES.items():
            length = row.chip.time_share[name] / row.speedup
            panel.barh(place, length, 0.66, left=start, color=colour, linewidth=0)
            start += length
        panel.text(start + 0.01, place, f"{1 / row.speedup:.2f}", va="center", fontsize=7.5)
    _mark_peak(panel, 1 / mac_ratio, " peak", len(rows), "left")
    panel.set_xlim(0, 1.08 * max(1 / row.speedup for row in rows))
    used = [name for name in _HUES if any(row.chip.time_share[name] > 0 for row in rows)]
    _legend(panel, {_HUES[name][0]: _HUES[name][1] for name in used})
    panel.set_xlabel("4-bit / 16-bit")
    return figure


def energy_figure(savings: Savings) -> Any:
    """Energy of every whole run at the meter, both chips of the first pair, on a logarithmic axis."""
    rows = savings.of(savings.rows[0].pair)
    figure, panel = _bars(rows, "Energy of a whole training run at the meter")
    panel.set_xscale("log")
    panel.xaxis.set_major_formatter(lambda value, place: q.number(value, 1))
    panel.xaxis.set_minor_formatter(lambda value, place: "")
    for place, row in enumerate(rows):
        panel.plot([row.chip.kwh, row.baseline.kwh], [place, place], color=MUTED, linewidth=1.2, zorder=1)
        for side, colour in ((row.chip, CHIP_COLOURS[0]), (row.baseline, CHIP_COLOURS[1])):
            panel.plot([side.kwh], [place], "o", color=colour, markersize=6, zorder=2)
    _legend(panel, {rows[0].chip.chip: CHIP_COLOURS[0], rows[0].baseline.chip: CHIP_COLOURS[1]})
    panel.set_xlabel("kWh")
    return figure
