"""What a sum can be kept in, by name: a signed number format, a wide integer or fixed point, or `EXACT`.

=====================  =====================================================================================
``dlfloat16`` ``fp16`` ``bf16`` ``fp32`` ``fp8_e4m3fn`` ...  every signed format of `formats` but logarithms
``int<N>``             two's complement of N = 2..48 bits
``fixed<I>.<F>``       two's complement, I integer bits (sign included) and F fraction bits, 2..48 together
``exact``              as many bits as the sum needs (Kulisch); rounded once, when it is read out
=====================  =====================================================================================

Nothing here needs NumPy until arrays are converted: a chip file is checked without it.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from fractions import Fraction
from functools import cache
from typing import TYPE_CHECKING, Any

from accelsim.errors import InputError, unknown
from accelsim.numerics.formats import NumberFormat, format_families, format_names, number_format

if TYPE_CHECKING:
    from numpy.typing import ArrayLike, NDArray

EXACT = "exact"
WIDEST = 48
"""Bits of the widest integer or fixed-point accumulator (the adders of today's DSP blocks): float64 then
holds every value and, to one bit below it, every tie, also of a sum that is still to be wrapped."""


@dataclass(frozen=True)
class FixedPoint:
    """A two's complement accumulator of ``bits`` bits in steps of ``2**-fraction_bits``.

    The names of its properties are those of `NumberFormat`.
    """

    name: str
    bits: int
    fraction_bits: int = 0
    kind: str = "fixed"
    has_nan: bool = False
    rounding: str = "nearest_even"
    overflow: str = "saturate"
    overflows: tuple[str, ...] = ("saturate", "wrap")

    def __str__(self) -> str:
        return self.name

    @property
    def significand_bits(self) -> int:
        """Bits of the widest magnitude (but for that of the lowest value)."""
        return self.bits - 1

    @property
    def unit(self) -> float:
        """The distance of neighbours."""
        return math.ldexp(1.0, -self.fraction_bits)

    @property
    def min_positive(self) -> float:
        """The smallest value above zero."""
        return self.unit

    @property
    def max_value(self) -> float:
        """The largest value."""
        return ((1 << (self.bits - 1)) - 1) * self.unit

    @property
    def min_value(self) -> float:
        """The lowest value."""
        return -(1 << (self.bits - 1)) * self.unit

    def encode(self, values: ArrayLike) -> NDArray[Any]:
        """Codes, uint64, of values that the format holds. Raises `InputError` for any other value."""
        import numpy as np

        steps = np.asarray(values, np.float64) / self.unit
        held = (steps == np.floor(steps)) & (np.abs(steps + 0.5) < 1 << (self.bits - 1))
        if not held.all():
            raise InputError(f"{self.name}: {np.asarray(values)[~held].flat[0]} is not a value of the format")
        return (steps.astype(np.int64) & ((1 << self.bits) - 1)).astype(np.uint64)

    def decode(self, codes: ArrayLike) -> NDArray[Any]:
        """Values, float64, of codes (unsigned integers below ``2**bits``)."""
        import numpy as np

        whole = np.asarray(codes).astype(np.int64)
        negative = whole >> (self.bits - 1) << self.bits
        return np.asarray((whole - negative) * self.unit)


AccumulatorFormat = NumberFormat | FixedPoint


@cache
def accumulator_format(name: str) -> AccumulatorFormat:
    """The format of the accumulator ``name`` (not of `EXACT`, which has none of its own).

    Raises
    ------
    InputError: no accumulator has that name (the nearest is named), a width out of range, an unsigned or
    logarithmic format, a format file with a mistake.
    """
    integer, fixed = re.fullmatch(r"int(\d+)", name, re.ASCII), _FIXED.fullmatch(name)
    if fixed:
        return _fixed_point(name, int(fixed[1]), int(fixed[2]))
    if integer and int(integer[1]) > 8:
        return _fixed_point(name, int(integer[1]), 0)
    if not _names_a_format(name):
        known = [*format_names(), *(family.syntax for family in format_families())]
        fit = [each for each in known if not each.startswith(("int<", "uint", "log"))]
        raise unknown("accumulator", name, [*fit, *_SYNTAXES])
    fmt = number_format(name)
    if not fmt.signed or fmt.kind == "log":
        kind = "logarithmic" if fmt.kind == "log" else "unsigned"
        raise InputError(f"'{name}' is {kind}: sums need a signed accumulator of equal or floating steps")
    return fmt


_FIXED = re.compile(r"fixed(\d+)\.(\d+)", re.ASCII)
_SYNTAXES = (f"int<2..{WIDEST}>", "fixed<I>.<F>", EXACT)


def _fixed_point(name: str, integer_bits: int, fraction_bits: int) -> FixedPoint:
    bits = integer_bits + fraction_bits
    if integer_bits < 1 or not 2 <= bits <= WIDEST:
        raise InputError(f"'{name}': an accumulator has a sign bit and 2..{WIDEST} bits in all, got {bits}")
    return FixedPoint(name, bits, fraction_bits)


def _names_a_format(name: str) -> bool:
    families = (re.fullmatch(family.pattern, name, re.ASCII) for family in format_families())
    return name in format_names() or name.endswith((".yaml", ".yml")) or any(families)


def result_format(accumulator: str, readout: str) -> AccumulatorFormat:
    """The format of finished sums: the accumulator's own, or ``readout`` where it is `EXACT`."""
    return accumulator_format(readout if accumulator == EXACT else accumulator)


@cache
def accumulator_bits(name: str, a_format: str, b_format: str, k: int) -> int:
    """Bits of one sum of ``k`` products of the two formats as it leaves the array.

    `EXACT`: two's complement that holds every such sum, down to the last bit of the smallest product
    (Kulisch, "Computer Arithmetic and Validity", 2013, section 8).
    """
    if name != EXACT:
        return accumulator_format(name).bits
    a, b = number_format(a_format), number_format(b_format)
    return (max(k, 1) * _largest_in_units(a) * _largest_in_units(b)).bit_length() + 1


def _largest_in_units(fmt: NumberFormat) -> int:
    return int(Fraction(max(fmt.max_value, -fmt.min_value)) / Fraction(fmt.unit))
