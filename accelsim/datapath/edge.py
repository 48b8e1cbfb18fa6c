"""Operands that are quantised where they enter the array, because the GEMM decides how.

Block formats share a scale along the inner axis of a GEMM, which differs from phase to phase: dL/dy is cut
into other blocks for dL/dx than for dL/dW. So such an operand travels as values of the storage
format until it is multiplied.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.block_operands import Blocks, in_blocks, transformed
from accelsim.datapath.block_product import block_sums, groups_are_exact
from accelsim.datapath.gemm import Seeds, one_by_one, scaled_product, stored_stack
from accelsim.datapath.quantisers import scaled
from accelsim.mapping import Plan
from accelsim.network import Operand
from accelsim.numerics.accumulation import OWN
from accelsim.numerics.block_formats import block_format, block_format_names
from accelsim.numerics.formats import number_format
from accelsim.numerics.quantise import round_to, values_of
from accelsim.numerics.random_bits import random_words
from accelsim.numerics.window_operand import Windows

F32 = NDArray[np.float32]
Words = NDArray[np.uint64]

_BLOCK_FORMATS = frozenset(block_format_names())
_MOST_KEPT = 4  # arrangements of one operand: as it is and transposed, with and without a transform


@dataclass(frozen=True)
class EdgeOperand(Operand):
    """Values of the storage format, to be quantised by the GEMM that takes them.

    ``format``: a block format; or one of single numbers, where ``samples`` independent roundings are
    multiplied one after another and averaged (``scale`` is then its step). ``key``: of stochastic
    ``rounding``. ``square``: blocks extend as far along the other axis. ``signs``: key of a random Hadamard
    transform along the inner axis, on both operands; None: there is none. ``kept``: what the blocks of an
    operand that many products take were, by arrangement; None: they are not kept.
    """

    rounding: str = OWN
    key: int | None = None
    square: bool = False
    signs: int | None = None
    samples: int = 1
    kept: dict[Any, tuple[Any, Blocks]] | None = field(default=None, compare=False, repr=False)

    def rearranged(self, array: NDArray[Any]) -> EdgeOperand:
        """See `Operand.rearranged`."""
        return replace(self, array=array)

    def seen(self, windows: Windows) -> EdgeOperand:
        """See `Operand.seen`; blocks are cut from the matrix, so it is made."""
        return self.rearranged(windows.array)


def entering(operand: Operand) -> NDArray[Any]:
    """The numbers that the array takes for an operand, float64 in its shape.

    An `EdgeOperand` is cut into blocks along its last axis, which is the inner one of only some GEMMs.
    """
    if isinstance(operand, EdgeOperand):
        if operand.format in _BLOCK_FORMATS:
            rows = operand.array.reshape(1, -1, operand.array.shape[-1])
            keys = None if operand.key is None else np.array([operand.key], np.uint64)
            blocks = in_blocks(rows, block_format(operand.format), 2, keys=keys, square=operand.square)
            return np.reshape(blocks.values * blocks.tensors[0], operand.array.shape)
        return entering(_rounded(operand, 0))
    if operand.array.dtype == np.float32:
        return operand.array * np.float64(operand.scale)
    return number_format(operand.format).decode(operand.array) * operand.scale


def edge_product(plan: Plan, a: Operand, b: Operand, storage: str, seed: Seeds = 0) -> tuple[F32, str]:
    """What `gemm.scaled_product` gives, for operands of which at least one is an `EdgeOperand`.

    ``seed`` also decides the random bits of the operands, so that each product draws its own. Operands may
    be stacks, (s, m, k) and (s, k, n), with seeds uint64 (s,): then each product is what it is alone.
    """
    by_blocks = a.format in _BLOCK_FORMATS or b.format in _BLOCK_FORMATS
    singly = [one for one in (a, b) if isinstance(one, EdgeOperand) and one.format not in _BLOCK_FORMATS]
    if isinstance(seed, np.ndarray):
        if singly or not by_blocks or "stochastic" in plan.rounding:
            return one_by_one(
                edge_product(plan, a.rearranged(x), b.rearranged(y), storage, int(each))
                for x, y, each in zip(a.array, b.array, seed, strict=True)
            )
        return _block_product(plan, a, b, storage, seed)
    samples = max((one.samples for one in singly), default=1)
    if samples > 1:
        return _averaged(plan, (a, b), storage, seed, samples)
    left, right = _rounded(a, seed), _rounded(b, seed)
    if not by_blocks:
        return scaled_product(plan, left, right, storage, seed)
    stacks = left.rearranged(left.array[None]), right.rearranged(right.array[None])
    product, name = _block_product(plan, *stacks, storage, np.array([seed], np.uint64))
    return product[0], name


def _averaged(
    plan: Plan, operands: tuple[Operand, Operand], storage: str, seed: int, samples: int
) -> tuple[F32, str]:
    """The mean of the products of independent roundings, added in single precision, rounded once."""
    total, name = np.zeros((plan.m, plan.n), np.float32), ""
    for number in range(samples):
        seeds = int(random_words(seed, 1, number)[0])
        a, b = (replace(one, samples=1) if isinstance(one, EdgeOperand) else one for one in operands)
        product, name = edge_product(plan, a, b, storage, seeds)
        total += product
    return round_to(total * np.float32(1.0 / samples), storage), name


def _rounded(operand: Operand, seed: int) -> Operand:
    """Codes of an operand whose numbers are rounded one by one; others as they are."""
    if not isinstance(operand, EdgeOperand) or operand.format in _BLOCK_FORMATS:
        return operand
    key = None if operand.key is None else (operand.key + seed) % 2**64
    return scaled(operand.array, number_format(operand.format), operand.scale, operand.rounding, key)


def _block_product(plan: Plan, a: Operand, b: Operand, storage: str, seeds: Words) -> tuple[F32, str]:
    """Products of stacks of which at least one is cut into blocks."""
    drawn = [one.signs for one in (a, b) if isinstance(one, EdgeOperand) and one.signs is not None]
    signs = drawn[0] if drawn else None
    left, right = _entered(a, 2, signs, storage, seeds), _entered(b, 1, signs, storage, seeds)
    sums, name = block_sums(plan, left, right, groups_are_exact(plan.lanes, a.format, b.format), seeds)
    return stored_stack(plan, sums, left.tensors, right.tensors, storage), name


def _entered(operand: Operand, axis: int, signs: int | None, storage: str, seeds: Words) -> Blocks:
    """What the array takes for a stack, cut along ``axis``; codes may meet blocks."""
    stack = len(operand.array)
    if not isinstance(operand, EdgeOperand):
        values = operand.array
        if values.dtype != np.float32:
            values = values_of(values, number_format(operand.format))
        return Blocks(values, np.full(stack, operand.scale))
    if operand.kept is None or operand.key is not None:
        return _cut(operand, axis, signs, storage, seeds)
    array = operand.array
    place = array.__array_interface__["data"][0], array.shape, array.strides, axis, signs
    if place not in operand.kept:
        if len(operand.kept) >= _MOST_KEPT:
            operand.kept.clear()
        operand.kept[place] = array, _cut(operand, axis, signs, storage, seeds)  # so no other lies there
    return operand.kept[place][1]


def _cut(operand: EdgeOperand, axis: int, signs: int | None, storage: str, seeds: Words) -> Blocks:
    """A stack in blocks along ``axis``."""
    keys = None
    if operand.key is not None:
        with np.errstate(over="ignore"):
            keys = seeds + np.uint64(operand.key)
    values = operand.array if signs is None else transformed(operand.array, axis, signs, storage)
    return in_blocks(values, block_format(operand.format), axis, keys=keys, square=operand.square)
