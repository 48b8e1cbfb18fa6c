"""Products of the last axis with a matrix: the fully connected layer and what shares its GEMMs."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

import numpy as np
from pydantic import Field

from accelsim.network.executor import F32, Array, Executor, Operand
from accelsim.network.layer import Shape, Site, tensor
from accelsim.network.matrix_layer import MatrixLayer
from accelsim.operations import Gemm, TensorFormats


class LinearBase(MatrixLayer):
    """y = x W + b along the last axis of each sample; W is (features in, features out)."""

    def output_shape(self, site: Site) -> Shape:
        return (*site.input_shape[:-1], self.weight_shape(site)[1])

    def fan_in(self, site: Site) -> int:
        return site.input_shape[-1]

    def rows(self, site: Site, batch: int) -> int:
        """Rows of the forward GEMM: the positions of all samples."""
        return batch * site.elements // site.input_shape[-1]

    @abstractmethod
    def weight(self, site: Site, chip: Executor) -> Operand:
        """W as the array takes it."""

    @abstractmethod
    def hand_over(self, site: Site, gradient: F32, chip: Executor) -> None:
        """Hand over dL/dW."""

    def forward_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        m, (k, n) = self.rows(site, batch), self.weight_shape(site)
        return Gemm(
            site.name, "forward", m, k, n, formats.activation, formats.weight,
            tensor(site, "input codes", m * k, formats.activation, "stream"),
            tensor(site, "weight codes", k * n, formats.weight, "parameter"),
            tensor(site, "y", m * n, formats.storage, "stream"),
        )  # fmt: skip

    def backward_gemms(self, site: Site, batch: int, formats: TensorFormats) -> list[Gemm]:
        m, (k, n) = self.rows(site, batch), self.weight_shape(site)
        gemm = Gemm(
            site.name, "backward", m, n, k, formats.gradient_input, formats.weight,
            tensor(site, "dy codes (dx)", m * n, formats.gradient_input, "stream"),
            tensor(site, "weight codes", k * n, formats.weight, "parameter"),
            tensor(site, "dx", m * k, formats.storage, "stream"),
        )  # fmt: skip
        return [gemm]

    def update_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        m, (k, n) = self.rows(site, batch), self.weight_shape(site)
        return Gemm(
            site.name, "update", k, m, n, formats.activation, formats.gradient_weight,
            tensor(site, "input codes", m * k, formats.activation, "saved"),
            tensor(site, "dy codes (dW)", m * n, formats.gradient_weight, "stream"),
            tensor(site, "dW", k * n, formats.storage, "parameter"),
        )  # fmt: skip

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        inputs = chip.activation(site.name, x)
        inputs = inputs.rearranged(rows_of(inputs.array))
        weight = self.weight(site, chip)
        chip.keep(site.name, "inputs", inputs)
        chip.keep(site.name, "weight", weight)
        gemm = self.gemms(site, len(x), chip).forward
        y = chip.multiply(gemm, inputs, weight).reshape(len(x), *self.output_shape(site))
        return self.add_bias(site, y, chip)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        gemms = self.gemms(site, len(dy), chip)
        self.bias_backward(site, dy, chip)
        for_input, for_weight = chip.gradients(site.name, dy)
        inputs = chip.kept(site.name, "inputs")
        transposed = inputs.rearranged(inputs.array.T)
        gradient = chip.multiply(gemms.update, transposed, for_weight.rearranged(rows_of(for_weight.array)))
        self.hand_over(site, gradient, chip)
        if not site.needs_input_gradient:
            return np.zeros((len(dy), *site.input_shape), np.float32)
        weight = chip.kept(site.name, "weight")
        (gemm,) = gemms.backward
        operand = for_input.rearranged(rows_of(for_input.array))
        dx = chip.multiply(gemm, operand, weight.rearranged(weight.array.T))
        return chip.activation_backward(site.name, dx.reshape(len(dy), *site.input_shape))


class Linear(LinearBase):
    """The fully connected layer: a weight of its own at every position."""

    kind: ClassVar[str] = "linear"
    features: int = Field(ge=1, le=2**20, description="output features")

    def weight_shape(self, site: Site) -> Shape:
        return (site.input_shape[-1], self.features)

    def weight(self, site: Site, chip: Executor) -> Operand:
        return chip.weight(site.name, self.weight_shape(site))

    def hand_over(self, site: Site, gradient: F32, chip: Executor) -> None:
        chip.add_gradient(site.name, "weight", gradient)


def rows_of(array: Array) -> Array:
    """All leading axes together."""
    return array.reshape(-1, array.shape[-1])
