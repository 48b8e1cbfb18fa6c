"""The general accumulation: any format, any range, specials included - slow and without conditions.

Group sums are kept as exact float64 expansions (Shewchuk, 1997, "Adaptive precision floating-point
arithmetic", section 2), rounded to odd and only then to the accumulator's format, so that there is
one rounding whatever the exponents are (Boldo and Melquiond, 2008, "Emulation of FMA").
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from accelsim.numerics.compiled import kernel
from accelsim.numerics.formats import NumberFormat

# Fields of a format as `round_double` takes them.
_SIGNIFICAND, _LOWEST_EXPONENT, _SUBNORMALS, _TIES_UP, _SATURATES = range(5)


def rounding_fields(fmt: NumberFormat, *, saturate: bool) -> tuple[Any, Any]:
    """``(fields int64[5], limits float64[3])`` of a radix-2 format, for the kernels of this module.

    ``limits`` are the smallest positive value, the largest finite value and what lies above it.
    """
    fields = np.array(
        [
            fmt.fraction_bits + 1,
            1 - fmt.bias,
            fmt.lowest_binade == "subnormal",
            fmt.ties == "up",
            saturate or fmt.saturates,
        ],
        dtype=np.int64,
    )
    above = np.inf if fmt.specials == "ieee" else np.nan
    return fields, np.array([fmt.min_positive, fmt.max_value, above])


@kernel()
def round_double(value: float, fields: Any, limits: Any) -> Any:
    """``value`` (float64) rounded once to the format; zero comes out as +0."""
    if value == 0.0:
        return 0.0
    if not math.isfinite(value):
        if fields[_SATURATES] and not math.isnan(value):
            return math.copysign(limits[1], value)
        return value * limits[2]
    exponent = math.frexp(value)[1] - 1
    if fields[_SUBNORMALS]:
        exponent = max(exponent, fields[_LOWEST_EXPONENT])
    unit = exponent - fields[_SIGNIFICAND] + 1
    scaled = math.ldexp(abs(value), -unit)
    whole = math.floor(scaled)
    rest = scaled - whole
    if rest > 0.5 or (rest == 0.5 and (fields[_TIES_UP] or whole % 2 == 1)):
        whole += 1
    result = math.ldexp(float(whole), unit)
    if result < limits[0]:
        return 0.0
    if result > limits[1]:
        result = limits[1] if fields[_SATURATES] else limits[2]
    return math.copysign(result, value)


@kernel()
def _grow(expansion: Any, length: int, term: float) -> int:
    """Add ``term`` exactly to the expansion (components ascending, none zero); its new length."""
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
def _round_to_odd(expansion: Any, length: int) -> Any:
    """The sum of the expansion, rounded to odd in float64 (sticky in the last bit)."""
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
def _add_group(
    psum: float, a: Any, b: Any, first: int, last: int, fields: Any, limits: Any, work: Any
) -> Any:
    """``psum`` plus the exact products of ``a[first:last] * b[first:last]``, rounded once."""
    length = _grow(work, 0, psum)
    special = 0.0
    finite = math.isfinite(psum)
    if not finite:
        special = psum
    for k in range(first, last):
        product = a[k] * b[k]
        if not math.isfinite(product):
            special += product
            finite = False
        elif finite:
            length = _grow(work, length, product)
    if not finite:
        return round_double(special, fields, limits)
    return round_double(_round_to_odd(work, length), fields, limits)


@kernel(parallel=True)
def accumulate_general(a: Any, b: Any, lanes: int, chunk: int, fields: Any, limits: Any, out: Any) -> None:
    """``out[m, n]`` = a (m, k) times b transposed (n, k), float64 carriers, in the order of the plan."""
    m, k = a.shape
    n = b.shape[0]
    for i in prange(m):
        work = np.empty(lanes + 2)
        pair = np.empty(2)
        ones = np.ones(2)
        for j in range(n):
            outer = 0.0
            for start in range(0, k, chunk):
                psum = 0.0
                stop = min(start + chunk, k)
                for first in range(start, stop, lanes):
                    last = min(first + lanes, stop)
                    psum = _add_group(psum, a[i], b[j], first, last, fields, limits, work)
                pair[0] = psum
                outer = _add_group(outer, pair, ones, 0, 1, fields, limits, work)
            out[i, j] = outer
