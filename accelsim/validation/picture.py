"""One picture of all findings: ours over published, on a logarithmic axis, line by line."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from accelsim.report.drawing import (
    CHIP_COLOURS,
    INK,
    MUTED,
    image_bytes,
    legend_handles,
    new_figure,
    shortened,
    style,
)
from accelsim.validation.comparing import Finding

_COLOURS = {"predicted": CHIP_COLOURS[0], "calibrated": CHIP_COLOURS[1]}
_HEIGHT_INCHES = 0.19


def findings_picture(findings: Sequence[Finding]) -> dict[str, bytes]:
    """{'png': bytes, 'svg': bytes}: a dot per figure, a bar where a range was published."""
    with style():
        figure = new_figure(8.2, 1.1 + _HEIGHT_INCHES * len(findings))
        axes = figure.add_axes((0.44, 0.4 / figure.get_figheight(), 0.53, 1 - 0.95 / figure.get_figheight()))
        axes.set_xscale("log")
        axes.axvline(1.0, color=INK, linewidth=1)
        for place, finding in enumerate(findings):
            _draw(axes, place, finding)
        _label(axes, findings)
        top = 1 - 0.18 / figure.get_figheight()
        figure.legend(
            handles=legend_handles(_COLOURS), loc="upper right", ncols=2, bbox_to_anchor=(0.97, top)
        )
        return image_bytes(figure)


def _draw(axes: Any, place: int, finding: Finding) -> None:
    low, high = finding.published
    middle = (low * high) ** 0.5
    if low != high:
        axes.plot((low / middle, high / middle), (place, place), color=MUTED, linewidth=3, alpha=0.4)
    axes.plot(finding.ours / middle, place, "o", color=_COLOURS[finding.status], markersize=5)


def _label(axes: Any, findings: Sequence[Finding]) -> None:
    from matplotlib.ticker import FuncFormatter, NullFormatter

    labels = [shortened(f"{finding.row}: {finding.label}", 50) for finding in findings]
    ratios = [finding.ours / end for finding in findings for end in finding.published]
    reach = max(1.25, *ratios, *(1 / ratio for ratio in ratios)) * 1.05
    axes.set_yticks(range(len(findings)), labels)
    axes.set_ylim(len(findings) - 0.4, -0.6)
    axes.set_xlim(1 / reach, reach)
    ticks = [each for each in (0.25, 0.5, 0.8, 1.0, 1.25, 2.0, 4.0) if 1 / reach <= each <= reach]
    axes.set_xticks(ticks)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.set_xlabel("ours / published")
