"""Pieces of K by fast kernels and their sums, against the kernel that adds as it is defined."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from accelsim.datapath.split_k import multiply_pieces
from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.formats import number_format


def codes(seed: int, name: str, shape: tuple[int, int]) -> Matrix:
    """Random codes of a 4-bit format."""
    array = np.random.default_rng(seed).integers(0, 16, shape).astype(np.uint8)
    return Matrix(array, number_format(name))


def numbers(seed: int, name: str, shape: tuple[int, int], spread: int) -> Matrix:
    """Random values of a 16-bit format, powers of two apart, so that sums round and cancel."""
    source = np.random.default_rng(seed)
    values = source.standard_normal(shape) * 2.0 ** source.integers(-spread, spread + 1, shape)
    return Matrix(number_format(name).round(values).astype(np.float32), number_format(name))


def check(rule: Accumulation, a: Matrix, b: Matrix) -> str:
    """Both ways have the same bits; returns the kernel of the pieces."""
    found, kernel = multiply_pieces(rule, a, b)
    expected = multiply(rule, a, b)[0]
    assert found.dtype == expected.dtype
    assert found.tobytes() == expected.tobytes()
    return kernel


@settings(max_examples=60, deadline=None)
@given(
    accumulator=st.sampled_from(["dlfloat16", "fp16", "bf16", "fp32", "int16", "exact", "fixed8.4"]),
    rounding=st.sampled_from(["format", "nearest_even", "nearest_up", "toward_zero", "stochastic"]),
    k=st.integers(0, 70),
    splits=st.integers(1, 9),
    lanes=st.sampled_from([1, 4]),
    seed=st.integers(0, 99),
)
def test_pieces_of_codes_have_the_defined_bits(
    accumulator: str, rounding: str, k: int, splits: int, lanes: int, seed: int
) -> None:
    """Every accumulator and rounding, split or not: what the definition gives."""
    rule = Accumulation(lanes, 2 * lanes, accumulator, rounding=rounding, k_splits=splits)
    check(rule, codes(seed, "int4", (5, k)), codes(seed + 1, "fp4_r4_odd", (k, 9)))


@settings(max_examples=30, deadline=None)
@given(
    name=st.sampled_from(["dlfloat16", "fp16", "bf16", "fp32"]),
    spread=st.sampled_from([0, 3, 7]),
    splits=st.integers(2, 9),
    seed=st.integers(0, 999),
)
def test_pieces_of_wide_numbers_have_the_defined_bits(name: str, spread: int, splits: int, seed: int) -> None:
    """Operands whose sums round at every step, cancel, and overflow where the spread is large."""
    rule = Accumulation(1, 8, name, k_splits=splits)
    check(rule, numbers(seed, name, (4, 64), spread), numbers(seed + 1, name, (64, 5), spread))


@pytest.mark.parametrize("overflow", ["format", "saturate"])
def test_sums_beyond_the_range_are_left_to_the_definition(overflow: str) -> None:
    """Two pieces that fit and whose sum does not; a piece that does not; infinities that meet."""
    big = number_format("fp16").max_value
    for column in ([big, 0, big, 0], [big, big, -big, 0], [big, big, -big, -big]):
        a = Matrix(np.array([column], np.float32), number_format("fp16"))
        one = Matrix(np.ones((4, 1), np.float32), number_format("fp16"))
        check(Accumulation(1, 1, "fp16", overflow, k_splits=2), a, one)


def test_a_split_sum_does_not_need_the_slow_kernel() -> None:
    """Four-bit codes into DLFloat16 in eight pieces run on the kernel of one piece."""
    a, b = codes(1, "int4", (9, 400)), codes(2, "int4", (400, 16))
    whole = Accumulation(4, 32, "dlfloat16")
    rule = Accumulation(4, 32, "dlfloat16", k_splits=8)
    assert check(rule, a, b) == multiply(whole, a, b)[1] != "general"
