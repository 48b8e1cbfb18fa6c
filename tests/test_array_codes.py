"""The kernels from numbers to codes against the plain definition, for every format, rounding and overflow."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest
from thread_counts import with_one_and_two

from accelsim.errors import InputError
from accelsim.numerics import code_kernels, conversion, quantise
from accelsim.numerics.code_layouts import drawn_layout
from accelsim.numerics.formats import NumberFormat, format_names, number_format
from accelsim.numerics.ladder import ladder_of
from accelsim.numerics.random_bits import random_words

FAMILIES = [
    "int3", "int8s", "uint5", "fixed16_8_8", "fixed16_1_15", "fp5_r2", "fp5_r4", "fp8_r4", "fp3_r16",
    "fp6_r16", "fp6_r8", "log3", "log5", "log8", "log4_sqrt2",
]  # fmt: skip
NAMES = [name for name in format_names() if name != "fp32"] + FAMILIES
WITHOUT_KERNEL = {"fp6_r8", "log4_sqrt2"}
KEY = 0x1234_5678_9ABC_DEF1


def places(fmt: NumberFormat) -> np.ndarray:
    """Values, thresholds and quarters of steps, all near both ends of the range, float64."""
    ladder = ladder_of(fmt)
    rungs = np.arange(fmt.max_code + 2)
    if len(rungs) > 600:
        middle = np.random.default_rng(1).choice(rungs, 200)
        rungs = np.unique(np.concatenate([rungs[:200], rungs[-200:], middle]))
    values, thresholds = ladder.value(rungs), ladder.threshold(rungs)
    quarters = values[:-1] + (values[1:] - values[:-1]) * 0.25
    found = np.concatenate([values, thresholds[np.isfinite(thresholds)], quarters])
    return found * (fmt.unit if fmt.kind in ("integer", "fixed") else 1.0)


def singles(fmt: NumberFormat) -> np.ndarray:
    """The places and their neighbours, random bits, all sizes: float32 of both signs."""
    rng = np.random.default_rng(2)
    near = places(fmt)
    near = near[near < 2.0**127].astype(np.float32)
    near = np.concatenate([near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(np.inf))])
    bits = rng.integers(0, 0x7F800000, 4000).astype(np.uint32).view(np.float32)
    sizes = (rng.normal(0, 1, 2000) * min(fmt.max_value, 1e30)).astype(np.float32)
    every = np.concatenate([near, bits, sizes, np.float32([0, 1e-45, 3e38, np.inf])])
    return with_nan(fmt, np.concatenate([every, -every]))


def doubles(fmt: NumberFormat) -> np.ndarray:
    """The places, the float64 numbers next to them, and all sizes down to the smallest."""
    near = places(fmt)
    near = np.concatenate([near, np.nextafter(near, 0), np.nextafter(near, np.inf), near * (1 + 2.0**-40)])
    bits = np.random.default_rng(3).integers(0, 0x7FF0 << 48, 4000).view(np.float64)
    every = np.concatenate([near, bits, [0, 5e-324, 1e308, np.inf]])
    return with_nan(fmt, np.concatenate([every, -every]))


def with_nan(fmt: NumberFormat, values: np.ndarray) -> np.ndarray:
    """NaNs of both signs where the format has one."""
    nan = np.array([np.nan, -np.nan] if fmt.has_nan else [], values.dtype)
    return np.concatenate([values, nan])


def fast(
    fmt: NumberFormat, values: np.ndarray, rounding: str, overflow: str, first: int = 0
) -> np.ndarray | None:
    """Codes by a kernel, if there is one."""
    return quantise.fast_codes(fmt, values, rounding, overflow, KEY, first)


@pytest.mark.parametrize("name", NAMES)
def test_the_nearest_code_is_the_definitions(name: str) -> None:
    """Every tie, overflow and special, float32 and float64, in the three ways to break a tie."""
    fmt = number_format(name)
    compared = 0
    for overflow in fmt.overflows:
        for rounding in ("nearest_even", "nearest_up", "nearest_down"):
            for values in (singles(fmt), doubles(fmt)):
                got = fast(fmt, values, rounding, overflow)
                if got is not None:
                    exact = values.astype(np.float64)
                    wanted = conversion.encode_array(fmt, exact, rounding, overflow, None)
                    np.testing.assert_array_equal(got, wanted)
                    compared += 1
    expected = 0 if name in WITHOUT_KERNEL else 3 if fmt.kind == "log" else 6
    assert compared == (0 if name == "fp8_r4" else expected * len([o for o in fmt.overflows if o != "wrap"]))


@pytest.mark.parametrize("name", NAMES)
def test_the_drawn_code_is_the_definitions(name: str) -> None:
    """Stochastic rounding takes the same words and the same side, float32 and float64."""
    fmt = number_format(name)
    for overflow in fmt.overflows:
        for values in (singles(fmt), doubles(fmt)):
            got = fast(fmt, values, "stochastic", overflow, first=5)
            assert (got is None) == (name in WITHOUT_KERNEL or overflow == "wrap")
            if got is not None:
                words = random_words(KEY, values.size, 5)
                exact = values.astype(np.float64)
                wanted = conversion.encode_array(fmt, exact, "stochastic", overflow, words)
                np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize(
    "name", ["fp8_e4m3fn", "fp8_e5m2_ibm", "fp4_r4_odd", "fp4_e3m0", "log5", "int4", "fp6_e2m3"]
)
def test_all_upper_halves_have_the_nearest_code(name: str) -> None:
    """All 65536 upper halves of a float32, with the lower halves between which a small format can cut."""
    low = np.array([0, 1, 0x8000, 0xFFFF])
    words = (np.arange(65536)[:, None] << 16 | low).astype(np.uint32).reshape(-1)
    fmt = number_format(name)
    values = words.view(np.float32)
    values = values if fmt.has_nan else values[~np.isnan(values)]
    with np.errstate(invalid="ignore"):
        wanted = conversion.encode_array(fmt, values.astype(np.float64), fmt.rounding, fmt.overflow, None)
    np.testing.assert_array_equal(quantise.codes_of(values, fmt), wanted)


@pytest.mark.parametrize("name", ["int4", "fp8_e4m3fn", "dlfloat16", "fixed16_4_12"])
def test_large_arrays_take_the_kernels_and_keep_their_shape(name: str) -> None:
    """`NumberFormat` gives the definition's codes, values and shapes for any layout and pieces."""
    fmt = number_format(name)
    values = np.random.default_rng(4).normal(0, 3, (90, 70)).astype(np.float32)
    for array in (values, values.T, values[::2, ::2][:, :30], values.astype(np.float64)):
        words = random_words(KEY, array.size).reshape(array.shape)
        exact = np.ascontiguousarray(array, np.float64)
        wanted = conversion.encode_array(fmt, exact, "stochastic", fmt.overflow, words)
        got = fmt.encode(array, "stochastic", key=KEY)
        np.testing.assert_array_equal(got, wanted)
        assert got.dtype == fmt.code_dtype
        np.testing.assert_array_equal(fmt.decode(got), conversion.decode_table(fmt)[wanted])
    pieces = [fmt.encode(values.reshape(-1)[i : i + 3150], "stochastic", key=KEY, first=i) for i in (0, 3150)]
    np.testing.assert_array_equal(
        np.concatenate(pieces), fmt.encode(values, "stochastic", key=KEY).reshape(-1)
    )


