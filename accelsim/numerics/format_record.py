"""The record of a number format: a dozen fields, checked at birth; everything else is derived.

Nothing here needs NumPy: a chip file that names formats is checked without it. The conversions of
arrays are in `conversion` and are loaded when they are first used.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, get_args

from accelsim.errors import InputError
from accelsim.numerics.format_rules import binade_power, format_faults, magnitude

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray

    Codes = NDArray[Any]
    Values = NDArray[np.float64]

Rounding = Literal["nearest_even", "nearest_up", "nearest_down", "toward_zero", "to_odd", "stochastic"]
"""How a value between two neighbours is rounded; all by magnitude, so the sign never matters.

``nearest_*``: the nearer one; a tie goes to the even code, or up or down in magnitude. ``to_odd``: an
inexact value takes the neighbour with the odd code (between zero and the smallest number, that
number), which keeps a later rounding to a narrower format single. ``stochastic``: up with the
probability of the distance from below, in steps of 2**-32.
"""

Overflow = Literal["saturate", "infinity", "nan", "wrap"]
"""What a value becomes that rounds above the range: the largest value, infinity, NaN, or (integers and
fixed point only) its low bits. ``toward_zero`` and ``to_odd`` never round a finite number out of the range
of a floating-point format (IEEE 754-2019, section 7.4); an infinity is above it in every mode."""

ROUNDINGS: tuple[str, ...] = get_args(Rounding)
OVERFLOWS: tuple[str, ...] = get_args(Overflow)


@dataclass(frozen=True)
class NumberFormat:
    """One number format of at most 16 bits, or IEEE single.

    ``integer``: two's complement, or unsigned; ``symmetric`` keeps its lowest code out of use: no value
    is rounded to it, though it decodes as the hardware would read it. ``fixed``: the same in units of
    ``2**-fraction_bits``.

    ``float``: ``(1 + fraction / 2**fraction_bits) * radix**(exponent - bias) * 2**exponent_offset``. What
    the lowest exponent code means is said by ``lowest_binade``: ``subnormal`` as in IEEE 754, ``zero`` when
    the whole binade is zero (1-3-0 formats), ``normal`` when only its first code is zero (1-6-9).
    ``specials``: ``ieee`` keeps the top binade for infinity and NaN, ``last_code`` spends only the
    all-ones magnitude on one "NaN or infinity", ``none`` has neither.

    ``log``: ``2**((exponent - bias) / exponent_divisor)``, exponent code 0 is zero. Where that power is
    irrational (divisor 2, base sqrt 2) the value is the float64 nearest to it. The nearest value is the
    one with the nearest logarithm; no float64 is ever a tie.

    ``ties`` is how a conversion breaks a tie by default: to the ``even`` code, or ``up`` or ``down`` in
    magnitude. ``saturates``: what lies above the range becomes the largest value; if false it becomes
    infinity, or NaN where there is none, or wraps in an integer.

    Raises `InputError`, naming format and field, where the fields contradict each other.
    """

    name: str
    bits: int
    kind: Literal["integer", "fixed", "float", "log"]
    signed: bool = True
    symmetric: bool = False
    exponent_bits: int = 0
    fraction_bits: int = 0
    bias: int = 0
    radix: Literal[2, 4, 8, 16] = 2
    exponent_offset: int = 0
    exponent_divisor: Literal[1, 2] = 1
    lowest_binade: Literal["subnormal", "zero", "normal"] = "subnormal"
    specials: Literal["none", "last_code", "ieee"] = "none"
    saturates: bool = True
    ties: Literal["even", "up", "down"] = "even"
    source: str = ""

    def __post_init__(self) -> None:
        for key, message in format_faults(self):
            raise InputError(f"{key}: {message}", self.name)

    def __str__(self) -> str:
        return self.name

    def __hash__(self) -> int:
        """Of the name alone, because many a table is kept by format."""
        return hash(self.name)

    @cached_property
    def code_dtype(self) -> np.dtype[Any]:
        """The narrowest of uint8, uint16, uint32 that holds a code."""
        import numpy as np

        return np.dtype(np.uint8 if self.bits <= 8 else np.uint16 if self.bits <= 16 else np.uint32)

    @cached_property
    def significand_bits(self) -> int:
        """Bits of the widest significand, hidden one included (an integer's magnitude bits)."""
        if self.kind in ("integer", "fixed"):
            return self.bits - self.signed
        return 53 if self.exponent_divisor == 2 else self.fraction_bits + 1

    @property
    def sign_code(self) -> int:
        """The bit that negates a floating-point code (0 for an unsigned format)."""
        return 1 << (self.bits - 1) if self.signed else 0

    @cached_property
    def has_nan(self) -> bool:
        """Whether some code is not a number."""
        return self.specials != "none"

    @property
    def rounding(self) -> str:
        """The rounding used where none is asked for, one of `ROUNDINGS`."""
        return f"nearest_{self.ties}"

    @property
    def overflow(self) -> str:
        """What happens above the range where nothing else is asked for, one of `overflows`."""
        return "saturate" if self.saturates else self.overflows[1]

    @property
    def overflows(self) -> tuple[str, ...]:
        """What can happen above the range."""
        if self.kind in ("integer", "fixed"):
            return ("saturate",) if self.symmetric else ("saturate", "wrap")
        return {"none": ("saturate",), "last_code": ("saturate", "nan")}.get(
            self.specials, ("saturate", "infinity", "nan")
        )

    @cached_property
    def max_value(self) -> float:
        """The largest finite value."""
        return magnitude(self, self.max_code)

    @cached_property
    def min_value(self) -> float:
        """The lowest finite value that a conversion gives (-8 for int4, 0 for an unsigned format)."""
        if not self.signed:
            return 0.0
        lowest = 1 if self.kind in ("integer", "fixed") and not self.symmetric else 0
        return -self.max_value - lowest * self.unit

    @property
    def max_code(self) -> int:
        """The code of the largest finite value."""
        if self.kind in ("integer", "fixed"):
            return (1 << self.significand_bits) - 1
        magnitudes = 1 << (self.exponent_bits + self.fraction_bits)
        if self.specials == "ieee":
            return magnitudes - (1 << self.fraction_bits) - 1
        return magnitudes - (2 if self.specials == "last_code" else 1)

    @property
    def first_code(self) -> int:
        """The code of the smallest value above zero."""
        return 1 << self.fraction_bits if self.lowest_binade == "zero" else 1

    @cached_property
    def min_positive(self) -> float:
        """The smallest value above zero."""
        return magnitude(self, self.first_code)

    @cached_property
    def unit(self) -> float:
        """The largest power of two of which every finite value is an integer multiple."""
        if self.kind in ("integer", "fixed"):
            return math.ldexp(1.0, -self.fraction_bits)
        lowest = 0 if self.lowest_binade == "normal" else 1
        bits = 52 if self.exponent_divisor == 2 else self.fraction_bits
        return math.ldexp(1.0, binade_power(self, lowest) - bits)

    @property
    def nan_code(self) -> int:
        """The canonical NaN (or "NaN or infinity") code."""
        if self.specials == "ieee":
            return self.max_code + 1 + (1 << (self.fraction_bits - 1))
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
        from accelsim.numerics import conversion

        return conversion.decode(self, codes)

    def encode(
        self,
        values: ArrayLike,
        rounding: str | None = None,
        overflow: str | None = None,
        *,
        key: int | None = None,
        first: int = 0,
    ) -> Codes:
        """Codes of ``values``, each rounded once.

        Parameters
        ----------
        values: real numbers of any shape, taken as float64.
        rounding: one of `Rounding`; the format's own (`rounding`) if none is given.
        overflow: one of `Overflow` that the format has (`overflows`); its own (`overflow`) if none is given.
        key: of the random bits of ``stochastic`` rounding (`random_bits.stream_key`): element i, in
            C order, takes word ``first + i`` of that stream, so an array gives the same codes in any
            pieces and with any number of threads.
        first: index of the first element in the stream.

        Returns
        -------
        array of `code_dtype`, the same shape. A negative number that rounds to zero keeps its sign where the
        format has one; into an unsigned format a negative number becomes 0 (or wraps).

        Raises
        ------
        InputError: a NaN given to a format that has none, values that are not real numbers, a
        rounding or overflow that does not exist or that the format does not have, an infinity that
        should wrap, stochastic rounding without a key.
        """
        from accelsim.numerics import conversion

        return conversion.encode(self, values, rounding, overflow, key, first)

    def round(
        self,
        values: ArrayLike,
        rounding: str | None = None,
        overflow: str | None = None,
        *,
        key: int | None = None,
        first: int = 0,
    ) -> Values:
        """The values of the format that ``values`` round to, float64: `decode` of what `encode` gives."""
        return self.decode(self.encode(values, rounding, overflow, key=key, first=first))

    def table(self) -> list[tuple[int, float]]:
        """Every code with its value, in code order (formats of at most 16 bits)."""
        from accelsim.numerics import conversion

        if self.bits > 16:
            raise InputError(f"{self.name}: a table of 2**{self.bits} codes is too long to list")
        return [(code, float(value)) for code, value in enumerate(conversion.decode_table(self))]
