"""Magnitudes as a ladder of rungs, and every way to round onto it.

Rung i is the value of magnitude code i; the ladder goes one rung past the largest code, to where the
next value would be, so that "rounds above the range" is a rounding like any other. Rounding finds the
rung below and decides whether to take the next one; it compares exactly and never divides.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.format_record import NumberFormat

F64 = NDArray[np.float64]
Rungs = NDArray[np.int64]

RANDOM_BITS = 32
"""Random bits of a stochastic rounding: the upper half of a 64-bit word."""


class Ladder(Protocol):
    """Rungs in float64."""

    @property
    def zero(self) -> int:
        """The highest rung that means zero; the smallest value is above it."""

    @property
    def top(self) -> float:
        """The value of the last rung, one past the largest value of the format."""

    def below(self, magnitudes: F64) -> Rungs:
        """The highest rung not above each magnitude (0..top); of the rungs that mean zero, ``zero``."""

    def value(self, rungs: Rungs) -> F64:
        """The values of rungs."""

    def threshold(self, rungs: Rungs) -> F64:
        """Where the nearest value changes from each rung to the next."""

    def step(self, rungs: Rungs) -> F64:
        """The distance from each rung to the next (anything above zero past the last rung)."""


def round_to_rungs(ladder: Ladder, magnitudes: F64, rounding: str, words: NDArray[np.uint64] | None) -> Rungs:
    """The rung each magnitude rounds to.

    Parameters
    ----------
    magnitudes: float64, any shape, in 0..ladder.top.
    rounding: one of `ROUNDINGS`. words: uint64 random words, the same shape, for ``stochastic``.

    Returns
    -------
    int64, the same shape. A rung up to ``ladder.zero`` means zero.
    """
    below = ladder.below(magnitudes)
    if rounding == "toward_zero":
        return below
    if rounding.startswith("nearest"):
        threshold = ladder.threshold(below)
        up = magnitudes > threshold
        if rounding == "nearest_even":
            up |= (magnitudes == threshold) & ((below & 1) == 1)
        elif rounding == "nearest_up":
            up |= magnitudes == threshold
        return np.asarray(below + up)
    rest = magnitudes - ladder.value(below)
    if rounding == "to_odd":
        return np.asarray(below + ((rest > 0) & (((below & 1) == 0) | (below == ladder.zero))))
    assert words is not None
    return below + _drawn_up(rest, ladder.step(below), words)


def _drawn_up(rest: F64, step: F64, words: NDArray[np.uint64]) -> NDArray[np.bool_]:
    """True with probability floor(2**32 * rest / step) / 2**32: where that floor + draw reaches 2**32.

    Without a division: where rest * 2**32 >= (2**32 - draw) * step. The product is kept exactly, as the
    sum of two float64 (Dekker, 1971, "A floating-point technique for extending the available precision").
    """
    draw = words >> np.uint64(64 - RANDOM_BITS)
    needed = (1 << RANDOM_BITS) - draw.astype(np.int64)
    coarse = (needed >> 16 << 16).astype(np.float64)
    fine = (needed & 0xFFFF).astype(np.float64)
    split = step * 134217729.0
    upper = split - (split - step)
    lower = step - upper
    product = needed.astype(np.float64) * step
    error = fine * lower - (((product - coarse * upper) - fine * upper) - coarse * lower)
    reached = rest * float(1 << RANDOM_BITS)
    return np.asarray((reached > product) | ((reached == product) & (error <= 0)))


@dataclass(frozen=True, eq=False)
class TableLadder:
    """The rungs of a floating-point or logarithmic format of at most 16 bits, as tables."""

    zero: int
    top: float
    values: F64
    thresholds: F64
    steps: F64

    def below(self, magnitudes: F64) -> Rungs:
        found = np.searchsorted(self.values[self.zero + 1 :], magnitudes, side="right")
        return np.asarray(found + self.zero, dtype=np.int64)

    def value(self, rungs: Rungs) -> F64:
        return np.asarray(self.values[rungs])

    def threshold(self, rungs: Rungs) -> F64:
        return np.asarray(self.thresholds[rungs])

    def step(self, rungs: Rungs) -> F64:
        return np.asarray(self.steps[rungs])


@dataclass(frozen=True)
class IntegerLadder:
    """Rung i is i; as many rungs as an integer format has magnitudes."""

    top: float
    zero: int = 0

    def below(self, magnitudes: F64) -> Rungs:
        return np.asarray(np.floor(magnitudes), dtype=np.int64)

    def value(self, rungs: Rungs) -> F64:
        return rungs.astype(np.float64)

    def threshold(self, rungs: Rungs) -> F64:
        return np.asarray(rungs + 0.5, dtype=np.float64)

    def step(self, rungs: Rungs) -> F64:
        return np.ones(rungs.shape)


@dataclass(frozen=True)
class SingleLadder:
    """The rungs of IEEE single: its magnitudes are in the order of their bits."""

    top: float = 2.0**128
    zero: int = 0

    def below(self, magnitudes: F64) -> Rungs:
        with np.errstate(over="ignore", under="ignore"):
            nearest = magnitudes.astype(np.float32)
        passed = (nearest > magnitudes) & (magnitudes < self.top)
        return np.asarray(nearest.view(np.int32).astype(np.int64) - passed)

    def value(self, rungs: Rungs) -> F64:
        values = rungs.astype(np.uint32).view(np.float32).astype(np.float64)
        return np.minimum(values, self.top)

    def threshold(self, rungs: Rungs) -> F64:
        return self.value(rungs) + self.step(rungs) / 2

    def step(self, rungs: Rungs) -> F64:
        exponents = np.maximum(rungs >> 23, 1).astype(np.int32)
        return np.asarray(np.ldexp(1.0, exponents - 150))


@cache
def ladder_of(fmt: NumberFormat) -> Ladder:
    """The ladder of a format; that of integers and fixed point is in units of ``fmt.unit``."""
    if fmt.kind in ("integer", "fixed"):
        return IntegerLadder(float(1 << fmt.bits))
    if fmt.bits == 32:
        return SingleLadder()
    rungs = np.arange(fmt.max_code + 2)
    places = _places(fmt, rungs)
    # Just below the smallest value the lower neighbour is what its code would be as a number: that is
    # how a rounder that sees only the significand flushes to zero (1-6-9, radix-4).
    thresholds = _log_thresholds(fmt, rungs) if fmt.kind == "log" else (places[:-1] + places[1:]) / 2
    values = np.where(rungs < fmt.first_code, 0.0, places)
    steps = np.append(np.diff(values), 1.0)
    return TableLadder(
        fmt.first_code - 1, float(values[-1]), values, np.append(thresholds[: len(rungs) - 1], np.inf), steps
    )


def _places(fmt: NumberFormat, rungs: NDArray[Any]) -> F64:
    """What rungs would be if none meant zero (but for subnormal ones, which fade to zero)."""
    exponents, fractions = rungs >> fmt.fraction_bits, rungs & ((1 << fmt.fraction_bits) - 1)
    hidden = np.ones(rungs.shape)
    if fmt.lowest_binade == "subnormal":
        hidden = np.minimum(exponents, 1).astype(np.float64)
        exponents = np.maximum(exponents, 1)
    significands = hidden + fractions / (1 << fmt.fraction_bits)
    powers = (fmt.radix.bit_length() - 1) * (exponents - fmt.bias)
    if fmt.exponent_divisor == 2:
        significands = np.where(powers % 2, math.sqrt(2.0), 1.0)
    return np.asarray(np.ldexp(significands, powers // fmt.exponent_divisor + fmt.exponent_offset))


def _log_thresholds(fmt: NumberFormat, rungs: NDArray[Any]) -> F64:
    """The float64 just above each 2**((rung + 1/2 - bias) / divisor), which is irrational.

    A magnitude reaches the upper rung exactly where it reaches this number, so `conversion` breaks a
    "tie" with it upward.
    """
    degree = 2 * fmt.exponent_divisor
    quotients, remainders = np.divmod(2 * (rungs - fmt.bias) + 1, degree)
    above = {rest: _above_root(rest, degree) for rest in range(1, degree, 2)}
    significands = np.array([above[int(rest)] for rest in remainders])
    return np.asarray(np.ldexp(significands, quotients + fmt.exponent_offset))


def _above_root(power: int, degree: int) -> float:
    """The smallest float64 above 2**(power / degree), degree 2 or 4, power odd and below it."""
    root = math.isqrt(1 << (power + 52 * degree))
    if degree == 4:
        root = math.isqrt(root)
    return math.ldexp(root + 1, -52)
