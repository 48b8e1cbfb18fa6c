"""The fully connected layer."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Shape, ShapeError, Site, tensor
from accelsim.network.matrix_layer import MatrixLayer
from accelsim.operations import Gemm, TensorFormats


class Linear(MatrixLayer):
    """y = x W + b on the features of each sample; W is (features in, features out)."""

    kind: ClassVar[str] = "linear"
    features: int = Field(ge=1, le=2**20, description="output features")

    def output_shape(self, site: Site) -> Shape:
        if len(site.input_shape) != 1:
            raise ShapeError(f"linear takes (features,), got {site.input_shape}; put 'flatten' before it")
        return (self.features,)

    def fan_in(self, site: Site) -> int:
        return site.input_shape[0]

    def weight_shape(self, site: Site) -> Shape:
        return (site.input_shape[0], self.features)

    def forward_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        k, n = self.weight_shape(site)
        return Gemm(
            site.name, "forward", batch, k, n, formats.activation, formats.weight,
            tensor(site, "input codes", batch * k, formats.activation, "stream"),
            tensor(site, "weight codes", k * n, formats.weight, "parameter"),
            tensor(site, "y", batch * n, formats.storage, "stream"),
        )  # fmt: skip

    def backward_gemms(self, site: Site, batch: int, formats: TensorFormats) -> list[Gemm]:
        k, n = self.weight_shape(site)
        gemm = Gemm(
            site.name, "backward", batch, n, k, formats.gradient_input, formats.weight,
            tensor(site, "dy codes (dx)", batch * n, formats.gradient_input, "stream"),
            tensor(site, "weight codes", k * n, formats.weight, "parameter"),
            tensor(site, "dx", batch * k, formats.storage, "stream"),
        )  # fmt: skip
        return [gemm]

    def update_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        k, n = self.weight_shape(site)
        return Gemm(
            site.name, "update", k, batch, n, formats.activation, formats.gradient_weight,
            tensor(site, "input codes", batch * k, formats.activation, "saved"),
            tensor(site, "dy codes (dW)", batch * n, formats.gradient_weight, "stream"),
            tensor(site, "dW", k * n, formats.storage, "parameter"),
        )  # fmt: skip

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        inputs = chip.activation(site.name, x)
        weight = chip.weight(site.name, self.weight_shape(site))
        chip.keep(site.name, "inputs", inputs)
        chip.keep(site.name, "weight", weight)
        gemm = self.forward_gemm(site, len(x), chip.formats(site.name))
        return self.add_bias(site, chip.multiply(gemm, inputs, weight), chip)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        formats = chip.formats(site.name)
        self.bias_backward(site, dy, chip)
        for_input, for_weight = chip.gradients(site.name, dy)
        inputs = chip.kept(site.name, "inputs")
        update = self.update_gemm(site, len(dy), formats)
        gradient = chip.multiply(update, inputs.rearranged(inputs.array.T), for_weight)
        chip.add_gradient(site.name, "weight", gradient)
        if not site.needs_input_gradient:
            return np.zeros((len(dy), *site.input_shape), np.float32)
        weight = chip.kept(site.name, "weight")
        (gemm,) = self.backward_gemms(site, len(dy), formats)
        dx = chip.multiply(gemm, for_input, weight.rearranged(weight.array.T))
        return chip.activation_backward(site.name, dx)
