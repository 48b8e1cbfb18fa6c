"""One plain line for pydantic's list of errors: the first mistake, where it stands, what is allowed."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from accelsim.errors import InputError, nearest
from accelsim.yamlfile.reading import KeyPath, YamlDocument, key_text, position_of
from accelsim.yamlfile.shapes import branch, inside, keys_of, members, wanted
from accelsim.yamlfile.units import same_but_for_unit, split_unit

_BOUNDS = {
    "greater_than_equal": ("ge", "at least"),
    "greater_than": ("gt", "above"),
    "less_than_equal": ("le", "at most"),
    "less_than": ("lt", "below"),
    "multiple_of": ("multiple_of", "a multiple of"),
}
_LENGTHS = {
    "too_short": "must have at least {min_length} item(s), got {actual_length}",
    "too_long": "must have at most {max_length} items, got {actual_length}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "string_pattern_mismatch": "must match {pattern}",
}


@dataclass(frozen=True)
class _Fault:
    """One of pydantic's errors, in the words of the document.

    ``kind`` is pydantic's error type, ``annotation`` what the model wants at ``path``;
    ``union`` is the path of the innermost choice between types above it, if there is one.
    """

    path: KeyPath
    kind: str
    annotation: Any
    value: Any
    context: Mapping[str, Any]
    text: str
    union: KeyPath | None
    union_annotation: Any
    label: str


def explain(model: type[BaseModel], errors: Sequence[Any], document: YamlDocument) -> InputError:
    """The first mistake in the file: misspelt keys first, missing keys last."""
    faults = _settle_unions([_fault(model, error) for error in errors])
    # A list whose items are wrong also counts as too short: the items say what is wrong.
    inner = {fault.path[:length] for fault in faults for length in range(len(fault.path))}
    faults = [fault for fault in faults if not (fault.kind == "too_short" and fault.path in inner)]
    ranks = {"extra_forbidden": 0, "missing": 2}

    def order(fault: _Fault) -> tuple[int, tuple[int, int]]:
        return ranks.get(fault.kind, 1), document.positions.get(fault.path, (0, 0))

    first = min(faults, key=order)
    return InputError(_sentence(model, first), position_of(document, first.path))


def _fault(model: type[BaseModel], error: Mapping[str, Any]) -> _Fault:
    """Walk the model along pydantic's location, dropping the names of union branches from it."""
    path: KeyPath = ()
    annotation: Any = model
    union, union_annotation, label = None, None, ""
    for part in error["loc"]:
        choices = members(annotation)
        if part == "[key]":
            continue
        if len(choices) > 1:
            union, union_annotation, label = path, annotation, str(part)
            annotation = branch(choices, label)
        else:
            path = (*path, part)
            annotation = inside(choices[0], part)
    context = error.get("ctx") or {}
    return _Fault(
        path, error["type"], annotation, error["input"], context, error["msg"], union, union_annotation, label
    )


def _settle_unions(faults: list[_Fault]) -> list[_Fault]:
    """Where a value fits none of several types: keep the branch that got furthest, or join them."""
    settled = [fault for fault in faults if fault.union is None]
    for place in dict.fromkeys(fault.union for fault in faults if fault.union is not None):
        group = [fault for fault in faults if fault.union == place]
        if len({fault.label for fault in group}) > 1:
            group = [_furthest(group)]
        settled += group
    return settled


def _furthest(group: list[_Fault]) -> _Fault:
    best = max(group, key=lambda fault: (len(fault.path), not _is_type_error(fault.kind)))
    if _is_type_error(best.kind) and best.path == best.union:
        return _Fault(
            best.path, "union_type", best.union_annotation, best.value, {}, best.text, None, None, ""
        )
    return best


def _is_type_error(kind: str) -> bool:
    return kind.endswith(("_type", "_from_float", "_parsing", "literal_error"))


def _sentence(model: type[BaseModel], fault: _Fault) -> str:
    if fault.kind == "extra_forbidden":
        return _unknown_key(model, fault)
    if fault.kind == "missing":
        return _missing_key(model, fault)
    prefix = f"{key_text(fault.path)}: " if fault.path else ""
    return " ".join(f"{prefix}{_complaint(fault)}".split())


