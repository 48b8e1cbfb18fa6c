"""What this machine's vectors can do, as far as it changes the speed of kernels (never a bit).

Numba's own variables decide for it: with ``NUMBA_CPU_NAME`` set, kernels are compiled for that processor and
use only what ``NUMBA_CPU_FEATURES`` lists. So ``NUMBA_CPU_NAME=generic`` runs the portable kernels anywhere.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from functools import cache

import llvmlite.binding
import numba


@cache
def instruction_set() -> str:
    """What integer dot products are made of here: ``vnni``, ``avx512``, ``avx2``, ``sse2`` or ``portable``.

    ``sse2`` is any x86 of 64 bits; ``portable`` has none.
    """
    return _best_of(_features(), platform.machine())


def _best_of(features: Mapping[str, bool], machine: str) -> str:
    if features.get("avx512bw"):
        return "vnni" if features.get("avx512vnni") else "avx512"
    if features.get("avx2"):
        return "avx2"
    return "sse2" if machine.lower() in ("x86_64", "amd64") else "portable"


def _features() -> Mapping[str, bool]:
    named, listed = numba.config.CPU_NAME, numba.config.CPU_FEATURES  # type: ignore[attr-defined]
    if named not in (None, "", "host") or listed:
        return dict.fromkeys((each[1:] for each in (listed or "").split(",") if each.startswith("+")), True)
    try:
        return dict(llvmlite.binding.get_host_cpu_features())
    except RuntimeError:  # LLVM cannot tell on every system
        return {}


def vector_width() -> int:
    """float32 elements in a vector register here."""
    return {"vnni": 16, "avx512": 16, "avx2": 8}.get(instruction_set(), 4)


@cache
def multiplies_and_adds() -> bool:
    """Whether a multiplication and an addition with one rounding are one instruction of an x86."""
    return bool(_features().get("fma")) and instruction_set() != "portable"
