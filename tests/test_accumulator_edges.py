"""Where accumulators go wrong: double rounding, ties, cancellation, saturation and wrapping, dropped bits."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from accumulator_check import check, general, matrix, product
from matmul_check import number_codes
from oracles import accumulators as oracle
from oracles import formats

from accelsim.errors import InputError
from accelsim.numerics.accumulate import multiply
from accelsim.numerics.accumulation import Accumulation

TIE_FACTORS = {"dlfloat16": (41, 25), "fp16": (683, 3)}
"""Two significands whose product is odd and one bit too long for the accumulator: a tie."""

SINGLE = ("fp32", "fp32")


def encoded(name: str, values: list[Any]) -> np.ndarray:
    """Codes of numbers that the format holds exactly."""
    codes = [formats.encode(name, value) for value in values]
    assert [formats.decode(name, code) for code in codes] == values
    return np.array(codes)


def parts(value: Fraction) -> list[tuple[Fraction, Fraction]]:
    """Single-precision numbers, each times one, that add up to ``value``."""
    found = []
    while value:
        part = Fraction(float(np.float32(float(value))))
        found.append((part, Fraction(1)))
        value -= part
    return found


def sums(rule: oracle.Rule, pairs: list[tuple[Any, Any]], name: str = "fp32") -> float:
    """One dot product of factor pairs, by the general kernel, checked against the oracle."""
    a, b = (encoded(name, [pair[side] for pair in pairs]) for side in (0, 1))
    return float(check(rule, a[None, :], b[:, None], (name, name))[0, 0])


@pytest.mark.parametrize("name", TIE_FACTORS)
def test_no_double_rounding_in_a_chain(name: str) -> None:
    """A tie is added to every power of two below it, of both signs: one rounding, in both kernels.

    A sum that goes through single or double precision is rounded twice, and wrong at many distances.
    """
    layout, (x, y) = formats.LADDERS[name], TIE_FACTORS[name]
    lowest = 1 - layout.bias - (layout.fraction_bits if layout.subnormal else -1)
    rule = oracle.Rule(1, 2, name)
    wrong_in_single = wrong_in_double = 0
    for height, sign, flip in itertools.product((-1, 0, 2 if name == "fp16" else 11), (1, -1), (1, -1)):
        tie = (Fraction(2) ** height * x, flip * Fraction(2) ** height * y)
        for power in range(lowest, 2 * height + layout.fraction_bits):
            speck = (sign * Fraction(2) ** (power - power // 2), Fraction(2) ** (power // 2))
            value = sums(rule, [speck, tie], name)
            a, b = encoded(name, [speck[0], tie[0]])[None, :], encoded(name, [speck[1], tie[1]])[:, None]
            fast, kernel = multiply(Accumulation(1, 2, name), matrix(a, name), matrix(b, name))
            assert (fast[0, 0], kernel.split("_")[0]) in ((value, "fma"), (value, "f32"))
            exact = speck[0] * speck[1] + tie[0] * tie[1]
            wrong_in_single += oracle.rounded(rule, Fraction(float(np.float32(float(exact))))) != value
            wrong_in_double += oracle.rounded(rule, Fraction(float(exact))) != value
    assert wrong_in_single > 10
    assert (wrong_in_double > 0) == (name == "dlfloat16")  # half spans too few binades for that


@pytest.mark.parametrize("lanes", [1, 2])
@pytest.mark.parametrize("name", ["dlfloat16", "fp16", "bf16", "fp32", "fp8_e4m3fn"])
def test_no_double_rounding_in_a_group(name: str, lanes: int) -> None:
    """A tie and a product 1 to 120 places below it: together they round up or down, never to even."""
    fraction_bits = formats.LADDERS[name].fraction_bits
    tie_sides = (1 + Fraction(3, 2 ** (fraction_bits + 1)), Fraction(1))
    if name == "fp32":
        tie_sides = (1 + Fraction(1, 2**12), 1 + Fraction(1, 2**12))
    for distance, sign, rounding in itertools.product(
        (1, 2, 3, 28, 29, 30, 31, 52, 53, 54, 120), (1, -1), ("nearest_even", "nearest_up", "nearest_down")
    ):
        power = -fraction_bits - 1 - distance
        speck = (sign * Fraction(2) ** (power // 2), Fraction(2) ** (power - power // 2))
        rule = oracle.Rule(lanes, 2, name, rounding=rounding)
        for pairs in ([tie_sides, speck], [speck, tie_sides]):
            value = sums(rule, pairs)
            if lanes == 2:
                tie = Fraction(tie_sides[0]) * tie_sides[1]
                assert (Fraction(value) > tie) == (sign > 0)


@pytest.mark.parametrize("name", ["dlfloat16", "fp16"])
def test_no_double_rounding_between_chunks(name: str) -> None:
    """Two finished sums whose bits lie at every distance, just above and just below half a step."""
    bits = formats.LADDERS[name].fraction_bits
    for distance in range(bits - 1, bits + 4):
        for low in (1, 1 + Fraction(1, 2**bits), 2 - Fraction(1, 2**bits)):
            for high, sign in itertools.product((1, 1 + Fraction(1, 2**bits)), (1, -1)):
                pairs = [(Fraction(high), Fraction(1)), (sign * low * Fraction(1, 2**distance), Fraction(1))]
                sums(oracle.Rule(1, 1, name), pairs, name)
                sums(oracle.Rule(1, 1, name, k_splits=2), pairs, name)


@pytest.mark.parametrize("readout", ["fp32", "dlfloat16", "fp8_e5m2"])
def test_exact_is_the_sum_rounded_once(readout: str) -> None:
    """Any single-precision numbers, whatever lanes and chunks: the sum of fractions, rounded once."""
    rng = np.random.default_rng(11)
    for k in (1, 2, 65, 700):
        a, b = number_codes("fp32", rng, (2, k)), number_codes("fp32", rng, (k, 2))
        rules = [oracle.Rule(lanes, lanes, "exact", readout=readout) for lanes in (1, 7)]
        one, other = (check(rule, a, b, SINGLE) for rule in rules)
        np.testing.assert_array_equal(one, other)
        for i, j in np.ndindex(2, 2):
            row = [Fraction(formats.decode("fp32", int(code))) for code in a[i]]
            column = [Fraction(formats.decode("fp32", int(code))) for code in b[:, j]]
            total = sum((x * y for x, y in zip(row, column, strict=True)), Fraction(0))
            rounded = oracle.rounded(rules[0], total)
            assert float(one[i, j]) == rounded or rounded != rounded


def test_cancellation() -> None:
    """What survives a cancellation is exact in one group, and what was rounded away before it is gone."""
    big = (Fraction(2) ** 100, Fraction(1))
    pairs = [big, (Fraction(3), Fraction(1)), (-big[0], Fraction(1))]
    assert sums(oracle.Rule(3, 3, "fp16", "infinity"), pairs) == 3
    assert sums(oracle.Rule(1, 3, "fp32"), pairs) == 0
    assert sums(oracle.Rule(1, 3, "exact"), pairs) == 3
    assert sums(oracle.Rule(3, 3, "int8"), pairs) == 3
    assert sums(oracle.Rule(1, 3, "int8"), pairs) == -128
    assert sums(oracle.Rule(1, 3, "int8", "wrap"), pairs) == 3


@pytest.mark.parametrize("name", ["int4", "int8", "int16", "int32", "int48", "fixed4.4", "fixed1.1"])
def test_saturation_and_wrapping(name: str) -> None:
    """Sums at, one step inside and one step beyond both ends, by each rounding; and very far beyond."""
    width, fraction = oracle.fixed_bits(name) or (0, 0)
    unit, half = Fraction(1, 1 << fraction), 1 << (width - 1)
    ends = [half - 2, half - 1, half, -half, -half - 1, -half + 1, 2 * half, 6 * half + 1, -6 * half - 1]
    for end, quarter in itertools.product(ends, (0, 1, 2, 3, -1, -2)):
        pairs = [(Fraction(0), Fraction(0)), *parts((end + Fraction(quarter, 4)) * unit)]
        for overflow, rounding in itertools.product(
            ("saturate", "wrap"), ("format", "nearest_up", "toward_zero")
        ):
            sums(oracle.Rule(4, 4, name, overflow, rounding), pairs)
    far = (Fraction(2) ** 100 + Fraction(2) ** 90, Fraction(2) ** 20)
    for sign in (1, -1):
        pairs = [(sign * far[0], far[1]), (-sign * unit, Fraction(3, 8)), (unit, Fraction(1))]
        for rounding in ("format", "toward_zero", "to_odd", "stochastic"):
            sums(oracle.Rule(3, 3, name, "wrap", rounding), pairs)
            sums(oracle.Rule(3, 3, name, "saturate", rounding), pairs)


def test_integers_wrap_like_machine_words() -> None:
    """int16 and int32 that wrap at every add end at the sum modulo 2**16 and 2**32."""
    rng = np.random.default_rng(3)
    a, b = rng.integers(0, 256, (4, 3000)), rng.integers(0, 256, (3000, 4))
    exact = a.astype(np.int8).astype(np.int64) @ b.astype(np.int8).astype(np.int64)
    for name, dtype in (("int16", np.int16), ("int32", np.int32)):
        for lanes in (1, 4):
            wrapped = product(oracle.Rule(lanes, 64, name, "wrap"), a, b, ("int8", "int8"))
            np.testing.assert_array_equal(wrapped, exact.astype(dtype))


def test_an_aligning_adder_drops_bits() -> None:
    """A window of four bits below 8 keeps multiples of 1/2, toward zero, of each term before the sum."""
    eight, terms = (Fraction(8), Fraction(1)), [(Fraction(3, 4), Fraction(1)), (Fraction(-7, 8), Fraction(1))]
    assert sums(oracle.Rule(3, 3, "fp32"), [eight, *terms]) == 7.875
    assert sums(oracle.Rule(3, 3, "fp32", alignment_bits=4), [eight, *terms]) == 8.0
    assert sums(oracle.Rule(3, 3, "fp32", alignment_bits=2), [eight, *terms]) == 8.0
    assert sums(oracle.Rule(3, 3, "fp32", alignment_bits=5), [eight, *terms]) == 8.0
    assert sums(oracle.Rule(3, 3, "fp32", alignment_bits=6), [eight, *terms]) == 7.875
    # a product is not normalised: 1.5 x 1.5 has exponent 0, so one bit below it is 1/2
    assert sums(oracle.Rule(1, 1, "fp32", alignment_bits=1), [(Fraction(3, 2), Fraction(3, 2))]) == 2.0


@pytest.mark.parametrize("name", ["fp8_e4m3fn", "fp8_e5m2", "fp16", "bf16"])
def test_a_wide_window_drops_nothing(name: str) -> None:
    """A window wider than all exponents of the operands and the accumulator changes no bit."""
    rng = np.random.default_rng(5)
    codes = number_codes("fp8_e4m3fn", rng, (6, 40)), number_codes("fp8_e4m3fn", rng, (40, 6))
    names = ("fp8_e4m3fn", "fp8_e4m3fn")
    exact = general(oracle.Rule(4, 8, name), *codes, names)
    np.testing.assert_array_equal(general(oracle.Rule(4, 8, name, alignment_bits=64), *codes, names), exact)
    narrow = general(oracle.Rule(4, 8, name, alignment_bits=2), *codes, names)
    assert (narrow != exact).any()


def test_infinities_and_nans() -> None:
    """They travel through floats that have them, saturate where asked, and stop where there is no code."""
    one, infinity, nan = (formats.encode("fp32", 1.0), 0x7F800000, 0x7FC00000)
    for code, name, overflow in itertools.product(
        (infinity, infinity | 1 << 31, nan),
        ("fp16", "dlfloat16", "fp8_e4m3fn"),
        ("format", "saturate", "nan"),
    ):
        check(oracle.Rule(2, 2, name, overflow), np.array([[code, one, one]]), np.array([[one]] * 3), SINGLE)
    both = np.array([[infinity, infinity | 1 << 31]])
    check(oracle.Rule(2, 2, "fp16"), both, np.array([[one]] * 2), SINGLE)
    check(oracle.Rule(1, 2, "int8"), both, np.array([[one]] * 2), SINGLE)
    for rule, codes in (
        (oracle.Rule(2, 2, "int8"), both),
        (oracle.Rule(2, 2, "fp8_e4m3_ibm"), both),
        (oracle.Rule(1, 1, "int32", "wrap"), both[:, :1]),
        (oracle.Rule(1, 1, "exact", readout="fp6_e2m3"), np.array([[nan]])),
    ):
        with pytest.raises(
            InputError, match=r"a sum is not a number, and the accumulator's format \w+ has no"
        ):
            general(rule, codes, np.array([[one]] * codes.shape[1]), SINGLE)


PROCESS = """\
import hashlib
import numpy as np
from oracles import formats
from accumulator_check import general
from oracles.accumulators import Rule

