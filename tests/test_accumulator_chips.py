"""Accumulators from a chip's file to its results: keys, plans, widths, codes, scales, mistakes."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_chips import write_array_chip
from hand_plan import hand_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from matmul_check import number_codes
from oracles import accumulators as oracle
from small_workloads import PERCEPTRON, write_workload

import accelsim
from accelsim.datapath.gemm import accumulate, odd_product, rule_of, scaled_product
from accelsim.errors import InputError
from accelsim.mapping.edges import edge_bytes
from accelsim.mapping.passes import ArrayCounts
from accelsim.network import Operand
from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import accumulator_bits, accumulator_format
from accelsim.numerics.formats import number_format
from accelsim.operations import Gemm, Tensor
from accelsim.rtl.design import design_of
from accelsim.storage import resource_dir

PAIR = ("int4", "fp4_r4_odd")


def chip_file(folder: Path, accumulator: str, keys: str = "", overflow: str = "format") -> Path:
    """A chip with this accumulator and more keys of its array, on lines of their own."""
    path = write_array_chip(folder, [PAIR], lanes=2, accumulator=accumulator, overflow=overflow).path
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("  output_chunk:", f"{keys}  output_chunk:"), encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("accumulator", "overflow", "keys"),
    [
        ("int16", "wrap", ""),
        ("int32", "format", "  rounding: toward_zero\n"),
        ("fixed6.10", "saturate", "  rounding: stochastic\n"),
        ("fp8_e4m3fn", "saturate", "  rounding: nearest_down\n  alignment_bits: 5\n"),
        ("bf16", "format", "  alignment_bits: null\n"),
        ("exact", "format", ""),
        ("exact", "saturate", "  rounding: to_odd\n"),
    ],
)
def test_a_chip_file_names_any_accumulator(
    tmp_path: Path, accumulator: str, overflow: str, keys: str
) -> None:
    """The keys reach the plan; a product on the chip has the oracle's values, and codes that mean them."""
    rng = np.random.default_rng(1)
    a, b = number_codes(PAIR[0], rng, (3, 33)), number_codes(PAIR[1], rng, (33, 4))
    result = accelsim.matmul(chip_file(tmp_path, accumulator, keys, overflow), a, b)
    plan = result.plan
    rule = oracle.Rule(
        plan.lanes, plan.chunk, accumulator, overflow, plan.rounding, plan.alignment_bits, 1, "dlfloat16"
    )
    given = [key for key in ("rounding", "alignment_bits") if key in keys]
    assert all(f"{key}: {getattr(plan, key) or 'null'}\n" in keys for key in given)
    assert [[Fraction(value) for value in row] for row in result.values.tolist()] == oracle.matmul(
        rule, a.tolist(), b.tolist(), *PAIR
    )
    assert result.format.name == ("dlfloat16" if accumulator == "exact" else accumulator)
    assert result.codes.dtype.kind == "u"
    np.testing.assert_array_equal(result.format.decode(result.codes), result.values)


MISTAKES = [
    ("dlflaot16", "", "format", r":13:3: array.accumulator: unknown accumulator 'dlflaot16' \(did you mean"),
    (
        "int49",
        "",
        "format",
        r"array.accumulator: 'int49': an accumulator has a sign bit and 2..48 bits in all, got 49",
    ),
    (
        "fixed0.8",
        "",
        "format",
        r"array.accumulator: 'fixed0.8': an accumulator has a sign bit and 2..48 bits",
    ),
    ("uint8", "", "format", r"array.accumulator: 'uint8' is unsigned: sums need a signed accumulator"),
    ("log5", "", "format", r"array.accumulator: 'log5' is logarithmic: sums need a signed accumulator"),
    (
        "fixed16_3_4",
        "",
        "format",
        r"array.accumulator: fixed16_3_4: integer and fraction bits must add up to 16",
    ),
    (
        "mxfp4",
        "",
        "format",
        r"array.accumulator: unknown accumulator 'mxfp4'.*; allowed: .*exact.*int<2..48>",
    ),
    (
        "fp16",
        "",
        "wrap",
        r"array.overflow: fp16 cannot overflow to 'wrap'; allowed: format, saturate, infinity, nan",
    ),
    (
        "int8",
        "  alignment_bits: 8\n",
        "format",
        r"array.alignment_bits: must be null: accumulator 'int8' has fixed",
    ),
    (
        "exact",
        "  alignment_bits: 8\n",
        "format",
        r"array.alignment_bits: must be null: accumulator 'exact' loses noth",
    ),
    ("fp16", "  alignment_bits: 0\n", "format", r"array.alignment_bits: .*must be at least 1, got 0"),
    ("fp16", "  rounding: nearest\n", "format", r"array.rounding: .*nearest_even.*'nearest'"),
]


