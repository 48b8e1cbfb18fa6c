"""The quantisers of a training step against the oracle: clips, codes, scales and votes."""

from __future__ import annotations

import math
from fractions import Fraction

import naive_vector
import numpy as np
import pytest
from oracles import formats, quantise

from accelsim.datapath import quantisers, vector_kernels
from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.numerics.formats import number_format

STORAGES = ["dlfloat16", "fp16", "bf16"]


def near_steps(step: float, levels: int) -> np.ndarray:
    """All half steps up to twice the range, and their float32 neighbours, both signs."""
    halves = (np.arange(4 * levels + 1) / 2 * step).astype(np.float32)
    around = [halves, np.nextafter(halves, np.float32(0)), np.nextafter(halves, np.float32(math.inf))]
    return np.concatenate([*around, *(-values for values in around)])


def integer_codes(values: np.ndarray, step: float, lowest: int, highest: int, bits: int) -> list[int]:
    """Each value over the step, to the nearest integer, half to even, clamped, as a code."""
    exact_step = Fraction(step)
    rounded = [quantise.half_even(Fraction(float(value)) / exact_step) for value in values]
    return [min(max(value, lowest), highest) % (1 << bits) for value in rounded]


@pytest.mark.parametrize("bits", [2, 4, 8])
def test_sawb_clip(bits: int) -> None:
    """The clip of several weight distributions is the rule's, within the error of honest float32 sums."""
    rng = np.random.default_rng(bits)
    for weights in (rng.normal(0, 0.05, 700), rng.uniform(-1, 1, 311), rng.laplace(0, 3, 1000)):
        single = weights.astype(np.float32)
        exact = float(quantise.sawb_clip(single.tolist(), bits))
        got = quantisers.sawb_clip(single, bits)
        assert abs(got - exact) <= quantise.sawb_clip_tolerance(single.tolist(), bits)


def test_sawb_clip_where_the_rule_gives_none() -> None:
    """A clip that is not positive is replaced by the largest magnitude."""
    weights = np.array([0.5, -0.5, 0.5, -0.25], dtype=np.float32)
    assert quantise.sawb_clip(weights.tolist(), 8) == Fraction(1, 2)
    assert quantisers.sawb_clip(weights, 8) == 0.5


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_sawb_codes(bits: int, storage: str) -> None:
    """Weights at every half step and around round half to even on the symmetric grid; the step is stored."""
    levels = quantise.sawb_levels(bits)
    weights = np.random.default_rng(1).normal(0, 0.05, 3000).astype(np.float32)
    operand = quantisers.sawb(weights, number_format(f"int{bits}"), storage)
    clip = quantisers.sawb_clip(weights, bits)
    assert operand.scale == formats.decode(storage, formats.encode(storage, Fraction(clip) / levels))
    assert operand.array.tolist() == integer_codes(weights, operand.scale, -levels, levels, bits)


@pytest.mark.parametrize("storage", STORAGES)
def test_sawb_ties(storage: str) -> None:
    """Weights halfway between codes, and one float32 step aside, go to the even or nearer code."""
    base = np.random.default_rng(4).normal(0, 0.05, 4000).astype(np.float32)
    number, step = number_format("int4"), 0.015
    for _ in range(6):
        weights = np.concatenate([base, near_steps(step, 3)])
        previous, step = step, quantisers.sawb(weights, number, storage).scale
    assert step == previous, "the added ties still move the step"
    operand = quantisers.sawb(weights, number, storage)
    assert operand.array.tolist() == integer_codes(weights, step, -7, 7, 4)


@pytest.mark.parametrize("storage", STORAGES)
def test_sawb_of_zeros(storage: str) -> None:
    """All-zero weights are all code 0 with scale 1."""
    operand = quantisers.sawb(np.zeros(5, dtype=np.float32), number_format("int4"), storage)
    assert (operand.array.tolist(), operand.scale) == ([0] * 5, 1.0)


