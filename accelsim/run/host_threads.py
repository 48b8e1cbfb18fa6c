"""How many threads and processes of this computer runs keep busy; never a matter of bits."""

from __future__ import annotations

import os
from collections.abc import Sequence

from accelsim.program import Program

_MACS_WORTH_WAKING = 1 << 24
"""MACs of a product that take about as long as waiting threads take to wake, some tenths of a millisecond."""


def use_threads(asked: int | None, program: Program) -> int:
    """Set the threads that ``program`` is run with; returns their number.

    ``asked``: so many; None: all of the computer's, or one where the mean product of the program is too
    short to share: its kernels would spend more time waiting for each other than computing.
    """
    # the compiler is loaded here, because who only asks for numbers need not pay for it
    from accelsim.numerics.compiled import set_threads

    short = asked is None and are_short([gemm.macs for gemm in program.gemms])
    return set_threads(1 if short else asked)


def are_short(macs: Sequence[int]) -> bool:
    """Whether products of so many MACs are, in the mean, too short to share among threads."""
    return sum(macs) < _MACS_WORTH_WAKING * len(macs)


def fit_at_once(asked: int | None, runs: Sequence[Sequence[int]]) -> bool:
    """Whether this computer has a core for every thread of several runs at once.

    ``asked``: threads of each, as in `use_threads`. ``runs``: the MACs of each one's products.
    """
    cores = _cores()
    return sum(asked or (1 if are_short(macs) else cores) for macs in runs) <= cores


def _cores() -> int:
    """The cores that this process may use."""
    found = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = os.environ.get("NUMBA_NUM_THREADS", "")
    return min(found, int(limit)) if limit.isdecimal() else found
