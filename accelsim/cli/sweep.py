"""``accelsim sweep``: a chip with other values than its file's, every combination estimated."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path

import click

from accelsim.cli.options import (
    batch_option,
    changes_of,
    json_option,
    objective_option,
    quiet_option,
    recipe_option,
)
from accelsim.cli.terminal import print_table
from accelsim.cli.writable import require_writable
from accelsim.errors import InputError
from accelsim.mapping import Objective
from accelsim.report import quantities as q
from accelsim.storage import write_bytes, write_text
from accelsim.study.sweep import DesignPoint, axis_of, points_csv, record_of, sweep
from accelsim.yamlfile import Change

EXAMPLES = """\b
Examples:
  accelsim sweep fp4_training fashion_cnn --set array.rows=4,8,16 --set array.cols=4,8,11,16
  accelsim sweep fp4_training resnet18_imagenet --set cores=1,2,4 --set dram.bandwidth_gb_per_s.value=150,300
  accelsim sweep fp4_training fashion_cnn --set array.output_chunk=16,64,null --objective edp --out points
"""

POINTS_A_PROCESS = 40
"""So many points take longer than a process takes to start."""


@click.command("sweep", epilog=EXAMPLES)
@click.argument("chip")
@click.argument("workload")
@click.option(
    "--set", "axes", metavar="KEY=V,V...", multiple=True,
    help="Values that a key of the chip's file takes, as array.rows=4,8,16 (may be repeated).",
)  # fmt: skip
@recipe_option
@batch_option
@objective_option
@click.option(
    "--processes",
    metavar="N",
    type=click.IntRange(min=1),
    help="Points at a time (default: one for each core, where there are many); figures do not change.",
)
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=True),
    metavar="FOLDER",
    help="Write points.csv, points.json and the figure pareto.png, pareto.svg there.",
)
@click.option("--all", "show_all", is_flag=True, help="Show every point, not the best alone.")
@json_option
@quiet_option
def command(
    chip: str,
    workload: str,
    axes: tuple[str, ...],
    recipe: str | None,
    batch: int | None,
    objective: Objective,
    processes: int | None,
    out: Path | None,
    show_all: bool,
    as_json: bool,
    quiet: bool,
) -> None:
    """Estimate a training step of WORKLOAD on CHIP with every combination of other values.

    Best are the points that no other beats in time, energy and die area at once. Only what a key says is
    changed: the energy and area that a larger scratchpad should have are values of their own.
    """
    given = changes_of(axes, axis_of)
    if not given:
        raise InputError("a sweep needs a key and its values (array.rows=4,8,16)", "--set")
    if out:
        require_writable(out)

    def told(done: int, whole: int) -> None:
        if not quiet and (done == whole or done % 100 == 0):
            click.echo(f"{done} of {whole} points", err=True)

    points = sweep(
        chip, workload, given, recipe=recipe, batch=batch, objective=objective,
        processes=processes or _processes(given), told=told,
    )  # fmt: skip
    files = _write(points, out, f"{chip}, {workload}") if out else []
    if as_json:
        click.echo(json.dumps([record_of(point) for point in points], indent=1))
        return
    _show(points, show_all)
    for path in files:
        click.echo(f"Wrote {path}")


def _processes(axes: dict[str, list[Change]]) -> int:
    count = 1
    for values in axes.values():
        count *= len(values)
    return max(1, min(os.cpu_count() or 1, count // POINTS_A_PROCESS))


def _write(points: Sequence[DesignPoint], out: Path, title: str) -> list[Path]:
    from accelsim.study.sweep_figure import sweep_images

    texts = {
        "points.csv": points_csv(points),
        "points.json": json.dumps([record_of(point) for point in points], indent=1) + "\n",
    }
    for name, text in texts.items():
        write_text(out / name, text)
    images = sweep_images(points, title)
    for kind, content in images.items():
        write_bytes(out / f"pareto.{kind}", content)
    return [out / name for name in (*texts, *(f"pareto.{kind}" for kind in images))]


def _show(points: Sequence[DesignPoint], show_all: bool) -> None:
    found = [point for point in points if point.figures and (show_all or point.best)]
    found.sort(key=lambda point: point.figures.aims if point.figures else (0, 0, 0))
    keys = [key for key, _ in points[0].changes]
    rows = []
    for point in found:
        assert point.figures is not None
        one = point.figures
        rows.append(
            [
                *(str(value) for _, value in point.changes),
                q.seconds(one.step_seconds),
                q.joules(one.step_energy_j),
                q.si(one.samples_per_second, "/s"),
                f"{one.peak_tops:.4g}",
                f"{one.die_mm2:.4g}",
                one.bound_by,
                "best" if point.best else "",
            ]
        )
    header = (*keys, "step", "energy", "samples", "peak TOPS", "die mm²", "bound by", "")
    right = range(len(keys), len(keys) + 5)
    print_table(
        header, rows, right=right, strong=[i for i, point in enumerate(found) if point.best and show_all]
    )
    mistaken = [point for point in points if not point.figures]
    click.echo(
        f"{len(points)} points, {sum(point.best for point in points)} of them best in time, energy and area."
    )
    if mistaken:
        click.echo(f"{len(mistaken)} cannot be: {mistaken[0].mistake}")