def places_of(clipped: quantisers.Clipped) -> list[str]:
    """Where each element lies, in words."""
    return [quantisers.PLACES[place] for place in clipped.places.reshape(-1)]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("clip", [8.0, 6.3, 0.1])
@pytest.mark.parametrize("name", ["uint4", "int4", "uint2", "uint8"])
def test_pact(name: str, clip: float, storage: str) -> None:
    """Activations at every half step and around: codes, and where the gradient passes or goes to the clip."""
    bits = formats.bits(name)
    signed = name.startswith("int")
    levels = (1 << (bits - signed)) - 1
    values = near_steps(clip / levels, levels)
    values = np.concatenate([values, np.float32([clip, -clip, 0.0, -0.0])])
    result = quantisers.pact(values, number_format(name), clip, storage)
    step = result.operand.scale
    assert step == formats.decode(storage, formats.encode(storage, Fraction(clip) / levels))
    lowest = -levels if signed else 0
    assert result.operand.array.tolist() == integer_codes(values, step, lowest, levels, bits)
    magnitudes = [abs(float(value)) if signed else float(value) for value in values]
    inside = [magnitude < clip if signed else 0 < magnitude < clip for magnitude in magnitudes]
    beyond = [
        ("above" if value > 0 else "below") if magnitude >= clip else "outside"
        for value, magnitude in zip(values, magnitudes, strict=True)
    ]
    places = ["inside" if passes else other for passes, other in zip(inside, beyond, strict=True)]
    assert places_of(result) == places


@pytest.mark.parametrize("ties", ["up", "down"])
@pytest.mark.parametrize("exponent", [-20, -1, 0, 7, 30])
@pytest.mark.parametrize(("name", "odd"), [("fp4_r4_even", False), ("fp4_r4_odd", True)])
def test_gradient_codes(name: str, odd: bool, exponent: int, ties: str) -> None:
    """Every threshold of the radix-4 grids, one float32 step aside and random gradients, at any scale."""
    thresholds = np.float32([0.625 * 2.0**n for n in range(-12, 9)])
    rng = np.random.default_rng(2)
    unscaled = np.concatenate(
        [
            thresholds,
            np.nextafter(thresholds, np.float32(0)),
            np.nextafter(thresholds, np.float32(math.inf)),
            np.float32([0.0, 1e-30, 3e30]),
            rng.lognormal(-1, 3, 500).astype(np.float32),
        ]
    )
    values = np.ldexp(np.concatenate([unscaled, -unscaled]), -exponent).astype(np.float32)
    values = np.concatenate([values, np.float32([3e38, -3e38, 1e-45, -1e-45])])
    operand = quantisers.gradient_codes(values, number_format(name), exponent, ties)
    scaled = [math.ldexp(float(value), exponent) for value in values]
    assert operand.array.tolist() == [quantise.radix4_code(value, odd, ties) for value in scaled]
    assert operand.scale == 2.0**-exponent


def test_gradscale_votes() -> None:
    """Votes at both edges of (32, 64] at several scales, and none for an all-zero gradient."""
    for exponent in (-10, 0, 13):
        for edge in (1.0, 32.0, 64.0, 1e6):
            for scaled in (edge, math.nextafter(edge, 0), math.nextafter(edge, math.inf)):
                largest = math.ldexp(scaled, -exponent)
                wanted = quantise.gradscale_vote([largest], Fraction(2) ** exponent)
                assert quantisers.gradscale_vote(largest, exponent) == wanted
    assert quantisers.gradscale_vote(0.0, 5) == 0


def test_first_gradscale() -> None:
    """The first scale puts the largest gradient into (32, 64], so that its vote is to stay."""
    assert quantisers.first_gradscale(0.0) == 0
    for largest in (1.0, 32.0, math.nextafter(32.0, 64), 64.0, 1e-30, 3e38, 2.0**-149, 0.7):
        exponent = quantisers.first_gradscale(largest)
        assert quantise.gradscale_vote([largest], Fraction(2) ** exponent) == 0


