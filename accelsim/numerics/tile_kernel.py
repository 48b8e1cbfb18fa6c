"""The inner tile of a GEMM in vector IR: a register tile of accumulators, k in order.

One tile is ``rows`` x ``vectors * width`` outputs. Per group of ``lanes`` products the exact group sum
is added to the partial sum and rounded once; per chunk the partial sum is added to the outer
accumulator and rounded once (accumulate.py says when single precision may carry that exactly, and
only then calls this). The vector width changes the speed, never a bit.

Products come from one of three carriers. ``f32`` multiplies in single precision, here, on any machine.
``i8`` and ``i16`` hold operands as integers in units of their formats (`integer_tile`); the sums, integers
below 2**24, become floats and are rounded by the same code. All carriers give the same bits.

The code that emits instructions keeps their order; none may be reassociated. ``llvm.fmuladd`` may or
may not fuse, which is harmless here because every product is exact in single precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelsim.numerics.instructions import vector_width as vector_width

_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)

ROUNDINGS = ("dlfloat16", "fp16", "fp32")
CARRIERS = ("f32", "i8", "i16")


@dataclass(frozen=True)
class TileConfig:
    """Everything about a tile that is fixed when it is compiled.

    ``sticky_inner`` keeps track of what a single-precision add dropped, so that the rounding to the
    accumulator's format is the only one; the add of the outer accumulator always does.
    ``underflow`` says that sums below the accumulator's normal range can occur. ``corrected``: the
    bytes of ``a`` were made unsigned by an offset, and the sums start from what that adds too much.
    ``watched``: the largest magnitude of any rounded sum is noted, so that the caller can tell
    afterwards whether the accumulator would have overflowed.
    """

    rounding: str
    lanes: int
    sticky_inner: bool
    underflow: bool
    rows: int
    vectors: int
    width: int
    carrier: str = "f32"
    corrected: bool = False
    watched: bool = False

    @property
    def cols(self) -> int:
        """Output columns of the tile."""
        return self.vectors * self.width

    def pack(self) -> int:
        """The configuration as one integer: Numba hands integers to an intrinsic as literals."""
        word = ROUNDINGS.index(self.rounding) | self.lanes << 4 | self.rows << 12 | self.vectors << 16
        word |= self.width << 20 | int(self.sticky_inner) << 28 | int(self.underflow) << 29
        return word | CARRIERS.index(self.carrier) << 30 | int(self.corrected) << 32 | int(self.watched) << 33

    @staticmethod
    def unpack(word: int) -> TileConfig:
        """The inverse of `pack`."""
        return TileConfig(
            rounding=ROUNDINGS[word & 0xF],
            lanes=word >> 4 & 0xFF,
            rows=word >> 12 & 0xF,
            vectors=word >> 16 & 0xF,
            width=word >> 20 & 0xFF,
            sticky_inner=bool(word >> 28 & 1),
            underflow=bool(word >> 29 & 1),
            carrier=CARRIERS[word >> 30 & 3],
            corrected=bool(word >> 32 & 1),
            watched=bool(word >> 33 & 1),
        )


class TileEmitter:
    """Writes the instructions of one tile.

    Shapes: a (k, rows), b (k, cols), c (rows, cols).
    """

    def __init__(self, builder: ir.IRBuilder, config: TileConfig) -> None:
        self.builder = builder
        self.config = config
        self.floats = ir.VectorType(_F32, config.width)
        self.ints = ir.VectorType(_I32, config.width)
        name = f"llvm.fmuladd.v{config.width}f32"
        signature = ir.FunctionType(self.floats, [self.floats] * 3)
        self.fmuladd = cgutils.get_or_insert_function(builder.module, signature, name)
        self.peak = cgutils.alloca_once_value(builder, self.int_const(0))

    def float_const(self, value: float) -> ir.Constant:
        return ir.Constant(self.floats, [value] * self.config.width)

    def int_const(self, value: int) -> ir.Constant:
        return ir.Constant(self.ints, [value] * self.config.width)

    def load(self, pointer: Any, index: Any) -> Any:
        place = self.builder.bitcast(self.builder.gep(pointer, [index]), self.floats.as_pointer())
        vector = self.builder.load(place)
        vector.align = 4
        return vector

    def store(self, vector: Any, pointer: Any, index: Any) -> None:
        place = self.builder.bitcast(self.builder.gep(pointer, [index]), self.floats.as_pointer())
        self.builder.store(vector, place).align = 4

    def broadcast(self, scalar: Any) -> Any:
        undefined = ir.Constant(self.floats, ir.Undefined)
        single = self.builder.insert_element(undefined, scalar, ir.Constant(_I32, 0))
        return self.builder.shuffle_vector(single, undefined, self.int_const(0))

    def registers(self) -> list[Any]:
        """One vector slot per vector of the tile; LLVM promotes them to registers."""
        count = self.config.rows * self.config.vectors
        return [cgutils.alloca_once(self.builder, self.floats) for _ in range(count)]

    def operands(self, a: Any, b: Any, k: Any) -> tuple[list[Any], list[Any]]:
        """Step k of both operands, 32 bits an element: each row of a broadcast, b by vectors."""
        config, builder = self.config, self.builder
        b_row = builder.mul(k, ir.Constant(_I64, config.cols))
        a_row = builder.mul(k, ir.Constant(_I64, config.rows))
        left = [
            self.broadcast(builder.load(builder.gep(a, [builder.add(a_row, ir.Constant(_I64, row))])))
            for row in range(config.rows)
        ]
        right = [
            self.load(b, builder.add(b_row, ir.Constant(_I64, v * config.width)))
            for v in range(config.vectors)
        ]
        return left, right

    def group_sum(self, a: Any, b: Any, group: Any) -> list[Any]:
        """The exact sums of one group's products, one float vector per slot."""
        first = self.builder.mul(group, ir.Constant(_I64, self.config.lanes))
        sums: list[Any] = []
        for step in range(self.config.lanes):
            left, right = self.operands(a, b, self.builder.add(first, ir.Constant(_I64, step)))
            pairs = [(x, y) for x in left for y in right]
            if step == 0:
                sums = [self.builder.fmul(x, y) for x, y in pairs]
            else:
                terms = zip(sums, pairs, strict=True)
                sums = [self.builder.call(self.fmuladd, [x, y, total]) for total, (x, y) in terms]
        return sums

    def add_rounded(self, x: Any, y: Any, *, sticky: bool) -> Any:
        """``x + y`` rounded once to the accumulator's format."""
        total = self.builder.fadd(x, y)
        if self.config.rounding == "fp32":
            return total
        bits = self.builder.bitcast(total, self.ints)
        error = self._dropped(x, y, total) if sticky else None
        if self.config.rounding == "dlfloat16":
            return self._round_dlfloat16(bits, error)
        return self._round_fp16(bits, error)

    def _dropped(self, x: Any, y: Any, total: Any) -> Any:
        """What the single-precision add dropped, exactly (Knuth's TwoSum)."""
        builder = self.builder
        y_part = builder.fsub(total, x)
        x_part = builder.fsub(total, y_part)
        return builder.fadd(builder.fsub(x, x_part), builder.fsub(y, y_part))

    def _below(self, bits: Any, error: Any) -> Any:
        """-1 where the exact sum is smaller in magnitude than the single-precision one, else 0."""
        builder = self.builder
        sign = builder.and_(bits, self.int_const(-0x80000000))
        folded = builder.bitcast(builder.xor(builder.bitcast(error, self.ints), sign), self.floats)
        opposite = builder.fcmp_ordered("<", folded, self.float_const(0.0))
        return builder.sext(opposite, self.ints)

    def _round_dlfloat16(self, bits: Any, error: Any) -> Any:
        """Nearest, ties up in magnitude, to 9 fraction bits; below 2**-31 * (1 + 2**-10) to zero.

        One unit less before the half is added turns a tie that lies below the tie into "down", and
        changes no other rounding.
        """
        builder = self.builder
        if error is not None:
            bits = builder.add(bits, self._below(bits, error))
        rounded = builder.and_(builder.add(bits, self.int_const(0x2000)), self.int_const(-0x4000))
        if self.config.underflow:
            magnitude = builder.and_(rounded, self.int_const(0x7FFFFFFF))
            flushed = builder.icmp_signed("<", magnitude, self.int_const(0x30004000))
            rounded = builder.select(flushed, self.int_const(0), rounded)
        return builder.bitcast(rounded, self.floats)

    def _round_fp16(self, bits: Any, error: Any) -> Any:
        """Nearest even to 10 fraction bits; below 2**-14 to a multiple of 2**-24.

        The dropped part first makes the single-precision sum odd (round to odd), so that the second
        rounding sees on which side of a tie the exact sum lies.
        """
        builder = self.builder
        if error is not None:
            lost = builder.fcmp_unordered("!=", error, self.float_const(0.0))
            bits = builder.add(bits, self._below(bits, error))
            bits = builder.or_(bits, builder.zext(lost, self.ints))
        last = builder.and_(builder.lshr(bits, self.int_const(13)), self.int_const(1))
        half = builder.add(last, self.int_const(0xFFF))
        rounded = builder.and_(builder.add(bits, half), self.int_const(-0x2000))
        result = builder.bitcast(rounded, self.floats)
        if self.config.underflow:
            value = builder.bitcast(bits, self.floats)
            shift = self.float_const(0.75)  # its unit in the last place is 2**-24
            subnormal = builder.fsub(builder.fadd(value, shift), shift)
            magnitude = builder.and_(bits, self.int_const(0x7FFFFFFF))
            small = builder.icmp_signed("<", magnitude, self.int_const(0x38800000))
            result = builder.select(small, subnormal, result)
        return result

    def _larger(self, x: Any, y: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(">", x, y), x, y)

    def _seen(self, rounded: Any) -> Any:
        """``rounded``, its magnitude noted where the tile is watched (as bits, which are in its order)."""
        if self.config.watched:
            bits = self.builder.bitcast(rounded, self.ints)
            magnitude = self.builder.and_(bits, self.int_const(0x7FFFFFFF))
            self.builder.store(self._larger(magnitude, self.builder.load(self.peak)), self.peak)
        return rounded

    def _note_peak(self, place: Any) -> None:
        """Merge the largest magnitudes into ``width`` floats at ``place``."""
        zero = ir.Constant(_I64, 0)
        before = self.builder.bitcast(self.load(place, zero), self.ints)
        merged = self._larger(before, self.builder.load(self.peak))
        self.store(self.builder.bitcast(merged, self.floats), place, zero)

    def tile(self, a: Any, b: Any, c: Any, peak: Any, groups: Any, groups_per_chunk: Any) -> None:
        """The whole tile: chunks in ascending k, groups in ascending k, outer sums kept in ``c``."""
        config, builder = self.config, self.builder
        outer, psum = self.registers(), self.registers()
        for slot, place in enumerate(outer):
            builder.store(self.load(c, ir.Constant(_I64, slot * config.width)), place)
        round_up = builder.sub(groups_per_chunk, ir.Constant(_I64, 1))
        chunks = builder.sdiv(builder.add(groups, round_up), groups_per_chunk)
        with cgutils.for_range(builder, chunks) as chunk:
            for place in psum:
                builder.store(self.float_const(0.0), place)
            first = builder.mul(chunk.index, groups_per_chunk)
            left = builder.sub(groups, first)
            short = builder.icmp_signed("<", left, groups_per_chunk)
            with cgutils.for_range(builder, builder.select(short, left, groups_per_chunk)) as group:
                number = builder.add(first, group.index)
                for place, total in zip(psum, self.group_sum(a, b, number), strict=True):
                    added = self.add_rounded(builder.load(place), total, sticky=config.sticky_inner)
                    builder.store(self._seen(added), place)
            for place, part in zip(outer, psum, strict=True):
                added = self.add_rounded(builder.load(place), builder.load(part), sticky=True)
                builder.store(self._seen(added), place)
        for slot, place in enumerate(outer):
            self.store(builder.load(place), c, ir.Constant(_I64, slot * config.width))
        if config.watched:
            self._note_peak(peak)


