"""One accumulation rule, and the fastest kernel that provably computes it.

The rule, and with it the order of additions, is an `accumulation.Accumulation`.

Kernels, tried in this order; each name is what a record reports:

- ``i8``, ``i16``: group sums by integer dot products of bytes or 16-bit words;
- ``f32``: group sums in single precision;
- ``f64``: group sums in double precision, which takes most formats and rules;
- ``general``: exact expansions; any rule, any format, infinities and NaNs.

The others end in ``_exact`` where their precision carries every add of the inner accumulation exactly,
else in ``_sticky``: the dropped part is tracked.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import EXACT
from accelsim.numerics.double_kernel import accumulate_doubles, double_config
from accelsim.numerics.double_tile import COLUMNS, ROWS, DoubleConfig
from accelsim.numerics.formats import number_format
from accelsim.numerics.general_kernel import accumulate_at, accumulate_general
from accelsim.numerics.operand import Matrix, value_table
from accelsim.numerics.packing import flat_buffer, pack_decoded, pack_values, steps_of
from accelsim.numerics.tile_product import choose_tile, multiply_tiled

__all__ = ["Accumulation", "Matrix", "multiply"]

_NARROW = 8


def multiply(
    rule: Accumulation, a: Matrix, b: Matrix, origin: tuple[int, int] = (0, 0)
) -> tuple[NDArray[Any], str]:
    """The product of a (m, k) and b (k, n), accumulated by ``rule``, and the kernel's name.

    ``origin``: row and column of the product's first element in the whole result that it is a tile of
    (it decides the random bits of stochastic rounding).

    Returns (m, n) of ``rule.dtype``: every value is a value of ``rule.format``.

    Raises `InputError` if a chunk is not whole groups of lanes, or if a sum is a NaN (or an infinity that
    would wrap) and the format has none.
    """
    (m, k), n = a.array.shape, b.array.shape[1]
    if min(m, k, n) == 0:
        return np.zeros((m, n), rule.dtype), "empty"
    # A narrow result wastes the columns of a tile; its transpose has the same bits and fills the tile.
    turned = n < min(m, _NARROW)
    left, right = (b.transposed(), a.transposed()) if turned else (a, b)
    choice = choose_tile(rule, left, right)
    if choice is not None:
        out = np.zeros(left.array.shape[:1] + right.array.shape[1:], np.float32)
        if multiply_tiled(rule, choice, left, right, out):
            name = f"{choice.carrier}_{'sticky' if choice.sticky_inner else 'exact'}"
            return _read_out(rule, np.ascontiguousarray(out.T) if turned else out), name
    config = _double_choice(rule, a, b)
    if config is not None:
        found = _multiply_doubles(rule, config, left, right)
        sums, failed = (each.T for each in found) if turned else found
        if failed.any():
            sums[failed] = accumulate_at(rule, *_as_doubles(a, b), (a.format, b.format), np.nonzero(failed))
        name = f"f64_{'exact' if config.precision == 'exact' else 'sticky'}"
        return np.ascontiguousarray(sums, rule.dtype), name
    return accumulate_general(rule, *_as_doubles(a, b), (a.format, b.format), origin), "general"


def _as_doubles(a: Matrix, b: Matrix) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The values of a, and those of b by columns, for the general kernel."""
    left, right = a.values(), b.values().T
    return np.ascontiguousarray(left, np.float64), np.ascontiguousarray(right, np.float64)


def _read_out(rule: Accumulation, sums: NDArray[np.float32]) -> NDArray[Any]:
    """Sums of a tile as ``rule.format`` has them: those of an exact accumulator are still to be rounded."""
    if rule.accumulator != EXACT:
        return sums.astype(rule.dtype, copy=False)
    rounded = number_format(rule.readout).round(sums, rule.rounding_used, rule.overflow_used)
    return (rounded + 0.0).astype(rule.dtype)  # there is one zero


def _double_choice(rule: Accumulation, a: Matrix, b: Matrix) -> DoubleConfig | None:
    """The tile in double precision for these operands, or None."""
    k = a.array.shape[1]
    if rule.accumulator != EXACT and rule.piece(k) < k:
        return None
    bits, unit = a.format.significand_bits + b.format.significand_bits, a.format.unit * b.format.unit
    config = double_config(rule, k, bits, unit, a.largest() * b.largest())
    if config is None or config.precision == "checked" or config.range != "inside":
        # the codes that the operands really hold may do better
        config = double_config(rule, k, bits, unit, a.largest(held=True) * b.largest(held=True))
    return config


def _multiply_doubles(
    rule: Accumulation, config: DoubleConfig, a: Matrix, b: Matrix
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    (m, k), n = a.array.shape, b.array.shape[1]
    lanes = k if rule.accumulator == EXACT else rule.lanes
    padded = -(-k // lanes) * lanes
    row_step, k_step = steps_of(a.array)
    left = _packed(a, (row_step, k_step, m, k, ROWS, padded))
    k_step, column_step = steps_of(b.array)
    right = _packed(b, (column_step, k_step, n, k, COLUMNS, padded))
    sums, failed = accumulate_doubles(config, rule, left, right, n)
    return sums[:m], failed[:m]


def _packed(operand: Matrix, order: tuple[int, ...]) -> NDArray[np.float64]:
    flat = flat_buffer(operand.array)
    if flat.dtype == np.float32:
        return np.asarray(pack_values(flat, *order))
    return np.asarray(pack_decoded(flat, value_table(operand.format).astype(np.float64), *order))