@pytest.mark.parametrize("name", [name for name in formats.NAMES if formats.bits(name) <= 8])
def test_cast_to_codes(name: str) -> None:
    """A cast is the format's own rounding, with scale 1."""
    values = np.random.default_rng(3).normal(0, 4, 300).astype(np.float32)
    operand = quantisers.cast(values, number_format(name))
    assert operand.array.tolist() == [formats.encode(name, float(value)) for value in values]
    assert operand.scale == 1.0


@pytest.mark.parametrize("name", ["dlfloat16", "fp16", "bf16", "fp32"])
def test_cast_to_values(name: str) -> None:
    """A cast to more than 8 bits gives the rounded numbers themselves as float32."""
    values = np.random.default_rng(3).normal(0, 4, 300).astype(np.float32)
    operand = quantisers.cast(values, number_format(name))
    wanted = [formats.decode(name, formats.encode(name, float(value))) for value in values]
    assert (operand.array.dtype, operand.scale) == (np.dtype(np.float32), 1.0)
    assert operand.array.tolist() == wanted


def test_the_published_coefficients() -> None:
    """c1 and c2 by bits, as in the public implementation of Choi et al., SysML 2019."""
    assert quantisers.SAWB_COEFFICIENTS == {2: (2.6, -1.71), 4: (12.035, -12.03), 8: (31.76, -35.04)}


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("weight", [0.3, -0.3, 100.0, 1e-4])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_sawb_of_one_weight(bits: int, weight: float, storage: str) -> None:
    """One weight is its own root mean square and mean: clip (c1 + c2)|w|, or |w| where that is negative."""
    single = np.array([[weight]], np.float32)
    operand = quantisers.sawb(single, number_format(f"int{bits}"), storage)
    clip = quantisers.sawb_clip(single, bits)
    factor = sum(quantisers.SAWB_COEFFICIENTS[bits])
    assert clip == pytest.approx(abs(weight) * (factor if factor > 0 else 1), rel=1e-3)
    levels = quantise.sawb_levels(bits)
    assert operand.scale == formats.decode(storage, formats.encode(storage, Fraction(clip) / levels))
    assert operand.array.shape == (1, 1)
    wanted = integer_codes(single.reshape(-1), operand.scale, -levels, levels, bits)
    assert operand.array.reshape(-1).tolist() == wanted


@pytest.mark.parametrize("weight", [1e-12, 1e12, math.inf, math.nan])
def test_sawb_beyond_the_storage_format(weight: float) -> None:
    """A step that the 16 bits cannot hold gives codes all the same: scale 1 below the range, NaN above."""
    operand = quantisers.sawb(np.float32([weight, 0.0]), number_format("int4"), "dlfloat16")
    assert operand.array[1] == 0
    assert operand.scale == 1.0 if weight < 1 else math.isnan(operand.scale)


@pytest.mark.parametrize("name", ["int4", "uint4"])
def test_pact_inside_and_above(name: str) -> None:
    """At 0 and at the clip no gradient passes; signed formats pass 0 and are cut on both sides."""
    values = np.float32([-3, -2, -1, -0.0, 0, 1e-30, 1, 2, 3])
    result = quantisers.pact(values, number_format(name), 2.0, "dlfloat16")
    if name == "uint4":
        assert places_of(result) == ["outside"] * 5 + ["inside"] * 2 + ["above"] * 2
        assert result.operand.array.tolist() == [0, 0, 0, 0, 0, 0, 8, 15, 15]
    else:
        assert places_of(result) == ["below"] * 2 + ["inside"] * 5 + ["above"] * 2
        assert result.operand.array.tolist() == [9, 9, 16 - 4, 0, 0, 0, 4, 7, 7]


@pytest.mark.parametrize("clip", [0.0, -1.0, math.nan, math.inf])
def test_pact_with_a_clip_that_training_has_spoilt(clip: float) -> None:
    """A clip at zero, below it, or not a number gives codes without a warning: a run may diverge."""
    values = np.float32([-1, 0, 1, math.nan, math.inf])
    result = quantisers.pact(values, number_format("uint4"), clip, "dlfloat16")
    assert result.operand.array.max() <= 15
    reached = [bool(value >= clip) for value in values]
    assert [place == "above" for place in places_of(result)] == reached


