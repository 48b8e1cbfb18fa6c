"""``accelsim check``: are these files right? Every kind that the program reads, and shipped ones by name."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from accelsim.chip import Chip
from accelsim.cli.options import json_option, quiet_option
from accelsim.errors import InputError, nearest
from accelsim.mapping import pairs_asked, pairs_taken
from accelsim.recipe import load_recipe
from accelsim.storage import ResourceKind, resource_dir, shipped
from accelsim.yamlfile import KeyPath, YamlDocument, key_text, position_of, read_yaml

EXAMPLES = """\b
Examples:
  accelsim check my_chip.yaml
  accelsim check fp4_training fashion_cnn ibm2020_fp4
  accelsim check arch_configs/*.yaml workloads/*.yaml
  accelsim check my_chip.yaml my_pins.yaml my_study.yaml reports/mine/record.json --json
"""

# Kind -> (module, loader); imported when a file of that kind is checked.
_LOADERS = {
    "chip": ("accelsim.chip", "load_chip"),
    "workload": ("accelsim.workload", "load_workload"),
    "recipe": ("accelsim.recipe", "load_recipe"),
    "format": ("accelsim.numerics.formats", "load_format"),
    "grid": ("accelsim.cost", "load_grid"),
    "sheet": ("accelsim.validation", "load_sheet"),
    "study": ("accelsim.run.study_plan", "load_study"),
    "pins": ("accelsim.mapping", "load_pins"),
}
# Schema -> the same, of records other than a run's.
_RECORDS = {
    "accelsim.probe/1": ("accelsim.record.probe", "read_probe"),
    "accelsim.study/1": ("accelsim.record.study", "read_row"),
    "accelsim.savings/1": ("accelsim.study.savings_record", "read_savings"),
}
# Keys that only a file of that kind has at its top.
MARKS = {
    "chip": {"array", "cores", "corelets", "clock_mhz", "scratchpad", "dram", "vector_unit"},
    "workload": {"data", "network", "blocks", "epochs", "batch", "optimizer", "learning_rate"},
    "recipe": {"weight", "activation", "gradient", "high_precision", "storage", "master"},
    "format": {"bits", "kind", "exponent_bits", "fraction_bits", "radix", "bias", "signed"},
    "grid": {"carbon_g_per_kwh", "price_per_kwh", "currency", "pue"},
    "sheet": {"row", "figures", "calibrations"},
    "study": {"baseline", "systems", "tasks", "runs"},
    "pins": {"mappings"},
}
_RESOURCES: dict[str, ResourceKind] = {
    "chip": "arch_configs",
    "workload": "workloads",
    "recipe": "recipes",
    "grid": "grids",
}


@click.command("check", epilog=EXAMPLES)
@click.argument("files", metavar="FILE...", nargs=-1, required=True)
@json_option
@quiet_option
@click.pass_context
def command(context: click.Context, files: tuple[str, ...], as_json: bool, quiet: bool) -> None:
    """Check files by what is in them: chips, workloads, recipes, number formats, grids, published
    measurements, study plans, pinned mappings, and records (.json). A word that is no file is the name of
    something shipped.

    Each mistake is one line with file, line, column, key, value and what is allowed; names of recipes, chips
    and workloads in a file are followed. Exit code 2 when there is a mistake.
    """
    results = [_check(each) for each in files]
    if as_json:
        click.echo(json.dumps(results, indent=1))
    for result in results:
        if result["error"]:
            click.echo(f"error: {result['error']}", err=True)
        elif not quiet and not as_json:
            note = f"; {result['note']}" if result["note"] else ""
            click.echo(f"{result['file']}: {result['kind']} '{result['name']}' is right{note}")
    context.exit(2 if any(result["error"] for result in results) else 0)


def _check(given: str) -> dict[str, Any]:
    kind, note = None, ""
    try:
        path, kind = _found(given)
        name, note = (_checked_record(path), "") if kind == "record" else _checked_yaml(kind, path)
    except InputError as error:
        return {"file": given, "kind": kind, "name": None, "note": "", "error": str(error)}
    return {"file": given, "kind": kind, "name": name, "note": note, "error": None}


def _found(given: str) -> tuple[Path, str]:
    """The file that is meant, and its kind: one of the user's before a shipped one of that name."""
    path = Path(given)
    is_name = os.sep not in given and not path.suffix
    if is_name and not os.path.lexists(path):
        return _shipped(given)
    return path, "record" if path.suffix == ".json" else _kind_of(path)


def _shipped(name: str) -> tuple[Path, str]:
    names = {kind: shipped(resource) for kind, resource in _RESOURCES.items()}
    for kind, known in names.items():
        if name in known:
            return resource_dir(_RESOURCES[kind]) / f"{name}.yaml", kind
    hint = nearest(name, (each for known in names.values() for each in known))
    raise InputError(f"neither a file here nor the name of something shipped{hint}; see accelsim list", name)


def _kind_of(path: Path) -> str:
    keys = set(read_yaml(path).data)
    shared = {kind: len(keys & marks) for kind, marks in MARKS.items()}
    kind = max(shared, key=lambda each: shared[each])
    if not shared[kind]:
        hints = "; ".join(f"a {each} has {', '.join(sorted(marks))}" for each, marks in MARKS.items())
        raise InputError(f"neither a chip, a workload nor a recipe: {hints}", str(path))
    return kind


def _checked_record(path: Path) -> str:
    from accelsim.record import read_record

    text = path.read_bytes() if path.is_file() else b""
    for mark, (module, reader) in _RECORDS.items():
        if f'"{mark}"'.encode() in text:
            getattr(import_module(module), reader)(path)
            return path.stem
    record = read_record(path)
    return f"{record.workload.name} on {record.chip.name}"


def _checked_yaml(kind: str, path: Path) -> tuple[str, str]:
    """The name in the file, and what else there is to say of it."""
    # With a separator in front, a file without an ending is not taken for a shipped name.
    loaded = _loader(kind)(os.path.join(os.curdir, path))
    document = read_yaml(path)
    for place, named, name in _names_in(kind, loaded):
        try:
            _loader(named)(name)
        except InputError as error:
            raise InputError(f"{key_text(place)}: {error}", position_of(document, place)) from None
    if kind == "chip":
        return loaded.name, _checked_pair(loaded, document)
    return path.stem if kind == "pins" else str(loaded.name), ""


def _checked_pair(chip: Chip, document: YamlDocument) -> str:
    """What of its own recipe the chip does not run; raises where it can neither train nor infer with it."""
    recipe = load_recipe(chip.recipe)
    asked = [(phase, pair) for phase, pairs in pairs_asked(recipe).items() for pair in pairs]
    refused = [(phase, pair) for phase, pair in asked if chip.array.mode_for(*pair) is None]
    if refused and refused == [(phase, pair) for phase, pair in asked if phase != "forward"]:
        return f"it runs the forward pass of its recipe '{recipe.name}' alone"
    if refused:
        phase, pair = refused[0]
        raise InputError(
            f"recipe: '{recipe.name}' multiplies {' x '.join(pair)} ({phase}), but no mode of the array "
            f"does; they take: {pairs_taken(chip)}",
            position_of(document, ("recipe",)),
        )
    held = chip.vector_unit.storage_format
    if recipe.storage == held:
        return ""
    stored = f"recipe '{recipe.name}' stores {recipe.storage}, its vector unit {held}"
    return f"it can be estimated, not run: {stored}"


def _loader(kind: str) -> Any:
    module, loader = _LOADERS[kind]
    return getattr(import_module(module), loader)


def _names_in(kind: str, loaded: Any) -> Iterator[tuple[KeyPath, str, str]]:
    """What a file names that stands in another: (its place, the other's kind, the name)."""
    if kind == "chip":
        yield ("recipe",), "recipe", loaded.recipe
    if kind == "study":
        for name, system in loaded.systems.items():
            yield ("systems", name, "chip"), "chip", system.chip
            if system.recipe is not None:
                yield ("systems", name, "recipe"), "recipe", system.recipe
        for name, task in loaded.tasks.items():
            yield ("tasks", name, "workload"), "workload", task.workload
