"""The inner tile of a GEMM in double precision, in vector IR: `ROWS` x `COLUMNS` outputs, k in order.

Products of operands of few bits are exact in a float64, and so are most sums of a group's products. The
sum of partial sum and group is made odd where it drops bits (Boldo and Melquiond, 2008, "Emulation of FMA"),
so that the rounding to the accumulator's format is the only one. Whatever is not proven exact is checked as
it is done, and an output that fails is marked.

The code that emits instructions keeps their order; none may be reassociated. ``llvm.fmuladd`` may or may
not fuse, which is harmless here because it is used only where product and sum are exact.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

from accelsim.numerics.tile_writer import F64, TileWriter, array_place, index

ROWS, VECTORS, WIDTH = 4, 2, 4
COLUMNS = VECTORS * WIDTH

ROUNDINGS = ("even", "up", "any")
PRECISIONS = ("exact", "sticky", "checked")
RANGES = ("inside", "saturated", "marked")


@dataclass(frozen=True)
class DoubleConfig:
    """What is fixed when a tile is compiled.

    ``rounding``: ties to ``even`` in formats that fade to zero in equal steps; ties ``up`` in formats whose
    lowest binade is normal, and below it zero; ``any`` nearest one. ``precision``: sums of a chunk are
    ``exact`` in a double; or may drop bits, which is a ``sticky`` last bit (as it always is in the outer
    sums); or sums of a group's products may too, which is ``checked``. ``range``: no sum can leave the
    format's; what does becomes the largest, or is marked.
    """

    rounding: str
    precision: str
    range: str

    def pack(self) -> int:
        """The configuration as one integer: Numba hands integers to an intrinsic as literals."""
        word = ROUNDINGS.index(self.rounding) | PRECISIONS.index(self.precision) << 2
        return word | RANGES.index(self.range) << 4

    @staticmethod
    def unpack(word: int) -> DoubleConfig:
        """The inverse of `pack`."""
        return DoubleConfig(ROUNDINGS[word & 3], PRECISIONS[word >> 2 & 3], RANGES[word >> 4])


class _Emitter(TileWriter):
    """Writes the instructions of one tile: a (k, ROWS), b (k, COLUMNS), c and marks (ROWS, COLUMNS).

    ``fields``: the float64 described by `double_kernel.rounding_fields`.
    """

    def __init__(self, builder: ir.IRBuilder, config: DoubleConfig, fields: Any) -> None:
        super().__init__(builder, F64, ROWS, VECTORS, WIDTH)
        self.config = config
        loaded = [self.broadcast(builder.load(builder.gep(fields, [index(i)]))) for i in range(8)]
        self.lowest, self.shift, self.half, self.smallest, self.largest, self.largest_below, *ties = loaded
        self.ties_up, self.ties_down = ties

    def mark(self, place: Any, where: Any) -> None:
        """Mark the outputs where a comparison is true."""
        marked = self.builder.or_(self.builder.load(place), self.builder.sext(where, self.ints))
        self.builder.store(marked, place)

    def group_sums(self, a: Any, b: Any, first: Any, lanes: Any, marks: list[Any]) -> list[Any]:
        """Sums of the products of steps ``first`` to ``first + lanes``, in order."""
        builder, sums = self.builder, self.registers()
        for place, (x, y) in zip(sums, self.factors(a, b, first), strict=True):
            builder.store(builder.fmul(x, y), place)
        with cgutils.for_range(builder, builder.sub(lanes, index(1))) as rest:
            k = builder.add(builder.add(first, rest.index), index(1))
            for place, mark, (x, y) in zip(sums, marks, self.factors(a, b, k), strict=True):
                before = builder.load(place)
                if self.config.precision == "checked":
                    product = builder.fmul(x, y)
                    after = builder.fadd(before, product)
                    lost = self.dropped(before, product, after)
                    self.mark(mark, builder.fcmp_unordered("!=", lost, self.float_const(0.0)))
                else:
                    after = self.multiply_add("fmuladd", x, y, before)
                builder.store(after, place)
        return [builder.load(place) for place in sums]

    def add_rounded(self, x: Any, y: Any, mark: Any, *, sticky: bool) -> Any:
        """``x + y`` rounded once to the accumulator's format; marked where that is out of range."""
        builder, config = self.builder, self.config
        total = builder.fadd(x, y)
        bits = self.as_ints(total)
        if sticky:
            bits = self._odd(bits, self.dropped(x, y, total))
        sign = builder.and_(bits, self.int_const(-(1 << 63)))
        size = builder.and_(bits, self.int_const((1 << 63) - 1))
        rounded = self._rounded_up(size) if config.rounding == "up" else self._rounded(size)
        if config.rounding != "even":
            rounded = self.only(builder.fcmp_ordered(">=", rounded, self.smallest), rounded)
        if config.range == "marked":
            self.mark(mark, builder.fcmp_ordered(">", rounded, self.largest))
        elif config.range == "saturated":
            negative = builder.icmp_signed("<", bits, self.int_const(0))
            limit = builder.select(negative, self.largest_below, self.largest)
            rounded = builder.select(builder.fcmp_ordered(">", rounded, limit), limit, rounded)
        return self.as_floats(builder.or_(self.as_ints(rounded), sign))

    def only(self, where: Any, value: Any) -> Any:
        """``value`` where a comparison is true, else 0."""
        return self.as_floats(self.builder.and_(self.as_ints(value), self.builder.sext(where, self.ints)))

    def _odd(self, bits: Any, rest: Any) -> Any:
        """A sum that dropped ``rest``, rounded to odd."""
        builder = self.builder
        lost = builder.sext(builder.fcmp_unordered("!=", rest, self.float_const(0.0)), self.ints)
        # -1 where the exact sum is smaller in magnitude than the rounded one
        opposite = builder.icmp_signed("<", builder.xor(self.as_ints(rest), bits), self.int_const(0))
        smaller = builder.and_(builder.sext(opposite, self.ints), lost)
        return builder.or_(builder.add(bits, smaller), builder.and_(lost, self.int_const(1)))

    def _rounded_up(self, size: Any) -> Any:
        """The nearest value, ties up, where every binade has the same fraction bits."""
        builder, half = self.builder, self.as_ints(self.half)
        mask = builder.sub(self.int_const(0), builder.shl(half, self.int_const(1)))
        return self.as_floats(builder.and_(builder.add(size, half), mask))

    def _rounded(self, size: Any) -> Any:
        """The nearest value: adding 2**52 steps of the format rounds, half to even."""
        builder, config = self.builder, self.config
        binade = self.as_floats(builder.and_(size, self.int_const(0x7FF << 52)))
        lowest = builder.fcmp_ordered("<", binade, self.lowest)
        binade = builder.select(lowest, self.lowest, binade)
        steps = self.as_floats(builder.add(self.as_ints(binade), self.as_ints(self.shift)))
        exact = self.as_floats(size)
        rounded = builder.fsub(builder.fadd(exact, steps), steps)
        if config.rounding == "any":
            half = self.as_floats(builder.sub(self.as_ints(steps), self.int_const(53 << 52)))
            rest, step = builder.fsub(exact, rounded), builder.fadd(half, half)
            up = self.only(builder.fcmp_ordered("==", rest, builder.fmul(half, self.ties_up)), step)
            down = self.only(builder.fcmp_ordered("==", rest, builder.fmul(half, self.ties_down)), step)
            rounded = builder.fsub(builder.fadd(rounded, up), down)
        return rounded

    def tile(self, a: Any, b: Any, c: Any, marks: Any, lanes: Any, groups: Any, per_chunk: Any) -> None:
        """The whole tile: chunks in ascending k, groups in ascending k."""
        builder = self.builder
        outer, psum, failed = self.registers(), self.registers(), self.registers(self.ints)
        self.clear([*outer, *failed])
        round_up = builder.sub(per_chunk, index(1))
        chunks = builder.sdiv(builder.add(groups, round_up), per_chunk)
        with cgutils.for_range(builder, chunks) as chunk:
            self.clear(psum)
            first = builder.mul(chunk.index, per_chunk)
            left = builder.sub(groups, first)
            short = builder.icmp_signed("<", left, per_chunk)
            with cgutils.for_range(builder, builder.select(short, left, per_chunk)) as group:
                start = builder.mul(builder.add(first, group.index), lanes)
                sums = self.group_sums(a, b, start, lanes, failed)
                for place, mark, part in zip(psum, failed, sums, strict=True):
                    sticky = self.config.precision != "exact"
                    builder.store(self.add_rounded(builder.load(place), part, mark, sticky=sticky), place)
            for place, mark, part in zip(outer, failed, psum, strict=True):
                added = self.add_rounded(builder.load(place), builder.load(part), mark, sticky=True)
                builder.store(added, place)
        self.store_slots(outer, c)
        self.store_slots(failed, marks)


