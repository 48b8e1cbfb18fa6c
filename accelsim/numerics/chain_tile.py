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

from accelsim.numerics.instructions import multiplies_and_adds

_F32 = ir.FloatType()
_F64 = ir.DoubleType()
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)
_CONTROL = ir.ArrayType(_I32, 2)

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
    return platform.machine().lower() in ("aarch64", "arm64") or truncates()


def truncates() -> bool:
    """Whether it does so, and its control word of x86 sets how it rounds."""
    return multiplies_and_adds()


@dataclass(frozen=True)
class ChainConfig:
    """Everything about a tile that is fixed when it is compiled.

    ``method``: one of `METHODS`. ``flush``: sums can fall below the accumulator's smallest number, there
    are no subnormal ones, and zero stands where a number would be.
    """

    method: str
    flush: bool
    rows: int
    vectors: int
    width: int

    @property
    def cols(self) -> int:
        """Output columns of the tile."""
        return self.vectors * self.width

    def pack(self) -> int:
        """The configuration as one integer: Numba hands integers to an intrinsic as literals."""
        word = METHODS.index(self.method) | int(self.flush) << 2
        return word | self.rows << 3 | self.vectors << 7 | self.width << 11

    @staticmethod
    def unpack(word: int) -> ChainConfig:
        """The inverse of `pack`."""
        flush, rows, vectors = bool(word >> 2 & 1), word >> 3 & 15, word >> 7 & 15
        return ChainConfig(METHODS[word & 3], flush, rows, vectors, word >> 11)


