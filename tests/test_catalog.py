"""Every format in every rounding and overflow against its slow twin on exact numbers."""

from __future__ import annotations

import math
from fractions import Fraction
from functools import cache
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import catalog, formats

from accelsim.errors import InputError
from accelsim.numerics.conversion import encode_array
from accelsim.numerics.formats import (
    OVERFLOWS,
    ROUNDINGS,
    NumberFormat,
    format_families,
    format_names,
    number_format,
)
from accelsim.numerics.random_bits import random_words, stream_key

INTEGERS = [f"{kind}int{bits}" for kind in ("", "u") for bits in range(2, 9)] + [
    f"int{bits}s" for bits in range(2, 9)
]
FAMILY = [
    *(name for name in INTEGERS if name not in formats.INTEGERS),
    "fixed16_2_14", "fixed16_16_0", "fixed16_0_16", "fixed16_8_8",
    *(f"fp{bits}_r{radix}" for bits, radix in product((2, 3, 4, 5, 6, 8), (2, 4, 8, 16))),
    "fp9_r16", "fp10_r8", "fp4_r4_even", "fp6_r4_odd", "fp5_r4_even",
    *(f"log{bits}{base}" for bits in (3, 5, 8) for base in ("", "_sqrt2")),
]  # fmt: skip
NAMES = [*format_names(), *(name for name in FAMILY if name not in format_names())]
NARROW = [name for name in NAMES if catalog.twin(name).bits <= 16]
WHOLE = [name for name in NAMES if catalog.twin(name).whole]
LADDERS = [name for name in NAMES if not catalog.twin(name).whole]


def as_floats(numbers: list[Fraction]) -> np.ndarray:
    """Exact float64 array of fractions."""
    return np.array([formats.as_float(number) for number in numbers])


def around(values: np.ndarray) -> np.ndarray:
    """The values and the float64 on either side of each."""
    return np.concatenate([values, np.nextafter(values, math.inf), np.nextafter(values, -math.inf)])


@cache
def rungs_and_middles(name: str) -> np.ndarray:
    """All numbers of a format up to one rung past the top, and all thresholds of rounding to nearest.

    Of tf32 and fp32 the ends and a thin sample; of logarithms the float64 nearest to the irrational middle.
    """
    twin = catalog.twin(name)
    if twin.bits > 16:
        first = 1 << formats.LADDERS[name].fraction_bits
        edges = {*range(4), *range(first - 3, first + 4), *range(twin.top - 2, twin.top + 1)}
        codes = sorted(edges | {*range(1, twin.top, 2 * first + 43)})
    else:
        codes = list(range(twin.top + 1))
    numbers = [twin.place(code) * twin.unit for code in codes if code or not twin.logarithm]
    nexts = [twin.place(code + 1) * twin.unit for code in codes if code or not twin.logarithm]
    if twin.logarithm:
        middles = np.sqrt(as_floats(numbers)) * np.sqrt(as_floats(nexts))
    else:
        middles = as_floats([(low + high) / 2 for low, high in zip(numbers, nexts, strict=True)])
    return np.concatenate([as_floats(numbers), as_floats(nexts[-1:]), middles])


def allowed_overflows(name: str) -> tuple[str, ...]:
    """What a format can do above its range, from its definition."""
    twin = catalog.twin(name)
    if twin.whole:
        symmetric = twin.signed and twin.lowest == -twin.top
        return ("saturate",) if symmetric else ("saturate", "wrap")
    return {"nothing": ("saturate",), "nan": ("saturate", "nan")}.get(
        twin.beyond, ("saturate", "infinity", "nan")
    )


def assert_encodes(name: str, values: np.ndarray, rounding: str = "", overflow: str = "") -> None:
    """The library's codes are the twin's; names the first number that differs."""
    got = number_format(name).encode(values, rounding or None, overflow or None).astype(np.int64)
    wanted = [catalog.encode(name, value, rounding, overflow) for value in values.tolist()]
    for index in np.flatnonzero(got != np.array(wanted))[:1]:
        value = float(values[index])
        how = f"{name} {rounding} {overflow}"
        pytest.fail(f"{how}: {value!r} = {value.hex()} is {got[index]:#x}, not {wanted[index]:#x}")


