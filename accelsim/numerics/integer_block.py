"""The tiles on integers as functions that compiled loops call: group by group, or certified."""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import types
from numba.extending import intrinsic

from accelsim.numerics.certified_tile import Certificate, CertifiedEmitter
from accelsim.numerics.integer_tile import Cut, IntegerEmitter
from accelsim.numerics.tile_kernel import TileConfig
from accelsim.numerics.tile_writer import F32, I64, array_place

_I1 = ir.IntType(1)
_ARRAYS = (2, 4, 6, 9, 11, 13, 15, 17)
"""Positions of the arrays among the arguments; an offset follows each, and the last is of int64."""


@intrinsic(prefer_literal=True)
def _accumulate_block(  # type: ignore[no-untyped-def]
    typing_context, config, turn, a, a_at, b, b_at, c, c_at, c_step, start, start_at, peak, peak_at, heights,
    heights_at, widths, widths_at, failed, failed_at, words, per_group, per_chunk, offset, fresh, factor,
):  # fmt: skip
    """Add ``words`` words of products to the sums ``c[c_at:]``, or start them where ``fresh``.

    ``a[a_at:]`` is (words, rows), ``b[b_at:]`` (words, cols), both int32; ``c[c_at:]`` (rows, cols) float32,
    rows ``c_step`` apart, is written times ``factor``; ``start[start_at:]`` (groups, cols) int32 is read only
    if the configuration is ``corrected``; ``peak[peak_at:]``, ``width`` float32, gets the largest magnitudes
    if it is ``watched``. Offsets in elements. ``per_group`` words to a group (the last may be short),
    ``per_chunk`` groups to a chunk. ``config``: a packed `TileConfig` known at compile time; ``turn``: words
    that every group is a multiple of, negative if all of k is one chunk, whose sum c then is.

    With lanes of 0 a group is added with one rounding. Else it stands for a chain of additions of so many
    products each, which `certified_tile` proves exact or goes through: then ``heights[heights_at:]``
    (groups) and ``widths[widths_at:]`` (groups, cols), float32, are bounds of the lengths of rows of a and of
    columns of b, ``offset`` (int32) is that of a, and ``failed[failed_at]`` (int64) counts the rows of a tile
    and group that were gone through.
    """
    tile, step = TileConfig.unpack(config.literal_value), turn.literal_value
    signature = types.void(
        config, turn, a, a_at, b, b_at, c, c_at, c_step, start, start_at, peak, peak_at, heights, heights_at,
        widths, widths_at, failed, failed_at, words, per_group, per_chunk, types.int32, fresh, factor,
    )  # fmt: skip

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        elements = [F32] * (len(_ARRAYS) - 1) + [I64]
        pointers = [
            array_place(context, builder, call, values, position, element)
            for position, element in zip(_ARRAYS, elements, strict=True)
        ]
        fresh = builder.trunc(values[23], _I1)
        arguments = [*pointers, values[8], *values[19:23], fresh, values[24]]
        builder.call(_block_function(builder.module, tile, step, arguments), arguments)
        return context.get_dummy_value()

    return signature, generate


def _block_function(module: Any, tile: TileConfig, step: int, arguments: list[Any]) -> Any:
    """The tile as a function of the module, so that two calls share it."""
    name = f"accelsim.block.{tile.pack()}.{abs(step)}.{step < 0}"
    found = module.globals.get(name)
    if found is not None:
        return found
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [each.type for each in arguments]), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    a, b, c, start, peak, heights, widths, failed, c_step, *sizes, offset, fresh, factor = function.args
    words, per_group, per_chunk = sizes
    cut = Cut(words, per_group, per_chunk, fresh, factor)
    known = Certificate(heights, widths, failed, peak, offset)
    emitter: IntegerEmitter
    if tile.lanes:
        emitter = CertifiedEmitter(builder, tile, abs(step), known, whole=step < 0)
    else:
        emitter = IntegerEmitter(builder, tile, abs(step), whole=step < 0)
    emitter.block(a, b, c, c_step, start, peak, cut)
    builder.ret_void()
    return function


accumulate_block: Any = _accumulate_block
"""`_accumulate_block` without the typing context, which the compiler passes."""
