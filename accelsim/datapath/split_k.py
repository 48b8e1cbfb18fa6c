"""Pieces of K, each by the fastest kernel, then added up in their order."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import EXACT
from accelsim.numerics.formats import NumberFormat, number_format

_DOUBLE_BITS = 53  # significand of a float64


def multiply_pieces(rule: Accumulation, a: Matrix, b: Matrix) -> tuple[NDArray[Any], str]:
    """`multiply`, bit for bit, but the pieces of a split K do not need the general kernel.

    Adding two sums of p significant bits in double precision and rounding the result again to nearest p
    bits is one rounding, as 2 p + 2 <= 53 (Figueroa, "When is double rounding innocuous?", 1995). Other
    roundings, other adders and sums beyond the format's range are left to `multiply`.
    """
    k = a.array.shape[1]
    piece = rule.piece(k)
    if piece >= k or not _adds_innocuously(rule) or min(a.array.shape[0], b.array.shape[1]) == 0:
        return multiply(rule, a, b)
    fmt, whole = number_format(rule.accumulator), replace(rule, k_splits=1)
    total: NDArray[np.float64] | None = None
    kernels = set()
    for start in range(0, k, piece):
        left = Matrix(a.array[:, start : start + piece], a.format)
        right = Matrix(b.array[start : start + piece], b.format)
        sums, kernel = multiply(whole, left, right)
        kernels.add(kernel)
        wide = sums.astype(np.float64) if total is None else total + sums
        if not np.abs(wide).max() <= fmt.max_value:
            return multiply(rule, a, b)
        total = wide if total is None else _rounded(fmt, wide, rule)
    return total.astype(rule.dtype), "+".join(sorted(kernels))  # type: ignore[union-attr]


def _adds_innocuously(rule: Accumulation) -> bool:
    fmt = rule.format
    return (
        rule.accumulator != EXACT
        and isinstance(fmt, NumberFormat)
        and fmt.kind == "float"
        and rule.alignment_bits is None
        and rule.rounding_used.startswith("nearest")
        and 2 * fmt.significand_bits + 2 <= _DOUBLE_BITS
    )


def _rounded(fmt: NumberFormat, values: NDArray[np.float64], rule: Accumulation) -> NDArray[np.float64]:
    """``values`` in the accumulator's format, with one zero."""
    return np.asarray(fmt.round(values, rule.rounding_used, rule.overflow_used) + 0.0, np.float64)
