"""The inner tile of a chain of fused multiply-adds that rounds at every add, in vector IR.

Each step rounds ``sum + x * y`` to single precision in one instruction, and then to the accumulator's p bits
as an integer: half a step is added to the bits of the magnitude, and what lies below a step is cut off, which
breaks ties upward. Two roundings are as good as one, but where the first lands on a tie of the second. So

- ``truncated``: the first rounding is toward zero. The exact sum then lies at or above what it gives, below
  the next single, and so on the same side of every tie, or on it, as ties are singles themselves: nearest
  with ties up, and toward zero (without the half), come out right with no more work;
- ``tied``: the same, and where the exact sum is a tie (`ChainWriter.is_single`), it goes to even;
- ``paired``: both roundings are to nearest even, and a second sum, of many times everything, tells them how
  a tie of the second came about (`paired_tile`);
- ``exact``: every sum of a chunk is a single, and ties go to even (Dekker, 1971, section 5: how to cut a
  number with three operations); the add of two chunks' sums goes through double precision;
- ``single``: the accumulator is IEEE single, and the first rounding is the only one.

Sums are kept scaled so that the smallest normal number of the accumulator is that of single precision: its
subnormal numbers are then single's, which rounds them at the same place as everything else.
"""

from __future__ import annotations

import platform
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from accelsim.numerics.instructions import instruction_set, multiplies_and_adds
from accelsim.numerics.tile_writer import F32, F64, I32, TileWriter, index

METHODS = ("truncated", "tied", "exact", "single", "paired")
SMALLEST = 0x00800000
"""The bits of single precision's smallest normal number."""

_TOGETHER = 32
"""Sums between two looks for a tie, where that is faster than looking at each."""

LARGEST_SUM = 2.0**60
"""A bound of the scaled sums: as large again, they are still singles."""

_SIZE = 0x7FFFFFFF
_TWO = 0x40000000  # the bits of 2.0
_UPWARD = 10  # rounds toward plus infinity and raises no exception
NEAREST, TOWARD_ZERO, _FLUSH = 0x1F80, 0x7F80, 0xFF80  # control words of x86; all exceptions masked


def fused() -> bool:
    """Whether this machine multiplies and adds with one rounding in one instruction."""
    return platform.machine().lower() in ("aarch64", "arm64") or multiplies_and_adds()


def truncates() -> bool:
    """Whether the control word of x86 sets how this machine rounds."""
    return instruction_set() != "portable"


@dataclass(frozen=True)
class ChainConfig:
    """Everything about a tile that is fixed when it is compiled.

    ``method``: one of `METHODS`. ``flush``: sums can fall below the accumulator's smallest number, there
    are no subnormal ones, and zero stands where a number would be. ``apart``: the machine does not fuse;
    products are singles, so that the sum's is the only rounding, and sums are not scaled. ``fading``: such
    sums (of ``tied``) can be subnormal numbers of the accumulator, and are then scaled to be rounded.
    """

    method: str
    flush: bool
    rows: int
    vectors: int
    width: int
    apart: bool = False
    fading: bool = False

    @property
    def cols(self) -> int:
        """Output columns of the tile."""
        return self.vectors * self.width

    def pack(self) -> int:
        """The configuration as one integer: Numba hands integers to an intrinsic as literals."""
        word = METHODS.index(self.method) | self.rows << 3 | self.vectors << 7 | self.width << 11
        return word | int(self.flush) << 16 | int(self.apart) << 17 | int(self.fading) << 18

    @staticmethod
    def unpack(word: int) -> ChainConfig:
        """The inverse of `pack`."""
        rows, vectors, width = word >> 3 & 15, word >> 7 & 15, word >> 11 & 31
        flush, apart, fading = (bool(word >> bit & 1) for bit in (16, 17, 18))
        return ChainConfig(METHODS[word & 7], flush, rows, vectors, width, apart, fading)


