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

from accelsim.numerics.tile_writer import F32, TileWriter, array_place, index

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


class TileEmitter(TileWriter):
    """Writes the instructions of one tile.

    Shapes: a (k, rows), b (k, cols), c (rows, cols).
    """

    def __init__(self, builder: ir.IRBuilder, config: TileConfig) -> None:
        super().__init__(builder, F32, config.rows, config.vectors, config.width)
        self.config = config
        self.peak = cgutils.alloca_once_value(builder, self.int_const(0))

    def group_sum(self, a: Any, b: Any, group: Any) -> list[Any]:
        """The exact sums of one group's products, one float vector per slot."""
        first = self.builder.mul(group, index(self.config.lanes))
        sums: list[Any] = []
        for step in range(self.config.lanes):
            pairs = self.factors(a, b, self.builder.add(first, index(step)))
            if step == 0:
                sums = [self.builder.fmul(x, y) for x, y in pairs]
            else:
                terms = zip(sums, pairs, strict=True)
                sums = [self.multiply_add("fmuladd", x, y, total) for total, (x, y) in terms]
        return sums

    def add_rounded(self, x: Any, y: Any, *, sticky: bool) -> Any:
        """``x + y`` rounded once to the accumulator's format."""
        total = self.builder.fadd(x, y)
        if self.config.rounding == "fp32":
            return total
        bits = self.as_ints(total)
        error = self.dropped(x, y, total) if sticky else None
        if self.config.rounding == "dlfloat16":
            return self._round_dlfloat16(bits, error)
        return self._round_fp16(bits, error)

    def _below(self, bits: Any, error: Any) -> Any:
        """-1 where the exact sum is smaller in magnitude than the single-precision one, else 0."""
        builder = self.builder
        sign = builder.and_(bits, self.int_const(-0x80000000))
        folded = self.as_floats(builder.xor(self.as_ints(error), sign))
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
        return self.as_floats(rounded)

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
        result = self.as_floats(rounded)
        if self.config.underflow:
            value = self.as_floats(bits)
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
            bits = self.as_ints(rounded)
            magnitude = self.builder.and_(bits, self.int_const(0x7FFFFFFF))
            self.builder.store(self._larger(magnitude, self.builder.load(self.peak)), self.peak)
        return rounded

    def _note_peak(self, place: Any) -> None:
        """Merge the largest magnitudes into ``width`` floats at ``place``."""
        zero = index(0)
        before = self.as_ints(self.load(place, zero))
        merged = self._larger(before, self.builder.load(self.peak))
        self.store(self.as_floats(merged), place, zero)

    def tile(self, a: Any, b: Any, c: Any, peak: Any, groups: Any, groups_per_chunk: Any) -> None:
        """The whole tile: chunks in ascending k, groups in ascending k, outer sums kept in ``c``."""
        config, builder = self.config, self.builder
        outer, psum = self.registers(), self.registers()
        self.load_slots(outer, c)
        round_up = builder.sub(groups_per_chunk, index(1))
        chunks = builder.sdiv(builder.add(groups, round_up), groups_per_chunk)
        with cgutils.for_range(builder, chunks) as chunk:
            self.clear(psum)
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
        self.store_slots(outer, c)
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
        a, b, c, peak = (array_place(context, builder, call, values, each, F32) for each in (1, 3, 5, 7))
        TileEmitter(builder, tile).tile(a, b, c, peak, values[9], values[10])
        return context.get_dummy_value()

    return signature, generate


accumulate_tile: Any = _accumulate_tile
"""`_accumulate_tile` without the typing context, which the compiler passes."""
