"""Exact numbers from a chip file's decimals.

Energies are counted in whole attojoules, so that any sum of them is exact in any order.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal
from fractions import Fraction
from functools import cache

ATTOJOULES_PER_PICOJOULE = 1_000_000


@cache
def attojoules(picojoules: float) -> int:
    """``picojoules`` as whole attojoules (1 pJ = 10^6 aJ), half to even.

    The shortest decimal text of the number is what is converted: 0.1 pJ in a chip file is 100,000 aJ,
    not the binary fraction next to it.
    """
    exact = Decimal(str(picojoules)) * ATTOJOULES_PER_PICOJOULE
    return int(exact.to_integral_value(rounding=ROUND_HALF_EVEN))


@cache
def exact(number: float) -> Fraction:
    """The number that the shortest decimal text of ``number`` says: 0.1 is a tenth."""
    return Fraction(str(number))


def rounded(dividend: int, rate: Fraction) -> int:
    """``dividend * rate`` rounded to a whole number, half to even, without making a fraction of it."""
    whole, rest = divmod(dividend * rate.numerator, rate.denominator)
    twice = 2 * rest
    return whole + (twice > rate.denominator or (twice == rate.denominator and whole % 2))
