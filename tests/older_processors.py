"""Kernels for older processors, compiled on this one: as Numba's own variables choose them."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from accelsim.numerics import instructions

OLDER = [("generic", "", "sse2"), ("haswell", "+avx2,+fma,+avx", "avx2")]
"""Numba's name of a processor and its features, and what kernels then use."""


def check_on(processor: str, features: str, wanted: str, code: str) -> None:
    """Run ``code`` for that processor: it checks, and prints the instruction set last."""
    if instructions.instruction_set() not in ("vnni", "avx512", "avx2"):
        pytest.skip("this machine has no AVX2 to do without")
    tests = Path(__file__).parent
    environment = os.environ | {
        "NUMBA_CPU_NAME": processor,
        "NUMBA_CPU_FEATURES": features,
        "PYTHONPATH": os.pathsep.join([str(tests), str(tests.parent), os.environ.get("PYTHONPATH", "")]),
    }
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False
    )
    assert (done.stdout.split()[-1:], done.stderr) == ([wanted], "")
