"""``accelsim validate``: published measurements, repeated by the simulator."""

from __future__ import annotations

import json
from pathlib import Path

import click

from accelsim.cli.options import json_option, out_option, quiet_option
from accelsim.cli.terminal import print_table
from accelsim.cli.training import command_line
from accelsim.cli.writable import require_writable
from accelsim.validation import compare_sheets, load_sheet, shipped_sheets
from accelsim.validation.table import HEADER, cells, rows_json

EXAMPLES = """\b
Examples:
  accelsim validate
  accelsim validate --out reports/validation
  accelsim validate my_measurements.yaml --json
"""


@click.command("validate", epilog=EXAMPLES)
@click.argument("sheets", metavar="[SHEET]...", nargs=-1, type=click.Path(path_type=Path))
@out_option("nothing is written")
@json_option
@quiet_option
def command(sheets: tuple[Path, ...], out: Path | None, as_json: bool, quiet: bool) -> None:
    """Repeat published measurements and show published, ours, error, and whether it was predicted.

    Without a SHEET, the shipped ones. A SHEET is a YAML file that names a published number, its quantity, and
    the chip, workload, phases and mini-batch it was measured with; it may name a shipped calibration. With
    --out the table (Markdown, CSV) and a picture are written. --quiet leaves out notes.
    """
    if out:
        require_writable(out)
    known = shipped_sheets()
    findings = compare_sheets([load_sheet(path) for path in sheets] or known, known)
    if as_json:
        click.echo(json.dumps(rows_json(findings), indent=1, ensure_ascii=False))
    else:
        print_table(HEADER, [cells(finding) for finding in findings], right=(3, 4, 5))
    if not as_json and not quiet:
        for finding in findings:
            for label, text in (("", finding.note), (", not followed", finding.missing)):
                if text:
                    click.echo(f"{finding.row}, {finding.label}{label}: {' '.join(text.split())}")
    if out:
        from accelsim.validation import write_validation

        write_validation(findings, out, command_line())
        if not as_json:
            click.echo(f"Table: {out / 'table.md'}")
