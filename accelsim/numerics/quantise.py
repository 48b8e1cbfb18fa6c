"""Array-speed conversions: numbers to values and codes of any format and back, one rounding each.

`conversion` defines what these compute, for every format; here are the conversions that a training run
does on every tensor, in integer arithmetic on the bits of a float, tested against `conversion`.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from accelsim.numerics import code_kernels, conversion, drawn_kernels
from accelsim.numerics.block_sums import BLOCKS, moments_of_blocks
from accelsim.numerics.code_layouts import Layout, drawn_layout, nearest_layout
from accelsim.numerics.compiled import kernel
from accelsim.numerics.formats import NumberFormat, number_format

F32 = NDArray[np.float32]
Codes = NDArray[np.uint8]

SUM_BLOCK = 256
"""Rows summed one after another before the partial sums are added; fixes the order of every reduction."""

_I = np.int32


def codes_of(
    values: NDArray[Any],
    fmt: NumberFormat,
    rounding: str | None = None,
    overflow: str | None = None,
    *,
    key: int | None = None,
    first: int = 0,
) -> NDArray[Any]:
    """What `NumberFormat.encode` gives, by a kernel where one computes the same: see there.

    Kernels take float32 (nearest and stochastic) and float64, every format of at most 19 bits but radix 8,
    logarithms to base sqrt 2 and unsigned floating point, and no rounding toward zero or to odd.
    """
    rounding, overflow = rounding or fmt.rounding, overflow or fmt.overflow
    found = fast_codes(fmt, np.asarray(values), rounding, overflow, key, first)
    return fmt.encode(values, rounding, overflow, key=key, first=first) if found is None else found


def fast_codes(
    fmt: NumberFormat, values: NDArray[Any], rounding: str, overflow: str, key: int | None, first: int
) -> NDArray[Any] | None:
    """`codes_of` by a kernel, or None where there is none. Raises `InputError` as `NumberFormat.encode`."""
    if values.dtype not in (np.float32, np.float64) or values.size == 0:
        return None
    drawn = rounding == "stochastic"
    layout = drawn_layout(fmt, overflow) if drawn else nearest_layout(fmt, rounding, overflow)
    if layout is None or (values.dtype == np.float64 and fmt.kind == "log" and not drawn):
        return None
    flat = np.ascontiguousarray(values).reshape(-1)
    if not drawn and not fmt.has_nan and _holds_nan(flat):
        conversion.refuse_nan(fmt.name)
    codes = np.empty(flat.size, fmt.code_dtype)
    if drawn:
        stream = np.uint64(conversion.checked_key(fmt.name, key, first)), np.uint64(first)
        nans = _draw(layout, flat, stream, codes)
        if nans and not fmt.has_nan:
            conversion.refuse_nan(fmt.name)
        if fmt.lowest_binade == "normal" and layout.kernel == "drawn_floats":
            code_kernels.drawn_below(flat, fmt.min_positive, fmt.first_code, fmt.sign_code, *stream, codes)
        return codes.reshape(values.shape)
    if flat.dtype == np.float64:
        singles = np.empty(flat.size, np.float32)
        code_kernels.odd_singles(flat, singles)
        flat = singles
    getattr(code_kernels, layout.kernel)(flat, layout.fields, layout.places, codes)
    return codes.reshape(values.shape)


def _draw(layout: Layout, values: NDArray[Any], stream: tuple[Any, Any], codes: NDArray[Any]) -> Any:
    """Stochastic rounding by the faster kernel that is right; how many were NaN."""
    if values.dtype == np.float32 and layout.single_places is not None:
        run = getattr(drawn_kernels, f"{layout.kernel}_32")
        return run(values, layout.fields, layout.single_places, *stream, codes)
    return getattr(code_kernels, layout.kernel)(values, layout.fields, layout.places[0], *stream, codes)


def _holds_nan(values: NDArray[Any]) -> bool:
    return bool(np.isnan(largest_magnitude(values) if values.dtype == np.float32 else values).any())


def values_of(codes: NDArray[Any], fmt: NumberFormat, out: NDArray[Any] | None = None) -> NDArray[Any]:
    """The values of codes: float32, or written into ``out`` (C-contiguous, float32 or float64) and returned.

    Parameters
    ----------
    codes: unsigned integers of any shape, each below ``2**bits``; formats of at most 16 bits.

    Raises
    ------
    InputError: as `NumberFormat.decode`.
    """
    flat = np.ascontiguousarray(codes).reshape(-1)
    as_they_are = flat.dtype == fmt.code_dtype and flat.size > 0
    if not as_they_are or (fmt.bits % 8 and code_kernels.largest_code(flat) >> fmt.bits):
        flat = conversion.checked_codes(fmt.name, fmt.bits, flat)
    result = np.empty(np.shape(codes), np.float32) if out is None else out
    few = fmt.bits <= 4 and flat.dtype == np.uint8 and result.dtype == np.float32
    look_up = code_kernels.look_up_nibbles if few else code_kernels.look_up
    look_up(flat, _value_table(fmt, result.dtype.char), result.reshape(-1))
    return result


@cache
def _value_table(fmt: NumberFormat, char: str) -> NDArray[Any]:
    return conversion.decode_table(fmt).astype(char)


def round_to(
    values: F32,
    fmt: str,
    rounding: str | None = None,
    overflow: str | None = None,
    *,
    key: int | None = None,
    first: int = 0,
) -> F32:
    """``values`` rounded in place to a format, and returned.

    Parameters
    ----------
    values: float32, any shape and layout.
    fmt: any format whose values float32 holds; fp32 leaves them alone. As it is, what lies above the
        range becomes infinity in 16-bit formats (in dlfloat16 NaN, whose one code stands for both); a
        NaN becomes the positive quiet one, whichever the host made, or 0 where the format has none.
    rounding, overflow, key, first: as in `NumberFormat.encode`.
    """
    if fmt == "fp32" or values.size == 0:
        return values
    if not values.flags.c_contiguous:  # reshape would round a copy
        values[...] = round_to(np.ascontiguousarray(values), fmt, rounding, overflow, key=key, first=first)
        return values
    if fmt not in _ROUNDERS or (rounding, overflow) != (None, None):
        number = number_format(fmt)
        if not number.has_nan:
            np.copyto(values, 0, where=np.isnan(values))
        return values_of(codes_of(values, number, rounding, overflow, key=key, first=first), number, values)
    _ROUNDERS[fmt](values.reshape(-1).view(np.int32), _largest_bits(fmt), _ABOVE[fmt])
    return values


@cache
def _largest_bits(fmt: str) -> Any:
    """The bits of the largest number of a format."""
    return np.float32(number_format(fmt).max_value).view(np.int32)


@kernel()
def _signed_bits(word: Any, magnitude: Any, rounded: Any) -> Any:
    """The sign of ``word`` on the rounded magnitude; the one NaN if it was one."""
    if magnitude > 0x7F800000:
        return np.int32(0x7FC00000)
    return np.int32(np.uint32((word & 0x80000000) | rounded))


@kernel(parallel=True)
def _round_dlfloat16(bits: Any, limit: int, above: int) -> None:
    """1-6-9: nearest, ties up; below 2**-31 * (1 + 2**-10) to zero."""
    # 32-bit integers throughout, so that whole vectors of them are rounded at once
    for i in prange(bits.size):
        word: Any = _I(bits[i])
        magnitude = _I(word & _I(0x7FFFFFFF))
        rounded = _I(_I(magnitude + _I(0x2000)) & _I(-0x4000))
        rounded = _I(0) if rounded < _I(0x30004000) else rounded
        rounded = _I(above) if rounded > _I(limit) else rounded
        signed = _I(_I(word & _I(-0x80000000)) | rounded)
        bits[i] = _I(0x7FC00000) if magnitude > _I(0x7F800000) else signed


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
        steps = np.float32(values[i] / step)
        # what a cast of NaN gives is the machine's choice, so it is made here
        steps = steps if steps == steps else np.float32(0.0)
        steps = bottom if steps < bottom else steps
        steps = top if steps > top else steps
        # adding 1.5 * 2**23 rounds to nearest even; rint itself is a call on old machines
        whole = np.float32(np.float32(steps + np.float32(12582912.0)) - np.float32(12582912.0))
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
    first = _I(_I(np.float32(0.625 / 256).view(np.int32)) + _I(below))
    for i in prange(values.size):
        word: Any = _I(np.float32(values[i] * scale * second_scale).view(np.int32))
        magnitude = _I(_I(_I(word & _I(0x7FFFFFFF)) - first) >> _I(24))
        codes[i] = np.uint8(_I(min(max(magnitude, _I(0)), _I(7))) | _I(_I(word >> _I(28)) & _I(8)))


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
    _add_rows(partial, total)
    return float(total[0]), float(total[1])


@kernel(parallel=True)
def _magnitude_moments(values: Any, partial: Any) -> None:
    """Eight blocks at a time: their sums do not wait for each other, and each is in order."""
    flat = partial.reshape(-1)
    for group in prange(-(-partial.shape[0] // BLOCKS)):
        start = group * BLOCKS * SUM_BLOCK
        if start + BLOCKS * SUM_BLOCK <= values.size:
            moments_of_blocks(values, start, SUM_BLOCK, flat, 2 * BLOCKS * group)
            continue
        for block in range(group * BLOCKS, partial.shape[0]):
            first = np.float32(0.0)
            second = np.float32(0.0)
            for i in range(block * SUM_BLOCK, min((block + 1) * SUM_BLOCK, values.size)):
                first += abs(values[i])
                second += values[i] * values[i]
            partial[block, 0] = first
            partial[block, 1] = second


@kernel()
def _add_rows(rows: Any, total: Any) -> None:
    """Add rows (n, 2) to ``total`` (2,), one after another."""
    for row in range(rows.shape[0]):
        total[0] += rows[row, 0]
        total[1] += rows[row, 1]


def pack_codes(codes: Codes) -> Codes:
    """4-bit codes, two to the byte, the first in the low half; a last odd one is padded with 0."""
    flat = codes.reshape(-1)
    even = np.zeros(-(-flat.size // 2) * 2, np.uint8)
    even[: flat.size] = flat
    return np.asarray(even[0::2] | even[1::2] << 4, np.uint8)


def unpack_codes(packed: Codes, count: int) -> Codes:
    """The first ``count`` codes of what `pack_codes` packed."""
    return np.stack([packed & 15, packed >> 4], axis=-1).reshape(-1)[:count]