@pytest.mark.parametrize("name", ["int4", "uint4"])
def test_a_clip_lets_gradients_pass_or_has_them(name: str) -> None:
    """dL/dx is dL/dy inside, else +0; dL/dclip adds dL/dy above and takes it off below, row after row."""
    rng = np.random.default_rng(5)
    values, dy = (rng.normal(0, 2, (700, 3)).astype(np.float32) for _ in range(2))
    if name == "int4":
        values[7, 1] = math.nan
    result = quantisers.pact(values, number_format(name), 2.0, "dlfloat16")
    dx, by_channel = ChipVectorUnit("dlfloat16").clip_backward(dy, result.places)
    places = np.array(places_of(result)).reshape(values.shape)
    assert {"inside", "above"} < set(places.reshape(-1))
    np.testing.assert_array_equal(dx, np.where(np.isin(places, ["inside", "nan"]), dy, 0))
    signs = {"above": 1, "below": -1, "nan": math.nan}
    factors = np.array([[signs.get(place, 0) for place in row] for row in places], np.float32)
    np.testing.assert_array_equal(by_channel, naive_vector.column_sums(dy * factors))


def test_votes_at_32_and_64_exactly() -> None:
    """32 still doubles, just above it stays, 64 stays, just above halves (Sun et al. 2020, section 3.2)."""
    for exponent in (-40, 0, 40, 150):
        scale = 2.0**-exponent
        above = [math.nextafter(edge, math.inf) for edge in (32.0, 64.0)]
        votes = [quantisers.gradscale_vote(m * scale, exponent) for m in (32.0, above[0], 64.0, above[1])]
        assert votes == [1, 0, 0, -1]


@pytest.mark.parametrize("largest", [0.0, math.inf, math.nan])
def test_gradients_that_give_no_vote(largest: float) -> None:
    """All-zero gradients and overflowed ones keep the scale, so that it cannot run away; they start at 1."""
    assert [quantisers.gradscale_vote(largest, exponent) for exponent in (-5, 0, 9)] == [0, 0, 0]
    assert quantisers.first_gradscale(largest) == 0


def test_first_gradscale_of_every_power() -> None:
    """Every power of two a float32 holds, and the numbers beside it, is moved into (32, 64]."""
    powers = np.ldexp(np.float32(1), np.arange(-149, 128)).astype(np.float32)
    near = [powers, np.nextafter(powers, np.float32(0)), np.nextafter(powers, np.float32(math.inf))]
    for largest in np.concatenate(near).tolist():
        if largest:
            assert 32 < math.ldexp(largest, quantisers.first_gradscale(largest)) <= 64


@pytest.mark.parametrize("largest", [2.0**-149, 3e-42, 1e-38, 3e38])
def test_gradients_at_the_ends_of_single_precision(largest: float) -> None:
    """Even there the first scale puts the largest gradient on the largest codes, and the scale undoes it."""
    values = np.float32([largest, -largest, 0.0])
    exponent = quantisers.first_gradscale(float(values[0]))
    for name, odd in (("fp4_r4_even", False), ("fp4_r4_odd", True)):
        operand = quantisers.gradient_codes(values, number_format(name), exponent, "up")
        scaled = [math.ldexp(float(value), exponent) for value in values]
        assert operand.array.tolist() == [quantise.radix4_code(value, odd) for value in scaled]
        assert operand.scale == 2.0**-exponent


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", ["int4", "uint4", "int8", "fp4_e3m0", "fp4_e2m1", "fp8_e5m2_ibm", "log5"])
def test_the_largest_scale_just_fits(name: str, storage: str) -> None:
    """The extremes fall on those of the format, but for the rounding of the step to storage."""
    fmt = number_format(name)
    low = 0 if not fmt.signed else -3
    values = np.random.default_rng(2).uniform(low, 5, 300).astype(np.float32)
    step = quantisers.largest_scale(values, fmt, storage)
    wanted = max(Fraction(float(values.max())) / Fraction(fmt.max_value), 0)
    if fmt.signed:
        wanted = max(wanted, Fraction(float(values.min())) / Fraction(fmt.min_value))
    assert step == formats.decode(storage, formats.encode(storage, Fraction(float(wanted))))


