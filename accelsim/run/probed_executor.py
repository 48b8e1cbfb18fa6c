"""A chip's step with every tensor looked at: what entered the array, what it became, what came out."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.edge import EdgeOperand
from accelsim.network import Operand
from accelsim.numerics.formats import number_format
from accelsim.operations import Gemm
from accelsim.run.chip_executor import ChipExecutor
from accelsim.run.float_executor import Trace

F32 = NDArray[np.float32]

MOST_ROWS = 32
"""Rows of a product whose exact sums are computed to see what the accumulator lost."""


@dataclass
class ProductNote:
    """The products of one layer and phase: squares of errors and of exact sums on the sampled rows."""

    products: int = 0
    macs: int = 0
    kernel: str = ""
    error_squares: float = 0.0
    exact_squares: float = 0.0
    sampled: int = 0


@dataclass
class OperandNote:
    """One quantised operand of a site, added up over the calls of a step."""

    format: str
    elements: int = 0
    saturated: int = 0
    flushed: int = 0
    zeros: int = 0
    scale: float = 1.0
    product: float = 0.0
    squares: float = 0.0
    quantised_squares: float = 0.0
    octaves: dict[int, int] | None = None


class ProbedExecutor(ChipExecutor):
    """The chip's own executor, bit for bit; while ``probing`` it also notes what passes.

    ``inputs`` and ``gradients_seen``: what every site was given, as in `FloatExecutor`. ``operands``: by
    (site, role); ``products``: by (layer, phase).
    """

    probing = False

    def start_probing(self) -> None:
        """Note everything from now on."""
        self.probing = True
        self.inputs: Trace = defaultdict(list)
        self.gradients_seen: Trace = defaultdict(list)
        self.operands: dict[tuple[str, str], OperandNote] = {}
        self.products: dict[tuple[str, str], ProductNote] = {}

    def activation(self, layer: str, x: F32, *, remember: bool = True) -> Operand:
        """The layer's input in its format."""
        operand = super().activation(layer, x, remember=remember)
        if self.probing and remember:
            self.inputs[layer].append(x)
            self._note_operand(layer, "activation", x, operand)
        return operand

    def gradients(self, layer: str, dy: F32) -> tuple[Operand, Operand]:
        """dL/dy in the formats of both products that take it."""
        pair = super().gradients(layer, dy)
        if self.probing:
            self.gradients_seen[layer].append(dy)
            self._note_operand(layer, "gradient_input", dy, pair[0])
            self._note_operand(layer, "gradient_weight", dy, pair[1])
        return pair

    def multiply(self, gemm: Gemm, a: Operand, b: Operand) -> F32:
        """The product as the chip makes it; on a sample of its rows, how far it is from the exact one."""
        if self.probing and a.array.ndim == 3:  # each product of a stack by itself: the bits are the same
            pairs = zip(a.array, b.array, strict=True)
            return np.stack([self.multiply(gemm, a.rearranged(x), b.rearranged(y)) for x, y in pairs])
        result = super().multiply(gemm, a, b)
        if self.probing and gemm.macs:
            note = self.products.setdefault((gemm.layer, gemm.phase), ProductNote())
            note.products += 1
            note.macs += gemm.macs // gemm.groups
            note.kernel = self.last_kernel
            if not (isinstance(a, EdgeOperand) or isinstance(b, EdgeOperand)):
                _note_error(note, a, b, result)
        return result

    def _note_operand(self, layer: str, role: str, values: F32, operand: Operand) -> None:
        if isinstance(operand, EdgeOperand):  # becomes codes at the array, by blocks
            return
        fmt = number_format(operand.format)
        if fmt.bits > 8:
            return
        note = self.operands.setdefault((layer, role), OperandNote(operand.format, octaves={}))
        decoded = fmt.decode(np.arange(1 << fmt.bits)).astype(np.float32)[operand.array]
        live, wide = values != 0, values.astype(np.float64).reshape(-1)
        note.elements += values.size
        note.saturated += int(np.count_nonzero(np.abs(decoded) == fmt.max_value))
        note.flushed += int(np.count_nonzero((decoded == 0) & live))
        note.zeros += int(np.count_nonzero(decoded == 0))
        note.scale = operand.scale
        quantised = decoded.astype(np.float64).reshape(-1) * operand.scale
        note.product += float(np.vdot(quantised, wide))
        note.squares += float(np.vdot(wide, wide))
        note.quantised_squares += float(np.vdot(quantised, quantised))
        _count_octaves(note, values[live & np.isfinite(values)])


def _count_octaves(note: OperandNote, values: F32) -> None:
    """Add the exponents of nonzero values: e with 2**e <= |x| < 2**(e + 1)."""
    assert note.octaves is not None
    exponents = np.frexp(values)[1].astype(np.int64) - 1
    if not exponents.size:
        return
    low = int(exponents.min())
    for offset, count in enumerate(np.bincount(exponents - low)):
        if count:
            note.octaves[low + offset] = note.octaves.get(low + offset, 0) + int(count)


def _note_error(note: ProductNote, a: Operand, b: Operand, result: F32) -> None:
    """Squares of result minus exact sum, and of the exact sum, on evenly spaced rows."""
    rows = np.unique(np.linspace(0, len(result) - 1, MOST_ROWS).astype(np.int64))
    # float64 holds products of 16-bit significands exactly and their sums to 1e-13: a yardstick
    exact = _values(a, a.array[rows]) @ _values(b, b.array)
    error = result[rows].astype(np.float64) - exact
    finite = np.isfinite(error)
    note.error_squares += float(np.vdot(error[finite], error[finite]))
    note.exact_squares += float(np.vdot(exact[finite], exact[finite]))
    note.sampled += int(np.count_nonzero(finite))


def _values(operand: Operand, array: NDArray[Any]) -> NDArray[np.float64]:
    fmt = number_format(operand.format)
    if fmt.bits > 8:
        return array.astype(np.float64) * operand.scale
    return np.asarray(fmt.decode(np.arange(1 << fmt.bits))[array] * operand.scale)
