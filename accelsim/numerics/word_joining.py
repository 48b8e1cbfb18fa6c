"""Neighbours along k joined to words: four bytes, or two integers of 16 bits, the first lowest."""

from __future__ import annotations

from typing import Any

import numpy as np
from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic, register_jitable

_VECTOR = 16
"""Words joined at once: whatever vectors a machine has, the compiler cuts this to them."""


@intrinsic
def _join_vector(  # type: ignore[no-untyped-def]
    typing_context, source, first, second, third, fourth, target, to
):
    """target[to + j] = the words of source[first + j], source[second + j] ..., for 16 j.

    ``source``: 8 bits (four lines) or 16 (the first two of them); ``target`` int32.
    """
    signature = types.void(source, first, second, third, fourth, target, to)

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        data, out = (context.make_array(call.args[i])(context, builder, values[i]).data for i in (0, 5))
        bits: Any = call.args[0].dtype.bitwidth
        narrow, wide = ir.VectorType(ir.IntType(bits), _VECTOR), ir.VectorType(ir.IntType(32), _VECTOR)
        joined = None
        for line in range(32 // bits):
            place = builder.bitcast(builder.gep(data, [values[1 + line]]), narrow.as_pointer())
            loaded = builder.load(place)
            loaded.align = 1
            part = builder.zext(loaded, wide)
            if joined is None:
                joined = part
            else:
                joined = builder.or_(joined, builder.shl(part, ir.Constant(wide, [line * bits] * _VECTOR)))
        stored = builder.store(joined, builder.bitcast(builder.gep(out, [values[6]]), wide.as_pointer()))
        stored.align = 4
        return context.get_dummy_value()

    return signature, generate


_joined_vector: Any = _join_vector


@register_jitable
def join_lines(source: Any, at: Any, shift: int, count: int, target: Any, to: int) -> None:
    """target[to + j] = the word of source[at[i] + shift + j] over lines i, for j below ``count``.

    ``source`` uint8 (4 lines) or int16 (2 lines), ``at`` (4,); ``target`` int32; all contiguous.
    """
    whole = count // _VECTOR * _VECTOR
    for j in range(0, whole, _VECTOR):
        here = shift + j
        _joined_vector(source, at[0] + here, at[1] + here, at[2] + here, at[3] + here, target, to + j)
    bits = 8 * source.itemsize
    mask = np.uint32((1 << bits) - 1)
    for j in range(whole, count):
        word = np.uint32(0)
        for i in range(32 // bits):
            word |= (np.uint32(source[at[i] + shift + j]) & mask) << np.uint32(i * bits)
        target[to + j] = np.int32(np.uint32(word))
