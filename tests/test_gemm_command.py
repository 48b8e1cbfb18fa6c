"""``accelsim gemm`` and its verb: operands, errors against exact arithmetic, mistakes, what is shown."""

from __future__ import annotations

import hashlib
import json
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from array_chips import write_array_chip
from hypothesis import given, settings
from hypothesis import strategies as st

import accelsim
from accelsim.cli import main as shell
from accelsim.errors import InputError
from accelsim.numerics.exact_product import exact_difference
from accelsim.numerics.formats import number_format
from accelsim.run.gemm_error import measure_error, ulp
from accelsim.run.gemm_operands import random_codes


def exact_products(a: np.ndarray[Any, Any], b: np.ndarray[Any, Any]) -> list[list[Fraction]]:
    """The product of two matrices in fractions."""
    rows, columns = a.tolist(), b.T.tolist()
    return [
        [
            sum((Fraction(x) * Fraction(y) for x, y in zip(row, column, strict=True)), Fraction(0))
            for column in columns
        ]
        for row in rows
    ]


def header(text: str) -> bytes:
    """The beginning of a .npy file with that header, and no numbers."""
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


@settings(max_examples=60, deadline=None)
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 3)),
    names=st.tuples(
        *2 * [st.sampled_from(["int4", "fp4_r4_odd", "fp8_e5m2", "dlfloat16", "fp16", "fp32", "log5_sqrt2"])]
    ),
    seed=st.integers(0, 10**6),
)
def test_exact_products_are_those_of_fractions(
    shape: tuple[int, int, int], names: tuple[str, str], seed: int
) -> None:
    """Sliced products, with wide exponents and cancellation, equal rational arithmetic."""
    (m, k, n), rng = shape, np.random.default_rng(seed)
    spread = np.ldexp(rng.normal(size=(m, k)), rng.integers(-12, 12, (m, k)))
    a, b = number_format(names[0]).round(spread), number_format(names[1]).round(rng.normal(size=(k, n)) * 3)
    a[:, -1:] = -a[:, :1]  # what the first product adds, the last takes away where b allows
    values = number_format("fp16").round(
        np.asarray(exact_products(a, b), dtype=np.float64), overflow="saturate"
    )
    difference, product = exact_difference(values, a, b)
    top = max(np.abs(a).max() * np.abs(b).max(), np.abs(values).max())
    for i, row in enumerate(exact_products(a, b)):
        for j, wanted in enumerate(row):
            for got, true in ((product[i, j], wanted), (difference[i, j], Fraction(values[i, j]) - wanted)):
                assert abs(Fraction(got) - true) <= max(abs(true) / 2**50, Fraction(top) / 2**95)


def test_ulps_are_distances_of_neighbours() -> None:
    """An ulp is the step of the format at a magnitude, subnormal and above the largest too."""
    half = number_format("fp16")
    found = ulp(half, np.array([1.0, 1.5, 2.0, 1e-7, 0.0, 65504.0, 1e9]))
    np.testing.assert_array_equal(found, np.ldexp(1.0, [-10, -10, -9, -24, -24, 5, 5]))
    np.testing.assert_array_equal(ulp(number_format("fixed16_2_14"), np.array([0.0, 1.7])), [2**-14] * 2)


def test_errors_by_hand() -> None:
    """Two wrong results of four, one by one ulp and one by four, and one that is infinite."""
    a = np.array([[1.0, 2.0], [4.0, 0.0]])
    b = np.array([[1.0, 0.5], [0.5, 256.0]])
    exact = np.array([[2.0, 512.5], [4.0, 2.0]])
    values = exact + np.array([[2.0**-9, 0.0], [4 * 2.0**-8, np.inf]])
    error = measure_error(values, number_format("fp16"), a, b)
    assert (error.outputs, error.inexact, error.excluded) == (4, 2, 1)
    assert error.max_ulps == 4.0
    assert error.rms_ulps == pytest.approx((17 / 3) ** 0.5)
    assert error.max_absolute == 4 * 2.0**-8
    assert error.max_relative == 4 * 2.0**-8 / 512.5
    assert error.rms_relative == pytest.approx(error.rms_absolute / ((4 + 512.5**2 + 16) / 3) ** 0.5)


def test_errors_where_the_exact_sums_are_zero() -> None:
    """A result that is not zero is infinitely wrong, relatively; JSON says so in a word."""
    wrong = measure_error(np.ones((1, 1)), number_format("fp16"), np.zeros((1, 1)), np.ones((1, 1)))
    assert wrong.as_record()["max_relative"] == "inf"
    right = measure_error(np.zeros((1, 1)), number_format("fp16"), np.zeros((1, 1)), np.ones((1, 1)))
    assert (right.max_relative, right.max_ulps, right.inexact) == (0.0, 0.0, 0)


