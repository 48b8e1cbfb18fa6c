"""`accelsim.matmul` against the oracle where rounding is hard: far-off bits, range ends, specials."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from array_chips import write_array_chip
from matmul_check import ACCUMULATORS, OVERFLOWS, check, encoded, number_codes, special_codes
from oracles import accumulate, formats

WIDE = ["fp8_e4m3_ibm", "fp8_e5m2_ibm", "fp8_e4m3fn", "fp8_e5m2", "dlfloat16", "fp16", "bf16", "fp32"]


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("accumulator", ACCUMULATORS)
@pytest.mark.parametrize("name", WIDE)
def test_chains_of_wide_operands(tmp_path: Path, name: str, accumulator: str, overflow: str) -> None:
    """One lane is a chain of fused multiply-adds in every operand format and every accumulator."""
    rng = np.random.default_rng(len(name))
    chip = write_array_chip(tmp_path, [(name, name)], rows=16, accumulator=accumulator, overflow=overflow)
    check(chip, number_codes(name, rng, (3, 37)), number_codes(name, rng, (37, 3)), name, name)


@pytest.mark.parametrize("lanes", [2, 5, 64])
@pytest.mark.parametrize("accumulator", ACCUMULATORS)
@pytest.mark.parametrize("name", WIDE)
def test_exact_groups_of_wide_operands(tmp_path: Path, name: str, accumulator: str, lanes: int) -> None:
    """Nothing is rounded inside a group, however far apart its products are."""
    rng = np.random.default_rng(lanes)
    chip = write_array_chip(tmp_path, [(name, name)], lanes=lanes, rows=2, accumulator=accumulator)
    k = 2 * lanes + 3
    check(chip, number_codes(name, rng, (2, k)), number_codes(name, rng, (k, 2)), name, name)


@pytest.mark.parametrize("lanes", [3, 7, 64])
@pytest.mark.parametrize("accumulator", ACCUMULATORS)
@pytest.mark.parametrize("name", WIDE)
def test_cancellation_inside_a_group(tmp_path: Path, name: str, accumulator: str, lanes: int) -> None:
    """Products that cancel exactly, in any order within the group, leave the one that does not."""
    rng = np.random.default_rng(lanes)
    chip = write_array_chip(tmp_path, [(name, name)], lanes=lanes, rows=2, accumulator=accumulator)
    pairs = (lanes - 1) // 2
    x, y = number_codes(name, rng, (pairs,)), number_codes(name, rng, (pairs,))
    left, right = formats.encode(name, 1.0), rng.choice(special_codes(name))
    a = np.concatenate([x, x, [left]])
    b = np.concatenate([y, y ^ formats.LADDERS[name].sign_bit, [right]])
    for _ in range(8):
        order = rng.permutation(len(a))
        result = check(chip, a[None, order], b[order, None], name, name)
        alone = accumulate.round_to(accumulator, formats.decode(name, int(right)), chip.overflow)
        assert int(result.codes[0, 0]) == alone


MIXED = [
    ("int4", "dlfloat16"),
    ("uint8", "bf16"),
    ("fp8_e4m3_ibm", "fp8_e5m2_ibm"),
    ("fp6_e3m2", "int8"),
    ("fp16", "bf16"),
    ("int2", "uint2"),
    ("fp4_r4_odd", "fp32"),
]


@pytest.mark.parametrize("lanes", [1, 4])
@pytest.mark.parametrize(("a_format", "b_format"), MIXED)
def test_mixed_operands(tmp_path: Path, a_format: str, b_format: str, lanes: int) -> None:
    """Operands of different widths and kinds meet in one product, in either order."""
    rng = np.random.default_rng(lanes)
    for accumulator in ACCUMULATORS:
        chip = write_array_chip(tmp_path, [(a_format, b_format)], lanes=lanes, accumulator=accumulator)
        a, b = number_codes(a_format, rng, (2, 19)), number_codes(b_format, rng, (19, 2))
        check(chip, a, b, a_format, b_format)
        check(chip, b.T, a.T, b_format, a_format)


def test_sticky_bit_at_the_other_end_of_the_range(tmp_path: Path) -> None:
    """dlfloat16: a tie near 2^32 is broken by an accumulator near 2^-31, 53 places below the tie's bit."""
    chip = write_array_chip(tmp_path, [("dlfloat16", "dlfloat16")], rows=8)
    tie_a, tie_b = 41.0 * 2**11, 25.0 * 2**11
    for sign, speck in itertools.product((1, -1), (2.0**-15, -(2.0**-15), 0.0)):
        a = encoded("dlfloat16", [speck, tie_a])[None, :]
        b = encoded("dlfloat16", [2.0**-15, sign * tie_b])[:, None]
        result = check(chip, a, b, "dlfloat16", "dlfloat16")
        rounded_up = speck * sign >= 0
        assert abs(float(result.values[0, 0])) == 2.0**32 * (1 + (1 if rounded_up else 0) / 512)


