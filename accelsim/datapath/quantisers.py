"""Scale rules: a tensor in 16 (or 32) bits -> codes with a scale, as a recipe's rule says."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

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


def cast(values: F32, fmt: NumberFormat) -> Operand:
    """Each value to the nearest one of a format, no scale."""
    if fmt.bits <= 8:
        return Operand(fmt.encode(values), fmt.name)
    return Operand(round_to(np.array(values, np.float32, order="C"), fmt.name), fmt.name)


def sawb_clip(weights: F32, bits: int) -> float:
    """The clip of statistics-aware weight binning; the largest magnitude where the rule gives none."""
    absolute, squares = magnitude_moments(weights)
    c1, c2 = SAWB_COEFFICIENTS[bits]
    clip = c1 * math.sqrt(squares / weights.size) + c2 * (absolute / weights.size)
    return clip if clip > 0.0 else largest_magnitude(weights)


def sawb(weights: F32, fmt: NumberFormat, storage: str) -> Operand:
    """Symmetric integer codes of weights clipped at `sawb_clip`; all-zero weights get scale 1.

    Ties to even. The step is a value of the storage format: the hardware multiplies by it.
    """
    top = fmt.max_value
    step = _stored(sawb_clip(weights, fmt.bits) / top, storage) or 1.0
    contiguous = np.ascontiguousarray(weights, np.float32)
    return Operand(integer_codes(contiguous, fmt, step, -int(top)), fmt.name, step)


@dataclass(frozen=True)
class Clipped:
    """Codes of an activation, and where it was inside the clip (True: the gradient passes)."""

    operand: Operand
    inside: NDArray[np.bool_]
    above: NDArray[np.bool_]


def pact(values: F32, fmt: NumberFormat, clip: float, storage: str) -> Clipped:
    """Integer codes of activations clipped at a trained bound (Choi et al., 2018, "PACT").

    Unsigned formats clip to 0..clip, signed ones to -clip..clip; ties to even. ``above`` is where
    the magnitude reaches the clip: there dL/dclip is the sign of the value times dL/dy.
    """
    low = -int(fmt.max_value) if fmt.signed else 0
    step = _stored(clip / fmt.max_value, storage)
    codes = integer_codes(np.ascontiguousarray(values), fmt, step, low)
    magnitude = np.abs(values) if fmt.signed else values
    above = magnitude >= np.float32(clip)
    inside = ~above if fmt.signed else (values > 0) & ~above
    return Clipped(Operand(codes, fmt.name, step), inside, above)


def gradient_codes(values: F32, fmt: NumberFormat, exponent: int, ties: Literal["up", "down"]) -> Operand:
    """Radix-4 codes of ``values * 2**exponent``, with the scale that undoes it."""
    odd = fmt.exponent_offset == -1
    codes = radix4_codes(np.ascontiguousarray(values), exponent, odd=odd, ties_up=ties == "up")
    return Operand(codes, fmt.name, math.ldexp(1.0, -exponent))


def gradscale_vote(largest: float, exponent: int) -> int:
    """How the scale exponent moves: m = largest * 2**exponent in (32, 64] stays, below +1, above -1.

    Sun et al., NeurIPS 2020, section 3.2. Gradients that are all zero, or overflowed before they were
    scaled, give no vote: no scale would help them, and theirs would run away.
    """
    if largest == 0.0 or not math.isfinite(largest):
        return 0
    scaled = math.ldexp(largest, exponent)
    return 1 if scaled <= 32.0 else -1 if scaled > 64.0 else 0


def first_gradscale(largest: float) -> int:
    """The scale exponent that puts ``largest`` into (32, 64]; 0 where `gradscale_vote` gives none."""
    if largest == 0.0 or not math.isfinite(largest):
        return 0
    significand, exponent = math.frexp(largest)
    return 6 - exponent if significand > 0.5 else 7 - exponent


def _stored(value: float, storage: str) -> float:
    """A scale as the storage format holds it."""
    return float(number_format(storage).round(value))
