"""Formats of one's own: the fields of the record in a YAML file, each mistake with its place."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from dataclasses import fields, replace
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from accelsim.cli import main as shell
from accelsim.errors import InputError
from accelsim.numerics.formats import NumberFormat, format_names, load_format, number_format

RIGHT = """\
name: fp6_flush
bits: 6
kind: float
exponent_bits: 3
fraction_bits: 2
bias: 3
lowest_binade: zero
source: our own
"""


def written(folder: Path, text: str) -> Path:
    """A file of this text."""
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_file_is_a_format(tmp_path: Path) -> None:
    """The fields of a file are those of the record; what is left out has the record's default."""
    path = written(tmp_path, RIGHT)
    wanted = NumberFormat(
        "fp6_flush", 6, "float", exponent_bits=3, fraction_bits=2, bias=3, lowest_binade="zero",
        source="our own",
    )  # fmt: skip
    assert load_format(path) == number_format(path) == number_format(str(path)) == wanted


@pytest.mark.parametrize("name", format_names())
def test_every_format_of_the_catalog_can_be_written(name: str, tmp_path: Path) -> None:
    """A file with all fields of a catalog format, under another name, is that format."""
    wanted = replace(number_format(name), name="mine")
    text = "".join(f"{field.name}: {json.dumps(getattr(wanted, field.name))}\n" for field in fields(wanted))
    assert load_format(written(tmp_path, text)) == wanted


def test_a_zero_binade_with_fractions(tmp_path: Path) -> None:
    """Where the whole lowest binade means zero, its codes decode to zero and are never produced."""
    number = load_format(written(tmp_path, RIGHT))
    grid = [0.0] * 4 + [(1 + fraction / 4) * 2.0**power for power in range(-2, 5) for fraction in range(4)]
    assert [value for _, value in number.table()][:32] == grid
    assert (number.min_positive, number.first_code, number.unit) == (0.25, 4, 2.0**-4)
    # the place below 0.25 is 1.75 * 2**-3, so 0.234375 is the tie; its even code is that of 0.25
    values = [0.234375, math.nextafter(0.234375, 0), 1e-300, -0.1, 0.25, 28.0]
    assert number.encode(values).tolist() == [4, 0, 0, 32, 4, 31]
    assert number.encode(values, "nearest_down").tolist() == [0, 0, 0, 32, 4, 31]
    assert number.encode(values, "toward_zero").tolist() == [0, 0, 0, 32, 4, 31]
    assert number.encode(values, "to_odd").tolist() == [4, 4, 4, 36, 4, 31]
    assert number.round(np.full(10_000, 0.1), "stochastic", key=5).mean() == pytest.approx(0.1, rel=0.05)


