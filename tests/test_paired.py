"""Half sums by a total and its multiple: ties that one rounding hides from the next, and subnormal sums."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from accumulator_check import general, matrix
from older_processors import OLDER, check_on
from oracles import accumulators as oracle

from accelsim.numerics import chain_product
from accelsim.numerics.accumulate import multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.chain_product import choose_chain, multiply_chained
from accelsim.numerics.chain_tile import ChainConfig
from accelsim.numerics.formats import number_format

HALF = number_format("fp16")

fuses = pytest.mark.skipif(
    not (chain_product.fused() and chain_product.truncates()), reason="this machine cannot fuse, or truncate"
)


def half_codes(values: np.ndarray) -> np.ndarray:
    """Codes of values that halves hold."""
    codes = HALF.encode(values)
    np.testing.assert_array_equal(HALF.decode(codes), values)
    return codes


def check_half(a: np.ndarray, b: np.ndarray, chunk: int) -> str:
    """The kernel's sums are those of the general one; its name."""
    rule = oracle.Rule(1, chunk, "fp16")
    left, right = half_codes(a), half_codes(b)
    got, kernel = multiply(Accumulation(**vars(rule)), matrix(left, "fp16"), matrix(right, "fp16"))
    np.testing.assert_array_equal(got, general(rule, left, right, ("fp16", "fp16")))
    assert not np.signbit(got[got == 0]).any()
    return kernel


def near_ties() -> tuple[np.ndarray, np.ndarray]:
    """Rows (sum so far, factor) and columns (1, factor): the product is half a last place, or nearly."""
    wholes = np.array([1024, 1025, 1026, 1027, 1535, 1536, 2045, 2046, 2047], np.float64)
    powers = 2.0 ** np.arange(1, 11)
    near = np.unique(np.concatenate([powers - 1, powers, powers + 1]))
    near = np.concatenate([near, [1449.0, 1447.0, 2017.0, 1025.0, 2047.0]])
    rows = np.array([
        (sign * whole * 2.0**-place, factor * 2.0**-10)
        for whole, factor, place, sign in itertools.product(wholes, near, (10, 11), (1, -1))
    ])  # fmt: skip
    columns = np.array(
        [(1.0, factor * 2.0**-shift) for factor, shift in itertools.product(near, (14, 17, 19, 20))]
    )
    return rows, np.ascontiguousarray(columns.T)


@fuses
def test_sums_that_are_nearly_ties() -> None:
    """Products a little more or less than half a last place: two roundings go wrong, these sums do not."""
    a, b = near_ties()
    assert check_half(a, b, 64) == "fma_paired"
    exact = a[:, :1] * b[:1] + a[:, 1:] * b[1:]
    twice = exact.astype(np.float32).astype(np.float16)
    assert np.count_nonzero(twice != exact.astype(np.float16)) > 20


@fuses
@pytest.mark.parametrize("chunk", [33, 34, 35, 67, 100])
def test_one_subnormal_sum(chunk: int) -> None:
    """A sum falls below the normal numbers at any one step, before and after every look for that."""
    k = 100
    rng = np.random.default_rng(chunk)
    a = rng.integers(1, 2048, (k, k)) * 2.0**-8
    for step in range(1, k):  # sums of this row: ... , a small one at the step, ...
        a[step] = 0.0
        a[step, 0] = 3.0
        a[step, step] = -3.0 + 2.0**-8
        a[step, step + 1 :: 3] = 2.0**-20 * rng.integers(1, 2048, len(a[step, step + 1 :: 3]))
    b = np.ones((k, 40))
    b[:, 1::2] = 2.0**-9
    b[:, 2::4] = 2.0**-15 * 1.5
    assert check_half(a, b, chunk) == "fma_paired"


@fuses
def test_what_is_left_of_subnormal_operands() -> None:
    """Products far below the smallest half, alone and beside large ones; negative zeros."""
    rng = np.random.default_rng(8)
    pool = np.array([0.0, 2.0**-24, 3 * 2.0**-24, 1023 * 2.0**-24, 2.0**-14, 2.0**-7, 1.0, 2047 / 64])
    a, b = (rng.choice(pool, shape) * rng.choice([-1, 1], shape) for shape in ((30, 80), (80, 40)))
    for rows in (1, 2, 3, 5, 30):
        assert check_half(a[:rows], b, 16) == "fma_paired"
    assert check_half(a, b[:, :3], 40) == "fma_paired"


@fuses
def test_what_the_processor_remembers_does_not_matter() -> None:
    """A subnormal number met before a product, or in another of its tiles, changes nothing."""
    rng = np.random.default_rng(9)
    a, b = (rng.integers(-64, 65, shape) / 32 + 1 / 4096 for shape in ((40, 70), (70, 33)))
    a, b = (values.astype(np.float16).astype(np.float64) for values in (a, b))
    a[17, :3] = 2.0**-24
    tiny = np.full(4, 2.0**-140, np.float32)
    assert np.all(tiny * np.float32(0.5) > 0)
    assert check_half(a, b, 64) == "fma_paired"


@fuses
def test_other_widths_and_wider_operands() -> None:
    """Narrow vectors give the same bits; an operand of more bits than the sum is not multiplied by K."""
    a, b = near_ties()
    left, right = matrix(half_codes(a), "fp16"), matrix(half_codes(b), "fp16")
    rule = Accumulation(1, 64, "fp16")
    choice = choose_chain(rule, left, right)
    assert choice is not None
    wanted = multiply_chained(rule, *choice, left, right)
    narrow = multiply_chained(rule, ChainConfig("paired", False, 4, 2, 8), choice[1], left, right)
    np.testing.assert_array_equal(narrow, wanted)
    ones = matrix(half_codes(np.ones((4, 4))), "fp16")
    assert multiply(Accumulation(1, 4, "bf16"), ones, ones.transposed())[1] == "fma_tied"


_NARROWER = """
import itertools
import numpy as np
from accelsim.numerics.instructions import instruction_set
from test_paired import check_half, near_ties
kernel = {"sse2": "add_tied", "avx2": "fma_paired"}[instruction_set()]
assert check_half(*near_ties(), 64) == kernel
rng = np.random.default_rng(4)
for top, chunk in itertools.product((-14, -7, 0), (7, 64)):
    a, b = (rng.integers(-2047, 2048, shape) * 2.0**(top - 10) for shape in ((9, 70), (70, 35)))
    assert check_half(a, b, chunk) == kernel
print(instruction_set())
"""


@pytest.mark.parametrize(("processor", "features", "wanted"), OLDER)
def test_older_processors(processor: str, features: str, wanted: str) -> None:
    """Compiled for one without AVX2, and for one without AVX-512: the same sums."""
    check_on(processor, features, wanted, _NARROWER)
