"""The exact product of two matrices of float64 values, as terms that are exact themselves.

Each operand is cut into slices of few bits; a product of two slices is a sum of integers below 2**53,
which float64 holds exactly whatever the order of additions (Ozaki et al., Numerical Algorithms 59, 2012,
"Error-free transformations of matrix multiplication").
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]

_EXACT_BITS = 53  # float64 holds every integer up to 2**53


def exact_difference(values: F64, a: F64, b: F64) -> tuple[F64, F64]:
    """``values`` minus the exact product of ``a`` and ``b``, and that product.

    Parameters
    ----------
    values: (m, n). a: (m, k). b: (k, n). All finite, and every product of an element of ``a`` with one of
        ``b`` at least 2**-900 in its last bit, which products of number formats up to single precision are.

    Returns
    -------
    (m, n) each, correct to 2**-50 relative to themselves or 2**-95 to the largest term, whichever is more.
    """
    terms = _exact_terms(a, b)
    product, difference = (np.zeros_like(values), np.zeros_like(values)), (values, np.zeros_like(values))
    for term in terms:
        product = _added(product, term)
        difference = _added(difference, -term)
    return difference[0] + difference[1], product[0] + product[1]


def _exact_terms(a: F64, b: F64) -> list[F64]:
    """Matrices (m, n) of exact numbers whose sum is the product of ``a`` and ``b``, large ones first."""
    width = (_EXACT_BITS - (a.shape[1] - 1).bit_length()) // 2
    b_slices = _slices(b, width)
    terms = [
        (a_power + b_power, np.ldexp(a_part @ b_part, a_power + b_power))
        for a_part, a_power in _slices(a, width)
        for b_part, b_power in b_slices
    ]
    return [term for _, term in sorted(terms, key=lambda item: -item[0])]


def _slices(values: F64, width: int) -> list[tuple[F64, int]]:
    """(integers below 2**width in magnitude, power of two): their sum is ``values``, exactly."""
    found = []
    power = int(np.frexp(np.abs(values).max(initial=0.0))[1])
    rest = values
    while rest.any():
        power -= width
        part = np.trunc(np.ldexp(rest, -power))
        rest = rest - np.ldexp(part, power)
        if part.any():
            found.append((part, power))
    return found


def _added(pair: tuple[F64, F64], term: F64) -> tuple[F64, F64]:
    """A sum of two float64, the second the small rest of the first, plus a term (Knuth's two-sum)."""
    total = pair[0] + term
    seen = total - pair[0]
    error = (pair[0] - (total - seen)) + (term - seen)
    rest = pair[1] + error
    upper = total + rest
    return upper, rest - (upper - total)
