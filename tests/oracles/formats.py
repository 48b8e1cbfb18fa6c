"""Number formats from first principles: what each bit pattern means and which one a number rounds to.

A value is a `Fraction`, or one of the floats ``nan``, ``inf``, ``-inf`` (never any other float). Nothing here
is fast: a code is decoded field by field and a number is encoded by comparing it with its two neighbours.

Sign-magnitude formats are read as a ladder: the magnitude codes 0, 1, 2, ... stand for rising numbers. The
ladder is also read one rung past the top: the first code that is not a number (infinity, NaN) still has the
place where its number would have been, and in a format without subnormals code 0 still has the place of a
number, though it means zero. So one rule, "the nearer of two rungs", covers overflow and flushing to zero.

Sources: IEEE 754; OCP 8-bit floating point and Microscaling specifications (fp8, fp6, fp4); Agrawal et al.,
"DLFloat", ARITH 2019; Sun et al., "Ultra-Low Precision 4-bit Training", NeurIPS 2020 (radix-4 FP4) and
"Hybrid 8-bit Floating Point", NeurIPS 2019 (1-4-3 with its bias shifted by four, 1-5-2).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, lru_cache

Value = Fraction | float
NAN = math.nan
INFINITY = math.inf
NEGATIVE_INFINITY = -math.inf


@dataclass(frozen=True)
class IntegerFormat:
    """Two's complement (signed) or plain binary."""

    bits: int
    signed: bool


@dataclass(frozen=True)
class LadderFormat:
    """Sign bit, exponent field, fraction field.

    ``top`` is the largest magnitude code that is a number; ``beyond`` says what the codes above it are:
    ``"inf_nan"`` (IEEE), ``"nan"`` or ``"nothing"`` (no such codes: the format saturates).
    ``subnormal`` tells whether exponent field 0 lacks the leading one; if not, it is an ordinary binade of
    which only code 0 is taken away, for zero. ``halved``: every number is read at half its value.
    ``ties`` is ``"even"`` (even code) or ``"up"`` (larger magnitude).
    """

    exponent_bits: int
    fraction_bits: int
    bias: int
    radix: int = 2
    halved: bool = False
    subnormal: bool = True
    beyond: str = "nothing"
    ties: str = "even"

    @property
    def bits(self) -> int:
        return 1 + self.exponent_bits + self.fraction_bits

    @property
    def sign_bit(self) -> int:
        return 1 << (self.bits - 1)

    @property
    def top(self) -> int:
        last = self.sign_bit - 1
        if self.beyond == "inf_nan":
            return last - (1 << self.fraction_bits)
        return last - 1 if self.beyond == "nan" else last


INTEGERS = {
    "int2": IntegerFormat(2, True),
    "int4": IntegerFormat(4, True),
    "int8": IntegerFormat(8, True),
    "uint2": IntegerFormat(2, False),
    "uint4": IntegerFormat(4, False),
    "uint8": IntegerFormat(8, False),
}

LADDERS = {
    "fp4_r4_even": LadderFormat(3, 0, 4, radix=4, subnormal=False, ties="up"),
    "fp4_r4_odd": LadderFormat(3, 0, 4, radix=4, halved=True, subnormal=False, ties="up"),
    "fp4_e3m0": LadderFormat(3, 0, 4, subnormal=False, ties="up"),
    "fp4_e2m1": LadderFormat(2, 1, 1),
    "fp4_e1m2": LadderFormat(1, 2, 1),
    "fp6_e2m3": LadderFormat(2, 3, 1),
    "fp6_e3m2": LadderFormat(3, 2, 3),
    "fp8_e4m3_ibm": LadderFormat(4, 3, 11),
    "fp8_e5m2_ibm": LadderFormat(5, 2, 15),
    "fp8_e4m3fn": LadderFormat(4, 3, 7, beyond="nan"),
    "fp8_e5m2": LadderFormat(5, 2, 15, beyond="inf_nan"),
    "dlfloat16": LadderFormat(6, 9, 31, subnormal=False, beyond="nan", ties="up"),
    "fp16": LadderFormat(5, 10, 15, beyond="inf_nan"),
    "bf16": LadderFormat(8, 7, 127, beyond="inf_nan"),
    "tf32": LadderFormat(8, 10, 127, beyond="inf_nan"),
    "fp32": LadderFormat(8, 23, 127, beyond="inf_nan"),
}

NAMES = (*INTEGERS, *LADDERS)


def bits(name: str) -> int:
    """Width of a code in bits."""
    return INTEGERS[name].bits if name in INTEGERS else LADDERS[name].bits


def is_finite(value: Value) -> bool:
    """True for a number, False for NaN and the infinities."""
    return isinstance(value, Fraction)


@lru_cache(maxsize=1 << 17)
def rung(name: str, magnitude_code: int) -> Fraction:
    """The number a magnitude code stands for, read as if every code were a number (also past both ends)."""
    layout = LADDERS[name]
    exponent_field, fraction_field = divmod(magnitude_code, 1 << layout.fraction_bits)
    fraction = Fraction(fraction_field, 1 << layout.fraction_bits)
    if exponent_field == 0 and layout.subnormal:
        return fraction * Fraction(layout.radix) ** (1 - layout.bias)
    value = (1 + fraction) * Fraction(layout.radix) ** (exponent_field - layout.bias)
    return value / 2 if layout.halved else value