def test_values_of_codes_in_single_and_double_precision() -> None:
    """Every code of 8 and of 16 bits, in both carriers, into an array of the caller's too."""
    for name in ("fp8_e5m2", "int4", "dlfloat16"):
        fmt = number_format(name)
        codes = np.arange(1 << fmt.bits).astype(fmt.code_dtype)
        wanted = conversion.decode_table(fmt)
        out = np.empty(codes.size)
        assert quantise.values_of(codes, fmt, out) is out
        np.testing.assert_array_equal(out, wanted)
        np.testing.assert_array_equal(
            quantise.values_of(codes[:, None], fmt)[:, 0], wanted.astype(np.float32)
        )


def test_rounding_in_place_to_any_format() -> None:
    """`round_to` gives the values of the definition's codes, stochastic ones with the stream's words."""
    values = np.random.default_rng(5).normal(0, 3, (40, 70)).astype(np.float32)
    for name in ("fp8_e4m3fn", "int4", "dlfloat16", "log4_sqrt2", "fp4_e3m0"):
        fmt = number_format(name)
        words = random_words(KEY, values.size, 9).reshape(values.shape)
        codes = conversion.encode_array(fmt, values.astype(np.float64), "stochastic", "saturate", words)
        got = quantise.round_to(values.copy(), name, "stochastic", "saturate", key=KEY, first=9)
        np.testing.assert_array_equal(got, conversion.decode_table(fmt)[codes].astype(np.float32))


