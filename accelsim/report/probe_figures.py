"""The figures and the table of a probe, drawn from its record alone."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from accelsim.operations import PHASES, Phase
from accelsim.record.probe import AgreementRecord, OperandRecord, ProbeRecord
from accelsim.report.drawing import image_bytes, new_figure, shortened, style
from accelsim.report.figures import write_images
from accelsim.storage import write_text

_PHASE_LOOKS: dict[Phase, tuple[str, str, str]] = {
    "forward": ("#0072b2", "o", "input of the layer"),
    "backward": ("#d55e00", "s", "dL/dy of the layer"),
    "update": ("#009e73", "D", "dL/dW"),
}
_LOWEST_OCTAVE_SHARE = 1e-6


def write_probe(record: ProbeRecord, out_dir: Path) -> list[Path]:
    """Write probe.csv and the figures into ``out_dir``; returns the paths.

    Raises `InputError` when the folder cannot be written.
    """
    table = out_dir / "probe.csv"
    write_text(table, probe_csv(record))
    drawings = {"agreement": _agreement_figure, "operands": _operand_figure, "exponents": _exponent_figure}
    with style():
        images = {name: image_bytes(draw(record)) for name, draw in drawings.items() if _has(record, name)}
    return [table, *write_images(images, out_dir / "figures")]


def _has(record: ProbeRecord, figure: str) -> bool:
    return bool(record.agreement) if figure == "agreement" else bool(record.operands)


def probe_csv(record: ProbeRecord) -> str:
    """One line per layer and phase or operand: what was measured there; empty where it does not apply."""
    text = io.StringIO()
    columns = (
        "layer", "what", "elements", "cosine", "gain", "saturated", "underflow", "scale",
        "accumulation_error_rms", "kernel", "macs",
    )  # fmt: skip
    writer = csv.DictWriter(text, columns, lineterminator="\n", restval="")
    writer.writeheader()
    for one in record.agreement:
        writer.writerow(
            {
                "layer": one.layer,
                "what": f"{one.phase} against float32",
                "elements": one.elements,
                "cosine": one.cosine,
                "gain": one.gain,
            }
        )
    for operand in record.operands:
        values = operand.model_dump(include={"layer", "cosine", "gain", "saturated", "underflow", "scale"})
        writer.writerow({**values, "what": f"{operand.role} in {operand.format}"})
    for product in record.products:
        writer.writerow(
            {
                "layer": product.layer,
                "what": f"{product.phase} products",
                "accumulation_error_rms": product.error_rms,
                "kernel": product.kernel,
                "macs": product.macs,
            }
        )
    return text.getvalue()


def _layers(rows: Sequence[AgreementRecord | OperandRecord]) -> list[str]:
    """Layers in forward order: that of the inputs, or the reverse of the gradients' where those are alone."""
    forward = [row.layer for row in rows if isinstance(row, AgreementRecord) and row.phase == "forward"]
    return list(dict.fromkeys(forward or [row.layer for row in rows][::-1]))


def _agreement_figure(record: ProbeRecord) -> Any:
    """Cosine and gain against float32, layer by layer."""
    layers = _layers(record.agreement)
    figure = new_figure(10.0, 5.6)
    panels = figure.subplots(2, 1, sharex=True)
    for panel, key, title in zip(
        panels,
        ("cosine", "gain"),
        ("Cosine with the float32 tensor", "Gain on the float32 tensor"),
        strict=True,
    ):
        for phase in PHASES:
            colour, marker, label = _PHASE_LOOKS[phase]
            found = {row.layer: getattr(row, key) for row in record.agreement if row.phase == phase}
            values = [_number(found.get(layer)) for layer in layers]
            panel.plot(
                range(len(layers)),
                values,
                color=colour,
                marker=marker,
                markersize=4,
                linewidth=1.2,
                label=label,
            )
        panel.set_title(f"{title}, {record.workload.name} on {record.chip.name}")
    panels[0].legend(loc="lower left", ncols=3)
    panels[0].set_ylim(top=1.02)
    _name_layers(panels[1], layers)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.94, bottom=0.2, hspace=0.25)
    return figure


def _operand_figure(record: ProbeRecord) -> Any:
    """Saturation and underflow of every quantised operand, layer by layer."""
    layers = _layers(record.operands)
    figure = new_figure(10.0, 5.6)
    panels = figure.subplots(2, 1, sharex=True)
    roles = list(dict.fromkeys(row.role for row in record.operands))
    colours = ("#0072b2", "#d55e00", "#009e73", "#8c6d31")
    for panel, key, title in zip(
        panels, ("underflow", "saturated"), ("Flushed to zero, %", "At the largest code, %"), strict=True
    ):
        for role, colour in zip(roles, colours, strict=False):
            found = {row.layer: 100 * getattr(row, key) for row in record.operands if row.role == role}
            values = [_number(found.get(layer)) for layer in layers]
            panel.plot(
                range(len(layers)), values, color=colour, marker="o", markersize=4, linewidth=1.2,
                label=role.replace("_", " "),
            )  # fmt: skip
        panel.set_title(title)
        panel.set_ylim(bottom=0)
    panels[0].legend(loc="upper left", ncols=3)
    _name_layers(panels[1], layers)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.94, bottom=0.2, hspace=0.25)
    return figure


def _exponent_figure(record: ProbeRecord) -> Any:
    """How the exponents of dL/dy spread, layer by layer, before they are quantised; darker is more."""
    import numpy as np

    rows = [row for row in record.operands if row.role == "gradient_input"] or list(record.operands)
    layers = _layers(rows)
    octaves = sorted({octave for row in rows for octave in row.octaves})
    low, high = (octaves[0], octaves[-1]) if octaves else (0, 0)
    shares = np.full((high - low + 1, len(layers)), np.nan)
    for row in rows:
        whole = sum(row.octaves.values()) or 1
        for octave, count in row.octaves.items():
            if count >= _LOWEST_OCTAVE_SHARE * whole:
                shares[octave - low, layers.index(row.layer)] = count / whole
    figure = new_figure(10.0, 4.8)
    panel = figure.subplots()
    image = panel.imshow(
        shares, cmap="Blues", aspect="auto", origin="lower", interpolation="nearest",
        extent=(-0.5, len(layers) - 0.5, low - 0.5, high + 0.5),
    )  # fmt: skip
    panel.set_title(f"Exponents of {rows[0].role.replace('_', ' ')} by layer, share of elements")
    panel.set_ylabel("octave: 2 to this power")
    panel.grid(visible=False)
    figure.colorbar(image, ax=panel, fraction=0.03, pad=0.01).outline.set_visible(False)
    _name_layers(panel, layers)
    figure.subplots_adjust(left=0.07, right=0.985, top=0.93, bottom=0.24)
    return figure


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _name_layers(panel: Any, layers: Sequence[str]) -> None:
    """Every layer's name where they fit, every n-th else."""
    step = -(-len(layers) // 40)
    panel.set_xticks(range(0, len(layers), step), [shortened(name, 16) for name in layers[::step]])
    panel.tick_params(axis="x", rotation=70, labelsize=7)
