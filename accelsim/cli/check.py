"""``accelsim check``: are these chip, workload, recipe, number format and grid files right?"""

from __future__ import annotations

import json
import os
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from accelsim.cli.options import json_option, quiet_option
from accelsim.errors import InputError
from accelsim.yamlfile import read_yaml

EXAMPLES = """\b
Examples:
  accelsim check my_chip.yaml
  accelsim check arch_configs/*.yaml workloads/*.yaml
  accelsim check my_chip.yaml --json
"""

# Kind -> (module, loader); imported when a file of that kind is checked.
_LOADERS = {
    "chip": ("accelsim.chip", "load_chip"),
    "workload": ("accelsim.workload", "load_workload"),
    "recipe": ("accelsim.recipe", "load_recipe"),
    "format": ("accelsim.numerics.formats", "load_format"),
    "grid": ("accelsim.cost", "load_grid"),
    "sheet": ("accelsim.validation", "load_sheet"),
}
# Keys that only a file of that kind has at its top.
MARKS = {
    "chip": {"array", "cores", "corelets", "clock_mhz", "scratchpad", "dram", "vector_unit"},
    "workload": {"data", "network", "blocks", "epochs", "batch", "optimizer", "learning_rate"},
    "recipe": {"weight", "activation", "gradient", "high_precision", "storage", "master"},
    "format": {"bits", "kind", "exponent_bits", "fraction_bits", "radix", "bias", "signed"},
    "grid": {"carbon_g_per_kwh", "price_per_kwh", "currency", "pue"},
    "sheet": {"row", "figures", "calibrations"},
}


@click.command("check", epilog=EXAMPLES)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=click.Path(path_type=Path))
@json_option
@quiet_option
@click.pass_context
def command(context: click.Context, files: tuple[Path, ...], as_json: bool, quiet: bool) -> None:
    """Check chip, workload, recipe, number format and grid files; the kind is seen from their keys.

    Each mistake is one line with file, line, column, key, value and what is allowed. Exit code 2 when a
    file has a mistake.
    """
    results = [_check(path) for path in files]
    if as_json:
        click.echo(json.dumps(results, indent=1))
    for result in results:
        if result["error"]:
            click.echo(f"error: {result['error']}", err=True)
        elif not quiet and not as_json:
            click.echo(f"{result['file']}: {result['kind']} '{result['name']}' is right")
    context.exit(2 if any(result["error"] for result in results) else 0)


def _check(path: Path) -> dict[str, Any]:
    kind = None
    try:
        kind = _kind_of(path)
        loaded = _load(kind, path)
    except InputError as error:
        return {"file": str(path), "kind": kind, "name": None, "error": str(error)}
    return {"file": str(path), "kind": kind, "name": loaded.name, "error": None}


def _load(kind: str, path: Path) -> Any:
    module, loader = _LOADERS[kind]
    # With a separator in front, a file without an ending is not taken for a shipped name.
    return getattr(import_module(module), loader)(os.path.join(os.curdir, path))


def _kind_of(path: Path) -> str:
    keys = set(read_yaml(path).data)
    shared = {kind: len(keys & marks) for kind, marks in MARKS.items()}
    kind = max(shared, key=lambda each: shared[each])
    if not shared[kind]:
        hints = "; ".join(f"a {each} has {', '.join(sorted(marks))}" for each, marks in MARKS.items())
        raise InputError(f"neither a chip, a workload nor a recipe: {hints}", str(path))
    return kind
