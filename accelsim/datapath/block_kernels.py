"""Compiled loops on block formats: quantising along an axis, and products whose blocks add up exactly."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import prange

from accelsim.numerics.compiled import kernel
from accelsim.numerics.general_kernel import word_at

_WORDS = 2.0**32  # of random bits, as in `numerics.ladder`
E4M3 = 3, -6, 448.0
"""Fraction bits, lowest exponent and largest value of the block scales of NVFP4."""


@kernel()
def _round_small(value: float, shape: Any, drawn: Any) -> Any:
    """A non-negative float64 in a small format, to even or (``drawn`` >= 0: 32 random bits) stochastically.

    ``shape``: fraction bits, exponent of the smallest normal number, largest value; saturating.
    """
    fraction_bits, lowest, top = shape
    if value == 0.0:
        return 0.0
    exponent = max(math.frexp(value)[1] - 1, lowest)
    step = math.ldexp(1.0, int(exponent - fraction_bits))
    steps = value / step  # a power of two: exact
    whole = np.floor(steps) if drawn >= 0 else np.rint(steps)
    if drawn >= 0 and np.floor((steps - whole) * _WORDS) + drawn >= _WORDS:
        whole += 1.0
    return min(whole * step, top)


@kernel()
def _block_scale(largest: float, e4m3: bool, tensor: float, shape: Any, top_exponent: int) -> Any:
    """The scale of a block with that largest magnitude, the tensor's left out."""
    if e4m3:
        return _round_small(largest / (shape[2] * tensor), E4M3, np.int64(-1))
    if largest == 0.0:
        return 1.0
    exponent = math.frexp(largest)[1] - 1 - top_exponent
    return math.ldexp(1.0, int(min(max(exponent, -127), 127)))


@kernel(parallel=True)
def quantise_blocks(
    values: Any, sides: Any, e4m3: bool, tensor: float, shape: Any, top_exponent: int, key: Any,
    stochastic: bool, out: Any,
) -> None:  # fmt: skip
    """Each block of ``values`` (rows, k) in its format, as element times block scale, in float32.

    ``sides``: rows and columns of a block; ``shape``: of the elements, as in `_round_small`. A block that
    holds a NaN or an infinity becomes NaN: its scale has no other code.
    """
    rows, k = values.shape
    height, width = sides
    for band in prange(-(-rows // height)):
        last_row = min(rows, (band + 1) * height)
        for first in range(0, k, width):
            last = min(k, first + width)
            largest, finite = 0.0, True
            for r in range(band * height, last_row):
                for i in range(first, last):
                    magnitude = abs(np.float64(values[r, i]))
                    finite = finite and math.isfinite(magnitude)
                    largest = max(largest, magnitude)
            scale = _block_scale(largest, e4m3, tensor, shape, top_exponent) if finite else np.nan
            whole = scale * tensor
            for r in range(band * height, last_row):
                for i in range(first, last):
                    magnitude = abs(np.float64(values[r, i]))
                    drawn = np.int64(-1)
                    if stochastic:
                        drawn = np.int64(word_at(key, np.uint64(r * k + i)) >> np.uint64(32))
                    element = _round_small(magnitude / whole, shape, drawn) if whole > 0.0 else 0.0
                    found = element * scale if finite else np.nan
                    out[r, i] = np.float32(-found if values[r, i] < 0 else found)


@kernel(parallel=True)
def hadamard16(values: Any, signs: Any, out: Any) -> None:
    """Each 16 neighbours of a row, times their signs, by the orthogonal 16 x 16 Hadamard matrix.

    ``values`` (rows, k), ``out`` (rows, k padded to 16), float32; added in the order of four butterflies.
    """
    rows, k = values.shape
    for r in prange(rows):
        part = np.empty(16, np.float32)
        for first in range(0, out.shape[1], 16):
            for i in range(16):
                part[i] = values[r, first + i] * signs[i] if first + i < k else np.float32(0.0)
            reach = 1
            while reach < 16:
                for i in range(16):
                    if i & reach == 0:
                        low, high = part[i], part[i + reach]
                        part[i], part[i + reach] = low + high, low - high
                reach *= 2
            for i in range(16):
                out[r, first + i] = part[i] * np.float32(0.25)


@kernel(parallel=True)
def multiply_blocks(a: Any, b: Any, lanes: int, chunk: int, piece: int, out: Any) -> None:
    """a (m, k) times b (k, n), float32, where float32 holds every sum of ``lanes`` products exactly.

    Then an add in float32 is the one rounding of an fp32 accumulator. The order of additions is that of
    `numerics.accumulation`.
    """
    m, k = a.shape
    n = b.shape[1]
    for row in prange(m):
        group, psum = np.empty(n, np.float32), np.empty(n, np.float32)
        outer, total = np.empty(n, np.float32), np.zeros(n, np.float32)
        for piece_start in range(0, k, piece):
            piece_stop = min(piece_start + piece, k)
            for start in range(piece_start, piece_stop, chunk):
                stop = min(start + chunk, piece_stop)
                psum[:] = 0
                for first in range(start, stop, lanes):
                    last = min(first + lanes, stop)
                    group[:] = 0
                    for i in range(first, last - 3, 4):
                        a0, a1, a2, a3 = a[row, i], a[row, i + 1], a[row, i + 2], a[row, i + 3]
                        for j in range(n):  # exact sums: any order
                            group[j] += (a0 * b[i, j] + a1 * b[i + 1, j]) + (
                                a2 * b[i + 2, j] + a3 * b[i + 3, j]
                            )
                    for i in range(last - (last - first) % 4, last):
                        for j in range(n):
                            group[j] += a[row, i] * b[i, j]
                    for j in range(n):
                        psum[j] += group[j]
                for j in range(n):
                    outer[j] = psum[j] if start == piece_start else outer[j] + psum[j]
            for j in range(n):
                total[j] = outer[j] if piece_start == 0 else total[j] + outer[j]
        for j in range(n):
            out[row, j] = total[j]
