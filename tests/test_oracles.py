"""The oracles themselves against hand-made facts and independent packages."""

from __future__ import annotations

import math
import random
from fractions import Fraction

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import accumulate, formats, quantise

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
FLOAT32_FINITE = st.floats(width=32, allow_nan=False, allow_infinity=False)


def package_code(name: str, value: float) -> int:
    """The code numpy or ml_dtypes gives a float32 (ml_dtypes goes through float32, so never feed it more)."""
    dtype = np.dtype(PACKAGES[name])
    with np.errstate(over="ignore", under="ignore"):
        stored = np.array([value], dtype=np.float32).astype(dtype)
    unsigned = {1: np.uint8, 2: np.uint16, 4: np.uint32}[dtype.itemsize]
    return int(stored.view(unsigned)[0])


@pytest.mark.parametrize("name", [name for name in PACKAGES if name != "fp32"])
def test_decode_equals_the_packages(name: str) -> None:
    """Every code of a shared format has the value numpy or ml_dtypes gives it, infinities and NaN too."""
    dtype = np.dtype(PACKAGES[name])
    unsigned = np.uint16 if dtype.itemsize == 2 else np.uint8
    for code, value in formats.table(name):
        theirs = float(np.array([code], dtype=unsigned).view(dtype)[0])
        assert theirs == value or (theirs != theirs and value != value), (name, code)


