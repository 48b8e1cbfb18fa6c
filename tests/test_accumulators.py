"""Every accumulation rule against a slow twin on fractions: all fields at once, and their corners."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from accumulator_check import SMALL_FLOATS, WIDE_FLOATS, check, general, matrix, product
from hypothesis import given, settings
from hypothesis import strategies as st
from matmul_check import number_codes
from oracles import accumulators as oracle
from oracles import formats
from thread_counts import with_one_and_two

from accelsim.numerics.accumulate import multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import accumulator_format
from accelsim.numerics.formats import OVERFLOWS, ROUNDINGS, number_format

FIXED = ["int4", "int8", "int16", "int24", "int32", "int48", "fixed8.8", "fixed1.7", "fixed3.45"]
OPERANDS = ["int4", "uint4", "int8", "fp4_r4_odd", "fp4_e2m1", "fp8_e4m3_ibm", "fp8_e5m2", "bf16", "fp32"]


@st.composite
def rules(draw: st.DrawFn) -> oracle.Rule:
    """Any accumulation at all, an exact one now and then."""
    accumulator = draw(st.sampled_from([*SMALL_FLOATS, *WIDE_FLOATS, *FIXED, "exact"]))
    readout = draw(st.sampled_from([*SMALL_FLOATS, *WIDE_FLOATS]))
    fmt = accumulator_format(readout if accumulator == "exact" else accumulator)
    lanes = draw(st.integers(1, 64) | st.integers(1, 4))
    aligned = st.none() | st.integers(1, 64)
    return oracle.Rule(
        lanes,
        lanes * draw(st.integers(1, 4)),
        accumulator,
        draw(st.sampled_from(["format", *fmt.overflows])),
        draw(st.sampled_from(["format", *ROUNDINGS])),
        draw(aligned) if accumulator in (*SMALL_FLOATS, *WIDE_FLOATS) else None,
        draw(st.integers(1, 5)),
        readout,
        draw(st.integers(0, 2**64 - 1)),
    )


@settings(max_examples=500, deadline=None)
@given(
    rule=rules(),
    names=st.tuples(st.sampled_from(OPERANDS), st.sampled_from(OPERANDS)),
    k=st.integers(0, 24),
    origin=st.tuples(st.integers(0, 2**40), st.integers(0, 2**40)),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_rule(rule: oracle.Rule, names: Any, k: int, origin: Any, seed: int) -> None:
    """Every field at random, on operands full of corners: the values of the oracle."""
    rng = np.random.default_rng(seed)
    a, b = number_codes(names[0], rng, (2, k)), number_codes(names[1], rng, (k, 2))
    if k:
        check(rule, a, b, names, origin)
    else:
        assert not product(rule, a, b, names).any()


@pytest.mark.parametrize("rounding", ROUNDINGS)
@pytest.mark.parametrize("accumulator", SMALL_FLOATS)
def test_every_rounding_of_every_small_format(accumulator: str, rounding: str) -> None:
    """All codes, all mid-points and their neighbours on both sides, below the smallest and above the largest.

    The conversion of arrays (`NumberFormat.round`) agrees wherever nothing is drawn.
    """
    top = formats.LADDERS[accumulator].top
    rungs = [Fraction(0), *(formats.rung(accumulator, code) for code in range(1, top + 2))]
    middles = [
        formats.rung(accumulator, code) + formats.rung(accumulator, code + 1) for code in range(top + 1)
    ]
    points = [float(value) for value in [*rungs, *(middle / 2 for middle in middles), 2 * rungs[-1]]]
    near = np.array([[value, np.nextafter(np.float32(value), 0), value * (1 + 2**-20)] for value in points])
    values = np.concatenate([near, -near]).astype(np.float32).reshape(-1, 1)
    codes, one = values.view(np.uint32), np.array([[formats.encode("fp32", 1.0)]])
    fmt = number_format(accumulator)
    for overflow in fmt.overflows:
        rule = oracle.Rule(1, 1, accumulator, overflow, rounding, seed=3)
        got = check(rule, codes, one, ("fp32", "fp32"))
        if rounding != "stochastic":
            np.testing.assert_array_equal(got, fmt.round(values, rounding, overflow))


@pytest.mark.parametrize("names", [("int4", "fp4_r4_odd"), ("uint4", "int4"), ("fp4_e2m1", "fp4_e1m2")])
def test_all_products_of_four_bit_codes(names: tuple[str, str]) -> None:
    """All 16 x 16 products, each added to its mirror image's half, into every accumulator."""
    codes = np.arange(16)
    a, b = np.stack([codes, codes[::-1]], axis=1), np.stack([codes, codes // 2])
    for accumulator in (*SMALL_FLOATS, "fp16", "int4", "int8", "fixed8.8", "exact"):
        check(oracle.Rule(1, 2, accumulator, readout="fp8_e4m3fn"), a, b, names)


@pytest.mark.parametrize("accumulator", ["dlfloat16", "bf16", "fp8_e5m2", "int8", "fixed6.4"])
@pytest.mark.parametrize("rounding", ["format", "toward_zero", "stochastic"])
def test_lanes_chunks_and_splits(accumulator: str, rounding: str) -> None:
    """Groups, chunks and pieces end where the rule says, for K below, at and beyond each border."""
    rng = np.random.default_rng(4)
    for lanes, groups, splits in itertools.product((1, 3, 64), (1, 2, 5), (1, 2, 3, 7)):
        chunk = lanes * groups
        rule = oracle.Rule(lanes, chunk, accumulator, "format", rounding, None, splits, seed=9)
        for k in {1, chunk - 1 or 1, chunk, chunk + 1, 3 * chunk, 4 * chunk + lanes - 1 or 1}:
            if k <= 400:
                a, b = number_codes("int4", rng, (1, k)), number_codes("fp4_r4_odd", rng, (k, 1))
                check(rule, a, b, ("int4", "fp4_r4_odd"))


@pytest.mark.parametrize("lanes", [1, 4, 16])
@pytest.mark.parametrize("accumulator", ["dlfloat16", "fp16", "fp32", "int16", "int32", "fixed20.4", "exact"])
def test_the_fastest_kernel_has_the_bits_of_the_general_one(accumulator: str, lanes: int) -> None:
    """Whatever kernel is chosen, for every rounding, split and overflow: the general kernel's values."""
    rng = np.random.default_rng(lanes)
    rules = [
        oracle.Rule(lanes, 64, accumulator, overflow, rounding, None, splits, "dlfloat16", 5)
        for rounding in ("format", "nearest_even", "nearest_up", "toward_zero", "stochastic")
        for splits in (1, 3)
        for overflow in ("format", "saturate")
    ]
    for names in (("int4", "int4"), ("int8", "int8"), ("int4", "fp4_r4_odd")):
        a, b = number_codes(names[0], rng, (9, 150)), number_codes(names[1], rng, (150, 20))
        for rule in rules:
            np.testing.assert_array_equal(product(rule, a, b, names), general(rule, a, b, names))


def kernel_of(rule: Accumulation, name: str, k: int) -> str:
    """The kernel for full-scale operands of one format."""
    codes = matrix(np.full((2, k), formats.bits(name) and 1 << (formats.bits(name) - 1)), name)
    return multiply(rule, codes, codes.transposed())[1]


def test_fast_kernels_are_chosen_only_where_they_are_right() -> None:
    """Integers that cannot overflow take bytes, sums that might take doubles."""
    assert kernel_of(Accumulation(4, 64, "int16"), "int4", 511) == "i8_exact"
    assert kernel_of(Accumulation(4, 64, "int16"), "int4", 512) == "f64_exact"
    assert kernel_of(Accumulation(4, 64, "int32"), "int8", 1024) == "i16_exact"
    assert kernel_of(Accumulation(4, 64, "int32"), "int8", 1025) == "f64_exact"
    assert kernel_of(Accumulation(4, 64, "exact"), "int4", 600) == "i8_exact"
    assert kernel_of(Accumulation(4, 64, "exact", rounding="stochastic"), "int4", 600) == "general"
    assert kernel_of(Accumulation(4, 64, "fp16"), "int4", 100) == "i8_exact"
    assert kernel_of(Accumulation(4, 64, "fp16", rounding="nearest_even"), "int4", 100) == "i8_exact"
    assert kernel_of(Accumulation(4, 128, "fp16", k_splits=9), "int4", 100) == "i8_exact"
    assert kernel_of(Accumulation(4, 64, "fp16", rounding="nearest_up"), "int4", 100) == "f64_exact"
    assert kernel_of(Accumulation(4, 64, "int16", "wrap"), "int4", 512) == "general"
    for other in ({"rounding": "toward_zero"}, {"alignment_bits": 30}, {"k_splits": 2}):
        assert kernel_of(Accumulation(4, 64, "fp16", **other), "int4", 100) == "general"  # type: ignore[arg-type]


def test_random_bits_belong_to_the_element() -> None:
    """One thread, two threads and any tiling of the result draw the same bits; seed and place change them."""
    rng = np.random.default_rng(2)
    names = ("int4", "fp4_r4_odd")
    a, b = number_codes(names[0], rng, (13, 70)), number_codes(names[1], rng, (70, 11))
    for accumulator in ("fp8_e4m3_ibm", "exact"):
        rule = oracle.Rule(2, 6, accumulator, rounding="stochastic", k_splits=2, readout="fp8_e5m2", seed=7)
        one, two = with_one_and_two(lambda rule=rule: product(rule, a, b, names))
        np.testing.assert_array_equal(one, two)
        for top, left in itertools.product((0, 5, 12), (0, 4, 10)):
            tile = product(rule, a[top : top + 7], b[:, left : left + 6], names, (top, left))
            np.testing.assert_array_equal(tile, one[top : top + 7, left : left + 6])
        other_seed = oracle.Rule(**{**vars(rule), "seed": 8})
        assert (product(other_seed, a, b, names) != one).any()
        assert (product(rule, a, b, names, (1, 0)) != one).any()


def test_stochastic_sums_are_right_on_average() -> None:
    """One quarter of a step is rounded up by a quarter of the elements, within five standard deviations."""
    a, b = (
        np.full((200, 1), formats.encode("fp8_e5m2", 1.0)),
        np.full((1, 200), formats.encode("fp8_e5m2", 0.25)),
    )
    rule = oracle.Rule(1, 1, "int8", rounding="stochastic", seed=1)
    share = general(rule, a, b, ("fp8_e5m2", "fp8_e5m2")).mean()
    assert abs(share - 0.25) < 5 * math.sqrt(0.25 * 0.75 / 40_000)


def test_overflow_names_are_those_of_the_formats() -> None:
    """Each overflow a format has can be asked of an accumulator, and each other one is refused."""
    for accumulator, overflow in itertools.product([*SMALL_FLOATS, *WIDE_FLOATS, *FIXED], OVERFLOWS):
        if overflow in accumulator_format(accumulator).overflows:
            assert Accumulation(1, 1, accumulator, overflow).overflow_used == overflow
        else:
            with pytest.raises(ValueError, match=f"overflow: {accumulator} cannot overflow to '{overflow}'"):
                Accumulation(1, 1, accumulator, overflow)
