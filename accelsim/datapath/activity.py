"""What the operands of a GEMM do to the arrays' switching: zeros and bit toggles, counted, not guessed.

*Zeros* are counted over all products: a product is idle when one of its operands is zero.

*Toggles* are the bits that differ between two elements that follow each other in an input register of a
PE within one array pass, in the order in which the plan streams them:

- weight stationary: rows of A follow each other, B stands still; input stationary: columns of B follow
  each other, A stands still;
- output stationary: elements of A's rows and of B's columns that lie ``lanes`` apart follow each other,
  within each chunk of K.

An operand that stands still toggles nothing. From one pass to the next nothing is counted. Neighbours
are looked at in the first `MOST_ROWS` rows of A and columns of B and the first `MOST_DEPTH` of K.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from accelsim.mapping import Plan
from accelsim.numerics.formats import NumberFormat

if TYPE_CHECKING:
    from accelsim.numerics.accumulate import Matrix

MOST_ROWS = 256
MOST_DEPTH = 1024

Codes = NDArray[Any]


@dataclass(frozen=True)
class StreamActivity:
    """One operand: elements and zeros among them; bits looked at and bits that toggled (0, 0: still)."""

    elements: int
    zeros: int
    bits: int
    observed_bits: int
    toggled_bits: int


@dataclass(frozen=True)
class Activity:
    """One GEMM: ``products`` = m k n, ``idle_products`` of them with a zero operand, and its operands."""

    products: int
    idle_products: int
    a: StreamActivity
    b: StreamActivity


def observe(plan: Plan, a: Matrix, b: Matrix) -> Activity:
    """The activity of ``a`` (m, k) times ``b`` (k, n) run by ``plan``."""
    (m, k), n = a.array.shape, b.array.shape[1]
    a_live, b_live = _live(a), _live(b)
    a_by_k, b_by_k = np.count_nonzero(a_live, axis=0), np.count_nonzero(b_live, axis=1)
    busy = int(np.dot(a_by_k.astype(np.int64), b_by_k.astype(np.int64)))
    still = {"weight_stationary": "b", "input_stationary": "a"}.get(plan.dataflow)
    streams = {
        name: _stream(operand, by_k, plan, transposed=name == "b", still=still == name)
        for name, operand, by_k in (("a", a, a_by_k), ("b", b, b_by_k))
    }
    return Activity(m * k * n, m * k * n - busy, streams["a"], streams["b"])


def _live(operand: Matrix) -> NDArray[np.bool_]:
    """Which elements are not zero."""
    if operand.format.bits <= 8:
        live = _not_zero(operand.format)[operand.array]
        return np.asarray(live, np.bool_)
    return np.asarray(operand.array != 0)


@cache
def _not_zero(fmt: NumberFormat) -> NDArray[np.bool_]:
    """By code: whether it stands for something else than zero."""
    return np.asarray(fmt.decode(np.arange(1 << fmt.bits)) != 0)


def _stream(
    operand: Matrix, live_by_k: Codes, plan: Plan, *, transposed: bool, still: bool
) -> StreamActivity:
    fmt = operand.format
    elements = operand.array.size
    zeros = elements - int(np.sum(live_by_k, dtype=np.int64))
    if still:
        return StreamActivity(elements, zeros, fmt.bits, 0, 0)
    rows = operand.array.T if transposed else operand.array
    codes = _codes(rows[:MOST_ROWS, :MOST_DEPTH], fmt)
    flips = _flips(codes, plan)
    return StreamActivity(elements, zeros, fmt.bits, flips.size * fmt.bits, _ones(flips))


def _codes(values: Codes, fmt: NumberFormat) -> Codes:
    return values if fmt.bits <= 8 else fmt.encode(values)


def _flips(codes: Codes, plan: Plan) -> Codes:
    """Bits that differ between neighbours of the stream; ``codes`` is (rows or columns, k)."""
    if plan.dataflow != "output_stationary":
        return np.asarray(codes[1:] ^ codes[:-1])
    first = np.arange(max(codes.shape[1] - plan.lanes, 0))
    first = first[first // plan.chunk == (first + plan.lanes) // plan.chunk]
    return np.asarray(codes[:, first] ^ codes[:, first + plan.lanes])


def _ones(words: Codes) -> int:
    """Set bits of all words."""
    if not words.size:
        return 0
    return int(np.sum(_SET_BITS[np.ascontiguousarray(words).view(np.uint8)], dtype=np.int64))


_SET_BITS = np.array([code.bit_count() for code in range(256)], np.uint8)
