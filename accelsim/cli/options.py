"""The options that several commands share, so that each means the same everywhere."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, TypeVar

import click

from accelsim.errors import InputError, nearest
from accelsim.yamlfile import change_of

Command = TypeVar("Command", bound=Callable[..., Any])
Value = TypeVar("Value")


def unknown_command(given: str, commands: Collection[str], group: click.Context) -> click.UsageError:
    """The mistake of a word that is none of a group's commands."""
    message = f"unknown command '{given}'{nearest(given, commands)}; allowed: {', '.join(commands)}"
    return click.UsageError(message, group)


def changes_of(given: Iterable[str], read: Callable[[str], tuple[str, Value]]) -> dict[str, Value]:
    """What ``--set`` says, by key. Raises `InputError` for what ``read`` refuses, and a key given twice."""
    found: dict[str, Value] = {}
    for text in given:
        try:
            key, value = read(text)
        except InputError as error:
            raise InputError(str(error), "--set") from None
        if key in found:
            raise InputError(f"{key}: given twice", "--set")
        found[key] = value
    return found


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON on standard output.")
quiet_option = click.option("--quiet", "-q", is_flag=True, help="Print results and errors only.")
changes_option = click.option(
    "--set", "changes", metavar="KEY=VALUE", multiple=True,
    callback=lambda _context, _option, given: changes_of(given, change_of),
    help="Another value of the chip's file, as array.accumulator=fp16 (may be repeated).",
)  # fmt: skip
recipe_option = click.option(
    "--recipe", metavar="NAME", help="Training recipe (shipped name or file) in place of the chip's own."
)
epochs_option = click.option(
    "--epochs", metavar="N", type=click.IntRange(min=1), help="Epochs in place of the workload's own number."
)
batch_option = click.option(
    "--batch", metavar="N", type=click.IntRange(min=1), help="Mini-batch size in place of the workload's own."
)
seed_option = click.option(
    "--seed", metavar="N", type=click.IntRange(min=0), help="Seed in place of the workload's own."
)
threads_option = click.option(
    "--threads",
    metavar="N",
    type=click.IntRange(min=1),
    help="Threads of this computer to use (default: all, or one for short products); results do not change.",
)
mapping_option = click.option(
    "--mapping", metavar="FILE", help="Pinned mappings of CHIP (YAML; see accelsim map --pin)."
)
objective_option = click.option(
    "--objective",
    type=click.Choice(["latency", "energy", "edp"]),
    default="latency",
    show_default=True,
    help="What mappings that are not pinned are chosen by.",
)
chips_option = click.option(
    "--chips",
    metavar="N",
    type=int,
    help="Chips that share each mini-batch, in a ring; default: as the chip's file says.",
)
processes_option = click.option(
    "--processes",
    metavar="N",
    type=click.IntRange(min=1),
    help="Runs at a time (default: both, where there is a core for each thread); results do not change.",
)
resume_option = click.option(
    "--resume", is_flag=True, help="Go on from the last checkpoint in the output folder."
)


def drawn_seed_option(what: str) -> Callable[[Command], Command]:
    """``--seed`` of a command that draws ``what`` itself: 1 unless it is given."""
    return click.option(
        "--seed",
        metavar="N",
        type=click.IntRange(min=0),
        default=1,
        show_default=True,
        help=f"Seed of {what}.",
    )


def out_option(default: str) -> Callable[[Command], Command]:
    """``--out FOLDER``, whose help names the default."""
    return click.option(
        "--out",
        type=click.Path(path_type=Path, file_okay=True),
        metavar="FOLDER",
        help=f"Where to write; default: {default}",
    )


def training_options(command: Command) -> Command:
    """All options of a command that trains."""
    for option in reversed(
        (
            recipe_option,
            seed_option,
            epochs_option,
            batch_option,
            mapping_option,
            objective_option,
            chips_option,
            threads_option,
            resume_option,
            json_option,
            quiet_option,
        )
    ):
        command = option(command)
    return command