def test_results_with_infinite_operands_are_left_out() -> None:
    """An infinite or missing operand has no exact sum, so its row or column does not count."""
    a, b = np.array([[np.inf, 1.0], [1.0, 1.0]]), np.array([[1.0, np.nan], [1.0, 1.0]])
    error = measure_error(np.array([[2.0, 2.0], [3.0, 2.0]]), number_format("fp16"), a, b)
    assert (error.excluded, error.inexact, error.max_absolute) == (3, 1, 1.0)


def test_report_has_the_bits_of_matmul() -> None:
    """The verb computes what `accelsim.matmul` computes, and its digest is that of the codes."""
    rng = np.random.default_rng(4)
    a, b = rng.integers(0, 16, (5, 70), np.uint8), rng.integers(0, 16, (70, 9), np.uint8)
    report = accelsim.gemm_report("fp4_training", 5, 70, 9, phase="update", a=a, b=b)
    alone = accelsim.matmul("fp4_training", a, b, "int4", "fp4_r4_odd")
    np.testing.assert_array_equal(report.result.codes, alone.codes)
    assert report.result.plan == alone.plan
    assert report.digest == hashlib.sha256(alone.codes.astype("<u2").tobytes()).hexdigest()
    decoded = number_format("int4").decode(a), number_format("fp4_r4_odd").decode(b)
    wrong = [
        got != want
        for got, want in zip(alone.values.ravel(), np.ravel(exact_products(*decoded)), strict=True)
    ]
    assert report.error.inexact == sum(wrong)
    assert report.cost.macs == 5 * 70 * 9


@pytest.mark.parametrize(
    ("phase", "formats"),
    [
        ("forward", ("int4", "int4")),
        ("backward", ("fp4_r4_even", "int4")),
        ("update", ("int4", "fp4_r4_odd")),
    ],
)
def test_the_phase_fixes_the_formats(phase: Any, formats: tuple[str, str]) -> None:
    """Formats come from the chip's recipe, and the same seed gives the same digest."""
    report = accelsim.gemm_report("fp4_training", 4, 20, 4, phase=phase, seed=3)
    assert (report.a_format.name, report.b_format.name) == formats
    assert accelsim.gemm_report("fp4_training", 4, 20, 4, phase=phase, seed=3).digest == report.digest
    assert accelsim.gemm_report("fp4_training", 4, 20, 4, phase=phase, seed=4).digest != report.digest


def test_random_operands_are_normal() -> None:
    """Mean 0, the promised deviation, no sign where the format has none."""
    for name, deviation in (("fp32", 1.0), ("int8", 127 / 3), ("fp4_e2m1", 2.0)):
        fmt = number_format(name)
        values = fmt.decode(random_codes("a", 1, (300, 300), fmt))
        assert abs(values.mean()) < 0.02 * deviation
        assert values.std() == pytest.approx(deviation, rel=0.03)
    assert number_format("uint4").decode(random_codes("a", 1, (9, 9), number_format("uint4"))).min() == 0


def test_files_of_codes_and_of_values_agree(tmp_path: Path) -> None:
    """Values that a format holds give the digest of their codes; others are rounded once."""
    fmt = number_format("int4")
    codes = np.arange(16, dtype=np.uint8).reshape(2, 8)
    np.save(tmp_path / "codes.npy", np.asfortranarray(codes))
    np.save(tmp_path / "values.npy", (fmt.decode(codes) + 0.25).astype(np.float32))
    digests = {
        accelsim.gemm_report("fp4_training", 2, 8, 3, a=tmp_path / name).digest
        for name in ("codes.npy", "values.npy")
    }
    assert len(digests) == 1
    wide = accelsim.gemm_report("fp4_training", 2, 8, 3, a=codes.astype(np.uint64))
    assert {wide.digest} == digests


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (np.zeros((2, 7), np.uint8), "the array is 2 x 7, but a is M x K = 2 x 8"),
        (np.zeros(8, np.uint8), "the array is 8, but a is M x K = 2 x 8"),
        (np.float32(1), "the array is a single number, but a is M x K = 2 x 8"),
        (
            np.zeros((2, 8), np.int64),
            "the array is int64; give codes of int4 as unsigned integers (uint8), or values",
        ),
        (np.zeros((2, 8), complex), "the array is complex128; give codes of int4 as unsigned integers"),
        (np.full((2, 8), 16, np.uint8), "int4: code 16 does not fit in 4 bits; allowed: 0..15"),
        (np.full((2, 8), np.nan), "int4: the format has no NaN, but the values hold one"),
        (
            np.full((2, 8), None),
            "cannot read the array: it holds Python objects, not numbers",
        ),
        (b"\x93NUMPY\x01\x00\x05", "cannot read the array: its header is damaged"),
        (header("{'descr': '<f4', 'shape': (4,\n"), "cannot read the array: its header is damaged"),
        (
            header("{'descr': '<f4', 'fortran_order': False, 'shape': (4, 6), }"),
            "cannot read the array: it holds fewer numbers than its header says",
        ),
        (b"not an array", "cannot read the array: not a .npy file; write one with numpy.save"),
        (None, "cannot read the array: no such file or directory"),
    ],
)
def test_files_with_mistakes(tmp_path: Path, content: Any, text: str) -> None:
    """Whatever is wrong with a file is told in one line behind its name."""
    path = tmp_path / "a.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        np.save(path, content, allow_pickle=True)
    with pytest.raises(InputError) as caught:
        accelsim.gemm_report("fp4_training", 2, 8, 3, a=path)
    assert str(caught.value).startswith(f"{path}: {text}")
    assert "\n" not in str(caught.value)


