"""Kernels from numbers to codes, one rounding each, and from codes back: integer arithmetic on their bits.

A layout says what a format and a rounding mean in the bits of a float; `code_layouts` makes it.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from accelsim.numerics.compiled import kernel
from accelsim.numerics.general_kernel import word_at
from accelsim.numerics.nibbles import translate_nibbles

_I = np.int32
_F = np.float32
_INFINITY = 0x7F800000
_LOW_BITS = (1 << 52) - 1


@kernel()
def _equal_steps(size: Any, places: Any) -> Any:
    """Steps nearest to ``size`` where all are equal: adding 2**23 of them rounds, half to even.

    ``places``: that sum's addend, and what is left over by a tie that should have gone up, and down.
    """
    total = _F(size + places[0])
    rest = _F(size - _F(total - places[0]))
    steps = _I(_I(np.float32(total).view(np.int32)) - _I(np.float32(places[0]).view(np.int32)))
    return _I(_I(steps + _I(rest == places[1])) - _I(rest == places[2]))


@kernel()
def _equal_steps_even(size: Any, places: Any) -> Any:
    """`_equal_steps` where ties go to the even one, as sums do."""
    total = _F(size + places[0])
    return _I(_I(np.float32(total).view(np.int32)) - _I(np.float32(places[0]).view(np.int32)))


def _nearest_floats(*, ties_to_even: bool) -> Any:
    """The kernel with one of the two ways to break a tie between equal steps.

    Told by a number: a compiled function in its closure would have another name in each process, and the
    cache would never find it.
    """

    @kernel(parallel=True)
    def nearest(values: Any, layout: Any, places: Any, codes: Any) -> None:
        """Codes (sign and magnitude) of float32 ``values``, the nearest ones; parameters of `NearestLayout`.

        32-bit integers throughout: every operation is wrapped so that none is widened, and eight run at once.
        """
        top, small_below, offset, drop, half, odd_bit = (
            _I(layout[0]), _I(layout[1]), _I(layout[2]), _I(layout[3]), _I(layout[4]), _I(layout[5]),
        )  # fmt: skip
        first, largest, above, nan, sign = (
            _I(layout[6]), _I(layout[7]), _I(layout[8]), _I(layout[9]), _I(layout[10])
        )  # fmt: skip
        even = _F(places[0]), _F(places[1]), _F(places[2])
        for i in prange(values.size):
            word = _I(np.float32(values[i]).view(np.int32))
            whole: Any = _I(word & _I(0x7FFFFFFF))
            magnitude: Any = min(whole, top)
            # the distance from rung 0 in the bits of a float32, which are nearly a logarithm
            place = _I(magnitude - offset)
            # the mask tells the compiler that 32 bits are enough to shift in
            carry = _I(half + _I(_I(place >> (drop & 31)) & odd_bit))
            steep = _I(_I(place + carry) >> (drop & 31))
            size = np.int32(magnitude).view(np.float32)
            small = _equal_steps_even(size, even) if ties_to_even else _equal_steps(size, even)
            code = small if magnitude < small_below else steep
            code = _I(0) if code < first else code
            code = above if code > largest else code
            code = _I(code | sign) if word < _I(0) else code
            codes[i] = code if whole <= _I(_INFINITY) else nan

    return nearest


nearest_floats = _nearest_floats(ties_to_even=False)
nearest_floats_even = _nearest_floats(ties_to_even=True)


@kernel(parallel=True)
def nearest_integers(values: Any, layout: Any, places: Any, codes: Any) -> None:
    """Two's complement (or unsigned) codes of float32 ``values`` (no NaN), the nearest ones."""
    top, lowest, largest, mask = _F(places[3]), _I(layout[0]), _I(layout[1]), _I(layout[2])
    even = _F(places[0]), _F(places[1]), _F(places[2])
    for i in prange(values.size):
        value = _F(values[i])
        steps = _equal_steps(min(abs(value), top), even)
        code = max(_I(-steps), lowest) if value < _F(0.0) else min(steps, largest)
        codes[i] = _I(code & mask)


@kernel()
def _with_32_bits(size: float, exponent: Any, scale: Any) -> Any:
    """floor(size / 2**(exponent - scale)); exponents as fields of a float64."""
    units = size * np.int64((scale - exponent) << 52).view(np.float64)
    # below 2**51 the sum's low bits are the nearest integer: floor itself is a call on old machines
    total = np.float64(units + 4503599627370496.0)
    above = np.int64(np.float64(total - 4503599627370496.0) > units)
    return (np.float64(total).view(np.int64) & _LOW_BITS) - above


_SCALE = 2 * 1023 + 32


@kernel(parallel=True)
def drawn_floats(values: Any, layout: Any, top: float, key: Any, first_word: Any, codes: Any) -> Any:
    """Stochastic rounding to binary floating point (sign and magnitude): the draw carries into the code.

    ``values`` float32 or float64, ``layout`` and ``top`` of `DrawnLayout`. Returns how many were NaN.
    """
    largest, above, nan, sign, fraction_bits, lowest, offset = (
        layout[0], layout[1], layout[2], layout[3], layout[4], layout[5], layout[6]
    )  # fmt: skip
    nans: Any = 0
    for i in prange(values.size):
        value: Any = np.float64(values[i])
        nans += np.int64(value != value)
        size = min(abs(value), top)
        binade = max(np.float64(size).view(np.int64) >> 52, lowest)
        draw = np.int64(word_at(key, first_word + np.uint64(i)) >> np.uint64(32))
        units = _with_32_bits(size, binade, _SCALE + fraction_bits)
        code = ((units + draw) >> 32) + ((binade - lowest) << fraction_bits) + offset
        code = above if code > largest else code
        code = code | sign if value.view(np.int64) < 0 else code
        codes[i] = code if value == value else nan
    return nans


