"""One rounding of an exact sum, in every mode, to every format that a sum is kept in.

The format arrives as plain arrays: ``fields`` int64 and ``limits`` float64, made by `rounding_fields`.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from accelsim.numerics.accumulator import AccumulatorFormat, FixedPoint
from accelsim.numerics.compiled import kernel
from accelsim.numerics.exact_sum import grow, reduced, round_to_odd
from accelsim.numerics.format_record import OVERFLOWS, ROUNDINGS
from accelsim.numerics.format_rules import binade_power, magnitude

_FRACTION_BITS, _LOWEST, _SUBNORMALS, _LOG2_RADIX, _OFFSET, _BIAS, _ZERO_ODD, _MODE, _OVERFLOW = range(9)
_SMALLEST, _FLUSH, _LARGEST, _LOWEST_SIZE, _MODULUS = range(5)

_NEAREST_EVEN, _NEAREST_UP, _NEAREST_DOWN, _TOWARD_ZERO, _TO_ODD, _STOCHASTIC = (
    ROUNDINGS.index(name)
    for name in ("nearest_even", "nearest_up", "nearest_down", "toward_zero", "to_odd", "stochastic")
)
_SATURATE, _INFINITY, _WRAP = (OVERFLOWS.index(name) for name in ("saturate", "infinity", "wrap"))

_FIXED_EXPONENT = 4096  # fixed steps are a subnormal range that reaches beyond every number
_DRAW_SCALE = 2.0**-32


def rounding_fields(fmt: AccumulatorFormat, rounding: str, overflow: str) -> tuple[Any, Any]:
    """``(fields, limits)`` of a format, one of `ROUNDINGS` and one of `OVERFLOWS`, for `rounded_sum`."""
    fixed = isinstance(fmt, FixedPoint) or fmt.kind != "float"
    mode = [ROUNDINGS.index(rounding), OVERFLOWS.index(overflow)]
    if fixed:
        unit_power = math.frexp(fmt.unit)[1] - 1
        fields = [_FIXED_EXPONENT - unit_power, _FIXED_EXPONENT, 1, 1, 0, 0, 0, *mode]
        flush = fmt.unit / 2
    else:
        fields, flush = _float_fields(fmt)
        fields += mode
    modulus = math.ldexp(fmt.unit, fmt.bits) if overflow == "wrap" else math.inf
    limits = [fmt.min_positive, flush, fmt.max_value, -fmt.min_value, modulus]
    return np.array(fields, np.int64), np.array(limits)


def _float_fields(fmt: Any) -> tuple[list[int], float]:
    """The fields but for the mode, and the nearest-value threshold between zero and the smallest number.

    A zero that stands where a number would be (1-6-9, radix 4) is rounded to as if it were that number.
    """
    zero_code = fmt.first_code - 1
    zero_place = 0.0
    if fmt.lowest_binade != "subnormal":
        fraction = zero_code / (1 << fmt.fraction_bits)
        zero_place = math.ldexp(1.0 + fraction, binade_power(fmt, 0))
    subnormals = fmt.lowest_binade == "subnormal"
    fields = [
        fmt.fraction_bits, binade_power(fmt, 1), int(subnormals), fmt.radix.bit_length() - 1,
        fmt.exponent_offset, fmt.bias, zero_code & 1,
    ]  # fmt: skip
    return fields, (zero_place + magnitude(fmt, fmt.first_code)) / 2


@kernel()
def _rung(size: float, fields: Any, limits: Any) -> Any:
    """(the format's magnitude at or below ``size``, the distance to the next, whether its code is odd)."""
    if size < limits[_SMALLEST]:
        return 0.0, limits[_SMALLEST], fields[_ZERO_ODD]
    exponent = np.int64(math.frexp(size)[1] - 1)
    if fields[_LOG2_RADIX] > 1:
        steps = (exponent - fields[_OFFSET]) // fields[_LOG2_RADIX]
        lower = math.ldexp(1.0, int(steps * fields[_LOG2_RADIX] + fields[_OFFSET]))
        return lower, lower * ((1 << fields[_LOG2_RADIX]) - 1), (steps + fields[_BIAS]) & 1
    if fields[_SUBNORMALS]:
        exponent = max(exponent, fields[_LOWEST])
    unit = math.ldexp(1.0, int(exponent - fields[_FRACTION_BITS]))
    whole = np.floor(size / unit)  # a float, as it may be beyond every integer type
    odd = np.int64(whole % 2.0)
    if fields[_FRACTION_BITS] == 0:
        odd = (exponent - fields[_OFFSET] + fields[_BIAS]) & 1
    return whole * unit, unit, odd


@kernel()
def _goes_up(size: float, lower: float, step: float, odd: int, fields: Any, limits: Any) -> Any:
    """Whether ``size`` takes the magnitude after ``lower``, in all modes but stochastic."""
    mode = fields[_MODE]
    rest = size - lower
    if mode == _TOWARD_ZERO:
        return False
    if mode == _TO_ODD:
        return rest > 0.0 and (odd == 0 or lower == 0.0)
    half = limits[_FLUSH] if lower == 0.0 else step / 2.0
    if rest == half:
        return mode == _NEAREST_UP or (mode == _NEAREST_EVEN and odd == 1)
    return rest > half


@kernel()
def _drawn_up(work: Any, length: int, sign: float, lower: float, step: float, word: Any) -> Any:
    """Up with probability floor(2**32 * rest / step) / 2**32: where that floor and the draw reach 2**32."""
    draw = np.float64(word >> np.uint64(32))
    threshold = (4294967296.0 - draw) * (step * _DRAW_SCALE)
    if length == 1:
        return abs(work[0]) - lower >= threshold
    length = grow(work, length, -sign * lower)
    length = grow(work, length, -sign * threshold)
    return length == 0 or work[length - 1] * sign > 0.0


@kernel()
def rounded_special(value: float, rounding: Any) -> Any:
    """What an infinity or a NaN becomes."""
    fields, limits = rounding
    if math.isnan(value) or fields[_OVERFLOW] == _INFINITY:
        return value
    if fields[_OVERFLOW] == _SATURATE:
        return limits[_LARGEST] if value > 0.0 else -limits[_LOWEST_SIZE]
    return np.nan


@kernel()
def _in_range(value: float, rounding: Any) -> Any:
    """A rounded finite number, or what its overflow makes of it; zero comes out as +0."""
    fields, limits = rounding
    limit = limits[_LARGEST] if value > 0.0 else limits[_LOWEST_SIZE]
    if abs(value) <= limit:
        return value + 0.0
    if fields[_OVERFLOW] == _WRAP:
        return value - math.copysign(limits[_MODULUS], value)
    if fields[_MODE] == _TOWARD_ZERO or fields[_MODE] == _TO_ODD:
        return math.copysign(limit, value)
    return rounded_special(math.copysign(np.inf, value), rounding)


@kernel()
def rounded_sum(work: Any, length: int, word: Any, rounding: Any) -> Any:
    """The sum of the expansion ``work[:length]`` (which is used up), rounded once to the format.

    ``word``: uint64, the random bits of ``stochastic``. ``rounding``: what `rounding_fields` gives.
    """
    fields, limits = rounding
    size = round_to_odd(work, length)
    if abs(size) >= limits[_MODULUS]:
        length = reduced(work, length, limits[_MODULUS])
        size = round_to_odd(work, length)
    if size == 0.0:
        return 0.0
    sign = math.copysign(1.0, size)
    lower, step, odd = _rung(abs(size), fields, limits)
    if fields[_MODE] == _STOCHASTIC:
        up = _drawn_up(work, length, sign, lower, step, word)
    else:
        up = _goes_up(abs(size), lower, step, odd, fields, limits)
    return _in_range(sign * (lower + step if up else lower), rounding)
