"""Vectors of the two units: operand codes, a partial sum, and what the simulator makes of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from accelsim.numerics.formats import number_format
from accelsim.rtl import corners
from accelsim.rtl.design import Design, OperandPair
from accelsim.rtl.golden import Integers, add_groups

_ROWS = 128  # vectors that share one b, a matter of speed


@dataclass(frozen=True)
class Vectors:
    """Vectors of one pair of formats, int64 codes: psum (n,), a and b (n, lanes), result (n,)."""

    pair: OperandPair
    psum: Integers
    a: Integers
    b: Integers
    result: Integers

    def __len__(self) -> int:
        return len(self.psum)


def unit_vectors(design: Design, pair: OperandPair, count: int, rng: np.random.Generator) -> Vectors:
    """At least ``count`` vectors of one pair: all pairs of 4-bit codes first, then random and hard ones."""
    first = _special_pairs(design, pair, count // 3, rng) if pair.is_wide else _every_pair(design, pair, rng)
    blocks = list(first)
    done = sum(len(block) for block in blocks)
    draw = _draw_wide if pair.is_wide else _draw_narrow
    while done < count:
        blocks.append(_block(design, pair, draw, rng))
        done += _ROWS
    columns = (
        np.concatenate([getattr(each, name) for each in blocks]) for name in ("psum", "a", "b", "result")
    )
    return Vectors(pair, *columns)


def shared_out(count: int, parts: int) -> list[int]:
    """``count`` in ``parts`` nearly equal shares."""
    return [count // parts + (index < count % parts) for index in range(parts)]


def evaluate(design: Design, pair: OperandPair, psum: Integers, a: Integers, b: Integers) -> Vectors:
    """The vectors of partial sums (n,) and operands a (n, lanes) with one b (lanes,)."""
    psum = corners.reachable(design.accumulator, psum, saturates=design.saturates)
    result = add_groups(
        design,
        design.accumulator.decode(psum),
        number_format(pair.a).decode(a),
        number_format(pair.b).decode(b),
    )
    return Vectors(pair, psum, a, np.tile(b, (len(psum), 1)), result)


def _every_pair(design: Design, pair: OperandPair, rng: np.random.Generator) -> Iterator[Vectors]:
    """All 16 x 16 operand pairs, in lane 0 and in a lane that b chooses; upon +0, then upon any psum."""
    every = np.arange(16)
    for psum in (np.zeros(16, np.int64), corners.any_codes(design.accumulator, rng, 16)):
        for code in range(16):
            for lane in {0, code % pair.lanes}:
                a = np.zeros((16, pair.lanes), np.int64)
                b = np.zeros(pair.lanes, np.int64)
                a[:, lane], b[lane] = every, code
                yield evaluate(design, pair, psum, a, b)


def _special_pairs(
    design: Design, pair: OperandPair, limit: int, rng: np.random.Generator
) -> Iterator[Vectors]:
    """All products of special codes upon +0; upon every special psum for as many b as ``limit`` allows."""
    operands = corners.special_codes(number_format(pair.a))
    sums = corners.special_codes(design.accumulator)
    for code in operands:
        yield evaluate(design, pair, np.zeros_like(operands), operands[:, None], np.array([code]))
    psum, a = (grid.ravel() for grid in np.meshgrid(sums, operands, indexing="ij"))
    for code in rng.permutation(operands)[: max(1, limit // len(psum))]:
        yield evaluate(design, pair, psum, a[:, None], np.array([code]))


Draw = Callable[[Design, OperandPair, np.random.Generator], tuple[Integers, Integers]]


def _block(design: Design, pair: OperandPair, draw: Draw, rng: np.random.Generator) -> Vectors:
    """``_ROWS`` vectors: operands as drawn, half of the partial sums hard for them, half any."""
    a, b = draw(design, pair, rng)
    with np.errstate(invalid="ignore"):  # infinity times zero, which has no hard partial sum
        terms = number_format(pair.a).decode(a) @ number_format(pair.b).decode(b)
    hard = corners.hard_sums(design.accumulator, terms, rng)
    easy = corners.any_codes(design.accumulator, rng, _ROWS)
    return evaluate(design, pair, np.where(rng.random(_ROWS) < 0.75, hard, easy), a, b)


def _draw_narrow(design: Design, pair: OperandPair, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Codes of three kinds, for a row of a and for b: any; mostly zero; the largest magnitudes."""
    a = rng.integers(0, 16, (_ROWS, pair.lanes))
    a *= rng.random(a.shape) < rng.choice([1.0, 1.0, 1.5 / pair.lanes], (_ROWS, 1))
    b = rng.integers(0, 16, pair.lanes)
    extreme = np.array([7, 8, 15])
    if rng.random() < 0.25:
        b = rng.choice(extreme, pair.lanes)
    rows = rng.random((_ROWS, 1)) < 0.25
    a = np.where(rows, rng.choice(extreme, a.shape), a)
    return a, b


def _draw_wide(design: Design, pair: OperandPair, rng: np.random.Generator) -> tuple[Integers, Integers]:
    """Codes whose product is anywhere, near one, or near an end of the accumulator's range."""
    fmt, accumulator = number_format(pair.a), design.accumulator
    b = corners.any_codes(fmt, rng, 1)
    if rng.random() < 0.75:
        b = corners.assembled(fmt, rng.integers(-12, 13, 1), rng)
    exponent = (b >> fmt.fraction_bits & ((1 << fmt.exponent_bits) - 1)) - fmt.bias
    low = 1 - accumulator.bias - accumulator.significand_bits
    high = (accumulator.max_code >> accumulator.fraction_bits) - accumulator.bias
    wanted = np.choose(
        rng.integers(0, 3, _ROWS),
        [
            rng.integers(-6, 7, _ROWS),
            low + rng.integers(-3, accumulator.significand_bits + 3, _ROWS),
            high - rng.integers(-2, accumulator.significand_bits + 2, _ROWS),
        ],
    )
    aimed = corners.assembled(fmt, wanted - exponent, rng)
    ties = corners.tie_fractions(fmt, accumulator, int(b[0]))
    if len(ties):
        tying = aimed >> fmt.fraction_bits << fmt.fraction_bits | rng.choice(ties, _ROWS)
        aimed = np.where(rng.random(_ROWS) < 0.25, tying, aimed)
    anything = corners.any_codes(fmt, rng, _ROWS)
    return np.where(rng.random(_ROWS) < 0.25, anything, aimed)[:, None], b
