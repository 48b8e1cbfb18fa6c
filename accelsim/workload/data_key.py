"""The key ``data`` of a workload file: a name, a path or a mapping, to a `DataSource`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from accelsim.errors import InputError, nearest
from accelsim.workload.datasets import BundledData, DataSource, NpzData, ShapeOnly, dataset_names
from accelsim.workload.expansion import shown
from accelsim.yamlfile import YamlDocument, parse, position_of

_KINDS: dict[str, type[DataSource]] = {"shape": ShapeOnly}
"""What a mapping may describe, by the key that tells it from the others."""


def read_source(document: YamlDocument, written: str | dict[str, Any]) -> DataSource:
    """Where the data comes from. Raises `InputError` at the mistake in the file."""
    where = position_of(document, ("data",))
    if isinstance(written, dict):
        return _described(document, written, where)
    if written.endswith(".npz"):
        return NpzData(path=_existing(document.path.parent / written, where))
    if written not in dataset_names():
        allowed = ", ".join(dataset_names())
        hint = nearest(written, dataset_names())
        message = f"unknown data set {shown(written)}{hint}; allowed: {allowed}, or the path of an .npz file"
        raise InputError(f"data: {message}", where)
    return BundledData(name=written)


def _described(document: YamlDocument, written: dict[str, Any], where: str) -> DataSource:
    """A source from the mapping that describes it."""
    kinds = [kind for kind in _KINDS if kind in written]
    if len(kinds) != 1:
        raise InputError(f"data: must have one of the keys {', '.join(_KINDS)}, got {shown(written)}", where)
    try:
        return parse(_KINDS[kinds[0]], _part(document, written))
    except InputError as error:
        raise InputError(f"data: {error.message}", error.where) from None


def _part(document: YamlDocument, written: dict[str, Any]) -> YamlDocument:
    """The mapping as a document of its own, with its places in the file."""
    positions = {path[1:]: place for path, place in document.positions.items() if path[:1] == ("data",)}
    return YamlDocument(document.path, document.text, written, positions)


def _existing(path: Path, where: str) -> Path:
    """The absolute path of a data file; ``where`` is the place of the key that names it."""
    try:
        path = path.resolve()
        found = path.is_file()
    except (OSError, ValueError):  # too long, or characters no file name can hold
        found = False
    if not found:
        raise InputError(f"data: no such file: {str(path)!r}", where)
    return path