class ChainWriter(TileWriter):
    """Writes the instructions of one tile: a (k, rows), b (k, cols), c (rows, cols).

    ``half``: what is added to the bits before those of ``rest`` are cut off; ``zero``: the place that zero
    has. All int32.
    """

    def __init__(self, builder: ir.IRBuilder, config: ChainConfig, half: Any, rest: Any, zero: Any) -> None:
        super().__init__(builder, F32, config.rows, config.vectors, config.width)
        self.config = config
        self.doubles = ir.VectorType(F64, config.width)
        self.half, self.rest, self.zero = (self.broadcast(bits) for bits in (half, rest, zero))
        self.kept = builder.not_(self.rest)
        self.step = builder.add(self.rest, self.int_const(1))

    def wide(self, value: Any) -> Any:
        return self.builder.fpext(value, self.doubles)

    def add_products(self, places: list[Any], factors: list[tuple[Any, Any]]) -> None:
        """One rounded add of a product to each slot."""
        before = [self.builder.load(place) for place in places]
        terms = [(first, x, y) for first, (x, y) in zip(before, factors, strict=True)]
        if self.config.apart and self.config.method == "tied":
            together = _TOGETHER // self.config.width
            for at in range(0, len(terms), together):
                self.add_unless_tied(places[at : at + together], terms[at : at + together])
            return
        for place, term in zip(places, terms, strict=True):
            self.builder.store(self.added(*term), place)

    def added(self, before: Any, x: Any, y: Any) -> Any:
        """``before + x * y``, rounded."""
        total = self.sum_of(x, y, before)
        if self.config.method in ("tied", "paired"):
            return self.to_even(total, before, x, y)
        return self.rounded(total)

    def add_unless_tied(self, places: list[Any], terms: list[tuple[Any, Any, Any]]) -> None:
        """Sums rounded as if there were no ties, and all of them once more if one of them may be a tie.

        For machines to whom a tie costs much: one sum in hundreds is one.
        """
        builder, lanes = self.builder, ir.IntType(self.config.width)
        totals = [self.sum_of(x, y, before) for before, x, y in terms]
        for place, total in zip(places, totals, strict=True):
            builder.store(self.rounded(total), place)
        doubtful = self.doubtful(totals[0])
        for total in totals[1:]:
            doubtful = builder.or_(doubtful, self.doubtful(total))
        any_doubtful = builder.icmp_unsigned("!=", builder.bitcast(doubtful, lanes), ir.Constant(lanes, 0))
        with builder.if_then(any_doubtful, likely=False):
            for place, term, total in zip(places, terms, totals, strict=True):
                builder.store(self.to_even(total, *term), place)

    def sum_of(self, x: Any, y: Any, before: Any) -> Any:
        """``before + x * y`` with one rounding."""
        if self.config.apart:
            return self.builder.fadd(self.builder.fmul(x, y), before)
        return self.multiply_add("fma", x, y, before)

    def rounded(self, total: Any) -> Any:
        """A sum in single precision as the accumulator has it, but for ties of ``tied``, which go up."""
        config, builder = self.config, self.builder
        if config.method == "single":
            return total
        if config.method == "exact":
            factor = builder.fadd(builder.sitofp(self.step, self.floats), self.float_const(1.0))
            upper = builder.fmul(total, factor)
            return builder.fsub(upper, builder.fsub(upper, total))
        return self.as_floats(self.flushed(builder.and_(self.raised(total), self.kept)))

    def raised(self, total: Any) -> Any:
        """The bits of a sum, half a step added."""
        return self.builder.add(self.as_ints(total), self.half)

    def doubtful(self, total: Any) -> Any:
        """Where `rounded` may be wrong: at a tie, and below the accumulator's normal numbers."""
        builder = self.builder
        tie = builder.icmp_unsigned("==", builder.and_(self.raised(total), self.rest), self.int_const(0))
        if not self.config.fading:
            return tie
        size = builder.and_(self.as_ints(total), self.int_const(_SIZE))
        return builder.or_(tie, builder.icmp_signed("<", size, self.zero))

    def to_even(self, total: Any, before: Any, x: Any, y: Any) -> Any:
        """`rounded`, with ties going to even: cut sums that are ties, and exact.

        Where sums are fading, they are first scaled as those of a machine that fuses are all along.
        """
        builder = self.builder
        exact = self.is_single(before, x, y, total)
        if self.config.fading:
            down = self.as_floats(builder.sub(self.int_const(_TWO), self.zero))
            up = self.as_floats(builder.add(self.int_const(_TWO - (SMALLEST << 1)), self.zero))
            given, total = total, builder.fmul(total, down)
            kept = builder.fcmp_ordered("==", builder.fmul(total, up), given)
            exact = builder.and_(exact, kept)
        # not as in `doubtful`, which the compiler then makes one instruction of
        halfway = builder.icmp_unsigned("==", builder.and_(self.as_ints(total), self.rest), self.half)
        tie = builder.and_(halfway, exact)
        rounded = builder.and_(self.raised(total), self.kept)
        even = builder.and_(rounded, builder.not_(self.step))
        rounded = self.as_floats(self.flushed(builder.select(tie, even, rounded)))
        return builder.fmul(rounded, up) if self.config.fading else rounded

    def flushed(self, rounded: Any) -> Any:
        """Bits of a rounded sum; those of zero where it fell to the place that zero has, or below."""
        builder = self.builder
        if not self.config.flush:
            return rounded
        if self.config.method == "truncated" and not self.config.apart:  # what lay below is zero already
            kept = builder.and_(rounded, self.int_const(_SIZE & ~SMALLEST))
            number = builder.icmp_unsigned("!=", kept, self.int_const(0))
        else:
            size = builder.and_(rounded, self.int_const(_SIZE))
            number = builder.icmp_signed(">", size, self.zero)
        return builder.select(number, rounded, self.int_const(0))

    def is_single(self, before: Any, x: Any, y: Any, total: Any) -> Any:
        """Where ``before + x * y`` is ``total``, if that is a tie.

        What is left of the exact sum is the product plus ``before - total``. Let the sum be positive; as it
        was cut, nothing negative is left. The difference is cut too. Where it is negative, that adds to what
        is left. Where it is positive, either it is exact (Sterbenz: the sum is at least half of ``before``),
        or the product, of at most 24 bits, cancels more than half of ``before``, and the sum is exact.
        """
        builder = self.builder
        difference = builder.fsub(before, total)
        if self.config.apart:
            return builder.fcmp_ordered("==", builder.fneg(difference), builder.fmul(x, y))
        left = self.as_ints(self.left_over(x, y, difference))
        return builder.icmp_unsigned("==", left, self.int_const(0))

    def left_over(self, x: Any, y: Any, difference: Any) -> Any:
        """``x * y + difference`` in single precision, +0 only if that is zero however small it is."""
        builder = self.builder
        if self.config.width == 16:  # rounded up by the instruction itself: below zero, at most -0
            upward = ir.Constant(I32, _UPWARD)
            return self.intrinsic("x86.avx512.vfmadd.ps.512", self.floats, x, y, difference, upward)
        grown = self.float_const(LARGEST_SUM)
        return self.multiply_add("fma", builder.fmul(x, grown), y, builder.fmul(difference, grown))

    def merge(self, outer: list[Any], parts: list[Any]) -> None:
        """Add a chunk's sums to the outer ones, rounded."""
        builder = self.builder
        if self.config.method != "exact":
            self.add_products(outer, [(builder.load(part), self.float_const(1.0)) for part in parts])
            return
        one, places = (ir.Constant(self.doubles, [value] * self.config.width) for value in (1.0, 2.0**29))
        factor = builder.fadd(builder.fmul(builder.sitofp(self.step, self.doubles), places), one)
        for place, part in zip(outer, parts, strict=True):
            total = builder.fadd(self.wide(builder.load(place)), self.wide(builder.load(part)))
            upper = builder.fmul(total, factor)
            total = builder.fsub(upper, builder.fsub(upper, total))
            builder.store(builder.fptrunc(total, self.floats), place)

    def control(self, way: str, word: Any) -> None:
        """``ldmxcsr`` sets how x86 rounds, from a word in memory; ``stmxcsr`` keeps it there."""
        place = self.builder.bitcast(word, ir.IntType(8).as_pointer())
        self.intrinsic(f"x86.sse.{way}", ir.VoidType(), place)

    def tile(self, a: Any, b: Any, c: Any, products: Any, chunk: Any) -> None:
        """The whole tile under the rounding that it needs (and under no flush to zero of a stranger)."""
        builder, config = self.builder, self.config
        if not truncates():
            self.chunks(a, b, c, products, chunk)
            return
        before, word = (cgutils.alloca_once(builder, I32) for _ in range(2))
        self.control("stmxcsr", before)
        toward_zero = _FLUSH if config.flush and not config.apart else TOWARD_ZERO
        wanted = {"truncated": toward_zero, "tied": TOWARD_ZERO}.get(config.method, NEAREST)
        builder.store(ir.Constant(I32, wanted), word)
        self.control("ldmxcsr", word)
        self.chunks(a, b, c, products, chunk)
        self.control("ldmxcsr", before)

    def chunks(self, a: Any, b: Any, c: Any, products: Any, chunk: Any) -> None:
        """Chunks in ascending k, products in ascending k, outer sums kept in ``c``."""
        builder = self.builder
        outer, sums = self.registers(), self.registers()
        self.load_slots(outer, c)
        round_up = builder.sub(chunk, index(1))
        count = builder.sdiv(builder.add(products, round_up), chunk)
        with cgutils.for_range(builder, count) as part:
            self.clear(sums)
            first = builder.mul(part.index, chunk)
            left = builder.sub(products, first)
            short = builder.icmp_signed("<", left, chunk)
            with cgutils.for_range(builder, builder.select(short, left, chunk)) as step:
                self.add_products(sums, self.factors(a, b, builder.add(first, step.index)))
            self.merge(outer, sums)
        self.store_slots(outer, c)
