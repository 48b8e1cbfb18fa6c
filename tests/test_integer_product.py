"""Products by integer tiles against plain Python integers, and what decides which instructions they use."""

from __future__ import annotations

import numpy as np
import pytest
from older_processors import OLDER, check_on
from oracles import accumulate

from accelsim.numerics import instructions
from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.compiled import set_threads
from accelsim.numerics.formats import number_format

SHAPES = [(5, 70, 33), (37, 1100, 40)]
"""Rows, k and columns beyond tiles, groups and a block of words, none a multiple of them."""


def product(
    codes: tuple[np.ndarray, np.ndarray], formats: tuple[str, str], rule: Accumulation
) -> tuple[np.ndarray, str]:
    a, b = (Matrix(array, number_format(name)) for array, name in zip(codes, formats, strict=True))
    return multiply(rule, a, b)


def transposed(codes: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(codes.swapaxes(-1, -2)).swapaxes(-1, -2)


@pytest.mark.parametrize("chunk", [64, 1 << 20])
@pytest.mark.parametrize("gradient", ["int4", "fp4_r4_odd"])
def test_a_product_is_the_oracles_whatever_its_shape_layout_and_threads(gradient: str, chunk: int) -> None:
    """Ragged shapes, four layouts, one and two threads: bytes and 16-bit words add as Python integers do."""
    rng = np.random.default_rng(4)
    rule, formats = Accumulation(16, chunk, "dlfloat16"), ("int4", gradient)
    for m, k, n in SHAPES:
        a, b = (rng.integers(0, 16, shape).astype(np.uint8) for shape in ((m, k), (k, n)))
        rows = [0, m - 1]
        codes = accumulate.matmul(
            a[rows].tolist(), b.tolist(), n, *formats, 16, min(chunk, -(-k // 16) * 16), "dlfloat16", "format"
        )
        wanted = number_format("dlfloat16").decode(np.array(codes))
        results = []
        for threads in (1, 2):
            set_threads(threads)
            for pair in ((a, b), (transposed(a), b), (a, transposed(b)), (transposed(a), transposed(b))):
                found, kernel = product(pair, formats, rule)
                results.append(found.view(np.int32))
                assert kernel[:2] in ("i8", "i1", "f3")
                np.testing.assert_array_equal(found[rows], wanted)
        assert all(np.array_equal(results[0], other) for other in results)
    set_threads(None)


def test_a_stack_is_its_products_beside_each_other() -> None:
    """Each matrix of a stack is packed and multiplied as if it were alone."""
    rng = np.random.default_rng(5)
    rule, formats = Accumulation(16, 1 << 20, "dlfloat16"), ("int4", "fp4_r4_odd")
    a, b = (rng.integers(0, 16, shape).astype(np.uint8) for shape in ((3, 9, 300), (3, 300, 35)))
    stacked, _ = product((a, transposed(b)), formats, rule)
    for i in range(3):
        np.testing.assert_array_equal(stacked[i], product((a[i], b[i]), formats, rule)[0])


@pytest.mark.parametrize(
    ("features", "machine", "wanted"),
    [
        ({"avx512bw": True, "avx512vnni": True}, "x86_64", "vnni"),
        ({"avx512bw": True, "avx2": True}, "x86_64", "avx512"),
        ({"avx2": True}, "AMD64", "avx2"),
        ({}, "x86_64", "sse2"),
        ({"neon": True}, "aarch64", "portable"),
    ],
)
def test_instructions_are_the_best_that_the_processor_has(
    features: dict[str, bool], machine: str, wanted: str
) -> None:
    """From the widest to none; any x86 of 64 bits has the first of them."""
    assert instructions._best_of(features, machine) == wanted


_NARROWER = """
import sys
from accelsim.numerics.instructions import instruction_set
import test_integer_product as here
here.SHAPES = [(5, 70, 18)]
here.test_a_product_is_the_oracles_whatever_its_shape_layout_and_threads("int4", 1 << 20)
print(instruction_set())
"""


@pytest.mark.parametrize(("processor", "features", "wanted"), OLDER)
def test_an_older_processor_gives_the_same_bits(processor: str, features: str, wanted: str) -> None:
    """Kernels for another processor, as Numba's own variables choose it, pass the same comparison."""
    check_on(processor, features, wanted, _NARROWER)
