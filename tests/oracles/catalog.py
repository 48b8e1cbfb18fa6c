"""Every format of the catalog and of its families, in every rounding and overflow, on exact numbers.

A format is a ladder of magnitudes: code i stands for ``place(i)``, an exact `Fraction`. The ladder goes
one rung past the top, so that overflow is a rounding like any other. Rounding finds the rung below by
bisection and compares exactly; a stochastic rounding adds the draw to the fraction and looks for a carry,
as hardware does. Floats are compared as the exact numbers they are.

The named floating-point formats are those of `oracles.formats`; families are read from their names here.
Sources: Gupta et al., ICML 2015 (fixed16); Miyashita et al., 2016 (log); OCP Microscaling 1.0 (MX);
NVIDIA, 2025 (NVFP4); Sun et al., NeurIPS 2020 (radix 4).
"""

from __future__ import annotations

import math
import re
from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction
from functools import cache, partial

from oracles import formats

DETERMINISTIC = ("nearest_even", "nearest_up", "nearest_down", "toward_zero", "to_odd")
DRAW_BITS = 32

Exact = Fraction | float


@dataclass(frozen=True)
class Twin:
    """A format as a ladder: magnitude code 0 means zero, 1..``top`` are numbers.

    ``place`` gives the number at a rung, read as if code 0 were a number too. ``logarithm`` is (bias,
    divisor) of a logarithmic ladder. ``whole``: two's complement (or unsigned) integers in units of
    ``unit``; ``lowest`` is then the lowest one in use.
    """

    name: str
    bits: int
    top: int
    place: Callable[[int], Fraction]
    signed: bool = True
    beyond: str = "nothing"
    ties: str = "even"
    logarithm: tuple[int, int] | None = None
    whole: bool = False
    unit: Fraction = Fraction(1)
    lowest: int = 0

    @property
    def sign_bit(self) -> int:
        return 1 << (self.bits - 1) if self.signed else 0

    @property
    def default_overflow(self) -> str:
        return {"nothing": "saturate", "nan": "nan", "inf_nan": "infinity"}[self.beyond]


@cache
def twin(name: str) -> Twin:
    """The format of a name of the catalog or of a family."""
    if re.fullmatch(r"u?int\d+s?|fixed16_\d+_\d+", name):
        return _whole(name)
    if name in formats.LADDERS:
        layout = formats.LADDERS[name]
        place = partial(formats.rung, name)
        return Twin(name, layout.bits, layout.top, place, beyond=layout.beyond, ties=layout.ties)
    if match := re.fullmatch(r"log(\d)(_sqrt2)?", name):
        bits, divisor = int(match[1]), 2 if match[2] else 1
        bias = 2 ** (bits - 2)
        place = partial(_power_of_root, bias, divisor)
        return Twin(name, bits, 2 ** (bits - 1) - 1, place, logarithm=(bias, divisor))
    match = re.fullmatch(r"fp(\d+)_r(\d+)(_even|_odd)?", name)
    assert match, name
    bits, radix = int(match[1]), int(match[2])
    half = Fraction(1, 2) if match[3] == "_odd" else Fraction(1)
    place = partial(_power, half, radix, 2 ** (bits - 2))
    return Twin(name, bits, 2 ** (bits - 1) - 1, place, ties="up")


def _whole(name: str) -> Twin:
    if match := re.fullmatch(r"fixed16_(\d+)_(\d+)", name):
        unit = Fraction(1, 2 ** int(match[2]))
        return Twin(name, 16, 2**15 - 1, Fraction, whole=True, unit=unit, lowest=-(2**15))
    match = re.fullmatch(r"(u?)int(\d+)(s?)", name)
    assert match
    bits, signed, symmetric = int(match[2]), not match[1], bool(match[3])
    top = 2 ** (bits - signed) - 1
    lowest = 0 if not signed else -top if symmetric else -top - 1
    return Twin(name, bits, top, Fraction, signed=signed, whole=True, lowest=lowest)


def _power(factor: Fraction, radix: int, bias: int, code: int) -> Fraction:
    return factor * Fraction(radix) ** (code - bias)


def _power_of_root(bias: int, divisor: int, code: int) -> Fraction:
    """2**((code - bias) / divisor), or the float64 nearest to it where it is irrational."""
    half, odd = divmod(code - bias, divisor)
    root = Fraction(math.isqrt(2 << 400), 1 << 200) if odd else Fraction(1)
    return Fraction(float(root)) * Fraction(2) ** half


