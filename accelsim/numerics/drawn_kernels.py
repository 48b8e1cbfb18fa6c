"""Stochastic rounding of float32 to codes: kernels of `code_kernels` again, in 32 bits throughout.

A number goes up where its part of a step, in units of 2**-32 of that step and cut to a whole number, plus 32
random bits reaches 2**32. What is cut has at most 24 bits, so it is exact in single precision.
"""

from __future__ import annotations

from typing import Any

import numba
import numpy as np
from llvmlite import ir
from numba import prange
from numba.extending import intrinsic, register_jitable

from accelsim.numerics.compiled import kernel
from accelsim.numerics.general_kernel import word_of
from accelsim.numerics.instructions import instruction_set

_I = np.int32
_F = np.float32
_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_INFINITY = 0x7F800000
_BELOW_ONE = np.float32(1 - 2.0**-24)
_BLOCK = 1 << 10  # draws made before they are used


@intrinsic
def _hidden(typing_context, word):  # type: ignore[no-untyped-def]
    """``word``, through an instruction that is none: a loop over it stays scalar."""

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        same = ir.FunctionType(values[0].type, [values[0].type])
        return builder.call(ir.InlineAsm(same, "", "=r,0"), values)

    return word(word), generate


def _as_it_is(word: Any) -> Any:
    return word


# vectors that have no product of 64 bits are slower at it than one word after another
_SCALAR = instruction_set() in ("sse2", "portable") and not numba.config.DISABLE_JIT  # type: ignore[attr-defined]
_one_by_one: Any = _hidden if _SCALAR else register_jitable(_as_it_is)


@kernel()
def _draw(key: Any, first: Any, draws: Any) -> None:
    """The upper halves of words ``first`` on of a stream."""
    before = key + _GOLDEN * first
    for i in range(draws.size):
        before += _GOLDEN
        draws[i] = np.uint32(word_of(_one_by_one(before)) >> np.uint64(32))


@kernel()
def _reaches(part: Any, draw: Any) -> Any:
    """1 where ``part``, in 0..1, cut to units of 2**-32, plus ``draw`` such units is 1 or more, else 0."""
    below = part < _F(0.5)  # an integer has 31 bits, and a larger part no more than 24 below them
    units = _I(_F(part * (_F(4294967296.0) if below else _F(2147483648.0))))
    units = units if below else _I(units + units)
    # the draw is above what lacks to 2**32, less one; unsigned integers in the order of signed ones
    return _I(_I(_I(draw) ^ _I(-0x80000000)) > _I(units ^ _I(0x7FFFFFFF)))


@kernel()
def _equal_steps(size: Any, draw: Any) -> Any:
    """The steps of 1 that ``size``, below 2**24, is rounded to."""
    whole = _I(size)
    return _I(whole + _reaches(_F(size - _F(whole)), draw))


