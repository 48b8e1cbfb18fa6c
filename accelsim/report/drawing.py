"""The look of every figure, and figures as bytes: the same record gives the same bytes.

Colours follow Okabe and Ito (Color Universal Design, 2008), told apart by colour-blind readers. A
resource keeps its colour in every figure and table. matplotlib is imported when a figure is drawn.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from accelsim.report.quantities import prefix_of

INK, MUTED, RULE, PAPER = "#1b2631", "#5d6b79", "#dde3ea", "#ffffff"
"""Text, secondary text, grid lines, background. The HTML report replaces them by the reader's theme."""


@dataclass(frozen=True)
class Hue:
    """How a resource or component is called and coloured, everywhere."""

    name: str
    colour: str


RESOURCE_HUES: Mapping[str, Hue] = {
    "array": Hue("MAC arrays", "#0072b2"),
    "dram": Hue("DRAM", "#d55e00"),
    "scratchpad": Hue("scratchpad", "#e69f00"),
    "vector": Hue("vector units", "#009e73"),
    "link": Hue("links between chips", "#cc79a7"),
}
COMPONENT_HUES: Mapping[str, Hue] = {
    "mac": Hue("MACs", "#0072b2"),
    "operand_buffer": Hue("operand buffers", "#56b4e9"),
    "scratchpad": Hue("scratchpad", "#e69f00"),
    "dram": Hue("DRAM", "#d55e00"),
    "vector_unit": Hue("vector units", "#009e73"),
    "static": Hue("static", "#97a1ac"),
    "clock": Hue("clock", "#c9b458"),
    "link": Hue("links between chips", "#cc79a7"),
}
CHIP_COLOURS = ("#b3478f", "#7a8794")
"""The chip, then its baseline."""

_STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.labelsize": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.facecolor": "none",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.linewidth": 0.8,
    "axes.grid": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "legend.borderpad": 0,
    "legend.borderaxespad": 0,
    "legend.handlelength": 1.1,
    "legend.handleheight": 1.0,
    "legend.handletextpad": 0.5,
    "legend.columnspacing": 1.6,
    "figure.facecolor": PAPER,
    "savefig.facecolor": PAPER,
    "savefig.dpi": 160,
    # Text stays text: readable by machines, and in the theme and type of the page around it.
    "svg.fonttype": "none",
    "svg.hashsalt": "accelsim",
    # A dollar sign in a layer's name is a dollar sign, not the start of a formula.
    "text.parse_math": False,
}


@contextmanager
def style() -> Iterator[None]:
    """Draw in the project's style, whatever the user's matplotlibrc says."""
    import matplotlib

    with matplotlib.rc_context():
        matplotlib.rcdefaults()
        matplotlib.rcParams.update(_STYLE)
        yield


def image_bytes(figure: Any) -> dict[str, bytes]:
    """A matplotlib figure as {'png': bytes, 'svg': bytes}, without dates or versions in them."""
    metadata: dict[str, dict[str, None]] = {"png": {"Software": None}, "svg": {"Date": None, "Creator": None}}
    images = {}
    for kind, entries in metadata.items():
        out = io.BytesIO()
        figure.savefig(out, format=kind, metadata=entries)
        images[kind] = out.getvalue()
    return images


def text_on(colour: str) -> str:
    """Black or white, whichever reads better on ``colour`` (relative luminance, WCAG 2.1 section 1.4.3)."""
    channels = [int(colour[index : index + 2], 16) / 255 for index in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
    return "#000000" if (luminance + 0.05) / 0.05 > 1.05 / (luminance + 0.05) else "#fffffe"


def new_figure(width_inches: float, height_inches: float) -> Any:
    """An empty matplotlib figure that no global state knows of."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width_inches, height_inches))


def legend_handles(colours: Mapping[str, str]) -> list[Any]:
    """Colour squares for a legend, by name."""
    from matplotlib.patches import Patch

    return [Patch(color=colour, label=name, linewidth=0) for name, colour in colours.items()]


def axis_unit(largest: float, unit: str) -> tuple[float, str]:
    """(what one axis unit is worth, its name) so that the axis reads in small numbers: (1e-6, 'µs')."""
    factor, prefix = prefix_of(largest, largest=0)
    return factor, f"{prefix}{unit}"


def shortened(name: str, most: int = 28) -> str:
    """A layer name that fits beside its bar: the end tells layers apart, so the middle gives way."""
    return name if len(name) <= most else f"{name[: most // 2 - 1]}…{name[-(most // 2) :]}"
