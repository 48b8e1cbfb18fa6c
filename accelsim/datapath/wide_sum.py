"""Exact accumulators of fixed-point and integer operands: sums that float64 holds, rounded once.

An exact accumulator rounds nothing but the finished sum, so the order of additions decides nothing. Where
every sum of products is a multiple of one unit below 2**53 of it, double precision adds it exactly.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.accumulate import Matrix
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import EXACT
from accelsim.numerics.code_kernels import drawn_sums
from accelsim.numerics.code_layouts import drawn_layout
from accelsim.numerics.conversion import encode_array
from accelsim.numerics.formats import NumberFormat
from accelsim.numerics.quantise import codes_of
from accelsim.numerics.random_bits import random_words

Seeds = Sequence[int] | NDArray[np.uint64]
"""Of the random bits of each product."""

_EXACT_INTEGERS = 2.0**53


def exact_sums(rule: Accumulation, a: Matrix, b: Matrix, seeds: Seeds) -> NDArray[Any] | None:
    """The product of a (m, k) and b (k, n), each element exact and rounded once; None where that is not sure.

    Or the products of two stacks, (s, m, k) and (s, k, n). The bits are those of the general kernel:
    stochastic rounding of the element in row i and column j takes word 0 of stream word(word(seed, i), j),
    the seed being that of the product among ``seeds`` (that of ``rule`` counts for nothing).
    """
    fmt = rule.format
    if rule.accumulator != EXACT or not isinstance(fmt, NumberFormat):
        return None
    unit = a.format.unit * b.format.unit
    if not a.shape[-1] * a.largest() * b.largest() < _EXACT_INTEGERS * unit:  # false for a NaN, too
        return None
    left, right = a.values().astype(np.float64), b.values().astype(np.float64)
    sums = np.matmul(left, right)
    if rule.rounding_used != "stochastic":
        codes = codes_of(sums, fmt, rule.rounding_used, rule.overflow_used)
        return np.asarray(fmt.decode(codes) + 0.0, rule.dtype)
    out = np.empty(sums.shape, rule.dtype)
    stacks = sums.reshape(-1, *sums.shape[-2:]), out.reshape(-1, *sums.shape[-2:])
    for seed, product, place in zip(seeds, *stacks, strict=True):
        _draw(rule, fmt, int(seed), product, place)
    return out


def _draw(
    rule: Accumulation, fmt: NumberFormat, seed: int, sums: NDArray[np.float64], out: NDArray[Any]
) -> None:
    """The sums of one product rounded stochastically; there is one zero."""
    layout = drawn_layout(fmt, rule.overflow_used)
    if layout is not None and layout.kernel == "drawn_integers":
        drawn_sums(sums, layout.fields, layout.places[0], fmt.unit, np.uint64(seed), out)
        return
    codes = encode_array(fmt, sums, "stochastic", rule.overflow_used, _first_words(seed, *sums.shape))
    out[...] = fmt.decode(codes) + 0.0


def _first_words(seed: int, rows: int, cols: int) -> NDArray[np.uint64]:
    """The first word of the stream of each element, uint64 (rows, cols)."""
    found = np.empty((rows, cols), np.uint64)
    for i, row_key in enumerate(random_words(seed, rows)):
        found[i] = _first_of_each(random_words(int(row_key), cols))
    return found


def _first_of_each(keys: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Word 0 of every stream in ``keys``: the stream of key c and index i is that of key c + i * step."""
    with np.errstate(over="ignore"):
        word = keys + np.uint64(0x9E3779B97F4A7C15)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return word ^ (word >> np.uint64(31))
