"""What a model's annotations want, asked by the keys of a document."""

from __future__ import annotations

import types
import typing
from collections.abc import Sequence
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel

_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", dict: "a mapping"}


def members(annotation: Any) -> list[Any]:
    """The types an annotation lets a value be, ``None`` and ``Annotated`` wrappers left out."""
    if get_origin(annotation) is Annotated:
        return members(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        args = [arg for arg in get_args(annotation) if arg is not type(None)]
        return [member for arg in args for member in members(arg)]
    return [annotation]


def branch(choices: Sequence[Any], label: str) -> Any:
    """The member of a union that pydantic calls ``label``: a tag, a model's name or a type's name."""
    for choice in choices:
        if _is_model(choice) and (choice.__name__ == label or label in _tags(choice)):
            return choice
    for choice in choices:
        name = getattr(get_origin(choice) or choice, "__name__", "")
        if name and label.lower().startswith(name.lower()):
            return choice
    return Any


def inside(annotation: Any, part: str | int) -> Any:
    """The annotation of one key or item of a value."""
    if _is_model(annotation):
        found = annotation.model_fields.get(str(part))
        if found is None:
            found = next((f for f in annotation.model_fields.values() if f.alias == part), None)
        return found.annotation if found else Any
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is dict:
        return args[1]
    if origin is tuple and Ellipsis not in args:
        return args[part] if isinstance(part, int) and part < len(args) else Any
    return args[0] if args else Any


def keys_of(annotation: Any) -> dict[str, str]:
    """Keys of a mapping that a model describes, each with its description (or an empty text)."""
    if not _is_model(annotation):
        return {}
    return {f.alias or name: f.description or "" for name, f in annotation.model_fields.items()}


def wanted(annotation: Any) -> str:
    """An annotation in words: ``a whole number``, ``a mapping with the keys value, source``."""
    return " or ".join(dict.fromkeys(_word(member) for member in members(annotation)))


def _word(member: Any) -> str:
    if member in _WORDS:
        return _WORDS[member]
    origin = get_origin(member)
    if origin is Literal:
        values = get_args(member)
        listed = ", ".join(str(value) for value in values)
        return f"one of {listed}" if len(values) > 1 else f"'{listed}'"
    if origin is dict:
        return _WORDS[dict]
    if _is_model(member):
        return f"a mapping with the keys {', '.join(keys_of(member))}"
    if origin is tuple and Ellipsis not in get_args(member):
        return f"a list of {len(get_args(member))} items"
    if origin in (list, tuple, set, frozenset):
        return f"a list (each item {wanted(get_args(member)[0])})"
    return "a value of another kind"


def _is_model(annotation: Any) -> typing.TypeGuard[type[BaseModel]]:
    return isinstance(annotation, type) and issubclass(annotation, BaseModel)


def _tags(model: type[BaseModel]) -> set[Any]:
    """Values of the model's one-word literal fields, which is how a union tells its members apart."""
    literals = (f.annotation for f in model.model_fields.values() if get_origin(f.annotation) is Literal)
    return {value for literal in literals for value in get_args(literal)}
