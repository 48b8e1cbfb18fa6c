"""Certified chains against chains of integers: what just fits, what cancels, what only looks small."""

from __future__ import annotations

import numpy as np
import pytest
from older_processors import OLDER, check_on
from oracles import accumulate
from thread_counts import with_one_and_two

from accelsim.numerics import certified_product, instructions
from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.certified_product import choose_certified
from accelsim.numerics.formats import number_format
from accelsim.numerics.integer_product import multiply_integers
from accelsim.numerics.operand import WindowMatrix, value_table
from accelsim.numerics.window_operand import all_windows
from accelsim.numerics.window_walk import Walk

BITS = {"dlfloat16": 10, "fp16": 11}


def rounded(sums: np.ndarray, name: str) -> np.ndarray:
    """Integers to so many significant bits: ties up in magnitude, or to even."""
    sizes = np.abs(sums)
    steps = np.ones_like(sizes)
    while (sizes // steps >> BITS[name]).any():
        steps = np.where(sizes // steps >> BITS[name] > 0, steps * 2, steps)
    quotients, rests = np.divmod(sizes, steps)
    odd_or_up = quotients % 2 == 1 if name == "fp16" else np.ones_like(sizes, dtype=bool)
    quotients += (2 * rests > steps) | ((2 * rests == steps) & (steps > 1) & odd_or_up)
    return np.sign(sums) * quotients * steps


def chained(a: np.ndarray, b: np.ndarray, rule: Accumulation) -> np.ndarray:
    """The rule on integers, one addition after another."""
    name, k = rule.accumulator, a.shape[1]
    outer = None
    for first in range(0, k, rule.chunk):
        total = np.zeros((a.shape[0], b.shape[1]), np.int64)
        for at in range(first, min(first + rule.chunk, k), rule.lanes):
            end = min(at + rule.lanes, first + rule.chunk, k)
            total = rounded(total + a[:, at:end] @ b[at:end], name)
        outer = total if outer is None else rounded(outer + total, name)
    return outer


def integers(matrix: Matrix) -> np.ndarray:
    """The operand in units of its format."""
    return (value_table(matrix.format)[matrix.array] / matrix.format.unit).astype(np.int64)


def all_choices(rule: Accumulation, a: Matrix, b: Matrix) -> list[tuple[np.ndarray, int]]:
    """The product by every certified tile that is right for the operands, and the most rows that failed."""
    (m, k), n = a.shape[-2:], b.shape[-1]
    largest = a.largest() * b.largest()
    found = []
    for choice in certified_product._choices(rule, a.format, b.format, largest, m, k, n).choices:
        out = np.full((*a.shape[:-1], n), np.nan, np.float32)
        held, failed = multiply_integers(choice.grouping, choice.tile, a, b, out)
        assert held
        found.append((out, int(failed.max())))
    assert found
    return found


def patterns(k: int) -> np.ndarray:
    """Rows or columns of int4 whose sums go far and come back, touch the limit, or stay."""
    at = np.arange(k)
    lines = [
        np.full(k, -8),
        np.zeros(k),
        np.where(at % 2, 7, -8),
        np.where(at % 64 < 32, -8, 7),
        np.where(at % 64 < 16, 7, np.where(at % 64 < 48, -8, 1)),
        np.where(at % 64 < 16, -8, 0),
        np.where(at % 64 < 16, -8, at % 3 - 1),
        np.where(at % 32 == 31, 1, -8),
        np.where(at % 64 < 60, 0, 7),
        (at * 7 + at // 16) % 16 - 8,
    ]
    return np.array(lines, np.int64)


def operands(m: int, k: int, n: int, seed: int, name: str = "int4") -> tuple[Matrix, Matrix]:
    """Every pattern in rows and columns, then random ones of all widths."""
    rng = np.random.default_rng(seed)

    def lines(count: int) -> np.ndarray:
        extra = rng.integers(-8, 8, (max(count, 12), k)) >> rng.integers(0, 4, (max(count, 12), 1))
        return np.concatenate([patterns(k), extra])[:count]

    a, b = lines(m), lines(n).T
    a = np.abs(a) if name == "uint4" else a
    codes = [np.ascontiguousarray(each & 15).astype(np.uint8) for each in (a, b)]
    return Matrix(codes[0], number_format(name)), Matrix(codes[1], number_format("int4"))


@pytest.mark.parametrize(
    "rule",
    [
        Accumulation(1, 64, "dlfloat16"),
        Accumulation(1, 1 << 20, "dlfloat16"),
        Accumulation(2, 64, "dlfloat16"),
        Accumulation(8, 96, "dlfloat16"),
        Accumulation(1, 64, "fp16"),
        Accumulation(16, 64, "fp16"),
    ],
    ids=str,
)
def test_sums_that_fail_are_gone_through(rule: Accumulation) -> None:
    """Adversarial rows and columns: limits touched, prefixes that cancel, one-sided, alternating, zeros."""
    for m, k, n in ((22, 300, 37), (21, 64, 40)):
        a, b = operands(m, k, n, 1)
        wanted = chained(integers(a), integers(b), rule)
        for found, failed in all_choices(rule, a, b):
            np.testing.assert_array_equal(found, wanted)
            assert not np.signbit(found[found == 0]).any()
            assert failed > 0


def test_the_twin_is_the_oracle() -> None:
    """The chain of integers that these tests rest on says what exact fractions say."""
    for name, lanes in (("dlfloat16", 1), ("dlfloat16", 4), ("fp16", 1)):
        a, b = operands(12, 70, 12, 2)
        codes = accumulate.matmul(
            a.array.tolist(), b.array.tolist(), 12, "int4", "int4", lanes, 64, name, "format"
        )
        wanted = number_format(name).decode(np.array(codes))
        np.testing.assert_array_equal(
            chained(integers(a), integers(b), Accumulation(lanes, 64, name)), wanted
        )


def test_a_small_sum_behind_a_large_prefix_is_not_certified() -> None:
    """Sixteen products of 64 reach 1,024, which is exact; one more 1 is not; then nearly all cancels."""
    a = np.zeros((1, 64), np.int64)
    b = np.full((64, 8), 8, np.int64) * -1
    a[0, :16], a[0, 16], a[0, 17:33] = -8, 1, 7
    b[16], b[17:33] = 1, -8
    exact = 16 * 64 + 1 - 16 * 56
    rule = Accumulation(1, 64, "dlfloat16")
    left, right = (Matrix((each & 15).astype(np.uint8), number_format("int4")) for each in (a, b))
    wanted = chained(a, b, rule)
    assert (wanted == 1026 - 896).all()
    assert exact == 129
    for found, _ in all_choices(rule, left, right):
        np.testing.assert_array_equal(found, wanted)


def test_what_is_exact_is_not_gone_through() -> None:
    """Sums just below the limit pass, of whatever signs; from the limit on they are gone through."""
    fmt, rule = number_format("int4"), Accumulation(1, 64, "dlfloat16")
    for count, passes in ((15, True), (16, None), (17, False)):
        codes = np.zeros((8, 64), np.uint8)
        codes[:, 1 : 3 * count : 3] = 8
        for found, failed in all_choices(rule, Matrix(codes, fmt), Matrix(codes.T.copy(), fmt)):
            assert (found == 64 * count).all()
            assert passes is None or passes == (failed == 0)


@pytest.mark.parametrize("name", ["int4", "uint4"])
def test_layouts_stacks_and_threads_do_not_matter(name: str) -> None:
    """Both layouts of both operands, ragged shapes, stacks, one and two threads: the same bits."""
    rule = Accumulation(1, 64, "dlfloat16")
    for m, k, n in ((45, 139, 70), (19, 67, 9)):
        a, b = operands(m, k, n, 3, name)
        wanted = chained(integers(a), integers(b), rule)
        for x in (a.array, np.ascontiguousarray(a.array.T).T):
            for y in (b.array, np.ascontiguousarray(b.array.T).T):
                pair = Matrix(x, a.format), Matrix(y, b.format)
                for each in with_one_and_two(lambda pair=pair: all_choices(rule, *pair)[0][0]):
                    np.testing.assert_array_equal(each, wanted)
        stack = (
            Matrix(np.stack([a.array, a.array[::-1]]), a.format),
            Matrix(np.stack([b.array] * 2), b.format),
        )
        found = all_choices(rule, *stack)[0][0]
        np.testing.assert_array_equal(found, np.stack([wanted, wanted[::-1]]))


def test_windows_are_certified_without_their_matrix() -> None:
    """Windows of images as rows, and as columns of the transposed matrix, are what their matrix is."""
    rng, fmt = np.random.default_rng(6), number_format("int4")
    images = rng.integers(0, 16, (3, 12, 12, 8)).astype(np.uint8)
    walk = Walk((12, 12), (3, 3), (-1, -1), (1, 1), (1, 1))
    rule = Accumulation(1, 24, "dlfloat16")
    for windows in (all_windows(images, walk), all_windows(images, walk).turned()):
        a = WindowMatrix(windows, fmt)
        b = Matrix(rng.integers(0, 16, (a.shape[1], 48)).astype(np.uint8), fmt)
        assert choose_certified(rule, a, b) is not None or instructions.instruction_set() == "portable"
        whole = Matrix(np.ascontiguousarray(a.array), fmt)
        wanted = chained(integers(whole), integers(b), rule)
        for (found, _), (other, _) in zip(all_choices(rule, a, b), all_choices(rule, whole, b), strict=True):
            np.testing.assert_array_equal(found, wanted)
            np.testing.assert_array_equal(other, wanted)


def test_the_operands_choose_and_the_name_says_so() -> None:
    """Ordinary codes take the certificate; largest ones, long chunks, small and wide operands do not."""
    rng, fmt = np.random.default_rng(4), number_format("int4")
    uniform = [Matrix(rng.integers(0, 16, (128, 128)).astype(np.uint8), fmt) for _ in range(2)]
    largest = [Matrix(np.full((128, 128), 8, np.uint8), fmt)] * 2
    gradient = Matrix(uniform[1].array, number_format("fp4_r4_odd"))
    for name in BITS:
        rule = Accumulation(1, 64, name)
        found, kernel = multiply(rule, *uniform)
        assert kernel.endswith("_certified") == (instructions.instruction_set() != "portable")
        np.testing.assert_array_equal(found, chained(*map(integers, uniform), rule))
        short = [Matrix(each.array[:64, :64], fmt) for each in uniform]
        assert choose_certified(rule, *short) is None
        assert choose_certified(rule, uniform[0], gradient) is None
        assert choose_certified(Accumulation(32, 64, name), *uniform) is None
    assert choose_certified(Accumulation(1, 64, "dlfloat16"), *largest) is None
    long = [Matrix(rng.integers(0, 16, shape).astype(np.uint8), fmt) for shape in ((32, 2048), (2048, 32))]
    assert choose_certified(Accumulation(1, 4096, "dlfloat16"), *long) is None
    wide = Matrix(rng.integers(0, 256, (128, 128)).astype(np.uint8), number_format("int8"))
    assert choose_certified(Accumulation(1, 64, "fp16"), wide, wide) is None


def test_an_overflow_is_left_to_others() -> None:
    """Half's sums that leave its range are seen and computed again by a kernel that knows infinities."""
    rng, fmt = np.random.default_rng(5), number_format("int4")
    a = Matrix(rng.integers(0, 16, (40, 2048)).astype(np.uint8), fmt)
    b = Matrix(rng.integers(0, 16, (2048, 40)).astype(np.uint8), fmt)
    a.array[0], b.array[:, 0] = 8, 8
    found, kernel = multiply(Accumulation(1, 64, "fp16"), a, b)
    assert not kernel.endswith("_certified")
    assert np.isinf(found[0, 0])
    assert np.isfinite(found[1:]).all()


_NARROWER = """
import sys
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.instructions import instruction_set
import test_certified as here
here.test_sums_that_fail_are_gone_through(Accumulation(1, 64, "dlfloat16"))
print(instruction_set())
"""


@pytest.mark.parametrize(("processor", "features", "wanted"), OLDER)
def test_an_older_processor_gives_the_same_bits(processor: str, features: str, wanted: str) -> None:
    """Certified tiles for another processor, as Numba's own variables choose it, pass the same comparison."""
    check_on(processor, features, wanted, _NARROWER)
