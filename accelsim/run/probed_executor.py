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
from accelsim.run.observing import Observer

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


class ProbedExecutor(ChipExecutor):
    """The chip's own executor, bit for bit; while ``probing`` it also notes what passes.

    ``inputs`` and ``gradients_seen``: what every site was given, as in `FloatExecutor`. ``observed``: what
    quantisation did to them; ``products``: by (layer, phase).
    """

    probing = False

    def start_probing(self) -> None:
        """Note everything from now on."""
        self.probing = True
        self.observed = Observer()
        self.inputs: Trace = defaultdict(list)
        self.gradients_seen: Trace = defaultdict(list)
        self.products: dict[tuple[str, str], ProductNote] = {}

    def activation(self, layer: str, x: F32, *, remember: bool = True) -> Operand:
        """The layer's input in its format."""
        operand = super().activation(layer, x, remember=remember)
        if self.probing and remember:
            self.inputs[layer].append(x)
        return operand

    def gradients(self, layer: str, dy: F32) -> tuple[Operand, Operand]:
        """dL/dy in the formats of both products that take it."""
        pair = super().gradients(layer, dy)
        if self.probing:
            self.gradients_seen[layer].append(dy)
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


def _note_error(note: ProductNote, a: Operand, b: Operand, result: F32) -> None:
    """Squares of result minus exact sum, and of the exact sum, on evenly spaced rows."""
    rows = np.unique(np.linspace(0, len(result) - 1, MOST_ROWS).astype(np.int64))
    # float64 holds products of 16-bit significands exactly and their sums to 1e-13: a yardstick
    exact = _values(a, a.array[rows]) @ _values(b, b.array)
    error = result[rows].astype(np.float64) - exact
    finite = np.isfinite(error)
    note.error_squares += float(np.vdot(error[finite], error[finite]))
    note.exact_squares += float(np.vdot(exact[finite], exact[finite]))


def _values(operand: Operand, array: NDArray[Any]) -> NDArray[np.float64]:
    fmt = number_format(operand.format)
    if fmt.bits > 8:
        return array.astype(np.float64) * operand.scale
    return np.asarray(fmt.decode(np.arange(1 << fmt.bits))[array] * operand.scale)
