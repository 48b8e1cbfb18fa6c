"""What pydantic cannot see: formats that do not exist, and scale rules that do not go with their formats."""

from __future__ import annotations

from collections.abc import Iterator

from accelsim.errors import InputError
from accelsim.numerics.block_formats import block_format_names
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.recipe.rules import ActivationRule, GradientRule, WeightRule
from accelsim.recipe.schema import Recipe

Path = tuple[str | int, ...]
Fault = tuple[Path, str]

_MOST_BITS_SCALED = 8  # wider formats are cast: their range needs no scale


def recipe_faults(recipe: Recipe) -> Iterator[Fault]:
    """Mistakes as (key path, what is wrong), in the order of the keys."""
    yield from _storage_faults(recipe)
    yield from _rule_faults((), recipe.weight, recipe.activation, recipe.gradient)
    for index, one in enumerate(recipe.overrides):
        yield from _rule_faults(("overrides", index), one.weight, one.activation, one.gradient)


def _storage_faults(recipe: Recipe) -> Iterator[Fault]:
    names: dict[Path, str] = {("storage",): recipe.storage, ("master",): recipe.master}
    names["high_precision", "format"] = recipe.high_precision.format
    for path, name in names.items():
        yield from _name_faults(path, name)


def _rule_faults(
    base: Path, weight: WeightRule | None, activation: ActivationRule | None, gradient: GradientRule | None
) -> Iterator[Fault]:
    if weight is not None:
        yield from _weight_faults((*base, "weight"), weight)
    if activation is not None:
        yield from _activation_faults((*base, "activation"), activation)
    if gradient is not None:
        yield from _gradient_faults((*base, "gradient"), gradient)


def _name_faults(path: Path, name: str) -> Iterator[Fault]:
    if name in block_format_names():
        return
    try:
        number_format(name)
    except InputError as error:
        yield path, str(error)


def _scale_faults(
    path: Path, rule: WeightRule | ActivationRule | GradientRule, key: str, name: str, trained: str
) -> Iterator[Fault]:
    """Faults of rules that all roles share; ``trained`` is the role's own rule, for integers."""
    scale, rounding = rule.scale, rule.rounding
    if name in block_format_names():
        if scale != "block":
            yield path, f"'{scale}' is for single numbers, but {key} is {name}; {name} needs 'block'"
        if rounding not in ("format", "nearest_even", "stochastic"):
            message = f"block formats round to even or stochastically, got '{rounding}'"
            yield (*path[:-1], "rounding"), message
        return
    fmt = number_format(name)
    if scale == "block":
        yield path, f"'block' needs a block format, but {key} is {name}"
    if scale == "cast" and fmt.kind == "integer":
        message = f"'cast' does not scale, but {key} is {name}; {name} needs '{trained}'"
        yield path, message
    if scale in ("max", "max_power") and fmt.bits > _MOST_BITS_SCALED:
        yield path, f"'{scale}' needs a format of at most {_MOST_BITS_SCALED} bits, but {key} is {name}"


def _weight_faults(path: Path, rule: WeightRule) -> Iterator[Fault]:
    yield from (missing := list(_name_faults((*path, "format"), rule.format)))
    if missing:
        return
    blocked = rule.format in block_format_names()
    if rule.square and not blocked:
        yield (*path, "square"), f"needs a block format, but the format is {rule.format}"
    fmt = None if blocked else number_format(rule.format)
    if rule.scale == "sawb" and not _is_signed_integer(fmt):
        yield (*path, "scale"), f"'sawb' needs int2, int4 or int8, but the format is {rule.format}"
        return
    yield from _scale_faults((*path, "scale"), rule, "the format", rule.format, "sawb")


def _is_signed_integer(fmt: NumberFormat | None) -> bool:
    return fmt is not None and fmt.kind == "integer" and fmt.signed and fmt.bits in (2, 4, 8)


def _activation_faults(path: Path, rule: ActivationRule) -> Iterator[Fault]:
    keys = ("unsigned_format", "signed_format")
    names = {key: str(getattr(rule, key)) for key in keys}
    yield from (
        missing := [fault for key, name in names.items() for fault in _name_faults((*path, key), name)]
    )
    if missing:
        return
    for key, name in names.items():
        plain = name not in block_format_names()
        integer = plain and number_format(name).kind == "integer"
        if rule.scale in ("pact", "pact_rms", "rms") and not integer:
            yield (*path, "scale"), f"'{rule.scale}' needs an integer format, but {key} is {name}"
        yield from _scale_faults((*path, "scale"), rule, key, name, "pact")
    signed = names["signed_format"]
    if signed not in block_format_names() and not number_format(signed).signed:
        yield (*path, "signed_format"), f"must be signed, got {signed}"


def _gradient_faults(path: Path, rule: GradientRule) -> Iterator[Fault]:
    names = {key: str(getattr(rule, key)) for key in ("input_format", "weight_format")}
    yield from (
        missing := [fault for key, name in names.items() for fault in _name_faults((*path, key), name)]
    )
    if missing:
        return
    for key, name in names.items():
        yield from _scale_faults((*path, "scale"), rule, key, name, "max")
        if name not in block_format_names():
            yield from _gradient_format_faults(path, rule, key, number_format(name))
        if rule.hadamard and name not in block_format_names():
            yield (*path, "hadamard"), f"needs block formats, but {key} is {name}"
    yield from _sample_faults((*path, "samples"), rule)


def _sample_faults(path: Path, rule: GradientRule) -> Iterator[Fault]:
    if rule.samples == 1:
        return
    if rule.rounding != "stochastic":
        yield path, f"{rule.samples} equal roundings: needs 'rounding: stochastic'"
    if rule.scale == "gradscale" or rule.weight_format in block_format_names():
        what = f"{rule.weight_format} by '{rule.scale}'"
        yield path, f"must be 1 for {what}; only single numbers by 'cast', 'max' or 'max_power' are averaged"


def _gradient_format_faults(path: Path, rule: GradientRule, key: str, fmt: NumberFormat) -> Iterator[Fault]:
    if fmt.kind == "integer" and rule.scale == "gradscale":
        yield (*path, key), f"'gradscale' needs a floating-point format, got {fmt}"
    if not fmt.signed:
        yield (*path, key), f"must be signed, got {fmt}"
    if fmt.radix != 4 and rule.threshold != 1.6:
        yield (*path, "threshold"), f"is for radix 4, but {key} is {fmt}"
    if fmt.radix != 4 and rule.ties != "up":
        yield (*path, "ties"), f"is for radix 4, but {key} is {fmt}; 'rounding' says how others round"