@pytest.mark.parametrize(("accumulator", "keys", "overflow", "message"), MISTAKES)
def test_mistakes_in_a_chip_file(
    tmp_path: Path, accumulator: str, keys: str, overflow: str, message: str
) -> None:
    """Each mistake is one line with file, line, column, key, value and what is allowed."""
    with pytest.raises(InputError, match=message) as caught:
        accelsim.load_chip(chip_file(tmp_path, accumulator, keys, overflow))
    assert len(str(caught.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lanes": 0}, "lanes: must be in 1..64, got 0"),
        ({"lanes": 65}, "lanes: must be in 1..64, got 65"),
        ({"chunk": 0}, "chunk: must be at least 1, got 0"),
        ({"k_splits": 0}, "k_splits: must be at least 1, got 0"),
        ({"seed": -1}, r"seed: must be in 0..2\*\*64-1, got -1"),
        ({"accumulator": "int"}, "accumulator: unknown accumulator 'int'"),
        (
            {"accumulator": "exact", "readout": "int32"},
            "readout: must be a number format of operands or of mem",
        ),
        ({"accumulator": "exact", "readout": "uint8"}, "readout: 'uint8' is unsigned"),
        ({"rounding": "down"}, "rounding: unknown rounding 'down'.*; allowed: format, nearest_even"),
        ({"overflow": "clip"}, "overflow: unknown overflow 'clip'; allowed: format, saturate, infinity"),
        ({"alignment_bits": 0}, "alignment_bits: must be in 1..64 or null, got 0"),
        ({"alignment_bits": 65}, "alignment_bits: must be in 1..64 or null, got 65"),
    ],
)
def test_mistakes_in_a_rule(fields: dict[str, Any], message: str) -> None:
    """A rule that cannot be is refused when it is made, by the field's name."""
    with pytest.raises(InputError, match=f"^accumulation: {message}"):
        Accumulation(**{"lanes": 4, "chunk": 64, "accumulator": "fp16"} | fields)


def test_a_chunk_is_whole_groups() -> None:
    """A chunk that would cut a group of lanes is refused, unless all of K fits into it."""
    operand = Matrix(np.ones((2, 6), np.uint8), number_format("int4"))
    message = "chunk: must be a multiple of the 4 lanes or at least the 6 products, got 5"
    for accumulator in ("fp16", "int8", "exact"):
        with pytest.raises(InputError, match=message):
            multiply(Accumulation(4, 5, accumulator), operand, operand.transposed())
        assert (
            multiply(Accumulation(4, 6, accumulator), operand, operand.transposed())[0].tolist()
            == [[6, 6]] * 2
        )


@pytest.mark.parametrize("accumulator", ["fp16", "bf16", "fixed8.2"])
def test_a_plan_may_split_k(accumulator: str) -> None:
    """``k_splits`` of a plan adds up pieces of K in their order, as the oracle does."""
    rng = np.random.default_rng(2)
    a, b = number_codes(PAIR[0], rng, (4, 50)), number_codes(PAIR[1], rng, (50, 4))
    operands = (
        Matrix(a.astype(np.uint8), number_format(PAIR[0])),
        Matrix(b.astype(np.uint8), number_format(PAIR[1])),
    )
    whole = hand_plan(m=4, k=50, n=4, lanes=2, rows=3, accumulator=accumulator)
    results = []
    for splits in (1, 2, 5, 40):
        plan = replace(whole, k_splits=splits)
        values = accumulate(plan, *operands)[0]
        rule = oracle.Rule(2, 6, accumulator, k_splits=splits)
        assert [[Fraction(v) for v in row] for row in values.tolist()] == oracle.matmul(
            rule, a.tolist(), b.tolist(), *PAIR
        )
        results.append(values.tobytes())
    assert whole.k_splits == 1
    assert len(set(results)) > 1
    assert rule_of(whole) == Accumulation(2, 6, accumulator)


def test_sums_have_their_accumulators_width() -> None:
    """Buffers move the accumulator's own bits; an exact one is as wide as its longest sum needs."""
    assert [accumulator_bits(name, *PAIR, 9) for name in ("int24", "fixed5.7", "fp8_e5m2")] == [24, 12, 8]
    assert (
        accumulator_bits("exact", "int4", "int4", 64) == 14
    )  # 64 x 64 = 2**12, a bit above it, and the sign
    assert accumulator_bits("exact", "int4", "int4", 63) == 13
    assert accumulator_bits("exact", "fp16", "fp16", 1) == 2 * 40 + 1
    gemm = Gemm("l", "forward", 8, 63, 8, "int4", "int4", *(Tensor(name, 504, 4, "saved") for name in "abc"))
    counts = ArrayCounts(psum_writes=5)
    widths = [accumulator_bits(name, "int4", "int4", 63) for name in ("int24", "fp8_e5m2", "exact")]
    assert [edge_bytes(gemm, counts, bits).psums for bits in widths] == [15, 5, 9]