@kernel(parallel=True)
def drawn_integers(values: Any, layout: Any, top: float, key: Any, first_word: Any, codes: Any) -> Any:
    """Stochastic rounding to two's complement (or unsigned) codes; as `drawn_floats`."""
    lowest, largest, mask, unit = layout[0], layout[1], layout[2], layout[3]
    nans: Any = 0
    for i in prange(values.size):
        value: Any = np.float64(values[i])
        nans += np.int64(value != value)
        draw = np.int64(word_at(key, first_word + np.uint64(i)) >> np.uint64(32))
        steps = (_with_32_bits(min(abs(value), top), unit, _SCALE) + draw) >> 32
        codes[i] = (max(-steps, lowest) if value < 0.0 else min(steps, largest)) & mask
    return nans


@kernel(parallel=True)
def drawn_sums(sums: Any, layout: Any, top: float, step: float, seed: Any, out: Any) -> None:
    """float64 (rows, cols) to whole numbers of ``step``: the values of the codes of `drawn_integers`.

    The element in row i and column j takes word 0 of stream word(word(seed, i), j), as a sum of
    `general_kernel` does.
    """
    lowest, largest, unit = layout[0], layout[1], layout[3]
    for i in prange(sums.shape[0]):
        row = word_at(seed, np.uint64(i))
        for j in range(sums.shape[1]):
            value: Any = sums[i, j]
            draw = np.int64(word_at(word_at(row, np.uint64(j)), np.uint64(0)) >> np.uint64(32))
            steps = (_with_32_bits(min(abs(value), top), unit, _SCALE) + draw) >> 32
            out[i, j] = (max(-steps, lowest) if value < 0.0 else min(steps, largest)) * step


@kernel(parallel=True)
def drawn_powers(values: Any, layout: Any, top: float, key: Any, first_word: Any, codes: Any) -> Any:
    """Stochastic rounding to zero and powers of 2**r, r = 1, 2 or 4; the smallest power has code 1.

    Between zero and the smallest power the step is that power, else (2**r - 1) times the power below.
    """
    largest, above, nan, sign, smallest, shift = (
        layout[0], layout[1], layout[2], layout[3], layout[4], layout[5]
    )  # fmt: skip
    step = np.float64((1 << (1 << shift)) - 1)
    nans: Any = 0
    for i in prange(values.size):
        value: Any = np.float64(values[i])
        nans += np.int64(value != value)
        size = min(abs(value), top)
        power = ((np.float64(size).view(np.int64) >> 52) - smallest) >> shift
        small = power < 0
        below = smallest if small else smallest + (power << shift)
        # what is wanted is a whole number, and the scale a power of two: nothing here is rounded
        units = size * np.int64((_SCALE - below) << 52).view(np.float64)
        draw = np.float64(np.int64(word_at(key, first_word + np.uint64(i)) >> np.uint64(32)))
        needed = 4294967296.0 - draw
        wanted = needed if small else needed * step + 4294967296.0
        code = (0 if small else power + 1) + np.int64(units >= wanted)
        code = above if code > largest else code
        code = code | sign if value.view(np.int64) < 0 else code
        codes[i] = code if value == value else nan
    return nans


@kernel(parallel=True)
def drawn_below(
    values: Any, smallest: float, first_code: int, sign: int, key: Any, first_word: Any, codes: Any
) -> None:
    """Codes of what lies between zero and a smallest number that is no power of two; others stay."""
    for i in prange(values.size):
        size = abs(np.float64(values[i]))
        if size < smallest:
            draw = np.float64(word_at(key, first_word + np.uint64(i)) >> np.uint64(32))
            up = size * 4294967296.0 >= (4294967296.0 - draw) * smallest  # both products are exact
            negative = np.float64(values[i]).view(np.int64) < 0
            codes[i] = (first_code if up else 0) | (sign if negative else 0)


@kernel(parallel=True)
def odd_singles(values: Any, singles: Any) -> None:
    """float64 to float32, an inexact one to the odd neighbour: no later rounding sees a difference."""
    for i in prange(values.size):
        value = values[i]
        single = np.float32(value)
        bits = np.int64(single.view(np.int32))
        inexact = np.int64(np.float64(single) != value and value == value and abs(value) != np.inf)
        larger = np.int64(abs(np.float64(single)) > abs(value))
        singles[i] = np.int32((bits - larger * inexact) | inexact).view(np.float32)


@kernel(parallel=True)
def look_up(codes: Any, table: Any, out: Any) -> None:
    """out[i] = table[codes[i]]."""
    for i in prange(codes.size):
        out[i] = table[codes[i]]


_PIECE = 1 << 14  # codes looked up by one thread at a time


@kernel(parallel=True)
def look_up_nibbles(codes: Any, table: Any, out: Any) -> None:
    """`look_up` in a table of at most 16 entries of at most 32 bits, many codes at once."""
    sixteen = np.zeros(16, table.dtype)
    sixteen[: table.size] = table
    for piece in prange(-(-codes.size // _PIECE)):
        first = piece * _PIECE
        translate_nibbles(codes, first, min(_PIECE, codes.size - first), sixteen, out, first)


@kernel()
def largest_code(codes: Any) -> Any:
    """The largest of unsigned codes."""
    largest = codes[0]
    for i in range(codes.size):
        largest = max(largest, codes[i])
    return largest


@kernel()
def used_codes(codes: Any, used: Any) -> None:
    """Set ``used`` at every code there is."""
    for i in range(codes.size):
        used[codes[i]] = True