class _Emitter:
    """Writes the instructions of one tile: a (k, rows), b (k, cols), c (rows, cols).

    ``half``: what is added to the bits before those of ``rest`` are cut off; both int32.
    """

    def __init__(self, builder: ir.IRBuilder, config: ChainConfig, half: Any, rest: Any) -> None:
        self.builder = builder
        self.config = config
        self.floats = ir.VectorType(_F32, config.width)
        self.doubles = ir.VectorType(_F64, config.width)
        self.ints = ir.VectorType(_I32, config.width)
        signature = ir.FunctionType(self.floats, [self.floats] * 3)
        name = f"llvm.fma.v{config.width}f32"
        self.fma = cgutils.get_or_insert_function(builder.module, signature, name)
        self.half, self.rest = self.broadcast(half), self.broadcast(rest)
        self.kept = builder.not_(self.rest)
        self.step = builder.add(self.rest, self.ints_of(1))

    def constant(self, value: float) -> ir.Constant:
        return ir.Constant(self.floats, [value] * self.config.width)

    def ints_of(self, value: int) -> ir.Constant:
        return ir.Constant(self.ints, [value] * self.config.width)

    def bits(self, value: Any) -> Any:
        return self.builder.bitcast(value, self.ints)

    def value(self, bits: Any) -> Any:
        return self.builder.bitcast(bits, self.floats)

    def wide(self, value: Any) -> Any:
        return self.builder.fpext(value, self.doubles)

    def load(self, pointer: Any, index: Any) -> Any:
        place = self.builder.bitcast(self.builder.gep(pointer, [index]), self.floats.as_pointer())
        vector = self.builder.load(place)
        vector.align = 4
        return vector

    def store(self, vector: Any, pointer: Any, index: Any) -> None:
        place = self.builder.bitcast(self.builder.gep(pointer, [index]), self.floats.as_pointer())
        self.builder.store(vector, place).align = 4

    def broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.floats if scalar.type == _F32 else self.ints, ir.Undefined)
        single = self.builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        return self.builder.shuffle_vector(single, undefined, self.ints_of(0))

    def registers(self) -> list[Any]:
        """One vector slot per vector of the tile; LLVM promotes them to registers."""
        count = self.config.rows * self.config.vectors
        return [cgutils.alloca_once(self.builder, self.floats) for _ in range(count)]

    def factors(self, a: Any, b: Any, k: Any) -> list[tuple[Any, Any]]:
        """Step k of both operands, for each slot: a row's element everywhere, and b's columns."""
        config, builder = self.config, self.builder
        a_row, b_row = builder.mul(k, _index(config.rows)), builder.mul(k, _index(config.cols))
        left = [
            self.broadcast(builder.load(builder.gep(a, [builder.add(a_row, _index(row))])))
            for row in range(config.rows)
        ]
        right = [self.load(b, builder.add(b_row, _index(v * config.width))) for v in range(config.vectors)]
        return [(x, y) for x in left for y in right]

    def add_products(self, places: list[Any], factors: list[tuple[Any, Any]]) -> None:
        """One rounded add of a product to each slot."""
        before = [self.builder.load(place) for place in places]
        for place, first, (x, y) in zip(places, before, factors, strict=True):
            total = self.builder.call(self.fma, [x, y, first])
            tie = self.exact_tie(first, x, y, total) if self.config.method == "tied" else None
            self.builder.store(self.rounded(total, tie), place)

    def rounded(self, total: Any, tie: Any) -> Any:
        """A sum in single precision as the accumulator has it; ``tie``: where it takes the other way."""
        config, builder = self.config, self.builder
        if config.method == "single":
            return total
        if config.method == "exact":
            factor = builder.fadd(builder.sitofp(self.step, self.floats), self.constant(1.0))
            upper = builder.fmul(total, factor)
            return builder.fsub(upper, builder.fsub(upper, total))
        up = builder.add(self.bits(total), self.half)
        rounded = builder.and_(up, self.kept)
        if tie is not None:
            even = builder.and_(rounded, builder.not_(self.step))
            rounded = builder.select(tie, even, rounded)
        return self.value(self.flushed(rounded))

    def flushed(self, rounded: Any) -> Any:
        """Bits of a rounded sum; those of zero where it fell to the place that zero has, or below."""
        builder = self.builder
        if not self.config.flush:
            return rounded
        if self.config.method == "truncated":  # what lay below that place is zero already
            kept = builder.and_(rounded, self.ints_of(_SIZE & ~SMALLEST))
            number = builder.icmp_unsigned("!=", kept, self.ints_of(0))
        else:
            size = builder.and_(rounded, self.ints_of(_SIZE))
            number = builder.icmp_unsigned(">", size, self.ints_of(SMALLEST))
        return builder.select(number, rounded, self.ints_of(0))

    def exact_tie(self, before: Any, x: Any, y: Any, total: Any) -> Any:
        """Where ``before + x * y`` is a single, ``total``, and that is a tie.

        What is left of the exact sum is the product plus ``before - total``. Let the sum be positive; as it
        was cut, nothing negative is left. The difference is cut too. Where it is negative, that adds to what
        is left. Where it is positive, either it is exact (Sterbenz: the sum is at least half of ``before``),
        or the product, of at most 24 bits, cancels more than half of ``before``, and the sum is exact.
        """
        builder = self.builder
        left = self.left_over(x, y, builder.fsub(before, total))
        up = builder.add(self.bits(total), self.half)
        inside = builder.or_(builder.and_(up, self.rest), self.bits(left))
        return builder.icmp_unsigned("==", inside, self.ints_of(0))

    def left_over(self, x: Any, y: Any, difference: Any) -> Any:
        """``x * y + difference`` in single precision, +0 only if that is zero however small it is."""
        builder = self.builder
        if self.config.width == 16:  # rounded up by the instruction itself: below zero, at most -0
            signature = ir.FunctionType(self.floats, [self.floats] * 3 + [_I32])
            name = "llvm.x86.avx512.vfmadd.ps.512"
            upward = cgutils.get_or_insert_function(builder.module, signature, name)
            return builder.call(upward, [x, y, difference, ir.Constant(_I32, _UPWARD)])
        grown = self.constant(LARGEST_SUM)
        return builder.call(self.fma, [builder.fmul(x, grown), y, builder.fmul(difference, grown)])

    def merge(self, outer: list[Any], parts: list[Any]) -> None:
        """Add a chunk's sums to the outer ones, rounded."""
        builder = self.builder
        if self.config.method != "exact":
            self.add_products(outer, [(builder.load(part), self.constant(1.0)) for part in parts])
            return
        one, places = (ir.Constant(self.doubles, [value] * self.config.width) for value in (1.0, 2.0**29))
        factor = builder.fadd(builder.fmul(builder.sitofp(self.step, self.doubles), places), one)
        for place, part in zip(outer, parts, strict=True):
            total = builder.fadd(self.wide(builder.load(place)), self.wide(builder.load(part)))
            upper = builder.fmul(total, factor)
            total = builder.fsub(upper, builder.fsub(upper, total))
            builder.store(builder.fptrunc(total, self.floats), place)

    def control(self, word: Any) -> None:
        """Set how x86 rounds, from a word in memory."""
        signature = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
        name = "llvm.x86.sse.ldmxcsr"
        function = cgutils.get_or_insert_function(self.builder.module, signature, name)
        self.builder.call(function, [self.builder.bitcast(word, ir.IntType(8).as_pointer())])

    def tile(self, a: Any, b: Any, c: Any, products: Any, chunk: Any) -> None:
        """The whole tile under the rounding that it needs (and under no flush to zero of a stranger)."""
        builder, config = self.builder, self.config
        if not truncates():
            self.chunks(a, b, c, products, chunk)
            return
        before, word = cgutils.alloca_once(builder, _I32), cgutils.alloca_once(builder, _I32)
        signature = ir.FunctionType(ir.VoidType(), [ir.IntType(8).as_pointer()])
        keep = cgutils.get_or_insert_function(builder.module, signature, "llvm.x86.sse.stmxcsr")
        builder.call(keep, [builder.bitcast(before, ir.IntType(8).as_pointer())])
        toward_zero = _FLUSH if config.flush else _TOWARD_ZERO
        wanted = {"truncated": toward_zero, "tied": _TOWARD_ZERO}.get(config.method, _NEAREST)
        builder.store(ir.Constant(_I32, wanted), word)
        self.control(word)
        self.chunks(a, b, c, products, chunk)
        self.control(before)

    def chunks(self, a: Any, b: Any, c: Any, products: Any, chunk: Any) -> None:
        """Chunks in ascending k, products in ascending k, outer sums kept in ``c``."""
        builder, config = self.builder, self.config
        outer, sums = self.registers(), self.registers()
        for slot, place in enumerate(outer):
            builder.store(self.load(c, _index(slot * config.width)), place)
        round_up = builder.sub(chunk, _index(1))
        count = builder.sdiv(builder.add(products, round_up), chunk)
        with cgutils.for_range(builder, count) as part:
            for place in sums:
                builder.store(self.constant(0.0), place)
            first = builder.mul(part.index, chunk)
            left = builder.sub(products, first)
            short = builder.icmp_signed("<", left, chunk)
            with cgutils.for_range(builder, builder.select(short, left, chunk)) as step:
                self.add_products(sums, self.factors(a, b, builder.add(first, step.index)))
            self.merge(outer, sums)
        for slot, place in enumerate(outer):
            self.store(builder.load(place), c, _index(slot * config.width))


