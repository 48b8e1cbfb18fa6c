"""``accelsim plot``: tables, figures and report again, from records alone."""

from __future__ import annotations

import os
from pathlib import Path

import click

from accelsim.cli.electricity import electricity_options, on_grid
from accelsim.cli.options import json_option, out_option, quiet_option
from accelsim.cli.tables import result_json, show_result
from accelsim.cli.writable import require_writable
from accelsim.errors import unknown
from accelsim.record import RunRecord, read_record
from accelsim.report import write_report

EXAMPLES = """\b
Examples:
  accelsim plot reports/demo/fp4_training/record.json
  accelsim plot reports/demo/*/record.json --baseline fp16_training --out reports/again
"""


@click.command("plot", epilog=EXAMPLES)
@click.argument("records", metavar="RECORD...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--baseline", metavar="CHIP", help="Which of two records is the baseline; default: the second.")
@electricity_options
@out_option("the folder that holds the records")
@json_option
@quiet_option
def command(
    records: tuple[Path, ...],
    baseline: str | None,
    grid: str | None,
    price: float | None,
    pue: float | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Redraw tables, figures and report.html from one RECORD, or from a chip's and a baseline's.

    A RECORD is the record.json of a run or of an estimate; nothing is simulated.
    """
    read = on_grid([read_record(path) for path in records], grid, price, pue)
    if baseline:
        read = _baseline_last(read, baseline)
    folder = out or Path(os.path.commonpath([path.absolute().parent for path in records]))
    require_writable(folder)
    write_report(read, folder)
    if as_json:
        click.echo(result_json(read, records))
    elif not quiet:
        show_result(read)
        click.echo(f"Report: {folder / 'report.html'}")


def _baseline_last(records: list[RunRecord], baseline: str) -> list[RunRecord]:
    """The records with the baseline's at the end, where a comparison expects it."""
    names = [record.chip.name for record in records]
    if baseline not in names:
        raise unknown("chip", baseline, names, "--baseline")
    return sorted(records, key=lambda record: record.chip.name == baseline)