@cache
def rungs(name: str) -> tuple[float, ...]:
    """What the magnitude codes 0..top + 1 of a format of at most 16 bits mean; every float is exact."""
    ladder = twin(name)
    return tuple(formats.as_float(value(ladder, code)) for code in range(ladder.top + 2))


@cache
def middles(name: str) -> tuple[float, ...]:
    """The arithmetic middles between neighbouring rungs 0..top + 1; every float is exact."""
    ladder = twin(name)
    return tuple(formats.as_float(_middle(ladder, code)) for code in range(ladder.top + 1))


def _middle(ladder: Twin, below: int) -> Fraction:
    return (ladder.place(below) + ladder.place(below + 1)) / 2


def value(ladder: Twin, code: int) -> Fraction:
    """What a rung stands for."""
    return ladder.place(code) if code else Fraction(0)


def decode(name: str, code: int) -> formats.Value:
    """The value of a code; the sign of a zero is lost."""
    ladder = twin(name)
    if ladder.whole:
        negative = ladder.signed and code >= ladder.sign_bit
        return (code - (1 << ladder.bits) if negative else code) * ladder.unit
    magnitude_code = code % ladder.sign_bit
    if magnitude_code > ladder.top:
        return formats.decode(name, code)
    magnitude = value(ladder, magnitude_code)
    return -magnitude if code >= ladder.sign_bit else magnitude


def fraction_above(ladder: Twin, magnitude: Exact) -> tuple[int, Fraction]:
    """The rung below a magnitude and how far it is to the next, in [0, 1)."""
    below = _rung_below(ladder, magnitude)
    low = value(ladder, below)
    return below, (Fraction(magnitude) - low) / (value(ladder, below + 1) - low)


def _rung_below(ladder: Twin, magnitude: Exact) -> int:
    if ladder.whole:
        return math.floor(magnitude)
    if ladder.bits <= 16:
        return bisect_right(rungs(ladder.name), magnitude) - 1
    return bisect_right(range(ladder.top + 2), magnitude, key=lambda code: value(ladder, code)) - 1


def round_magnitude(ladder: Twin, magnitude: Exact, rounding: str, draw: int = 0) -> int:
    """The rung a finite magnitude rounds to (``top + 1``: overflow). ``draw``: of `DRAW_BITS` bits."""
    below = _rung_below(ladder, magnitude)
    if below > ladder.top and not ladder.whole:
        return below
    if _is_rung(ladder, below, magnitude) or rounding == "toward_zero":
        return below
    if rounding == "to_odd":
        return below + 1 if below % 2 == 0 else below
    if rounding == "stochastic":
        _, fraction = fraction_above(ladder, magnitude)
        carry = math.floor(fraction * 2**DRAW_BITS) + draw >= 2**DRAW_BITS
        return below + carry
    side = _side_of_middle(ladder, below, magnitude)
    ties_up = {"nearest_even": below % 2 == 1, "nearest_up": True, "nearest_down": False}[rounding]
    return below + 1 if side > 0 or (side == 0 and ties_up) else below


def _is_rung(ladder: Twin, below: int, magnitude: Exact) -> bool:
    if ladder.whole:
        return below == magnitude
    exact = rungs(ladder.name)[below] if ladder.bits <= 16 else value(ladder, below)
    return exact == magnitude


def _side_of_middle(ladder: Twin, below: int, magnitude: Exact) -> int:
    """The sign of magnitude minus the middle between two rungs, arithmetic or (logarithms) geometric."""
    left, right = magnitude, below + 0.5
    if ladder.logarithm:
        bias, divisor = ladder.logarithm
        left, right = Fraction(magnitude) ** (2 * divisor), Fraction(2) ** (2 * (below - bias) + 1)
        assert left != right
    elif not ladder.whole:
        right = middles(ladder.name)[below] if ladder.bits <= 16 else _middle(ladder, below)
    return (left > right) - (left < right)


