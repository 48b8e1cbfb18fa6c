"""Number formats side by side: their values on a line, how they round, and how far off they are."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.report.drawing import INK, MUTED, image_bytes, new_figure, style
from accelsim.report.figures import write_images

F64 = NDArray[np.float64]

MOST_FORMATS = 8
MOST_VALUES = 128

# Okabe and Ito (2008), darkened to read on white paper; each has a mark of its own, for print without colour.
_COLOURS = ("#0072b2", "#c04f00", "#007a5a", "#4b4b4b", "#b3478f", "#8a6500", "#2f7f95", "#6a51a3")
_MARKS = ("o", "s", "D", "^", "v", "P", "X", "h")
_MOST_SAMPLES = 4096
_NAMED_VALUES = 16
_SUPERSCRIPTS = str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹")

# Inches.
_LEFT, _RIGHT, _COLUMN, _GAP = 1.4, 0.2, 2.15, 0.22
_HEAD, _LINE, _STAIRCASE, _ERROR, _SECTION, _FOOT = 0.5, 0.46, 1.9, 1.6, 0.95, 0.6


@dataclass(frozen=True, eq=False)
class DrawnFormat:
    """A format as the figure needs it.

    ``values``: its finite values above zero, ascending; ``round``: magnitudes to values; ``full_scale``: what
    a tensor's largest magnitude is scaled to (64 for radix-4 FP4, on the even grid and on the odd one).
    """

    name: str
    values: F64
    round: Callable[[F64], F64]
    full_scale: float

    @property
    def marks(self) -> F64:
        """The values in octaves below full scale (above: positive)."""
        return np.asarray(np.log2(self.values / self.full_scale))

    def rounded(self, octaves: F64) -> F64:
        """What magnitudes become, as parts of full scale; magnitudes are in octaves."""
        return np.asarray(self.round(np.exp2(octaves) * self.full_scale) / self.full_scale)

    def error(self, octaves: F64) -> F64:
        """The distance to what magnitudes become, relative to them."""
        magnitudes = np.exp2(octaves)
        return np.asarray(np.abs(self.rounded(octaves) - magnitudes) / magnitudes)

    def steps(self) -> F64:
        """Just below and just above each midpoint of neighbours, in octaves: where the rounding jumps."""
        neighbours = np.append(0.0, self.values)
        middle = np.log2((neighbours[1:] + neighbours[:-1]) / 2 / self.full_scale)
        return np.concatenate([middle - 1e-9, middle + 1e-9])


def draw_formats(formats: Sequence[DrawnFormat], out_dir: str | Path) -> list[Path]:
    """Write formats.png and formats.svg into ``out_dir`` and return the paths; the same bytes every time.

    Raises `InputError` for no format or more than `MOST_FORMATS`, for the same one twice, for one with
    more than `MOST_VALUES` values above zero, and when the folder cannot be written.
    """
    names = [fmt.name for fmt in formats]
    if not 1 <= len(names) <= MOST_FORMATS:
        raise InputError(f"the figure shows 1 to {MOST_FORMATS} formats, got {len(names)}")
    if len(set(names)) < len(names):
        raise InputError(f"the figure shows each format once, got {', '.join(names)}")
    for fmt in formats:
        if len(fmt.values) > MOST_VALUES:
            raise InputError(
                f"{fmt.name}: {len(fmt.values):,} values above zero are too many for a number line; "
                f"at most {MOST_VALUES} can be told apart"
            )
    with style():
        images = {"formats": image_bytes(formats_figure(formats))}
    return write_images(images, Path(out_dir))


def formats_figure(formats: Sequence[DrawnFormat]) -> Any:
    """Number lines above; below them a column for each format: its staircase over its relative error."""
    count, lines = len(formats), _LINE * len(formats)
    width = _LEFT + max(3, count) * (_COLUMN + _GAP) - _GAP + _RIGHT
    column = (width - _LEFT - _RIGHT + _GAP) / count - _GAP
    staircases = _HEAD + lines + _SECTION
    errors = staircases + _STAIRCASE + _SECTION
    height = errors + _ERROR + _FOOT
    figure = new_figure(width, height)

    def panel(left: float, top: float, wide: float, high: float) -> Any:
        return figure.add_axes((left / width, 1 - (top + high) / height, wide / width, high / height))

    octaves = _samples(formats)
    sections = {
        _HEAD: "Values of each format (labels) as parts of a tensor's full scale, which is 1",
        staircases - 0.22: "What a magnitude is rounded to",
        errors - 0.22: "Relative error: the worst between smallest and largest value, and the mean up to 1",
    }
    for top, text in sections.items():
        place = (0.15 / width, 1 - (top - 0.16) / height)
        figure.text(*place, text, fontsize=10.5, fontweight="bold", color=INK, va="bottom")
    _draw_lines(panel(_LEFT, _HEAD, width - _LEFT - _RIGHT, lines), formats, octaves)
    for index, fmt in enumerate(formats):
        left = _LEFT + index * (column + _GAP)
        staircase, error = panel(left, staircases, column, _STAIRCASE), panel(left, errors, column, _ERROR)
        _draw_staircase(staircase, fmt, octaves, _COLOURS[index])
        _draw_error(error, fmt, octaves, _COLOURS[index])
        for axes in (staircase, error):
            _octave_axis(axes.xaxis, octaves, 6)
            axes.tick_params(labelleft=index == 0)
        error.set_xlabel("magnitude / full scale")
    return figure


def _samples(formats: Sequence[DrawnFormat]) -> F64:
    """Magnitudes in octaves: from an octave below the smallest value to one above full scale, every jump."""
    low = np.floor(min(fmt.marks[0] for fmt in formats)) - 1
    high = np.ceil(max(fmt.marks[-1] for fmt in formats)) + 1
    grid = np.linspace(low, high, min(_MOST_SAMPLES, 1 + 64 * int(high - low)))
    jumps = np.concatenate([fmt.steps() for fmt in formats])
    return np.unique(np.concatenate([grid, jumps[(jumps > low) & (jumps < high)]]))


def _draw_lines(axes: Any, formats: Sequence[DrawnFormat], octaves: F64) -> None:
    """A line for each format, a mark for each of its values."""
    for index, (fmt, colour) in enumerate(zip(formats, _COLOURS, strict=False)):
        crowded = len(fmt.values) > _NAMED_VALUES
        look = {"marker": "|", "markersize": 11} if crowded else {"marker": _MARKS[index], "markersize": 6}
        axes.axhline(index, color=MUTED, linewidth=0.8, zorder=1)
        axes.plot(fmt.marks, np.full(len(fmt.marks), index), linestyle="none", color=colour, **look)
        if not crowded:
            _name_values(axes, fmt, index, octaves)
        reach = f"{len(fmt.values)} values, {fmt.marks[-1] - fmt.marks[0]:.1f} octaves".replace(".0 ", " ")
        for text, down, size, weight, ink in (
            (fmt.name, 3, 9, "bold", colour),
            (reach, -8, 7, "normal", MUTED),
        ):
            axes.annotate(
                text,
                (0, index),
                (-8, down),
                xycoords=("axes fraction", "data"),
                textcoords="offset points",
                ha="right",
                va="center",
                fontsize=size,
                fontweight=weight,
                color=ink,
            )
    axes.set_ylim(len(formats) - 0.5, -0.6)
    axes.set_yticks([])
    axes.spines["left"].set_visible(False)
    _octave_axis(axes.xaxis, octaves, 20)


def _name_values(axes: Any, fmt: DrawnFormat, row: int, octaves: F64) -> None:
    """The values themselves above their marks, where the one before leaves room."""
    room = 0.012 * (octaves[-1] - octaves[0])
    written = -np.inf
    for value, mark in zip(fmt.values, fmt.marks, strict=True):
        text = _value_text(float(value))
        if mark - written > room * len(text):
            place = {"xytext": (0, 5.5), "textcoords": "offset points", "ha": "center"}
            axes.annotate(text, (mark, row), fontsize=7.5, color=INK, **place)
            written = mark


def _value_text(value: float) -> str:
    """A value as a person writes it: 64, 1.5, 1/64."""
    numerator, denominator = value.as_integer_ratio()
    if numerator == 1 and 1 < denominator <= 1 << 20:
        return f"1/{denominator}"
    return f"{value:.4g}"


def _draw_staircase(axes: Any, fmt: DrawnFormat, octaves: F64, colour: str) -> None:
    """Where magnitudes go, both axes in octaves; what becomes zero lies on the floor."""
    low, high = float(octaves[0]), float(octaves[-1])
    rounded = fmt.rounded(octaves)
    floor = low - 0.06 * (high - low)
    with np.errstate(divide="ignore"):
        heights = np.where(rounded > 0, np.log2(rounded), floor)
    axes.plot([low, high], [low, high], color=MUTED, linewidth=0.8, linestyle=(0, (4, 2)), zorder=1)
    axes.plot(octaves, heights, color=colour, linewidth=1.6, solid_joinstyle="miter", zorder=2)
    axes.set_title(fmt.name, fontsize=9, color=colour)
    _octave_axis(axes.yaxis, octaves, 6)
    kept = [tick for tick in axes.get_yticks() if tick >= low + 1]
    axes.set_yticks([floor, *kept], ["0", *map(_power_text, kept)])
    axes.set_ylim(floor - 0.03 * (high - low), high)


def _draw_error(axes: Any, fmt: DrawnFormat, octaves: F64, colour: str) -> None:
    """The relative error by magnitude, and its worst between the smallest and the largest value."""
    percent = 100 * fmt.error(octaves)
    axes.fill_between(octaves, percent, color=colour, alpha=0.18, linewidth=0)
    axes.plot(octaves, percent, color=colour, linewidth=1.2)
    inside = (octaves >= fmt.marks[0]) & (octaves <= fmt.marks[-1])
    worst = percent[inside].max(initial=0.0)
    text = f"worst {worst:.0f} %, mean {_mean(octaves, percent):.0f} %"
    axes.set_title(text, fontsize=8, fontweight="normal", color=INK)
    axes.set_ylim(0, 105)
    axes.set_yticks([0, 25, 50, 75, 100], ["0", "25 %", "50 %", "75 %", "100 %"])


def _mean(octaves: F64, heights: F64) -> float:
    """The mean up to full scale, every octave counting the same (trapezoids)."""
    shown = octaves <= 0
    octaves, heights = octaves[shown], heights[shown]
    return float(((heights[1:] + heights[:-1]) / 2 * np.diff(octaves)).sum() / (octaves[-1] - octaves[0]))


def _octave_axis(axis: Any, octaves: F64, most_ticks: int) -> None:
    """An axis of octaves with ticks at powers of two, so few that they can be read."""
    low, high = float(octaves[0]), float(octaves[-1])
    apart = 1
    while (high - low) / apart > most_ticks:
        apart *= 2
    ticks = [tick for tick in range(math.ceil(low), math.floor(high) + 1) if tick % apart == 0]
    axis.set_ticks(ticks, labels=[_power_text(tick) for tick in ticks])
    axis.set_view_interval(low, high, ignore=True)


def _power_text(octave: float) -> str:
    return "2" + str(int(octave)).translate(_SUPERSCRIPTS) if octave else "1"
