"""The operands of a GEMM, and what is known of their values."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.code_kernels import look_up, look_up_nibbles, used_codes
from accelsim.numerics.formats import NumberFormat
from accelsim.numerics.packing import flat_buffer, in_buffer_order
from accelsim.numerics.quantise import largest_magnitude
from accelsim.numerics.window_operand import Windows

_NIBBLE = 16  # codes of 4 bits


@dataclass(frozen=True)
class Matrix:
    """One GEMM operand, or a stack of them: codes with their value table, or values themselves.

    ``array``: uint8 codes or float32 values, (rows, columns) or (stack, rows, columns), any strides.
    ``format``: the number format of codes or values.
    """

    array: NDArray[Any]
    format: NumberFormat

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns) or (stack, rows, columns)."""
        return self.array.shape

    @property
    def coded(self) -> bool:
        """Whether these are codes."""
        return self.array.dtype == np.uint8

    def piece(self, first: int, last: int, *, of_columns: bool) -> Matrix:
        """Columns ``first`` to ``last``, or rows."""
        part = self.array[..., first:last] if of_columns else self.array[..., first:last, :]
        return Matrix(part, self.format)

    def values(self) -> NDArray[np.float32]:
        """The operand's values, float32, the same shape."""
        return self.array if self.array.dtype == np.float32 else self.decoded(value_table(self.format))

    def decoded(self, table: NDArray[Any]) -> NDArray[Any]:
        """The elements of ``table`` that the codes name, in the layout that the codes have."""
        flat = flat_buffer(self.array)
        found = np.empty(flat.size, table.dtype)
        (look_up if len(table) > _NIBBLE else look_up_nibbles)(flat, table, found)
        return in_buffer_order(found, self.array)

    def elements(self) -> NDArray[Any]:
        """What there is in the operand, flat, in whatever order."""
        return flat_buffer(self.array)

    def largest(self, *, held: bool = False) -> float:
        """A bound of the magnitudes, inf or NaN if there is one; the largest itself where ``held``."""
        if 0 in self.shape:
            return 0.0
        if not self.coded:
            return largest_magnitude(self.elements())
        if not held and not self.format.has_nan:
            return _largest_value(self.format)
        table, used = value_table(self.format), np.zeros(256, np.bool_)
        used_codes(self.elements(), used)
        return float(np.abs(table[used[: len(table)]]).max())

    def transposed(self) -> Matrix:
        """The same operand with rows and columns exchanged (a view)."""
        return Matrix(self.array.swapaxes(-1, -2), self.format)


class WindowMatrix(Matrix):
    """Windows of images, whose matrix is made when its elements are asked for."""

    windows: Windows
    _shape: tuple[int, ...]

    def __init__(self, windows: Windows, fmt: NumberFormat) -> None:
        object.__setattr__(self, "windows", windows)
        object.__setattr__(self, "_shape", windows.shape)  # asked for a dozen times in a product
        object.__setattr__(self, "format", fmt)

    @property
    def array(self) -> NDArray[Any]:
        """The matrix, made now."""
        return self.windows.array

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns)."""
        return self._shape

    @property
    def coded(self) -> bool:
        """Whether these are codes."""
        return self.windows.images.dtype == np.uint8

    def elements(self) -> NDArray[Any]:
        """The images', as windows hold nothing else but zeros."""
        return np.ascontiguousarray(self.windows.images).reshape(-1)

    def piece(self, first: int, last: int, *, of_columns: bool) -> Matrix:
        """Columns ``first`` to ``last``, or rows."""
        if of_columns == self.windows.transposed:
            return WindowMatrix(self.windows.part(first, last), self.format)
        return super().piece(first, last, of_columns=of_columns)

    def transposed(self) -> Matrix:
        """Rows and columns exchanged."""
        return WindowMatrix(self.windows.turned(), self.format)


@cache
def value_table(fmt: NumberFormat) -> NDArray[np.float32]:
    """The values of all codes of a format of at most 16 bits, float32."""
    return fmt.decode(np.arange(1 << fmt.bits)).astype(np.float32)


@cache
def _largest_value(fmt: NumberFormat) -> float:
    return float(np.abs(value_table(fmt)).max())


@cache
def largest_integer(fmt: NumberFormat) -> float:
    """The largest magnitude of a format in its unit (-8 of int4 is 8)."""
    return max(fmt.max_value, -float(value_table(fmt).min()) if fmt.kind == "integer" else 0.0) / fmt.unit
