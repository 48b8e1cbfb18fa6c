"""What four bits make of a tensor: rescaled linearly to -8..7, and on the base-4 logarithmic scale."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.report.drawing import INK, MUTED, image_bytes, new_figure, style
from accelsim.report.figures import write_images

_LINEAR, _LOG, _BASE10 = "#0072b2", "#c04f00", "#4b4b4b"
_LOWEST, _HIGHEST = -8, 7


@dataclass(frozen=True, eq=False)
class RescaledTensor:
    """A tensor as a picture: its values, its codes -8..7, its values on the FP4 grid; all (rows, cols)."""

    title: str
    values: NDArray[np.float64]
    codes: NDArray[np.int64]
    logarithmic: NDArray[np.float64]


@dataclass(frozen=True)
class Mark:
    """One number on the linear scale: its place in 0..1, where it falls in -8..7, and its code."""

    value: float
    rescaled: float
    code: int


def draw_rescaled(
    tensors: Sequence[RescaledTensor], marks: Sequence[Mark], grid: Sequence[float], out_dir: str | Path
) -> list[Path]:
    """Write four_bits.png and four_bits.svg into ``out_dir`` and return the paths.

    ``grid``: the positive values of radix-4 FP4, scaled to a largest of 1, for the logarithmic axes.
    Raises `InputError` when the folder cannot be written.
    """
    with style():
        images = {"four_bits": image_bytes(_figure(tensors, marks, grid))}
    return write_images(images, Path(out_dir))


def _figure(tensors: Sequence[RescaledTensor], marks: Sequence[Mark], grid: Sequence[float]) -> Any:
    figure = new_figure(10.0, 2.9 * len(tensors) + 3.0)
    heights = [*(2.6 for _ in tensors), 1.25, 1.25]
    layout = figure.add_gridspec(len(heights), 3, height_ratios=heights, hspace=0.55, wspace=0.12)
    for line, tensor in enumerate(tensors):
        panels = [figure.add_subplot(layout[line, column]) for column in range(3)]
        _pictures(figure, panels, tensor)
    _linear_scale(figure.add_subplot(layout[-2, :]), marks)
    _log_scales(figure.add_subplot(layout[-1, :]), grid)
    figure.subplots_adjust(left=0.06, right=0.94, top=0.95, bottom=0.06)
    return figure


def _pictures(figure: Any, panels: Sequence[Any], tensor: RescaledTensor) -> None:
    low, high = float(tensor.values.min()), float(tensor.values.max())
    shown = (
        (tensor.values, tensor.title, (low, high), None),
        (tensor.codes, f"linear: -8..7, {len(np.unique(tensor.codes))} codes used", (-8.5, 7.5), 16),
        (
            tensor.logarithmic,
            f"base 4, FP4: {len(np.unique(tensor.logarithmic))} values used",
            (low, high),
            None,
        ),
    )
    for panel, (values, title, (least, most), steps) in zip(panels, shown, strict=True):
        colours: Any = "viridis"
        if steps:
            from matplotlib import colormaps

            colours = colormaps["viridis"].resampled(steps)
        square = "equal" if values.shape[0] == values.shape[1] else "auto"
        image = panel.imshow(
            values, cmap=colours, vmin=least, vmax=most, aspect=square, interpolation="nearest"
        )
        panel.set_title(title)
        panel.set_xticks([])
        panel.set_yticks([])
        panel.grid(visible=False)
        bar = figure.colorbar(image, ax=panel, fraction=0.05, pad=0.02)
        bar.ax.tick_params(labelsize=7)
        bar.outline.set_visible(False)


def _linear_scale(panel: Any, marks: Sequence[Mark]) -> None:
    """0..1 above, -8..7 below; each mark falls straight down and is rounded to a code."""
    _bare(panel, (_LOWEST - 0.6, _HIGHEST + 0.6), "linear rescaling of 0..1 to -8..7")
    panel.plot([_LOWEST, _HIGHEST], [1, 1], color=INK, linewidth=1)
    panel.plot([_LOWEST, _HIGHEST], [0, 0], color=INK, linewidth=1)
    for code in range(_LOWEST, _HIGHEST + 1):
        panel.plot([code, code], [-0.06, 0.06], color=INK, linewidth=1)
        panel.text(code, -0.16, str(code), ha="center", va="top", fontsize=8, color=MUTED)
    for mark in marks:
        panel.plot([mark.rescaled] * 2, [0.94, 1.06], color=_LINEAR, linewidth=1.5)
        panel.text(
            mark.rescaled, 1.12, f"{mark.value:g}", ha="center", va="bottom", color=_LINEAR, fontsize=9
        )
        panel.annotate(
            "",
            (mark.code, 0.08),
            (mark.rescaled, 0.92),
            arrowprops={"arrowstyle": "->", "color": _LINEAR, "linewidth": 1.2},
        )
        if mark.rescaled != mark.code:
            text = f"{mark.rescaled:g} rounds to {mark.code}"
            panel.text(mark.rescaled + 0.15, 0.5, text, color=_LINEAR, fontsize=8, va="center")
    panel.set_ylim(-0.5, 1.5)


def _log_scales(panel: Any, grid: Sequence[float]) -> None:
    """The decades of a base-10 scale above, the values of a base-4 FP4 below, on one axis of octaves."""
    octaves = [float(np.log2(value)) for value in grid]
    decades = [power for power in range(0, -8, -1) if power * np.log2(10) >= min(octaves) - 1]
    _bare(panel, (min(octaves) - 1.5, 0.8), "logarithmic scales: base 10 (above) and base 4 (below)")
    for height, places, labels, colour in (
        (1, [power * np.log2(10) for power in decades], [_power("10", power) for power in decades], _BASE10),
        (0, octaves, [_power("4", round(octave / 2)) for octave in octaves], _LOG),
    ):
        panel.plot([min(octaves) - 1, 0], [height, height], color=INK, linewidth=1)
        for place, label in zip(places, labels, strict=True):
            panel.plot([place, place], [height - 0.08, height + 0.08], color=colour, linewidth=1.5)
            below = -0.18 if height == 0 else 0.18
            panel.text(
                place, height + below, label, ha="center", va="top" if below < 0 else "bottom", color=colour,
                fontsize=8,
            )  # fmt: skip
    panel.set_ylim(-0.6, 1.6)


def _power(base: str, exponent: int) -> str:
    return base + str(exponent).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _bare(panel: Any, span: tuple[float, float], title: str) -> None:
    panel.set_xlim(*span)
    panel.set_title(title)
    panel.set_xticks([])
    panel.set_yticks([])
    panel.grid(visible=False)
    for side in ("left", "bottom"):
        panel.spines[side].set_visible(False)
