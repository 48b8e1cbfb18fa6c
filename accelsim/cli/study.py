"""``accelsim study``: the studies whose results stand under reports/."""

from __future__ import annotations

import click

from accelsim.cli.study_accuracy import accuracy
from accelsim.cli.study_savings import savings

EXAMPLES = """\b
Examples:
  accelsim study accuracy
  accelsim study savings
  accelsim study accuracy --help
"""


@click.group("study", epilog=EXAMPLES)
def command() -> None:
    """Studies: many runs, one table, the figures. They can be stopped and called again."""


command.add_command(accuracy)
command.add_command(savings)
