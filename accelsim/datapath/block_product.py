"""Sums of products of blocks: by single precision, where every group of them is exact in it."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.block_operands import Blocks
from accelsim.datapath.gemm import one_by_one, rule_of
from accelsim.datapath.split_k import multiply_pieces
from accelsim.mapping import Plan
from accelsim.numerics.accumulate import Matrix
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.block_formats import block_format, block_format_names
from accelsim.numerics.formats import number_format
from accelsim.numerics.operand import largest_integer
from accelsim.numerics.tile_kernel import TileConfig
from accelsim.numerics.tile_product import multiply_tiled, tile_shape

F32 = NDArray[np.float32]
Words = NDArray[np.uint64]

_LARGEST, _SMALLEST = 2.0**120, 2.0**-100  # of products that single precision neither loses nor overflows
_EXACT_INTEGERS = 2.0**24
_SCALE_STEPS = {"e8m0": 1, "e4m3": 15}  # the largest significand of a block's scale, as an integer
_SINGLE = number_format("fp32")
_NARROW = 8  # columns that leave most of a tile empty


@lru_cache(maxsize=256)
def groups_are_exact(lanes: int, a: str, b: str) -> bool:
    """Whether single precision holds every sum of a group's products, both operands in these formats.

    All products of a group share the scales of their blocks: so each is a multiple of one unit, and their sum
    is too. The integer that it is must fit in 24 bits.
    """
    if not {a, b} <= set(block_format_names()):
        return False
    formats = block_format(a), block_format(b)
    steps = [largest_integer(fmt.element) * _SCALE_STEPS[fmt.scale] for fmt in formats]
    return all(fmt.block % lanes == 0 for fmt in formats) and lanes * steps[0] * steps[1] <= _EXACT_INTEGERS


def block_sums(
    plan: Plan, a: Blocks, b: Blocks, exact_groups: bool, seeds: Words
) -> tuple[NDArray[Any], str]:
    """Raw sums (stack, m, n) in the accumulator's format, and the kernel.

    By single precision where that is provably the same: its add is then the one rounding of an fp32
    accumulator.
    """
    rule = rule_of(plan)
    k = a.values.shape[2]
    if plan.chunk >= plan.k and plan.chunk < k:  # one chunk, also where a transform has padded it
        rule = _with_chunk(rule, k)
    plain = rule.accumulator == "fp32" and rule.rounding_used == "nearest_even" and not rule.alignment_bits
    if plain and exact_groups and rule.overflow_used == "infinity" and _in_range(a, b, k):
        return multiply_groups(rule, a.values, b.values), "block_exact"
    return one_by_one(
        multiply_pieces(
            replace(rule, seed=int(seed)) if rule.rounding_used == "stochastic" else rule,
            Matrix(x, _SINGLE), Matrix(y, _SINGLE),
        )
        for x, y, seed in zip(a.values, b.values, seeds, strict=True)
    )  # fmt: skip


@lru_cache(maxsize=256)
def _with_chunk(rule: Accumulation, chunk: int) -> Accumulation:
    return replace(rule, chunk=chunk)


def _in_range(a: Blocks, b: Blocks, k: int) -> bool:
    """Whether no sum can overflow and no product loses bits at the low end of single precision.

    A NaN goes its way in single precision as it does in the general kernel.
    """
    return 4.0 * k * a.largest * b.largest < _LARGEST and a.smallest * b.smallest > _SMALLEST


def multiply_groups(rule: Accumulation, a: F32, b: F32) -> F32:
    """a (stack, m, k) times b (stack, k, n), where single precision holds every group's sum exactly.

    Then an add in single precision is the one rounding of an fp32 accumulator. The order of additions is that
    of `numerics.accumulation`; within a group there is none.
    """
    (stack, m, k), n = a.shape, b.shape[2]
    if 0 in (stack, m, k, n):
        return np.zeros((stack, m, n), np.float32)
    if n < min(m, _NARROW):
        turned = multiply_groups(rule, b.swapaxes(1, 2), a.swapaxes(1, 2))
        return np.ascontiguousarray(turned.swapaxes(1, 2))
    tile = TileConfig("fp32", rule.lanes, False, False, *tile_shape(m, n))
    left, right, piece = Matrix(a, _SINGLE), Matrix(b, _SINGLE), rule.piece(k)
    total = np.empty((stack, m, n), np.float32)
    for first in range(0, k, piece):
        sums = np.empty_like(total) if first else total
        a_part = left.piece(first, first + piece, of_columns=True)
        b_part = right.piece(first, first + piece, of_columns=False)
        multiply_tiled(rule, tile, a_part, b_part, sums)
        if first:
            total += sums
    return total