@pytest.mark.parametrize("values", [[0.0, 0.0], [], [math.nan, 1.0], [math.inf, 1.0], [-math.inf]])
def test_scales_of_nothing_and_of_what_is_not_finite(values: list[float]) -> None:
    """There the scale is 1."""
    array = np.float32(values)
    assert quantisers.largest_scale(array, number_format("int4"), "bf16") == 1.0
    assert quantisers.power_scale(array, number_format("int4")) == 1.0
    assert quantisers.rms_scale(array, number_format("int4"), 2.5, "bf16") == 1.0


@pytest.mark.parametrize(("name", "deviations"), [("int4", 2.5), ("uint4", 3.8), ("int4", 100.0)])
def test_the_clip_at_so_many_deviations(name: str, deviations: float) -> None:
    """The clip is the rule's, or the largest magnitude if that is nearer; the step is a stored number."""
    fmt = number_format(name)
    values = np.random.default_rng(3).normal(0, 3, 4000).astype(np.float32)
    values = values if fmt.signed else np.maximum(values, 0)
    square = math.fsum(float(value) ** 2 for value in values) / values.size
    clip = min(deviations * math.sqrt(square), float(np.abs(values).max()))
    step = quantisers.rms_scale(values, fmt, deviations, "dlfloat16")
    assert step == pytest.approx(clip / fmt.max_value, rel=2.0**-9)
    assert number_format("dlfloat16").round(step) == step


@pytest.mark.parametrize("signed", [True, False])
def test_the_clip_of_normal_numbers_is_the_best(signed: bool) -> None:
    """At 2.5 (signed) and 3.8 (their positive half) deviations 4 bits lose least, to a few percent."""
    fmt = number_format("int4" if signed else "uint4")
    values = np.random.default_rng(4).normal(0, 1, 50_000).astype(np.float32)
    values = values if signed else np.maximum(values, 0)

    def error(deviations: float) -> float:
        step = quantisers.rms_scale(values, fmt, deviations, "dlfloat16")
        operand = quantisers.scaled(values, fmt, step, lowest=-fmt.max_value if signed else 0.0)
        return float(((fmt.decode(operand.array) * step - values) ** 2).mean())

    best = min(error(0.1 * tenths) for tenths in range(15, 60))
    assert error(2.5 if signed else 3.8) < 1.05 * best


def test_power_scale_is_the_smallest_power_that_fits() -> None:
    """Nothing saturates, and with half the scale something would."""
    fmt = number_format("log5")
    for largest in (1.0, 3.0, 128.0, 129.0, 2.0**-20, 0.75 * 2.0**-7):
        step = quantisers.power_scale(np.float32([0.0, -largest]), fmt)
        assert math.frexp(step)[0] == 0.5
        assert largest / step <= fmt.max_value < 2 * largest / step


@pytest.mark.parametrize("name", ["int4", "uint4", "fp4_e3m0", "fp4_e2m1", "fp8_e4m3_ibm"])
@pytest.mark.parametrize("rounding", ["format", "nearest_even", "stochastic", "toward_zero"])
def test_scaled_codes(name: str, rounding: str) -> None:
    """Quotients in single precision, clipped, and rounded once by the format's definition."""
    fmt = number_format(name)
    values = np.random.default_rng(5).normal(0, 9, 500).astype(np.float32)
    key = 11 if rounding == "stochastic" else None
    operand = quantisers.scaled(values, fmt, 0.75, rounding, key)
    quotients = np.clip(values / np.float32(0.75), fmt.min_value, fmt.max_value)
    wanted = fmt.encode(quotients, None if rounding == "format" else rounding, key=key)
    assert (operand.scale, operand.format) == (0.75, name)
    assert (fmt.decode(operand.array) == fmt.decode(wanted)).all()


