"""The same training step in float32, on no chip: what a chip's step is measured against."""

from __future__ import annotations

from collections import defaultdict

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.network import Operand
from accelsim.operations import Gemm, TensorFormats
from accelsim.run.chip_executor import ChipExecutor

F32 = NDArray[np.float32]

_SINGLE = TensorFormats("fp32", "fp32", "fp32", "fp32", "fp32", "fp32")

Trace = dict[str, list[F32]]
"""The tensors a site was given, in order."""


class FloatExecutor(ChipExecutor):
    """`network.Executor` that rounds nothing below float32; it reads a training state and changes none of it.

    Parameters, dropout masks and samples are those of the chip's step, so what differs is arithmetic alone.
    Products are numpy's float32 products: a yardstick, no number of a chip. ``inputs`` and ``gradients_seen``
    hold what every site was given.
    """

    vector: ChipVectorUnit

    def begin(self, *, training: bool, place: int = 0) -> None:
        """Start a step: nothing kept, nothing seen."""
        super().begin(training=training, place=place)
        self.vector = ChipVectorUnit("fp32")
        self.inputs: Trace = defaultdict(list)
        self.gradients_seen: Trace = defaultdict(list)

    def formats(self, layer: str) -> TensorFormats:
        """Single precision everywhere."""
        return _SINGLE

    def set_statistic(self, layer: str, name: str, value: F32) -> None:
        """Running statistics are the chip's."""

    def weight(
        self, layer: str, shape: tuple[int, ...], parameter: str = "weight", owner: str | None = None
    ) -> Operand:
        """The master parameter."""
        return Operand(self.parameter(owner or layer, parameter).reshape(shape), "fp32")

    def activation(self, layer: str, x: F32, *, remember: bool = True) -> Operand:
        """The input as it is."""
        if remember:
            self.inputs[layer].append(x)
        return Operand(x, "fp32")

    def activation_backward(self, layer: str, dx: F32) -> F32:
        """The gradient as it is."""
        return dx

    def gradients(self, layer: str, dy: F32) -> tuple[Operand, Operand]:
        """The gradient as it is."""
        self.gradients_seen[layer].append(dy)
        operand = Operand(dy, "fp32")
        return operand, operand

    def multiply(self, gemm: Gemm, a: Operand, b: Operand) -> F32:
        """The product in float32, or a stack of them."""
        return np.asarray(a.array @ b.array, np.float32)