@pytest.mark.parametrize("name", PACKAGES)
def test_encode_equals_the_packages_on_edges(name: str) -> None:
    """Zeros, infinities, overflow edges and rungs, with float32 neighbours, encode as the packages say."""
    top = formats.LADDERS[name].top
    largest_float32 = formats.max_value("fp32")
    rungs = [1, 2, 3, top // 2, top // 3, top - 1, top]
    middles = [(formats.rung(name, code) + formats.rung(name, code + 1)) / 2 for code in [0, *rungs]]
    edges = [float(x) for x in [formats.rung(name, code) for code in rungs] + middles if x < largest_float32]
    for edge in [0.0, math.inf, *edges]:
        near = np.float32(edge)
        for value in (near, np.nextafter(near, np.float32(0)), np.nextafter(near, np.float32(math.inf))):
            for signed in (float(value), -float(value)):
                assert formats.encode(name, signed) == package_code(name, signed), (name, signed)


@pytest.mark.parametrize("name", PACKAGES)
@settings(max_examples=60, deadline=None)
@given(value=FLOAT32_FINITE, near=st.floats(min_value=-500, max_value=500, width=32))
def test_encode_equals_the_packages(name: str, value: float, near: float) -> None:
    """Any float32 encodes as numpy or ml_dtypes says, to the last bit and sign."""
    assert formats.encode(name, value) == package_code(name, value)
    assert formats.encode(name, near) == package_code(name, near)


@pytest.mark.parametrize("name", [name for name in formats.NAMES if formats.bits(name) <= 8])
def test_encode_inverts_decode(name: str) -> None:
    """A number of the format encodes to its own code; a zero to code 0."""
    for code, value in formats.table(name):
        if formats.is_finite(value):
            assert formats.encode(name, value) == (code if value != 0 else 0)


@pytest.mark.parametrize("name", [name for name in formats.NAMES if formats.bits(name) <= 8])
def test_encode_is_nearest_by_search(name: str) -> None:
    """No value of the whole table is nearer than the encoded one, save below the smallest 1-3-0 rung."""
    numbers = [value for _, value in formats.table(name) if formats.is_finite(value)]
    generator = random.Random(7)
    for _ in range(200):
        value = Fraction(generator.choice(numbers)) * Fraction(generator.uniform(0.5, 1.5))
        value = min(max(value, min(numbers)), max(numbers))
        chosen = formats.decode(name, formats.encode(name, value))
        nearest = min(abs(value - number) for number in numbers)
        layout = formats.LADDERS.get(name)
        flushes = layout and not layout.subnormal and abs(value) < formats.min_positive(name)
        assert flushes or abs(value - chosen) == nearest


def test_dlfloat16_facts() -> None:
    """The landmarks of 1-6-9: one, maximum, smallest, ties away, merged NaN-infinity, flush to zero."""
    encode = formats.encode
    assert encode("dlfloat16", 1.0) == 0x3E00
    assert encode("dlfloat16", 0.0123456789) == 12585
    assert formats.max_value("dlfloat16") == 8573157376
    assert formats.min_positive("dlfloat16") == Fraction(513, 512) / 2**31
    assert encode("dlfloat16", 1 + 2.0**-10) == 0x3E01
    assert encode("dlfloat16", -1 - 2.0**-10) == 0xBE01
    assert encode("dlfloat16", 8573157376.0 + 2.0**22) == 0x7FFF
    assert encode("dlfloat16", math.nextafter(8573157376.0 + 2.0**22, 0)) == 0x7FFE
    assert encode("dlfloat16", 1e30, saturate=True) == 0x7FFE
    assert encode("dlfloat16", -math.inf) == 0xFFFF
    threshold = 2.0**-31 * (1 + 2.0**-10)
    assert encode("dlfloat16", threshold) == 1
    assert encode("dlfloat16", math.nextafter(threshold, 0)) == 0
    assert math.isnan(float(formats.decode("dlfloat16", 0xFFFF)))


def test_radix4_facts() -> None:
    """The grids of the 4-bit gradients: values, thresholds at 0.625 of a rung, ties up, saturation."""
    magnitudes = [formats.decode("fp4_r4_even", code) for code in range(8)]
    assert magnitudes == [0, Fraction(1, 64), Fraction(1, 16), Fraction(1, 4), 1, 4, 16, 64]
    assert [2 * formats.decode("fp4_r4_odd", code) for code in range(8)] == magnitudes
    assert formats.encode("fp4_r4_even", 0.009765625) == 1
    assert formats.encode("fp4_r4_even", math.nextafter(0.009765625, 0)) == 0
    assert formats.encode("fp4_r4_even", 40.0) == 7
    assert formats.encode("fp4_r4_even", math.nextafter(40.0, 0)) == 6
    assert formats.encode("fp4_r4_even", 40.0, ties="down") == 6
    assert formats.encode("fp4_r4_even", -1e9) == 15


@pytest.mark.parametrize("ties", ["up", "down"])
@settings(max_examples=200, deadline=None)
@given(value=st.floats(min_value=-100, max_value=100), exponent=st.integers(-9, 4), nudge=st.integers(-1, 1))
def test_two_readings_of_radix4_agree(ties: str, value: float, exponent: int, nudge: int) -> None:
    """Rungs of a ladder and the integer rule 8|x| >= 5 * 4^n give the same codes on both grids."""
    tie = 0.625 * 2.0**exponent
    tie = math.nextafter(tie, math.inf * nudge) if nudge else tie
    for x in (value, tie, -tie):
        for odd, name in ((False, "fp4_r4_even"), (True, "fp4_r4_odd")):
            assert quantise.radix4_code(x, odd, ties) == formats.encode(name, x, ties=ties)


def test_integers_saturate_and_round_half_even() -> None:
    """Two's complement and unsigned codes: ranges, halves to even, wrap of negative codes."""
    values = (-9, -8, -0.5, 0.5, 1.5, 2.5, 7.5)
    assert [formats.encode("int4", v) for v in values] == [8, 8, 0, 0, 2, 2, 7]
    assert [formats.encode("uint4", v) for v in (-1, 14.5, 15.4, 99)] == [0, 14, 15, 15]
    assert formats.decode("int2", 2) == -2
    with pytest.raises(ValueError, match="int4 has no NaN"):
        formats.encode("int4", math.nan)


def test_errors_of_the_oracle() -> None:
    """Asking for what a format does not have is an error, not a guess."""
    with pytest.raises(ValueError, match="fp4_e2m1 has no NaN"):
        formats.encode("fp4_e2m1", math.nan)
    with pytest.raises(ValueError, match="fp4_e2m1 has no NaN"):
        formats.nan_code("fp4_e2m1")
    with pytest.raises(ValueError, match="fp32 is too wide for a table"):
        formats.table("fp32")


def float32_chain(left: list[float], right: list[float]) -> np.float32:
    """A sequential fused chain in float32: float64 holds the exact product and sum of small integers."""
    total = np.float32(0)
    for a, b in zip(left, right, strict=True):
        total = np.float32(np.float64(total) + np.float64(a) * np.float64(b))
    return total


def test_one_lane_is_a_chain_of_fused_multiply_adds() -> None:
    """One lane and one chunk in fp32 equal a float64-backed sequential chain where float64 is exact."""
    generator = random.Random(3)
    left = [float(generator.randint(-4095, 4095)) for _ in range(200)]
    right = [float(generator.randint(-4095, 4095)) / 64 for _ in range(200)]
    values = [[Fraction(x) for x in side] for side in (left, right)]
    code = accumulate.dot(values[0], values[1], 1, 200, "fp32")
    assert formats.decode("fp32", code) == Fraction(float(float32_chain(left, right)))


def test_lanes_and_chunks_change_the_bits() -> None:
    """Swamping by hand: 1s beside 2048 are lost one by one in fp16, survive in a group or their own chunk."""
    ones = [Fraction(1)] * 5
    left = [Fraction(1024), *ones[:4]]
    assert formats.decode("dlfloat16", accumulate.dot(left, ones, 1, 5, "dlfloat16")) == 1032
    assert formats.decode("fp16", accumulate.dot([Fraction(2048), *ones[:4]], ones, 1, 5, "fp16")) == 2048
    assert formats.decode("fp16", accumulate.dot([Fraction(2048), *ones[:4]], ones, 5, 5, "fp16")) == 2052
    assert formats.decode("fp16", accumulate.dot([Fraction(2048), *ones[:4]], ones, 1, 1, "fp16")) == 2048
    spread = [Fraction(2048), Fraction(0), *ones[:2]]
    assert formats.decode("fp16", accumulate.dot(spread, ones[:4], 1, 2, "fp16")) == 2050


def test_specials_travel_through_the_accumulator() -> None:
    """NaN, infinity, overflow and saturation, and one zero only."""
    one, inf, nan = Fraction(1), math.inf, math.nan
    huge = Fraction(65504)
    assert accumulate.dot([inf, -inf], [one, one], 2, 2, "fp16") == 0x7E00
    assert accumulate.dot([inf, -inf], [one, one], 1, 1, "fp16") == 0x7E00
    assert accumulate.dot([inf], [Fraction(0)], 1, 1, "fp16") == 0x7E00
    assert accumulate.dot([inf, -one], [-one, huge], 1, 1, "fp16") == 0xFC00
    assert accumulate.dot([nan], [one], 1, 1, "dlfloat16") == 0x7FFF
    assert accumulate.dot([-huge], [huge], 1, 1, "fp16") == 0xFC00
    assert accumulate.dot([-huge], [huge], 1, 1, "fp16", "saturate") == 0xFBFF
    assert accumulate.dot([inf], [-one], 1, 1, "fp16", "saturate") == 0xFBFF
    assert accumulate.dot([inf, -inf], [one, one], 2, 2, "dlfloat16", "saturate") == 0x7FFF
    assert accumulate.dot([-huge * huge], [huge], 1, 1, "dlfloat16") == 0x7FFF
    assert accumulate.dot([-one], [Fraction(1, 2**40)], 1, 1, "dlfloat16") == 0
    assert accumulate.dot([-one, one], [one, one], 1, 1, "fp16") == 0


def test_matmul_of_codes_by_hand() -> None:
    """int4 x fp4-odd on a 2 x 2 x 2 case worked by hand."""
    a_codes, b_codes = [[1, 0xF], [7, 8]], [[5, 12], [4, 4]]
    codes = accumulate.matmul(a_codes, b_codes, 2, "int4", "fp4_r4_odd", 16, 64, "dlfloat16")
    values = [[formats.decode("dlfloat16", code) for code in row] for row in codes]
    half = Fraction(1, 2)
    assert values == [[2 - half, -half - half], [14 - 4, -7 * half - 4]]


def test_sawb_clip_by_hand() -> None:
    """Weights worked by hand, the fallback to the maximum, and a float64 evaluation inside the tolerance."""
    assert float(quantise.sawb_clip([3.0, -4.0])) == pytest.approx(12.035 * math.sqrt(12.5) - 12.03 * 3.5)
    assert quantise.sawb_clip([1.0, 0.0], bits=8) == pytest.approx(31.76 * math.sqrt(0.5) - 35.04 * 0.5)
    assert quantise.sawb_clip([0.5, -0.5, 0.5], bits=8) == Fraction(1, 2)
    assert quantise.sawb_clip([]) == 0
    assert quantise.sawb_clip([0.0, 0.0]) == 0
    weights = np.random.default_rng(5).normal(0, 0.05, 500)
    by_numpy = 12.035 * math.sqrt(float(np.mean(weights**2))) - 12.03 * float(np.mean(np.abs(weights)))
    clip = quantise.sawb_clip(weights.tolist())
    assert abs(by_numpy - float(clip)) <= quantise.sawb_clip_tolerance(weights.tolist(), epsilon=2.0**-53)


def test_quantisers_by_hand() -> None:
    """SAWB and PACT codes at ties and clips, and the straight-through and alpha gradients."""
    assert [quantise.sawb_code(w, 7.0) for w in (0.5, 1.5, -0.5, -1.5, 99.0, -99.0)] == [0, 2, 0, 14, 7, 9]
    assert quantise.sawb_code(0.3, 0.0) == 0
    assert [quantise.sawb_code(w, 1.0, bits=2) for w in (0.5, 0.51, -0.51)] == [0, 1, 3]
    assert [quantise.pact_code(x, 15.0) for x in (-1.0, 0.5, 1.5, 14.5, 20.0)] == [0, 0, 2, 14, 15]
    assert quantise.pact_alpha_gradient([1.0, 2.0, 4.0], [7.9, 8.0, 9.0], 8.0) == 6
    gradients = [quantise.pact_input_gradient(1.0, x, 8.0) for x in (-1.0, 0.0, 1.0, 8.0)]
    assert gradients == [0, 0, 1, 0]
    assert [quantise.straight_through(3.0, w, 1.0) for w in (-1.5, -1.0, 0.2, 1.01)] == [0, 3, 3, 0]


def test_gradscale_by_hand() -> None:
    """Votes at both edges of (32, 64], and the sign of their sum moves the scale by one octave."""
    edges = (0.0, 32.0, 32.5, 64.0, -64.5)
    assert [quantise.gradscale_vote([g], 1.0) for g in edges] == [1, 1, 0, 0, -1]
    assert quantise.gradscale_vote([], 1.0) == 1
    assert quantise.gradscale_vote([0.5, -0.1], 128.0) == 0
    assert [quantise.gradscale_step(8, votes) for votes in ([1, 1, -1], [-1], [1, -1], [0])] == [16, 4, 8, 8]
