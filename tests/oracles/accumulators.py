"""Every accumulation rule on integers and fractions, one addition at a time.

Per output element, products in ascending k: K is cut into chunks of ``chunk`` products, the chunks are dealt
to ``k_splits`` cores (each the same number, the last ones fewer or none). A core sums each of its chunks,
``lanes`` products to an addition, and adds the chunks up; the cores' sums are added in their order. The
first of several sums is taken as it is. Every addition rounds once. An exact accumulator rounds once in all.

A format is a grid: `neighbours` gives the two values around a magnitude and the point between them where
the nearer one changes. Sources as in `oracles.formats`; SplitMix64: Steele et al., OOPSLA 2014; aligned
addition: Fasi et al., PeerJ Computer Science 7, 2021.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction

from oracles.accumulate import product
from oracles.formats import INFINITY, LADDERS, NAN, NEGATIVE_INFINITY, Value, decode, is_finite, rung

WORD = (1 << 64) - 1


@dataclass(frozen=True)
class Rule:
    """One accumulation; ``format`` as overflow or rounding is the accumulator's own."""

    lanes: int
    chunk: int
    accumulator: str
    overflow: str = "format"
    rounding: str = "format"
    alignment_bits: int | None = None
    k_splits: int = 1
    readout: str = "fp32"
    seed: int = 0

    @property
    def grid(self) -> str:
        """The format that sums are rounded to."""
        return self.readout if self.accumulator == "exact" else self.accumulator


def split_mix(key: int, index: int) -> int:
    """Word ``index`` of the stream ``key``."""
    word = (key + 0x9E3779B97F4A7C15 * (index + 1)) & WORD
    word = (word ^ word >> 30) * 0xBF58476D1CE4E5B9 & WORD
    word = (word ^ word >> 27) * 0x94D049BB133111EB & WORD
    return word ^ word >> 31


def fixed_bits(name: str) -> tuple[int, int] | None:
    """(width, fraction bits) of ``int<N>``, ``fixed<I>.<F>``, ``fixed16_<I>_<F>``, or None."""
    if name in LADDERS:
        return None
    if name.startswith("fixed16_"):
        return 16, int(name.rsplit("_", 1)[1])
    if name.startswith("int"):
        return int(name[3:]), 0
    integer, fraction = name.removeprefix("fixed").split(".")
    return int(integer) + int(fraction), int(fraction)


def neighbours(name: str, size: Fraction) -> tuple[int, Fraction, Fraction, Fraction]:
    """(code of the value at or below ``size``, that value, the next one, the point between them)."""
    fixed = fixed_bits(name)
    if fixed:
        unit = Fraction(1, 1 << fixed[1])
        whole = math.floor(size / unit)
        return whole, whole * unit, (whole + 1) * unit, (whole + Fraction(1, 2)) * unit
    low, high = 0, LADDERS[name].top + 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if rung(name, middle) <= size else (low, middle)
    value = rung(name, low) if low else Fraction(0)
    return low, value, rung(name, low + 1), (rung(name, low) + rung(name, low + 1)) / 2


def takes_next(rule: Rule, size: Fraction, word: int) -> bool:
    """Whether a magnitude is rounded to the value above it."""
    code, below, above, between = neighbours(rule.grid, size)
    rounding = rule.rounding
    if rounding == "format":
        rounding = "nearest_" + ("even" if fixed_bits(rule.grid) else LADDERS[rule.grid].ties)
    if size == below or rounding == "toward_zero":
        return False
    if rounding == "to_odd":
        return code % 2 == 0
    if rounding == "stochastic":
        return math.floor((size - below) / (above - below) * 2**32) + (word >> 32) >= 2**32
    if size != between:
        return size > between
    return {"nearest_even": code % 2 == 1, "nearest_up": True, "nearest_down": False}[rounding]


def overflow_of(rule: Rule) -> str:
    """saturate, infinity, nan or wrap."""
    if rule.overflow != "format":
        return rule.overflow
    beyond = "nothing" if fixed_bits(rule.grid) else LADDERS[rule.grid].beyond
    return {"nothing": "saturate", "inf_nan": "infinity", "nan": "nan"}[beyond]


def limits(name: str) -> tuple[Fraction, Fraction]:
    """The lowest and the largest number of a format."""
    fixed = fixed_bits(name)
    if fixed:
        half, unit = 1 << (fixed[0] - 1), Fraction(1, 1 << fixed[1])
        return -half * unit, (half - 1) * unit
    largest = rung(name, LADDERS[name].top)
    return -largest, largest


def rounded_size(rule: Rule, size: Fraction, word: int) -> Fraction:
    """A magnitude rounded; a floating-point grid ends one value past its largest."""
    if not fixed_bits(rule.grid):
        size = min(size, rung(rule.grid, LADDERS[rule.grid].top + 1))
        if size == rung(rule.grid, LADDERS[rule.grid].top + 1):
            return size
    _, below, above, _ = neighbours(rule.grid, size)
    return above if takes_next(rule, size, word) else below


