"""Array-speed conversions against the format table, the oracle and plain loops, bit for bit."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import formats, quantise
from thread_counts import with_one_and_two

from accelsim.numerics import quantise as fast
from accelsim.numerics.formats import number_format
from accelsim.numerics.quantise import SUM_BLOCK

SIXTEEN_BIT = ["dlfloat16", "fp16", "bf16"]
LARGEST_SINGLE = float(np.finfo(np.float32).max)


def neighbourhood(values: np.ndarray) -> np.ndarray:
    """The values, the float32 numbers next to them on both sides, and all of their negatives."""
    near = [values, np.nextafter(values, np.float32(0)), np.nextafter(values, np.float32(math.inf))]
    return np.concatenate([*near, *(-one for one in near)])


def midpoints(name: str) -> np.ndarray:
    """Halfway between neighbouring magnitudes of a format: all near both ends, some in between."""
    top = formats.LADDERS[name].top
    chosen = np.random.default_rng(1).integers(0, top, 300)
    codes = sorted({*range(20), *range(top - 20, top + 1), *chosen.tolist()})
    halves = [(formats.rung(name, code) + formats.rung(name, code + 1)) / 2 for code in codes]
    exact = [float(half) for half in halves if half <= LARGEST_SINGLE]
    assert [Fraction(float(np.float32(half))) for half in exact] == [Fraction(half) for half in exact]
    return np.array(exact, np.float32)


def bits_of(values: np.ndarray) -> np.ndarray:
    """The bit patterns of float32 values."""
    return np.ascontiguousarray(values, np.float32).view(np.uint32)


@pytest.mark.parametrize("name", SIXTEEN_BIT)
def test_ties_and_their_neighbours_round_as_the_oracle_says(name: str) -> None:
    """Every kind of tie, one float32 step on either side of it, and both ends of the range."""
    values = neighbourhood(midpoints(name))
    wanted = [formats.decode(name, formats.encode(name, float(value))) for value in values]
    got = fast.round_to(values.copy(), name).tolist()
    for value, result, exact in zip(values.tolist(), got, wanted, strict=True):
        assert result == exact or (result != result and exact != exact), f"{value!r} became {result!r}"


@pytest.mark.parametrize("name", SIXTEEN_BIT)
def test_all_upper_halves_round_as_the_format_table_says(name: str) -> None:
    """All 65536 upper halves of a float32 with low halves around the places where formats cut."""
    low = np.array([0, 1, 0xFFF, 0x1000, 0x1001, 0x1FFF, 0x2000, 0x2001, 0x7FFF, 0x8000, 0x8001, 0xFFFF])
    words = (np.arange(65536)[:, None] << 16 | low).astype(np.uint32).reshape(-1)
    values = words.view(np.float32)
    with np.errstate(invalid="ignore"):
        wanted = number_format(name).round(values.astype(np.float64)).astype(np.float32)
    np.testing.assert_array_equal(bits_of(fast.round_to(values.copy(), name)), bits_of(wanted))


@pytest.mark.parametrize("name", SIXTEEN_BIT)
@settings(max_examples=30, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_any_bits_round_as_the_format_table_says(name: str, seed: int) -> None:
    """Random bit patterns, NaNs of any sign and payload among them; a NaN has one bit pattern afterwards."""
    values = np.random.default_rng(seed).integers(0, 2**32, 2000, dtype=np.uint32).view(np.float32)
    with np.errstate(invalid="ignore"):
        wanted = number_format(name).round(values.astype(np.float64)).astype(np.float32)
    got = fast.round_to(values.copy(), name)
    np.testing.assert_array_equal(bits_of(got), bits_of(wanted))
    assert set(bits_of(got[np.isnan(values)])) <= {0x7FC00000}


@pytest.mark.parametrize("name", SIXTEEN_BIT)
def test_rounding_is_idempotent(name: str) -> None:
    """Every value of the format is left alone."""
    layout = formats.LADDERS[name]
    codes = [code for code in range(1 << 16) if code % layout.sign_bit <= layout.top]
    values = number_format(name).decode(np.array(codes)).astype(np.float32)
    np.testing.assert_array_equal(bits_of(fast.round_to(values.copy(), name)), bits_of(values))


@pytest.mark.parametrize("name", [*SIXTEEN_BIT, "fp32"])
def test_rounding_is_in_place_whatever_the_layout(name: str) -> None:
    """The array itself is rounded and returned: contiguous, transposed, strided or empty."""
    plain = np.random.default_rng(2).normal(0, 1, (6, 8)).astype(np.float32)
    wanted = fast.round_to(plain.copy(), name)
    for values in (plain.copy(), plain.T.copy().T, np.repeat(plain, 2, axis=1)[:, ::2], plain[:0].copy()):
        assert fast.round_to(values, name) is values
        np.testing.assert_array_equal(values, wanted[: len(values)])


def test_single_precision_is_left_alone() -> None:
    """fp32 values keep all of their bits."""
    values = np.random.default_rng(3).normal(0, 1, 50).astype(np.float32)
    np.testing.assert_array_equal(fast.round_to(values.copy(), "fp32"), values)


def test_threads_do_not_change_a_conversion() -> None:
    """Rounding, codes and moments have the same bits with one thread and with two."""
    values = np.random.default_rng(4).normal(0, 9, 70_001).astype(np.float32)

    def everything() -> list[object]:
        return [
            [fast.round_to(values.copy(), name).tobytes() for name in SIXTEEN_BIT],
            fast.radix4_codes(values, 3, odd=True).tobytes(),
            fast.integer_codes(values, number_format("int4"), 0.75, -7).tobytes(),
            fast.magnitude_moments(values),
        ]

    one, two = with_one_and_two(everything)
    assert one == two


@pytest.mark.parametrize("ties", ["up", "down"])
@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("exponent", [-126, -57, -1, 0, 1, 38, 100])
def test_radix4_thresholds(exponent: int, odd: bool, ties: str) -> None:
    """Every threshold 0.625 * 4**n, every grid value, and one float32 step on both sides of each."""
    thresholds = [0.625 * 4.0**n / (1 + odd) for n in range(-5, 5)]
    grid = [4.0**n / (1 + odd) for n in range(-4, 5)]
    unscaled = neighbourhood(np.array(thresholds + grid, np.float32)).astype(np.float64)
    exact = np.ldexp(unscaled, -exponent)
    values = exact[np.abs(exact) <= LARGEST_SINGLE].astype(np.float32)
    scaled = [Fraction(float(value)) * Fraction(2) ** exponent for value in values]
    got = fast.radix4_codes(values, exponent, odd=odd, ties_up=ties == "up").tolist()
    assert got == [quantise.radix4_code(value, odd, ties) for value in scaled]


@pytest.mark.parametrize("odd", [False, True])
@pytest.mark.parametrize("exponent", [-250, -149, -127, 127, 128, 140, 155, 250])
def test_radix4_scales_beyond_single_precision(exponent: int, odd: bool) -> None:
    """Scales that are no float32 serve subnormal and huge gradients, without a warning."""
    rng = np.random.default_rng(5)
    sizes = np.ldexp(rng.uniform(0.5, 1, 400), rng.integers(-149, 129, 400)).astype(np.float32)
    # and magnitudes that land around the grid at this scale, where there are any
    near = np.ldexp(rng.uniform(0.001, 90, 400), -exponent)
    near = near[near < LARGEST_SINGLE].astype(np.float32)
    values = np.concatenate([sizes, near, np.float32([0, 1e-45, LARGEST_SINGLE])])
    values = np.concatenate([values, -values])
    scaled = [Fraction(float(value)) * Fraction(2) ** exponent for value in values]
    wanted = [quantise.radix4_code(value, odd) for value in scaled]
    sign_of_zero = [8 if math.copysign(1, value) < 0 else 0 for value in values.tolist()]
    wanted = [code | sign for code, sign in zip(wanted, sign_of_zero, strict=True)]
    assert fast.radix4_codes(values, exponent, odd=odd).tolist() == wanted


def test_radix4_of_infinity_and_of_signed_zero() -> None:
    """An infinity saturates at the largest code; a negative zero keeps its sign bit."""
    values = np.float32([math.inf, -math.inf, 0.0, -0.0])
    assert fast.radix4_codes(values, 0, odd=False).tolist() == [7, 15, 0, 8]
    assert fast.radix4_codes(values, -250, odd=True).tolist() == [7, 15, 0, 8]


def test_the_odd_grid_is_the_even_grid_at_half_the_value() -> None:
    """Q_odd(x) = Q_even(2 x) / 2, on codes: the same codes for x and 2 x."""
    values = np.random.default_rng(6).lognormal(0, 3, 3000).astype(np.float32)
    odd = fast.radix4_codes(values, 0, odd=True)
    np.testing.assert_array_equal(odd, fast.radix4_codes(2 * values, 0, odd=False))


def test_radix4_is_symmetric_and_monotone() -> None:
    """A negated value has the same code with the sign bit; a larger magnitude never a smaller code."""
    values = np.sort(np.random.default_rng(7).lognormal(0, 3, 3000).astype(np.float32))
    codes = fast.radix4_codes(values, 1, odd=False)
    np.testing.assert_array_equal(fast.radix4_codes(-values, 1, odd=False), codes | 8)
    assert (np.diff(codes.astype(int)) >= 0).all()
    assert set(codes.tolist()) == set(range(8))


@pytest.mark.parametrize("step", [1.0, 0.375, 2.0**-20, 341.0])
@pytest.mark.parametrize(
    ("name", "low"), [("int4", -7), ("int4", -8), ("uint4", 0), ("int2", -1), ("int8", -127), ("uint8", 0)]
)
def test_integer_codes(name: str, low: int, step: float) -> None:
    """Half steps and their neighbours: the float32 quotient to the nearest integer, half to even, clipped."""
    number = number_format(name)
    high = int(number.max_value)
    halves = (np.arange(0, 4 * high + 5) / 2 * step).astype(np.float32)
    values = neighbourhood(halves)
    wanted = []
    for value in values:
        quotient = Fraction(float(value / np.float32(step)))
        wanted.append(min(max(quantise.half_even(quotient), low), high) % (1 << number.bits))
    assert fast.integer_codes(values, number, step, low).tolist() == wanted


def test_integer_codes_of_what_is_no_number() -> None:
    """NaN is code 0, infinities are clipped; a step of zero does not stop the program."""
    values = np.float32([math.nan, -math.nan, math.inf, -math.inf, 0.0, 5.0])
    codes = fast.integer_codes(values, number_format("int4"), 0.5, -7)
    assert codes.tolist() == [0, 0, 7, 9, 0, 7]
    codes = fast.integer_codes(values, number_format("uint4"), 0.0, 0)
    assert codes.tolist() == [0, 0, 15, 0, 0, 15]


def test_codes_keep_the_shape() -> None:
    """Codes are uint8 in the shape of the values, empty ones too."""
    for shape in ((2, 3, 5), (0, 4), ()):
        values = np.ones(shape, np.float32)
        for codes in (
            fast.radix4_codes(values, 0, odd=False),
            fast.integer_codes(values, number_format("int4"), 1.0, -7),
        ):
            assert (codes.shape, codes.dtype) == (shape, np.dtype(np.uint8))


@pytest.mark.parametrize(
    ("values", "wanted"),
    [
        ([], 0.0),
        ([-0.0], 0.0),
        ([1.0, -3.0, 2.0], 3.0),
        ([1e-45, -0.0], float(np.float32(1e-45))),
        ([1.0, -math.inf], math.inf),
        ([-LARGEST_SINGLE, 1.0], LARGEST_SINGLE),
    ],
)
def test_largest_magnitude(values: list[float], wanted: float) -> None:
    """The largest |x|: none, zeros, negatives, subnormals, infinities."""
    assert fast.largest_magnitude(np.array(values, np.float32)) == wanted


def test_largest_magnitude_of_nan() -> None:
    """One NaN of either sign anywhere makes the result NaN, even beside an infinity."""
    for place in (0, 1, 2):
        for nan in (math.nan, -math.nan):
            values = np.float32([1.0, math.inf, -2.0])
            values[place] = nan
            assert math.isnan(fast.largest_magnitude(values))


def moments_one_by_one(values: np.ndarray) -> tuple[float, float]:
    """Blocks of `SUM_BLOCK`, each summed in order in float32, then the blocks in order."""
    total, squares = np.float32(0), np.float32(0)
    for start in range(0, values.size, SUM_BLOCK):
        first, second = np.float32(0), np.float32(0)
        for value in values.reshape(-1)[start : start + SUM_BLOCK]:
            first = first + abs(value)
            second = second + value * value
        total, squares = total + first, squares + second
    return float(total), float(squares)


@pytest.mark.parametrize("size", [0, 1, 255, 256, 257, 512, 2999])
def test_magnitude_moments_are_added_in_the_documented_order(size: int) -> None:
    """Bits, not a tolerance: the order of float32 additions is part of the contract."""
    values = np.random.default_rng(size).lognormal(0, 2, size).astype(np.float32)
    values *= np.random.default_rng(1).choice(np.float32([-1, 1]), size)
    assert fast.magnitude_moments(values) == moments_one_by_one(values)
    assert fast.magnitude_moments(values.reshape(1, size, 1)) == moments_one_by_one(values)


@pytest.mark.parametrize("shape", [(0,), (1,), (2,), (7,), (3, 5), (2, 2, 2)])
def test_packed_codes_come_back(shape: tuple[int, ...]) -> None:
    """Two codes to the byte, the first in the low half, an odd last one padded with 0."""
    codes = np.random.default_rng(8).integers(0, 16, shape, dtype=np.uint8)
    packed = fast.pack_codes(codes)
    flat = [*codes.reshape(-1).tolist(), 0]
    assert packed.tolist() == [flat[i] + 16 * flat[i + 1] for i in range(0, codes.size, 2)]
    np.testing.assert_array_equal(fast.unpack_codes(packed, codes.size), codes.reshape(-1))