@settings(max_examples=200, deadline=None)
@given(
    whole=st.integers(-(2**47), 2**47 - 1),
    significand=st.integers(1, 2**11 - 1),
    power=st.integers(-40, 40),
    rounding=st.sampled_from(["fp16", "dlfloat16", "bf16"]),
)
def test_scaling_a_wide_sum_rounds_once(whole: int, significand: int, power: int, rounding: str) -> None:
    """A 48-bit sum times an 11-bit factor, stored in 16 bits: the fractions' product rounded once."""
    factor = significand * 2.0**power
    stored = number_format(rounding).round(odd_product(np.array([float(whole)]), factor))[0]
    exact = oracle.rounded(oracle.Rule(1, 1, rounding), whole * Fraction(factor))
    assert stored == exact or (stored != stored and exact != exact)


@pytest.mark.parametrize("accumulator", ["int24", "int48", "fixed30.10", "fp8_e4m3_ibm", "exact"])
def test_scaled_products_of_other_accumulators(accumulator: str) -> None:
    """Sums of any accumulator are scaled and stored with one rounding; one without a scale is only stored."""
    rng = np.random.default_rng(6)
    a, b = (number_codes("int8", rng, (3, 700)), number_codes("int8", rng, (700, 3)))
    plan = hand_plan(m=3, k=700, n=3, lanes=4, rows=16, accumulator=accumulator, readout="dlfloat16")
    values = oracle.matmul(
        oracle.Rule(4, 64, accumulator, readout="dlfloat16"), a.tolist(), b.tolist(), "int8", "int8"
    )
    store = oracle.Rule(1, 1, "dlfloat16")
    for scale in (1.0, 0.0078125, 0.3):
        operands = [Operand(codes.astype(np.uint8), "int8", scale) for codes in (a, b)]
        result = scaled_product(plan, *operands, "dlfloat16")[0]
        factor = Fraction(float(number_format("dlfloat16").round(scale * scale)))
        wanted = [[oracle.rounded(store, value * factor) for value in row] for row in values]
        assert [[Fraction(value) for value in row] for row in result.tolist()] == wanted


def test_codes_of_wide_fixed_point() -> None:
    """Codes and values of int24 and fixed10.30 are inverses, and what is no value has no code."""
    for name in ("int24", "fixed10.30"):
        fmt = accumulator_format(name)
        values = np.array([0, 1, -1, 5, 2 ** (fmt.bits - 1) - 1, -(2 ** (fmt.bits - 1))]) * fmt.unit
        codes = fmt.encode(values)
        assert codes.tolist()[:3] == [0, 1, (1 << fmt.bits) - 1]
        np.testing.assert_array_equal(fmt.decode(codes), values)
        assert (fmt.max_value, fmt.min_value, fmt.min_positive) == (values[4], values[5], values[1])
        assert str(fmt) == name
    for wrong in (0.5, 2.0**23, -(2.0**23) - 1, np.nan):
        with pytest.raises(InputError, match=r"int24: \S+ is not a value of the format"):
            accumulator_format("int24").encode([1.0, wrong])


@pytest.mark.parametrize(
    ("accumulator", "keys", "message"),
    [
        ("int32", "", "no accumulate stage for int32, only for"),
        (
            "fp16",
            "  rounding: toward_zero\n",
            "the accumulate stage for fp16 rounds nearest_even, not toward_zero",
        ),
        ("fp16", "  alignment_bits: 12\n", "keeps every bit; array.alignment_bits must be null"),
    ],
)
def test_verilog_is_refused_for_adders_it_does_not_have(
    tmp_path: Path, accumulator: str, keys: str, message: str
) -> None:
    """No Verilog is written that would add otherwise than the simulator."""
    with pytest.raises(InputError, match=f"none of its modes can be written as Verilog: .*{message}"):
        design_of(accelsim.load_chip(chip_file(tmp_path, accumulator, keys)))
    same = accelsim.load_chip(chip_file(tmp_path, "fp16", "  rounding: nearest_even\n"))
    assert design_of(same).accumulator.name == "fp16"


def test_training_on_a_chip_that_rounds_at_random(tmp_path: Path) -> None:
    """A run repeats bit for bit with any number of threads, and is not the one that rounds to nearest."""
    text = (resource_dir("arch_configs") / "fp4_training.yaml").read_text(encoding="utf-8")
    chip = tmp_path / "random.yaml"
    chip.write_text(text.replace("  overflow: ", "  rounding: stochastic\n  overflow: "), encoding="utf-8")
    workload = write_workload(tmp_path, PERCEPTRON)

    def digest(**options: Any) -> str:
        training = accelsim.train(chip, workload, epochs=1, **options).training
        assert training is not None
        return training.weight_digest

    first = digest(threads=1)
    assert digest(threads=2) == first
    assert accelsim.train("fp4_training", workload, epochs=1).training.weight_digest != first  # type: ignore[union-attr]