TIE_FACTORS = {"dlfloat16": (41, 25), "fp16": (683, 3), "bf16": (9, 29), "fp32": (24929, 673)}
"""Two significands whose product is odd and one bit too long for the accumulator: a tie."""


def tie_and_specks(name: str, height: int) -> list[list[tuple[float, float]]]:
    """Dot products of three factor pairs: a tie, lifted by 2^(2 * height), and two far smaller products."""
    x, y = TIE_FACTORS[name]
    smallest = formats.min_positive(name)
    middle = -(math.frexp(float(smallest))[1] // 2)
    speck = (float(smallest * 2**middle), 2.0**-middle)
    under = (float(smallest), float(smallest))
    rows = []
    for (left, right), sign, flip in itertools.product((speck, under), (1, -1), (1, -1)):
        tie = (x * 2.0**height, sign * y * 2.0**height)
        rows.extend(itertools.permutations([tie, (left, flip * right), (left, -right)]))
    return [list(row) for row in rows]


@pytest.mark.parametrize("lanes", [1, 2, 3])
@pytest.mark.parametrize(
    ("name", "heights"),
    [("dlfloat16", (-16, 0, 11)), ("fp16", (-10, 0, 2)), ("bf16", (-60, 0, 59)), ("fp32", (-80, 0, 51))],
)
def test_sticky_bits(tmp_path: Path, name: str, heights: tuple[int, ...], lanes: int) -> None:
    """Ties low and high, broken or not by the accumulator's smallest number or a product below it."""
    chip = write_array_chip(tmp_path, [(name, name)], lanes=lanes, accumulator=name)
    for height in heights:
        rows = tie_and_specks(name, height)
        a = np.array([encoded(name, [left for left, _ in row]) for row in rows])
        b = np.array([encoded(name, [right for _, right in row]) for row in rows])
        for start in range(0, len(rows), 6):
            check(chip, a[start : start + 6], b[start : start + 6].T, name, name)


@pytest.mark.parametrize("accumulator", ["dlfloat16", "fp16", "fp32"])
@pytest.mark.parametrize("name", ["dlfloat16", "fp16", "fp8_e5m2_ibm"])
def test_every_spread_of_magnitudes(tmp_path: Path, name: str, accumulator: str) -> None:
    """Chains whose products span 0, 2, 4, ... octaves: large ones first, then specks, signs mixed or not.

    A fast kernel may be chosen by that spread, so each meets the oracle at the limits of what it can do.
    """
    rng = np.random.default_rng(12)
    chip = write_array_chip(tmp_path, [(name, name)], rows=64, accumulator=accumulator)
    layout = formats.LADDERS[name]
    octaves = layout.top >> layout.fraction_bits
    for spread in range(min(octaves, 34)):
        low = int(rng.integers(0, octaves - spread))
        codes = np.full((4, 70), (low + spread) << layout.fraction_bits)
        codes[:, -3:] = low << layout.fraction_bits
        codes += rng.integers(1, 1 << layout.fraction_bits, codes.shape)
        codes[2:] |= np.where(rng.random((2, 70)) < 0.5, layout.sign_bit, 0)
        check(chip, codes[1:3], codes[[0, 3]].T, name, name)


@pytest.mark.parametrize("accumulator", ACCUMULATORS)
def test_cancellation_between_groups(tmp_path: Path, accumulator: str) -> None:
    """x * y - x * y in two steps leaves exactly what the first rounding lost."""
    rng = np.random.default_rng(4)
    chip = write_array_chip(tmp_path, [("fp16", "fp16")], accumulator=accumulator)
    x, y = rng.integers(0x3000, 0x4400, (6, 1)), rng.integers(0x3000, 0x4400, (1, 6))
    check(chip, np.hstack([x, x ^ 0x8000]), np.vstack([y, y]), "fp16", "fp16")


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize(
    ("accumulator", "name"),
    [("dlfloat16", "dlfloat16"), ("fp16", "fp16"), ("bf16", "bf16"), ("fp32", "bf16")],
)
def test_edge_of_the_range(tmp_path: Path, accumulator: str, name: str, overflow: str) -> None:
    """The largest number, half a unit above it, and one step back from there, by both overflow rules."""
    chip = write_array_chip(tmp_path, [(name, name)], rows=8, accumulator=accumulator, overflow=overflow)
    largest = float(formats.max_value(accumulator))
    unit = largest - float(formats.rung(accumulator, formats.LADDERS[accumulator].top - 1))
    if name != accumulator:
        largest = float(formats.max_value(name))
    for step in (0.25, 0.5, 1.0, -0.5, -1.0):
        product = Fraction(unit) * Fraction(step)
        right = 2.0 ** (math.frexp(float(abs(product)))[1] // 2)
        left = float(product / Fraction(right))
        for sign in (1.0, -1.0):
            steps = [(largest, sign), (left, sign * right), (left, sign * right), (-largest, sign)]
            a = encoded(name, [x for x, _ in steps])[None, :]
            check(chip, a, encoded(name, [y for _, y in steps])[:, None], name, name)


@pytest.mark.parametrize("accumulator", ACCUMULATORS)
def test_bottom_of_the_range(tmp_path: Path, accumulator: str) -> None:
    """Products around the smallest number and below it flush, stay or go subnormal, and zero has one code."""
    name = "bf16" if accumulator in ("bf16", "fp32") else accumulator
    chip = write_array_chip(tmp_path, [(name, name)], rows=8, accumulator=accumulator)
    smallest = formats.min_positive(accumulator)
    half = -(math.frexp(float(smallest))[1] // 2)
    left = np.array([formats.encode(name, float(smallest * 2**half * n / 8)) for n in range(-20, 21)])
    b = encoded(name, [2.0**-half, 0.0])[:, None]
    result = check(chip, np.stack([left, left], axis=1), b, name, name)
    assert not (result.codes == formats.LADDERS[accumulator].sign_bit).any()
    for first, second in itertools.product(left[::4], left[::5]):
        check(chip, np.array([[first, second]]), np.vstack([b[:1], b[:1]]), name, name)


@pytest.mark.parametrize("overflow", OVERFLOWS)
@pytest.mark.parametrize("accumulator", ACCUMULATORS)
@pytest.mark.parametrize("name", ["fp16", "bf16", "fp8_e5m2", "fp8_e4m3fn", "dlfloat16", "fp32"])
@pytest.mark.parametrize("lanes", [1, 3])
def test_nan_and_infinity(tmp_path: Path, name: str, accumulator: str, lanes: int, overflow: str) -> None:
    """Infinities cancel to NaN, times zero give NaN, else stay or saturate; NaN ends as the canonical one."""
    top, sign = formats.LADDERS[name].top, formats.LADDERS[name].sign_bit
    corners = [0, sign, 1, formats.encode(name, -1.0), top + 1, sign | (top + 1), sign - 1, 2 * sign - 1]
    triples = np.array(list(itertools.product(corners, repeat=3)))[:: 5 if lanes == 1 else 11]
    chip = write_array_chip(
        tmp_path, [(name, name)], lanes=lanes, rows=3, accumulator=accumulator, overflow=overflow
    )
    columns = np.array([[formats.encode(name, 1.0)] * 3, [0, formats.encode(name, -1.0), sign | top]]).T
    check(chip, triples, columns, name, name)
