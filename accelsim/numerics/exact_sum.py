"""Sums without rounding: float64 expansions.

An expansion is a few float64 whose sum is exact: ascending, none zero, no two with overlapping bits
(Shewchuk, 1997, "Adaptive precision floating-point arithmetic", section 2).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accelsim.numerics.compiled import kernel

SPARE_PARTS = 16
"""Room that an expansion needs beyond its terms, for what a rounding subtracts from it."""

MOST_PARTS = 640
"""More than the bits from the smallest product of two float32 to the largest sum of such products, so
more than the parts of any expansion of them."""


@kernel()
def grow(expansion: Any, length: int, term: float) -> int:
    """Add ``term`` exactly to the expansion; its new length, one more at most."""
    kept = 0
    for i in range(length):
        part = expansion[i]
        total = term + part
        part_seen = total - term
        error = (term - (total - part_seen)) + (part - part_seen)
        if error != 0.0:
            expansion[kept] = error
            kept += 1
        term = total
    if term != 0.0:
        expansion[kept] = term
        kept += 1
    return kept


@kernel()
def round_to_odd(expansion: Any, length: int) -> Any:
    """The sum of the expansion in float64, rounded to odd (sticky in the last bit).

    A later rounding to at most 51 bits is then the only one (Boldo and Melquiond, 2008, "Emulation of
    FMA"), and the sum lies between the same two neighbours of any grid of at most 52 bits.
    """
    if length == 0:
        return 0.0
    total = expansion[length - 1]
    rest = 0.0
    for i in range(length - 2, -1, -1):
        before = total
        total = before + expansion[i]
        rest = expansion[i] - (total - before)
        if rest != 0.0:
            break
    if rest == 0.0 or math.frexp(total)[0] * 9007199254740992.0 % 2.0 != 0.0:
        return total
    return np.nextafter(total, math.copysign(np.inf, rest))


@kernel()
def reduced(expansion: Any, length: int, modulus: float) -> int:
    """Take multiples of ``modulus`` (a power of two) away until the sum is in 0..modulus in magnitude.

    The sum keeps its sign, or becomes zero; the new length.
    """
    sign = math.copysign(1.0, expansion[length - 1])
    total = round_to_odd(expansion, length)
    while abs(total) >= modulus:
        length = grow(expansion, length, -np.trunc(total / modulus) * modulus)
        total = round_to_odd(expansion, length)
    if total * sign < 0.0:
        length = grow(expansion, length, sign * modulus)
    return length
