"""The output folder, tried before anything long begins."""

from __future__ import annotations

import tempfile
from pathlib import Path

from accelsim.errors import InputError


def require_writable(folder: Path) -> None:
    """Make the folder and try a file in it, so that no run is lost at its end."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".writable"):
            pass
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        message = f"cannot write to the output folder: {reason}; choose another with --out"
        raise InputError(message, str(folder)) from None
