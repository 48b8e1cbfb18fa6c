"""The key ``data`` of a workload file: a name, a path or a mapping, to a `DataSource`."""

from __future__ import annotations

from typing import Any

from accelsim.errors import InputError, nearest
from accelsim.workload.datasets import DATA_KINDS, DataSource, data_source, dataset_names
from accelsim.workload.expansion import shown
from accelsim.yamlfile import YamlDocument, parse, position_of


def read_source(document: YamlDocument, written: str | dict[str, Any]) -> DataSource:
    """Where the data comes from. Raises `InputError` at the mistake in the file."""
    where = position_of(document, ("data",))
    try:
        source = _described(document, written) if isinstance(written, dict) else _named(written)
        return source.placed(document.path.parent)
    except InputError as error:
        raise InputError(f"data: {error.message}", error.where or where) from None


def _named(written: str) -> DataSource:
    """A bundled data set, or an ``.npz`` file."""
    if written.endswith(".npz") or written in dataset_names():
        return data_source(written)
    allowed = ", ".join(dataset_names())
    hint = nearest(written, dataset_names())
    others = f"the path of an .npz file, or a mapping with {', '.join(DATA_KINDS)}"
    raise InputError(f"unknown data set {shown(written)}{hint}; allowed: {allowed}, {others}")


def _described(document: YamlDocument, written: dict[str, Any]) -> DataSource:
    """A source from the mapping that describes it."""
    kinds = [kind for kind in DATA_KINDS if kind in written]
    if len(kinds) != 1:
        raise InputError(f"must have one of the keys {', '.join(DATA_KINDS)}, got {shown(written)}")
    return parse(DATA_KINDS[kinds[0]], _part(document, written))


def _part(document: YamlDocument, written: dict[str, Any]) -> YamlDocument:
    """The mapping as a document of its own, with its places in the file."""
    positions = {path[1:]: place for path, place in document.positions.items() if path[:1] == ("data",)}
    return YamlDocument(document.path, document.text, written, positions)
