"""``accelsim run``: train one workload on one chip."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from accelsim import api
from accelsim.cli.options import changes_option, out_option, training_options
from accelsim.cli.tables import show_result
from accelsim.cli.training import Settings, make_job, train_jobs
from accelsim.cli.writable import require_writable
from accelsim.record import record_text
from accelsim.report import write_report
from accelsim.yamlfile import Change

EXAMPLES = """\b
Examples:
  accelsim run fp4_training fashion_cnn
  accelsim run my_chip.yaml my_workload.yaml --epochs 2 --out reports/first
  accelsim run edge_fp4 fashion_cnn --seed 7 --threads 1 --quiet --json
  accelsim run fp4_training fashion_cnn --chips 4
  accelsim run fp4_training fashion_cnn --resume
  accelsim run fp4_training letters_mlp --set array.accumulator=fp16
"""


@click.command("run", epilog=EXAMPLES)
@click.argument("chip")
@click.argument("workload")
@changes_option
@out_option("reports/runs/CHIP_WORKLOAD/")
@training_options
def command(
    chip: str,
    workload: str,
    changes: dict[str, Change],
    out: Path | None,
    recipe: str | None,
    mapping: str | None,
    as_json: bool,
    **choices: Any,
) -> None:
    """Train WORKLOAD on CHIP, every multiply-accumulate bit-exact.

    CHIP and WORKLOAD are shipped names (see accelsim list) or YAML files. Writes record.json, tables,
    figures and report.html into the output folder. With --json the record goes to standard output.
    """
    settings = Settings(**choices)
    loaded_chip = api.load_chip(chip, changes)
    loaded_workload = api.load_workload(workload)
    folder = out or Path("reports/runs") / f"{loaded_chip.name}_{loaded_workload.name}"
    job = make_job(loaded_chip, loaded_workload, recipe, mapping, folder / loaded_chip.name, settings)
    require_writable(folder)
    records = train_jobs([job], settings)
    write_report(records, folder)
    if as_json:
        click.echo(record_text(records[0]), nl=False)
        return
    show_result(records)
    click.echo(f"Report: {folder / 'report.html'}")
