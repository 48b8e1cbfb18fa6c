"""YAML text to plain data, with the place of every key.

The language is the part of YAML 1.2 that configuration needs: mappings with text keys, lists and
plain scalars. ``1e3`` is a number (YAML 1.1 reads text), ``yes``, ``no``, ``on`` and ``12:30`` are
text (YAML 1.1 reads booleans and sexagesimals). Tags are refused, so no file can make an object.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from accelsim.errors import InputError

KeyPath = tuple[str | int, ...]

MAX_FILE_BYTES = 256 * 1024
MAX_DEPTH = 40
MAX_VALUES = 100_000
MAX_NUMBER_CHARACTERS = 40

_INTEGER = re.compile(r"[-+]?[0-9][0-9_]*")
_REAL = re.compile(r"[-+]?(\.[0-9]+|[0-9][0-9_]*(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_NOT_FINITE = re.compile(r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)")
_WORDS = {
    "": None,
    "~": None,
    **dict.fromkeys(("null", "Null", "NULL"), None),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}
_PLAIN_TAGS = {"tag:yaml.org,2002:str", "tag:yaml.org,2002:seq", "tag:yaml.org,2002:map"}
_SYNTAX_HINTS = {
    "'\\t'": "a tab cannot be used here: indent with spaces",
    "mapping values are not allowed": "a ':' is not allowed here: "
    "check the indentation and the line above, and quote text that contains ': '",
    "could not find expected ':'": "a ':' is missing after this key, or a quote is not closed",
    "expected <block end>": "this line does not fit the lines above: check the indentation",
    "expected ',' or '}'": "the '{' of line {line} is not closed, or a ',' or a quote is missing in it",
    "expected ',' or ']'": "the '[' of line {line} is not closed, or a ',' or a quote is missing in it",
    "another document": "a second document starts here ('---'): a file holds one",
}


@dataclass(frozen=True)
class YamlDocument:
    """One YAML file: ``data`` is its top-level mapping, ``text`` what the file says word for word.

    ``positions`` gives (line, column), counted from 1, of the key of each value in a mapping and of
    each item in a list, by key path; ``()`` is the first key of the file.
    """

    path: Path
    text: str
    data: dict[str, Any]
    positions: dict[KeyPath, tuple[int, int]]


def key_text(path: Sequence[str | int]) -> str:
    """A key path as a person writes it: ``array.modes[0].lanes``."""
    parts = (f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return "".join(parts).removeprefix(".")


def position_of(document: YamlDocument, key_path: Sequence[str | int]) -> str:
    """``file:line:column`` of a key; of the nearest enclosing key if the file does not have it."""
    path = tuple(key_path)
    while path and path not in document.positions:
        path = path[:-1]
    line, column = document.positions[path]
    return f"{document.path}:{line}:{column}"


def read_yaml(path: str | Path) -> YamlDocument:
    """Read a YAML file whose top level is a mapping.

    Raises `InputError` (one line, with file, line and column where there is one) for a file that
    cannot be read, is too large, is not UTF-8 text, is not valid YAML, repeats a key, or is empty.
    """
    path = Path(path)
    return document_of(path, _read_text(path))


def document_of(path: Path, text: str) -> YamlDocument:
    """What `read_yaml` makes of a file at ``path`` that says ``text``."""
    root = composed(path, text)
    if root is None or (isinstance(root, yaml.ScalarNode) and not root.value):
        raise InputError("the file is empty", f"{path}:1:1")
    reader = _Reader(path)
    if not isinstance(root, yaml.MappingNode):
        raise reader.error(root, f"the top level must be a mapping (key: value), got {_node_kind(root)}")
    reader.positions[()] = reader.place(root)
    data = reader.mapping(root, ())
    return YamlDocument(path, text, data, reader.positions)


def read_yaml_list(path: str | Path, key: str) -> YamlDocument:
    """Read a YAML file whose top level may also be a list, which then stands under ``key``.

    Raises `InputError` as `read_yaml` does.
    """
    path = Path(path)
    text = _read_text(path)
    root = composed(path, text)
    if not isinstance(root, yaml.SequenceNode):
        return read_yaml(path)
    reader = _Reader(path)
    reader.positions[()] = reader.positions[(key,)] = reader.place(root)
    return YamlDocument(path, text, {key: reader.sequence(root, (key,))}, reader.positions)


def _read_text(path: Path) -> str:
    if os.path.isdir(path):
        raise InputError("this is a directory; a YAML file is wanted", str(path))
    try:
        with open(path, "rb") as file:
            raw = file.read(MAX_FILE_BYTES + 1)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise InputError(f"cannot read the file: {reason}", str(path)) from None
    if len(raw) > MAX_FILE_BYTES:
        raise InputError(f"the file is larger than {MAX_FILE_BYTES // 1024} KiB", str(path))
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        column = error.start - raw.rfind(b"\n", 0, error.start)
        where = f"{path}:{line}:{column}"
        raise InputError(f"not a text file: byte 0x{raw[error.start]:02x} is not UTF-8", where) from None


def composed(path: Path, text: str) -> yaml.Node | None:
    """The nodes of a YAML text, each with its place; raises `InputError` where it is not valid."""
    try:
        return yaml.compose(text, Loader=yaml.BaseLoader)
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(path, error) from None
    except yaml.reader.ReaderError as error:
        # The reader counts from the start of the text and keeps no line of its own.
        line = text.count("\n", 0, error.position) + 1
        column = error.position - text.rfind("\n", 0, error.position)
        message = f"not a text file: it contains the control character U+{error.character:04X}"
        raise InputError(message, f"{path}:{line}:{column}") from None
    except RecursionError:
        raise InputError(f"nested deeper than {MAX_DEPTH} levels", f"{path}:1:1") from None


def _syntax_error(path: Path, error: yaml.MarkedYAMLError) -> InputError:
    problem = " ".join((error.problem or "unreadable").split())
    context = f" ({' '.join(error.context.split())})" if error.context else ""
    mark = error.problem_mark or error.context_mark
    start = (error.context_mark or mark).line + 1 if mark else 1
    hints = [hint.replace("{line}", str(start)) for part, hint in _SYNTAX_HINTS.items() if part in problem]
    where = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
    return InputError(f"not valid YAML: {hints[0] if hints else problem + context}", where)


def _node_kind(node: yaml.Node) -> str:
    if isinstance(node, yaml.ScalarNode):
        return repr(node.value[:40])
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


@dataclass
class _Reader:
    """Turns nodes into data and notes where each key stands."""

    path: Path
    positions: dict[KeyPath, tuple[int, int]] = field(default_factory=dict)

    @staticmethod
    def place(node: yaml.Node) -> tuple[int, int]:
        return node.start_mark.line + 1, node.start_mark.column + 1

    def error(self, node: yaml.Node, message: str) -> InputError:
        line, column = self.place(node)
        return InputError(message, f"{self.path}:{line}:{column}")

    def fault(self, path: KeyPath, message: str) -> InputError:
        line, column = self.positions[path]
        return InputError(f"{key_text(path)}: {message}", f"{self.path}:{line}:{column}")

    def value(self, node: yaml.Node, path: KeyPath) -> Any:
        # An alias (*name) may point at its own parent or multiply; depth and number bound both.
        if len(path) > MAX_DEPTH:
            raise self.error(node, f"nested deeper than {MAX_DEPTH} levels")
        if len(self.positions) > MAX_VALUES:
            raise self.error(node, f"more than {MAX_VALUES} values after its aliases are written out")
        if node.tag not in _PLAIN_TAGS:
            tag = node.tag.replace("tag:yaml.org,2002:", "!!")
            raise self.fault(path, f"the tag '{tag}' is not allowed: remove it")
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, path)
        if isinstance(node, yaml.ScalarNode):
            return self.scalar(node, path)
        return self.sequence(node, path)

    def mapping(self, node: yaml.MappingNode, path: KeyPath) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                raise self.error(key_node, f"a key must be text, got {_node_kind(key_node)}")
            if not key_node.value.isprintable():
                raise self.error(
                    key_node, f"a key must be printable text on one line, got {key_node.value!r}"
                )
            if key_node.value == "<<":
                raise self.error(key_node, "merge keys ('<<') are not supported: write the keys out")
            inner = (*path, key_node.value)
            if key_node.value in data:
                message = f"duplicate key '{key_text(inner)}'; first given on line {self.positions[inner][0]}"
                raise self.error(key_node, message)
            self.positions[inner] = self.place(key_node)
            data[key_node.value] = self.value(value_node, inner)
        return data

    def sequence(self, node: yaml.Node, path: KeyPath) -> list[Any]:
        items: list[Any] = []
        for index, item in enumerate(node.value):
            self.positions[(*path, index)] = self.place(item)
            items.append(self.value(item, (*path, index)))
        return items

    def scalar(self, node: yaml.ScalarNode, path: KeyPath) -> Any:
        text: str = node.value
        if node.style is not None:
            return text
        if text in _WORDS:
            return _WORDS[text]
        if _NOT_FINITE.fullmatch(text):
            raise self.fault(path, f"must be a finite number, got {text}")
        if not _REAL.fullmatch(text):
            return text
        digits = text.replace("_", "")
        if len(digits) > MAX_NUMBER_CHARACTERS or not math.isfinite(float(digits)):
            raise self.fault(path, f"must be a number of sensible size, got {text[:40]}")
        return int(digits) if _INTEGER.fullmatch(text) else float(digits)
