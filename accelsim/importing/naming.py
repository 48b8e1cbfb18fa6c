"""Names of other tools as names that a workload file takes."""

from __future__ import annotations

import re
from collections.abc import Container


def layer_name(given: str, taken: Container[str]) -> str:
    """``given`` with letters, digits, ``_``, ``.`` and ``-`` only, at most 64 long, numbered if it is taken.

    Nothing usable gives an empty text: the layer is then named by its kind.
    """
    stem = re.sub(r"[^A-Za-z0-9_.-]+", "_", given.strip()).strip("_.")[-58:]
    name, number = stem, 1
    while name and (name in taken or name == "loss"):
        number += 1
        name = f"{stem}_{number}"
    return name


def workload_name(given: str) -> str:
    """A file's stem as the name of a workload: lower case, digits and underscores."""
    return re.sub(r"[^a-z0-9]+", "_", given.lower()).strip("_") or "imported"