rng, digest = np.random.default_rng(1), hashlib.sha256()
a, b = rng.integers(0, 0x7C00, (2, 20)), rng.integers(0, 0x7C00, (20, 2))
for name in ("bf16", "fp8_e5m2", "int24", "fixed9.7", "exact", "fp4_r4_odd"):
    for rounding in ("format", "stochastic", "to_odd"):
        aligned = 7 if name in ("bf16", "fp8_e5m2") else None
        rule = Rule(3, 6, name, "format", rounding, aligned, 2, seed=2**64 - 5)
        digest.update(general(rule, a, b, ("fp16", "fp16")).tobytes())
digest.update(general(Rule(3, 6, "int8", "wrap"), a, b, ("fp16", "fp16")).tobytes())
print(digest.hexdigest())
"""


def test_the_kernel_is_the_same_without_a_compiler() -> None:
    """Python runs the general kernel's source to the same bits as the compiled one, without a warning."""
    digests = []
    for disabled in ("0", "1"):
        paths = os.pathsep.join([str(Path(__file__).parent), str(Path(__file__).parent.parent)])
        environment = os.environ | {"NUMBA_DISABLE_JIT": disabled, "PYTHONPATH": paths}
        command = [sys.executable, "-W", "error", "-c", PROCESS]
        run = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        digests.append(run.stdout)
    assert digests[0] == digests[1]
    assert len(digests[0].strip()) == 64
