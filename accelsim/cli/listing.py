"""``accelsim list``: what is shipped, with one line about each."""

from __future__ import annotations

import json

import click

from accelsim import api
from accelsim.cli.options import json_option
from accelsim.cli.terminal import print_table
from accelsim.cost import load_grid
from accelsim.errors import unknown
from accelsim.numerics.formats import format_names, number_format
from accelsim.storage import shipped
from accelsim.workload.datasets import dataset_names, dataset_note

EXAMPLES = """\b
Examples:
  accelsim list
  accelsim list chips
  accelsim list --json
"""


def _chips() -> list[tuple[str, str]]:
    return [(name, api.load_chip(name).description) for name in shipped("arch_configs")]


def _workloads() -> list[tuple[str, str]]:
    return [(name, api.load_workload(name).description) for name in shipped("workloads")]


def _recipes() -> list[tuple[str, str]]:
    return [(name, api.load_recipe(name).description) for name in shipped("recipes")]


def _formats() -> list[tuple[str, str]]:
    return [
        (name, f"{number_format(name).bits} bits; {number_format(name).source}") for name in format_names()
    ]


def _datasets() -> list[tuple[str, str]]:
    return [(name, dataset_note(name)) for name in dataset_names()]


def _grids() -> list[tuple[str, str]]:
    return [(name, load_grid(name).description) for name in shipped("grids")]


_KINDS = {
    "chips": _chips,
    "workloads": _workloads,
    "recipes": _recipes,
    "formats": _formats,
    "datasets": _datasets,
    "grids": _grids,
}


@click.command("list", epilog=EXAMPLES)
@click.argument("kind", required=False)
@json_option
def command(kind: str | None, as_json: bool) -> None:
    """List what is shipped: chips, workloads, recipes, formats, data sets and grids, or one KIND of them.

    Each can be given by its name wherever a file can be given.
    """
    if kind is not None and kind not in _KINDS:
        raise unknown("kind", kind, _KINDS)
    found = {each: _KINDS[each]() for each in ([kind] if kind else _KINDS)}
    if as_json:
        content = {
            each: [{"name": name, "description": text} for name, text in rows] for each, rows in found.items()
        }
        click.echo(json.dumps(content, indent=1, ensure_ascii=False))
        return
    for each, rows in found.items():
        print_table((each, ""), rows)
