"""The inner tile of a GEMM in portable vector IR: a register tile of accumulators, k in order.

One tile is ``rows`` x ``vectors * width`` outputs. Per group of ``lanes`` products the exact group sum
is added to the partial sum and rounded once; per chunk the partial sum is added to the outer
accumulator and rounded once (accumulate.py says when single precision may carry that exactly, and
only then calls this). The vector width changes the speed, never a bit.

The code that emits instructions keeps their order; none may be reassociated. ``llvm.fmuladd`` may or
may not fuse, which is harmless here because every product is exact in single precision.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_F32 = ir.FloatType()
_I32 = ir.IntType(32)
_I64 = ir.IntType(64)

ROUNDINGS = ("dlfloat16", "fp16", "fp32")


@dataclass(frozen=True)
class TileConfig:
    """Everything about a tile that is fixed when it is compiled.

    ``sticky_inner`` keeps track of what a single-precision add dropped, so that the rounding to the
    accumulator's format is the only one; the add of the outer accumulator always does.
    ``underflow`` says that sums below the accumulator's normal range can occur.
    """

    rounding: str
    lanes: int
    sticky_inner: bool
    underflow: bool
    rows: int
    vectors: int
    width: int

    @property
    def cols(self) -> int:
        """Output columns of the tile."""
        return self.vectors * self.width

    def pack(self) -> int:
        """The configuration as one integer: Numba hands integers to an intrinsic as literals."""
        word = ROUNDINGS.index(self.rounding) | self.lanes << 4 | self.rows << 12 | self.vectors << 16
        return word | self.width << 20 | int(self.sticky_inner) << 28 | int(self.underflow) << 29

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
        )


class _Emitter:
    """Writes the instructions of one tile. Shapes: a (k, rows), b (k, cols), c (rows, cols), float32."""

    def __init__(self, builder: ir.IRBuilder, config: TileConfig) -> None:
        self.builder = builder
        self.config = config
        self.floats = ir.VectorType(_F32, config.width)
        self.ints = ir.VectorType(_I32, config.width)
        name = f"llvm.fmuladd.v{config.width}f32"
        signature = ir.FunctionType(self.floats, [self.floats] * 3)
        self.fmuladd = cgutils.get_or_insert_function(builder.module, signature, name)

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

    def group_sum(self, a: Any, b: Any, first_k: Any) -> list[Any]:
        """The exact sums of ``lanes`` products from ``first_k`` on, one vector per slot."""
        config, builder = self.config, self.builder
        sums: list[Any] = [None] * (config.rows * config.vectors)
        for lane in range(config.lanes):
            k = builder.add(first_k, ir.Constant(_I64, lane))
            b_row = builder.mul(k, ir.Constant(_I64, config.cols))
            a_row = builder.mul(k, ir.Constant(_I64, config.rows))
            columns = [
                self.load(b, builder.add(b_row, ir.Constant(_I64, v * config.width)))
                for v in range(config.vectors)
            ]
            for row in range(config.rows):
                place = builder.gep(a, [builder.add(a_row, ir.Constant(_I64, row))])
                value = self.broadcast(builder.load(place))
                for v, column in enumerate(columns):
                    slot = row * config.vectors + v
                    if lane == 0:
                        sums[slot] = builder.fmul(value, column)
                    else:
                        sums[slot] = builder.call(self.fmuladd, [value, column, sums[slot]])
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

    def tile(self, a: Any, b: Any, c: Any, groups: Any, groups_per_chunk: Any) -> None:
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
                k = builder.mul(builder.add(first, group.index), ir.Constant(_I64, config.lanes))
                for place, total in zip(psum, self.group_sum(a, b, k), strict=True):
                    added = self.add_rounded(builder.load(place), total, sticky=config.sticky_inner)
                    builder.store(added, place)
            for place, part in zip(outer, psum, strict=True):
                added = self.add_rounded(builder.load(place), builder.load(part), sticky=True)
                builder.store(added, place)
        for slot, place in enumerate(outer):
            self.store(builder.load(place), c, ir.Constant(_I64, slot * config.width))


@intrinsic(prefer_literal=True)
def accumulate_tile(typing_context, config, a, a_at, b, b_at, c, c_at, groups, groups_per_chunk):  # type: ignore[no-untyped-def]
    """Add ``groups`` groups of products to the outer accumulators ``c[c_at:]``.

    ``a[a_at:]`` is (k, rows), ``b[b_at:]`` is (k, cols), ``c[c_at:]`` is (rows, cols), all float32
    and contiguous; ``config`` is a packed `TileConfig` known at compile time.
    """
    tile = TileConfig.unpack(config.literal_value)
    signature = types.void(config, a, a_at, b, b_at, c, c_at, groups, groups_per_chunk)

    def generate(context, builder, call, values):  # type: ignore[no-untyped-def]
        def pointer(position):  # type: ignore[no-untyped-def]
            array = context.make_array(call.args[position])(context, builder, values[position])
            return builder.gep(array.data, [values[position + 1]])

        _Emitter(builder, tile).tile(pointer(1), pointer(3), pointer(5), values[7], values[8])
        return context.get_dummy_value()

    return signature, generate
