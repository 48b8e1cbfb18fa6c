"""The chain of fused multiply-adds against the general kernel and the oracle: every method, tie and edge."""

from __future__ import annotations

import itertools
from dataclasses import replace
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from accumulator_check import check, check_shapes, general, matrix
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import accumulators as oracle
from oracles import formats

from accelsim.numerics import chain_product
from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.chain_product import choose_chain, multiply_chained
from accelsim.numerics.chain_tile import METHODS, ChainConfig
from accelsim.numerics.formats import number_format

ACCUMULATORS = ["dlfloat16", "fp16", "bf16", "fp32", "fp8_e4m3fn", "fp8_e5m2", "fp8_e4m3_ibm", "fp6_e3m2"]
OPERANDS = ["int4", "fp4_r4_odd", "fp8_e4m3_ibm", "fp8_e5m2_ibm", "bf16", "dlfloat16", "fp16"]
TIE_NAMES = ["nearest_even", "nearest_up", "toward_zero"]

pytestmark = pytest.mark.skipif(
    not (chain_product.fused() and chain_product.truncates()), reason="this machine cannot fuse, or truncate"
)


def codes_below(name: str, rng: np.random.Generator, shape: tuple[int, ...], top: int) -> np.ndarray:
    """Codes of numbers below 2**top: all magnitudes, the smallest ones, powers of two, zeros, both signs."""
    fmt = number_format(name)
    magnitudes = np.abs(fmt.decode(np.arange(1 << fmt.bits)))
    small = np.flatnonzero(magnitudes < 2.0**top)
    near = small[magnitudes[small] >= 2.0 ** (top - 4)]
    lowest = small[np.argsort(magnitudes[small], kind="stable")[:6]]
    whole = small[np.frexp(magnitudes[small])[0] == 0.5]
    pools = [near, near, small, lowest, whole if whole.size else small]
    drawn = np.stack([rng.choice(pool, shape) for pool in pools if pool.size])
    return np.take_along_axis(drawn, rng.integers(0, len(drawn), (1, *shape)), 0)[0]


def compare(rule: oracle.Rule, a: np.ndarray, b: np.ndarray, names: Any, width: int = 0) -> str:
    """The chain's sums are the general kernel's; the method, or nothing where none was proven."""
    left, right = matrix(a, names[0]), matrix(b, names[1])
    accumulation = Accumulation(**vars(rule))
    choice = choose_chain(accumulation, left, right)
    if choice is None:
        return ""
    config, scale = choice
    config = replace(config, rows=4, vectors=2, width=width) if width else config
    got = multiply_chained(accumulation, config, scale, left, right)
    np.testing.assert_array_equal(got, general(rule, a, b, names))
    assert not np.signbit(got[got == 0]).any()
    return config.method


@settings(max_examples=60, deadline=None)
@given(
    accumulator=st.sampled_from(ACCUMULATORS),
    names=st.tuples(st.sampled_from(OPERANDS), st.sampled_from(OPERANDS)),
    rounding=st.sampled_from(TIE_NAMES),
    tops=st.tuples(st.integers(-14, 2), st.integers(-12, 2)),
    chunk=st.integers(1, 40),
    k=st.integers(1, 50),
    seed=st.integers(0, 2**32 - 1),
)
def test_any_rule(
    accumulator: str, names: Any, rounding: str, tops: Any, chunk: int, k: int, seed: int
) -> None:
    """Random rules and operands, far below the range and near it: where there is a chain, it is right."""
    rng = np.random.default_rng(seed)
    a = codes_below(names[0], rng, (5, k), tops[0] if formats.bits(names[0]) > 4 else 9)
    b = codes_below(names[1], rng, (k, 19), tops[1] if formats.bits(names[1]) > 4 else 9)
    rule = oracle.Rule(1, chunk, accumulator, rounding=rounding)
    compare(rule, a, b, names)
    compare(rule, a, b, names, width=8)


