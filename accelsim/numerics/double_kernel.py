"""Accumulation in double precision: most formats and rules, and it knows where it fails.

When a rule and its operands have a `DoubleConfig`, a tile of `double_tile` computes the sums in the order of
`accumulation`; outputs that fail a check are computed again by `general_kernel`.
"""

from __future__ import annotations

import math
from functools import cache
from typing import Any

import numpy as np
from numba import prange
from numpy.typing import NDArray

from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import EXACT, AccumulatorFormat, FixedPoint
from accelsim.numerics.compiled import kernel
from accelsim.numerics.double_tile import COLUMNS, ROWS, DoubleConfig, double_tile
from accelsim.numerics.format_rules import binade_power
from accelsim.numerics.formats import NumberFormat

F64 = NDArray[np.float64]

_WIDEST = 50  # significand bits that a double rounded to odd can still be rounded to, once
_LARGEST = 2.0**900


def double_config(
    rule: Accumulation, k: int, bits: int, unit: float, largest_product: float
) -> DoubleConfig | None:
    """The tile for these operands, or None where none is right or knows when it is not.

    Parameters
    ----------
    k: products per sum. bits: significand bits of a product. unit: a power of two of which every product
    is a multiple. largest_product: a bound of their magnitude (inf and NaN are allowed).

    A rounded sum never exceeds twice the sum of magnitudes, because the sum before the last product is
    itself a candidate of the rounding; so four times the sum of magnitudes bounds the outer sum.
    """
    fmt, rounding = rule.format, rule.rounding_used
    if not rounding.startswith("nearest") or rule.alignment_bits is not None or rule.overflow_used == "wrap":
        return None
    if not _is_binary(fmt) or bits > 53 or fmt.significand_bits > _WIDEST:
        return None
    bound = 4.0 * k * largest_product
    if not bound < _LARGEST or min(unit, fmt.unit) < 1 / _LARGEST:
        return None
    exact = 2.0**53 * unit
    lanes = k if rule.accumulator == EXACT else min(rule.lanes, k)
    sticky = 2.0 * min(rule.chunk, k) * largest_product > exact
    checked = lanes > 1 and lanes * largest_product > exact
    saturates = rule.overflow_used == "saturate"
    return DoubleConfig(
        rounding=_rounding_of(fmt, rounding),
        precision="checked" if checked else "sticky" if sticky else "exact",
        range="inside" if bound < fmt.max_value else "saturated" if saturates else "marked",
    )


def _rounding_of(fmt: AccumulatorFormat, rounding: str) -> str:
    normal = isinstance(fmt, NumberFormat) and fmt.kind == "float" and fmt.lowest_binade == "normal"
    if rounding == "nearest_even" and not normal:
        return "even"
    return "up" if rounding == "nearest_up" and normal else "any"


def _is_binary(fmt: AccumulatorFormat) -> bool:
    """Whether values are whole numbers of power-of-two steps, and a code's parity is that number's."""
    if isinstance(fmt, FixedPoint) or fmt.kind in ("integer", "fixed"):
        return True
    return fmt.kind == "float" and fmt.radix == 2 and fmt.fraction_bits > 0 and fmt.lowest_binade != "zero"


def accumulate_doubles(
    config: DoubleConfig, rule: Accumulation, a: F64, panels: F64, shape: tuple[int, int, int]
) -> tuple[F64, NDArray[np.bool_]]:
    """Sums of ``shape`` (stack, m, n), float64, and where they failed a check (those are void).

    Parameters
    ----------
    a: (stack * tiles, k, ROWS), rows of a by tiles. panels: (stack * panels, k, COLUMNS), columns of b. k is
    padded to whole groups, and everything with zeros.
    """
    k = a.shape[1]
    out = np.empty(shape)
    failed = np.empty(out.shape, np.bool_)
    lanes = k if rule.accumulator == EXACT else rule.lanes
    groups = k // lanes
    per_chunk = min(-(-rule.chunk // lanes), groups)
    _multiply_kernel(config.pack())(
        a, panels, rounding_fields(rule.format, rule.rounding_used), lanes, per_chunk, out, failed
    )
    return out, failed


def rounding_fields(fmt: AccumulatorFormat, rounding: str) -> F64:
    """What `double_tile` knows of a format.

    Its lowest binade (all below has the same steps); as bits, how much larger 2**52 steps are than their
    binade; as bits, half a step; the smallest number, the largest, and the largest below zero; how many
    halves of a step a tie leaves over that should have gone up (2, which is none, if it should not), and
    down.
    """
    if isinstance(fmt, FixedPoint) or fmt.kind in ("integer", "fixed"):
        fraction_bits = _WIDEST  # as if the whole range were one binade of a float
        lowest = math.frexp(fmt.unit)[1] - 1 + _WIDEST
    else:
        fraction_bits = fmt.fraction_bits
        lowest = binade_power(fmt, 0 if fmt.lowest_binade == "normal" else 1)
    words = np.array([(52 - fraction_bits) << 52, 1 << (51 - fraction_bits)], np.int64).view(np.float64)
    ties = [1.0 if rounding == "nearest_up" else 2.0, -1.0 if rounding == "nearest_down" else 2.0]
    limits = fmt.min_positive, fmt.max_value, -fmt.min_value
    return np.array([math.ldexp(1.0, lowest), *words, *limits, *ties])


@cache
def _multiply_kernel(config: int) -> Any:
    """The compiled loops around one tile configuration."""

    @kernel(parallel=True)
    def multiply_doubles(
        a: Any, panels: Any, fields: Any, lanes: int, per_chunk: int, out: Any, failed: Any
    ) -> None:
        k, (stack, m, n) = a.shape[1], out.shape
        left, right = a.reshape(-1), panels.reshape(-1)
        tiles, count = len(a) // stack, len(panels) // stack
        for tile in prange(len(a)):
            matrix, top = tile // tiles, tile % tiles * ROWS
            sums, marks = np.empty(ROWS * COLUMNS), np.empty(ROWS * COLUMNS)
            for p in range(count):
                double_tile(
                    config, left, tile * k * ROWS, right, (matrix * count + p) * k * COLUMNS,
                    sums, 0, marks, 0, fields, lanes, k // lanes, per_chunk,
                )  # fmt: skip
                for row in range(min(ROWS, m - top)):
                    for j in range(min(COLUMNS, n - p * COLUMNS)):
                        place = matrix, top + row, p * COLUMNS + j
                        failed[place] = marks[row * COLUMNS + j] != 0.0
                        # there is one zero, and nothing void that a narrower type could not hold
                        out[place] = 0.0 if failed[place] else sums[row * COLUMNS + j] + 0.0

    return multiply_doubles
