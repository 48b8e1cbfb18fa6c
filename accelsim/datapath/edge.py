"""Operands that are quantised where they enter the array, because the GEMM decides how.

Block formats share a scale along the inner axis of a GEMM, which differs from phase to phase: dL/dy is cut
into other blocks for dL/dx than for dL/dW. So such an operand travels as values of the storage
format until it is multiplied.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.block_kernels import hadamard16, multiply_blocks, quantise_blocks
from accelsim.datapath.gemm import rule_of, scaled_product, stored_sums
from accelsim.datapath.quantisers import scaled
from accelsim.datapath.split_k import multiply_pieces
from accelsim.mapping import Plan
from accelsim.network import Operand
from accelsim.numerics.accumulate import Matrix
from accelsim.numerics.accumulation import OWN, Accumulation
from accelsim.numerics.block_formats import BlockFormat, block_format, block_format_names
from accelsim.numerics.formats import number_format
from accelsim.numerics.quantise import largest_magnitude, round_to
from accelsim.numerics.random_bits import random_words
from accelsim.numerics.window_operand import Windows

F32 = NDArray[np.float32]

_LARGEST, _SMALLEST = 2.0**120, 2.0**-100  # of products that single precision neither loses nor overflows
_SINGLE = number_format("fp32")


@dataclass(frozen=True)
class EdgeOperand(Operand):
    """Values of the storage format, to be quantised by the GEMM that takes them.

    ``format``: a block format; or one of single numbers, where ``samples`` independent roundings are
    multiplied one after another and averaged (``scale`` is then its step). ``key``: of stochastic
    ``rounding``. ``square``: blocks extend as far along the other axis. ``signs``: key of a random Hadamard
    transform along the inner axis, on both operands; None: there is none.
    """

    rounding: str = OWN
    key: int | None = None
    square: bool = False
    signs: int | None = None
    samples: int = 1

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
        rows = operand.array.reshape(-1, operand.array.shape[-1])
        plain = _quantised(replace(operand, array=rows), False, None, "fp32", 0)
        return entering(plain).reshape(operand.array.shape)
    if operand.array.dtype == np.float32:
        return operand.array * np.float64(operand.scale)
    return number_format(operand.format).decode(operand.array) * operand.scale


def edge_product(plan: Plan, a: Operand, b: Operand, storage: str, seed: int = 0) -> tuple[F32, str]:
    """What `gemm.scaled_product` gives, for operands of which at least one is an `EdgeOperand`.

    ``seed`` also decides the random bits of the operands, so that each product draws its own.
    """
    samples = max(getattr(operand, "samples", 1) for operand in (a, b))
    if samples > 1:
        return _averaged(plan, (a, b), storage, seed, samples)
    drawn = [one.signs for one in (a, b) if isinstance(one, EdgeOperand) and one.signs is not None]
    signs = drawn[0] if drawn else None
    left = _quantised(a, False, signs, storage, seed)
    right = _quantised(b, True, signs, storage, seed)
    if not (a.format in block_format_names() or b.format in block_format_names()):
        return scaled_product(plan, left, right, storage, seed)
    rule = rule_of(plan, seed)
    if plan.chunk >= plan.k:  # one chunk, also where a transform has padded it
        rule = replace(rule, chunk=max(left.array.shape[1], 1))
    sums, name = _block_sums(rule, _numbers(left), _numbers(right), _group_is_exact(plan, a, b))
    return stored_sums(plan, sums, left.scale, right.scale, storage, "fp32"), name


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


def _quantised(operand: Operand, inner_first: bool, signs: int | None, storage: str, seed: int) -> Operand:
    """Codes, or (of a block format) values without the tensor's scale, which becomes ``scale``."""
    if not isinstance(operand, EdgeOperand):
        return operand
    key = None if operand.key is None else (operand.key + seed) % 2**64
    if operand.format not in block_format_names():
        return scaled(operand.array, number_format(operand.format), operand.scale, operand.rounding, key)
    fmt = block_format(operand.format)
    values = operand.array.T if inner_first else operand.array
    if signs is not None:
        values = _transformed(values, signs, storage)
    found, tensor = block_values(values, fmt, key=key, square=operand.square)
    return Operand(np.ascontiguousarray(found.T) if inner_first else found, fmt.name, tensor)


