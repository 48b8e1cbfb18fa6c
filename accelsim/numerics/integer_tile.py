"""The inner tile of a GEMM on integers: dot products of bytes or of 16-bit words, then the tile's rounding.

Operands are integers in units of their formats, side by side along k in words of 32 bits: four bytes or two
16-bit integers. A group's sum is exact; it becomes a float and is added as in `tile_kernel`, whose roundings
these are. The number of words in a group is no matter of compilation, so one tile serves all lanes.
"""

from __future__ import annotations

from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelsim.numerics.instructions import instruction_set
from accelsim.numerics.tile_kernel import TileConfig, TileEmitter

_F32 = ir.FloatType()
_I1, _I8, _I16, _I32, _I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))

PER_WORD = {"i8": 4, "i16": 2}
"""Products to a word of 32 bits, by carrier."""


class _IntegerEmitter(TileEmitter):
    """Shapes: a (words, rows), b (words, cols) of int32, c (rows, `c_step`) of float32."""

    def __init__(self, builder: ir.IRBuilder, config: TileConfig, turn: int, *, whole: bool) -> None:
        super().__init__(builder, config)
        self.turn = turn
        self.whole = whole

    def integers(self) -> list[Any]:
        """One vector of integers per vector of the tile."""
        count = self.config.rows * self.config.vectors
        return [cgutils.alloca_once(self.builder, self.ints) for _ in range(count)]

    def group_sums(self, a: Any, b: Any, start: Any, group: Any, first: Any, words: Any) -> list[Any]:
        """The exact sums of ``words`` words from ``first`` on, one float vector per slot."""
        config, builder = self.config, self.builder
        totals = self.integers()
        byte_pairs = config.carrier == "i8" and instruction_set() != "vnni"
        corrections = self.corrections(start, group) if config.corrected else None
        for slot, place in enumerate(totals):
            zero = corrections is None or byte_pairs
            builder.store(self.int_const(0) if zero else corrections[slot % config.vectors], place)  # type: ignore[index]
        turns = builder.sdiv(words, ir.Constant(_I64, self.turn))
        with cgutils.for_range(builder, turns) as turn:
            at = builder.add(first, builder.mul(turn.index, ir.Constant(_I64, self.turn)))
            sums = [builder.load(place) for place in totals]
            for step in range(self.turn):
                left, right = self.operands(a, b, builder.add(at, ir.Constant(_I64, step)))
                pairs = [(x, y) for x in left for y in right]
                sums = [self.multiplied(total, x, y) for total, (x, y) in zip(sums, pairs, strict=True)]
            for place, total in zip(totals, sums, strict=True):
                builder.store(total, place)
        sums = [builder.load(place) for place in totals]
        if byte_pairs:
            sums = [self.folded(total) for total in sums]
            if corrections is not None:
                sums = [
                    builder.add(total, corrections[slot % config.vectors]) for slot, total in enumerate(sums)
                ]
        return [builder.sitofp(total, self.floats) for total in sums]

    def corrections(self, start: Any, group: Any) -> list[Any]:
        """What an offset on all of a adds too much, negated, by vectors of columns."""
        builder, config = self.builder, self.config
        row = builder.mul(group, ir.Constant(_I64, config.cols))
        places = [builder.add(row, ir.Constant(_I64, v * config.width)) for v in range(config.vectors)]
        return [builder.bitcast(self.load(start, place), self.ints) for place in places]

    def multiplied(self, total: Any, x: Any, y: Any) -> Any:
        """``total`` plus the products of x and y; pairs of 16-bit sums where bytes have no better."""
        builder, known = self.builder, instruction_set()
        if known == "vnni":
            name = "vpdpbusd" if self.config.carrier == "i8" else "vpdpwssd"
            return self._fused(name, total, x, y)
        if self.config.carrier == "i16":
            return builder.add(total, self._pairs(self._as(x, 16), self._as(y, 16)))
        name = "avx512.pmaddubs.w.512" if known == "avx512" else "avx2.pmadd.ub.sw"
        words = self._call(name, self._vector(16), self._as(x, 8), self._as(y, 8))
        return builder.bitcast(builder.add(self._as(total, 16), words), self.ints)

    def folded(self, total: Any) -> Any:
        """Sums of pairs of 16-bit sums."""
        ones = ir.Constant(self._vector(16), [1] * (2 * self.config.width))
        return self._pairs(self._as(total, 16), ones)

    def _pairs(self, x: Any, y: Any) -> Any:
        """Products of 16-bit integers, added in pairs."""
        names = {"vnni": "avx512.pmaddw.d.512", "avx512": "avx512.pmaddw.d.512", "avx2": "avx2.pmadd.wd"}
        return self._call(names.get(instruction_set(), "sse2.pmadd.wd"), self.ints, x, y)

    def _fused(self, name: str, total: Any, x: Any, y: Any) -> Any:
        # Up to LLVM 21 the dot products take their operands as vectors of 32-bit words.
        if llvmlite.binding.llvm_version_info[0] >= 22:
            bits = 8 if name == "vpdpbusd" else 16
            x, y = self._as(x, bits), self._as(y, bits)
        else:
            x, y = self.builder.bitcast(x, self.ints), self.builder.bitcast(y, self.ints)
        return self._call(f"avx512.{name}.512", self.ints, total, x, y)

    def _vector(self, bits: int) -> ir.VectorType:
        return ir.VectorType(ir.IntType(bits), self.config.width * 32 // bits)

    def _as(self, value: Any, bits: int) -> Any:
        return self.builder.bitcast(value, self._vector(bits))

    def _call(self, name: str, result: Any, *arguments: Any) -> Any:
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.x86.{name}")
        return self.builder.call(function, arguments)

    def place_of(self, slot: int, c_step: Any) -> Any:
        """Where the slot's vector lies in c."""
        row, vector = divmod(slot, self.config.vectors)
        first = self.builder.mul(ir.Constant(_I64, row), c_step)
        return self.builder.add(first, ir.Constant(_I64, vector * self.config.width))

    def block(
        self, a: Any, b: Any, c: Any, c_step: Any, start: Any, peak: Any, words: Any, per_group: Any,
        per_chunk: Any, fresh: Any, factor: Any,
    ) -> None:  # fmt: skip
        """One block of k: the sums of a single chunk, or the outer sums of whole chunks, kept in c."""
        builder = self.builder
        sums = self.registers()
        zero = self.float_const(0.0)
        for slot, place in enumerate(sums):
            with builder.if_else(fresh) as (first, later):
                with first:
                    builder.store(zero, place)
                with later:
                    builder.store(self.load(c, self.place_of(slot, c_step)), place)
        groups = self._parts(words, per_group)
        if self.whole:
            self._groups(sums, a, b, start, ir.Constant(_I64, 0), groups, words, per_group)
        else:
            self._chunks(sums, a, b, start, groups, words, per_group, per_chunk)
        scale = self.broadcast(factor)
        for slot, place in enumerate(sums):
            # adding +0 makes a negative zero positive
            value = builder.fadd(builder.fmul(builder.load(place), scale), zero)
            self.store(value, c, self.place_of(slot, c_step))
        if self.config.watched:
            self._note_peak(peak)

    def _parts(self, count: Any, size: Any) -> Any:
        """ceil(count / size)."""
        rounded = self.builder.add(count, self.builder.sub(size, ir.Constant(_I64, 1)))
        return self.builder.sdiv(rounded, size)

    def _lesser(self, x: Any, y: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", x, y), x, y)

    def _groups(
        self, sums: list[Any], a: Any, b: Any, start: Any, first: Any, count: Any, words: Any, per_group: Any
    ) -> None:
        """Add ``count`` groups from ``first`` on to ``sums``, each with one rounding."""
        builder = self.builder
        with cgutils.for_range(builder, count) as turn:
            group = builder.add(first, turn.index)
            at = builder.mul(group, per_group)
            size = self._lesser(builder.sub(words, at), per_group)
            parts = self.group_sums(a, b, start, group, at, size)
            for place, total in zip(sums, parts, strict=True):
                added = self.add_rounded(builder.load(place), total, sticky=self.config.sticky_inner)
                builder.store(self._seen(added), place)

    def _chunks(
        self, outer: list[Any], a: Any, b: Any, start: Any, groups: Any, words: Any, per_group: Any,
        per_chunk: Any,
    ) -> None:  # fmt: skip
        """Add whole chunks to ``outer``, each with one rounding."""
        builder, psum = self.builder, self.registers()
        with cgutils.for_range(builder, self._parts(groups, per_chunk)) as chunk:
            for place in psum:
                builder.store(self.float_const(0.0), place)
            first = builder.mul(chunk.index, per_chunk)
            count = self._lesser(builder.sub(groups, first), per_chunk)
            self._groups(psum, a, b, start, first, count, words, per_group)
            for place, part in zip(outer, psum, strict=True):
                added = self.add_rounded(builder.load(place), builder.load(part), sticky=True)
                builder.store(self._seen(added), place)


@intrinsic(prefer_literal=True)
def _accumulate_block(  # type: ignore[no-untyped-def]
    typing_context, config, turn, a, a_at, b, b_at, c, c_at, c_step, start, start_at, peak, peak_at, words,
    per_group, per_chunk, fresh, factor,
):  # fmt: skip
    """Add ``words`` words of products to the sums ``c[c_at:]``, or start them where ``fresh``.

    ``a[a_at:]`` is (words, rows), ``b[b_at:]`` (words, cols), both int32; ``c[c_at:]`` (rows, cols) float32,
    rows ``c_step`` apart, is written times ``factor``; ``start[start_at:]`` (groups, cols) int32 is read only
    if the configuration is ``corrected``; ``peak[peak_at:]``, ``width`` float32, gets the largest magnitudes
    if it is ``watched``. Offsets in elements. ``per_group`` words to a group (the last may be short),
    ``per_chunk`` groups to a chunk. ``config``: a packed `TileConfig` known at compile time; ``turn``: words
    that every group is a multiple of, negative if all of k is one chunk, whose sum c then is.
    """
    tile, step = TileConfig.unpack(config.literal_value), turn.literal_value
    signature = types.void(
        config, turn, a, a_at, b, b_at, c, c_at, c_step, start, start_at, peak, peak_at, words, per_group,
        per_chunk, fresh, factor,
    )  # fmt: skip

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        def pointer(position: int) -> Any:
            array = context.make_array(call.args[position])(context, builder, values[position])
            place = builder.gep(array.data, [values[position + 1]])
            return builder.bitcast(place, _F32.as_pointer())

        pointers = [pointer(position) for position in (2, 4, 6, 9, 11)]
        arguments = [*pointers, values[8], *values[13:16], builder.trunc(values[16], _I1), values[17]]
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
    a, b, c, start, peak, c_step, words, per_group, per_chunk, fresh, factor = function.args
    emitter = _IntegerEmitter(builder, tile, abs(step), whole=step < 0)
    emitter.block(a, b, c, c_step, start, peak, words, per_group, per_chunk, fresh, factor)
    builder.ret_void()
    return function


accumulate_block: Any = _accumulate_block
"""`_accumulate_block` without the typing context, which the compiler passes."""
