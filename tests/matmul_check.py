"""What the matmul tests share: the comparison with the oracle and operands full of corners."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from array_chips import ArrayChip
from oracles import accumulate, formats

import accelsim

ACCUMULATORS = ["dlfloat16", "fp16", "bf16", "fp32"]
OVERFLOWS = ["format", "saturate"]


@cache
def loaded(path: Path) -> accelsim.Chip:
    """The chip of a file, read once."""
    return accelsim.load_chip(path)


def oracle_codes(
    chip: ArrayChip, a: np.ndarray, b: np.ndarray, a_format: str, b_format: str
) -> list[list[int]]:
    """What the oracle says of A x B on the chip."""
    return accumulate.matmul(
        a.tolist(),
        b.tolist(),
        b.shape[1],
        a_format,
        b_format,
        chip.lanes,
        chip.chunk(a.shape[1]),
        chip.accumulator,
        chip.overflow,
    )


def describe(chip: ArrayChip, row: np.ndarray, column: np.ndarray, a_format: str, b_format: str) -> str:
    """The shortest prefix of one dot product that still differs, as codes and values, for the message."""
    for k in range(1, len(row) + 1):
        a, b = row[None, :k], column[:k, None]
        got = int(accelsim.matmul(loaded(chip.path), a, b, a_format=a_format, b_format=b_format).codes[0, 0])
        wanted = oracle_codes(chip, a, b, a_format, b_format)[0][0]
        if got != wanted:
            exact = formats.decode(chip.accumulator, wanted)
            codes = f"{a_format} {a.ravel().tolist()} . {b_format} {b.ravel().tolist()}"
            return f"{codes} is {got:#x}, not {wanted:#x} = {exact}"
    return "no prefix differs"


def check(
    chip: ArrayChip, a: np.ndarray, b: np.ndarray, a_format: str, b_format: str
) -> accelsim.MatmulResult:
    """Codes, values, format and plan of the library equal the oracle's."""
    result = accelsim.matmul(loaded(chip.path), a, b, a_format=a_format, b_format=b_format)
    wanted = np.array(oracle_codes(chip, a, b, a_format, b_format), dtype=np.int64)
    wanted = wanted.reshape(a.shape[0], b.shape[1])
    got = result.codes.astype(np.int64)
    assert (got.shape, result.format.name) == (wanted.shape, chip.accumulator)
    for i, j in np.argwhere(got != wanted)[:1]:
        difference = describe(chip, a[i], b[:, j], a_format, b_format)
        pytest.fail(f"{replace(chip, path=Path())} at [{i}, {j}]: {difference}")
    for code, value in zip(got.ravel().tolist(), result.values.ravel().tolist(), strict=True):
        exact = formats.decode(chip.accumulator, code)
        assert value == exact or (value != value and exact != exact)
    if a.size and b.size:
        assert (result.plan.lanes, result.plan.chunk) == (chip.lanes, chip.chunk(a.shape[1]))
    return result


def special_codes(name: str) -> list[int]:
    """The corners of a format: zeros, smallest, one, largest, their negatives; no NaN, no infinity."""
    if name in formats.INTEGERS:
        return sorted({0, 1, 2, (1 << formats.bits(name)) - 1, 1 << (formats.bits(name) - 1), 7 % 4})
    top = formats.LADDERS[name].top
    one = formats.encode(name, 1.0)
    positive = {0, 1, 2, one - 1, one, one + 1, top - 1, top}
    return sorted(positive | {code | formats.LADDERS[name].sign_bit for code in positive})


def number_codes(name: str, rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    """Random codes that are numbers: any code, codes near one, and corners, a third each."""
    width = formats.bits(name)
    anything = rng.integers(0, 1 << width, shape, dtype=np.int64)
    if name in formats.INTEGERS:
        return anything
    layout = formats.LADDERS[name]
    magnitude = anything % layout.sign_bit
    anything = np.where(magnitude > layout.top, anything - magnitude + layout.top, anything)
    spread = 2 << layout.fraction_bits
    near_one = np.clip(formats.encode(name, 1.0) + rng.integers(-spread, spread + 1, shape), 0, layout.top)
    near_one |= np.where(rng.random(shape) < 0.5, layout.sign_bit, 0)
    corners = rng.choice(special_codes(name), shape)
    return np.choose(rng.integers(0, 3, shape), [anything, near_one, corners])


def encoded(name: str, values: list[float]) -> np.ndarray:
    """Codes of numbers that the format holds exactly."""
    codes = [formats.encode(name, value) for value in values]
    assert [formats.decode(name, code) for code in codes] == values
    return np.array(codes)
