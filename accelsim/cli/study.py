"""``accelsim study``: the studies whose results stand under reports/."""

from __future__ import annotations

import click

from accelsim.cli.options import unknown_command
from accelsim.cli.study_accuracy import accuracy
from accelsim.cli.study_savings import savings

EXAMPLES = """\b
Examples:
  accelsim study accuracy
  accelsim study savings
  accelsim study accuracy --help
"""


class _Studies(click.Group):
    """A group that tells which of its studies was probably meant."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the study."""
        if args and args[0] not in self.commands and not args[0].startswith("-"):
            raise unknown_command(args[0], sorted(self.commands), ctx)
        return super().resolve_command(ctx, args)


@click.group("study", cls=_Studies, epilog=EXAMPLES, invoke_without_command=True)
@click.pass_context
def command(context: click.Context) -> None:
    """Studies: many runs, one table, the figures. They can be stopped and called again."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


command.add_command(accuracy)
command.add_command(savings)