def _owner_keys(model: type[BaseModel], path: KeyPath, fault: _Fault) -> dict[str, str]:
    """Keys (with their descriptions) of the mapping that holds the last key of ``path``."""
    annotation: Any = model
    for part in path[:-1]:
        annotation = inside(members(annotation)[0], part) if len(members(annotation)) == 1 else None
        if annotation is None:
            break
    if fault.union is not None and fault.union == path[:-1]:
        annotation = branch(members(fault.union_annotation), fault.label)
    return keys_of(annotation)


def _unknown_key(model: type[BaseModel], fault: _Fault) -> str:
    *parent, key = fault.path
    allowed = _owner_keys(model, fault.path, fault)
    start = f"unknown key '{key}'" + (f" in {key_text(parent)}" if parent else "")
    twin = same_but_for_unit(str(key), allowed)
    if twin:
        return f"{start}: give this value in {split_unit(twin)[1]}, as '{twin}'"
    if not allowed:
        return start
    return f"{start}{nearest(str(key), allowed)}; allowed: {', '.join(allowed)}"


def _missing_key(model: type[BaseModel], fault: _Fault) -> str:
    *parent, key = fault.path
    prefix = f"{key_text(parent)}: " if parent else ""
    if isinstance(key, int):
        return f"{prefix}too few items: item {key + 1} is missing"
    keys = _owner_keys(model, fault.path, fault)
    meaning = f" ({keys[key]})" if keys.get(key) else ""
    return f"{prefix}missing key '{key}'{meaning}"


def _plain(bound: float) -> str:
    """A whole number in full: 1048576, not 1.04858e+06."""
    return str(int(bound)) if 1e6 <= abs(bound) < 1e15 and bound == int(bound) else f"{bound:g}"


def _complaint(fault: _Fault) -> str:
    got = _got(fault.value)
    if fault.kind in _BOUNDS:
        name, words = _BOUNDS[fault.kind]
        return f"must be {words} {_plain(fault.context[name])}, got {got}"
    if fault.kind == "too_long" and "list of" in wanted(fault.annotation):
        return f"must be {wanted(fault.annotation)}, got {fault.context['actual_length']}"
    if fault.kind in _LENGTHS:
        given = f", got {got}" if isinstance(fault.value, str) and fault.value.strip() else ""
        return f"{_LENGTHS[fault.kind].format(**fault.context)}{given}"
    if fault.kind in ("value_error", "assertion_error"):
        return str(fault.context["error"])
    if fault.kind == "union_tag_not_found":
        return f"missing key {fault.context['discriminator']}"
    if fault.kind == "union_tag_invalid":
        names = re.findall(r"'([^']*)'", fault.context["expected_tags"])
        what, tag = fault.context["discriminator"], fault.context["tag"]
        return f"unknown {what} {tag!r}{nearest(tag, names)}; allowed: {', '.join(names)}"
    if fault.kind == "literal_error" and isinstance(fault.value, str):
        names = re.findall(r"'([^']*)'", fault.context["expected"])
        return f"must be {wanted(fault.annotation)}, got {got}{nearest(fault.value, names)}"
    if _is_type_error(fault.kind):
        return f"must be {wanted(fault.annotation)}, got {got}{_type_hint(fault)}"
    return f"{fault.text[:1].lower()}{fault.text[1:]}, got {got}"


def _type_hint(fault: _Fault) -> str:
    """What to do about a value of the wrong kind, where there is an obvious thing to do."""
    want = wanted(fault.annotation)
    if want == "text" and isinstance(fault.value, bool | int | float):
        return "; put it in quotes"
    if want == "a whole number" and isinstance(fault.value, float) and fault.value.is_integer():
        return f"; write {int(fault.value)}"
    return _number_hint(fault) if isinstance(fault.value, str) and want.endswith("number") else ""


def _number_hint(fault: _Fault) -> str:
    if re.fullmatch(r"[-+]?[0-9.]+([eE][-+]?[0-9]+)?", fault.value):
        return "; remove the quotes"
    units = [split_unit(str(part))[1] for part in fault.path[-2:]]
    unit = next((unit for unit in reversed(units) if unit), "")
    return f"; write the number alone, in {unit}" if unit else ""


def _got(value: Any) -> str:
    """A value as the file shows it, short and on one line."""
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, dict):
        return "a mapping"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, str):
        return repr(value if len(value) <= 40 else value[:37] + "...")
    return repr(value)
