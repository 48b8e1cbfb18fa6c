"""The figures of a report, drawn from records alone: PNG and SVG, the same bytes for the same records."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from accelsim import storage
from accelsim.record import RunRecord
from accelsim.report.comparison import compare_all
from accelsim.report.curves import accuracy_against_cost, learning_curves
from accelsim.report.drawing import COMPONENT_HUES, RESOURCE_HUES, image_bytes, style
from accelsim.report.layer_bars import draw_layers
from accelsim.report.layer_series import energy_series, time_series
from accelsim.report.overview import step_overview
from accelsim.report.readings import step_name

Images = dict[str, dict[str, bytes]]
"""File stem -> {'png': bytes, 'svg': bytes}."""


def figure_images(records: Sequence[RunRecord]) -> Images:
    """All figures these records allow, in reading order; learning curves only where a run was trained.

    Raises `InputError` unless there are one or two records of one workload.
    """
    compare_all(records)
    drawings: dict[str, Callable[[Sequence[RunRecord]], Any]] = {"step_overview": step_overview}
    if any(record.training and record.training.epochs for record in records):
        drawings["learning_curves"] = learning_curves
        drawings["accuracy_against_energy"] = accuracy_against_cost
    drawings["time_by_layer"] = time_by_layer
    drawings["energy_by_layer"] = energy_by_layer
    with style():
        return {name: image_bytes(draw(records)) for name, draw in drawings.items()}


def draw_figures(records: Sequence[RunRecord], out_dir: str | Path) -> list[Path]:
    """Write every figure as PNG and SVG into ``out_dir`` and return the paths.

    ``records``: one run, or a chip's and a baseline's. Raises `InputError` for more, for different
    workloads, and when the folder cannot be written.
    """
    return write_images(figure_images(records), Path(out_dir))


def write_images(images: Images, out_dir: Path) -> list[Path]:
    """Write drawn figures to ``out_dir``/name.png and .svg."""
    paths = []
    for name, kinds in images.items():
        for kind, data in kinds.items():
            storage.write_bytes(out_dir / f"{name}.{kind}", data)
            paths.append(out_dir / f"{name}.{kind}")
    return paths


def time_by_layer(records: Sequence[RunRecord]) -> Any:
    """Busy time of each resource by layer and phase, with a mark at the elapsed time."""
    return draw_layers(
        records, time_series(records), RESOURCE_HUES, "s", f"busy time per {step_name(records)}"
    )


def energy_by_layer(records: Sequence[RunRecord]) -> Any:
    """Energy of each component by layer and phase."""
    return draw_layers(
        records, energy_series(records), COMPONENT_HUES, "J", f"energy per {step_name(records)}"
    )
