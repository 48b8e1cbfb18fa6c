"""The inner tile of a chain of fused multiply-adds that rounds at every add, in vector IR.

Each step rounds ``sum + x * y`` to single precision in one instruction, and then to the accumulator's p bits
as an integer: half a step is added to the bits of the magnitude, and what lies below a step is cut off, which
breaks ties upward. Two roundings are as good as one, but where the first lands on a tie of the second. So

- ``truncated``: the first rounding is toward zero. The exact sum then lies at or above what it gives, below
  the next single, and so on the same side of every tie, or on it, as ties are singles themselves: nearest
  with ties up, and toward zero (without the half), come out right with no more work;
- ``tied``: the same, and where the exact sum is a tie (`_Emitter.exact_tie`), it goes to even;
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
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelsim.numerics.instructions import instruction_set, multiplies_and_adds
from accelsim.numerics.tile_writer import F32, F64, I32, TileWriter, array_place, index

METHODS = ("truncated", "tied", "exact", "single")
SMALLEST = 0x00800000
"""The bits of single precision's smallest normal number."""

LARGEST_SUM = 2.0**60
"""A bound of the scaled sums: as large again, they are still singles."""

_SIZE = 0x7FFFFFFF
_UPWARD = 10  # rounds toward plus infinity and raises no exception
_NEAREST, _TOWARD_ZERO, _FLUSH = 0x1F80, 0x7F80, 0xFF80  # control words of x86; all exceptions masked


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
    products are singles, so that the sum's is the only rounding, and sums are not scaled.
    """

    method: str
    flush: bool
    rows: int
    vectors: int
    width: int
    apart: bool = False

    @property
    def cols(self) -> int:
        """Output columns of the tile."""
        return self.vectors * self.width

    def pack(self) -> int:
        """The configuration as one integer: Numba hands integers to an intrinsic as literals."""
        word = METHODS.index(self.method) | int(self.flush) << 2 | int(self.apart) << 16
        return word | self.rows << 3 | self.vectors << 7 | self.width << 11

    @staticmethod
    def unpack(word: int) -> ChainConfig:
        """The inverse of `pack`."""
        flush, rows, vectors = bool(word >> 2 & 1), word >> 3 & 15, word >> 7 & 15
        return ChainConfig(METHODS[word & 3], flush, rows, vectors, word >> 11 & 31, bool(word >> 16))


class _Emitter(TileWriter):
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
        for place, first, (x, y) in zip(places, before, factors, strict=True):
            total = self.sum_of(x, y, first)
            tie = self.exact_tie(first, x, y, total) if self.config.method == "tied" else None
            self.builder.store(self.rounded(total, tie), place)

    def sum_of(self, x: Any, y: Any, before: Any) -> Any:
        """``before + x * y`` with one rounding."""
        if self.config.apart:
            return self.builder.fadd(self.builder.fmul(x, y), before)
        return self.multiply_add("fma", x, y, before)

    def rounded(self, total: Any, tie: Any) -> Any:
        """A sum in single precision as the accumulator has it; ``tie``: where it takes the other way."""
        config, builder = self.config, self.builder
        if config.method == "single":
            return total
        if config.method == "exact":
            factor = builder.fadd(builder.sitofp(self.step, self.floats), self.float_const(1.0))
            upper = builder.fmul(total, factor)
            return builder.fsub(upper, builder.fsub(upper, total))
        up = builder.add(self.as_ints(total), self.half)
        rounded = builder.and_(up, self.kept)
        if tie is not None:
            even = builder.and_(rounded, builder.not_(self.step))
            rounded = builder.select(tie, even, rounded)
        return self.as_floats(self.flushed(rounded))

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

    def exact_tie(self, before: Any, x: Any, y: Any, total: Any) -> Any:
        """Where ``before + x * y`` is a single, ``total``, and that is a tie.

        What is left of the exact sum is the product plus ``before - total``. Let the sum be positive; as it
        was cut, nothing negative is left. The difference is cut too. Where it is negative, that adds to what
        is left. Where it is positive, either it is exact (Sterbenz: the sum is at least half of ``before``),
        or the product, of at most 24 bits, cancels more than half of ``before``, and the sum is exact.
        """
        builder = self.builder
        left = self.left_over(x, y, builder.fsub(before, total))
        up = builder.add(self.as_ints(total), self.half)
        inside = builder.or_(builder.and_(up, self.rest), self.as_ints(left))
        return builder.icmp_unsigned("==", inside, self.int_const(0))

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
        toward_zero = _FLUSH if config.flush and not config.apart else _TOWARD_ZERO
        wanted = {"truncated": toward_zero, "tied": _TOWARD_ZERO}.get(config.method, _NEAREST)
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


@intrinsic(prefer_literal=True)
def _chain_tile(  # type: ignore[no-untyped-def]
    typing_context, config, a, a_at, b, b_at, c, c_at, half, rest, zero, products, chunk
):
    """Add ``products`` products in chunks of ``chunk`` to the outer accumulators ``c[c_at:]``.

    ``a[a_at:]`` is (k, rows), scaled, ``b[b_at:]`` (k, cols), ``c[c_at:]`` (rows, cols): contiguous float32,
    offsets in elements. A sum's bits are rounded by adding ``half`` and clearing those of ``rest``, one less
    than a step of the accumulator; those of ``zero`` and below are flushed where the configuration says so.
    All three are int32. ``config``: a packed `ChainConfig` known at compile time.
    """
    tile = ChainConfig.unpack(config.literal_value)
    signature = types.void(config, a, a_at, b, b_at, c, c_at, *[types.int32] * 3, products, chunk)

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        places = [array_place(context, builder, call, values, each, F32) for each in (1, 3, 5)]
        _Emitter(builder, tile, *values[7:10]).tile(*places, *values[10:12])
        return context.get_dummy_value()

    return signature, generate


chain_tile: Any = _chain_tile
"""`_chain_tile` without the typing context, which the compiler passes."""