def rounded(rule: Rule, value: Value, word: int = 0) -> Value:
    """One rounding to the accumulator's format."""
    if value != value:
        return NAN
    lowest, largest = limits(rule.grid)
    overflow = overflow_of(rule)
    if is_finite(value):
        size = rounded_size(rule, Fraction(abs(value)), word)
        result = size if value > 0 else -size
        if lowest <= result <= largest:
            return result
        if overflow == "wrap":
            return (result - lowest) % (-2 * lowest) + lowest
        if rule.rounding in ("toward_zero", "to_odd") and not fixed_bits(rule.grid):
            return largest if value > 0 else lowest
    if overflow == "saturate":
        return largest if value > 0 else lowest
    if overflow == "infinity":
        return INFINITY if value > 0 else NEGATIVE_INFINITY
    return NAN


def exponent(value: Fraction, name: str) -> int:
    """floor(log2 |value|), but not below the smallest normal number of the format ``name``."""
    found = value.numerator.bit_length() - value.denominator.bit_length()
    layout = LADDERS.get(name)
    return max(found, 1 - layout.bias) if layout is not None and layout.subnormal else found


def added(rule: Rule, terms: Sequence[tuple[Value, int]], word: int) -> Value:
    """Terms, each with its exponent, through one adder."""
    specials = [term for term, _ in terms if not is_finite(term)]
    if specials:
        return rounded(rule, specials[0] if all(term == specials[0] for term in specials) else NAN)
    numbers = [(Fraction(term), power) for term, power in terms if term != 0]
    if rule.alignment_bits is not None and numbers:
        window = Fraction(2) ** (max(power for _, power in numbers) - rule.alignment_bits)
        numbers = [(math.trunc(term / window) * window, power) for term, power in numbers]
    return rounded(rule, sum((term for term, _ in numbers), Fraction(0)), word)


@dataclass
class Adder:
    """The adders of one output element, and how many roundings they have made."""

    rule: Rule
    key: int
    roundings: int = 0

    def add(self, terms: Sequence[tuple[Value, int]]) -> Value:
        """One addition."""
        self.roundings += 1
        return added(self.rule, terms, split_mix(self.key, self.roundings - 1))

    def held(self, value: Value) -> tuple[Value, int]:
        """A value of the accumulator with its exponent."""
        return value, exponent(value, self.rule.grid) if is_finite(value) and value != 0 else 0


def products(left: Sequence[Value], right: Sequence[Value], a: str, b: str) -> list[tuple[Value, int]]:
    """Products with their exponents."""
    found = []
    for x, y in zip(left, right, strict=True):
        number = is_finite(x) and is_finite(y) and x != 0 and y != 0
        found.append((product(x, y), exponent(x, a) + exponent(y, b) if number else 0))
    return found


def dot(rule: Rule, terms: Sequence[tuple[Value, int]], row: int = 0, column: int = 0) -> Value:
    """The sum of ``terms`` at (row, column) of the result; a chunk is summed when its core comes to it."""
    adder = Adder(rule, split_mix(split_mix(rule.seed, row), column))
    if rule.accumulator == "exact":
        return adder.add(terms)
    chunks = [terms[start : start + rule.chunk] for start in range(0, len(terms), rule.chunk)]
    each = max(-(-len(chunks) // rule.k_splits), 1)
    total: Value | None = None
    for start in range(0, len(chunks), each):
        outer: Value | None = None
        for chunk in chunks[start : start + each]:
            partial: Value = Fraction(0)
            for first in range(0, len(chunk), rule.lanes):
                partial = adder.add([adder.held(partial), *chunk[first : first + rule.lanes]])
            outer = partial if outer is None else adder.add([adder.held(outer), adder.held(partial)])
        assert outer is not None
        total = outer if total is None else adder.add([adder.held(total), adder.held(outer)])
    return Fraction(0) if total is None else total


def matmul(
    rule: Rule, a: Sequence[Sequence[int]], b: Sequence[Sequence[int]], a_format: str, b_format: str,
    origin: tuple[int, int] = (0, 0),
) -> list[list[Value]]:  # fmt: skip
    """Values of A (m x k) times B (k x n), both codes; ``origin``: where the product's corner lies."""
    columns = [[decode(b_format, int(code)) for code in column] for column in zip(*b, strict=True)]
    result = []
    for i, codes in enumerate(a):
        row = [decode(a_format, int(code)) for code in codes]
        result.append(
            [
                dot(rule, products(row, column, a_format, b_format), origin[0] + i, origin[1] + j)
                for j, column in enumerate(columns)
            ]
        )
    return result
