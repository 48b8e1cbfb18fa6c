"""A sweep drawn: every design point by time and energy of a step, the best of them apart."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelsim.report.drawing import CHIP_COLOURS, INK, MUTED, axis_unit, image_bytes, new_figure, style
from accelsim.study.sweep import DesignPoint, Figures


def sweep_images(points: Sequence[DesignPoint], title: str) -> dict[str, bytes]:
    """{'png': bytes, 'svg': bytes} of the figure."""
    with style():
        return image_bytes(pareto_figure(points, title))


def pareto_figure(points: Sequence[DesignPoint], title: str) -> Any:
    """Time against energy of a step; a mark's area is the die's, and a line joins the front of the two."""
    found = [(point.figures, point.best) for point in points if point.figures]
    figure = new_figure(7.2, 4.6)
    panel = figure.add_axes((0.11, 0.12, 0.86, 0.74))
    second, time_unit = axis_unit(max(each.step_seconds for each, _ in found), "s")
    joule, energy_unit = axis_unit(max(each.step_energy_j for each, _ in found), "J")
    largest = max(each.die_mm2 for each, _ in found)
    for best, colour, label in ((False, CHIP_COLOURS[1], "others"), (True, CHIP_COLOURS[0], "best")):
        own = [each for each, is_best in found if is_best == best]
        if own:
            panel.scatter(
                [each.step_seconds / second for each in own],
                [each.step_energy_j / joule for each in own],
                s=[12 + 90 * each.die_mm2 / largest for each in own],
                color=colour, alpha=0.65, linewidth=0, label=label, zorder=3 if best else 2,
            )  # fmt: skip
    front = time_and_energy_front([each for each, _ in found])
    panel.plot(
        [each.step_seconds / second for each in front],
        [each.step_energy_j / joule for each in front],
        color=INK, linewidth=1, drawstyle="steps-post", zorder=1, label="front of time and energy",
    )  # fmt: skip
    panel.set_xlim(0, None)
    panel.set_ylim(0, None)
    panel.set_xlabel(f"time of a step, {time_unit}")
    panel.set_ylabel(f"energy of a step, {energy_unit}")
    panel.set_title(title, pad=30)
    panel.legend(loc="lower left", bbox_to_anchor=(0, 1.0), ncols=3, fontsize=8)
    note = f"a mark's area is the die's, up to {largest:.3g} mm²"
    panel.text(1, 1.02, note, transform=panel.transAxes, ha="right", fontsize=8, color=MUTED)
    return figure


def time_and_energy_front(points: Sequence[Figures]) -> list[Figures]:
    """Those that no other beats in time and in energy, the quickest first."""
    front: list[Figures] = []
    for each in sorted(points, key=lambda one: one.aims):
        if not front or each.step_energy_j < front[-1].step_energy_j:
            front.append(each)
    return front
