"""Lengths of what integer tiles read, group by group: square roots of sums of squares, rounded up.

Words are those of `word_packing`. Written in vector IR, because they are taken of everything that is packed.
"""

from __future__ import annotations

from functools import cache
from typing import Any

from llvmlite import ir
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelsim.numerics.compiled import kernel
from accelsim.numerics.integer_tile import PER_WORD
from accelsim.numerics.tile_kernel import CARRIERS

_I32, _I64 = ir.IntType(32), ir.IntType(64)
_F32 = ir.FloatType()
_TOGETHER = 16  # tiles of a in one piece of work
_UPWARD = 1.0 + 2.0**-20
"""More than what single precision loses in a sum of squares below 2**31, its root and a product of two."""


def _sums(builder: ir.IRBuilder, place: Any, words: Any, step: int, loaded: Any, terms: Any) -> Any:
    """The sum of ``terms`` of the vectors ``loaded``, ``step`` words apart, from ``place`` on."""
    kind = ir.VectorType(_I32, loaded.count)
    total = cgutils.alloca_once_value(builder, ir.Constant(kind, [0] * kind.count))
    with cgutils.for_range(builder, words) as word:
        at = builder.gep(place, [builder.mul(word.index, ir.Constant(_I64, step))])
        vector = builder.load(builder.bitcast(at, loaded.as_pointer()))
        vector.align = 4
        builder.store(builder.add(builder.load(total), terms(vector)), total)
    return builder.load(total)


def _length(builder: ir.IRBuilder, squares: Any) -> Any:
    """The square root of integers as floats, not below the true one."""
    floats = _F32 if squares.type == _I32 else ir.VectorType(_F32, squares.type.count)
    name = "llvm.sqrt.f32" if floats == _F32 else f"llvm.sqrt.v{floats.count}f32"
    function = cgutils.get_or_insert_function(builder.module, ir.FunctionType(floats, [floats]), name)
    root = builder.call(function, [builder.sitofp(squares, floats)])
    upward = ir.Constant(floats, _UPWARD if floats == _F32 else [_UPWARD] * floats.count)
    return builder.fmul(root, upward)


