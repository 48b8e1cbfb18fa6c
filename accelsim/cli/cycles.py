"""``accelsim cycles``: compute cycles of every GEMM by the conventions of other simulators, beside ours."""

from __future__ import annotations

import json
from typing import Any

import click

from accelsim import api
from accelsim.cli.options import batch_option, json_option, recipe_option
from accelsim.cli.terminal import print_table
from accelsim.mapping.conventions import CONVENTIONS, Convention
from accelsim.operations import PHASES, Phase
from accelsim.validation.cycles import CycleRow, cycle_rows

EXAMPLES = """\b
Examples:
  accelsim cycles fp16_training letters_mlp
  accelsim cycles fp16_training resnet18_cifar10 --batch 32 --convention ideal
  accelsim cycles tpu_v1 alexnet_imagenet --phase forward
  accelsim cycles my_chip.yaml my_network.yaml --convention scalesim_printed --json
"""

_SHORT = {"output_stationary": "OS", "weight_stationary": "WS", "input_stationary": "IS"}


@click.command("cycles", epilog=EXAMPLES)
@click.argument("chip")
@click.argument("workload")
@click.option(
    "--convention",
    type=click.Choice(CONVENTIONS),
    default="scalesim",
    show_default=True,
    help="Whose closed form to count by.",
)
@click.option("--phase", type=click.Choice(PHASES), help="Only this phase: forward for a chip for inference.")
@recipe_option
@batch_option
@json_option
def command(
    chip: str,
    workload: str,
    convention: Convention,
    phase: Phase | None,
    recipe: str | None,
    batch: int | None,
    as_json: bool,
) -> None:
    """Compute cycles of each GEMM of a training step of WORKLOAD on one array of CHIP, for each dataflow.

    No memory, no vector unit, no other arrays: for checks against other simulators. scalesim counts one
    fold after another, scalesim_printed one cycle less per layer as its report does, stonne (output
    stationary only) what each fold uses, ideal no fill and no drain. Ours follows the chip's file: folds
    overlap if it says pipelined, and sums are shifted out.
    """
    loaded = api.load_chip(chip)
    rows = cycle_rows(
        api.load_workload(workload).adjusted(batch=batch),
        api.load_recipe(recipe or loaded.recipe),
        loaded,
        convention,
        [phase] if phase else PHASES,
    )
    if as_json:
        click.echo(json.dumps([_json(row) for row in rows], indent=1))
        return
    known = list(rows[0].theirs)
    header = ["layer", "phase", "M", "K", "N", "groups"]
    header += [f"{convention} {_SHORT[name]}" for name in known] + [
        f"ours {_SHORT[name]}" for name in rows[0].ours
    ]
    strong = [index for index, row in enumerate(rows) if not row.layer]
    table = [_cells(row) for row in rows]
    print_table([*header, "best"], table, right=range(2, len(header)), strong=strong)


def _cells(row: CycleRow) -> list[str]:
    sizes = [f"{size:,}" if row.layer else "" for size in (row.m, row.k, row.n, row.groups)]
    counts = [f"{count:,}" for count in (*row.theirs.values(), *row.ours.values())]
    theirs, ours = row.best
    best = _SHORT[theirs] if theirs == ours else f"{_SHORT[theirs]}, ours {_SHORT[ours]}"
    return [row.layer or "all layers", row.phase, *sizes, *counts, best]


def _json(row: CycleRow) -> dict[str, Any]:
    return {
        "layer": row.layer,
        "phase": row.phase,
        **{key: getattr(row, key) for key in ("m", "k", "n", "groups")},
        "convention_cycles": row.theirs,
        "our_cycles": row.ours,
    }
