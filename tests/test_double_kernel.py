"""The double-precision tile against the general kernel and the oracle: every check, mark and rounding."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from accumulator_check import check_shapes, general, matrix
from hypothesis import given, settings
from hypothesis import strategies as st
from matmul_check import number_codes
from oracles import accumulators as oracle

from accelsim.numerics.accumulate import (
    _double_choice,
    _multiply_doubles,
    multiply,
)
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.double_tile import PRECISIONS, RANGES, ROUNDINGS, DoubleConfig

ACCUMULATORS = [
    "dlfloat16", "fp16", "bf16", "fp32", "fp8_e4m3fn", "fp8_e5m2", "fp8_e4m3_ibm", "fp6_e2m3", "int8",
    "int16", "int48", "fixed8.8", "fixed3.45", "exact",
]  # fmt: skip
OPERANDS = ["int4", "int8", "fp4_e3m0", "fp8_e4m3_ibm", "fp8_e5m2_ibm", "bf16", "dlfloat16", "fp32"]


def doubles(rule: oracle.Rule, a: np.ndarray, b: np.ndarray, names: Any) -> tuple[np.ndarray, np.ndarray]:
    """Sums by the double tile, and where it marked them."""
    left, right = matrix(a, names[0]), matrix(b, names[1])
    accumulation = Accumulation(**vars(rule))
    config = _double_choice(accumulation, left, right)
    assert config is not None
    return _multiply_doubles(accumulation, config, left, right)


def check(rule: oracle.Rule, a: np.ndarray, b: np.ndarray, names: Any) -> float:
    """Every unmarked sum is the general kernel's, and `multiply` has them all; the share of marked ones."""
    sums, failed = doubles(rule, a, b, names)
    wanted = general(rule, a, b, names)
    np.testing.assert_array_equal(sums[~failed], wanted[~failed])
    assert not np.signbit(sums[sums == 0]).any()
    got, name = multiply(Accumulation(**vars(rule)), matrix(a, names[0]), matrix(b, names[1]))
    np.testing.assert_array_equal(got, wanted)
    assert name != "general"
    assert got.dtype == wanted.dtype
    return float(failed.mean())


