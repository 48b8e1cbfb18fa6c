"""What a number format and a rounding mean in the bits of a float: the parameters of `code_kernels`.

`conversion` defines what a conversion computes; a layout exists where the kernels provably compute the same,
and is None elsewhere.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.format_record import NumberFormat
from accelsim.numerics.format_rules import binade_power
from accelsim.numerics.ladder import ladder_of

I64 = NDArray[np.int64]

_SINGLE_BIAS, _DOUBLE_BIAS = 127, 1023
_ROOT_PLACE = math.isqrt(2 << 46) + 1 - (1 << 23)
"""Where, in units of 2**-23, the fraction of a float32 passes sqrt(2)."""


@dataclass(frozen=True, eq=False)
class Layout:
    """Parameters of one kernel of `code_kernels`.

    `nearest_floats`, and `nearest_floats_even` where a tie between equal steps goes to the even one: bits of
    the place after the largest value; below which bits steps are equal; bits of rung 0; how far a
    difference of bits is shifted to be a difference of rungs; what carries into the next rung; 1 where a
    tie looks at the code below; the first code above zero; then the ends. Places: 2**23 equal steps, and
    what is left over by a tie that should have gone up, and down.

    `nearest_integers` and `drawn_integers`: lowest and largest integer, mask of the code, exponent field
    of the step. Places: as above, and a place above the range.

    `drawn_floats`: the ends, fraction bits, the exponent field of the lowest binade, what is added to the
    code. `drawn_powers`: the ends, the exponent field of the smallest power, log2 of log2 of the radix.
    Places: that after the largest value.

    The ends: the largest code, what is above it, NaN, the sign bit. Single places: for kernels of
    `drawn_kernels`, where they compute the same from float32.
    """

    kernel: str
    fields: I64
    places: NDArray[Any]
    single_places: I64 | None = None


@cache
def nearest_layout(fmt: NumberFormat, rounding: str, overflow: str) -> Layout | None:
    """The layout for float32 values, or None."""
    if not rounding.startswith("nearest") or not _is_plain(fmt, overflow) or _top(fmt) > 2.0**128:
        return None
    ties = rounding.removeprefix("nearest_")
    if _is_whole(fmt):
        places = np.array([*_tie_places(fmt.unit, ties), _top(fmt)], np.float32)
        return Layout("nearest_integers", _integer_fields(fmt), places)
    flat = fmt.lowest_binade == "subnormal"
    if fmt.unit < 2.0**-140 or _SINGLE_BIAS + binade_power(fmt, 0) < (0 if flat else 1):
        return None
    fields = [_single_bits(_top(fmt)), *_steps(fmt, ties), fmt.first_code, *_ends(fmt, overflow)]
    places = np.array(_tie_places(fmt.unit if flat else 1.0, ties), np.float32)
    kernel = "nearest_floats_even" if ties == "even" else "nearest_floats"
    return Layout(kernel, np.array(fields, np.int64), places)


@cache
def drawn_layout(fmt: NumberFormat, overflow: str) -> Layout | None:
    """The layout for stochastic rounding of float32 or float64 values, or None."""
    if not _is_plain(fmt, overflow):
        return None
    top = np.array([_top(fmt)])
    if _is_whole(fmt):
        fields = _integer_fields(fmt)
        return Layout("drawn_integers", fields, top, _single_places(fmt, int(fields[3]), 0))
    ends = _ends(fmt, overflow)
    if fmt.fraction_bits == 0:
        lowest = _DOUBLE_BIAS + binade_power(fmt, 1)
        fields = np.array([*ends, lowest, _log2_binades(fmt)], np.int64)
        return Layout("drawn_powers", fields, top, _single_places(fmt, lowest, 0))
    if fmt.lowest_binade == "zero":
        return None
    normal = fmt.lowest_binade == "normal"
    lowest = _DOUBLE_BIAS + binade_power(fmt, 0 if normal else 1)
    offset = -(1 << fmt.fraction_bits) if normal else 0
    fields = np.array([*ends, fmt.fraction_bits, lowest, offset], np.int64)
    return Layout("drawn_floats", fields, top, _single_places(fmt, lowest, fmt.fraction_bits))


def _single_places(fmt: NumberFormat, lowest: int, fraction_bits: int) -> I64 | None:
    """Bits of the place above the range and of ``2**fraction_bits`` over the power whose field is ``lowest``.

    None where either, or that power, is no normal single.
    """
    power = lowest - _DOUBLE_BIAS
    if not (power >= -126 and -126 <= fraction_bits - power <= 127 and _top(fmt) < 2.0**128):
        return None
    reciprocal = math.ldexp(1.0, fraction_bits - power)
    return np.array([_single_bits(_top(fmt)), _single_bits(reciprocal)], np.int64)


def _is_plain(fmt: NumberFormat, overflow: str) -> bool:
    """Whether the steps of a format are spans of bits, and nothing about its codes is unusual."""
    usual = fmt.bits < 32 and overflow != "wrap" and (fmt.signed or _is_whole(fmt))
    return usual and fmt.exponent_divisor == 1 and fmt.radix != 8


def _is_whole(fmt: NumberFormat) -> bool:
    return fmt.kind in ("integer", "fixed")


def _top(fmt: NumberFormat) -> float:
    """Where the value after the largest one would be, or a place above that."""
    return ladder_of(fmt).top * (fmt.unit if _is_whole(fmt) else 1.0)


def _single_bits(value: float) -> int:
    return 0x7F800000 if value >= 2.0**128 else int(np.float32(value).view(np.int32))


def _log2_binades(fmt: NumberFormat) -> int:
    """log2 of the binades from one exponent code to the next."""
    return {2: 0, 4: 1, 16: 2}[fmt.radix]


def _tie_places(step: float, ties: str) -> list[float]:
    rest = {"even": (math.nan, math.nan), "up": (step / 2, math.nan), "down": (math.nan, -step / 2)}[ties]
    return [math.ldexp(step, 23), *rest]


def _integer_fields(fmt: NumberFormat) -> I64:
    lowest, unit = int(fmt.min_value / fmt.unit), _DOUBLE_BIAS + math.frexp(fmt.unit)[1] - 1
    return np.array([lowest, fmt.max_code, (1 << fmt.bits) - 1, unit], np.int64)


def _steps(fmt: NumberFormat, ties: str) -> list[int]:
    """Fields 1..5 of `nearest_floats`."""
    drop, binades = 23 - fmt.fraction_bits + _log2_binades(fmt), 1 << _log2_binades(fmt)
    smallest = (_SINGLE_BIAS + binade_power(fmt, 1)) << 23
    flat = fmt.lowest_binade == "subnormal"
    below = [smallest if flat else 0, smallest - (binades << 23), drop]
    if fmt.kind == "log":  # nothing is a tie with an irrational number
        return [*below, (1 << drop) - _ROOT_PLACE, 0]
    # the middle of 1 and 2**r is 2**(r - 1) * (1 + 2**-r)
    middle = ((binades - 1) << 23) + (1 << (23 - binades)) if binades > 1 else 1 << (drop - 1)
    return [*below, (1 << drop) - middle - (ties != "up"), int(ties == "even")]


def _ends(fmt: NumberFormat, overflow: str) -> list[int]:
    above = {"saturate": fmt.max_code, "infinity": fmt.max_code + 1, "nan": fmt.nan_code}[overflow]
    return [fmt.max_code, above, fmt.nan_code if fmt.has_nan else 0, fmt.sign_code]
