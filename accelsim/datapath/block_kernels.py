"""Compiled loops on block formats: the largest of each block, scales, elements, and the Hadamard transform.

Arrays are (stack, rows, cols) as they lie in memory; a block is ``sides`` rows and columns of one matrix, the
last ones of a row or column may be short. Whole lines are rounded at once, in float64 and the bits of it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numba.extending import register_jitable

from accelsim.numerics.compiled import kernel
from accelsim.numerics.general_kernel import word_of

_BINADE = 0x7FF << 52  # the exponent's bits of a float64
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # of `random_bits`
_INFINITY = np.int32(0x7F800000)
_WORDS = 2.0**32  # of random bits, as in `numerics.ladder`
_WHOLE = 2.0**52  # added, it makes a smaller number whole
_TRANSFORMED = 16  # numbers that are transformed together

E4M3 = 3, -6, 448.0
"""Fraction bits, lowest exponent and largest value of the block scales of NVFP4."""


@register_jitable
def _binade(value: Any, shape: Any) -> Any:
    """2**e as bits of a float64: e of a non-negative value, at least that of the smallest normal number."""
    return max(np.float64(value).view(np.int64) & _BINADE, np.int64(shape[1] + 1023) << 52)


@register_jitable
def _to_nearest(value: Any, shape: Any) -> Any:
    """A non-negative float64 to nearest even; ``shape``: fraction bits, lowest exponent, largest value."""
    # in the sum's last place stands one step of the format: adding rounds
    addend = 1.5 * np.int64(_binade(value, shape) + ((52 - shape[0]) << 52)).view(np.float64)
    rounded = np.float64(np.float64(value + addend) - addend)
    return shape[2] if rounded > shape[2] else rounded


@register_jitable
def _drawn(value: Any, shape: Any, word: Any) -> Any:
    """`_to_nearest`, but up with a probability: 32 bits of the word against 32 of what is left of a step."""
    binade = _binade(value, shape) - (np.int64(shape[0]) << 52)
    steps = value * np.int64((2046 << 52) - binade).view(np.float64)  # a power of two: exact
    near = np.float64(np.float64(steps + _WHOLE) - _WHOLE)
    whole = near - 1.0 if near > steps else near
    up = (steps - whole) * _WORDS >= _WORDS - np.float64(word >> np.uint64(32))
    rounded = (whole + 1.0 if up else whole) * np.int64(binade).view(np.float64)
    return shape[2] if rounded > shape[2] else rounded


@register_jitable
def _scale(bits: Any, e4m3: bool, tensor: float, shape: Any, top_exponent: int) -> Any:
    """The scale of a block whose largest magnitude has those bits; 0 for zeros, NaN if one is not finite."""
    largest = np.float64(np.int32(bits).view(np.float32))
    if e4m3:
        scale = _to_nearest(largest / (shape[2] * tensor), E4M3)
    else:
        exponent: Any = (np.float64(largest).view(np.int64) >> 52) - 1023 - top_exponent
        power = np.int64(min(max(exponent, -127), 127) + 1023) << 52
        scale = np.int64(power).view(np.float64) if bits > 0 else 0.0
    return np.nan if bits >= _INFINITY else scale


@kernel(parallel=True)
def block_maxima(bits: Any, sides: Any, largest: Any) -> None:
    """The largest magnitude of each block, as the bits of float32: int32 (stack, bands, blocks)."""
    stack, rows, cols = bits.shape
    height, width = sides
    bands, blocks = largest.shape[1:]
    for part in prange(stack * bands):
        item, band = part // bands, part % bands
        top, found = bits[item, band * height], largest[item, band]
        last_row = min(rows, (band + 1) * height)
        if width == 1:
            for c in range(cols):
                found[c] = top[c] & 0x7FFFFFFF
            for r in range(band * height + 1, last_row):
                row = bits[item, r]
                for c in range(cols):
                    found[c] = max(found[c], np.int32(row[c] & 0x7FFFFFFF))
            continue
        for block in range(blocks):
            most = np.int32(0)
            for r in range(band * height, last_row):
                row = bits[item, r, block * width : min(cols, (block + 1) * width)]
                for c in range(row.size):
                    most = max(most, np.int32(row[c] & 0x7FFFFFFF))
            found[block] = most


@register_jitable
def _round_line(
    values: Any, wholes: Any, scales: Any, shape: Any, word: Any, step: Any, stochastic: bool, out: Any
) -> None:  # fmt: skip
    """A line of values, each with its block's scale and that times the tensor's; words are a step apart."""
    if stochastic:
        for c in range(values.size):
            drawn = word_of(word + np.uint64(c) * step)
            found = _drawn(abs(np.float64(values[c])) / wholes[c], shape, drawn) * scales[c]
            out[c] = np.float32(-found if values[c] < 0 else found)
    else:
        for c in range(values.size):
            found = _to_nearest(abs(np.float64(values[c])) / wholes[c], shape) * scales[c]
            out[c] = np.float32(-found if values[c] < 0 else found)


@kernel(parallel=True)
def round_blocks(
    values: Any, sides: Any, largest: Any, tensors: Any, e4m3: bool, shape: Any, top_exponent: int, keys: Any,
    steps: Any, stochastic: bool, scales: Any, out: Any,
) -> None:  # fmt: skip
    """Each block of ``values`` in its format, as element times block scale, in float32; and the scales.

    ``largest``: of `block_maxima`; ``shape``: of the elements, as in `_to_nearest`. A block that holds a NaN
    or an infinity becomes NaN: its scale has no other code. Element (r, c) of matrix s takes word
    r * steps[0] + c * steps[1] of stream keys[s].
    """
    stack, rows, cols = values.shape
    height, width = sides
    bands, blocks = largest.shape[1:]
    line_step, step = _GOLDEN * np.uint64(steps[0]), _GOLDEN * np.uint64(steps[1])
    for part in prange(stack * bands):
        item, band = part // bands, part % bands
        wide, wholes = np.empty(cols), np.empty(cols)
        tensor, maxima, found = tensors[item], largest[item, band], scales[item, band]
        for block in range(blocks):
            found[block] = np.float32(_scale(maxima[block], e4m3, tensor, shape, top_exponent))
        if width == 1:
            for c in range(cols):
                wide[c] = found[c]
        else:
            for block in range(blocks):
                wide[block * width : min(cols, (block + 1) * width)] = found[block]
        for c in range(cols):  # nothing is left of what an infinite scale divides
            wholes[c] = np.inf if wide[c] * tensor == 0.0 else wide[c] * tensor
        for r in range(band * height, min(rows, (band + 1) * height)):
            word = keys[item] + _GOLDEN + np.uint64(r) * line_step
            _round_line(values[item, r], wholes, wide, shape, word, step, stochastic, out[item, r])


@register_jitable
def _butterflies(part: Any) -> None:
    """Columns of ``part`` (16, n) by the 16 x 16 Hadamard matrix: sums and differences, in four rounds."""
    reach = 1
    while reach < _TRANSFORMED:
        for i in range(_TRANSFORMED):
            if i & reach == 0:
                low, high = part[i], part[i + reach]
                for c in range(part.shape[1]):
                    first, second = low[c], high[c]
                    low[c] = first + second
                    high[c] = first - second
        reach *= 2


@kernel(parallel=True)
def hadamard16(values: Any, signs: Any, out: Any) -> None:
    """16 neighbours of a column, times their signs, by the orthogonal 16 x 16 Hadamard matrix.

    ``values`` (stack, k, n), ``out`` (stack, k padded to 16, n), float32.
    """
    stack, k, n = values.shape
    groups = out.shape[1] // _TRANSFORMED
    for at in prange(stack * groups):
        item, first = at // groups, at % groups * _TRANSFORMED
        part = out[item, first : first + _TRANSFORMED]
        for i in range(_TRANSFORMED):
            line = part[i]
            if first + i < k:
                source = values[item, first + i]
                for c in range(n):
                    line[c] = source[c] * signs[i]
            else:
                line[:] = 0
        _butterflies(part)
        for i in range(_TRANSFORMED):
            line = part[i]
            for c in range(n):
                line[c] *= np.float32(0.25)