def decode(name: str, code: int) -> Value:
    """The value of a code. The sign of a zero is lost: a `Fraction` has one zero."""
    if name in INTEGERS:
        integer = INTEGERS[name]
        wraps = integer.signed and code >= 1 << (integer.bits - 1)
        return Fraction(code - (1 << integer.bits) if wraps else code)
    layout = LADDERS[name]
    magnitude_code = code % layout.sign_bit
    negative = code >= layout.sign_bit
    if magnitude_code == 0:
        return Fraction(0)
    if magnitude_code <= layout.top:
        return -rung(name, magnitude_code) if negative else rung(name, magnitude_code)
    if layout.beyond == "inf_nan" and magnitude_code == layout.top + 1:
        return NEGATIVE_INFINITY if negative else INFINITY
    return NAN


def nan_code(name: str) -> int:
    """The canonical NaN: positive and, where there is a choice, quiet with an empty payload."""
    layout = LADDERS[name]
    if layout.beyond == "nothing":
        raise ValueError(f"{name} has no NaN")
    if layout.beyond == "nan":
        return layout.top + 1
    return layout.top + 1 + (1 << (layout.fraction_bits - 1))


def max_value(name: str) -> Fraction:
    """The largest number of the format."""
    if name in INTEGERS:
        integer = INTEGERS[name]
        return Fraction((1 << (integer.bits - integer.signed)) - 1)
    return rung(name, LADDERS[name].top)


def min_positive(name: str) -> Fraction:
    """The smallest number above zero."""
    return Fraction(1) if name in INTEGERS else rung(name, 1)


@cache
def table(name: str) -> tuple[tuple[int, Value], ...]:
    """Every code with its value, up to 16 bits."""
    if bits(name) > 16:
        raise ValueError(f"{name} is too wide for a table")
    return tuple((code, decode(name, code)) for code in range(1 << bits(name)))


def _floor_rung(name: str, magnitude: Fraction, above_top: int) -> int:
    """The largest magnitude code up to ``above_top`` whose rung is not above ``magnitude``; -1 if none is."""
    low, high = -1, above_top + 1
    while high - low > 1:
        middle = (low + high) // 2
        if rung(name, middle) <= magnitude:
            low = middle
        else:
            high = middle
    return low


def magnitude_code(name: str, magnitude: Fraction, ties: str | None = None) -> int:
    """The code nearest to a magnitude; one past ``top`` means overflow where the format has such a code."""
    layout = LADDERS[name]
    highest = layout.top if layout.beyond == "nothing" else layout.top + 1
    below = _floor_rung(name, magnitude, highest)
    if below == -1:
        return 0
    if below == highest:
        return highest
    down, up = magnitude - rung(name, below), rung(name, below + 1) - magnitude
    if down != up:
        return below if down < up else below + 1
    rule = ties or layout.ties
    if rule == "even":
        return below if below % 2 == 0 else below + 1
    return below + 1 if rule == "up" else below


def _round_half_even(value: Fraction) -> int:
    below = math.floor(value)
    rest = value - below
    if rest == Fraction(1, 2):
        return below if below % 2 == 0 else below + 1
    return below if rest < Fraction(1, 2) else below + 1


def _encode_integer(name: str, value: Value) -> int:
    integer = INTEGERS[name]
    highest = int(max_value(name))
    lowest = -highest - 1 if integer.signed else 0
    if not is_finite(value):
        rounded = highest if value > 0 else lowest
    else:
        rounded = min(max(_round_half_even(value), lowest), highest)
    return rounded % (1 << integer.bits)


def encode(name: str, value: float | Fraction, saturate: bool = False, ties: str | None = None) -> int:
    """The code a number rounds to.

    Integers round half to even and saturate. ``saturate`` gives the largest number where the format would
    give an infinity, or NaN for anything but NaN: also for an infinite value.
    NaN into a format without one is a ValueError.
    The sign of a float zero, and of a number that flushes to zero, is kept.
    """
    negative = value < 0 or (isinstance(value, float) and math.copysign(1.0, value) < 0)
    exact: Value = Fraction(value) if isinstance(value, Fraction) or math.isfinite(value) else value
    if exact != exact and (name in INTEGERS or LADDERS[name].beyond == "nothing"):
        raise ValueError(f"{name} has no NaN")
    if name in INTEGERS:
        return _encode_integer(name, exact)
    layout = LADDERS[name]
    if exact != exact:
        return nan_code(name)
    if is_finite(exact):
        code = magnitude_code(name, abs(exact), ties)
    else:
        code = layout.top if layout.beyond == "nothing" else layout.top + 1
    code = min(code, layout.top) if saturate else code
    return code | layout.sign_bit if negative else code


def as_float(value: Value) -> float:
    """The value as a float64; exact for every format here."""
    if not is_finite(value):
        return value
    result = float(value)
    assert Fraction(result) == value
    return result
