"""The general accumulation: any format, any rule, specials included - slow and without conditions.

The order of additions is that of `accumulation`, whose words are used here.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import EXACT, FixedPoint
from accelsim.numerics.compiled import kernel
from accelsim.numerics.exact_sum import MOST_PARTS, SPARE_PARTS, grow
from accelsim.numerics.format_rules import binade_power
from accelsim.numerics.sum_rounding import rounded_special, rounded_sum, rounding_fields

if TYPE_CHECKING:
    from accelsim.numerics.accumulator import AccumulatorFormat

# Fields of ``order``.
_LANES, _CHUNK, _PIECE, _ALIGNMENT, _A_LOWEST, _B_LOWEST, _SUM_LOWEST, _DRAWS = range(8)

_NO_LOWEST = -4096  # an exponent below that of every number

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST_FACTOR = np.uint64(0xBF58476D1CE4E5B9)
_SECOND_FACTOR = np.uint64(0x94D049BB133111EB)


def accumulate_general(
    rule: Accumulation,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    formats: tuple[AccumulatorFormat, AccumulatorFormat],
    origin: tuple[int, int] = (0, 0),
) -> NDArray[Any]:
    """a (m, k) times b transposed (n, k), both C-contiguous, accumulated by ``rule``.

    Parameters
    ----------
    a, b: float64, values of float32. formats: those of a and b, whose smallest normal numbers bound the
        exponents that alignment sees.
    origin: row and column of the first element in the whole result, for stochastic rounding.

    Returns
    -------
    (m, n) of ``rule.dtype``, values of ``rule.format``.

    Raises
    ------
    InputError: a sum is a NaN (or an infinity that would wrap) and the format has none.
    """
    out = np.empty((len(a), len(b)), rule.dtype)
    run = _sum_exactly if rule.accumulator == EXACT else _accumulate
    with np.errstate(over="ignore"):  # random words wrap; heard only where kernels are not compiled
        run(a, b, *_parameters(rule, a.shape[1], formats, origin), out)
    return _without_nan(rule, out)


def accumulate_at(
    rule: Accumulation,
    a: NDArray[np.float64],
    b: NDArray[np.float64],
    formats: tuple[AccumulatorFormat, AccumulatorFormat],
    places: tuple[NDArray[np.int64], ...],
) -> NDArray[Any]:
    """`accumulate_general` at some places (rows, columns) of the result, where nothing is drawn."""
    out = np.empty(len(places[0]), rule.dtype)
    parameters = _parameters(rule, a.shape[1], formats, (0, 0))
    _accumulate_some(a, b, *parameters, *places, rule.accumulator == EXACT, out)
    return _without_nan(rule, out)


def _parameters(
    rule: Accumulation, k: int, formats: tuple[Any, Any], origin: tuple[int, int]
) -> tuple[Any, ...]:
    """(order, fields, limits, stream) of the kernels."""
    rounding = rounding_fields(rule.format, rule.rounding_used, rule.overflow_used)
    order = np.array(
        [
            rule.lanes, rule.chunk, rule.piece(k), rule.alignment_bits or 0,
            *(_lowest_exponent(fmt) for fmt in (*formats, rule.format)), rule.rounding_used == "stochastic",
        ],
        np.int64,
    )  # fmt: skip
    return (order, *rounding, np.array([rule.seed, *origin], np.uint64))


def _without_nan(rule: Accumulation, sums: NDArray[Any]) -> NDArray[Any]:
    if not rule.format.has_nan and np.isnan(sums).any():
        raise InputError(f"a sum is not a number, and the accumulator's format {rule.format} has no NaN")
    return sums


def _lowest_exponent(fmt: AccumulatorFormat) -> int:
    """The exponent of the smallest normal number, below which that of a number never is."""
    if isinstance(fmt, FixedPoint) or fmt.kind != "float" or fmt.lowest_binade != "subnormal":
        return _NO_LOWEST
    return binade_power(fmt, 1)


@kernel()
def word_at(key: Any, index: Any) -> Any:
    """Word ``index`` (uint64) of a stream: what `random_bits.random_words` gives."""
    return word_of(key + _GOLDEN * (index + np.uint64(1)))


@kernel()
def word_of(word: Any) -> Any:
    """The word that stands for a place in a stream, which is one step of `_GOLDEN` after the one before."""
    word = (word ^ (word >> np.uint64(30))) * _FIRST_FACTOR
    word = (word ^ (word >> np.uint64(27))) * _SECOND_FACTOR
    return word ^ (word >> np.uint64(31))


@kernel()
def _exponent(value: float, lowest: int) -> Any:
    """Exponent of the leading bit, ``lowest`` at least; zero has none."""
    if value == 0.0:
        return np.int64(_NO_LOWEST)
    return max(np.int64(math.frexp(value)[1] - 1), lowest)


@kernel()
def _window_of_products(psum: float, a: Any, b: Any, first: int, last: int, order: Any) -> float:
    """The weight below which the adder drops bits; 0 if it drops none."""
    largest = _exponent(psum, order[_SUM_LOWEST])
    for k in range(first, last):
        if a[k] != 0.0 and b[k] != 0.0:
            exponent = _exponent(a[k], order[_A_LOWEST]) + _exponent(b[k], order[_B_LOWEST])
            largest = max(largest, exponent)
    return math.ldexp(1.0, int(largest - order[_ALIGNMENT]))


@kernel()
def _kept(term: float, window: float) -> float:
    """``term`` without the bits that an aligning adder drops."""
    return np.trunc(term / window) * window if window > 0.0 else term


@kernel()
def _add_products(
    psum: float, a: Any, b: Any, first: int, last: int, adder: Any, word: Any, work: Any
) -> Any:
    """``psum`` plus the products of ``a[first:last] * b[first:last]``, rounded once."""
    order, rounding = adder
    special = 0.0
    finite = math.isfinite(psum)
    if not finite:
        special = psum
    window = 0.0
    if order[_ALIGNMENT] > 0:
        window = _window_of_products(psum, a, b, first, last, order)
    length = grow(work, 0, _kept(psum, window)) if finite else 0
    for k in range(first, last):
        product = a[k] * b[k]
        if not math.isfinite(product):
            special += product
            finite = False
        elif finite:
            length = grow(work, length, _kept(product, window))
    if not finite:
        return rounded_special(special, rounding)
    return rounded_sum(work, length, word, rounding)


@kernel()
def _add_sums(x: float, y: float, adder: Any, word: Any, work: Any) -> Any:
    """Two values of the accumulator's format, added with one rounding."""
    order, rounding = adder
    if not math.isfinite(x + y):
        return rounded_special(x + y, rounding)
    window = 0.0
    if order[_ALIGNMENT] > 0:
        largest = max(_exponent(x, order[_SUM_LOWEST]), _exponent(y, order[_SUM_LOWEST]))
        window = math.ldexp(1.0, int(largest - order[_ALIGNMENT]))
    length = grow(work, 0, _kept(x, window))
    length = grow(work, length, _kept(y, window))
    return rounded_sum(work, length, word, rounding)


