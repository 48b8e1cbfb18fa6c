"""Which products are worth a certificate: where an accumulator's roundings provably leave most sums alone."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.accumulation import Accumulation, plain_rule
from accelsim.numerics.compiled import kernel
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.integer_product import Grouping
from accelsim.numerics.integer_tile import PER_WORD
from accelsim.numerics.operand import Matrix, WindowMatrix, value_table
from accelsim.numerics.packing import flat_buffer, steps_of
from accelsim.numerics.tile_kernel import TileConfig
from accelsim.numerics.tile_product import integer_carrier, tile_shape

_EXACT_INTEGERS = 2.0**24  # single precision holds every integer up to here
_LEAST_WORK = 1 << 20  # products, below which all is over before a look at the operands

_GROUPS = {32: 1.0, 16: 1.22}
"""What a product costs in certified groups of so many, if none fails: times of one in groups of 32."""

_FAILED = 8.0
"""And in a group that fails."""

_OTHERS = {
    "dlfloat16": {1: 4.5, 2: 3.5, 4: 2.0, 8: 1.2},
    "fp16": {1: 6.0, 2: 6.0, 4: 3.5, 8: 1.9, 16: 1.4},
}
"""And without certificates, by accumulator and up to so many lanes."""

_ROWS, _COLUMNS = 4, 16  # of a sample
_TILE = _ROWS * _COLUMNS
_MOST_SAMPLES = 32
_SAMPLED_SHARE = 3000  # of the products is looked at: a hundredth of the time, or so


@dataclass(frozen=True)
class Certified:
    """A tile and how it takes products together; ``price``: of a product if no group fails."""

    tile: TileConfig
    grouping: Grouping
    price: float


@dataclass(frozen=True, eq=False)
class _Choices:
    """Tiles that are right, and how their groups are sampled (`_sample`)."""

    choices: tuple[Certified, ...]
    chunk: int
    sizes: NDArray[np.int64]
    limit: float
    others: float


def choose_certified(rule: Accumulation, a: Matrix, b: Matrix) -> Certified | None:
    """The certified tile for these operands, if it is right and, by a sample of the sums, fast; or None.

    The sample decides nothing but the speed: whatever fails its certificate is added up as it should be.
    """
    (*stack, m, k), n = a.shape, b.shape[-1]
    if math.prod(stack) * m * k * n < _LEAST_WORK or not (a.coded and b.coded):
        return None
    found = _choices(rule, a.format, b.format, a.largest() * b.largest(), m, k, n)
    if not found.choices:
        return None
    shares = _failing(found, *_looked_at(a, b))
    prices = [each.price + _FAILED * share for each, share in zip(found.choices, shares, strict=True)]
    best = prices.index(min(prices))
    return found.choices[best] if prices[best] < found.others else None


@lru_cache(maxsize=4096)
def _choices(
    rule: Accumulation, a: NumberFormat, b: NumberFormat, largest: float, m: int, k: int, n: int
) -> _Choices:
    """The tiles that are right, by size of their groups.

    All sums are multiples of the products' unit, of which the accumulator holds every one up to 2**p. A
    rounded sum never exceeds twice the sum of magnitudes, so four times that bounds the outer sum, which
    must stay among the integers of single precision.
    """
    unit = a.unit * b.unit
    plain = plain_rule(rule, k, largest, unit)
    others = _OTHERS.get(plain.accumulator, {}) if plain is not None else {}
    if plain is None or rule.lanes > max(others, default=0):
        return _NONE
    fmt, bound = number_format(plain.accumulator), 4.0 * k * largest
    held = unit >= 2.0 ** (1 - fmt.bias) and unit * 2.0**fmt.significand_bits <= fmt.max_value
    if not (held and bound <= _EXACT_INTEGERS * unit and largest <= 2.0**fmt.significand_bits * unit):
        return _NONE
    rows, vectors, width = tile_shape(m, n)
    found = {}
    for size, price in _GROUPS.items():
        carrier = integer_carrier(size, a, b)
        group = 0 if carrier == "f32" else _group(size, rule, k, PER_WORD[carrier])
        if group > rule.lanes:
            tile = TileConfig(
                plain.accumulator, rule.lanes, sticky_inner=False, underflow=False, rows=rows,
                vectors=vectors, width=width, carrier=carrier, corrected=carrier == "i8" and a.signed,
                watched=bound >= fmt.max_value,
            )  # fmt: skip
            found[group] = Certified(tile, Grouping(group, rule.chunk, rule.lanes), price)
    sizes, limit = np.array(list(found)), 2.0 ** (fmt.significand_bits + 1)
    price = others[min(lanes for lanes in others if lanes >= rule.lanes)]
    return _Choices(tuple(found.values()), min(rule.chunk, k), sizes, limit, price)


_NONE = _Choices((), 0, np.zeros(0, np.int64), 0.0, 0.0)


def _group(size: int, rule: Accumulation, k: int, side: int) -> int:
    """The most products up to ``size`` that are whole additions and words, and part of a chunk; or 0."""
    step = math.lcm(rule.lanes, side)
    fitting = range(step, size + 1, step)
    return max((each for each in fitting if rule.chunk >= k or rule.chunk % each == 0), default=0)


def _looked_at(a: Matrix, b: Matrix) -> tuple[Matrix, Matrix]:
    """The operands that samples are taken of: all, but of windows those of the image in the middle."""
    if not isinstance(a, WindowMatrix):
        return a, b
    windows, each = a.windows, math.prod(a.windows.walk.positions)
    first = (windows.last - windows.first) // each // 2 * each
    last = min(first + each, windows.last - windows.first)
    if not windows.transposed:
        return a.piece(first, last, of_columns=False), b
    return a.piece(first, last, of_columns=True), b.piece(first, last, of_columns=False)


def _failing(found: _Choices, a: Matrix, b: Matrix) -> list[float]:
    """The share of a tile's rows in a group that fail, in samples of the sums, by choice."""
    (*stacks, m, k), n = a.shape, b.shape[-1]
    stack = math.prod(stacks)
    samples = m * k * n * stack // (_SAMPLED_SHARE * _TILE * found.chunk)
    failed = np.zeros((2, len(found.choices)), np.int64)
    _sample(
        flat_buffer(a.array), steps_of(a.array), _integers(a.format),
        flat_buffer(b.array), steps_of(b.array), _integers(b.format),
        (stack, m, k, n), found.chunk, found.sizes, found.limit, max(2, min(samples, _MOST_SAMPLES)), failed,
    )  # fmt: skip
    return [count / seen for count, seen in failed.T.tolist()]