def test_a_wrapping_integer(tmp_path: Path) -> None:
    """An integer or fixed-point format that does not saturate wraps by default."""
    text = "name: acc12\nbits: 12\nkind: fixed\nfraction_bits: 4\nsaturates: false\nties: down\n"
    number = load_format(written(tmp_path, text))
    assert (number.rounding, number.overflow, number.max_value) == ("nearest_down", "wrap", 127.9375)
    assert number.round([127.9375, 128.0, -128.0625, 0.03125, -0.03125]).tolist() == [
        127.9375, -128.0, 127.9375, 0.0, 0.0
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("exponent_bits", "fraction_bits", "dtype"), [(3, 4, "float8_e3m4"), (4, 3, "float8_e4m3")]
)
def test_ml_dtypes_agrees(exponent_bits: int, fraction_bits: int, dtype: str) -> None:
    """A second opinion: IEEE-like 8-bit formats built from fields are those of ml_dtypes."""
    number = NumberFormat(
        "mine", 8, "float", exponent_bits=exponent_bits, fraction_bits=fraction_bits,
        bias=2 ** (exponent_bits - 1) - 1, specials="ieee", saturates=False,
    )  # fmt: skip
    theirs = np.dtype(getattr(ml_dtypes, dtype))
    codes = np.arange(256, dtype=np.uint8)
    np.testing.assert_array_equal(number.decode(codes), codes.view(theirs).astype(np.float64))
    values = np.random.default_rng(6).normal(0, 8, 50_000).astype(np.float32)
    np.testing.assert_array_equal(number.encode(values), values.astype(theirs).view(np.uint8))


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        ("bits: 6", "bits: 0", "2:1: bits: must be at least 1, got 0: a format without bits has no codes"),
        ("bits: 6", "bits: 17", "2:1: bits: must be at most 16 (only tf32 and fp32 are wider), got 17"),
        ("bits: 6", "bits: 7", "2:1: bits: must be 6 (1 sign + 3 exponent + 2 fraction bits), got 7"),
        ("bits: 6\n", "", "1:1: missing key 'bits'"),
        ("bits: 6", "bits: six", "2:1: bits: must be a whole number, got 'six'"),
        ("exponent_bits: 3", "exponent_bits: -3", "4:1: exponent_bits: must be at least 0, got -3"),
        ("fraction_bits: 2", "fraction_bits: -1", "5:1: fraction_bits: must be at least 0, got -1"),
        ("bias: 3", "bias: 3\nradix: 3", "7:1: radix: must be one of 2, 4, 8, 16, got 3"),
        ("bias: 3", "bias: 3\nradix: 4",
         "5:1: fraction_bits: must be 0 with radix 4: 1.fraction spans one factor of two only"),
        ("bias: 3", "bias: 2000", "6:1: bias: the values would reach from 2**-2001 to 2**-1992; allowed: "),
        ("bias: 3", "biass: 3", "6:1: unknown key 'biass' (did you mean 'bias'?); allowed: name, bits, "),
        ("bias: 3", "symmetric: true", "6:1: symmetric: does not belong to a format of kind 'float'"),
        ("bias: 3", "ties: odd", "6:1: ties: must be one of even, up, down, got 'odd'"),
        ("bias: 3", "saturates: false",
         "6:1: saturates: must be true: the format has no infinity and no NaN to overflow to"),
        ("kind: float", "kind: integer", "4:1: exponent_bits: does not belong to a format of kind 'integer'"),
        ("kind: float", "kind: decimal",
         "3:1: kind: must be one of integer, fixed, float, log, got 'decimal'"),
        ("kind: float", "kind: log", "5:1: fraction_bits: does not belong to a format of kind 'log'"),
        ("name: fp6_flush", "name: int4", "1:1: name: 'int4' is a format of the catalog; choose another"),
        ("name: fp6_flush", "name: fp5_r4", "1:1: name: 'fp5_r4' is a format of the catalog; choose another"),
        ("name: fp6_flush", "name: FP6",
         "1:1: name: must start with a letter and be made of a-z, 0-9 and _, got 'FP6'"),
    ],
)  # fmt: skip
def test_each_mistake_has_its_place(tmp_path: Path, old: str, new: str, text: str) -> None:
    """A mistake in a file is one line with line, column, key, value and what is allowed."""
    assert old in RIGHT
    path = written(tmp_path, RIGHT.replace(old, new))
    with pytest.raises(InputError) as caught:
        number_format(path)
    assert str(caught.value).startswith(f"{path}:{text}")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "text"),
    [
        ({"kind": "integer", "bits": 1}, "mine: bits: the format has no number above zero"),
        ({"kind": "integer", "bits": 4, "signed": False, "symmetric": True},
         "mine: symmetric: an unsigned format has no negative side to be symmetric with"),
        ({"kind": "integer", "bits": 4, "symmetric": True, "saturates": False},
         "mine: saturates: must be true: a symmetric format has no room to wrap into"),
        ({"kind": "fixed", "bits": 4, "fraction_bits": 5},
         "mine: fraction_bits: must be at most the 4 bits of the format, got 5"),
        ({"kind": "log", "bits": 4, "exponent_bits": 3},
         "mine: lowest_binade: must be 'zero' in a format of kind 'log': exponent code 0 is zero"),
        ({"kind": "float", "bits": 4, "exponent_bits": 3, "specials": "ieee"},
         "mine: specials: 'ieee' needs exponent bits, and fraction bits to tell NaN from infinity"),
        ({"kind": "float", "bits": 1}, "mine: bits: the format has no number above zero"),
        ({"kind": "float", "bits": 2, "fraction_bits": 1, "specials": "last_code"},
         "mine: bits: the format has no number above zero"),
        ({"kind": "float", "bits": 32, "exponent_bits": 9, "fraction_bits": 22, "bias": 255},
         "mine: bits: must be at most 16 (only tf32 and fp32 are wider), got 32"),
    ],
)  # fmt: skip
def test_a_record_cannot_contradict_itself(given: dict[str, object], text: str) -> None:
    """A record made by a program is checked like one of a file."""
    with pytest.raises(InputError) as caught:
        NumberFormat("mine", **given)
    assert str(caught.value) == text


def test_names_need_no_numpy() -> None:
    """Formats are looked up, compared and read from names without NumPy; conversions load it."""
    code = (
        "import sys; from accelsim.numerics.formats import number_format as f; "
        "f('fp8_e5m2').max_value, f('log5_sqrt2').unit, f('fixed16_2_14').min_value; "
        "import accelsim.numerics.block_formats as b; b.block_format('nvfp4').bits_per_value; "
        "print('numpy' in sys.modules)"
    )
    root = Path(__file__).resolve().parent.parent
    done = subprocess.run([sys.executable, "-c", code], cwd=root, check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"


def test_the_shell_takes_files_families_and_blocks(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """`check` and `formats` read a format file; `formats` shows families and block formats by name."""
    path = written(tmp_path, RIGHT)
    assert shell.main(["check", str(path)]) == 0
    assert capsys.readouterr().out == f"{path}: format 'fp6_flush' is right\n"
    assert shell.main(["formats", str(path)]) == 0
    assert capsys.readouterr().out.startswith("fp6_flush: 6 bits, 64 codes (our own)\n0x00  000000  0\n")
    assert shell.main(["check", str(written(tmp_path, RIGHT.replace("bits: 6", "bits: 7")))]) == 2
    assert f"{path}:2:1: bits: must be 6" in capsys.readouterr().err
    assert shell.main(["formats", "log5_sqrt2"]) == 0
    assert "0x09  01001  1.4142135623730951\n" in capsys.readouterr().out
    assert shell.main(["formats", "nvfp4"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("nvfp4: 4.5 bits per value (NVIDIA, 2025")
    assert lines[1].startswith("16 elements share a scale: an fp8_e4m3fn value")
    assert lines[-1] == "0xf  1111  -6"
    assert shell.main(["formats", "mxfp8_e5m2", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert (content["element"], content["block"], content["scale"]) == ("fp8_e5m2", 32, "e8m0")
    assert len(content["codes"]) == 256


def test_the_shell_lists_families_and_blocks(capsys: pytest.CaptureFixture[str]) -> None:
    """The list of formats ends with the families and the block formats, for people and for programs."""
    assert shell.main(["formats"]) == 0
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("fixed16_<IL>_<FL>", "log<3..8>_sqrt2", "mxfp6_e3m2", "nvfp4"))
    assert shell.main(["formats", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert {"name": "int<2..8>", "family": True, "source": "two's complement"} in content
    assert next(entry for entry in content if entry["name"] == "mxfp4")["bits_per_value"] == 4.25
