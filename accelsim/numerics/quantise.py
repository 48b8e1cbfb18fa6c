"""Array-speed conversions: float32 carriers to 16-bit values and to 4-bit codes, one rounding each.

`formats` defines what these compute, for every format; here are the conversions that a training run
does on every tensor, in integer arithmetic on the bits of a float32, tested against `formats`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from accelsim.numerics.compiled import kernel
from accelsim.numerics.formats import NumberFormat, number_format

F32 = NDArray[np.float32]
Codes = NDArray[np.uint8]

SUM_BLOCK = 256
"""Rows summed one after another before the partial sums are added; fixes the order of every reduction."""


def round_to(values: F32, fmt: str) -> F32:
    """``values`` rounded in place to a 16-bit format (or left alone for fp32), and returned.

    Parameters
    ----------
    values: float32, any shape and layout.
    fmt: dlfloat16, fp16, bf16 or fp32. What lies above its range becomes infinity (in dlfloat16 NaN,
        whose one code stands for both); a NaN becomes the positive quiet one, whichever the host made.
        Or fixed16_<IL>_<FL>: to even, saturating, a NaN becomes 0.
    """
    if fmt == "fp32" or values.size == 0:
        return values
    if not values.flags.c_contiguous:  # reshape would round a copy
        values[...] = round_to(np.ascontiguousarray(values), fmt)
        return values
    if fmt not in _ROUNDERS:
        held = np.where(np.isnan(values), np.float32(0), values)
        values[...] = number_format(fmt).round(held)
        return values
    limit = np.float32(number_format(fmt).max_value).view(np.int32)
    _ROUNDERS[fmt](values.reshape(-1).view(np.int32), limit, _ABOVE[fmt])
    return values


@kernel()
def _signed_bits(word: Any, magnitude: Any, rounded: Any) -> Any:
    """The sign of ``word`` on the rounded magnitude; the one NaN if it was one."""
    if magnitude > 0x7F800000:
        return np.int32(0x7FC00000)
    return np.int32(np.uint32((word & 0x80000000) | rounded))


@kernel(parallel=True)
def _round_dlfloat16(bits: Any, limit: int, above: int) -> None:
    """1-6-9: nearest, ties up; below 2**-31 * (1 + 2**-10) to zero."""
    for i in prange(bits.size):
        word: Any = np.int64(bits[i])
        magnitude = word & 0x7FFFFFFF
        rounded = (magnitude + 0x2000) & -0x4000
        if rounded < 0x30004000:
            rounded = 0
        if rounded > limit:
            rounded = above
        bits[i] = _signed_bits(word, magnitude, rounded)


@kernel(parallel=True)
def _round_fp16(bits: Any, limit: int, above: int) -> None:
    """IEEE half: nearest even; subnormals are multiples of 2**-24."""
    for i in prange(bits.size):
        word: Any = np.int64(bits[i])
        magnitude = word & 0x7FFFFFFF
        # dropped bits: 13, and one more for each binade below the normal range
        drop = np.int64(13) + max(np.int64(0), 113 - (magnitude >> 23))
        if drop > 25:
            rounded: Any = np.int64(0)
        elif drop > 13:
            # significand with its hidden bit, rounded to a multiple of 2**drop, and back to a float
            significand = (magnitude & 0x7FFFFF) | 0x800000
            half = (np.int64(1) << (drop - 1)) - 1 + ((significand >> drop) & 1)
            units = (significand + half) >> drop
            rounded = np.int64(np.float32(units * 2.0**-24).view(np.int32)) if units > 0 else np.int64(0)
        else:
            rounded = (magnitude + 0xFFF + ((magnitude >> 13) & 1)) & -0x2000
        if rounded > limit:
            rounded = above
        bits[i] = _signed_bits(word, magnitude, rounded)


@kernel(parallel=True)
def _round_bf16(bits: Any, limit: int, above: int) -> None:
    """bfloat16: nearest even on the upper half of a float32."""
    for i in prange(bits.size):
        word: Any = np.int64(bits[i])
        magnitude = word & 0x7FFFFFFF
        rounded = (magnitude + 0x7FFF + ((magnitude >> 16) & 1)) & -0x10000
        if rounded > limit:
            rounded = above
        bits[i] = _signed_bits(word, magnitude, rounded)


_ROUNDERS = {"dlfloat16": _round_dlfloat16, "fp16": _round_fp16, "bf16": _round_bf16}
_ABOVE = {"dlfloat16": 0x7FC00000, "fp16": 0x7F800000, "bf16": 0x7F800000}


def integer_codes(values: F32, fmt: NumberFormat, step: float, low: int) -> Codes:
    """Two's complement (or unsigned) codes of ``values / step``, nearest even, clipped to low..max.

    Parameters
    ----------
    values: float32, C-contiguous, any shape. step: above zero. low: smallest integer used (0,
    or minus the largest for a symmetric grid).

    Returns
    -------
    uint8 codes, the same shape.
    """
    codes = np.empty(values.shape, np.uint8)
    mask = (1 << fmt.bits) - 1
    _integer_codes(values.reshape(-1), np.float32(step), low, int(fmt.max_value), mask, codes.reshape(-1))
    return codes


@kernel(parallel=True)
def _integer_codes(values: Any, step: Any, low: int, high: int, mask: int, codes: Any) -> None:
    bottom, top = np.float32(low), np.float32(high)
    for i in prange(values.size):
        whole = np.rint(values[i] / step)
        if whole < bottom:
            whole = bottom
        elif whole > top:
            whole = top
        elif whole != whole:  # what a cast of NaN gives is the machine's choice, so it is made here
            whole = np.float32(0.0)
        codes[i] = np.uint8(np.int32(whole) & mask)


def radix4_codes(values: F32, exponent: int, *, odd: bool, ties_up: bool = True) -> Codes:
    """1-3-0 radix-4 codes of ``values * 2**exponent``, on the even or the odd grid.

    The largest n with 8|x| >= 5 * 4**n on the even grid, exact ties up in magnitude (Sun et al.,
    NeurIPS 2020, Fig. 2c; ``ties_up`` false is their Eq. 1). In the bits of a float32 two binades are
    one step of 2**24, so n is a difference and a shift: no logarithm is computed.

    Parameters
    ----------
    values: float32, C-contiguous, any shape; no NaN.
    exponent: of the power-of-two scale, -250..250, so that it fits any float32 gradient.

    Returns
    -------
    uint8 codes, the same shape. Magnitudes below the first threshold become zero, above the last 64 (32).
    """
    codes = np.empty(values.shape, np.uint8)
    exponent += int(odd)  # Q_odd(x) = Q_even(2 x) / 2
    # Scales of subnormal gradients are above the range of float32, so they come in two factors.
    first = min(max(exponent, -126), 126)
    scales = np.float32(2.0**first), np.float32(2.0 ** (exponent - first))
    _radix4_codes(values.reshape(-1), *scales, 0 if ties_up else 1, codes.reshape(-1))
    return codes


@kernel(parallel=True)
def _radix4_codes(values: Any, scale: Any, second_scale: Any, below: int, codes: Any) -> None:
    # 0.625 * 4**-3 is the first threshold: code 1. The bits of 0.625 * 4**-4 are those of code 0.
    first = np.int64(np.float32(0.625 / 256).view(np.int32)) + below
    for i in prange(values.size):
        word: Any = np.int64(np.float32(values[i] * scale * second_scale).view(np.int32))
        magnitude = ((word & 0x7FFFFFFF) - first) >> 24
        codes[i] = np.uint8(min(max(magnitude, 0), 7) | ((word >> 28) & 8))


def largest_magnitude(values: F32) -> float:
    """max |x| (0 for an empty array); NaN if there is one."""
    return float(_largest_magnitude(values.reshape(-1))) if values.size else 0.0


@kernel()
def _largest_magnitude(values: Any) -> Any:
    # as integers the bits of magnitudes are in the order of the magnitudes, NaN above all
    bits = values.view(np.int32)
    largest = np.int32(0)
    for i in range(bits.size):
        largest = max(largest, np.int32(bits[i] & 0x7FFFFFFF))
    return np.int32(largest).view(np.float32)


def magnitude_moments(values: F32) -> tuple[float, float]:
    """Sums of |x| and of x*x, float32, in blocks of `SUM_BLOCK` in order."""
    flat = values.reshape(-1)
    partial = np.zeros((-(-flat.size // SUM_BLOCK), 2), np.float32)
    _magnitude_moments(flat, partial)
    total = np.zeros(2, np.float32)
    for row in partial:
        total += row
    return float(total[0]), float(total[1])


@kernel(parallel=True)
def _magnitude_moments(values: Any, partial: Any) -> None:
    for block in prange(partial.shape[0]):
        first = np.float32(0.0)
        second = np.float32(0.0)
        for i in range(block * SUM_BLOCK, min((block + 1) * SUM_BLOCK, values.size)):
            first += abs(values[i])
            second += values[i] * values[i]
        partial[block, 0] = first
        partial[block, 1] = second


def pack_codes(codes: Codes) -> Codes:
    """4-bit codes, two to the byte, the first in the low half; a last odd one is padded with 0."""
    flat = codes.reshape(-1)
    even = np.zeros(-(-flat.size // 2) * 2, np.uint8)
    even[: flat.size] = flat
    return np.asarray(even[0::2] | even[1::2] << 4, np.uint8)


def unpack_codes(packed: Codes, count: int) -> Codes:
    """The first ``count`` codes of what `pack_codes` packed."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[:count]
