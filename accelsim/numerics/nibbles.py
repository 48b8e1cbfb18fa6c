"""Tables of sixteen entries, looked up by whole vectors of 4-bit codes.

A table fits in one register, and x86 has instructions that pick from a register by index; elsewhere the same
loop loads one entry after another. The bits are those of the table either way.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic, register_jitable

from accelsim.numerics.instructions import instruction_set

_I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (8, 16, 32, 64))
_F32 = ir.FloatType()


class _Emitter:
    """Writes the look-up of a few codes in a table of sixteen elements of one type."""

    def __init__(self, builder: ir.IRBuilder, table: Any) -> None:
        self.builder = builder
        self.table = table
        self.wide = instruction_set() in ("vnni", "avx512")

    def vector(self, pointer: Any, element: Any, count: int) -> Any:
        place = self.builder.bitcast(pointer, ir.VectorType(element, count).as_pointer())
        loaded = self.builder.load(place)
        loaded.align = 1
        return loaded

    def call(self, name: str, result: Any, *arguments: Any) -> Any:
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.x86.{name}")
        return self.builder.call(function, arguments)

    def shuffled(self, vector: Any, places: list[int]) -> Any:
        mask = ir.Constant(ir.VectorType(_I32, len(places)), places)
        return self.builder.shuffle_vector(vector, ir.Constant(vector.type, ir.Undefined), mask)

    def bytes_of(self, codes: Any, first: int, apart: int) -> Any:
        """Byte ``first`` of each entry of ``apart`` bytes, by code."""
        count = 64 if self.wide else 32
        entries = self.vector(self.table, _I8, 16 * apart)
        spread = self.shuffled(entries, [first + apart * (i % 16) for i in range(count)])
        name = "avx512.pshuf.b.512" if self.wide else "avx2.pshuf.b"
        return self.call(name, spread.type, spread, self.vector(codes, _I8, count))

    def words_of(self, codes: Any) -> Any:
        builder, low, high = self.builder, self.bytes_of(codes, 0, 2), self.bytes_of(codes, 1, 2)
        words = ir.VectorType(_I16, low.type.count)
        upper = builder.shl(builder.zext(high, words), ir.Constant(words, [8] * words.count))
        return builder.or_(builder.zext(low, words), upper)

    def floats_of(self, codes: Any) -> Any:
        builder, count = self.builder, 16 if self.wide else 8
        places = builder.zext(self.vector(codes, _I8, count), ir.VectorType(_I32, count))
        table = self.vector(self.table, _F32, 16)
        if self.wide:
            return self.call("avx512.permvar.sf.512", table.type, table, places)
        halves = [self.shuffled(table, list(range(first, first + 8))) for first in (0, 8)]
        low, high = (self.call("avx2.permps", half.type, half, places) for half in halves)
        above = builder.icmp_signed(">", places, ir.Constant(places.type, [7] * 8))
        return builder.select(above, high, low)

    def entries_of(self, codes: Any) -> Any:
        """A vector of entries by codes."""
        element = self.table.type.pointee
        if element == _F32:
            return self.floats_of(codes)
        return self.bytes_of(codes, 0, 1) if element == _I8 else self.words_of(codes)


def _look_up_function(module: Any, table_type: Any) -> Any:
    """void(codes, count, table, out) of the module: by vectors, and code by code what is left."""
    name = f"accelsim.translate.{table_type.pointee}"
    found = module.globals.get(name)
    if found is not None:
        return found
    arguments = [_I8.as_pointer(), _I64, table_type, table_type]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    codes, count, table, out = function.args
    done = ir.Constant(_I64, 0)
    if instruction_set() in ("vnni", "avx512", "avx2"):
        emitter = _Emitter(builder, table)
        step = ir.Constant(
            _I64, (64 if emitter.wide else 32) if table_type.pointee != _F32 else 16 if emitter.wide else 8
        )
        turns = builder.udiv(count, step)
        done = builder.mul(turns, step)
        with cgutils.for_range(builder, turns) as turn:
            first = builder.mul(turn.index, step)
            found = emitter.entries_of(builder.gep(codes, [first]))
            place = builder.bitcast(builder.gep(out, [first]), found.type.as_pointer())
            builder.store(found, place).align = 1
    with cgutils.for_range(builder, builder.sub(count, done)) as turn:
        at = builder.add(done, turn.index)
        code = builder.zext(builder.load(builder.gep(codes, [at])), _I64)
        builder.store(builder.load(builder.gep(table, [code])), builder.gep(out, [at]))
    builder.ret_void()
    return function


@intrinsic
def _translate(typing_context, codes, codes_at, count, table, out, out_at):  # type: ignore[no-untyped-def]
    """out[out_at + i] = table[codes[codes_at + i]] for i below ``count``.

    ``codes`` uint8 below 16; ``table``, of at least 16, and ``out``: uint8, int8, int16 or float32, both
    the same. All contiguous.
    """
    signature = types.void(codes, codes_at, count, table, out, out_at)

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        source, entries, target = (
            context.make_array(call.args[place])(context, builder, values[place]).data for place in (0, 3, 4)
        )
        function = _look_up_function(builder.module, entries.type)
        places = builder.gep(source, [values[1]]), builder.gep(target, [values[5]])
        builder.call(function, [places[0], values[2], entries, places[1]])
        return context.get_dummy_value()

    return signature, generate


translate_nibbles: Any = _translate
"""`_translate` without the typing context, which the compiler passes."""


@register_jitable
def translate(codes: Any, at: int, count: int, table: Any, out: Any, out_at: int) -> None:
    """out[out_at + i] = table[codes[at + i]] for i below ``count``; a table of 16 by whole vectors.

    ``codes`` uint8; ``table`` and ``out`` of one type; all contiguous, one axis.
    """
    if table.size == 16:
        translate_nibbles(codes, at, count, table, out, out_at)
    else:
        for i in range(count):
            out[out_at + i] = table[codes[at + i]]
