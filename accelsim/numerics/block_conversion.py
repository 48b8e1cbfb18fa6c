"""Arrays to block formats and back: one exact rounding per scale and per element."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError
from accelsim.numerics.block_formats import BlockFormat, BlockScales
from accelsim.numerics.conversion import checked_codes, drawn_words, encode_array, real_values
from accelsim.numerics.formats import number_format

F64 = NDArray[np.float64]

_E8M0_BIAS, _E8M0_NAN = 127, 255


def encode(
    fmt: BlockFormat, values: ArrayLike, axis: int, rounding: str | None, key: int | None, first: int
) -> tuple[NDArray[Any], BlockScales]:
    """See `BlockFormat.encode`."""
    array = real_values(fmt.name, values)
    if not np.isfinite(array).all():
        raise InputError(f"{fmt.name}: values must be finite, but they hold a NaN or an infinity")
    _check_axis(fmt, array, axis)
    words = drawn_words(fmt.name, rounding, key, first, array.shape)
    scales = _scales(fmt, array, axis)
    quotients = quotients_to_round(array, _scale_of_each(fmt, scales, axis, array.shape[axis]))
    codes = encode_array(fmt.element, quotients, rounding or fmt.element.rounding, "saturate", words)
    return codes, scales


def decode(fmt: BlockFormat, codes: ArrayLike, scales: BlockScales, axis: int) -> F64:
    """See `BlockFormat.decode`."""
    elements = fmt.element.decode(codes)
    _check_axis(fmt, elements, axis)
    wanted = list(elements.shape)
    wanted[axis] = -(-wanted[axis] // fmt.block)
    if list(np.shape(scales.codes)) != wanted:
        raise InputError(
            f"{fmt.name}: codes of shape {elements.shape} need scales of shape {tuple(wanted)}, "
            f"got {np.shape(scales.codes)}"
        )
    return elements * _scale_of_each(fmt, scales, axis, elements.shape[axis])


def _check_axis(fmt: BlockFormat, array: NDArray[Any], axis: int) -> None:
    if not -array.ndim <= axis < array.ndim:
        raise InputError(f"{fmt.name}: there is no axis {axis} in an array of {array.ndim} dimensions")


def _scales(fmt: BlockFormat, values: F64, axis: int) -> BlockScales:
    starts = np.arange(0, values.shape[axis], fmt.block)
    if values.size == 0:
        shape = list(values.shape)
        shape[axis] = len(starts)
        return BlockScales(np.zeros(shape, np.uint8))
    largest = np.maximum.reduceat(np.abs(values), starts, axis=axis)
    if fmt.scale == "e8m0":
        return BlockScales(_e8m0_codes(fmt, largest))
    return _e4m3_scales(fmt, largest)


def _e8m0_codes(fmt: BlockFormat, largest: F64) -> NDArray[np.uint8]:
    emax = math.frexp(fmt.element.max_value)[1] - 1
    exponents = np.frexp(largest)[1] - 1 - emax
    codes = np.clip(exponents + _E8M0_BIAS, 0, _E8M0_NAN - 1)
    return np.where(largest == 0, 0, codes).astype(np.uint8)


def _e4m3_scales(fmt: BlockFormat, largest: F64) -> BlockScales:
    single, scale = number_format("fp32"), number_format("fp8_e4m3fn")
    whole = quotients_to_round(largest.max(), np.asarray(scale.max_value * fmt.element.max_value))
    tensor = max(float(single.round(whole, overflow="saturate")), single.min_positive)
    blocks = quotients_to_round(largest, np.asarray(fmt.element.max_value * tensor))
    return BlockScales(scale.encode(blocks, overflow="saturate"), tensor)


def _scale_of_each(fmt: BlockFormat, scales: BlockScales, axis: int, length: int) -> F64:
    """The product of block and tensor scale for every element (exact: 4 + 24 significant bits)."""
    if fmt.scale == "e4m3":
        blocks = number_format("fp8_e4m3fn").decode(scales.codes) * scales.tensor
    else:
        codes = checked_codes(fmt.name, 8, scales.codes).astype(np.int32)
        blocks = np.where(codes == _E8M0_NAN, np.nan, np.ldexp(1.0, codes - _E8M0_BIAS))
    each = np.repeat(blocks, fmt.block, axis=axis)
    return np.asarray(each.take(np.arange(length), axis=axis))


def quotients_to_round(dividends: F64, divisors: F64) -> F64:
    """``dividends / divisors`` in float64, for one more rounding to a narrow format; 0 where a divisor is 0.

    That second rounding is harmless. It could only go wrong if a float64 quotient fell on a number m of
    the narrow format or of its mid-points that the true quotient misses. But m times the divisor has at
    most 25 + 28 bits, so it is a float64, and a dividend beside it is a whole float64 step away: more
    than half a step of m after the division. What underflows to zero stays the smallest float64,
    because a rounding to odd tells it from zero.
    """
    exact_zero = (divisors == 0) | (dividends == 0)
    quotients = np.where(divisors == 0, 0.0, np.abs(dividends) / np.where(divisors == 0, 1.0, divisors))
    return np.copysign(np.where(exact_zero, 0.0, np.maximum(quotients, 5e-324)), dividends)
