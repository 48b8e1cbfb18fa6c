"""Arrays to codes and back, for every format, every rounding and every overflow: exact and plain.

This is the definition. Array-speed twins of the hot conversions are in `quantise`, tested against it.
"""

from __future__ import annotations

from functools import cache
from typing import Any, NoReturn

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError, unknown
from accelsim.numerics.format_record import OVERFLOWS, ROUNDINGS, NumberFormat
from accelsim.numerics.ladder import F64, ladder_of, round_to_rungs
from accelsim.numerics.random_bits import random_words

Codes = NDArray[Any]
Words = NDArray[np.uint64]

_BLOCK = 1 << 14  # elements converted at a time: their temporaries stay in the cache
_WORTH_A_KERNEL = 1 << 11
"""Elements from which the kernels of `quantise` are loaded; below, nobody waits for the plain way."""


def decode(fmt: NumberFormat, codes: ArrayLike) -> F64:
    """See `NumberFormat.decode`."""
    if np.size(codes) >= _WORTH_A_KERNEL and fmt.bits <= 16:
        from accelsim.numerics.quantise import values_of

        return values_of(np.asarray(codes), fmt, np.empty(np.shape(codes)))
    array = checked_codes(fmt.name, fmt.bits, codes)
    if fmt.bits == 32:
        with np.errstate(invalid="ignore"):  # widening a signalling NaN makes it quiet
            return array.astype(np.uint32).view(np.float32).astype(np.float64)
    return np.asarray(decode_table(fmt)[array])


def encode(
    fmt: NumberFormat,
    values: ArrayLike,
    rounding: str | None,
    overflow: str | None,
    key: int | None,
    first: int,
) -> Codes:
    """See `NumberFormat.encode`."""
    rounding, overflow = rounding or fmt.rounding, overflow or fmt.overflow
    if isinstance(values, np.ndarray) and values.size >= _WORTH_A_KERNEL:
        from accelsim.numerics.quantise import fast_codes

        _check_modes(fmt, rounding, overflow)
        codes = fast_codes(fmt, values, rounding, overflow, key, first)
        if codes is not None:
            return codes
    array = real_values(fmt.name, values)
    words = drawn_words(fmt.name, rounding, key, first, array.shape)
    return encode_array(fmt, array, rounding, overflow, words)


def encode_array(fmt: NumberFormat, values: F64, rounding: str, overflow: str, words: Words | None) -> Codes:
    """Codes of float64 ``values``; ``words``: uint64 of the same shape, used by ``stochastic``.

    Raises
    ------
    InputError: as `NumberFormat.encode`.
    """
    _check_modes(fmt, rounding, overflow)
    flat, codes = values.reshape(-1), np.empty(values.size, fmt.code_dtype)
    flat_words = words.reshape(-1) if words is not None else None
    for start in range(0, values.size, _BLOCK):
        part = slice(start, start + _BLOCK)
        part_words = flat_words[part] if flat_words is not None else None
        codes[part] = _encode_part(fmt, flat[part], rounding, overflow, part_words)
    return codes.reshape(values.shape)


def _encode_part(fmt: NumberFormat, values: F64, rounding: str, overflow: str, words: Words | None) -> Codes:
    if not fmt.has_nan and np.isnan(values).any():
        refuse_nan(fmt.name)
    if fmt.kind in ("integer", "fixed"):
        return _encode_integer(fmt, values, rounding, overflow, words)
    return _encode_float(fmt, values, rounding, overflow, words)


def refuse_nan(name: str) -> NoReturn:
    """Say that the format ``name`` has no NaN."""
    raise InputError(f"{name}: the format has no NaN, but the values hold one")


def _check_modes(fmt: NumberFormat, rounding: str, overflow: str) -> None:
    if rounding not in ROUNDINGS:
        raise unknown("rounding", str(rounding), ROUNDINGS)
    if overflow not in OVERFLOWS:
        raise unknown("overflow", str(overflow), OVERFLOWS)
    if overflow not in fmt.overflows:
        allowed = ", ".join(fmt.overflows)
        raise InputError(f"{fmt.name}: the format cannot overflow to '{overflow}'; allowed: {allowed}")


