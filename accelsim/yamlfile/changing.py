"""A YAML file with some of its values replaced: still a text that can be read, kept and hashed."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from accelsim.errors import InputError, nearest
from accelsim.yamlfile.reading import KeyPath, YamlDocument, composed, document_of, key_text, position_of

Change = str | int | float | bool | list[str] | None
"""What a value may be replaced by."""


def change_of(text: str) -> tuple[str, Change]:
    """Key and value of ``KEY=VALUE``; the value is YAML. Raises `InputError` for a text that is no such."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InputError(f"must be KEY=VALUE (array.accumulator=fp16), got {text[:60]!r}")
    try:
        return key, document_of(Path(key), f"value: {value}").data["value"]
    except InputError as error:  # its place is none in a file that the user has
        place, message = key, error.message
        if message.startswith("value"):
            place, message = key + message[len("value") : message.index(": ")], message.split(": ", 1)[1]
        raise InputError(f"{place}: {message}") from None


def changed(document: YamlDocument, changes: Mapping[str, Change]) -> YamlDocument:
    """``document`` as if its file said something else at the keys of ``changes``.

    Keys are written as in messages (``array.modes[0].lanes``); single values and lists in brackets can be
    replaced, and a key can be added to keys that are there. Comments stay, also where they speak of the old
    value.

    Raises
    ------
    InputError: a key in a place that the file does not have (the nearest is named), or with keys of its own.
    """
    for key, value in changes.items():
        known = {key_text(path): path for path in document.positions if path}
        if key not in known:
            document = _with_key(document, known, key, value)
            continue
        node = _node(document, known[key])
        if node.end_mark.line != node.start_mark.line or node.end_mark.index == node.start_mark.index:
            where = position_of(document, known[key])
            inner = (
                [key_text((*known[key], k.value)) for k, _ in node.value]
                if isinstance(node, yaml.MappingNode)
                else []
            )
            hint = f"; it has {', '.join(inner)}" if inner else ""
            raise InputError(f"{key}: only a value on one line can be replaced by another{hint}", where)
        text = document.text[: node.start_mark.index] + one_line(value) + document.text[node.end_mark.index :]
        document = document_of(document.path, text)
    return document


def _with_key(document: YamlDocument, known: Mapping[str, KeyPath], key: str, value: Change) -> YamlDocument:
    """``document`` with one more key, the first of its parent's."""
    parent, dot, last = key.rpartition(".")
    node = _node(document, known[parent] if dot else ()) if parent in known or not dot else None
    if not isinstance(node, yaml.MappingNode) or not node.value or not last.isidentifier():
        raise InputError(f"there is no key {key[:60]!r} to change{nearest(key, known)}", str(document.path))
    first = node.value[0][0].start_mark
    apart = ", " if node.flow_style else "\n" + " " * first.column
    text = f"{document.text[: first.index]}{last}: {one_line(value)}{apart}{document.text[first.index :]}"
    return document_of(document.path, text)


def with_values(document: YamlDocument, changes: Mapping[str, Change]) -> YamlDocument:
    """`changed` without a new text: the data alone say something else. For keys that `changed` has taken."""
    paths = {key_text(path): path for path in document.positions if path}
    data: Any = deepcopy(document.data)
    for key, value in changes.items():
        *parents, last = paths[key]
        part = data
        for name in parents:
            part = part[name]
        part[last] = value
    return replace(document, data=data)


def _node(document: YamlDocument, path: KeyPath) -> yaml.Node:
    """The value at ``path``, which the document has."""
    node = composed(document.path, document.text)
    for part in path:
        if isinstance(node, yaml.SequenceNode):
            node = node.value[part]
        else:
            node = next(value for key, value in node.value if key.value == part)  # type: ignore[union-attr]
    return node  # type: ignore[return-value]


def one_line(value: Change) -> str:
    """``value`` in YAML, on one line."""
    text: str = yaml.safe_dump(value, default_flow_style=True, width=10_000)
    return text.removesuffix("...\n").strip()