def test_arrays_with_mistakes_are_named() -> None:
    """An array in memory has no file: the operand's name stands in front."""
    with pytest.raises(InputError, match=r"^b: the array is 3 x 8, but b is K x N = 8 x 3$"):
        accelsim.gemm_report("fp4_training", 2, 8, 3, b=np.zeros((3, 8), np.uint8))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["0", "1", "1"], "M must be at least 1, got 0"),
        (["1", "-7", "1"], "M, K and N must be at least 1, got -7 (see accelsim gemm --help)"),
        (["1", "1", "x"], "Invalid value for 'N': 'x' is not a whole number"),
        (["1", "1"], "Missing argument 'N' (see accelsim gemm --help)"),
        (["100000"] * 3, "a GEMM of 100000 x 100000 x 100000 would need about 1,490.1 GiB of memory; at "),
        (["6000", "40000", "6000"], "a GEMM of 6000 x 40000 x 6000 would need about 20.6 GiB of memory"),
        (["4097", "4096", "4096"], "a GEMM of 4097 x 4096 x 4096 has 68,736,253,952 products; at most"),
        (["1", "1", "1", "--phase", "forwad"], "Invalid value for '--phase': 'forwad' is not one of"),
        (["1", "1", "1", "--seed", "-1"], "Invalid value for '--seed': must be at least 0, got -1"),
        (["1", "1", "1", "--a-format", "int44"], "a_format: unknown number format 'int44' (did you mean"),
        (["1", "1", "1", "--b-format", "int8"], "layer 'matmul' (forward): chip 'fp4_training' has no mode"),
    ],
)  # fmt: skip
def test_mistakes_are_one_line(capsys: pytest.CaptureFixture[str], words: list[str], text: str) -> None:
    """Sizes and formats that cannot be are refused before anything is computed."""
    assert shell.main(["gemm", "fp4_training", *words]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {text}")
    assert printed.err.count("\n") == 1


def test_a_wrong_phase() -> None:
    """A verb's phase is checked like the command's."""
    with pytest.raises(InputError, match=r"^unknown phase 'forwards' \(did you mean 'forward'\?\)"):
        accelsim.gemm_report("fp4_training", 1, 1, 1, phase="forwards")  # type: ignore[arg-type]


def test_a_recipe_of_blocks_asks_for_formats(capsys: pytest.CaptureFixture[str]) -> None:
    """A block format has no codes of its own; the message says where it came from, and other formats go."""
    assert shell.main(["gemm", "mx_training", "3", "32", "2"]) == 2
    assert "a_format: 'mxfp4' is a block format (recipe 'mxfp4'); a lone GEMM" in capsys.readouterr().err


def test_exact_sums_are_said_to_be_exact(capsys: pytest.CaptureFixture[str]) -> None:
    """A chip with an exact accumulator rounds where a sum is read, not at every product."""
    assert shell.main(["gemm", "eyeriss", "3", "5", "2"]) == 0
    assert "exact sums; one rounding, to fp16, when they are read" in capsys.readouterr().out


def test_json_is_whole_and_adds_up(capsys: pytest.CaptureFixture[str]) -> None:
    """--json holds plan, kernel, digest, error and cost, the same as the verb's record."""
    assert shell.main(["gemm", "fp4_training", "8", "64", "8", "--phase", "backward", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    report = accelsim.gemm_report("fp4_training", 8, 64, 8, phase="backward")
    assert found == report.as_record()
    assert found["result"] == {"format": "dlfloat16", "sha256": report.digest}
    assert found["plan"]["lanes"] == 16
    assert found["error"]["outputs"] == 64
    assert sum(found["cost"]["energy_aj"].values()) == report.cost.energy.total_aj


def test_table_shows_what_was_asked_for(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """The table names operands, order of additions, digest, error, cycles and energy, infinities apart."""
    chip = write_array_chip(tmp_path, [("fp16", "fp16")], lanes=1, accumulator="fp16")
    np.save(tmp_path / "a.npy", np.full((2, 4), 60000.0))
    words = ["gemm", str(chip.path), "2", "4", "2", "--a", str(tmp_path / "a.npy")]
    assert shell.main([*words, "--a-format", "fp16", "--b-format", "fp16"]) == 0
    text = capsys.readouterr().out
    for part in ("2 x 4 fp16", "a.npy", "random, seed 1", "SHA-256", "a rounding every product", "left out",
                 "Error in ulps of fp16", "Cycles", "Utilization", "Energy"):  # fmt: skip
        assert part in text
    assert shell.main(["gemm", "fp4_training", "2", "4", "2"]) == 0
    assert "16 products exactly, then a rounding" in capsys.readouterr().out
