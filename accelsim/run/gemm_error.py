"""How far a GEMM's result is from exact arithmetic on the same operands."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.accumulator import AccumulatorFormat
from accelsim.numerics.exact_product import exact_difference
from accelsim.numerics.formats import NumberFormat

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class GemmError:
    """Differences between the results and the exact sums of products.

    An ulp is the distance between two neighbours of the accumulator's format at the exact sum.
    ``max_relative`` is the largest difference over the largest exact sum, ``rms_relative`` the root
    mean square of the differences over that of the exact sums (0 where all exact sums are 0, inf if a
    result is not). ``inexact``: results that differ at all. ``excluded``: results left out of all other
    figures, because they or an operand of theirs are infinite or NaN.
    """

    outputs: int
    inexact: int
    excluded: int
    max_ulps: float
    rms_ulps: float
    max_absolute: float
    rms_absolute: float
    max_relative: float
    rms_relative: float

    def as_record(self) -> dict[str, Any]:
        """Names and numbers for JSON, where an infinity is the word "inf"."""
        return {key: value if math.isfinite(value) else "inf" for key, value in vars(self).items()}


def measure_error(values: F64, fmt: AccumulatorFormat, a: F64, b: F64) -> GemmError:
    """The error of ``values`` (m, n) of ``fmt`` against the exact product of a (m, k) and b (k, n)."""
    counted: NDArray[np.bool_] = np.isfinite(values) & np.isfinite(a).all(axis=1, keepdims=True)
    counted &= np.isfinite(b).all(axis=0, keepdims=True)
    finite = (np.where(np.isfinite(part), part, 0.0) for part in (values, a, b))
    difference, exact = exact_difference(*finite)
    error, exact = np.abs(difference[counted]), np.abs(exact[counted])
    ulps = error / ulp(fmt, exact)
    return GemmError(
        outputs=values.size,
        inexact=int(np.count_nonzero(error)),
        excluded=values.size - error.size,
        max_ulps=_largest(ulps),
        rms_ulps=_root_mean_square(ulps),
        max_absolute=_largest(error),
        rms_absolute=_root_mean_square(error),
        max_relative=_ratio(_largest(error), _largest(exact)),
        rms_relative=_ratio(_root_mean_square(error), _root_mean_square(exact)),
    )


def ulp(fmt: AccumulatorFormat, magnitudes: F64) -> F64:
    """The distance from each magnitude to the format's next value, that of its top binade above it."""
    if not isinstance(fmt, NumberFormat) or fmt.kind != "float":
        return np.full(magnitudes.shape, fmt.unit)
    exponents = np.frexp(np.clip(magnitudes, fmt.unit, fmt.max_value))[1] - 1
    return np.asarray(np.maximum(np.ldexp(1.0, exponents - fmt.fraction_bits), fmt.unit))


def _largest(magnitudes: F64) -> float:
    return float(magnitudes.max(initial=0.0))


def _root_mean_square(magnitudes: F64) -> float:
    """Scaled by the largest, so that no square underflows."""
    top = _largest(magnitudes)
    return top * math.sqrt(np.mean(np.square(magnitudes / top))) if top else 0.0


def _ratio(error: float, exact: float) -> float:
    return error / exact if exact else math.inf if error else 0.0
