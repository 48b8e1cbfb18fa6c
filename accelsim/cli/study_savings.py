"""``accelsim study savings``: what 4-bit training saves, over the models of the literature."""

from __future__ import annotations

from pathlib import Path

import click

from accelsim.cli.options import json_option, quiet_option
from accelsim.cli.training import command_line
from accelsim.cli.writable import require_writable

EXAMPLES = """\b
Examples:
  accelsim study savings
  accelsim study savings --model resnet50_imagenet --model bert_base --out reports/some_savings
"""


@click.command("savings", epilog=EXAMPLES, short_help="What 4-bit training saves, model by model.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, file_okay=True),
    metavar="FOLDER",
    default=Path("reports/savings"),
    show_default=True,
    help="Where to write.",
)
@click.option("--model", "models", metavar="NAME", multiple=True, help="Only this model (may be repeated).")
@click.option(
    "--grid", metavar="NAME", default="world", show_default=True, help="Electricity of which place."
)
@json_option
@quiet_option
def savings(out: Path, models: tuple[str, ...], grid: str, as_json: bool, quiet: bool) -> None:
    """What 4-bit training saves, for every model of the literature, on a server pair and a phone pair.

    Speed, energy, memory, kWh, carbon and money of full training runs, and which resource binds. Estimates
    only: about two minutes. Rows that have not changed since the last time are not computed again.
    """
    from accelsim.study.savings import MODELS, Choice, savings_study
    from accelsim.study.savings_record import savings_text
    from accelsim.study.savings_report import write_savings

    require_writable(out)

    def told(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    study = savings_study(out / "savings.json", Choice(models or MODELS, grid), command_line(), told)
    paths = write_savings(study, out)
    if as_json:
        click.echo(savings_text(study).rstrip("\n"))
        return
    click.echo(f"{out}: {len(study.rows)} rows; {paths[0]}")