def encode(name: str, number: Exact, rounding: str = "", overflow: str = "", draw: int = 0) -> int:
    """The code of a number that is not NaN; the format's own rounding and overflow where none is given."""
    ladder = twin(name)
    rounding = rounding or f"nearest_{ladder.ties}"
    overflow = overflow or ladder.default_overflow
    negative = number < 0 or (isinstance(number, float) and math.copysign(1.0, number) < 0)
    if ladder.whole:
        return _encode_whole(ladder, number, rounding, overflow, draw)
    infinite = isinstance(number, float) and math.isinf(number)
    code = ladder.top + 1 if infinite else round_magnitude(ladder, abs(number), rounding, draw)
    if rounding in ("toward_zero", "to_odd") and not infinite:
        code = min(code, ladder.top)
    if code > ladder.top:
        if overflow == "saturate":
            code = ladder.top
        elif overflow == "nan":
            code = formats.nan_code(name)
    return code | ladder.sign_bit if negative else code


def _encode_whole(ladder: Twin, number: Exact, rounding: str, overflow: str, draw: int) -> int:
    if isinstance(number, float) and math.isinf(number):
        whole = ladder.top if number > 0 else ladder.lowest
    else:
        # the unit is a power of two: a float divided by it is exact as long as it stays in range
        small = isinstance(number, float) and abs(number) < 2.0**900
        exact = number / float(ladder.unit) if small else Fraction(number) / ladder.unit
        whole = round_magnitude(ladder, abs(exact), rounding, draw) * (-1 if exact < 0 else 1)
    if overflow == "saturate":
        whole = min(max(whole, ladder.lowest), ladder.top)
    return whole % (1 << ladder.bits)


@dataclass(frozen=True)
class BlockTwin:
    """Element format, elements per block and the kind of their scale."""

    element: str
    block: int
    scale: str


BLOCKS = {
    "mxfp4": BlockTwin("fp4_e2m1", 32, "e8m0"),
    "mxfp6_e2m3": BlockTwin("fp6_e2m3", 32, "e8m0"),
    "mxfp6_e3m2": BlockTwin("fp6_e3m2", 32, "e8m0"),
    "mxfp8_e4m3": BlockTwin("fp8_e4m3fn", 32, "e8m0"),
    "mxfp8_e5m2": BlockTwin("fp8_e5m2", 32, "e8m0"),
    "nvfp4": BlockTwin("fp4_e2m1", 16, "e4m3"),
}


def encode_blocks(name: str, row: list[float], rounding: str = "") -> tuple[list[int], list[int], Fraction]:
    """(element codes, block scale codes, tensor scale) of one row of finite numbers."""
    layout = BLOCKS[name]
    largest = formats.max_value(layout.element)
    blocks = [row[start : start + layout.block] for start in range(0, len(row), layout.block)]
    tensor = Fraction(1)
    if layout.scale == "e4m3":
        amax = max((abs(Fraction(x)) for x in row), default=Fraction(0))
        code = encode("fp32", amax / (448 * largest), overflow="saturate")
        tensor = max(value(twin("fp32"), code), formats.min_positive("fp32"))
    codes, scale_codes = [], []
    for block in blocks:
        amax = max(abs(Fraction(x)) for x in block)
        scale_code, scale = _block_scale(layout.scale, amax, largest, tensor)
        scale_codes.append(scale_code)
        for x in block:
            quotient = Fraction(x) / (scale * tensor) if scale else Fraction(0)
            code = encode(layout.element, quotient, rounding, "saturate")
            negative = math.copysign(1.0, x) < 0
            codes.append(code | twin(layout.element).sign_bit if negative else code)
    return codes, scale_codes, tensor


def value_of_scale(kind: str) -> Callable[[int], Fraction]:
    """What the codes of block scales mean (NaN left out)."""
    if kind == "e4m3":
        return lambda code: value(twin("fp8_e4m3fn"), code)
    return lambda code: Fraction(2) ** (code - 127)


def _block_scale(kind: str, amax: Fraction, largest: Fraction, tensor: Fraction) -> tuple[int, Fraction]:
    if kind == "e4m3":
        code = encode("fp8_e4m3fn", amax / (largest * tensor), overflow="saturate")
        return code, value(twin("fp8_e4m3fn"), code)
    exponent = -127
    if amax:
        exponent = min(max(_floor_log2(amax) - _floor_log2(largest), -127), 127)
    return exponent + 127, Fraction(2) ** exponent


def _floor_log2(number: Fraction) -> int:
    guess = number.numerator.bit_length() - number.denominator.bit_length()
    return guess if Fraction(2) ** guess <= number else guess - 1
