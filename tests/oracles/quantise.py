"""The quantisers of 4-bit training, one element at a time in exact fractions.

Sources: Choi et al., "Accurate and Efficient 2-bit Quantized Neural Networks", SysML 2019 (SAWB, PACT); Choi
et al., "PACT", 2018; Sun et al., "Ultra-Low Precision 4-bit Training of Deep Neural Networks", NeurIPS 2020
(radix-4 FP4, Fig. 2c and Eq. 1; GradScale).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from fractions import Fraction

SAWB_COEFFICIENTS = {
    2: (Fraction("2.6"), Fraction("-1.71")),
    4: (Fraction("12.035"), Fraction("-12.03")),
    8: (Fraction("31.76"), Fraction("-35.04")),
}


def _square_root(value: Fraction) -> Fraction:
    """sqrt to 200 bits after the point relative to the number's size: as good as exact beside any float."""
    if value == 0:
        return Fraction(0)
    size = value.numerator.bit_length() - value.denominator.bit_length()
    shift = 2 * (200 - size // 2)
    return Fraction(math.isqrt(math.floor(value * Fraction(2) ** shift))) / Fraction(2) ** (shift // 2)


def half_even(value: Fraction) -> int:
    """The nearest integer; a half goes to the even neighbour."""
    below = math.floor(value)
    rest = value - below
    if rest * 2 == 1:
        return below if below % 2 == 0 else below + 1
    return below if rest * 2 < 1 else below + 1


def sawb_clip(weights: Sequence[float], bits: int = 4) -> Fraction:
    """c1 * sqrt(E[w^2]) + c2 * E|w|, or max|w| where that is not positive. Exact to 200 bits."""
    exact = [Fraction(weight) for weight in weights]
    if not exact:
        return Fraction(0)
    c1, c2 = SAWB_COEFFICIENTS[bits]
    mean_square = sum(weight * weight for weight in exact) / len(exact)
    mean_absolute = sum(abs(weight) for weight in exact) / len(exact)
    clip = c1 * _square_root(mean_square) + c2 * mean_absolute
    return clip if clip > 0 else max(abs(weight) for weight in exact)


def sawb_clip_tolerance(weights: Sequence[float], bits: int = 4, epsilon: float = 2.0**-24) -> float:
    """How far an honest floating-point clip may be from `sawb_clip`.

    Both means are sums of n non-negative terms, so in any order and with every operation rounded to relative
    ``epsilon`` each has a relative error below (n + 2) * epsilon; the square root halves its part and adds
    one rounding. The two terms c1 * rms and c2 * mean then *cancel*: their absolute errors stay while the
    difference shrinks, hence a bound in terms of c1 * rms + |c2| * mean and not of the clip itself. Two more
    roundings (the products), one (the sum) and the coefficients' own decimal-to-binary rounding stay below
    (n + 8) * epsilon. A clip that lands within this bound of zero has no safe sign, so tests avoid it.
    """
    exact = [Fraction(weight) for weight in weights]
    c1, c2 = SAWB_COEFFICIENTS[bits]
    mean_square = sum(weight * weight for weight in exact) / len(exact)
    mean_absolute = sum(abs(weight) for weight in exact) / len(exact)
    scale = abs(c1) * _square_root(mean_square) + abs(c2) * mean_absolute
    return float(scale) * (len(exact) + 8) * epsilon


def sawb_levels(bits: int = 4) -> int:
    """The largest code: 7 for 4 bits (a symmetric grid with zero), 1 for 2 bits, 127 for 8 bits."""
    return (1 << (bits - 1)) - 1


def symmetric_integer(value: float | Fraction, clip: float | Fraction, levels: int) -> int:
    """round(clamp(value, -clip, clip) * levels / clip), an integer in -levels..levels; clip 0 gives 0."""
    exact_clip = Fraction(clip)
    if exact_clip == 0:
        return 0
    clamped = min(max(Fraction(value), -exact_clip), exact_clip)
    return half_even(clamped * levels / exact_clip)


def sawb_code(weight: float, clip: float | Fraction, bits: int = 4) -> int:
    """Two's complement code of a weight on the symmetric grid."""
    return symmetric_integer(weight, clip, sawb_levels(bits)) % (1 << bits)


def straight_through(upstream: float, value: float, clip: float | Fraction) -> Fraction:
    """dL/dw of the straight-through estimator: the gradient passes inside +-clip, is 0 outside."""
    return Fraction(upstream) if abs(Fraction(value)) <= Fraction(clip) else Fraction(0)


def pact_code(value: float | Fraction, alpha: float | Fraction, bits: int = 4) -> int:
    """Unsigned code of clamp(value, 0, alpha) on 2^bits - 1 equal steps, half to even."""
    exact_alpha = Fraction(alpha)
    clamped = min(max(Fraction(value), Fraction(0)), exact_alpha)
    return half_even(clamped * ((1 << bits) - 1) / exact_alpha)


def pact_alpha_gradient(upstream: Sequence[float], values: Sequence[float], alpha: float) -> Fraction:
    """dL/dalpha: the sum of dL/dy where x >= alpha."""
    return sum((Fraction(g) for g, x in zip(upstream, values, strict=True) if x >= alpha), Fraction(0))


def pact_input_gradient(upstream: float, value: float, alpha: float) -> Fraction:
    """dL/dx: dL/dy strictly inside (0, alpha), else 0."""
    return Fraction(upstream) if 0 < value < alpha else Fraction(0)


def radix4_even(value: float | Fraction, ties: str = "up") -> Fraction:
    """The even grid +-4^n, n = -3..3, and 0: the largest n with 8|x| >= 5 * 4^n (``down``: above)."""
    magnitude = abs(Fraction(value))
    for n in range(3, -4, -1):
        threshold = 5 * Fraction(4) ** n
        if 8 * magnitude > threshold or (ties == "up" and 8 * magnitude == threshold):
            return Fraction(4) ** n if value > 0 else -(Fraction(4) ** n)
    return Fraction(0)


def radix4_odd(value: float | Fraction, ties: str = "up") -> Fraction:
    """The odd grid: Q_odd(x) = Q_even(2x) / 2."""
    return radix4_even(2 * Fraction(value), ties) / 2


def radix4_code(value: float | Fraction, odd: bool, ties: str = "up") -> int:
    """The 4-bit code: sign bit, then n + 4 with n the exponent on the even grid; 0 for zero."""
    quantised = 2 * radix4_odd(value, ties) if odd else radix4_even(value, ties)
    exponent_code = next((n + 4 for n in range(-3, 4) if abs(quantised) == Fraction(4) ** n), 0)
    return exponent_code + (8 if math.copysign(1, value) < 0 else 0)


def gradscale_vote(gradients: Iterable[float], scale: float | Fraction) -> int:
    """+1 (double) if max|scale * g| <= 32, -1 (halve) if it is above 64, else 0."""
    largest = max((abs(Fraction(g)) * Fraction(scale) for g in gradients), default=Fraction(0))
    if largest > 64:
        return -1
    return 1 if largest <= 32 else 0


def gradscale_step(scale: float | Fraction, votes: Iterable[int]) -> Fraction:
    """The next scale: doubled, halved or kept by the sign of the sum of the workers' votes."""
    total = sum(votes)
    if total == 0:
        return Fraction(scale)
    return Fraction(scale) * 2 if total > 0 else Fraction(scale) / 2