def test_names_of_families() -> None:
    """Every name here is a format of that name, and the families' syntaxes are told apart."""
    assert [number_format(name).name for name in NAMES] == NAMES
    assert len({family.syntax for family in format_families()}) == len(format_families())
    assert number_format("int5") is number_format("int5")


@pytest.mark.parametrize("name", NARROW)
def test_decode_every_code(name: str) -> None:
    """Every code means what its fields say."""
    number, twin = number_format(name), catalog.twin(name)
    assert number.bits == twin.bits
    codes = np.arange(1 << twin.bits)
    values = number.decode(codes)
    wanted = np.array([formats.as_float(catalog.decode(name, code)) for code in codes.tolist()])
    np.testing.assert_array_equal(values, wanted)
    assert [value for _, value in number.table()] == pytest.approx(wanted.tolist(), rel=0, nan_ok=True)


@pytest.mark.parametrize("name", NAMES)
def test_range_and_unit(name: str) -> None:
    """Ends of the range, the smallest number and the unit follow from the definition."""
    number, twin = number_format(name), catalog.twin(name)
    assert Fraction(number.max_value) == twin.place(twin.top) * twin.unit
    assert Fraction(number.min_positive) == twin.place(1) * twin.unit
    lowest = twin.lowest * twin.unit if twin.whole else -twin.place(twin.top)
    assert Fraction(number.min_value) == lowest
    codes = range(1, twin.top + 1) if twin.bits <= 16 else (1, 5, twin.top)
    numerators = [twin.place(code) * twin.unit / Fraction(number.unit) for code in codes]
    assert all(numerator.denominator == 1 for numerator in numerators)
    assert any(numerator % 2 for numerator in numerators)
    odd_parts = [int(n) // (int(n) & -int(n)) for n in numerators]
    assert max(odd_parts).bit_length() <= number.significand_bits
    assert number.overflows == allowed_overflows(name)


@pytest.mark.parametrize("rounding", catalog.DETERMINISTIC)
@pytest.mark.parametrize("name", NAMES)
def test_every_number_and_every_middle(name: str, rounding: str) -> None:
    """All numbers and all mid-points, and the float64 on either side of each, in every rounding."""
    values = around(rungs_and_middles(name))
    values = values[values >= 0]
    assert_encodes(name, values, rounding)
    number, twin = number_format(name), catalog.twin(name)
    if twin.whole:
        thin = values[:: max(1, len(values) // 2000)]
        assert_encodes(name, -thin, rounding)
    else:
        np.testing.assert_array_equal(
            number.encode(-values, rounding).astype(np.int64),
            number.encode(values, rounding).astype(np.int64) | twin.sign_bit,
        )


@pytest.mark.parametrize("name", NAMES)
def test_above_the_range(name: str) -> None:
    """Every overflow in every rounding, near the top, far above it, at infinity and below zero."""
    twin = catalog.twin(name)
    top, past = (formats.as_float(twin.place(code) * twin.unit) for code in (twin.top, twin.top + 1))
    edges = around(np.array([top, (top + past) / 2, past, 1.5 * past, 2 * past, -0.6 * float(twin.unit)]))
    far = np.array([3e40, 1e300, 1.7976931348623157e308, math.inf])
    for overflow, rounding in product(allowed_overflows(name), catalog.DETERMINISTIC):
        values = np.concatenate([edges, far if overflow != "wrap" else far[:-1]])
        assert_encodes(name, np.concatenate([values, -values]), rounding, overflow)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(
    wide=st.floats(allow_nan=False, allow_infinity=False),
    near=st.floats(min_value=-40, max_value=40),
    exponent=st.integers(-20, 16),
    data=st.data(),
)
def test_any_float64(name: str, wide: float, near: float, exponent: int, data: st.DataObject) -> None:
    """Any float64 in any rounding and overflow is what exact comparison says."""
    overflow = data.draw(st.sampled_from(allowed_overflows(name)))
    rounding = data.draw(st.sampled_from(catalog.DETERMINISTIC))
    assert_encodes(name, np.array([wide, math.ldexp(near, exponent)]), rounding, overflow)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_are_the_formats_own(name: str) -> None:
    """Without a rounding or an overflow the format's own apply: its ties, and its end of the range."""
    number = number_format(name)
    values = np.concatenate([np.linspace(-9, 9, 289), [1e60, -1e60]])
    np.testing.assert_array_equal(
        number.encode(values), number.encode(values, number.rounding, number.overflow)
    )
    assert number.overflow == catalog.twin(name).default_overflow
    assert number.rounding == f"nearest_{catalog.twin(name).ties}"
    np.testing.assert_array_equal(
        number.round(values, "to_odd"), number.decode(number.encode(values, "to_odd"))
    )


@pytest.mark.parametrize("name", ["fp16", "dlfloat16", "bf16", "fp8_e4m3fn", "fp8_e5m2_ibm"])
def test_to_odd_keeps_a_second_rounding_single(name: str) -> None:
    """Through fp32 rounded to odd, every mid-point and its neighbours reach the format as in one rounding."""
    values = around(rungs_and_middles(name)[:: 3 if name == "dlfloat16" else 1])
    values = values[(values >= 2.0**-120) & (values < 2.0**127)]
    number = number_format(name)
    through = number_format("fp32").round(values, "to_odd")
    np.testing.assert_array_equal(number.encode(through), number.encode(values))
    nearest = number_format("fp32").round(values, "nearest_even")
    assert (number.encode(nearest) != number.encode(values)).any(), "the worst cases must be among the values"


# Stochastic rounding


def draws_of(words: np.ndarray) -> list[int]:
    """The upper 32 bits of random words."""
    return [int(word) >> 32 for word in words]


@pytest.mark.parametrize("name", ["int4", "uint3", "int8s", "fixed16_2_14", "fp4_r4_even", "fp6_r16",
                                  "fp4_e2m1", "dlfloat16", "fp16", "fp32", "log5"])  # fmt: skip
def test_probability_is_the_fraction(name: str) -> None:
    """k/8 of the way up, exactly k of the eight settings of the three highest random bits round up."""
    number, twin = number_format(name), catalog.twin(name)
    words = np.arange(8, dtype=np.uint64) << np.uint64(61)
    for code in (0, 1, 2, twin.top // 2, twin.top - 1):
        low, high = (catalog.value(twin, each) * twin.unit for each in (code, code + 1))
        for eighths in range(8):
            values = np.full(8, formats.as_float(low + (high - low) * eighths / 8))
            for sign in (1, -1) if twin.signed else (1,):
                codes = encode_array(number, sign * values, "stochastic", number.overflow, words)
                up = np.abs(number.decode(codes)) == formats.as_float(high)
                assert up.sum() == eighths


@pytest.mark.parametrize("name", NAMES)
def test_stochastic_equals_the_twin(name: str) -> None:
    """Random numbers and draws, and the draws on either side of the carry, round as exact fractions say."""
    number, twin = number_format(name), catalog.twin(name)
    rng = np.random.default_rng(11)
    codes = rng.integers(0, twin.top + 1, 150)
    lows = [catalog.value(twin, int(code)) * twin.unit for code in codes]
    highs = [catalog.value(twin, int(code) + 1) * twin.unit for code in codes]
    parts = rng.random(150)
    values = np.array(
        [float(low + (high - low) * Fraction(p)) for low, high, p in zip(lows, highs, parts, strict=True)]
    )
    values = np.concatenate([values, -values if twin.signed else values, rng.normal(0, 3, 50)])
    draws = rng.integers(0, 1 << 32, len(values))
    for index in range(0, 150, 2):
        _, fraction = catalog.fraction_above(twin, abs(Fraction(values[index])) / twin.unit)
        draws[index] = min(2**32 - math.floor(fraction * 2**32), 2**32 - 1) - (index % 4 == 2)
    words = draws.astype(np.uint64) << np.uint64(32)
    got = encode_array(number, values, "stochastic", number.overflow, words)
    wanted = [
        catalog.encode(name, value, "stochastic", draw=int(draw))
        for value, draw in zip(values.tolist(), draws, strict=True)
    ]
    assert got.tolist() == wanted


@pytest.mark.parametrize("name", ["log3_sqrt2", "log5_sqrt2"])
def test_stochastic_where_the_product_is_inexact(name: str) -> None:
    """Below an irrational first number, the float64 nearest to where the draw carries, and its neighbours."""
    number = number_format(name)
    draws = np.random.default_rng(13).integers(0, 1 << 32, 2000).astype(np.uint64)
    edges = ((1 << 32) - draws.astype(np.int64)).astype(np.float64) * number.min_positive * 2.0**-32
    words = draws << np.uint64(32)
    for values in (edges, np.nextafter(edges, 0), np.nextafter(edges, 1)):
        got = encode_array(number, values, "stochastic", "saturate", words)
        wanted = [
            catalog.encode(name, value, "stochastic", draw=int(draw))
            for value, draw in zip(values.tolist(), draws, strict=True)
        ]
        assert got.tolist() == wanted


def test_stochastic_is_counter_based() -> None:
    """Element i takes word i of the stream, in C order, whatever the shape or the pieces."""
    number, key = number_format("fp4_r4_even"), stream_key(3, "weights")
    values = np.random.default_rng(5).normal(0, 8, 40_003)
    whole = number.encode(values, "stochastic", key=key)
    words = random_words(key, len(values))
    np.testing.assert_array_equal(whole, encode_array(number, values, "stochastic", "saturate", words))
    for cut in (1, 16_384, 40_002):
        pieces = [
            number.encode(values[:cut], "stochastic", key=key),
            number.encode(values[cut:], "stochastic", key=key, first=cut),
        ]
        np.testing.assert_array_equal(np.concatenate(pieces), whole)
    square = values[:40_000].reshape(200, 200)
    np.testing.assert_array_equal(number.encode(square, "stochastic", key=key).reshape(-1), whole[:40_000])
    transposed = np.asfortranarray(square)
    np.testing.assert_array_equal(
        number.encode(transposed, "stochastic", key=key), whole[:40_000].reshape(200, 200)
    )
    np.testing.assert_array_equal(number.round(values, "stochastic", key=key), number.decode(whole))
    assert (number.encode(values, "stochastic", key=key + 1) != whole).any()


@pytest.mark.parametrize("name", ["int8", "fixed16_8_8", "fp4_r4_odd", "fp8_e5m2", "dlfloat16", "log5_sqrt2"])
def test_stochastic_mean_is_the_number(name: str) -> None:
    """Over 200,000 draws the mean of a rounded number is the number, within four standard errors."""
    number, count = number_format(name), 200_000
    for value in (0.013, 1.3, -2.7):
        rounded = number.round(np.full(count, value), "stochastic", key=stream_key(1, name, str(value)))
        assert abs(rounded.mean() - value) <= 4 * rounded.std() / math.sqrt(count) + 1e-12


@pytest.mark.parametrize("first", [1, 3, 2**40])
def test_words_from_the_middle_of_a_stream(first: int) -> None:
    """Words may be drawn from any place of a stream on."""
    np.testing.assert_array_equal(random_words(7, 5, 3), random_words(7, 8)[3:])
    np.testing.assert_array_equal(random_words(7, 5, first)[1:], random_words(7, 4, first + 1))


# Mistakes


@pytest.mark.parametrize(
    ("name", "values", "options", "text"),
    [
        ("int4", [1.0, math.nan], {}, "int4: the format has no NaN, but the values hold one"),
        ("fixed16_2_14", math.nan, {"overflow": "wrap"},
         "fixed16_2_14: the format has no NaN, but the values hold one"),
        ("log5", math.nan, {}, "log5: the format has no NaN, but the values hold one"),
        ("int4", math.inf, {"overflow": "wrap"}, "int4: an infinity cannot wrap, but the values hold one"),
        ("fp16", 1.0, {"rounding": "nearest_evn"},
         "unknown rounding 'nearest_evn' (did you mean 'nearest_even'?); allowed: nearest_down, "
         "nearest_even, nearest_up, stochastic, to_odd, toward_zero"),
        ("fp16", 1.0, {"overflow": "clip"},
         "unknown overflow 'clip'; allowed: infinity, nan, saturate, wrap"),
        ("fp16", 1.0, {"overflow": "wrap"},
         "fp16: the format cannot overflow to 'wrap'; allowed: saturate, infinity, nan"),
        ("fp8_e4m3fn", 1.0, {"overflow": "infinity"},
         "fp8_e4m3fn: the format cannot overflow to 'infinity'; allowed: saturate, nan"),
        ("fp4_e2m1", 1.0, {"overflow": "nan"},
         "fp4_e2m1: the format cannot overflow to 'nan'; allowed: saturate"),
        ("int4s", 1.0, {"overflow": "wrap"},
         "int4s: the format cannot overflow to 'wrap'; allowed: saturate"),
        ("int4", 1.0, {"rounding": "stochastic"},
         "int4: stochastic rounding needs the key of its random bits"),
        ("int4", 1.0, {"rounding": "stochastic", "key": -1},
         "int4: key must be in 0..2**64-1 and first in 0..2**63-1, got -1 and 0"),
        ("int4", 1.0, {"rounding": "stochastic", "key": 1, "first": -2},
         "int4: key must be in 0..2**64-1 and first in 0..2**63-1, got 1 and -2"),
        ("int4", "1.5", {}, "int4: values are real numbers, got <U3"),
        ("int4", [1j], {}, "int4: values are real numbers, got complex128"),
        ("int4", [[1.0], [1.0, 2.0]], {}, "int4: the values are not an array: their rows differ in length"),
    ],
)  # fmt: skip
def test_what_cannot_be_encoded(name: str, values: object, options: dict[str, object], text: str) -> None:
    """Each thing that cannot be encoded is one clear error."""
    with pytest.raises(InputError) as caught:
        number_format(name).encode(values, **options)
    assert str(caught.value) == text


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("int9",
         "unknown number format 'int9' (did you mean 'int8'?); allowed: bf16, dlfloat16, fixed16_<"),
        ("fixed16_2_13", "fixed16_2_13: integer and fraction bits must add up to 16, got 15"),
        ("fp16_r16",
         "fp16_r16: bias: the values would reach from 2**-65532 to 2**65536; allowed: 2**-900..2**900"),
        ("mxfp4", "'mxfp4' is a block format (`block_format`), but one of single numbers is wanted here"),
        ("fp4_r3", "unknown number format 'fp4_r3' (did you mean "),
        ("int5\n", "unknown number format 'int5\\n'"),
    ],
)  # fmt: skip
def test_names_that_are_none(name: str, text: str) -> None:
    """A name of no format, or of an impossible member of a family, is one clear error."""
    with pytest.raises(InputError) as caught:
        number_format(name)
    assert str(caught.value).startswith(text)


def test_an_unsigned_float_has_no_negative_side() -> None:
    """A negative number becomes zero in an unsigned floating-point format."""
    number = NumberFormat("ufp4", 4, "float", signed=False, exponent_bits=2, fraction_bits=2, bias=1)
    assert number.encode([-3.0, -0.0, -math.inf, 0.5, 7.9, 1e9]).tolist() == [0, 0, 0, 2, 15, 15]
    assert number.min_value == 0.0


def test_all_modes_are_tested() -> None:
    """The twins know every rounding and overflow of the library."""
    assert set(ROUNDINGS) == {*catalog.DETERMINISTIC, "stochastic"}
    assert set(OVERFLOWS) == {overflow for name in NAMES for overflow in allowed_overflows(name)}
