"""Stacks of products, as attention has them: every kernel gives each product what it gives it alone."""

from __future__ import annotations

import numpy as np
import pytest
from accumulator_check import matrix
from matmul_check import number_codes
from thread_counts import with_one_and_two

from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation

CASES = {
    "i8_exact": (Accumulation(8, 64, "dlfloat16"), "int4", "int4"),
    "i16_exact": (Accumulation(8, 16, "dlfloat16"), "int4", "fp4_r4_odd"),
    "f32_sticky": (Accumulation(1, 64, "fp16"), "fp8_e4m3_ibm", "fp16"),
    "f64_exact": (Accumulation(4, 64, "dlfloat16"), "fp8_e4m3_ibm", "fp8_e4m3_ibm"),
    "f64_sticky": (Accumulation(2, 64, "fp8_e4m3fn"), "bf16", "bf16"),
    "general": (Accumulation(1, 64, "fp16", rounding="to_odd"), "int4", "int4"),
}


def stacks(name: str, shape: tuple[int, int, int], seed: int, transposed: bool) -> Matrix:
    """A stack of matrices full of corners, as it lies in memory or each transposed."""
    s, rows, columns = shape
    codes = number_codes(name, np.random.default_rng(seed), (s * rows, columns)).reshape(shape)
    whole = matrix(codes.reshape(s * rows, columns), name)
    array = whole.array.reshape(shape)
    if transposed:
        array = np.ascontiguousarray(array.swapaxes(1, 2)).swapaxes(1, 2)
    return Matrix(array, whole.format)


@pytest.mark.parametrize("shape", [(5, 9, 40, 20), (3, 7, 130, 2), (4, 1, 3, 33)])
@pytest.mark.parametrize("kernel", list(CASES))
def test_a_stack_is_its_products(kernel: str, shape: tuple[int, int, int, int]) -> None:
    """Wide, narrow and ragged products, both layouts of both operands."""
    rule, a_name, b_name = CASES[kernel]
    s, m, k, n = shape
    for a_turned, b_turned in ((False, False), (True, False), (False, True), (True, True)):
        a, b = stacks(a_name, (s, m, k), 1, a_turned), stacks(b_name, (s, k, n), 2, b_turned)
        with np.errstate(over="ignore", invalid="ignore"):
            together, name = multiply(rule, a, b)
            alone = [
                multiply(rule, Matrix(x, a.format), Matrix(y, b.format))
                for x, y in zip(a.array, b.array, strict=True)
            ]
        np.testing.assert_array_equal(together, np.stack([product for product, _ in alone]))
        assert together.shape == (s, m, n)
        assert together.dtype == rule.dtype
        assert not np.signbit(together[together == 0]).any()
        assert name.split("_")[0] == kernel.split("_")[0] or name.startswith("f64")


def test_threads_do_not_change_a_stack() -> None:
    """The same bits with one thread and with two."""
    for kernel in ("i8_exact", "f64_exact"):
        rule, a_name, b_name = CASES[kernel]
        a, b = stacks(a_name, (7, 9, 40), 1, False), stacks(b_name, (7, 40, 20), 2, False)
        one, two = with_one_and_two(lambda rule=rule, a=a, b=b: multiply(rule, a, b)[0])
        np.testing.assert_array_equal(one, two)


def test_an_empty_stack_has_no_products() -> None:
    """No matrices, or matrices without rows: an empty result of the right shape."""
    rule = Accumulation(1, 4, "fp32")
    a, b = stacks("int4", (3, 2, 4), 1, False), stacks("int4", (3, 4, 5), 2, False)
    for x, y, shape in (
        (a.array[:0], b.array[:0], (0, 2, 5)), (a.array[:, :0], b.array, (3, 0, 5)),
        (a.array[..., :0], b.array[:, :0], (3, 2, 5)),
    ):  # fmt: skip
        product, name = multiply(rule, Matrix(x, a.format), Matrix(y, b.format))
        assert (product.shape, name) == (shape, "empty")
        assert not product.any()
