"""What every register tile writes in vector IR: constants, loads, stores, slots and the operands' steps.

The code that emits instructions keeps their order; none may be reassociated.
"""

from __future__ import annotations

from typing import Any

from llvmlite import ir
from numba.core import cgutils

F32, F64 = ir.FloatType(), ir.DoubleType()
I32, I64 = ir.IntType(32), ir.IntType(64)


def index(value: int) -> ir.Constant:
    """A place in an array."""
    return ir.Constant(I64, value)


def array_place(context: Any, builder: Any, call: Any, values: Any, position: int, element: Any) -> Any:
    """A pointer into the array that is argument ``position`` of an intrinsic; the offset comes after it."""
    array = context.make_array(call.args[position])(context, builder, values[position])
    return builder.bitcast(builder.gep(array.data, [values[position + 1]]), element.as_pointer())


class TileWriter:
    """Writes instructions on a tile of ``rows`` x ``vectors`` slots, vectors of ``width`` elements.

    ``element``: single or double precision; integers are as wide. Operands are a (k, rows) and b (k, cols).
    """

    def __init__(self, builder: ir.IRBuilder, element: Any, rows: int, vectors: int, width: int) -> None:
        self.builder = builder
        self.rows, self.vectors, self.width = rows, vectors, width
        self._bytes = 4 if element == F32 else 8
        self.floats = ir.VectorType(element, width)
        self.ints = ir.VectorType(ir.IntType(8 * self._bytes), width)

    def float_const(self, value: float) -> ir.Constant:
        return ir.Constant(self.floats, [value] * self.width)

    def int_const(self, value: int) -> ir.Constant:
        return ir.Constant(self.ints, [value] * self.width)

    def as_ints(self, value: Any) -> Any:
        return self.builder.bitcast(value, self.ints)

    def as_floats(self, value: Any) -> Any:
        return self.builder.bitcast(value, self.floats)

    def load(self, pointer: Any, place: Any) -> Any:
        """The vector of elements from ``place`` on."""
        target = self.builder.bitcast(self.builder.gep(pointer, [place]), self.floats.as_pointer())
        vector = self.builder.load(target)
        vector.align = self._bytes
        return vector

    def store(self, vector: Any, pointer: Any, place: Any) -> None:
        """The inverse of `load`."""
        target = self.builder.bitcast(self.builder.gep(pointer, [place]), self.floats.as_pointer())
        self.builder.store(vector, target).align = self._bytes

    def broadcast(self, scalar: Any) -> Any:
        """A vector that holds a float or an integer everywhere."""
        undefined = ir.Constant(ir.VectorType(scalar.type, self.width), ir.Undefined)
        single = self.builder.insert_element(undefined, scalar, ir.Constant(I32, 0))
        zeros = ir.Constant(ir.VectorType(I32, self.width), [0] * self.width)
        return self.builder.shuffle_vector(single, undefined, zeros)

    def registers(self, kind: Any = None) -> list[Any]:
        """One slot per vector of the tile, of floats unless told; LLVM promotes them to registers."""
        count = self.rows * self.vectors
        return [cgutils.alloca_once(self.builder, kind or self.floats) for _ in range(count)]

    def clear(self, slots: list[Any]) -> None:
        """Zero in all slots."""
        for slot in slots:
            self.builder.store(ir.Constant(slot.type.pointee, [0] * self.width), slot)

    def load_slots(self, slots: list[Any], pointer: Any) -> None:
        """Fill the slots from (rows, cols)."""
        for number, slot in enumerate(slots):
            self.builder.store(self.load(pointer, index(number * self.width)), slot)

    def store_slots(self, slots: list[Any], pointer: Any) -> None:
        """The inverse of `load_slots`."""
        for number, slot in enumerate(slots):
            self.store(self.as_floats(self.builder.load(slot)), pointer, index(number * self.width))

    def operands(self, a: Any, b: Any, k: Any) -> tuple[list[Any], list[Any]]:
        """Step k of both operands: each row of a broadcast, b by vectors."""
        builder = self.builder
        b_row = builder.mul(k, index(self.vectors * self.width))
        a_row = builder.mul(k, index(self.rows))
        left = [
            self.broadcast(builder.load(builder.gep(a, [builder.add(a_row, index(row))])))
            for row in range(self.rows)
        ]
        right = [self.load(b, builder.add(b_row, index(v * self.width))) for v in range(self.vectors)]
        return left, right

    def factors(self, a: Any, b: Any, k: Any) -> list[tuple[Any, Any]]:
        """Step k of both operands, a pair for each slot."""
        left, right = self.operands(a, b, k)
        return [(x, y) for x in left for y in right]

    def intrinsic(self, name: str, result: Any, *arguments: Any) -> Any:
        """One of LLVM's own functions."""
        signature = ir.FunctionType(result, [argument.type for argument in arguments])
        function = cgutils.get_or_insert_function(self.builder.module, signature, f"llvm.{name}")
        return self.builder.call(function, arguments)

    def multiply_add(self, name: str, x: Any, y: Any, total: Any) -> Any:
        """``x * y + total``: ``fma`` with one rounding, ``fmuladd`` with one or two."""
        suffix = f"v{self.width}f{8 * self._bytes}"
        return self.intrinsic(f"{name}.{suffix}", self.floats, x, y, total)

    def dropped(self, x: Any, y: Any, total: Any) -> Any:
        """What the add of ``x + y`` dropped, exactly (Knuth's two-sum)."""
        builder = self.builder
        y_part = builder.fsub(total, x)
        x_part = builder.fsub(total, y_part)
        return builder.fadd(builder.fsub(x, x_part), builder.fsub(y, y_part))
