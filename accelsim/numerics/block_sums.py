"""Sums of blocks of floats, each block in order, eight blocks side by side in the lanes of a vector.

Eight loads of eight neighbours are transposed in registers, so that each lane adds the elements of its own
block one after another: the bits are those of a plain loop over each block.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils, types
from numba.extending import intrinsic

_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)
_FLOATS = ir.VectorType(_F32, 8)
_INTS = ir.VectorType(_I32, 8)

BLOCKS = 8
"""Blocks that are summed side by side."""

_PAIRS = [0, 8, 1, 9, 4, 12, 5, 13], [2, 10, 3, 11, 6, 14, 7, 15]
_FOURS = [0, 1, 8, 9, 4, 5, 12, 13], [2, 3, 10, 11, 6, 7, 14, 15]
_EIGHTS = [0, 1, 2, 3, 8, 9, 10, 11], [4, 5, 6, 7, 12, 13, 14, 15]


class _Emitter:
    """Writes the two sums."""

    def __init__(self, builder: ir.IRBuilder) -> None:
        self.builder = builder
        self.sums = [cgutils.alloca_once_value(builder, ir.Constant(_FLOATS, [0.0] * 8)) for _ in range(2)]

    def shuffled(self, x: Any, y: Any, places: list[int]) -> Any:
        return self.builder.shuffle_vector(x, y, ir.Constant(_INTS, places))

    def transposed(self, rows: list[Any]) -> list[Any]:
        """Eight vectors of eight: element j of vector i becomes element i of vector j."""
        pairs = [self.shuffled(rows[i], rows[i + 1], places) for i in (0, 2, 4, 6) for places in _PAIRS]
        fours = [
            self.shuffled(pairs[half + i], pairs[half + i + 2], places)
            for half in (0, 4)
            for i in (0, 1)
            for places in _FOURS
        ]
        return [self.shuffled(fours[i], fours[i + 4], places) for places in _EIGHTS for i in range(4)]

    def add(self, x: Any) -> None:
        """|x| to the first sums, x * x to the second."""
        builder, (first, second) = self.builder, self.sums
        bits = builder.and_(builder.bitcast(x, _INTS), ir.Constant(_INTS, [0x7FFFFFFF] * 8))
        builder.store(builder.fadd(builder.load(first), builder.bitcast(bits, _FLOATS)), first)
        builder.store(builder.fadd(builder.load(second), builder.fmul(x, x)), second)

    def fetch(self, pointer: Any, apart: int, length: Any) -> None:
        """Ask for what the next eight blocks need of this one's place; beyond the end nothing happens."""
        builder, byte = self.builder, ir.IntType(8).as_pointer()
        ahead = builder.mul(length, ir.Constant(_I64, apart))
        place = builder.gep(builder.bitcast(pointer, byte), [ahead])
        signature = ir.FunctionType(ir.VoidType(), [byte, _I32, _I32, _I32])
        function = cgutils.get_or_insert_function(builder.module, signature, "llvm.prefetch.p0i8")
        builder.call(function, [place, *(ir.Constant(_I32, word) for word in (0, 3, 1))])

    def step(self, values: Any, at: Any, length: Any) -> None:
        """Eight elements of each block, from ``at`` in the first one on."""
        builder, rows = self.builder, []
        for block in range(BLOCKS):
            place = builder.add(at, builder.mul(length, ir.Constant(_I64, block)))
            pointer = builder.bitcast(builder.gep(values, [place]), _FLOATS.as_pointer())
            rows.append(builder.load(pointer))
            rows[-1].align = 4
            self.fetch(pointer, BLOCKS * 4, length)
        for column in self.transposed(rows):
            self.add(column)

    def write(self, partial: Any) -> None:
        """Both sums of each block beside each other: (blocks, 2)."""
        first, second = (self.builder.load(place) for place in self.sums)
        places = [place for lane in range(8) for place in (lane, lane + 8)]
        mask = ir.Constant(ir.VectorType(_I32, 16), places)
        both = self.builder.shuffle_vector(first, second, mask)
        self.builder.store(both, self.builder.bitcast(partial, both.type.as_pointer())).align = 4


@intrinsic
def _moments_of_blocks(typing_context, values, at, length, partial, to):  # type: ignore[no-untyped-def]
    """partial[to : to + 16] = the sums of |x| and of x * x of eight blocks of ``length`` from ``at`` on.

    Contiguous float32; ``length`` is a multiple of 8.
    """
    signature = types.void(values, at, length, partial, to)

    def generate(context: Any, builder: Any, call: Any, arguments: Any) -> Any:
        source, target = (
            context.make_array(call.args[place])(context, builder, arguments[place]).data for place in (0, 3)
        )
        emitter = _Emitter(builder)
        steps = builder.sdiv(arguments[2], ir.Constant(_I64, 8))
        with cgutils.for_range(builder, steps) as step:
            first = builder.add(arguments[1], builder.mul(step.index, ir.Constant(_I64, 8)))
            emitter.step(source, first, arguments[2])
        emitter.write(builder.gep(target, [arguments[4]]))
        return context.get_dummy_value()

    return signature, generate


moments_of_blocks: Any = _moments_of_blocks
"""`_moments_of_blocks` without the typing context, which the compiler passes."""
