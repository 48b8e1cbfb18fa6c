"""Stacks of matrices cut into blocks along the inner axis of their products, in the layout they have."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.block_kernels import block_maxima, hadamard16, round_blocks
from accelsim.numerics.block_formats import BlockFormat
from accelsim.numerics.formats import number_format
from accelsim.numerics.quantise import round_to
from accelsim.numerics.random_bits import random_words

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]
Words = NDArray[np.uint64]

_INFINITY = 0x7F800000
_SINGLE = number_format("fp32")


@dataclass(frozen=True)
class Blocks:
    """What the array takes for a stack of matrices: their numbers but for the tensors' scales.

    ``values``: float32 (stack, rows, columns), element times block scale. ``tensors``: float64 (stack,), one
    scale for each matrix. ``largest``, ``smallest``: bounds of the finite magnitudes above zero; 1 where
    there are none.
    """

    values: F32
    tensors: F64
    largest: float = 1.0
    smallest: float = 1.0


def in_blocks(
    values: F32, fmt: BlockFormat, axis: int, *, keys: Words | None = None, square: bool = False
) -> Blocks:
    """(stack, rows, cols) in a block format along ``axis``, 1 or 2; each matrix has a tensor's scale.

    The numbers are those of `BlockFormat.decode`; to even, or stochastic with ``keys``, one for each matrix:
    its element (row, i) takes word row * k + i, with k numbers along ``axis``. With ``square`` a block is as
    many rows as columns.
    """
    lying, along = _as_it_lies(values, axis)
    k = values.shape[axis]
    sides = (fmt.block if square or along == 1 else 1, fmt.block if square or along == 2 else 1)
    stack, rows, cols = lying.shape
    largest = np.zeros((stack, -(-rows // sides[0]), -(-cols // sides[1])), np.int32)
    out, scales = np.empty(lying.shape, np.float32), np.empty(largest.shape, np.float32)
    if lying.size == 0:
        return Blocks(out if along == axis else out.swapaxes(1, 2), np.ones(stack))
    block_maxima(lying.view(np.int32), sides, largest)
    tensors = _tensor_scales(fmt, largest)
    shape, top_exponent = _layout(fmt)
    no_keys = np.zeros(stack, np.uint64)
    round_blocks(
        lying, sides, largest, tensors, fmt.scale == "e4m3", shape, top_exponent,
        no_keys if keys is None else keys, (k, 1) if along == 2 else (1, k), keys is not None, scales, out,
    )  # fmt: skip
    return Blocks(out if along == axis else out.swapaxes(1, 2), tensors, *_bounds(fmt, scales))


def transformed(values: F32, axis: int, signs: int, storage: str) -> F32:
    """(stack, rows, cols) after the Hadamard transform along ``axis``, padded to 16, as memory holds it."""
    lying, along = _as_it_lies(values, axis)
    down = lying if along == 1 else np.ascontiguousarray(lying.swapaxes(1, 2))
    stack, k, n = down.shape
    out = np.empty((stack, -(-k // 16) * 16, n), np.float32)
    hadamard16(down, _signs(signs), out)
    rounded = round_to(out, storage)
    return rounded if axis == 1 else rounded.swapaxes(1, 2)


@lru_cache(maxsize=64)
def _signs(key: int) -> F32:
    """16 random signs."""
    drawn = random_words(key, 16) >> np.uint64(63)
    return np.where(drawn == 1, np.float32(-1), np.float32(1))


def _as_it_lies(values: F32, axis: int) -> tuple[F32, int]:
    """C-contiguous (stack, rows, cols), rows and columns exchanged where they lie so, and the axis there."""
    turned = values.swapaxes(1, 2)
    if turned.flags.c_contiguous and not values.flags.c_contiguous:
        return turned, 3 - axis
    return np.ascontiguousarray(values), axis


@lru_cache(maxsize=64)
def _layout(fmt: BlockFormat) -> tuple[tuple[int, int, float], int]:
    """Fraction bits, lowest exponent and largest value of the elements, and the exponent of the largest."""
    element = fmt.element
    shape = element.fraction_bits, 1 - element.bias, element.max_value
    return shape, math.frexp(element.max_value)[1] - 1


def _tensor_scales(fmt: BlockFormat, largest: NDArray[np.int32]) -> F64:
    """FP32(amax / (448 * m)), at least the smallest FP32, of each matrix; 1 for formats without one.

    1, too, where a number is not finite: that of the others is not known then.
    """
    if fmt.scale == "e8m0":
        return np.ones(len(largest))
    bits = largest.max(axis=(1, 2))
    whole = bits.view(np.float32).astype(np.float64) / (448.0 * fmt.element.max_value)
    single = np.maximum(whole.astype(np.float32), np.float32(_SINGLE.min_positive))
    return np.where(bits < _INFINITY, single, np.float32(1)).astype(np.float64)


def _bounds(fmt: BlockFormat, scales: F32) -> tuple[float, float]:
    """Of finite magnitudes above zero: none is larger than the first, none smaller than the second."""
    used = scales[scales > 0]  # no NaN
    if not used.size:
        return 1.0, 1.0
    return float(used.max()) * fmt.element.max_value, float(used.min()) * fmt.element.min_positive
