"""Files: atomic writes, and the shipped chips, workloads, recipes and grids by name."""

from __future__ import annotations

import os
import secrets
from itertools import count
from pathlib import Path
from typing import Literal

from accelsim.errors import InputError, unknown

ResourceKind = Literal["arch_configs", "workloads", "recipes", "grids"]

_PACKAGE = Path(__file__).resolve().parent
_WORDS: dict[ResourceKind, str] = {
    "arch_configs": "chip",
    "workloads": "workload",
    "recipes": "recipe",
    "grids": "grid",
}


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text with ``\\n`` line ends; see `write_bytes`."""
    write_bytes(path, text.encode("utf-8"))


def write_bytes(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all: a temporary file beside it, then a rename.

    Missing parent directories are made. Raises `InputError` if the place cannot be written; a
    file that stood there before is then untouched.
    """
    path = Path(path)
    if os.path.isdir(path):
        raise InputError("cannot write the file: a directory is in its place", str(path))
    for parent in path.parents:
        if os.path.exists(parent) and not os.path.isdir(parent):
            raise InputError(f"cannot write the file: '{parent}' is not a directory", str(path))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _replace(path, data)
    except (OSError, ValueError) as error:
        reason = (getattr(error, "strerror", None) or str(error)).lower()
        raise InputError(f"cannot write the file: {reason}", str(path)) from None


def set_aside(path: Path) -> Path | None:
    """Give a file another name, so that a new one does not take its place; None if it is not there.

    ``checkpoint.npz`` becomes ``checkpoint.before.npz``, or ``checkpoint.before2.npz`` and so on. Raises
    `InputError` if it cannot be renamed.
    """
    if not os.path.lexists(path):
        return None
    numbers = (str(number) if number > 1 else "" for number in count(1))
    names = (path.with_name(f"{path.stem}.before{number}{path.suffix}") for number in numbers)
    free = next(name for name in names if not os.path.lexists(name))
    try:
        os.rename(path, free)
    except OSError as error:
        raise InputError(f"cannot be renamed to {free.name}: {error.strerror}", str(path)) from None
    return free


def _replace(path: Path, data: bytes) -> None:
    temporary = path.with_name(f".{path.name[:40]}.{secrets.token_hex(4)}.part")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:  # Ctrl-C too: no half-written file stays behind
        temporary.unlink(missing_ok=True)
        raise


def resource_dir(kind: ResourceKind) -> Path:
    """Folder of the shipped files of one kind, in an installed package or in a checkout."""
    if kind == "recipes":
        return _PACKAGE / "recipe" / "shipped"
    if kind == "grids":
        return _PACKAGE / "cost" / "grids"
    installed = _PACKAGE / kind
    return installed if installed.is_dir() else _PACKAGE.parent / kind


def shipped(kind: ResourceKind) -> list[str]:
    """Names of the shipped files of one kind, sorted."""
    return sorted(path.stem for path in resource_dir(kind).glob("*.yaml"))


def find_resource(kind: ResourceKind, name_or_path: str | Path) -> Path:
    """The file a user means: a path (it has a separator or ends in .yaml or .yml) or a shipped name.

    Raises `InputError` for an unknown name, with the nearest one and the list, and for a path
    that does not exist. Whether the file can be read is seen when it is read.
    """
    text = os.fspath(name_or_path)
    names = shipped(kind)
    if text.endswith((".yaml", ".yml")) or os.sep in text:
        path = Path(text)
        if not os.path.lexists(path):
            hint = f"; '{path.stem}' is shipped: give the name alone" if path.stem in names else ""
            raise InputError(f"no such file{hint}", text)
        return path
    if text not in names:
        for other, word in _WORDS.items():
            if other != kind and text in shipped(other):
                message = f"'{text}' is the name of a shipped {word}; a {_WORDS[kind]} is wanted here"
                raise InputError(message)
        raise unknown(_WORDS[kind], text, names)
    return resource_dir(kind) / f"{text}.yaml"