@kernel(parallel=True)
def drawn_integers_32(values: Any, layout: Any, top: Any, key: Any, first_word: Any, codes: Any) -> Any:
    """`code_kernels.drawn_integers`; ``top``: that place's bits, and those of a step's reciprocal."""
    lowest, largest, mask = _I(layout[0]), _I(layout[1]), _I(layout[2])
    limit, factor = _I(top[0]), np.int32(top[1]).view(np.float32)
    nans: Any = 0
    for block in prange(-(-values.size // _BLOCK)):
        start = block * _BLOCK
        numbers, found = values[start : start + _BLOCK], codes[start : start + _BLOCK]
        draws = np.empty(numbers.size, np.uint32)
        _draw(key, first_word + np.uint64(start), draws)
        void = _I(0)
        for i in range(draws.size):
            word = _I(np.float32(numbers[i]).view(np.int32))
            whole = _I(word & _I(0x7FFFFFFF))
            void = _I(void + _I(whole > _I(_INFINITY)))
            size = _F(_I(min(whole, limit)).view(np.float32) * factor)
            steps = _equal_steps(size, draws[i])
            code = max(_I(-steps), lowest) if word < _I(0) else min(steps, largest)
            found[i] = _I(code & mask)
        nans += np.int64(void)
    return nans


@kernel(parallel=True)
def drawn_floats_32(values: Any, layout: Any, top: Any, key: Any, first_word: Any, codes: Any) -> Any:
    """`code_kernels.drawn_floats`; ``top``: that place's bits, and those of a lowest step's reciprocal."""
    largest, above, nan, sign = _I(layout[0]), _I(layout[1]), _I(layout[2]), _I(layout[3])
    fraction_bits, smallest, offset = _I(layout[4]), _I((layout[5] - 896) << 23), _I(layout[6])
    drop, hidden = _I(23 - fraction_bits), _I(_I(1 << fraction_bits) + offset)
    limit, factor = _I(top[0]), np.int32(top[1]).view(np.float32)
    nans: Any = 0
    for block in prange(-(-values.size // _BLOCK)):
        start = block * _BLOCK
        numbers, found = values[start : start + _BLOCK], codes[start : start + _BLOCK]
        draws = np.empty(numbers.size, np.uint32)
        _draw(key, first_word + np.uint64(start), draws)
        void = _I(0)
        for i in range(draws.size):
            word = _I(np.float32(numbers[i]).view(np.int32))
            whole = _I(word & _I(0x7FFFFFFF))
            void = _I(void + _I(whole > _I(_INFINITY)))
            magnitude = _I(min(whole, limit))
            # bits of a float are nearly a logarithm, and in a binade what is dropped is a part of a step
            carry = _I(np.uint32(draws[i]) >> np.uint32((32 - drop) & 31))
            steep = _I(_I(_I(_I(magnitude - smallest) + carry) >> (drop & 31)) + hidden)
            size = min(_F(np.int32(magnitude).view(np.float32) * factor), _F(1 << 23))
            flat = _I(_equal_steps(size, draws[i]) + offset)
            code = flat if magnitude < smallest else steep
            code = above if code > largest else code
            code = _I(code | _I(_I(word >> _I(31)) & sign))
            found[i] = code if whole <= _I(_INFINITY) else nan
        nans += np.int64(void)
    return nans


@kernel(parallel=True)
def drawn_powers_32(values: Any, layout: Any, top: Any, key: Any, first_word: Any, codes: Any) -> Any:
    """`code_kernels.drawn_powers`; ``top``: that place's bits, and those of the smallest's reciprocal."""
    largest, above, nan, sign = _I(layout[0]), _I(layout[1]), _I(layout[2]), _I(layout[3])
    smallest = _I((layout[4] - 896) << 23)
    shift, step = _I(23 + layout[5]), _I((1 << (1 << layout[5])) - 1)
    within = _I((1 << (23 + layout[5])) - 1)
    limit, factor = _I(top[0]), np.int32(top[1]).view(np.float32)
    nans: Any = 0
    for block in prange(-(-values.size // _BLOCK)):
        start = block * _BLOCK
        numbers, found = values[start : start + _BLOCK], codes[start : start + _BLOCK]
        draws = np.empty(numbers.size, np.uint32)
        _draw(key, first_word + np.uint64(start), draws)
        void = _I(0)
        for i in range(draws.size):
            word = _I(np.float32(numbers[i]).view(np.int32))
            whole = _I(word & _I(0x7FFFFFFF))
            void = _I(void + _I(whole > _I(_INFINITY)))
            magnitude = _I(min(whole, limit))
            place = _I(magnitude - smallest)
            # the number over the power below it, in units of 2**-23, and 2**r of them less that
            ratio = _F(_I(_I(place & within) + _I(0x3F800000)).view(np.float32) * _F(8388608.0))
            lack = _I(_I(_I(step + 1) << _I(23)) - _I(ratio))
            # floor(draw * step / 512), which 32 bits hold in two parts
            fine = _I(_I(_I(draws[i]) & _I(511)) * step)
            drawn = _I(_I(_I(np.uint32(draws[i]) >> np.uint32(9)) * step) + _I(fine >> _I(9)))
            power = _I(_I(place >> (shift & 31)) + _I(_I(1) + _I(drawn >= lack)))
            flat = _reaches(_F(min(np.int32(magnitude).view(np.float32) * factor, _F(1.0))), draws[i])
            code = flat if place < _I(0) else power
            code = above if code > largest else code
            code = _I(code | _I(_I(word >> _I(31)) & sign))
            found[i] = code if whole <= _I(_INFINITY) else nan
        nans += np.int64(void)
    return nans