@intrinsic(prefer_literal=True)
def _double_tile(  # type: ignore[no-untyped-def]
    typing_context, config, a, a_at, b, b_at, c, c_at, marks, marks_at, fields, lanes, groups, per_chunk
):
    """Sums of one tile: ``groups`` groups of ``lanes`` products, ``per_chunk`` groups to a chunk.

    ``a[a_at:]`` is (k, ROWS), ``b[b_at:]`` (k, COLUMNS); ``c[c_at:]`` and ``marks[marks_at:]`` are (ROWS,
    COLUMNS). All contiguous float64, offsets in elements; a mark is NaN where a check failed, else 0.
    ``fields``: of `double_kernel.rounding_fields`. ``config``: a packed `DoubleConfig` known at compile time.
    """
    tile = DoubleConfig.unpack(config.literal_value)
    signature = types.void(
        config, a, a_at, b, b_at, c, c_at, marks, marks_at, fields, lanes, groups, per_chunk
    )

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        places = [array_place(context, builder, call, values, each, F64) for each in (1, 3, 5, 7)]
        array = context.make_array(call.args[9])(context, builder, values[9])
        emitter = _Emitter(builder, tile, builder.bitcast(array.data, F64.as_pointer()))
        emitter.tile(*places, *values[10:13])
        return context.get_dummy_value()

    return signature, generate


double_tile: Any = _double_tile
"""`_double_tile` without the typing context, which the compiler passes."""