def _largest_row(builder: ir.IRBuilder, squares: Any, side: int) -> Any:
    """The largest sum of ``side`` neighbours."""
    count, rows = squares.type.count, []
    for row in range(count // side):
        total = None
        for i in range(side):
            part = builder.extract_element(squares, ir.Constant(_I32, row * side + i))
            total = part if total is None else builder.add(total, part)
        rows.append(total)
    most = rows[0]
    for each in rows[1:]:
        most = builder.select(builder.icmp_signed(">", each, most), each, most)
    return most


@intrinsic(prefer_literal=True)
def _tile_length(typing_context, carrier, rows, tiles, at, words, offset):  # type: ignore[no-untyped-def]
    """A bound of the length of the longest of ``rows`` rows of a tile, ``words`` words from tiles[at] on.

    ``tiles``: int32 (words, rows), elements unsigned bytes from which ``offset`` (int32) is taken away, or
    16-bit integers, by ``carrier`` (its place in `CARRIERS`, known at compile time as ``rows`` is).
    """
    side, height = PER_WORD[CARRIERS[carrier.literal_value]], rows.literal_value
    signature = types.float32(carrier, rows, tiles, at, words, types.int32)

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        array = context.make_array(call.args[2])(context, builder, values[2])
        loaded = ir.VectorType(ir.IntType(32 // side), height * side)
        wide = ir.VectorType(_I32, height * side)
        single = builder.insert_element(ir.Constant(wide, ir.Undefined), values[5], ir.Constant(_I32, 0))
        none = ir.Constant(ir.VectorType(_I32, height * side), [0] * height * side)
        moved = builder.shuffle_vector(single, ir.Constant(wide, ir.Undefined), none)

        def squares(vector: Any) -> Any:
            found = builder.zext(vector, wide) if side == 4 else builder.sext(vector, wide)
            found = builder.sub(found, moved)
            return builder.mul(found, found)

        total = _sums(builder, builder.gep(array.data, [values[3]]), values[4], height, loaded, squares)
        return _length(builder, _largest_row(builder, total, side))

    return signature, generate


@intrinsic(prefer_literal=True)
def _panel_lengths(  # type: ignore[no-untyped-def]
    typing_context, carrier, cols, width, panels, at, words, lengths, lengths_at
):
    """lengths[lengths_at + j] = a bound of the length of column j, ``words`` words from panels[at] on.

    ``panels``: int32 (words, cols), elements signed, of ``carrier`` (as in `_tile_length`). ``lengths``:
    float32.
    """
    side, count, vector = PER_WORD[CARRIERS[carrier.literal_value]], cols.literal_value, width.literal_value
    signature = types.void(carrier, cols, width, panels, at, words, lengths, lengths_at)

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        source = context.make_array(call.args[3])(context, builder, values[3]).data
        target = context.make_array(call.args[6])(context, builder, values[6]).data
        loaded, bits = ir.VectorType(_I32, vector), 32 // side

        def squares(words: Any) -> Any:
            total = None
            for part in range(side):
                moved = builder.shl(words, ir.Constant(loaded, [32 - bits - part * bits] * vector))
                each = builder.ashr(moved, ir.Constant(loaded, [32 - bits] * vector))
                each = builder.mul(each, each)
                total = each if total is None else builder.add(total, each)
            return total

        for first in range(0, count, vector):
            start = builder.gep(source, [builder.add(values[4], ir.Constant(_I64, first))])
            total = _sums(builder, start, values[5], count, loaded, squares)
            place = builder.gep(target, [builder.add(values[7], ir.Constant(_I64, first))])
            found = _length(builder, total)
            builder.store(found, builder.bitcast(place, found.type.as_pointer())).align = 4
        return context.get_dummy_value()

    return signature, generate


tile_length: Any = _tile_length
panel_lengths: Any = _panel_lengths
"""The intrinsics without the typing context, which the compiler passes."""


@cache
def lengths_kernel(carrier: str, rows: int, cols: int, width: int) -> Any:
    """The compiled loops that take the lengths of all tiles and panels of a stack of products.

    tiles: int32 (stack, blocks, m / rows, `tile_words`). panels: int32 (products, n / cols, words, cols).
    cut: (words, words per group, words of a block). held: words that are not beyond k. heights: float32
    (stack * (m / rows), groups). widths: float32 (products * (n / cols), groups, cols).
    """
    number = CARRIERS.index(carrier)

    @kernel(parallel=True)
    def lengths(tiles: Any, panels: Any, cut: Any, held: int, offset: Any, heights: Any, widths: Any) -> None:
        words, per_group, block = cut
        _, blocks, row_tiles, apart = tiles.shape
        flat, all_widths = tiles.reshape(-1), widths.reshape(-1)
        groups, bands = heights.shape[1], -(-heights.shape[0] // _TOGETHER)
        for piece in prange(bands + widths.shape[0]):
            if piece >= bands:
                panel = piece - bands
                for group in range(groups):
                    first = group * per_group
                    at, size = (panel * words + first) * cols, min(per_group, words - first)
                    place = (panel * groups + group) * cols
                    panel_lengths(number, cols, width, panels, at, size, all_widths, place)
                continue
            for tile in range(piece * _TOGETHER, min((piece + 1) * _TOGETHER, heights.shape[0])):
                matrix, row = tile // row_tiles, tile % row_tiles
                for group in range(groups):
                    first = group * per_group
                    size, part = max(0, min(per_group, held - first)), first // block
                    at = ((matrix * blocks + part) * row_tiles + row) * apart + (first - part * block) * rows
                    heights[tile, group] = tile_length(number, rows, flat, at, size, offset)

    return lengths
