"""The golden vectors of the Verilog, read as their README says, against the oracle."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from array_chips import write_array_chip
from oracles import accumulate, formats
from rtl_chips import SMALL, small_chip, written

import accelsim
from accelsim.chip import load_chip
from accelsim.rtl import Written, write_rtl


def lines(done: Written, unit: str) -> list[list[str]]:
    """The fields of every vector of a unit."""
    text = (done.folder / f"{unit}.hex").read_text(encoding="ascii")
    return [line.split("_") for line in text.splitlines()]


def four_bit_value(code: int, *, unsigned: bool, radix4: bool, odd: bool) -> Fraction:
    """The number a 4-bit code stands for, by the README of the vectors."""
    if radix4:
        magnitude = Fraction(4) ** (code % 8 - 4) / (2 if odd else 1) if code % 8 else Fraction(0)
        return -magnitude if code >= 8 else magnitude
    return Fraction(code - 16 if code >= 8 and not unsigned else code)


def rounded(chip: str, psum: int, terms: list[formats.Value]) -> int:
    """The oracle's code of psum and the terms, rounded once."""
    options = SMALL[chip][1]
    name = str(options.get("accumulator", "dlfloat16"))
    exact = accumulate.exact_sum([formats.decode(name, psum), *terms])
    return accumulate.round_to(name, exact, str(options.get("overflow", "format")))


def test_vectors_of_the_four_bit_unit_by_the_readme(tmp_path: Path) -> None:
    """Read as the README says, the results equal exact fractions rounded once by the oracle; every operand
    pair of every mode is among them, upon +0."""
    for chip in ("fp16_four_bits", "fp16_saturating", "many_lanes"):
        seen: dict[int, set[tuple[int, int]]] = {}
        done = write_rtl(load_chip(small_chip(tmp_path, chip)), tmp_path / chip, 2_500)
        for mode_digit, psum, a, b, result in lines(done, "mac4"):
            mode = int(mode_digit, 16)
            lanes = [(int(x, 16), int(y, 16)) for x, y in zip(reversed(a), reversed(b), strict=True)]
            terms = [
                four_bit_value(x, unsigned=bool(mode & 1), radix4=False, odd=False)
                * four_bit_value(y, unsigned=bool(mode & 2), radix4=bool(mode & 4), odd=bool(mode & 8))
                for x, y in lanes
            ]
            assert int(result, 16) == rounded(chip, int(psum, 16), terms)
            busy = [pair for pair in lanes if any(pair)]
            if len(busy) <= 1 and psum == "0000":
                seen.setdefault(mode, set()).add(busy[0] if busy else (0, 0))
        assert set(seen) == {sum(pair_bits(*pair)) for pair in SMALL[chip][0]}
        assert all(len(pairs) == 256 for pairs in seen.values())


def pair_bits(a: str, b: str) -> list[int]:
    """The mode bits of a pair of formats."""
    a, b = (b, a) if a.startswith("fp4") else (a, b)
    return [a == "uint4", 2 * (b == "uint4"), 4 * b.startswith("fp4"), 8 * (b == "fp4_r4_odd")]


@pytest.mark.parametrize("chip", ["fp16_fma", "dlfloat_saturating", "fp16_into_dlfloat"])
def test_vectors_of_the_fma_by_the_readme(chip: str, tmp_path: Path) -> None:
    """The results equal exact fractions rounded once by the oracle, with NaN, infinities and subnormals."""
    operand = SMALL[chip][0][0][0]
    results = set()
    for psum, a, b, result in lines(written(tmp_path, small_chip(tmp_path, chip), 2_500), "fma16"):
        left, right = formats.decode(operand, int(a, 16)), formats.decode(operand, int(b, 16))
        results.add(int(result, 16))
        assert int(result, 16) == rounded(chip, int(psum, 16), [accumulate.product(left, right)])
    layout = formats.LADDERS[str(SMALL[chip][1].get("accumulator", "dlfloat16"))]
    assert {0, layout.top, layout.top | layout.sign_bit, 1} <= results
    assert 0x8000 not in results


def test_sums_of_the_pe_are_whole_gemms(tmp_path: Path) -> None:
    """The lines of a sum, added up in the order the README states, give the result in its last line."""
    chip = small_chip(tmp_path, "fp16_fma")
    terms: list[tuple[int, int]] = []
    sums = chunks = 0
    for control_digit, _mode, groups, _psum, a, b, expected in lines(written(tmp_path, chip, 3_000), "pe"):
        control = int(control_digit, 16)
        if control & 3 != 3:
            continue
        terms.append((int(a, 16), int(b, 16)))
        if control & 4:
            chunk = int(groups, 16) or len(terms)
            left, right = ([formats.decode("fp16", pair[side]) for pair in terms] for side in (0, 1))
            assert int(expected, 16) == accumulate.dot(left, right, 1, chunk, "fp16")
            sums, chunks = sums + 1, chunks + (len(terms) > chunk)
            terms = []
    assert sums > 100
    assert chunks > 20


def test_same_seed_same_bytes(tmp_path: Path) -> None:
    """Two folders of one seed are equal, another seed has other vectors; the folder may exist already."""
    chip = load_chip(small_chip(tmp_path, "fp16_four_bits"))
    seeds = {"a": 1, "b": 1, "c": 2}
    folders = [write_rtl(chip, tmp_path / name, 2_000, seed).folder for name, seed in seeds.items()]
    folders.append(write_rtl(chip, folders[1], 2_000, 1).folder)
    texts = [{path.name: path.read_bytes() for path in folder.iterdir()} for folder in folders]
    assert texts[0] == texts[1] == texts[3]
    assert texts[0]["mac4.hex"] != texts[2]["mac4.hex"]
    assert texts[0]["pe.v"] == texts[2]["pe.v"]


@pytest.mark.parametrize("accumulator", ["dlfloat16", "fp16"])
def test_odd_grid_is_one_less_in_the_exponent(accumulator: str, tmp_path: Path) -> None:
    """Sums on the odd grid are half of those on the even one, unless the even sum leaves the range; only
    half precision gets there, and there the odd grid is still finite, as in the Verilog."""
    chip = write_array_chip(
        tmp_path, [("int4", "fp4_r4_even"), ("int4", "fp4_r4_odd")], lanes=4, rows=8, accumulator=accumulator
    )
    rng = np.random.default_rng(5)
    a = rng.integers(0, 16, (40, 300))
    b = rng.choice([1, 4, 6, 7, 7, 7, 12, 15], (300, 40))
    even = accelsim.matmul(chip.path, a, b, b_format="fp4_r4_even").values
    odd = accelsim.matmul(chip.path, a, b, b_format="fp4_r4_odd").values
    inside = np.isfinite(even)
    np.testing.assert_array_equal(odd[inside], even[inside] / 2)
    sevens = np.full((1, 160), 7)  # 7 x 64 each on the even grid: 71680, above the largest half, 65504
    total = accelsim.matmul(chip.path, sevens, sevens.T, b_format="fp4_r4_even").values[0, 0]
    half = accelsim.matmul(chip.path, sevens, sevens.T, b_format="fp4_r4_odd").values[0, 0]
    assert total == (np.inf if accumulator == "fp16" else 71680)
    assert half == 71680 / 2