@intrinsic(prefer_literal=True)
def _accumulate_tile(  # type: ignore[no-untyped-def]
    typing_context,
    config,
    a,
    a_at,
    b,
    b_at,
    c,
    c_at,
    peak,
    peak_at,
    groups,
    groups_per_chunk,
):
    """Add ``groups`` groups of products to the outer accumulators ``c[c_at:]``.

    ``a[a_at:]`` is (k, rows), ``b[b_at:]`` (k, cols), ``c[c_at:]`` (rows, cols), all float32;
    ``peak[peak_at:]``, ``width`` float32, gets the largest magnitudes if the configuration is ``watched``.
    All contiguous, all offsets in elements. ``config`` is a packed `TileConfig` known at compile time.
    """
    tile = TileConfig.unpack(config.literal_value)
    signature = types.void(config, a, a_at, b, b_at, c, c_at, peak, peak_at, groups, groups_per_chunk)

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        def pointer(position: int) -> Any:
            array = context.make_array(call.args[position])(context, builder, values[position])
            place = builder.gep(array.data, [values[position + 1]])
            return builder.bitcast(place, _F32.as_pointer())

        a, b, c, peak = (pointer(position) for position in (1, 3, 5, 7))
        TileEmitter(builder, tile).tile(a, b, c, peak, values[9], values[10])
        return context.get_dummy_value()

    return signature, generate


accumulate_tile: Any = _accumulate_tile
"""`_accumulate_tile` without the typing context, which the compiler passes."""
