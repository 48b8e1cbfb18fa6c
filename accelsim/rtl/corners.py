"""Partial sums that are hard to add to a given number: ties, cancellation, far away, at the edges."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.formats import NumberFormat

Integers = NDArray[np.int64]

FAMILIES = ("near", "cancel", "tie", "low", "high", "special", "any")


def special_codes(fmt: NumberFormat) -> Integers:
    """Zeros, the smallest and the largest, one, the edges of the lowest binade, NaN and infinity."""
    one = fmt.bias << fmt.fraction_bits
    binade = 1 << fmt.fraction_bits
    positive = {
        0,
        1,
        2,
        binade - 1,
        binade,
        binade + 1,
        one - 1,
        one,
        one + 1,
        fmt.max_code - 1,
        fmt.max_code,
    }
    positive |= {fmt.max_code + 1, fmt.nan_code, (1 << (fmt.bits - 1)) - 1}
    return np.array(sorted(positive | {code | fmt.sign_code for code in positive}), dtype=np.int64)


def any_codes(fmt: NumberFormat, rng: np.random.Generator, count: int) -> Integers:
    """Codes drawn evenly from all."""
    return rng.integers(0, 1 << fmt.bits, count, dtype=np.int64)


def fractions(fmt: NumberFormat, rng: np.random.Generator, count: int) -> Integers:
    """Fraction fields: random, all zeros, all ones, a single one."""
    ones = (1 << fmt.fraction_bits) - 1
    anything = rng.integers(0, ones + 1, count)
    single = 1 << rng.integers(0, fmt.fraction_bits, count)
    kind = rng.integers(0, 5, count)
    return np.choose(kind, [anything, anything, np.zeros_like(anything), anything * 0 + ones, single])


def assembled(fmt: NumberFormat, exponents: Integers, rng: np.random.Generator) -> Integers:
    """Codes with the given binary exponents (held within the format), hard fractions and any sign."""
    field = np.clip(exponents + fmt.bias, 0, fmt.max_code >> fmt.fraction_bits)
    magnitude = np.minimum((field << fmt.fraction_bits) | fractions(fmt, rng, len(field)), fmt.max_code)
    codes: Integers = magnitude | (rng.integers(0, 2, len(field)) * fmt.sign_code)
    return codes


def hard_sums(fmt: NumberFormat, terms: NDArray[Any], rng: np.random.Generator) -> Integers:
    """For each term (float64, exact) the code of a partial sum that is hard to add it to.

    Families, drawn evenly: ``near`` the term's exponent, so that every bit takes part; ``cancel``,
    minus the term give or take two codes; ``tie``, a last place one to three above the lowest bit of the
    term; the ``low`` and the ``high`` end of the range; ``special`` codes; ``any`` code.
    """
    terms = np.where(np.isfinite(terms), terms, 1.0)
    count = len(terms)
    top, low_bit = _exponents(terms)
    reach = fmt.significand_bits + 3
    lowest, highest = -fmt.bias, (fmt.max_code >> fmt.fraction_bits) - fmt.bias
    cancelling = fmt.encode(-terms).astype(np.int64)
    magnitude = (cancelling & (fmt.sign_code - 1)) + rng.integers(-2, 3, count)
    table = [
        assembled(fmt, top + rng.integers(-reach, reach + 1, count), rng),
        np.clip(magnitude, 0, fmt.max_code) | (cancelling & fmt.sign_code),
        assembled(fmt, low_bit + rng.integers(1, 4, count) + fmt.fraction_bits, rng),
        assembled(fmt, lowest + rng.integers(0, 3, count), rng),
        assembled(fmt, highest - rng.integers(0, 2, count), rng),
        rng.choice(special_codes(fmt), count),
        any_codes(fmt, rng, count),
    ]
    family = rng.integers(0, len(FAMILIES), count)
    # A term that is a tie itself is decided by the sign of whatever lies far below it.
    is_tie = top - low_bit == fmt.significand_bits
    return np.choose(np.where(is_tie & (rng.random(count) < 0.75), FAMILIES.index("low"), family), table)


def tie_fractions(fmt: NumberFormat, accumulator: NumberFormat, code: int) -> Integers:
    """Fraction fields whose product with the number ``code`` lies half way between two accumulator values."""
    ones = 1 << fmt.fraction_bits
    significands = np.arange(ones, 2 * ones)
    top, low_bit = _exponents((significands * (ones | (code & (ones - 1)))).astype(np.float64))
    ties: Integers = significands[top - low_bit == accumulator.significand_bits] - ones
    return ties


def reachable(fmt: NumberFormat, codes: Integers, *, saturates: bool) -> Integers:
    """Infinities replaced by the largest number where the accumulator saturates: it never holds one."""
    if not saturates or fmt.specials != "ieee":
        return codes
    infinite = (codes & (fmt.sign_code - 1)) == fmt.max_code + 1
    return np.where(infinite, codes - 1, codes)


def _exponents(values: NDArray[Any]) -> tuple[Integers, Integers]:
    """Binary exponents of the highest and of the lowest one bit (0 for a zero)."""
    significand, exponent = np.frexp(values)
    whole = np.abs(significand * 2.0**53).astype(np.int64)
    lowest = np.frexp((whole & -whole).astype(np.float64))[1] - 1
    zero = values == 0
    return np.where(zero, 0, exponent - 1), np.where(zero, 0, exponent - 53 + lowest)
