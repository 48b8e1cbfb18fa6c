"""One GEMM, one addition at a time: the order of additions and every rounding spelled out.

Per output element (products in ascending k):

1. a chunk is ``chunk`` consecutive products; the last may be shorter;
2. inside a chunk a partial sum starts at zero; ``lanes`` products at a time are added to it exactly and the
   new partial sum is rounded once to the accumulator format;
3. the finished partial sum is added to the outer accumulator, rounded once.

Sources: Wang et al., "Training Deep Neural Networks with 8-bit Floating Point Numbers", NeurIPS 2018
(chunk-based accumulation); Agrawal et al., "DLFloat", ARITH 2019 (16-bit accumulation, merged NaN-infinity).
"""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction

from oracles.formats import (
    INFINITY,
    LADDERS,
    NAN,
    NEGATIVE_INFINITY,
    Value,
    decode,
    encode,
    is_finite,
    nan_code,
)


def product(left: Value, right: Value) -> Value:
    """left * right, exact; an infinity times zero is NaN."""
    if is_finite(left) and is_finite(right):
        return left * right
    if left != left or right != right or left == 0 or right == 0:
        return NAN
    return INFINITY if (left > 0) == (right > 0) else NEGATIVE_INFINITY


def exact_sum(terms: Sequence[Value]) -> Value:
    """The sum without any rounding; infinities of both signs make NaN."""
    specials = [term for term in terms if not is_finite(term)]
    if not specials:
        return sum(terms, Fraction(0))
    return specials[0] if all(term == specials[0] for term in specials) else NAN


def round_to(accumulator: str, value: Value, overflow: str) -> int:
    """One rounding to the accumulator's format; the accumulator has one zero and one NaN."""
    code = encode(accumulator, value, saturate=overflow == "saturate")
    if code % LADDERS[accumulator].sign_bit == 0:
        return 0
    result = decode(accumulator, code)
    return nan_code(accumulator) if result != result else code


def dot(
    left: Sequence[Value],
    right: Sequence[Value],
    lanes: int,
    chunk: int,
    accumulator: str,
    overflow: str = "format",
) -> int:
    """The accumulator code of one output element: sum over k of left[k] * right[k]."""
    outer = 0
    for chunk_start in range(0, len(left), chunk):
        chunk_end = min(chunk_start + chunk, len(left))
        partial = 0
        for group_start in range(chunk_start, chunk_end, lanes):
            group = range(group_start, min(group_start + lanes, chunk_end))
            terms = [decode(accumulator, partial), *(product(left[k], right[k]) for k in group)]
            partial = round_to(accumulator, exact_sum(terms), overflow)
        both = [decode(accumulator, outer), decode(accumulator, partial)]
        outer = round_to(accumulator, exact_sum(both), overflow)
    return outer


def matmul(
    a_codes: Sequence[Sequence[int]],
    b_codes: Sequence[Sequence[int]],
    columns: int,
    a_format: str,
    b_format: str,
    lanes: int,
    chunk: int,
    accumulator: str,
    overflow: str = "format",
) -> list[list[int]]:
    """Accumulator codes of A (m x k) times B (k x ``columns``), both given as codes."""
    b_columns = [[decode(b_format, int(row[j])) for row in b_codes] for j in range(columns)]
    result = []
    for row in a_codes:
        values = [decode(a_format, int(code)) for code in row]
        result.append([dot(values, column, lanes, chunk, accumulator, overflow) for column in b_columns])
    return result
