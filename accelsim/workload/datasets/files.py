"""Bytes of data files, and the bundled ones checked against their SHA-256."""

from __future__ import annotations

import hashlib
from pathlib import Path

from accelsim.errors import InputError

DATA_DIR = Path(__file__).resolve().parent.parent.parent / "data"


def read_bytes(path: Path) -> bytes:
    """The content of a data file. Raises InputError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such data file", str(path)) from None
    except OSError as error:
        raise InputError(f"cannot read the data file: {error.strerror}", str(path)) from None


def checked_bytes(file: str, name: str, sha256: str) -> bytes:
    """The content of a bundled file. Raises InputError if it is missing or not the one that was bundled."""
    path = DATA_DIR / file
    content = read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise InputError(
            f"the bundled data set '{name}' is corrupt: SHA-256 {digest[:12]}..., expected "
            f"{sha256[:12]}...; install accelsim again",
            str(path),
        )
    return content


def existing(path: Path) -> Path:
    """The absolute path of a file or folder that is there. Raises `InputError` otherwise."""
    try:
        path = path.resolve()
        found = path.exists()
    except (OSError, ValueError):  # too long, or characters no file name can hold
        found = False
    if not found:
        raise InputError(f"no such file: {str(path)!r}")
    return path
