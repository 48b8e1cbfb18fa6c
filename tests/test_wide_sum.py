"""Exact accumulators of fixed point: double precision adds them, one rounding writes them."""

from __future__ import annotations

import numpy as np
import pytest
from accumulator_check import general, matrix
from oracles import accumulators as oracle

from accelsim.datapath.wide_sum import exact_sums
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import EXACT
from accelsim.numerics.formats import number_format


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
        found = exact_sums(Accumulation(**vars(rule)), matrix(a, names[0]), matrix(b, names[1]))
        assert found is not None
        wanted = general(rule, a, b, names)
        assert (found == wanted).all()
        assert found.dtype == wanted.dtype
        assert not np.signbit(found[found == 0]).any()


def test_only_sums_that_double_precision_holds() -> None:
    """Wider products, other accumulators and numbers that are none are left to others."""
    a = matrix(codes("fixed16_4_12", (2, 8), 1), "fixed16_4_12")
    wide = matrix(codes("fp16", (2, 8), 1), "fp16")
    exact = Accumulation(1, 64, EXACT, readout="fp32")
    assert exact_sums(exact, a, a.transposed()) is not None
    assert exact_sums(Accumulation(1, 64, "fp32"), a, a.transposed()) is None
    assert exact_sums(exact, wide, wide.transposed()) is None
