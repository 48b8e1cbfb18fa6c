"""`RunRecord` <-> JSON text: the same text every time, and one clear line for a file that is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeVar

from pydantic import ValidationError

from accelsim.errors import InputError, nearest
from accelsim.record.schema import SCHEMA, Frozen, RunRecord

_Part = TypeVar("_Part", bound=Frozen)


def record_text(record: RunRecord) -> str:
    """The record as JSON: keys sorted, one space of indent, ASCII or UTF-8, the same text every time."""
    data = record.model_dump(mode="json", by_alias=True)
    return json.dumps(data, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_record(path: str | Path) -> RunRecord:
    """Read a record from a JSON file.

    Raises `InputError` (one line, with file and key) when the file cannot be read, is not JSON, is not a
    record of this schema, or when its totals are not the sums of its parts.
    """
    data = _read_json(Path(path), "the record", "an accelsim run record")
    if not isinstance(data, dict) or "schema" not in data:
        raise InputError("not an accelsim run record (no key 'schema')", str(path))
    if data["schema"] != SCHEMA:
        raise InputError(f"schema: this version reads '{SCHEMA}', got '{data['schema']}'", str(path))
    try:
        return RunRecord.model_validate(data)
    except ValidationError as error:
        raise InputError(_first_mistake(error), str(path)) from None


def read_part(kind: type[_Part], path: Path, what: str) -> _Part:
    """Read another record than a run's. Raises `InputError` with ``what`` for a file that is none."""
    data = _read_json(path, what, what)
    try:
        return kind.model_validate(data)
    except ValidationError as error:
        raise InputError(f"not {what}: {_first_mistake(error)}", str(path)) from None


def _read_json(path: Path, file: str, what: str) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}", str(path)) from None
    except UnicodeDecodeError:
        raise InputError(f"not {what} (not UTF-8 text)", str(path)) from None
    except json.JSONDecodeError as error:
        place = f"{path}:{error.lineno}:{error.colno}"
        raise InputError(f"not {what} (bad JSON: {error.msg})", place) from None
    except (RecursionError, ValueError):  # brackets without end, a number of thousands of digits
        raise InputError(f"not {what} (nested too deep, or a number too long)", str(path)) from None


def _first_mistake(error: ValidationError) -> str:
    """One line for the mistake to mend first (unknown keys lead): key path, what is wrong, value given."""
    mistakes = sorted(error.errors(include_url=False), key=lambda one: one["type"] != "extra_forbidden")
    mistake = mistakes[0]
    key = ".".join(str(part) for part in mistake["loc"])
    if mistake["type"] == "missing":
        return f"{key}: missing key"
    if mistake["type"] == "extra_forbidden":
        return f"unknown key '{key}'{nearest(str(mistake['loc'][-1]), _missing_keys(error))}"
    message = mistake["msg"].removeprefix("Value error, ")
    if mistake["type"] == "value_error":
        return f"{key}: {message}" if key else message
    return f"{key}: {message[0].lower()}{message[1:]}, got {json.dumps(mistake['input'])[:60]}"


def _missing_keys(error: ValidationError) -> list[str]:
    """A misspelt key shows up twice, as unknown and as missing: the missing ones are what was meant."""
    return [str(mistake["loc"][-1]) for mistake in error.errors() if mistake["type"] == "missing"]
