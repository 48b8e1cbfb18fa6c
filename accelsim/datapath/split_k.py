"""Pieces of K, each by the fastest kernel, then added up in their order."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import EXACT
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.quantise import round_to

_DOUBLE_BITS = 53  # significand of a float64
_SINGLE_BITS = 24  # and of a float32
_QUICK = ("dlfloat16", "fp16", "bf16", "fp32")  # what `round_to` rounds in place


def multiply_pieces(rule: Accumulation, a: Matrix, b: Matrix) -> tuple[NDArray[Any], str]:
    """`multiply`, bit for bit, but the pieces of a split K do not need the general kernel.

    Adding two sums of p significant bits in double precision and rounding the result again to nearest p
    bits is one rounding, as 2 p + 2 <= 53 (Figueroa, "When is double rounding innocuous?", 1995). For the
    16-bit formats single precision will do, as 2 p + 2 <= 24; in fp32 the addition itself rounds. Other
    roundings, other adders and sums beyond the format's range are left to `multiply`.
    """
    k = a.shape[-1]
    piece = rule.piece(k)
    if piece >= k or not _adds_innocuously(rule) or min(a.shape[-2], b.shape[-1]) == 0:
        return multiply(rule, a, b)
    fmt, whole = number_format(rule.accumulator), _whole(rule)
    carrier = np.float32 if _single_will_do(rule, fmt) else np.float64
    total: NDArray[Any] | None = None
    kernels = set()
    for start in range(0, k, piece):
        left = a.piece(start, start + piece, of_columns=True)
        right = b.piece(start, start + piece, of_columns=False)
        sums, kernel = multiply(whole, left, right)
        kernels.add(kernel)
        wide = sums.astype(carrier) if total is None else total + sums
        if not np.abs(wide).max() <= fmt.max_value:
            return multiply(rule, a, b)
        total = wide if total is None else _rounded(fmt, wide, rule)
    return total.astype(rule.dtype), "+".join(sorted(kernels))  # type: ignore[union-attr]


@lru_cache(maxsize=1024)
def _whole(rule: Accumulation) -> Accumulation:
    """The rule of one piece."""
    return replace(rule, k_splits=1)


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


def _single_will_do(rule: Accumulation, fmt: NumberFormat) -> bool:
    """Whether single precision carries the sum of two, and the quick rounding is the rule's."""
    carried = fmt.name == "fp32" or 2 * fmt.significand_bits + 2 <= _SINGLE_BITS
    own = rule.rounding_used == fmt.rounding and rule.overflow_used == fmt.overflow
    return fmt.name in _QUICK and carried and own


def _rounded(fmt: NumberFormat, values: NDArray[Any], rule: Accumulation) -> NDArray[Any]:
    """``values`` in the accumulator's format, with one zero."""
    if values.dtype == np.float32:
        return round_to(values, fmt.name) + np.float32(0)
    return np.asarray(fmt.round(values, rule.rounding_used, rule.overflow_used) + 0.0, np.float64)
