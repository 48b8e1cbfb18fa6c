"""Every number format against the oracle, code by code and midpoint by midpoint."""

from __future__ import annotations

import math
import warnings
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import formats as oracle

from accelsim.errors import InputError
from accelsim.numerics.formats import NumberFormat, format_names, number_format

NAMES = list(oracle.NAMES)
TABLED = [name for name in NAMES if oracle.bits(name) <= 16]
LADDERS = list(oracle.LADDERS)
WITHOUT_NAN = [name for name in NAMES if name in oracle.INTEGERS or oracle.LADDERS[name].beyond == "nothing"]
PACKAGES = {
    "fp4_e2m1": ml_dtypes.float4_e2m1fn,
    "fp6_e2m3": ml_dtypes.float6_e2m3fn,
    "fp6_e3m2": ml_dtypes.float6_e3m2fn,
    "fp8_e4m3fn": ml_dtypes.float8_e4m3fn,
    "fp8_e5m2": ml_dtypes.float8_e5m2,
    "bf16": ml_dtypes.bfloat16,
    "fp16": np.float16,
    "fp32": np.float32,
}


def expected_codes(name: str, values: np.ndarray) -> np.ndarray:
    """The oracle's codes for float64 values, element by element."""
    return np.array([oracle.encode(name, float(value)) for value in values], dtype=np.int64)


def assert_encodes(name: str, values: np.ndarray) -> None:
    """The library's codes equal the oracle's; names the first value that differs."""
    got = number_format(name).encode(values).astype(np.int64)
    wanted = expected_codes(name, values)
    for index in np.flatnonzero(got != wanted)[:1]:
        value = float(values[index])
        pytest.fail(f"{name}.encode({value!r} = {value.hex()}) is {got[index]:#x}, not {wanted[index]:#x}")


def magnitude_codes(name: str) -> list[int]:
    """All magnitude codes and the one past the top; of more than 16 bits the ends and a thin sample."""
    top = oracle.LADDERS[name].top
    if oracle.bits(name) <= 16:
        return list(range(top + 2))
    first = 1 << oracle.LADDERS[name].fraction_bits
    edges = {*range(5), *range(first - 8, first + 12), *range(top - 3, top + 2)}
    return sorted(edges | {*range(1, top, 3 * first - 3)})


def test_names() -> None:
    """The library knows exactly the named formats the oracle knows."""
    assert sorted(format_names()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_width_and_range(name: str) -> None:
    """Width, largest number and smallest positive number follow from the definition."""
    number = number_format(name)
    assert (number.name, number.bits) == (name, oracle.bits(name))
    assert Fraction(number.max_value) == oracle.max_value(name)
    assert Fraction(number.min_positive) == oracle.min_positive(name)


@pytest.mark.parametrize("name", TABLED)
def test_decode_every_code(name: str) -> None:
    """Every code up to 16 bits has the value of its fields, and negative zero keeps its sign."""
    values = number_format(name).decode(np.arange(1 << oracle.bits(name), dtype=np.uint16))
    assert values.dtype == np.float64
    for (code, wanted), got in zip(oracle.table(name), values.tolist(), strict=True):
        same = got == wanted or (got != got and wanted != wanted)
        assert same, f"{name}.decode({code:#x}) is {got}, not {wanted}"
        if wanted == 0 and name in oracle.LADDERS:
            assert math.copysign(1, got) == (-1 if code else 1)


@pytest.mark.parametrize("name", TABLED)
def test_table_lists_every_code(name: str) -> None:
    """`table` pairs every code in order with what `decode` gives it."""
    number = number_format(name)
    codes, values = zip(*number.table(), strict=True)
    assert list(codes) == list(range(1 << oracle.bits(name)))
    np.testing.assert_array_equal(np.array(values), number.decode(np.arange(1 << oracle.bits(name))))


@pytest.mark.parametrize("name", TABLED)
def test_encode_inverts_decode(name: str) -> None:
    """Every number of the format, both zeros and the infinities encode to their own code."""
    number = number_format(name)
    codes = np.arange(1 << oracle.bits(name))
    values = number.decode(codes)
    kept = ~np.isnan(values)
    np.testing.assert_array_equal(number.encode(values[kept]).astype(np.int64), codes[kept])


def test_fp32_is_numpy_float32() -> None:
    """32-bit codes are float32 bit patterns both ways, on random patterns of all exponents."""
    codes = np.random.default_rng(1).integers(0, 1 << 32, 20_000, dtype=np.uint32)
    codes = codes[~np.isnan(codes.view(np.float32))]
    number = number_format("fp32")
    np.testing.assert_array_equal(number.decode(codes), codes.view(np.float32).astype(np.float64))
    np.testing.assert_array_equal(number.encode(number.decode(codes)), codes)


@pytest.mark.parametrize("name", LADDERS)
def test_every_midpoint_and_its_neighbours(name: str) -> None:
    """Halfway between any two rungs the tie rule decides; one float64 step aside the nearer rung wins."""
    rungs = [(oracle.rung(name, code), oracle.rung(name, code + 1)) for code in magnitude_codes(name)]
    exact = np.array([oracle.as_float(value) for low, high in rungs for value in (low, (low + high) / 2)])
    values = np.concatenate([exact, np.nextafter(exact, 0), np.nextafter(exact, math.inf)])
    assert_encodes(name, values)
    number = number_format(name)
    sign = 1 << (oracle.bits(name) - 1)
    np.testing.assert_array_equal(
        number.encode(-values).astype(np.int64), number.encode(values).astype(np.int64) | sign
    )


@pytest.mark.parametrize("name", list(oracle.INTEGERS))
def test_integer_halves_and_neighbours(name: str) -> None:
    """Integers round half to even and saturate, on all halves of the range and beyond and one step aside."""
    halves = np.arange(-700, 700) / 2.0
    assert_encodes(name, np.concatenate([halves, np.nextafter(halves, -999), np.nextafter(halves, 999)]))


@pytest.mark.parametrize("name", NAMES)
def test_extremes(name: str) -> None:
    """Zeros, infinities, the largest and smallest float64 numbers overflow, saturate or flush by the rule."""
    values = np.array(
        [0.0, -0.0, math.inf, -math.inf, 1.7e308, -1.7e308, 5e-324, -5e-324, 2.0**70, -(2.0**70)]
    )
    assert_encodes(name, values)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in WITHOUT_NAN])
