"""Times, and the row of the table that a measurement becomes."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

Work = Callable[[], object]


@dataclass(frozen=True)
class Size:
    """How much is measured: all of it, or a taste for tests."""

    squares: tuple[int, ...]
    batch: int
    small_networks: bool
    all_cases: bool
    elements: int
    peer_extent: int
    peer_elements: int
    repeats: int
    training: bool


FULL = Size((256, 1024), 2, False, True, 1 << 22, 128, 1 << 16, 3, True)
QUICK = Size((16, 40), 1, True, False, 3000, 4, 50, 1, False)


@dataclass(frozen=True)
class Row:
    """One line of the table.

    ``value`` is in ``unit``; ``ratio`` says how many times as fast as ``against`` (above 1 is faster).
    ``target``: the least ratio wanted, or with ``target_of`` "value" the largest value. ``note``: which
    kernel ran, which function was called, why a row is empty.
    """

    section: str
    case: str
    shape: str
    value: float | None
    unit: str
    ratio: float | None = None
    against: str = ""
    target: float | None = None
    target_of: Literal["ratio", "value"] = "ratio"
    note: str = ""

    @property
    def verdict(self) -> str:
        """``met``, ``missed``, or nothing where there is no target or nothing was measured."""
        measured = self.ratio if self.target_of == "ratio" else self.value
        if self.target is None or measured is None:
            return ""
        met = measured >= self.target if self.target_of == "ratio" else measured <= self.target
        return "met" if met else "missed"

    def as_record(self) -> dict[str, Any]:
        """For JSON."""
        return vars(self) | {"verdict": self.verdict}


def cpu_seconds(work: Work, repeats: int) -> float:
    """The least CPU time of a few calls, all threads together, after one call that is not counted."""
    return _least(work, repeats, time.process_time)


def wall_seconds(work: Work, repeats: int) -> float:
    """The least time on the clock of a few calls, after one call that is not counted."""
    return _least(work, repeats, time.perf_counter)


def _least(work: Work, repeats: int, clock: Callable[[], float]) -> float:
    work()
    times = []
    for _ in range(repeats):
        start = clock()
        work()
        times.append(clock() - start)
    return max(min(times), 1e-9)  # a clock may stand still over very short work
