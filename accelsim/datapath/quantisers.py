"""Scale rules: a tensor in 16 (or 32) bits -> codes with a scale, as a recipe's rule says."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.vector_kernels import clip_places, clipped_quotients
from accelsim.network import Operand
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.quantise import (
    integer_codes,
    largest_magnitude,
    magnitude_moments,
    radix4_codes,
    round_to,
)

F32 = NDArray[np.float32]

SAWB_COEFFICIENTS = {2: (2.6, -1.71), 4: (12.035, -12.03), 8: (31.76, -35.04)}
"""(c1, c2) by bits: clip = c1 sqrt(E[w^2]) + c2 E|w| (Choi et al., SysML 2019; IBM fms-model-optimizer)."""


def cast(values: F32, fmt: NumberFormat, rounding: str = "format", key: int | None = None) -> Operand:
    """Each value rounded to a format, no scale. A NaN becomes 0 where the format has none."""
    if fmt.bits > 8 and rounding == "format":
        return Operand(round_to(np.array(values, np.float32, order="C"), fmt.name), fmt.name)
    if not fmt.has_nan:
        values = np.where(np.isnan(values), np.float32(0), values)
    return _encoded(values, fmt, rounding, key)


def _encoded(values: F32, fmt: NumberFormat, rounding: str, key: int | None) -> Operand:
    """Each value rounded to a format, no NaN among them if the format has none."""
    codes = fmt.encode(values, None if rounding == "format" else rounding, key=key)
    return Operand(codes if fmt.bits <= 8 else np.asarray(fmt.decode(codes), np.float32), fmt.name)


def scaled(
    values: F32, fmt: NumberFormat, step: float, rounding: str = "format", key: int | None = None,
    lowest: float | None = None,
) -> Operand:  # fmt: skip
    """``values / step`` in a format, saturating, with ``step`` as the scale that undoes it.

    The quotient is that of the vector unit: rounded to float32, then once to the format (by ``rounding``;
    ``key`` is that of stochastic random bits). ``lowest``: of the numbers used, default the format's.
    """
    low = fmt.min_value if lowest is None else lowest
    if fmt.kind == "integer" and rounding in ("format", "nearest_even"):
        return Operand(integer_codes(np.ascontiguousarray(values), fmt, step, int(low)), fmt.name, step)
    quotients, flat = np.empty(values.shape, np.float32), np.ascontiguousarray(values, np.float32).reshape(-1)
    limits = np.float32(low), np.float32(fmt.max_value)
    clipped_quotients(flat, np.float32(step), *limits, fmt.has_nan, quotients.reshape(-1))
    rounded = cast if fmt.bits > 8 and rounding == "format" else _encoded
    return replace(rounded(quotients, fmt, rounding, key), scale=step)


def largest_scale(values: F32, fmt: NumberFormat, storage: str) -> float:
    """The step at which the values' extremes just fit the format's, as the storage format holds it.

    1 where all are zero or one is not finite.
    """
    if values.size == 0:
        return 1.0
    high, low = float(values.max()), float(values.min())
    step = max(high / fmt.max_value, low / fmt.min_value if fmt.signed else 0.0)
    if not math.isfinite(high - low):
        return 1.0
    return _stored(step, storage) or 1.0


def rms_scale(values: F32, fmt: NumberFormat, deviations: float, storage: str) -> float:
    """The step of a clip at so many root mean squares from zero, or at the largest magnitude if that is less.

    For normal numbers the error of 4 bits is least at 2.5 (signed), of their positive half at 3.8 (15 steps
    from zero). 1 where all are zero or one is not finite.
    """
    root = root_mean_square(values)
    if not math.isfinite(root):
        return 1.0
    clip = min(deviations * root, largest_magnitude(np.ascontiguousarray(values)))
    return _stored(clip / fmt.max_value, storage) or 1.0


def root_mean_square(values: F32) -> float:
    """Of all values; 0 of none."""
    _, squares = magnitude_moments(np.ascontiguousarray(values, np.float32))
    return math.sqrt(squares / values.size) if values.size else 0.0


def power_scale(values: F32, fmt: NumberFormat) -> float:
    """The smallest power of two at which no value saturates; 1 as in `largest_scale`."""
    largest = largest_magnitude(np.ascontiguousarray(values))
    if largest == 0.0 or not math.isfinite(largest):
        return 1.0
    significand, exponent = math.frexp(largest / fmt.max_value)
    return math.ldexp(1.0, exponent - 1 if significand == 0.5 else exponent)


def sawb_clip(weights: F32, bits: int) -> float:
    """The clip of statistics-aware weight binning; the largest magnitude where the rule gives none."""
    absolute, squares = magnitude_moments(weights)
    c1, c2 = SAWB_COEFFICIENTS[bits]
    clip = c1 * math.sqrt(squares / weights.size) + c2 * (absolute / weights.size)
    return clip if clip > 0.0 else largest_magnitude(weights)


def sawb(
    weights: F32, fmt: NumberFormat, storage: str, rounding: str = "format", key: int | None = None
) -> Operand:
    """Symmetric integer codes of weights clipped at `sawb_clip`; all-zero weights get scale 1.

    Ties to even. The step is a value of the storage format: the hardware multiplies by it.
    """
    step = _stored(sawb_clip(weights, fmt.bits) / fmt.max_value, storage) or 1.0
    return scaled(np.ascontiguousarray(weights, np.float32), fmt, step, rounding, key, -fmt.max_value)


MIDDLE = 1.6
"""4**n over the middle of 4**(n-1) and 4**n."""


PLACES = ("outside", "inside", "above", "below", "nan")
"""Where an activation lies: no gradient passes; it does; at the clip or above it; at minus the clip or below
it, in a signed format; not a number, in a signed format (the gradient passes, the clip's is NaN)."""


@dataclass(frozen=True)
class Clipped:
    """Codes of an activation, and where each element lies: uint8, an index into `PLACES`."""

    operand: Operand
    places: NDArray[np.uint8]


def pact(
    values: F32, fmt: NumberFormat, clip: float, storage: str, rounding: str = "format",
    key: int | None = None,
) -> Clipped:  # fmt: skip
    """Integer codes of activations clipped at a trained bound (Choi et al., 2018, "PACT").

    Unsigned formats clip to 0..clip, signed ones to -clip..clip; ties to even. Where the magnitude
    reaches the clip, dL/dclip is the sign of the value times dL/dy.
    """
    low = -fmt.max_value if fmt.signed else 0.0
    step = _stored(clip / fmt.max_value, storage)
    operand = scaled(values, fmt, step, rounding, key, low)
    places = np.empty(values.shape, np.uint8)
    clip_places(np.ascontiguousarray(values).reshape(-1), np.float32(clip), fmt.signed, places.reshape(-1))
    return Clipped(operand, places)


def gradient_codes(
    values: F32, fmt: NumberFormat, exponent: int, ties: Literal["up", "down"] = "up",
    rounding: str = "format", key: int | None = None, threshold: float = MIDDLE,
) -> Operand:  # fmt: skip
    """``values * 2**exponent`` in a format, saturating, with the scale that undoes it.

    Of the format's own rounding in radix 4: ``ties``, and ``threshold`` t, by which a magnitude becomes
    4**n from 4**n / t on (Sun et al., NeurIPS 2020, Fig. 2c has t = 1.6, the arithmetic middle).
    """
    if threshold != MIDDLE:
        values = values * np.float32(threshold / MIDDLE)
    if fmt.radix == 4 and fmt.bits == 4 and rounding == "format":
        odd = fmt.exponent_offset == -1
        codes = radix4_codes(np.ascontiguousarray(values), exponent, odd=odd, ties_up=ties == "up")
        return Operand(codes, fmt.name, math.ldexp(1.0, -exponent))
    # in two factors, because the scale of a subnormal gradient is above the range of float32
    first = min(max(exponent, -126), 126)
    moved = values * np.float32(2.0**first) * np.float32(2.0 ** (exponent - first))
    clipped = np.clip(moved, np.float32(fmt.min_value), np.float32(fmt.max_value))
    return replace(cast(clipped, fmt, rounding, key), scale=math.ldexp(1.0, -exponent))


def gradscale_top(fmt: NumberFormat) -> float:
    """The power of two that `gradscale_vote` aims at: the highest binade of a format (64 in radix-4 FP4)."""
    return math.ldexp(1.0, math.frexp(fmt.max_value)[1] - 1)


def gradscale_vote(largest: float, exponent: int, top: float = 64.0) -> int:
    """How the scale exponent moves: m = largest * 2**exponent in (top/2, top] stays, below +1, above -1.

    Sun et al., NeurIPS 2020, section 3.2. Gradients that are all zero, or overflowed before they were
    scaled, give no vote: no scale would help them, and theirs would run away.
    """
    if largest == 0.0 or not math.isfinite(largest):
        return 0
    moved = math.ldexp(largest, exponent)
    return 1 if moved <= top / 2 else -1 if moved > top else 0


def first_gradscale(largest: float, top: float = 64.0) -> int:
    """The scale exponent that puts ``largest`` into (top/2, top]; 0 where `gradscale_vote` gives none."""
    if largest == 0.0 or not math.isfinite(largest):
        return 0
    significand, exponent = math.frexp(largest)
    highest = math.frexp(top)[1] - 1
    return highest - exponent if significand > 0.5 else highest + 1 - exponent


def _stored(value: float, storage: str) -> float:
    """A scale as the storage format holds it."""
    fmt = number_format(storage)
    if fmt.kind == "float" and fmt.radix == 2 and fmt.ties != "down":
        found = _nearest_normal(value, fmt)
        if 2.0 ** (1 - fmt.bias) <= found <= fmt.max_value:
            return found
    return float(fmt.round(value))


def _nearest_normal(value: float, fmt: NumberFormat) -> float:
    """The nearest number with the significand of a format, whatever its range; 0 for what is not finite.

    A scale is one number: this is a hundred times as fast as a conversion of arrays.
    """
    if not math.isfinite(value):
        return 0.0
    significand, exponent = math.frexp(value)
    steps = math.ldexp(significand, fmt.significand_bits)
    whole = round(steps) if fmt.ties == "even" else math.floor(steps + 0.5)
    return math.ldexp(whole, exponent - fmt.significand_bits)
