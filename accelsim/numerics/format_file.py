"""A user's number format: the fields of `NumberFormat` in a YAML file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_type_hints

from pydantic import BaseModel, ConfigDict, create_model

from accelsim.errors import InputError
from accelsim.numerics.format_record import NumberFormat
from accelsim.yamlfile import parse, position_of, read_yaml


def _model() -> type[BaseModel]:
    """The keys of a file are the fields of the record."""
    hints = get_type_hints(NumberFormat)
    keys: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.default is MISSING else field.default)
        for field in fields(NumberFormat)
    }
    return create_model("FormatFile", __config__=ConfigDict(frozen=True, extra="forbid"), **keys)


_FormatFile = _model()


def read_format(path: Path, taken: Callable[[str], bool]) -> NumberFormat:
    """The format in a file. ``taken`` tells the names that stand for another format.

    Raises
    ------
    InputError: with file, line and column, for the first mistake.
    """
    document = read_yaml(path)
    found = dict(parse(_FormatFile, document))
    if taken(found["name"]):
        where = position_of(document, ("name",))
        raise InputError(f"name: '{found['name']}' is a format of the catalog; choose another name", where)
    try:
        return NumberFormat(**found)
    except InputError as error:
        key = error.message.partition(":")[0]
        raise InputError(error.message, position_of(document, (key,))) from None
