"""What quantisation did to one tensor, counted in one pass. For the record only."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.compiled import kernel

LOWEST, BINS = -150, 279
"""Exponents of float32, subnormal numbers included: the lowest, and how many there are."""


@dataclass(frozen=True, eq=False)
class TensorCounts:
    """Of one tensor's values and what the array takes for them.

    ``saturated``, ``flushed``: elements at the format's largest magnitude; elements that became zero.
    ``products``: inner products of values with what they became, with themselves, of that with itself;
    ``exponents``: values by binade, from `LOWEST` on. Values that are not finite are in neither, nor is
    zero in the binades.
    """

    saturated: int
    flushed: int
    products: NDArray[np.float64]
    exponents: NDArray[np.int64]


def count_tensor(values: NDArray[np.float32], found: NDArray[np.float64], largest: float) -> TensorCounts:
    """Count ``values`` and ``found``, arrays of one shape; ``largest``: magnitude of a saturated element."""
    products, exponents = np.zeros(3), np.zeros(BINS, np.int64)
    flat = np.ascontiguousarray(values, np.float32).reshape(-1)
    saturated, flushed = _count(flat, np.ascontiguousarray(found).reshape(-1), largest, products, exponents)
    return TensorCounts(int(saturated), int(flushed), products, exponents)


@kernel()
def _count(values: Any, found: Any, largest: float, products: Any, exponents: Any) -> Any:
    saturated, flushed = 0, 0
    mixed = exact = rounded = 0.0
    for i in range(values.size):
        value: Any = np.float64(values[i])
        became = found[i]
        saturated += abs(became) >= largest
        flushed += became == 0.0 and value != 0.0
        if abs(value) < np.inf:
            mixed += value * became
            exact += value * value
            rounded += became * became
            if value != 0.0:
                # every float32, subnormal or not, is a normal float64
                exponents[(value.view(np.int64) >> 52 & 2047) - 1023 - LOWEST] += 1
    products[0], products[1], products[2] = mixed, exact, rounded
    return saturated, flushed