def test_a_nan_becomes_zero_where_there_is_none() -> None:
    """A run that diverges goes on; a format with a NaN keeps it."""
    values = np.float32([math.nan, 1.0])
    assert quantisers.cast(values, number_format("fp8_e5m2_ibm")).array.tolist()[0] == 0
    fmt = number_format("fp8_e5m2")
    assert np.isnan(fmt.decode(quantisers.cast(values, fmt).array)[0])
    assert quantisers.scaled(values, number_format("int4"), 1.0).array.tolist() == [0, 1]
    assert quantisers.scaled(values, number_format("fp4_e2m1"), 1.0, "stochastic", 1).array.tolist() == [0, 2]


@pytest.mark.parametrize(
    ("name", "top"), [("fp4_r4_even", 64), ("fp4_e3m0", 8), ("fp4_r16", 4096), ("fp4_e2m1", 4)]
)
def test_gradscale_of_other_formats(name: str, top: float) -> None:
    """The largest gradient is held in the highest binade of the format, whatever its radix."""
    fmt = number_format(name)
    assert quantisers.gradscale_top(fmt) == top
    for largest in (0.3, 1.0, 17.0, 2.0**-30):
        exponent = quantisers.first_gradscale(largest, top)
        assert top / 2 < math.ldexp(largest, exponent) <= top
        votes = [quantisers.gradscale_vote(largest, exponent + move, top) for move in (-1, 0, 1)]
        assert votes == [1, 0, -1]


def test_gradients_of_other_formats() -> None:
    """Scaled by a power of two, rounded by the format, undone by the scale."""
    values = np.random.default_rng(6).normal(0, 1, 400).astype(np.float32)
    for name in ("fp4_e3m0", "fp4_r8", "fp8_e5m2_ibm", "dlfloat16"):
        fmt = number_format(name)
        operand = quantisers.gradient_codes(values, fmt, 3)
        wanted = fmt.round(np.clip(values * 8.0, fmt.min_value, fmt.max_value))
        got = fmt.decode(operand.array) if fmt.bits <= 8 else operand.array
        assert (got == wanted).all()
        assert operand.scale == 0.125


def test_the_threshold_of_radix_4() -> None:
    """With 2.0 a magnitude becomes 4**n from 4**n / 2 on; with 1.6 from the arithmetic middle on."""
    fmt = number_format("fp4_r4_even")
    for threshold, ties in ((1.6, 0.625), (2.0, 0.5)):
        for power in (-3, 0, 2):
            edge = ties * 4.0**power
            near = np.float32([np.nextafter(np.float32(edge), np.float32(0)), edge])
            codes = quantisers.gradient_codes(near, fmt, 0, threshold=threshold).array
            below = 4.0 ** (power - 1) if power > -3 else 0.0
            assert fmt.decode(codes).tolist() == [below, 4.0**power]


@pytest.mark.parametrize("has_nan", [True, False])
@pytest.mark.parametrize("step", [0.3, 2.0**-130, 0.0])
def test_clipped_quotients(step: float, has_nan: bool) -> None:
    """Bit for bit what division, clip and choice give one after another, infinities and NaNs among them."""
    ends = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e38, -1e38, 1e-45, 2.1, -2.1]
    values = np.array([*ends, *np.random.default_rng(3).normal(size=90)], np.float32)
    for low, high in ((0.0, 15.0), (-7.0, 7.0)):
        with np.errstate(all="ignore"):
            wanted = np.clip(values / np.float32(step), np.float32(low), np.float32(high))
        if not has_nan:
            wanted = np.where(np.isnan(wanted), np.float32(0), wanted)
        found = np.empty_like(values)
        limits = np.float32(low), np.float32(high)
        vector_kernels.clipped_quotients(values, np.float32(step), *limits, has_nan, found)
        numbers = ~np.isnan(wanted)
        assert (np.isnan(found) == ~numbers).all()
        assert found[numbers].tobytes() == wanted[numbers].tobytes()