@kernel()
def _element(a: Any, b: Any, adder: Any, key: Any, work: Any) -> Any:
    """One output element: pieces of K in order, in each chunks in order, in each groups in order."""
    order = adder[0]
    k, lanes, chunk, piece = len(a), order[_LANES], order[_CHUNK], order[_PIECE]
    drawn = word = np.uint64(0)
    total = 0.0
    for piece_start in range(0, k, piece):
        piece_stop = min(piece_start + piece, k)
        outer = 0.0
        for start in range(piece_start, piece_stop, chunk):
            stop = min(start + chunk, piece_stop)
            psum = 0.0
            for first in range(start, stop, lanes):
                last = min(first + lanes, stop)
                if order[_DRAWS]:
                    word = word_at(key, drawn)
                psum = _add_products(psum, a, b, first, last, adder, word, work)
                drawn += np.uint64(1)
            if start == piece_start:
                outer = psum
                continue
            if order[_DRAWS]:
                word = word_at(key, drawn)
            outer = _add_sums(outer, psum, adder, word, work)
            drawn += np.uint64(1)
        if piece_start == 0:
            total = outer
            continue
        if order[_DRAWS]:
            word = word_at(key, drawn)
        total = _add_sums(total, outer, adder, word, work)
        drawn += np.uint64(1)
    return total


@kernel(parallel=True)
def _accumulate(a: Any, b: Any, order: Any, fields: Any, limits: Any, stream: Any, out: Any) -> None:
    """Every element of ``out``; rows are shared out to threads, which cannot change a bit.

    ``stream``: uint64, the seed, and the row and column of the first element.
    """
    for i in prange(len(a)):
        adder = order, (fields, limits)
        work = np.empty(order[_LANES] + 1 + SPARE_PARTS)
        row = word_at(stream[0], stream[1] + np.uint64(i))
        for j in range(len(b)):
            key = word_at(row, stream[2] + np.uint64(j))
            out[i, j] = _element(a[i], b[j], adder, key, work)


@kernel(parallel=True)
def _sum_exactly(a: Any, b: Any, order: Any, fields: Any, limits: Any, stream: Any, out: Any) -> None:
    """As `_accumulate`, with nothing rounded but the whole sum."""
    k = a.shape[1]
    for i in prange(len(a)):
        adder = order, (fields, limits)
        work = np.empty(min(k, MOST_PARTS) + 1 + SPARE_PARTS)
        row = word_at(stream[0], stream[1] + np.uint64(i))
        for j in range(len(b)):
            word = word_at(word_at(row, stream[2] + np.uint64(j)), np.uint64(0))
            out[i, j] = _add_products(0.0, a[i], b[j], 0, k, adder, word, work)


@kernel(parallel=True)
def _accumulate_some(
    a: Any, b: Any, order: Any, fields: Any, limits: Any, stream: Any, rows: Any, columns: Any, exact: bool,
    out: Any,
) -> None:  # fmt: skip
    """The elements of `_accumulate` (or, if ``exact``, of `_sum_exactly`) in some rows and columns."""
    k, none = a.shape[1], stream[0]
    for i in prange(len(rows)):
        adder = order, (fields, limits)
        work = np.empty((min(k, MOST_PARTS) if exact else order[_LANES]) + 1 + SPARE_PARTS)
        x, y = a[rows[i]], b[columns[i]]
        out[i] = (
            _add_products(0.0, x, y, 0, k, adder, none, work) if exact else _element(x, y, adder, none, work)
        )