def test_threads_do_not_change_a_code() -> None:
    """The same codes with one thread and with two."""
    values = np.random.default_rng(6).normal(0, 3, 70_001).astype(np.float32)

    def everything() -> list[bytes]:
        found = []
        for name in ("fp8_e4m3fn", "fp4_r4_odd", "int4", "dlfloat16"):
            fmt = number_format(name)
            found += [fmt.encode(values, mode, key=KEY).tobytes() for mode in ("stochastic", "nearest_even")]
        return found

    one, two = with_one_and_two(everything)
    assert one == two


def test_what_large_arrays_may_not_hold() -> None:
    """A NaN for a format without one, codes too wide, and stochastic rounding without a key are refused."""
    values = np.full(5000, 1.0, np.float32)
    values[77] = np.nan
    for array in (values, values.astype(np.float64)):
        with pytest.raises(InputError, match=r"int4: the format has no NaN, but the values hold one"):
            number_format("int4").encode(array)
    with pytest.raises(InputError, match="fp8_e5m2: stochastic rounding needs the key of its random bits"):
        number_format("fp8_e5m2").encode(values, "stochastic")
    codes = np.full(5000, 16, np.uint8)
    with pytest.raises(InputError, match=r"int4: code 16 does not fit in 4 bits; allowed: 0\.\.15"):
        number_format("int4").decode(codes)
    with pytest.raises(InputError, match="int4: codes are integers, got float32"):
        number_format("int4").decode(values)


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.float32])
@pytest.mark.parametrize("entries", [2, 4, 16])
def test_short_tables_are_looked_up_by_whole_vectors(entries: int, dtype: Any) -> None:
    """Every code finds its own entry, wherever it stands among others."""
    table = np.arange(100, 100 + entries).astype(dtype)
    codes = np.random.default_rng(entries).integers(0, entries, 1000).astype(np.uint8)
    found = np.empty(codes.size, dtype)
    code_kernels.look_up_nibbles(codes, table, found)
    np.testing.assert_array_equal(found, table[codes])


def test_draws_in_blocks() -> None:
    """Sizes about a block of draws, one thread and two: kernels in 32 bits and in 64 give the same codes."""
    for name, wide in itertools.product(("int4", "fp4_r4_odd", "fp8_e4m3fn"), (1023, 1024, 1025, 3000)):
        fmt = number_format(name)
        layout = drawn_layout(fmt, fmt.overflow)
        assert layout is not None
        assert layout.single_places is not None
        values = np.random.default_rng(wide).normal(0, 2, wide).astype(np.float32)
        one, two = with_one_and_two(lambda: fast(fmt, values, "stochastic", fmt.overflow, 7))  # noqa: B023
        np.testing.assert_array_equal(one, two)
        exact = values.astype(np.float64)
        np.testing.assert_array_equal(one, fast(fmt, exact, "stochastic", fmt.overflow, 7))


def test_formats_that_single_precision_cannot_scale() -> None:
    """bf16's steps near zero have no reciprocal in float32, so its draws stay in 64 bits."""
    layout = drawn_layout(number_format("bf16"), "infinity")
    assert layout is not None
    assert layout.single_places is None
