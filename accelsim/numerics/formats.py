"""Number formats: a dozen fields, everything else derived.

A *code* is a bit pattern (an unsigned integer), a *value* the number it stands for. This module is
the table of formats and their exact conversions; it imports no compiler, so that a chip can be
checked and a code table printed at once. Array-speed twins of the hot conversions are in `quantise`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.errors import InputError, unknown

Codes = NDArray[Any]
Values = NDArray[np.float64]


@dataclass(frozen=True)
class NumberFormat:
    """One number format of at most 16 bits, or IEEE single.

    A floating-point value is ``(1 + fraction / 2**fraction_bits) * radix**(exponent - bias) *
    2**exponent_offset``. What the lowest exponent code means is said by ``lowest_binade``:
    ``subnormal`` as in IEEE 754, ``zero`` when the whole binade is zero (1-3-0 formats), ``normal``
    when only its first code is zero (1-6-9). ``specials``: ``ieee`` keeps the top binade for infinity
    and NaN, ``last_code`` spends only the all-ones magnitude on one "NaN or infinity", ``none`` has
    neither. ``ties`` is how a conversion breaks a tie: to the ``even`` code or ``up`` in magnitude.
    """

    name: str
    bits: int
    kind: Literal["integer", "float"]
    signed: bool = True
    exponent_bits: int = 0
    fraction_bits: int = 0
    bias: int = 0
    radix: int = 2
    exponent_offset: int = 0
    lowest_binade: Literal["subnormal", "zero", "normal"] = "subnormal"
    specials: Literal["none", "last_code", "ieee"] = "none"
    saturates: bool = True
    ties: Literal["even", "up"] = "even"
    source: str = ""

    def __str__(self) -> str:
        return self.name

    @property
    def code_dtype(self) -> np.dtype[Any]:
        """The narrowest of uint8, uint16, uint32 that holds a code."""
        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16 if self.bits <= 16 else np.uint32)

    @property
    def significand_bits(self) -> int:
        """Bits of the widest significand, hidden one included (an integer's magnitude bits)."""
        if self.kind == "integer":
            return self.bits - 1 if self.signed else self.bits
        return self.fraction_bits + 1

    @property
    def sign_code(self) -> int:
        """The bit that negates a floating-point code (0 for an unsigned format)."""
        return 1 << (self.bits - 1) if self.signed else 0

    @property
    def has_nan(self) -> bool:
        """Whether some code is not a number."""
        return self.specials != "none"

    @property
    def max_value(self) -> float:
        """The largest finite value."""
        if self.kind == "integer":
            return float((1 << self.significand_bits) - 1)
        return _magnitude(self, self.max_code)

    @property
    def max_code(self) -> int:
        """The code of the largest finite value."""
        if self.kind == "integer":
            return (1 << self.significand_bits) - 1
        magnitudes = 1 << (self.exponent_bits + self.fraction_bits)
        if self.specials == "ieee":
            return magnitudes - (1 << self.fraction_bits) - 1
        return magnitudes - (2 if self.specials == "last_code" else 1)

    @property
    def min_positive(self) -> float:
        """The smallest value above zero."""
        if self.kind == "integer":
            return 1.0
        first = 1 << self.fraction_bits if self.lowest_binade == "zero" else 1
        return _magnitude(self, first)

    @property
    def unit(self) -> float:
        """The largest power of two of which every finite value is an integer multiple."""
        if self.kind == "integer":
            return 1.0
        lowest = 0 if self.lowest_binade == "normal" else 1
        shift = _radix_log2(self) * (lowest - self.bias) + self.exponent_offset - self.fraction_bits
        return float(2.0**shift)

    @property
    def nan_code(self) -> int:
        """The canonical NaN (or "NaN or infinity") code."""
        if self.specials == "ieee":
            return self.max_code + 1 + (1 << max(self.fraction_bits - 1, 0))
        return self.max_code + 1

    def decode(self, codes: ArrayLike) -> Values:
        """Values of ``codes``.

        Parameters
        ----------
        codes: unsigned integers of any shape, each below ``2**bits``.

        Returns
        -------
        float64 array of the same shape (every format here is a subset of float64).

        Raises
        ------
        InputError: a code that is not an integer or does not fit in ``bits`` bits.
        """
        array = _checked_codes(self, codes)
        if self.bits == 32:
            return array.astype(np.uint32).view(np.float32).astype(np.float64)
        return np.asarray(_decode_table(self)[array])

    def encode(self, values: ArrayLike) -> Codes:
        """Codes of ``values``, each rounded once to the nearest value of the format.

        Parameters
        ----------
        values: real numbers of any shape, taken as float64.

        Returns
        -------
        array of `code_dtype`, the same shape. A negative number that rounds to zero keeps its sign
        where the format has one.

        Raises
        ------
        InputError: a NaN given to a format that has none.
        """
        array = np.asarray(values, dtype=np.float64)
        if not self.has_nan and np.isnan(array).any():
            raise InputError(f"{self.name}: the format has no NaN, but the values hold one")
        if self.kind == "integer":
            return _encode_integer(self, array)
        if self.bits == 32:
            with np.errstate(over="ignore"):
                return _canonical_single(array.astype(np.float32))
        return _encode_float(self, array)

    def round(self, values: ArrayLike) -> Values:
        """The nearest values of the format: ``decode(encode(values))``, float64."""
        return self.decode(self.encode(values))

    def table(self) -> list[tuple[int, float]]:
        """Every code with its value, in code order (formats of at most 16 bits)."""
        if self.bits > 16:
            raise InputError(f"{self.name}: a table of 2**{self.bits} codes is too long to list")
        return [(code, float(value)) for code, value in enumerate(_decode_table(self))]


def _radix_log2(fmt: NumberFormat) -> int:
    return fmt.radix.bit_length() - 1


def _magnitude(fmt: NumberFormat, code: int, *, as_normal: bool = False) -> float:
    """The value of a magnitude code; ``as_normal`` reads the lowest binade as if it were normal."""
    exponent, fraction = divmod(code, 1 << fmt.fraction_bits)
    if exponent == 0 and not as_normal:
        if fmt.lowest_binade == "zero" or code == 0:
            return 0.0
        if fmt.lowest_binade == "subnormal":
            return float(fraction * fmt.unit)
    significand = 1.0 + fraction / (1 << fmt.fraction_bits)
    shift = _radix_log2(fmt) * (exponent - fmt.bias) + fmt.exponent_offset
    return float(significand * 2.0**shift)


@cache
def _decode_table(fmt: NumberFormat) -> Values:
    codes = np.arange(1 << fmt.bits)
    if fmt.kind == "integer":
        half = 1 << (fmt.bits - 1)
        table = np.where(codes >= half, codes - 2 * half, codes) if fmt.signed else codes
        return np.asarray(table, dtype=np.float64)
    magnitudes = np.array([_magnitude(fmt, code) for code in range(fmt.max_code + 1)])
    count = 1 << (fmt.exponent_bits + fmt.fraction_bits)
    positive = np.full(count, np.nan)
    positive[: fmt.max_code + 1] = magnitudes
    if fmt.specials == "ieee":
        positive[fmt.max_code + 1] = np.inf
    return np.concatenate([positive, -positive]) if fmt.signed else positive


@cache
def _thresholds(fmt: NumberFormat) -> Values:
    """``thresholds[i]`` parts magnitude code i from i + 1, the overflow threshold last.

    They are arithmetic mid-points. Below the smallest value the lower neighbour is what code 0 would
    be as a normal number, where the format has no subnormals: that is how a rounder that only sees
    the significand behaves (the flush thresholds of 1-6-9 and of the radix-4 format).
    """
    codes = range(fmt.max_code + 2)
    as_normal = fmt.lowest_binade != "subnormal"
    grid = np.array([_magnitude(fmt, code, as_normal=as_normal) for code in codes])
    return np.asarray((grid[:-1] + grid[1:]) / 2)


def _encode_float(fmt: NumberFormat, values: Values) -> Codes:
    magnitude = np.abs(values)
    thresholds = _thresholds(fmt)
    upper = np.searchsorted(thresholds, magnitude, side="right")
    if fmt.ties == "even":
        lower = np.searchsorted(thresholds, magnitude, side="left")
        upper = np.where(lower % 2 == 0, lower, upper)
    if fmt.saturates:
        upper = np.minimum(upper, fmt.max_code)
    nan = fmt.nan_code if fmt.has_nan else 0
    codes = np.where(np.isnan(values), nan, upper)
    negative = np.signbit(values) & ~np.isnan(values)
    return np.where(negative, codes | fmt.sign_code, codes).astype(fmt.code_dtype)


def _encode_integer(fmt: NumberFormat, values: Values) -> Codes:
    top = (1 << fmt.significand_bits) - 1
    bottom = -top - 1 if fmt.signed else 0
    whole = np.clip(np.rint(values), bottom, top).astype(np.int64)
    return (whole & ((1 << fmt.bits) - 1)).astype(fmt.code_dtype)


def _canonical_single(values: NDArray[np.float32]) -> Codes:
    codes = values.view(np.uint32)
    return np.where(np.isnan(values), np.uint32(0x7FC00000), codes)


def _checked_codes(fmt: NumberFormat, codes: ArrayLike) -> NDArray[Any]:
    array = np.asarray(codes)
    if array.size == 0:
        return array.astype(fmt.code_dtype)
    if array.dtype.kind not in "iu":
        raise InputError(f"{fmt.name}: codes are integers, got {array.dtype}")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= 1 << fmt.bits:
        worst = low if low < 0 else high
        raise InputError(
            f"{fmt.name}: code {worst} does not fit in {fmt.bits} bits; allowed: 0..{(1 << fmt.bits) - 1}"
        )
    return array


def _radix4(name: str, offset: int) -> NumberFormat:
    source = "Sun et al., NeurIPS 2020, section 3.1 and 6 (two-phase rounding: even and odd grid)"
    return NumberFormat(name, 4, "float", True, 3, 0, 4, 4, offset, "zero", "none", True, "up", source)


def _minifloat(name: str, exponent_bits: int, fraction_bits: int, bias: int, **rest: Any) -> NumberFormat:
    bits = 1 + exponent_bits + fraction_bits
    return NumberFormat(name, bits, "float", True, exponent_bits, fraction_bits, bias, **rest)


_OCP = "OCP Microscaling Formats (MX) Specification 1.0, section 5.3"
_OFP8 = "OCP 8-bit Floating Point Specification 1.0"
_HFP8 = "Sun et al., NeurIPS 2019 (hybrid FP8)"

_FORMATS: dict[str, NumberFormat] = {
    fmt.name: fmt
    for fmt in [
        *(NumberFormat(f"int{n}", n, "integer", source="two's complement") for n in (2, 4, 8)),
        *(NumberFormat(f"uint{n}", n, "integer", signed=False, source="unsigned binary") for n in (2, 4, 8)),
        _radix4("fp4_r4_even", 0),
        _radix4("fp4_r4_odd", -1),
        _minifloat(
            "fp4_e3m0", 3, 0, 4, lowest_binade="zero", ties="up", source="radix-2 1-3-0, Sun et al. 2020"
        ),
        _minifloat("fp4_e2m1", 2, 1, 1, source=_OCP),
        _minifloat("fp4_e1m2", 1, 2, 1, source="1-1-2 minifloat, bias 1"),
        _minifloat("fp6_e2m3", 2, 3, 1, source=_OCP),
        _minifloat("fp6_e3m2", 3, 2, 3, source=_OCP),
        _minifloat("fp8_e4m3_ibm", 4, 3, 11, source=_HFP8),
        _minifloat("fp8_e5m2_ibm", 5, 2, 15, source=_HFP8),
        _minifloat("fp8_e4m3fn", 4, 3, 7, specials="last_code", saturates=False, source=_OFP8),
        _minifloat("fp8_e5m2", 5, 2, 15, specials="ieee", saturates=False, source=_OFP8),
        _minifloat(
            "dlfloat16", 6, 9, 31, lowest_binade="normal", specials="last_code", saturates=False, ties="up",
            source="Agrawal et al., ARITH 2019 (DLFloat 1-6-9)",
        ),
        _minifloat("fp16", 5, 10, 15, specials="ieee", saturates=False, source="IEEE 754-2019 binary16"),
        _minifloat("bf16", 8, 7, 127, specials="ieee", saturates=False, source="bfloat16: half a binary32"),
        _minifloat("fp32", 8, 23, 127, specials="ieee", saturates=False, source="IEEE 754-2019 binary32"),
    ]
}  # fmt: skip


def format_names() -> list[str]:
    """The names of all formats, in the order of the catalog."""
    return list(_FORMATS)


def number_format(name: str | NumberFormat) -> NumberFormat:
    """The format called ``name`` (a format is returned as it is).

    Raises
    ------
    InputError: no format has that name; the nearest is named.
    """
    if isinstance(name, NumberFormat):
        return name
    if name not in _FORMATS:
        raise unknown("number format", str(name), _FORMATS)
    return _FORMATS[name]
