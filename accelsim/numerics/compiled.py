"""How kernels are compiled: no fastmath ever, and a cache that goes stale with the sources.

Numba keys a cached function on its own file only, so a kernel that calls a changed kernel of another
module would run old code. Here the cache folder itself is keyed on every source of the floors that
hold kernels.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

# A thread that spins while it waits burns the core that another run needs.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numba

_CONFIG: Any = numba.config  # its attributes come from the environment, so no type checker knows them
_KERNEL_FLOORS = ("numerics", "datapath")


@cache
def source_digest() -> str:
    """SHA-256 (first 16 hex digits) of every source file with a kernel in it, and of Numba's version.

    A file has a kernel in it if it mentions Numba or the decorator below.
    """
    digest = hashlib.sha256(numba.__version__.encode())
    package = Path(__file__).resolve().parent.parent
    for floor in _KERNEL_FLOORS:
        for path in sorted((package / floor).glob("*.py")):
            source = path.read_bytes()
            if b"numba" in source or b"@kernel" in source:
                digest.update(source)
    return digest.hexdigest()[:16]


@cache
def cache_folder() -> str:
    """The folder of compiled kernels, below the user's cache folder or, failing that, a temporary one."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    folder = Path(home) / "accelsim" / source_digest()
    with suppress(OSError):
        folder.mkdir(parents=True, exist_ok=True)
    return str(folder) if os.access(folder, os.W_OK) else tempfile.mkdtemp(prefix="accelsim-kernels-")


def kernel(*, parallel: bool = False) -> Callable[[Callable[..., Any]], Any]:
    """Decorator: compile a function on plain arrays, cached in `cache_folder`.

    ``parallel`` splits independent outputs over threads; a reduction must never cross them. A float divided
    by zero is an infinity or a NaN: the check for it that Python's rule takes keeps loops from being vectors.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        before = _CONFIG.CACHE_DIR
        if not os.environ.get("NUMBA_CACHE_DIR"):
            _CONFIG.CACHE_DIR = cache_folder()
        try:
            return numba.njit(cache=True, parallel=parallel, error_model="numpy")(function)
        finally:
            _CONFIG.CACHE_DIR = before

    return decorate


def set_threads(count: int | None) -> int:
    """Use ``count`` threads (all of the machine's when None); returns the number in use."""
    available = int(_CONFIG.NUMBA_NUM_THREADS)
    numba.set_num_threads(available if count is None else max(1, min(count, available)))
    threads_in_use.cache_clear()
    return threads_in_use()


@cache
def threads_in_use() -> int:
    """The number that `set_threads` returned last; every product asks, and Numba takes its time to answer."""
    return int(numba.get_num_threads())