def _numbers(operand: Operand) -> F32:
    """Float32 values that a quantised operand stands for, its scale left out: codes may meet blocks."""
    if operand.array.dtype == np.float32:
        return operand.array
    return np.asarray(number_format(operand.format).decode(operand.array), np.float32)


def _transformed(values: F32, signs: int, storage: str) -> F32:
    """(rows, k) after the Hadamard transform along k, rounded once to the storage format."""
    rows, k = values.shape
    out = np.empty((rows, -(-k // 16) * 16), np.float32)
    drawn = random_words(signs, 16) >> np.uint64(63)
    hadamard16(values, np.where(drawn == 1, np.float32(-1), np.float32(1)), out)
    return round_to(out, storage)


def block_values(
    values: F32, fmt: BlockFormat, *, key: int | None = None, square: bool = False
) -> tuple[F32, float]:
    """(rows, k) in a block format along k: element times block scale, float32, and the tensor's scale.

    The numbers are those of `BlockFormat.decode`; to even, or stochastic with a ``key`` (element i in C
    order takes word i). With ``square`` a block is as many rows as columns.
    """
    element = fmt.element
    out = np.empty(values.shape, np.float32)
    tensor = _tensor_scale(values, fmt)
    shape = element.fraction_bits, 1 - element.bias, element.max_value
    top_exponent = math.frexp(element.max_value)[1] - 1
    quantise_blocks(
        values, (fmt.block if square else 1, fmt.block), fmt.scale == "e4m3", tensor, shape, top_exponent,
        np.uint64(key or 0), key is not None, out,
    )  # fmt: skip
    return out, tensor


def _tensor_scale(values: F32, fmt: BlockFormat) -> float:
    """FP32(amax / (448 * m)), at least the smallest FP32; 1 for formats without one."""
    if fmt.scale == "e8m0" or values.size == 0:
        return 1.0
    largest = largest_magnitude(np.ascontiguousarray(values))
    if not math.isfinite(largest):
        return 1.0
    whole = float(_SINGLE.round(largest / (448.0 * fmt.element.max_value), overflow="saturate"))
    return max(whole, _SINGLE.min_positive)


def _group_is_exact(plan: Plan, a: Operand, b: Operand) -> bool:
    """Whether all products of a group share the scales of their blocks, in both operands."""
    names = block_format_names()
    blocks = [block_format(one.format).block for one in (a, b) if one.format in names]
    return len(blocks) == 2 and all(block % plan.lanes == 0 for block in blocks)


def _block_sums(rule: Accumulation, a: Any, b: Any, group_is_exact: bool) -> tuple[NDArray[Any], str]:
    """Raw sums in the accumulator's format, by single precision where that is provably the same."""
    k = a.shape[1]
    plain = rule.accumulator == "fp32" and rule.rounding_used == "nearest_even" and not rule.alignment_bits
    if plain and group_is_exact and rule.overflow_used == "infinity" and _in_range(a, b, k):
        out = np.empty((a.shape[0], b.shape[1]), np.float32)
        multiply_blocks(a, b, rule.lanes, min(rule.chunk, k), rule.piece(k), out)
        return out, "block_exact"
    return multiply_pieces(rule, Matrix(a, _SINGLE), Matrix(b, _SINGLE))


def _in_range(a: F32, b: F32, k: int) -> bool:
    """Whether no sum can overflow and no product loses bits at the low end of single precision.

    A NaN goes its way in single precision as it does in the general kernel.
    """
    largest, smallest = _extremes(a)[0] * _extremes(b)[0], _extremes(a)[1] * _extremes(b)[1]
    return bool(np.isnan(largest)) or (4.0 * k * largest < _LARGEST and smallest > _SMALLEST)


def _extremes(values: F32) -> tuple[float, float]:
    """The largest magnitude and the smallest one above zero (1 for both where all are zero)."""
    magnitudes = np.abs(values[values != 0])
    return (float(magnitudes.max()), float(magnitudes.min())) if magnitudes.size else (1.0, 1.0)