def _encode_float(fmt: NumberFormat, values: F64, rounding: str, overflow: str, words: Words | None) -> Codes:
    ladder, nan = ladder_of(fmt), np.isnan(values)
    if fmt.kind == "log" and rounding.startswith("nearest"):
        rounding = "nearest_up"  # its thresholds are irrational: the float64 above stands for them
    magnitudes = np.where(nan, 0.0, np.minimum(np.abs(values), ladder.top))
    codes = round_to_rungs(ladder, magnitudes, rounding, words)
    if rounding in ("toward_zero", "to_odd"):
        codes = np.where(np.isinf(values), codes, np.minimum(codes, fmt.max_code))
    if overflow == "saturate":
        codes = np.minimum(codes, fmt.max_code)
    elif overflow == "nan":
        codes = np.where(codes > fmt.max_code, fmt.nan_code, codes)
    codes = np.where(codes < fmt.first_code, 0, codes)
    negative = np.signbit(values)
    codes = np.where(negative, codes | fmt.sign_code if fmt.signed else 0, codes)
    return np.where(nan, fmt.nan_code, codes).astype(fmt.code_dtype)


def _encode_integer(
    fmt: NumberFormat, values: F64, rounding: str, overflow: str, words: Words | None
) -> Codes:
    ladder, modulus = ladder_of(fmt), 1 << fmt.bits
    magnitudes = np.abs(values)
    if overflow == "wrap":
        if np.isinf(values).any():
            raise InputError(f"{fmt.name}: an infinity cannot wrap, but the values hold one")
        magnitudes = np.fmod(magnitudes, modulus * fmt.unit)  # exact, and keeps the parity of the rungs
    # what is far above the range stays there, and the product cannot overflow
    magnitudes = np.minimum(magnitudes, modulus * fmt.unit) / fmt.unit
    whole = round_to_rungs(ladder, magnitudes, rounding, words)
    whole = np.where(np.signbit(values), -whole, whole)
    if overflow == "saturate":
        whole = np.clip(whole, int(fmt.min_value / fmt.unit), fmt.max_code)
    return (whole & (modulus - 1)).astype(fmt.code_dtype)


@cache
def decode_table(fmt: NumberFormat) -> F64:
    """The values of all codes of a format of at most 16 bits, float64 (2**bits,)."""
    codes = np.arange(1 << fmt.bits)
    if fmt.kind in ("integer", "fixed"):
        half = 1 << (fmt.bits - 1)
        whole = np.where(codes >= half, codes - 2 * half, codes) if fmt.signed else codes
        return np.asarray(whole * fmt.unit)
    count = 1 << (fmt.exponent_bits + fmt.fraction_bits)
    positive = np.full(count, np.nan)
    positive[: fmt.max_code + 1] = ladder_of(fmt).value(np.arange(fmt.max_code + 1))
    if fmt.specials == "ieee":
        positive[fmt.max_code + 1] = np.inf
    return np.concatenate([positive, -positive]) if fmt.signed else positive


def real_values(name: str, values: ArrayLike) -> F64:
    """``values`` as float64. Raises `InputError` if they are not an array of real numbers."""
    try:
        array = np.asarray(values)
        if array.dtype.kind in "cOSUMm":
            raise TypeError
        return array.astype(np.float64)
    except TypeError:
        raise InputError(f"{name}: values are real numbers, got {array.dtype}") from None
    except ValueError:
        raise InputError(f"{name}: the values are not an array: their rows differ in length") from None


def drawn_words(
    name: str, rounding: str | None, key: int | None, first: int, shape: tuple[int, ...]
) -> Words | None:
    """Words ``first``... of the stream ``key`` for an array, or None where nothing is drawn.

    Raises
    ------
    InputError: stochastic rounding without a key, or with a key or a first index out of range.
    """
    if rounding != "stochastic":
        return None
    count = int(np.prod(shape, dtype=np.int64))
    return random_words(checked_key(name, key, first), count, first).reshape(shape)


def checked_key(name: str, key: int | None, first: int) -> int:
    """The key. Raises `InputError` if there is none, or it or the first index is out of range."""
    if key is None:
        raise InputError(f"{name}: stochastic rounding needs the key of its random bits")
    if not (0 <= key < 1 << 64 and 0 <= first < 1 << 63):
        raise InputError(f"{name}: key must be in 0..2**64-1 and first in 0..2**63-1, got {key} and {first}")
    return key


def checked_codes(name: str, bits: int, codes: ArrayLike) -> NDArray[Any]:
    """``codes`` as an array. Raises `InputError` if one is not an integer or is wider than ``bits``."""
    array = np.asarray(codes)
    if array.size == 0:
        return array.astype(np.uint32)
    if array.dtype.kind not in "iu":
        raise InputError(f"{name}: codes are integers, got {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= 1 << bits:
        worst = low if low < 0 else high
        raise InputError(f"{name}: code {worst} does not fit in {bits} bits; allowed: 0..{(1 << bits) - 1}")
    return array
