"""One accumulation rule, and the fastest kernel that provably computes it.

The rule, and with it the order of additions, is an `accumulation.Accumulation`.

Kernels, tried in this order; each name is what a record reports:

- ``i8_certified``, ``i16_certified``: sums of integers that are proven not to be rounded, and gone through
  where they are (`certified_tile`);
- ``fma``: a rounding at every add, by fused multiply-adds; its name ends as a method of `chain_tile`;
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
from accelsim.numerics.certified_product import choose_certified
from accelsim.numerics.chain_product import choose_chain, multiply_chained
from accelsim.numerics.double_kernel import accumulate_doubles, double_config
from accelsim.numerics.double_tile import COLUMNS, ROWS, DoubleConfig
from accelsim.numerics.formats import number_format
from accelsim.numerics.general_kernel import accumulate_at, accumulate_general
from accelsim.numerics.integer_product import multiply_integers
from accelsim.numerics.operand import Matrix, value_table
from accelsim.numerics.packing import flat_buffer, pack_decoded, pack_values, stack_of, steps_of
from accelsim.numerics.tile_product import choose_tile, multiply_tiled

__all__ = ["Accumulation", "Matrix", "multiply"]

_NARROW = 8


def multiply(
    rule: Accumulation, a: Matrix, b: Matrix, origin: tuple[int, int] = (0, 0)
) -> tuple[NDArray[Any], str]:
    """The product of a (m, k) and b (k, n), accumulated by ``rule``, and the kernel's name.

    Operands may be stacks, (s, m, k) and (s, k, n): then each product is, with the same rule and origin.

    ``origin``: row and column of the product's first element in the whole result that it is a tile of
    (it decides the random bits of stochastic rounding).

    Returns (m, n) or (s, m, n) of ``rule.dtype``: every value is a value of ``rule.format``.

    Raises `InputError` if a chunk is not whole groups of lanes, or if a sum is a NaN (or an infinity that
    would wrap) and the format has none.
    """
    m, n = a.shape[-2], b.shape[-1]
    if 0 in a.shape or 0 in b.shape:
        return np.zeros((*a.shape[:-1], n), rule.dtype), "empty"
    # A narrow result wastes the columns of a tile; its transpose has the same bits and fills the tile.
    turned = n < min(m, _NARROW)
    left, right = (b.transposed(), a.transposed()) if turned else (a, b)
    certified = choose_certified(rule, left, right)
    if certified is not None:
        out = np.empty((*left.shape[:-1], right.shape[-1]), np.float32)
        if multiply_integers(certified.grouping, certified.tile, left, right, out)[0]:
            return _turned(rule, out, turned=turned), f"{certified.tile.carrier}_certified"
    chain = choose_chain(rule, left, right)
    if chain is not None:
        singles = multiply_chained(rule, *chain, left, right)
        name = f"{'add' if chain[0].apart else 'fma'}_{chain[0].method}"
        return _turned(rule, singles, turned=turned), name
    choice = choose_tile(rule, left, right)
    if choice is not None:
        out = np.empty((*left.shape[:-1], right.shape[-1]), np.float32)
        if multiply_tiled(rule, choice, left, right, out):
            name = f"{choice.carrier}_{'sticky' if choice.sticky_inner else 'exact'}"
            return _read_out(rule, np.ascontiguousarray(out.swapaxes(-1, -2)) if turned else out), name
    config = _double_choice(rule, a, b)
    if config is not None:
        doubles, failed = _multiply_doubles(rule, config, left, right)
        if turned:
            doubles, failed = doubles.swapaxes(-1, -2), failed.swapaxes(-1, -2)
        sums = np.ascontiguousarray(doubles, rule.dtype)
        _again(rule, a, b, sums, failed)
        return sums, f"f64_{'exact' if config.precision == 'exact' else 'sticky'}"
    if len(a.shape) == 3:
        pairs = zip(_matrices(a), _matrices(b), strict=True)
        return np.stack([multiply(rule, x, y, origin)[0] for x, y in pairs]), "general"
    return accumulate_general(rule, *_as_doubles(a, b), (a.format, b.format), origin), "general"


def _turned(rule: Accumulation, sums: NDArray[np.float32], *, turned: bool) -> NDArray[Any]:
    """Sums as ``rule.dtype``, rows and columns back in their places if they were exchanged."""
    placed = np.ascontiguousarray(sums.swapaxes(-1, -2)) if turned else sums
    return placed.astype(rule.dtype, copy=False)


def _matrices(operand: Matrix) -> list[Matrix]:
    """The matrices of a stack."""
    return [Matrix(array, operand.format) for array in operand.array]


def _again(rule: Accumulation, a: Matrix, b: Matrix, sums: NDArray[Any], failed: NDArray[np.bool_]) -> None:
    """Compute the sums that failed again, in their place."""
    if not failed.any():
        return
    if sums.ndim == 3:
        for each in zip(_matrices(a), _matrices(b), sums, failed, strict=True):
            _again(rule, *each)
        return
    sums[failed] = accumulate_at(rule, *_as_doubles(a, b), (a.format, b.format), np.nonzero(failed))


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
    k = a.shape[-1]
    if rule.accumulator != EXACT and rule.piece(k) < k:
        return None
    bits, unit = a.format.significand_bits + b.format.significand_bits, a.format.unit * b.format.unit
    config = double_config(rule, k, bits, unit, a.largest() * b.largest())
    coded = a.coded or b.coded
    if coded and (config is None or config.precision != "exact" or config.range != "inside"):
        # the codes that the operands really hold may do better
        config = double_config(rule, k, bits, unit, a.largest(held=True) * b.largest(held=True))
    return config


def _multiply_doubles(
    rule: Accumulation, config: DoubleConfig, a: Matrix, b: Matrix
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    (*stack, m, k), n = a.shape, b.shape[-1]
    count, lanes = stack_of(a.array), k if rule.accumulator == EXACT else rule.lanes
    padded = -(-k // lanes) * lanes
    stack_step, row_step, k_step = steps_of(a.array)
    left = _packed(a, (count, stack_step, row_step, k_step, m, k, ROWS, padded))
    stack_step, k_step, column_step = steps_of(b.array)
    right = _packed(b, (count, stack_step, column_step, k_step, n, k, COLUMNS, padded))
    sums, failed = accumulate_doubles(config, rule, left, right, (count, m, n))
    return sums.reshape(*stack, m, n), failed.reshape(*stack, m, n)


def _packed(operand: Matrix, order: tuple[int, ...]) -> NDArray[np.float64]:
    flat = flat_buffer(operand.array)
    if flat.dtype == np.float32:
        return np.asarray(pack_values(flat, *order))
    return np.asarray(pack_decoded(flat, value_table(operand.format).astype(np.float64), *order))