def _index(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


@intrinsic(prefer_literal=True)
def _chain_tile(  # type: ignore[no-untyped-def]
    typing_context, config, a, a_at, b, b_at, c, c_at, half, rest, products, chunk
):
    """Add ``products`` products in chunks of ``chunk`` to the outer accumulators ``c[c_at:]``.

    ``a[a_at:]`` is (k, rows), scaled, ``b[b_at:]`` (k, cols), ``c[c_at:]`` (rows, cols): contiguous float32,
    offsets in elements. A sum's bits are rounded by adding ``half`` and clearing those of ``rest``, one less
    than a step of the accumulator; both are int32. ``config``: a packed `ChainConfig` known at compile time.
    """
    tile = ChainConfig.unpack(config.literal_value)
    signature = types.void(config, a, a_at, b, b_at, c, c_at, types.int32, types.int32, products, chunk)

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        def pointer(position: int) -> Any:
            array = context.make_array(call.args[position])(context, builder, values[position])
            return builder.bitcast(builder.gep(array.data, [values[position + 1]]), _F32.as_pointer())

        places = [pointer(position) for position in (1, 3, 5)]
        _Emitter(builder, tile, *values[7:9]).tile(*places, *values[9:11])
        return context.get_dummy_value()

    return signature, generate


chain_tile: Any = _chain_tile
"""`_chain_tile` without the typing context, which the compiler passes."""