def test_nan_has_one_code(name: str) -> None:
    """NaN of either sign and any payload becomes a NaN; the positive quiet one the canonical code."""
    number = number_format(name)
    codes = number.encode(np.array([math.nan, -math.nan]))
    assert int(codes[0]) == oracle.nan_code(name)
    assert np.isnan(number.decode(codes)).all()


@pytest.mark.parametrize("name", WITHOUT_NAN)
def test_nan_where_there_is_none(name: str) -> None:
    """NaN into a format that has none is an error that names the format."""
    with pytest.raises(InputError, match=rf"(?i)nan.*{name}|{name}.*nan"):
        number_format(name).encode(np.array([1.0, math.nan]))


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=100, deadline=None)
@given(
    wide=st.floats(allow_nan=False),
    mantissa=st.floats(min_value=-2, max_value=2, allow_subnormal=False),
    exponent=st.integers(-36, 36),
)
def test_any_float64(name: str, wide: float, mantissa: float, exponent: int) -> None:
    """Any float64, and any in the middle of the range, encodes as comparison with its neighbours says."""
    assert_encodes(name, np.array([wide, math.ldexp(mantissa, exponent), round(mantissa * 128) / 16]))


@pytest.mark.parametrize("name", PACKAGES)
def test_packages_agree(name: str) -> None:
    """A second opinion: numpy and ml_dtypes give the same codes on random float32 patterns of all exponents.

    Only float32 inputs: ml_dtypes converts a float64 through float32 and so rounds it twice.
    """
    patterns = np.random.default_rng(2).integers(0, 1 << 32, 100_000, dtype=np.uint32)
    near_one = np.random.default_rng(3).normal(0, 2, 100_000).astype(np.float32)
    values = np.concatenate(
        [patterns.view(np.float32), near_one, np.arange(-512, 512, dtype=np.float32) / 64]
    )
    values = values[~np.isnan(values)]
    dtype = np.dtype(PACKAGES[name])
    with np.errstate(over="ignore", under="ignore"):
        theirs = values.astype(dtype).view({1: np.uint8, 2: np.uint16, 4: np.uint32}[dtype.itemsize])
    ours = number_format(name).encode(values)
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize("name", NAMES)
def test_shapes_and_types(name: str) -> None:
    """Codes come in the smallest unsigned type, in the shape of the input, empty and scalar included."""
    number = number_format(name)
    width = oracle.bits(name)
    expected = np.uint8 if width <= 8 else np.uint16 if width <= 16 else np.uint32
    for shape in [(), (0,), (2, 0), (3,), (2, 3, 4)]:
        codes = number.encode(np.full(shape, 0.5 if name == "fp4_r4_odd" else 1.0, dtype=np.float32))
        assert (codes.dtype, np.shape(codes)) == (np.dtype(expected), shape)
        values = number.decode(codes)
        assert (values.dtype, np.shape(values)) == (np.dtype(np.float64), shape)
        assert ((values == 1) | (values == 0.5)).all()


def test_encode_accepts_strided_and_integer_input() -> None:
    """Transposed, reversed and integer arrays encode like their contiguous float64 copies."""
    values = np.arange(12).reshape(3, 4) - 6
    number = number_format("int4")
    expected = number.encode(np.ascontiguousarray(values, dtype=np.float64))
    np.testing.assert_array_equal(number.encode(values), expected)
    np.testing.assert_array_equal(number.encode(values.T), expected.T)
    np.testing.assert_array_equal(number.encode(values[::-1].astype(np.float32)), expected[::-1])


def test_unknown_name() -> None:
    """A misspelt format names the nearest one."""
    with pytest.raises(InputError, match=r"fp8_e4m3fm.*did you mean 'fp8_e4m3fn'"):
        number_format("fp8_e4m3fm")


def test_codes_that_are_none() -> None:
    """Codes too wide, negative or not integers are refused, naming format, code and range."""
    number = number_format("int4")
    with pytest.raises(InputError, match=r"^int4: code 16 does not fit in 4 bits; allowed: 0\.\.15$"):
        number.decode(np.array([3, 16]))
    with pytest.raises(InputError, match=r"^int4: code -1 does not fit in 4 bits; allowed: 0\.\.15$"):
        number.decode(np.array([-1]))
    with pytest.raises(InputError, match=r"^int4: codes are integers, got float64$"):
        number.decode(np.array([1.0]))


def test_number_format_passes_records_through() -> None:
    """A format record may stand wherever its name may."""
    number = number_format("dlfloat16")
    assert isinstance(number, NumberFormat)
    assert number_format(number) is number


def test_a_signalling_nan_is_decoded_without_a_warning() -> None:
    """It is a NaN like any other to whoever reads the values."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.isnan(number_format("fp32").decode([0x7F800001])).all()