@settings(max_examples=25, deadline=None)
@given(
    accumulator=st.sampled_from(ACCUMULATORS),
    names=st.tuples(st.sampled_from(OPERANDS), st.sampled_from(OPERANDS)),
    ties=st.sampled_from(["even", "up", "down"]),
    lanes=st.sampled_from([1, 2, 3, 8, 32]),
    groups=st.integers(1, 4),
    k=st.integers(1, 70),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_rule_that_rounds_to_nearest(
    accumulator: str, names: Any, ties: str, lanes: int, groups: int, k: int, seed: int
) -> None:
    """Operands full of corners, ragged tiles, short groups and chunks, overflow of either kind."""
    rng = np.random.default_rng(seed)
    for overflow in ("format", "saturate"):
        rule = oracle.Rule(lanes, lanes * groups, accumulator, overflow, f"nearest_{ties}", readout="fp16")
        a, b = number_codes(names[0], rng, (5, k)), number_codes(names[1], rng, (k, 11))
        check(rule, a, b, names)


def test_only_what_failed_is_computed_again() -> None:
    """One huge and one tiny product in one row of groups of two: its sums are marked, no other."""
    a = np.full((9, 8), oracle_code("fp32", 1.0))
    b = np.full((8, 20), oracle_code("fp32", 1.0))
    a[4, 2], a[4, 3] = oracle_code("fp32", 2.0**60), oracle_code("fp32", 2.0**-60)
    rule = oracle.Rule(2, 8, "fp32")
    _, failed = doubles(rule, a, b, ("fp32", "fp32"))
    assert failed[4].all()
    assert not failed[[0, 1, 2, 3, 5, 6, 7, 8]].any()
    assert check(rule, a, b, ("fp32", "fp32")) == pytest.approx(1 / 9)


def oracle_code(name: str, value: float) -> int:
    """The code of a number that the format holds."""
    from oracles import formats

    return formats.encode(name, value)


def test_sums_that_leave_the_range_are_marked_or_saturate() -> None:
    """Half overflows to infinity by the general kernel, or stays at 65504 in the tile; int8 at -128."""
    ones, tops = np.full((3, 40), oracle_code("fp16", 1.0)), np.full((40, 9), oracle_code("fp16", 60000.0))
    assert check(oracle.Rule(1, 40, "fp16"), ones, tops, ("fp16", "fp16")) == 1.0
    assert check(oracle.Rule(1, 40, "fp16", "saturate"), ones, tops, ("fp16", "fp16")) == 0.0
    low = np.full((3, 40), 8)
    assert check(oracle.Rule(4, 40, "int8"), low, np.full((40, 9), 7), ("int4", "int4")) == 0.0


def test_no_double_rounding() -> None:
    """A sum beside a tie by less than a double can hold, on either side: one rounding."""
    for name, tie in (("dlfloat16", 1 + 2.0**-10), ("fp16", 1 + 2.0**-11), ("bf16", 1 + 2.0**-8)):
        for tiny in (2.0**-70, -(2.0**-70), 0.0):
            values = np.float32([1.0, tie - 1.0, tiny])
            a = np.array([[oracle_code("fp32", float(value)) for value in values]])
            b = np.full((3, 1), oracle_code("fp32", 1.0))
            # the tie and the tiny part meet in the accumulator, or in a group (and are then marked)
            for order, lanes in (([1, 2, 0], 1), ([2, 0, 1], 3), ([0, 2, 1], 2)):
                for ties in ("even", "up", "down"):
                    rule = oracle.Rule(lanes, 3 if lanes != 2 else 4, name, rounding=f"nearest_{ties}")
                    check(rule, np.repeat(a[:, order], 3, axis=0), np.repeat(b, 9, axis=1), ("fp32", "fp32"))


def test_shapes_stacks_and_threads_do_not_change_a_bit() -> None:
    """Ragged and narrow operands in groups and chunks."""
    rng = np.random.default_rng(3)
    names = ("fp8_e4m3_ibm", "fp8_e5m2_ibm")
    a, b = number_codes(names[0], rng, (13, 70)), number_codes(names[1], rng, (70, 19))
    check_shapes(Accumulation(4, 16, "dlfloat16"), matrix(a, names[0]), matrix(b, names[1]))


def test_a_configuration_is_one_integer() -> None:
    """Packing keeps every field."""
    for fields in itertools.product(ROUNDINGS, PRECISIONS, RANGES):
        assert DoubleConfig.unpack(DoubleConfig(*fields).pack()) == DoubleConfig(*fields)


def test_what_doubles_leave_to_the_general_kernel() -> None:
    """Infinities, NaN, alignment, drawn or odd roundings, wrapping, radix 4 and logarithms to base sqrt 2."""
    ones = matrix(np.full((2, 4), oracle_code("fp8_e5m2", 1.0)), "fp8_e5m2")
    infinite = matrix(np.full((2, 4), oracle_code("fp8_e5m2", np.inf)), "fp8_e5m2")
    roots = matrix(np.full((2, 4), 3), "log4_sqrt2")
    rules = [
        Accumulation(1, 4, "fp32", rounding="toward_zero"), Accumulation(1, 4, "fp32", rounding="stochastic"),
        Accumulation(1, 4, "fp32", alignment_bits=20), Accumulation(1, 4, "int8", "wrap"),
        Accumulation(1, 4, "fp4_r4_even"), Accumulation(1, 2, "fp32", k_splits=2),
    ]  # fmt: skip
    for rule in rules:
        assert _double_choice(rule, ones, ones.transposed()) is None
    plain = Accumulation(1, 4, "fp32")
    assert _double_choice(plain, ones, ones.transposed()) is not None
    assert _double_choice(plain, infinite, ones.transposed()) is None
    assert _double_choice(plain, roots, roots.transposed()) is None
