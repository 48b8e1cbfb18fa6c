"""Chains of additions that are proven not to round, and gone through where the proof fails; in vector IR.

Let a state S be an integer (in units of the products), exact in the accumulator, and S' the state after a
group of products. Of the group's products the positive ones add up to (L + S' - S) / 2 and the negative
ones to -(L - S' + S) / 2, where L is the sum of their magnitudes; so in whatever order they are added, no
sum on the way is larger than (L + |S + S'|) / 2. An accumulator of p significant bits holds every integer up
to 2**p. Hence a group with |S + S'| + L <= 2**(p + 1) is added without any rounding, and S' is its exact
sum. L is at most the length of a's row in the group times that of b's column (Cauchy-Schwarz).

Where this does not hold for an output, its row of the tile goes through the group's additions one after
another. As rounded sums are integers again, the next group may be exact once more.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from accelsim.numerics.formats import number_format
from accelsim.numerics.integer_tile import PER_WORD, Cut, IntegerEmitter
from accelsim.numerics.tile_kernel import TileConfig
from accelsim.numerics.tile_writer import F32, I32, I64, index


@dataclass(frozen=True)
class Certificate:
    """What a certified tile reads and notes, as values of the function that is written.

    ``heights`` (groups,), ``widths`` (groups, cols): bounds of the lengths of a's longest row and of b's
    columns in each group. ``failed``: where to count; ``peak``: where to note magnitudes. ``offset``: of a.
    """

    heights: Any
    widths: Any
    failed: Any
    peak: Any
    offset: Any


class CertifiedEmitter(IntegerEmitter):
    """A tile of integers whose groups stand for chains of ``config.lanes`` products at a time."""

    def __init__(
        self, builder: ir.IRBuilder, config: TileConfig, turn: int, certificate: Certificate, *, whole: bool
    ) -> None:
        super().__init__(builder, config, turn, whole=whole)
        self.certificate = certificate
        self.limit = 2.0 ** (number_format(config.rounding).significand_bits + 1)
        self.scratch = cgutils.alloca_once(builder, self.ints, size=config.vectors)
        self.chain = _chain_function(builder.module, config)

    def add_block(self, sums: list[Any], a: Any, b: Any, start: Any, cut: Cut) -> None:
        """Add the groups of one block to ``sums``, by chunks if all of k is not one."""
        builder, states = self.builder, self.registers(self.ints)
        groups = self.parts(cut.words, cut.per_group)
        if self.whole:
            for state, place in zip(states, sums, strict=True):
                builder.store(builder.fptosi(builder.load(place), self.ints), state)
            self._certified(states, a, b, start, index(0), groups, cut)
            for state, place in zip(states, sums, strict=True):
                builder.store(builder.sitofp(builder.load(state), self.floats), place)
            return
        with cgutils.for_range(builder, self.parts(groups, cut.per_chunk)) as chunk:
            for state in states:
                builder.store(self.int_const(0), state)
            first = builder.mul(chunk.index, cut.per_chunk)
            count = self.lesser(builder.sub(groups, first), cut.per_chunk)
            self._certified(states, a, b, start, first, count, cut)
            for state, place in zip(states, sums, strict=True):
                part = builder.sitofp(builder.load(state), self.floats)
                added = self.add_rounded(builder.load(place), part, sticky=False)
                builder.store(self._seen(added), place)

    def _certified(
        self, states: list[Any], a: Any, b: Any, start: Any, first: Any, count: Any, cut: Cut
    ) -> None:
        """Bring ``states`` forward by ``count`` groups from ``first`` on."""
        builder = self.builder
        with cgutils.for_range(builder, count) as turn:
            group = builder.add(first, turn.index)
            at = builder.mul(group, cut.per_group)
            size = self.lesser(builder.sub(cut.words, at), cut.per_group)
            before = [builder.load(state) for state in states]
            begun = [
                builder.add(state, each) if self.config.corrected else state
                for state, each in zip(before, self.corrections(start, group), strict=True)
            ]
            after = self.added_words(a, b, at, size, begun)
            for state, total in zip(states, after, strict=True):
                builder.store(total, state)
            rooms = self._rooms(group)
            twice = [builder.add(x, y) for x, y in zip(before, after, strict=True)]
            with self._unlikely(self._outside(twice, rooms)):
                for row in range(self.config.rows):
                    slots = range(row * self.config.vectors, (row + 1) * self.config.vectors)
                    with self._unlikely(self._outside([twice[slot] for slot in slots], rooms)):
                        self._go_through(a, b, row, at, size, [before[slot] for slot in slots])
                        for v, slot in enumerate(slots):
                            builder.store(builder.load(self._scratch_place(v)), states[slot])

    def _rooms(self, group: Any) -> list[Any]:
        """How large a sum of two states may be, by vectors of columns.

        Single precision may round by less than a half here; all that is compared are integers, so the part
        that is cut off makes up for it.
        """
        builder, config = self.builder, self.config
        height = self.broadcast(builder.load(builder.gep(self.certificate.heights, [group])))
        row = builder.mul(group, index(config.cols))
        rooms = []
        for v in range(config.vectors):
            width = self.load(self.certificate.widths, builder.add(row, index(v * config.width)))
            room = builder.fsub(self.float_const(self.limit), builder.fmul(height, width))
            rooms.append(builder.fptosi(room, self.ints))
        return rooms

    def _outside(self, sums: list[Any], rooms: list[Any]) -> Any:
        """Whether any magnitude of ``sums`` (slots of whole rows) is above its column's room."""
        builder, count = self.builder, self.config.vectors
        found = None
        for v, room in enumerate(rooms):
            # -room..room becomes 0..2 * room, and all else, unsigned, is above that
            moved = [builder.add(each, room) for each in sums[v::count]]
            most = moved[0]
            for each in moved[1:]:
                most = builder.select(builder.icmp_unsigned(">", each, most), each, most)
            above = builder.icmp_unsigned(">", most, builder.add(room, room))
            above = builder.or_(above, builder.icmp_signed("<", room, self.int_const(0)))
            found = above if found is None else builder.or_(found, above)
        width = ir.IntType(self.config.width)
        return builder.icmp_unsigned("!=", builder.bitcast(found, width), ir.Constant(width, 0))

    @contextmanager
    def _unlikely(self, condition: Any) -> Iterator[None]:
        with self.builder.if_then(condition, likely=False):
            yield

    def _scratch_place(self, vector: int) -> Any:
        return self.builder.gep(self.scratch, [index(vector)])

    def _go_through(self, a: Any, b: Any, row: int, at: Any, size: Any, before: list[Any]) -> None:
        """Bring one row's states through ``size`` words, sum by sum, into the scratch."""
        builder, config = self.builder, self.config
        for v, state in enumerate(before):
            builder.store(state, self._scratch_place(v))
        place = builder.add(builder.mul(at, index(config.rows)), index(row))
        line = builder.gep(a, [place])
        panel = builder.gep(b, [builder.mul(at, index(config.cols))])
        known = self.certificate
        builder.call(self.chain, [line, panel, self.scratch, known.peak, size, known.offset])
        builder.store(builder.add(builder.load(known.failed), index(1)), known.failed)


