"""The inner tile of a GEMM on integers: dot products of bytes or of 16-bit words, then the tile's rounding.

Operands are integers in units of their formats, side by side along k in words of 32 bits: four bytes or two
16-bit integers. A group's sum is exact; it becomes a float and is added as in `tile_kernel`, whose roundings
these are. The number of words in a group is no matter of compilation, so one tile serves all lanes.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import llvmlite.binding
from llvmlite import ir
from numba.core import cgutils

from accelsim.numerics.instructions import instruction_set
from accelsim.numerics.tile_kernel import TileConfig, TileEmitter
from accelsim.numerics.tile_writer import index

PER_WORD = {"i8": 4, "i16": 2}
"""Products to a word of 32 bits, by carrier."""


@dataclass(frozen=True)
class Cut:
    """What one block of k is: all are values of the function that is written.

    ``words`` of it, ``per_group`` to a group (the last may be short), ``per_chunk`` groups to a chunk;
    whether its sums begin here (``fresh``); what they are written times (``factor``).
    """

    words: Any
    per_group: Any
    per_chunk: Any
    fresh: Any
    factor: Any


class IntegerEmitter(TileEmitter):
    """Shapes: a (words, rows), b (words, cols) of int32, c (rows, `c_step`) of float32."""

    def __init__(self, builder: ir.IRBuilder, config: TileConfig, turn: int, *, whole: bool) -> None:
        super().__init__(builder, config)
        self.turn = turn
        self.whole = whole

    def group_sums(self, a: Any, b: Any, start: Any, group: Any, first: Any, words: Any) -> list[Any]:
        """The exact sums of ``words`` words from ``first`` on, one float vector per slot."""
        sums = self.added_words(a, b, first, words, self.corrections(start, group))
        return [self.builder.sitofp(total, self.floats) for total in sums]

    def added_words(self, a: Any, b: Any, first: Any, words: Any, before: list[Any]) -> list[Any]:
        """``before`` (vectors of integers by slots) plus the products of ``words`` words from ``first``."""
        builder, totals = self.builder, self.registers(self.ints)
        byte_pairs = self.config.carrier == "i8" and instruction_set() != "vnni"
        for total, place in zip(before, totals, strict=True):
            builder.store(self.int_const(0) if byte_pairs else total, place)
        turns = builder.sdiv(words, index(self.turn))
        with cgutils.for_range(builder, turns) as turn:
            at = builder.add(first, builder.mul(turn.index, index(self.turn)))
            sums = [builder.load(place) for place in totals]
            for step in range(self.turn):
                left, right = self.operands(a, b, builder.add(at, index(step)))
                pairs = [(x, y) for x in left for y in right]
                sums = [self.multiplied(total, x, y) for total, (x, y) in zip(sums, pairs, strict=True)]
            for place, total in zip(totals, sums, strict=True):
                builder.store(total, place)
        sums = [builder.load(place) for place in totals]
        if byte_pairs:
            folded = [self.folded(total) for total in sums]
            sums = [builder.add(total, addend) for total, addend in zip(folded, before, strict=True)]
        return sums

    def corrections(self, start: Any, group: Any) -> list[Any]:
        """What an offset on all of a adds too much, negated, by slots."""
        builder, config = self.builder, self.config
        if not config.corrected:
            return [self.int_const(0)] * (config.rows * config.vectors)
        row = builder.mul(group, index(config.cols))
        places = [builder.add(row, index(v * config.width)) for v in range(config.vectors)]
        return [builder.bitcast(self.load(start, place), self.ints) for place in places] * config.rows

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
        first = self.builder.mul(index(row), c_step)
        return self.builder.add(first, index(vector * self.config.width))

    def block(self, a: Any, b: Any, c: Any, c_step: Any, start: Any, peak: Any, cut: Cut) -> None:
        """One block of k: the sums of a single chunk, or the outer sums of whole chunks, kept in c."""
        builder = self.builder
        sums = self.registers()
        zero = self.float_const(0.0)
        for slot, place in enumerate(sums):
            with builder.if_else(cut.fresh) as (first, later):
                with first:
                    builder.store(zero, place)
                with later:
                    builder.store(self.load(c, self.place_of(slot, c_step)), place)
        self.add_block(sums, a, b, start, cut)
        scale = self.broadcast(cut.factor)
        for slot, place in enumerate(sums):
            # adding +0 makes a negative zero positive
            value = builder.fadd(builder.fmul(builder.load(place), scale), zero)
            self.store(value, c, self.place_of(slot, c_step))
        if self.config.watched:
            self._note_peak(peak)

    def add_block(self, sums: list[Any], a: Any, b: Any, start: Any, cut: Cut) -> None:
        """Add the groups of one block to ``sums``, by chunks if all of k is not one."""
        groups = self.parts(cut.words, cut.per_group)
        if self.whole:
            self._groups(sums, a, b, start, index(0), groups, cut)
        else:
            self._chunks(sums, a, b, start, groups, cut)

    def parts(self, count: Any, size: Any) -> Any:
        """ceil(count / size)."""
        rounded = self.builder.add(count, self.builder.sub(size, index(1)))
        return self.builder.sdiv(rounded, size)

    def lesser(self, x: Any, y: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", x, y), x, y)

    def _groups(self, sums: list[Any], a: Any, b: Any, start: Any, first: Any, count: Any, cut: Cut) -> None:
        """Add ``count`` groups from ``first`` on to ``sums``, each with one rounding."""
        builder = self.builder
        with cgutils.for_range(builder, count) as turn:
            group = builder.add(first, turn.index)
            at = builder.mul(group, cut.per_group)
            size = self.lesser(builder.sub(cut.words, at), cut.per_group)
            parts = self.group_sums(a, b, start, group, at, size)
            for place, total in zip(sums, parts, strict=True):
                added = self.add_rounded(builder.load(place), total, sticky=self.config.sticky_inner)
                builder.store(self._seen(added), place)

    def _chunks(self, outer: list[Any], a: Any, b: Any, start: Any, groups: Any, cut: Cut) -> None:
        """Add whole chunks to ``outer``, each with one rounding."""
        builder, psum = self.builder, self.registers()
        with cgutils.for_range(builder, self.parts(groups, cut.per_chunk)) as chunk:
            for place in psum:
                builder.store(self.float_const(0.0), place)
            first = builder.mul(chunk.index, cut.per_chunk)
            count = self.lesser(builder.sub(groups, first), cut.per_chunk)
            self._groups(psum, a, b, start, first, count, cut)
            for place, part in zip(outer, psum, strict=True):
                added = self.add_rounded(builder.load(place), builder.load(part), sticky=True)
                builder.store(self._seen(added), place)
