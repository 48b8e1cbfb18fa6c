"""Exact accumulators of fixed point: double precision adds them, one rounding writes them."""

from __future__ import annotations

import numpy as np
import pytest
from accumulator_check import general, matrix
from hand_plan import hand_plan
from oracles import accumulators as oracle

from accelsim.datapath.gemm import accumulate
from accelsim.datapath.wide_sum import exact_sums
from accelsim.numerics.accumulate import Matrix
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import EXACT
from accelsim.numerics.formats import number_format
from accelsim.numerics.random_bits import random_words


def codes(name: str, shape: tuple[int, int], seed: int) -> np.ndarray:
    """Codes of any value, the extremes among them."""
    top = 1 << number_format(name).bits
    found = np.random.default_rng(seed).integers(0, top, shape)
    found.flat[:2] = top // 2, top // 2 - 1
    return found


@pytest.mark.parametrize("rounding", ["stochastic", "nearest_even", "toward_zero", "format"])
@pytest.mark.parametrize("readout", ["fixed16_4_12", "int8", "fp16"])
@pytest.mark.parametrize("names", [("fixed16_4_12", "fixed16_4_12"), ("fixed16_2_14", "fixed16_6_10")])
def test_the_bits_are_those_of_the_general_kernel(
    names: tuple[str, str], readout: str, rounding: str
) -> None:
    """Word for word the same random bits, saturation and rounding, for every shape."""
    for seed, (m, k, n) in enumerate([(3, 40, 5), (1, 1, 1), (7, 300, 2)]):
        rule = oracle.Rule(4, 64, EXACT, rounding=rounding, readout=readout, seed=2**63 + seed)
        a, b = codes(names[0], (m, k), seed), codes(names[1], (k, n), seed + 9)
        a[0] >>= 6  # small sums, that no row is saturated throughout
        found = exact_sums(Accumulation(**vars(rule)), matrix(a, names[0]), matrix(b, names[1]), [rule.seed])
        assert found is not None
        wanted = general(rule, a, b, names)
        assert (found == wanted).all()
        assert found.dtype == wanted.dtype
        assert not np.signbit(found[found == 0]).any()


@pytest.mark.parametrize(
    ("readout", "fmt", "kernel"),
    [("fixed16_4_12", "fixed16_6_10", "wide"), ("fp16", "fixed16_6_10", "wide"), ("fp16", "fp16", "general")],
)
def test_each_product_of_a_stack_draws_its_own_bits(readout: str, fmt: str, kernel: str) -> None:
    """A stack of products with a seed each is its products, also where float64 does not hold them."""
    plan = hand_plan(
        m=3, k=40, n=5, lanes=4, rows=2, accumulator=EXACT, rounding="stochastic", readout=readout
    )
    a, b = matrix(codes(fmt, (6, 40), 3), fmt), matrix(codes(fmt, (80, 5), 4), fmt)
    if fmt == "fp16":
        a, b = (Matrix(np.nan_to_num(one.array, posinf=1.0, neginf=1.0), one.format) for one in (a, b))
    stacks = Matrix(a.array.reshape(2, 3, 40), a.format), Matrix(b.array.reshape(2, 40, 5), b.format)
    seeds = random_words(7, 2)
    together, name = accumulate(plan, *stacks, seeds)
    assert name == kernel
    for i in range(2):
        left, right = (Matrix(one.array[i], one.format) for one in stacks)
        assert (together[i] == accumulate(plan, left, right, int(seeds[i]))[0]).all()
    assert (together[0] != together[1]).any()


def test_only_sums_that_double_precision_holds() -> None:
    """Wider products, other accumulators and numbers that are none are left to others."""
    a = matrix(codes("fixed16_4_12", (2, 8), 1), "fixed16_4_12")
    wide = matrix(codes("fp16", (2, 8), 1), "fp16")
    exact = Accumulation(1, 64, EXACT, readout="fp32")
    assert exact_sums(exact, a, a.transposed(), [0]) is not None
    assert exact_sums(Accumulation(1, 64, "fp32"), a, a.transposed(), [0]) is None
    assert exact_sums(exact, wide, wide.transposed(), [0]) is None