def _chain_function(module: Any, config: TileConfig) -> Any:
    """void(a's words of a row, b's words, states, peak, words, offset): the additions one by one."""
    name = f"accelsim.chain.{config.pack()}"
    found = module.globals.get(name)
    if found is not None:
        return found
    floats = F32.as_pointer()
    states = ir.VectorType(I32, config.width).as_pointer()
    arguments = [floats, floats, states, floats, I64, I32]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), arguments), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block("entry"))
    _ChainEmitter(builder, config, turn=1, whole=True).chain(*function.args)
    builder.ret_void()
    return function


class _ChainEmitter(IntegerEmitter):
    """Writes the additions of one row of a tile, ``config.lanes`` products at a time."""

    def chain(self, a: Any, b: Any, states: Any, peak: Any, words: Any, offset: Any) -> None:
        """Bring ``states`` (vectors of integers) through ``words`` words, each sum rounded."""
        builder, config = self.builder, self.config
        places = [builder.gep(states, [index(v)]) for v in range(config.vectors)]
        sums = [cgutils.alloca_once(builder, self.floats) for _ in places]
        for place, total in zip(places, sums, strict=True):
            builder.store(builder.sitofp(builder.load(place), self.floats), total)
        if PER_WORD[config.carrier] % config.lanes == 0:
            self._words(sums, a, b, words, offset)
        else:
            self._groups_of_words(sums, a, b, words, offset)
        for place, total in zip(places, sums, strict=True):
            builder.store(builder.fptosi(builder.load(total), self.ints), place)
        if config.watched:
            self._note_peak(peak)

    def _words(self, sums: list[Any], a: Any, b: Any, words: Any, offset: Any) -> None:
        """Additions of which a word holds one or several."""
        builder, config = self.builder, self.config
        side = PER_WORD[config.carrier]
        with cgutils.for_range(builder, words) as word:
            parts = [self.float_const(0.0) for _ in sums]
            for part in range(side):
                left = ir.Constant(I32, 32 - (part + 1) * (32 // side))
                x, ys = self._factors(a, b, word.index, left, offset)
                for v, y in enumerate(ys):
                    if config.lanes == 1:
                        parts[v] = builder.load(sums[v])
                    parts[v] = self.multiply_add("fmuladd", x, y, parts[v])
                if (part + 1) % config.lanes:
                    continue
                for v, total in enumerate(sums):
                    builder.store(self._rounded_sum(total, parts[v]), total)
                    parts[v] = self.float_const(0.0)

    def _rounded_sum(self, total: Any, part: Any) -> Any:
        """What ``total`` holds plus ``part``, rounded; where a product is all, ``part`` is that already."""
        before = self.float_const(0.0) if self.config.lanes == 1 else self.builder.load(total)
        return self._seen(self.add_rounded(part, before, sticky=False))

    def _groups_of_words(self, sums: list[Any], a: Any, b: Any, words: Any, offset: Any) -> None:
        """Additions that lie across words."""
        builder, config = self.builder, self.config
        side, lanes = index(PER_WORD[config.carrier]), index(config.lanes)
        one, bits = ir.Constant(I32, 1), ir.Constant(I32, 32 // PER_WORD[config.carrier])
        products = builder.mul(words, side)
        parts = self.registers()[: config.vectors]
        with cgutils.for_range(builder, self.parts(products, lanes)) as group:
            for part in parts:
                builder.store(self.float_const(0.0), part)
            first = builder.mul(group.index, lanes)
            with cgutils.for_range(builder, self.lesser(builder.sub(products, first), lanes)) as step:
                number = builder.add(first, step.index)
                place = builder.trunc(builder.srem(number, side), I32)
                # brings the place to the top
                left = builder.sub(ir.Constant(I32, 32), builder.mul(bits, builder.add(place, one)))
                x, ys = self._factors(a, b, builder.sdiv(number, side), left, offset)
                for part, y in zip(parts, ys, strict=True):
                    builder.store(self.multiply_add("fmuladd", x, y, builder.load(part)), part)
            for total, part in zip(sums, parts, strict=True):
                builder.store(self._rounded_sum(total, builder.load(part)), total)

    def _factors(self, a: Any, b: Any, word: Any, left: Any, offset: Any) -> tuple[Any, list[Any]]:
        """The parts of a's word and of b's that a shift by ``left`` brings to the top, as floats."""
        builder, config = self.builder, self.config
        down = 32 - 32 // PER_WORD[config.carrier]
        words = builder.bitcast(a, I32.as_pointer())
        found = builder.load(builder.gep(words, [builder.mul(word, index(config.rows))]))
        found = builder.shl(found, left)
        shift = builder.lshr if config.carrier == "i8" else builder.ashr
        x = builder.sub(shift(found, ir.Constant(I32, down)), offset)
        row, lefts = builder.mul(word, index(config.cols)), self.broadcast(left)
        ys = []
        for v in range(config.vectors):
            at = builder.add(row, index(v * config.width))
            y = builder.shl(self.as_ints(self.load(b, at)), lefts)
            ys.append(builder.sitofp(builder.ashr(y, self.int_const(down)), self.floats))
        return self.broadcast(builder.sitofp(x, F32)), ys