@pytest.mark.parametrize("rounding", TIE_NAMES)
@pytest.mark.parametrize("accumulator", ["dlfloat16", "fp16", "bf16"])
def test_sixteen_bits(accumulator: str, rounding: str) -> None:
    """Large sums of each 16-bit format at several heights, in 512-bit and narrower vectors."""
    rng = np.random.default_rng(5)
    lowest = {"dlfloat16": -31, "fp16": -14, "bf16": -100}[accumulator]
    rule = oracle.Rule(1, 32, accumulator, rounding=rounding)
    for top, width in itertools.product((-2, 0, 2, lowest // 2, lowest // 2 + 5), (8, 16)):
        a = codes_below(accumulator, rng, (9, 70), top)
        b = codes_below(accumulator, rng, (70, 40), top)
        even = "tied" if accumulator == "dlfloat16" else "paired"
        wanted = "truncated" if rounding in ("nearest_up", "toward_zero") else even
        if width <= chain_product.vector_width():
            assert compare(rule, a, b, (accumulator, accumulator), width) == wanted


@pytest.mark.parametrize("rounding", TIE_NAMES)
@pytest.mark.parametrize("name", ["fp8_e4m3_ibm", "fp8_e5m2", "fp6_e3m2"])
def test_every_sum_and_product_of_small_formats(name: str, rounding: str) -> None:
    """Each number of the lower binades plus each product of a few with all: every tie and flush there is."""
    fmt = number_format(name)
    values = fmt.decode(np.arange(1 << fmt.bits))
    usable = np.flatnonzero(np.abs(values) < fmt.max_value / 16)
    usable = usable[np.abs(values[usable]) <= 1.0]
    factors = usable[:: max(1, usable.size // 12)]
    one = formats.encode(name, Fraction(1))
    a = np.array([(first, factor) for first in usable for factor in factors])
    b = np.stack([np.full(usable.size, one), usable])
    rule = oracle.Rule(1, 2, name, rounding=rounding)
    assert compare(rule, a, b, (name, name)) in ("truncated", "tied", "paired")


def test_ties_and_specks_against_the_oracle() -> None:
    """A tie meets a speck at every distance, on both sides, first or last: fractions say the same."""
    for name, rounding in itertools.product(("dlfloat16", "fp16"), TIE_NAMES):
        bits = formats.LADDERS[name].fraction_bits
        rule = oracle.Rule(1, 3, name, rounding=rounding)
        for power, sign in itertools.product(range(-24, -9, 2), (1, -1, 0)):
            odd = 1 + Fraction(1, 1 << bits)
            half = Fraction(1, 1 << (bits + 1) // 2), Fraction(1, 1 << (bits + 2) // 2)
            speck = sign * Fraction(2) ** (power // 2), Fraction(2) ** (power - power // 2)
            for first, pairs in itertools.product((odd, Fraction(1)), itertools.permutations((half, speck))):
                chain = [(first, Fraction(1)), *pairs]
                a = np.array([[formats.encode(name, pair[0]) for pair in chain]])
                b = np.array([[formats.encode(name, pair[1])] for pair in chain])
                wanted = check(rule, a, b, (name, name))
                got, kernel = multiply(Accumulation(**vars(rule)), matrix(a, name), matrix(b, name))
                assert got[0, 0] == wanted[0, 0]
                assert kernel.startswith("fma_")


def test_a_product_beside_a_tiny_sum() -> None:
    """The sum is far below the last place of the product, which is a tie: the sum's sign decides."""
    for name, down in itertools.product(("fp16", "bf16"), (1, -1)):
        bits = formats.LADDERS[name].fraction_bits
        # (1 + 2**-i) * (1 + 2**-j) = 1 + 2**-i + 2**-j + 2**-(bits + 1)
        x, y = 1 + Fraction(1, 2 ** (bits // 2)), 1 + Fraction(1, 2 ** (bits + 1 - bits // 2))
        tiny = formats.encode(name, down * Fraction(1, 2**12))
        small = formats.encode(name, Fraction(1, 2**12))
        a = np.array([[tiny, formats.encode(name, x)], [formats.encode(name, 0), formats.encode(name, x)]])
        b = np.array([[small], [formats.encode(name, y)]])
        for rounding in TIE_NAMES:
            rule = oracle.Rule(1, 2, name, rounding=rounding)
            check(rule, a, b, (name, name))
            assert compare(rule, a, b, (name, name))
            assert compare(rule, a, b, (name, name), width=8)


def test_cutting_with_three_operations() -> None:
    """Every single of one binade is cut to the nearest, ties to even, as integers say."""
    singles = np.arange(1 << 23, dtype=np.uint32) + np.uint32(127 << 23)
    for dropped in (13, 16, 21):
        values = singles.view(np.float32)
        upper = values * np.float32(2.0**dropped + 1.0)
        cut = upper - (upper - values)
        half = (1 << (dropped - 1)) - 1 + (singles >> dropped & 1)
        wanted = singles + half.astype(np.uint32) >> dropped << dropped
        np.testing.assert_array_equal(cut.view(np.uint32), wanted)


def test_few_bits_are_exact_in_single_precision() -> None:
    """4-bit operands into half need no tie looked at, and into IEEE single no rounding of ours."""
    rng = np.random.default_rng(1)
    a, b = rng.integers(0, 16, (20, 90)), rng.integers(0, 16, (90, 50))
    for name, method in (("fp16", "exact"), ("fp32", "single"), ("dlfloat16", "truncated")):
        assert compare(oracle.Rule(1, 64, name), a, b, ("int4", "int4")) == method
        assert compare(oracle.Rule(1, 64, name), a, b, ("int4", "int4"), width=8) == method


def test_overflow_is_left_to_others() -> None:
    """Sums that may leave the range, by size and by length, take another kernel; infinities too."""
    rule = Accumulation(1, 64, "fp16")
    ones = np.ones((4, 300), np.float32)
    half = number_format("fp16")
    for factor, fits in ((1.0, True), (7.0, True), (64.0, False), (np.inf, False)):
        operands = Matrix(ones * np.float32(factor), half), Matrix(ones.T * np.float32(factor), half)
        assert (choose_chain(rule, *operands) is not None) == fits
    large = ones * np.float32(1 / 64)
    large[:, 0] = 60.0  # too large times the length, but the rows are short
    operands = Matrix(large, half), Matrix(np.ascontiguousarray(large.T), half)
    assert choose_chain(rule, *operands) is not None
    sums, kernel = multiply(rule, *operands)
    assert kernel == "fma_paired"
    np.testing.assert_array_equal(sums, sums[0, 0])


def test_what_a_chain_is_not_for() -> None:
    """Groups, alignment, splits, odd and drawn roundings, other kinds of accumulators, wide products."""
    ones = matrix(np.full((2, 4), formats.encode("fp16", Fraction(1))), "fp16")
    wide = Matrix(ones.array, number_format("fp32"))
    for rule in (
        Accumulation(2, 4, "fp16"), Accumulation(1, 4, "fp16", alignment_bits=20),
        Accumulation(1, 2, "fp16", k_splits=2), Accumulation(1, 4, "fp16", rounding="to_odd"),
        Accumulation(1, 4, "fp16", rounding="stochastic"), Accumulation(1, 4, "int16"),
        Accumulation(1, 4, "fp16", rounding="nearest_down"), Accumulation(1, 4, "exact"),
        Accumulation(1, 4, "fp4_r4_even"),
    ):  # fmt: skip
        assert choose_chain(rule, ones, ones.transposed()) is None
    assert choose_chain(Accumulation(1, 4, "fp16"), ones, ones.transposed()) is not None
    assert choose_chain(Accumulation(1, 4, "fp16"), wide, wide.transposed()) is None


def test_machines_that_do_not_fuse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the instruction, or without its rounding toward zero, other kernels give the same bits."""
    rng = np.random.default_rng(2)
    for accumulator, name in (("dlfloat16", "dlfloat16"), ("fp16", "fp16"), ("fp32", "bf16")):
        a, b = (matrix(codes_below(name, rng, shape, 1), name) for shape in ((5, 60), (60, 33)))
        rule = Accumulation(1, 32, accumulator)
        wanted, kernel = multiply(rule, a, b)
        assert kernel.startswith("fma_")
        for missing in ("truncates", "fused"):
            with monkeypatch.context() as patch:
                patch.setattr(chain_product, missing, lambda: False)
                got, kernel = multiply(rule, a, b)
            np.testing.assert_array_equal(got, wanted)
            assert kernel.startswith("fma_") == ((accumulator, missing) == ("fp32", "truncates"))


def test_products_and_sums_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine that cannot fuse cuts sums of exact products: sums at every height, and below the range."""
    monkeypatch.setattr(chain_product, "fused", lambda: False)
    rng = np.random.default_rng(6)
    for rounding, top in itertools.product(("nearest_up", "toward_zero"), (-17, -15, -14, -10, -2, 2)):
        a, b = (codes_below("dlfloat16", rng, shape, top) for shape in ((9, 70), (70, 40)))
        for width in (0, 4):
            rule = oracle.Rule(1, 32, "dlfloat16", rounding=rounding)
            assert compare(rule, a, b, ("dlfloat16", "dlfloat16"), width) == "truncated"
    for rounding, top in itertools.product(("nearest_even",), (-14, -8, -7, -6, -2, 2)):
        for name in ("fp16", "dlfloat16"):
            a, b = (codes_below(name, rng, shape, top) for shape in ((9, 70), (70, 40)))
            for width in (0, 4, 8):
                rule = oracle.Rule(1, 32, name, rounding=rounding)
                assert compare(rule, a, b, (name, name), width) == "tied"
    for accumulator, name in (("bf16", "bf16"), ("dlfloat16", "bf16"), ("dlfloat16", "fp32")):
        ones = np.full((4, 4), formats.encode(name, Fraction(1)))
        assert compare(oracle.Rule(1, 4, accumulator), ones, ones, (name, name)) == ""


def test_shapes_stacks_and_threads_do_not_change_a_bit() -> None:
    """Ragged, narrow and transposed operands, several blocks of K, one thread and two."""
    rng = np.random.default_rng(3)
    for name, (m, k, n) in itertools.product(
        ("dlfloat16", "fp16"), ((37, 1100, 45), (3, 40, 70), (70, 9, 1))
    ):
        rule = Accumulation(1, 64, name)
        a, b = (matrix(codes_below(name, rng, shape, 0), name) for shape in ((m, k), (k, n)))
        check_shapes(rule, a, b)


def test_the_machine_rounds_as_before() -> None:
    """After a chain the processor rounds to nearest again, and keeps its subnormal numbers."""
    name = "dlfloat16"
    ones = matrix(np.full((3, 4), formats.encode(name, Fraction(1))), name)
    assert multiply(Accumulation(1, 4, name), ones, ones.transposed())[1] == "fma_truncated"
    tiny = np.full(3, 2.0**-140, np.float32)
    np.testing.assert_array_equal(tiny * np.float32(0.5), np.float32(2.0**-141))
    np.testing.assert_array_equal(
        np.ones(3, np.float32) + np.float32(1.5 * 2.0**-24), np.float32(1 + 2.0**-23)
    )


def test_a_configuration_is_one_integer() -> None:
    """Packing keeps every field."""
    shapes = ((8, 2, 16), (1, 8, 8), (4, 2, 8))
    for method, flush, shape in itertools.product(METHODS, (False, True), shapes):
        for apart in (False, True):
            for fading in (False, True):
                config = ChainConfig(method, flush, *shape, apart, fading)
                assert ChainConfig.unpack(config.pack()) == config
