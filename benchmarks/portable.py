"""The portable kernels against this machine's own: the same work, compiled for any processor of its kind.

Numba's variable ``NUMBA_CPU_NAME=generic`` makes every kernel do without AVX, so a process of its own
measures them; on x86 what is left is SSE2.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from accelsim.numerics.compiled import set_threads
from accelsim.numerics.instructions import instruction_set
from accelsim.numerics.quantise import largest_magnitude, magnitude_moments
from benchmarks.elements import conversions
from benchmarks.measuring import FULL, Row, Size, Work, cpu_seconds
from benchmarks.products import ROLES, cases_of

OWN = "this machine's kernels"
MOST_TIMES_SLOWER = 5.0
_GENERIC = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": ""}


def portable_rows(size: Size) -> Iterator[Row]:
    """Products of the smallest square, conversions and statistics, here and in a process without AVX."""
    if not size.all_cases:
        yield Row("portable", "skipped: all kernels would be compiled again", "", None, "")
        return
    own, generic = measured(size), _measured_elsewhere()
    for name, (seconds, count, unit) in own.items():
        slow = generic["seconds"][name]
        kernel = f"{generic['instructions']}, {generic['kernels'].get(name, '')}".rstrip(", ")
        yield Row(
            "portable", name, f"{count:,}", slow * 1e9 / count, unit, seconds / slow, OWN,
            1 / MOST_TIMES_SLOWER, note=kernel,
        )  # fmt: skip


def measured(size: Size) -> dict[str, tuple[float, int, str]]:
    """CPU seconds of one thread, how much work that is, and its unit, by case."""
    set_threads(1)
    extent = size.squares[0]
    found: dict[str, tuple[float, int, str]] = {}
    for name, work, _ in _products(size):
        found[name] = cpu_seconds(work, 3 * size.repeats), extent**3, "ns/MAC"
    values = np.random.default_rng(1).normal(0, 2, size.elements).astype(np.float32)
    works: dict[str, Work] = {name: work for name, work, *_ in conversions(values)}
    works["SAWB moments"] = lambda: magnitude_moments(values)
    works["largest magnitude"] = lambda: largest_magnitude(values)
    for name, work in works.items():
        found[name] = cpu_seconds(work, size.repeats), size.elements, "ns/element"
    return found


def _products(size: Size) -> Iterator[tuple[str, Work, str]]:
    """(name, work, kernel)."""
    extent = size.squares[0]
    for case in cases_of(size):
        pairs = ROLES if case.formats["weight"] == "int4" else {"": ("activation", "weight")}
        for pair, roles in pairs.items():
            a, b = (case.tensor(role, (extent, extent)) for role in roles)
            name = f"{pair}, {case.name.removeprefix('4 bits, ')}" if pair else case.name
            kernel = case.run(a, b, roles)[1]
            yield name, lambda case=case, a=a, b=b, roles=roles: case.product(a, b, roles), kernel


def _measured_elsewhere() -> Any:
    """What this module prints in a process for any processor."""
    root = str(Path(__file__).resolve().parent.parent)
    paths = os.pathsep.join([root, *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.portable"],
        env=os.environ | _GENERIC | {"PYTHONPATH": paths}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    return json.loads(done.stdout)


def report(size: Size) -> str:
    """What the parent process reads."""
    kernels = {name: kernel for name, _, kernel in _products(size)}
    seconds = {name: found[0] for name, found in measured(size).items()}
    return json.dumps({"instructions": instruction_set(), "kernels": kernels, "seconds": seconds})


if __name__ == "__main__":
    print(report(FULL))