@cache
def _integers(fmt: NumberFormat) -> NDArray[np.int32]:
    """The values of all codes in the format's unit."""
    found: NDArray[np.int32] = (value_table(fmt) / fmt.unit).astype(np.int32)
    return found


@kernel()
def _sample(
    a: Any, a_steps: Any, a_table: Any, b: Any, b_steps: Any, b_table: Any, shape: Any, chunk: int,
    sizes: Any, limit: float, samples: int, failed: Any,
) -> None:  # fmt: skip
    """Look at one chunk of a few neighbouring rows and columns, here and there, by groups of all ``sizes``.

    ``failed``: int64 (2, sizes), how many rows of groups failed, and how many there were.
    """
    base = sizes[0]
    for size in sizes[1:]:
        base = math.gcd(base, size)
    stack, m, k, n = shape
    rows, cols, most = min(_ROWS, m), min(_COLUMNS, n), -(-chunk // base)
    sums = np.zeros((most + 1) * _TILE, np.int32)  # of rows, at the ends of the smallest groups
    heights, widths = np.zeros((most, _ROWS), np.int32), np.zeros(most * _COLUMNS, np.int32)
    line, running = np.zeros(_COLUMNS, np.int32), np.zeros(_TILE, np.int32)
    for number in range(samples):
        top = _place(number, 0.6180339887, m - rows)
        left = _place(number, 0.7548776662, n - cols)
        first = _place(number, 0.5698402909, -(-k // chunk) - 1) * chunk
        size = min(chunk, k - first)
        a_at = number % stack * a_steps[0] + top * a_steps[1] + first * a_steps[2]
        b_at = number % stack * b_steps[0] + left * b_steps[2] + first * b_steps[1]
        parts = -(-size // base)
        running[:] = 0
        for part in range(parts):
            heights[part] = 0
            widths[part * _COLUMNS : (part + 1) * _COLUMNS] = 0
            for i in range(part * base, min(part * base + base, size)):
                for j in range(cols):
                    line[j] = b_table[b[b_at + i * b_steps[1] + j * b_steps[2]]]
                for j in range(_COLUMNS):
                    widths[part * _COLUMNS + j] += line[j] * line[j]
                for r in range(rows):
                    factor = a_table[a[a_at + i * a_steps[2] + r * a_steps[1]]]
                    heights[part, r] += factor * factor
                    for j in range(_COLUMNS):
                        running[r * _COLUMNS + j] += factor * line[j]
            sums[(part + 1) * _TILE : (part + 2) * _TILE] = running
        for place in range(len(sizes)):
            step = sizes[place] // base
            for part in range(0, parts, step):
                end = min(part + step, parts)
                failed[1, place] += rows
                failed[0, place] += _failed_rows(sums, heights, widths, part, end, rows, limit)


@kernel()
def _place(number: int, share: float, last: int) -> int:
    """0..last, spread evenly by a low-discrepancy sequence."""
    return int((number + 0.5) * share % 1.0 * (last + 1))


@kernel()
def _failed_rows(sums: Any, heights: Any, widths: Any, first: int, last: int, rows: int, limit: float) -> int:
    """In how many rows a sum fails the certificate of its group (`certified_tile`)."""
    height, width = 0, np.zeros(_COLUMNS, np.int32)
    for r in range(rows):
        squares = 0
        for part in range(first, last):
            squares += heights[part, r]
        height = max(height, squares)
    for part in range(first, last):
        for j in range(_COLUMNS):
            width[j] += widths[part * _COLUMNS + j]
    count = 0
    for r in range(rows):
        most = 0.0
        for j in range(_COLUMNS):
            twice = sums[first * _TILE + r * _COLUMNS + j] + sums[last * _TILE + r * _COLUMNS + j]
            most = max(most, abs(np.float64(twice)) + np.sqrt(np.float64(height) * width[j]))
        count += most > limit
    return count
