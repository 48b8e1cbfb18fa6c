"""``accelsim compare``: the main job. Train one workload on two chips and compare them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from accelsim import api
from accelsim.cli.options import out_option, processes_option, training_options
from accelsim.cli.tables import result_json, show_result
from accelsim.cli.training import Settings, make_job, train_jobs
from accelsim.cli.writable import require_writable
from accelsim.report import write_report

EXAMPLES = """\b
Examples:
  accelsim compare fp4_training fp16_training fashion_cnn
  accelsim compare edge_fp4 edge_fp16 fashion_cnn --epochs 2 --out reports/edge
  accelsim compare my_chip.yaml fp16_training my_workload.yaml --seed 7
  accelsim compare fp4_training fp16_training fashion_cnn --chips 4
  accelsim compare fp4_training fp16_training fashion_cnn --resume
"""


@click.command("compare", epilog=EXAMPLES)
@click.argument("chip")
@click.argument("baseline")
@click.argument("workload")
@out_option("reports/runs/CHIP_vs_BASELINE_WORKLOAD/")
@training_options
@processes_option
def command(
    chip: str,
    baseline: str,
    workload: str,
    out: Path | None,
    recipe: str | None,
    mapping: str | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Train WORKLOAD on CHIP and on BASELINE, bit for bit, and compare them.

    CHIP, BASELINE and WORKLOAD are shipped names (see accelsim list) or YAML files. --recipe and --mapping
    apply to CHIP; BASELINE trains with its own. Both train at the same time, each in a process of its own,
    where this computer has the cores for it. Writes a record.json for each, the comparison as CSV and
    Markdown, figures and report.html into the output folder.
    """
    settings = Settings(**choices)
    chips = [api.load_chip(chip), api.load_chip(baseline)]
    loaded_workload = api.load_workload(workload)
    names = [each.name for each in chips]
    folder = out or Path("reports/runs") / f"{names[0]}_vs_{names[1]}_{loaded_workload.name}"
    if names[0] == names[1]:
        names[1] += "_baseline"  # a chip against itself, with another recipe
    jobs = [
        make_job(each, loaded_workload, own_recipe, pins, folder / name, settings)
        for each, own_recipe, pins, name in zip(chips, (recipe, None), (mapping, None), names, strict=True)
    ]
    require_writable(folder)
    records = train_jobs(jobs, settings)
    write_report(records, folder)
    if as_json:
        click.echo(result_json(records, [job.record_path for job in jobs]))
        return
    show_result(records)
    click.echo(f"Report: {folder / 'report.html'}")
