"""From the accumulator to memory: the factor of two scales, one multiply, one rounding."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hand_plan import hand_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import accumulate, formats, quantise

from accelsim.datapath import gemm
from accelsim.errors import InputError
from accelsim.network import Operand
from accelsim.numerics.formats import number_format

STORAGES = ["dlfloat16", "fp16", "bf16", "fp32"]


def oracle_scale(a_scale: float, b_scale: float, storage: str) -> Fraction:
    """The product of two scales, its significand to the storage format's width, half to even."""
    product = Fraction(a_scale * b_scale)
    exponent = math.frexp(float(product))[1]
    width = formats.LADDERS[storage].fraction_bits + 1
    unit = Fraction(2) ** (exponent - width)
    return quantise.half_even(product / unit) * unit


@pytest.mark.parametrize("storage", STORAGES)
@settings(max_examples=200, deadline=None)
@given(
    a=st.floats(2.0**-40, 2.0**40, width=32),
    b=st.floats(2.0**-40, 2.0**40, width=32),
    shift=st.integers(-60, 60),
)
def test_combined_scale(storage: str, a: float, b: float, shift: int) -> None:
    """The significand is rounded once to the format's width; a power of two moves the exponent only."""
    number = number_format(storage)
    exact = oracle_scale(a, b, storage)
    got = gemm.combined_scale(a, b, number)
    assert got == exact
    assert gemm.combined_scale(b, a, number) == got
    assert gemm.combined_scale(math.ldexp(a, shift), b, number) == math.ldexp(got, shift)


@pytest.mark.parametrize("storage", STORAGES)
def test_combined_scale_of_ties(storage: str) -> None:
    """Halfway between two significands the even one is taken; what rounds up to 2 moves the exponent."""
    number = number_format(storage)
    width = formats.LADDERS[storage].fraction_bits
    half = 2.0 ** -(width + 1)
    assert gemm.combined_scale(1 + half, 1.0, number) == 1.0
    assert gemm.combined_scale(1 + 3 * half, 1.0, number) == 1 + 4 * half
    assert gemm.combined_scale(2 - half, 1.0, number) == 2.0
    assert gemm.combined_scale(1.0, 1.0, number) == 1.0


def wanted_product(
    a: Operand, b: Operand, lanes: int, rows: int, accumulator: str, storage: str
) -> list[list[float]]:
    """The oracle's sums, times the combined scale exactly, rounded once to the storage format."""
    names = a.format, b.format
    codes = accumulate.matmul(
        a.array.tolist(), b.array.tolist(), b.array.shape[1], *names, lanes, rows * lanes, accumulator
    )
    scale = oracle_scale(a.scale, b.scale, storage)
    sums = [[formats.decode(accumulator, code) for code in row] for row in codes]
    assert all(formats.is_finite(value) for row in sums for value in row)
    return [
        [formats.as_float(formats.decode(storage, formats.encode(storage, value * scale))) for value in row]
        for row in sums
    ]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("accumulator", ["dlfloat16", "fp16", "bf16", "fp32"])
@pytest.mark.parametrize(
    ("a_scale", "b_scale"), [(1.0, 1.0), (0.0107, 2.0**-12), (0.0107, 0.533), (2.0**-7, 2.0**3)]
)
def test_scaled_product(accumulator: str, storage: str, a_scale: float, b_scale: float) -> None:
    """Sums in the accumulator, one multiply by the scales, one rounding: also where float32 is too narrow."""
    rng = np.random.default_rng(1)
    a = Operand(rng.integers(0, 16, (9, 37), dtype=np.uint8), "int4", a_scale)
    b = Operand(rng.integers(0, 16, (37, 8), dtype=np.uint8), "fp4_r4_odd", b_scale)
    plan = hand_plan(m=9, k=37, n=8, lanes=4, rows=2, accumulator=accumulator)
    result, kernel = gemm.scaled_product(plan, a, b, storage)
    assert result.dtype == np.float32
    assert result.tolist() == wanted_product(a, b, 4, 2, accumulator, storage)
    assert kernel


def test_scale_is_rounded_before_it_is_used() -> None:
    """The factor has the storage format's ten bits: two scales whose product needs more are cut first."""
    one = Operand(np.array([[1]], np.uint8), "int4", 1 + 2.0**-9)
    other = Operand(np.array([[1]], np.uint8), "int4", 1 + 2.0**-9)
    plan = hand_plan(accumulator="dlfloat16")
    assert (1 + 2.0**-9) ** 2 != 1 + 2.0**-8
    result = gemm.scaled_product(plan, one, other, "dlfloat16")[0]
    assert result.tolist() == [[1 + 2.0**-8]]


def test_operands_that_do_not_fit_the_plan() -> None:
    """A plan made for another shape is refused in one line that gives both."""
    matrices = [gemm.matrix_of_codes(np.zeros((2, 3), np.uint8), number_format("int4"))]
    matrices.append(gemm.matrix_of_codes(np.zeros((3, 4), np.uint8), number_format("int4")))
    text = r"^operands \(2, 3\) x \(3, 4\) do not fit the plan \(2, 3\) x \(3, 5\)$"
    with pytest.raises(InputError, match=text):
        gemm.accumulate(hand_plan(m=2, k=3, n=5), *matrices)
    with pytest.raises(InputError, match=r"^operands \(3, 4\) x \(2, 3\) do not fit the plan \(3, 4\) x \("):
        gemm.accumulate(hand_plan(m=3, k=4, n=3), *reversed(matrices))


def test_codes_need_two_axes() -> None:
    """A vector is no matrix, and the message says what it is."""
    with pytest.raises(InputError, match=r"^codes must have 2 axes, got shape \(3,\)$"):
        gemm.matrix_of_codes(np.zeros(3, np.uint8), number_format("int4"))
