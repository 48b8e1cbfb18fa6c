"""What the accumulator tests share: products by each kernel, and the comparison with the oracle."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from oracles import accumulators as oracle
from oracles import formats
from thread_counts import with_one_and_two

from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.formats import number_format
from accelsim.numerics.general_kernel import accumulate_general

SMALL_FLOATS = [name for name in formats.LADDERS if formats.bits(name) <= 8]
WIDE_FLOATS = ["dlfloat16", "fp16", "bf16", "fp32"]


def matrix(codes: np.ndarray, name: str) -> Matrix:
    """Codes of any width as an operand."""
    fmt = number_format(name)
    narrow = fmt.bits <= 8
    return Matrix(codes.astype(np.uint8) if narrow else fmt.decode(codes).astype(np.float32), fmt)


def product(rule: oracle.Rule, a: np.ndarray, b: np.ndarray, names: Any, origin: Any = (0, 0)) -> np.ndarray:
    """A (m, k) x B (k, n) of codes by the kernel that `multiply` chooses."""
    return multiply(Accumulation(**vars(rule)), matrix(a, names[0]), matrix(b, names[1]), origin)[0]


def general(rule: oracle.Rule, a: np.ndarray, b: np.ndarray, names: Any, origin: Any = (0, 0)) -> np.ndarray:
    """The same by the general kernel."""
    left, right = matrix(a, names[0]), matrix(b.T, names[1])
    values = [np.ascontiguousarray(operand.values(), np.float64) for operand in (left, right)]
    return accumulate_general(Accumulation(**vars(rule)), *values, (left.format, right.format), origin)


def check(rule: oracle.Rule, a: np.ndarray, b: np.ndarray, names: Any, origin: Any = (0, 0)) -> np.ndarray:
    """The general kernel gives the oracle's values, with one zero, in the narrowest carrier."""
    got = general(rule, a, b, names, origin)
    wanted = oracle.matmul(rule, a.tolist(), b.tolist(), *names, origin)
    for i, j in np.ndindex(got.shape):
        value, exact = float(got[i, j]), wanted[i][j]
        same = math.isnan(exact) if math.isnan(value) else value == exact
        assert same, f"{rule} of {names} {a[i].tolist()} . {b[:, j].tolist()} is {value!r}, not {exact}"
    assert not np.signbit(got[got == 0]).any()
    assert got.dtype == Accumulation(**vars(rule)).dtype
    return got


def check_shapes(rule: Accumulation, a: Matrix, b: Matrix) -> None:
    """One thread, two, a row or a column alone, transposed operands and products, a stack: the same bits."""
    one, two = with_one_and_two(lambda: multiply(rule, a, b)[0])
    np.testing.assert_array_equal(two, one)
    row, column = Matrix(a.array[1:2], a.format), Matrix(b.array[:, -1:], b.format)
    turned = Matrix(np.ascontiguousarray(a.array.T).T, a.format)
    both = (Matrix(np.stack([each.array, each.array]), each.format) for each in (a, b))
    np.testing.assert_array_equal(multiply(rule, row, b)[0], one[1:2])
    np.testing.assert_array_equal(multiply(rule, a, column)[0], one[:, -1:])
    np.testing.assert_array_equal(multiply(rule, turned, b)[0], one)
    np.testing.assert_array_equal(multiply(rule, b.transposed(), a.transposed())[0].T, one)
    np.testing.assert_array_equal(multiply(rule, *both)[0], np.stack([one, one]))
