"""The two-dimensional convolution, as GEMMs on windows of the image."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field, field_validator

from accelsim.network.executor import F32, Array, Executor, Operand
from accelsim.network.layer import Shape, ShapeError, Site, tensor
from accelsim.network.matrix_layer import MatrixLayer
from accelsim.network.window_keys import OneOrTwo, Padding, both, checked_padding, extents_text, windows_of
from accelsim.network.windows import Residue, Window, gradient_windowed, grouped, ungrouped, windowed
from accelsim.operations import Gemm, Sliding, TensorFormats


class Conv2d(MatrixLayer):
    """2-D convolution of (h, w, c) images; the weight is (taps down, across, c / groups, channels).

    A convolution along one axis is one of images (h, 1, c) with a kernel [k, 1] and padding [p, 0].

    K of the forward GEMM runs over (tap row, tap column, input channel). dL/dx of a strided
    convolution is one GEMM per class of input positions that meet the same taps, so that no
    multiply is spent on a dilation zero: but for the image's edges, where a window reaches over, its
    MACs equal those of the forward pass.
    """

    kind: ClassVar[str] = "conv2d"
    channels: int = Field(ge=1, le=65536, description="output channels")
    kernel: OneOrTwo = Field(description="extent of the kernel: one number or [height, width]")
    stride: OneOrTwo = Field(default=1, description="step of the window: one number or [down, across]")
    padding: Padding | None = Field(
        default=None,
        description="zeros at the edges: one number, [down, across] or [top, left, bottom, right]; "
        "default dilation * (kernel // 2)",
    )
    dilation: OneOrTwo = Field(default=1, description="step between taps: one number or [down, across]")
    groups: int = Field(default=1, ge=1, description="as many groups as input channels is depthwise")

    def is_depthwise(self, site: Site) -> bool:
        return self.groups > 1 and self.groups == site.input_shape[2]

    @field_validator("padding")
    @classmethod
    def _has_sides(cls, padding: Padding | None) -> Padding | None:
        return None if padding is None else checked_padding(padding)

    @property
    def windows(self) -> tuple[Window, Window]:
        """The window along both axes: (down, across)."""
        return windows_of(self.kernel, self.stride, self.padding, self.dilation)

    @property
    def taps(self) -> int:
        """Positions of an image that one output sees."""
        return math.prod(both(self.kernel))

    def output_shape(self, site: Site) -> Shape:
        if len(site.input_shape) != 3:
            raise ShapeError(f"conv2d takes (height, width, channels), got {site.input_shape}")
        height, width, channels = site.input_shape
        if channels % self.groups or self.channels % self.groups:
            raise ShapeError(
                f"groups {self.groups} must divide the {channels} input and {self.channels} output channels"
            )
        down, across = self.windows
        rows, cols = down.positions(height), across.positions(width)
        if min(rows, cols) < 1:
            kernel = extents_text(self.kernel)
            raise ShapeError(f"kernel {kernel} does not fit in the padded input {site.input_shape}")
        return (rows, cols, self.channels)

    def fan_in(self, site: Site) -> int:
        return self.taps * site.input_shape[2] // self.groups

    def weight_shape(self, site: Site) -> Shape:
        return (*both(self.kernel), site.input_shape[2] // self.groups, self.channels)

    def classes(self, site: Site) -> list[tuple[Residue, Residue]]:
        """Pairs of row and column residue classes of the input positions."""
        height, width, _ = site.input_shape
        down, across = self.windows
        return [(d, a) for d in down.residues(height) for a in across.residues(width)]

    def _sliding(self, site: Site, batch: int, along: Literal["m", "k"]) -> Sliding:
        """The input images under the kernel."""
        height, width, channels = site.input_shape
        down, across = self.windows
        return Sliding(batch, channels // self.groups, down.over(height), across.over(width), along)

    def forward_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        rows, cols, channels = self.output_shape(site)
        return Gemm(
            site.name, "forward", batch * rows * cols, self.fan_in(site), channels // self.groups,
            formats.activation, formats.weight,
            tensor(site, "input codes", batch * site.elements, formats.activation, "stream"),
            tensor(site, "weight codes", self.fan_in(site) * channels, formats.weight, "parameter"),
            tensor(site, "y", batch * rows * cols * channels, formats.storage, "stream"),
            self.groups,
            sliding=self._sliding(site, batch, "m"),
        )  # fmt: skip

    def backward_gemms(self, site: Site, batch: int, formats: TensorFormats) -> list[Gemm]:
        rows, cols, channels = self.output_shape(site)
        inputs = site.input_shape[2]
        outputs, weights_per_tap = batch * rows * cols * channels, inputs * channels // self.groups
        gemms = []
        for down, across in self.classes(site):
            positions = batch * down.inputs * across.inputs
            taps = down.taps * across.taps
            gemms.append(Gemm(
                site.name, "backward", positions, taps * channels // self.groups, inputs // self.groups,
                formats.gradient_input, formats.weight,
                tensor(site, "dy codes (dx)", outputs, formats.gradient_input, "stream"),
                tensor(site, "weight codes", taps * weights_per_tap, formats.weight, "parameter"),
                tensor(site, "dx", positions * inputs, formats.storage, "stream"),
                self.groups,
                part=f"rows {down.offset}, columns {across.offset}" if both(self.stride) != (1, 1) else "",
                sliding=Sliding(batch, channels // self.groups, down.over(rows), across.over(cols), "m"),
            ))  # fmt: skip
        return gemms

    def update_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        rows, cols, channels = self.output_shape(site)
        return Gemm(
            site.name, "update", self.fan_in(site), batch * rows * cols, channels // self.groups,
            formats.activation, formats.gradient_weight,
            tensor(site, "input codes", batch * site.elements, formats.activation, "saved"),
            tensor(site, "dy codes (dW)", batch * rows * cols * channels, formats.gradient_weight, "stream"),
            tensor(site, "dW", self.fan_in(site) * channels, formats.storage, "parameter"),
            self.groups,
            sliding=self._sliding(site, batch, "k"),
        )  # fmt: skip

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        inputs = chip.activation(site.name, x)
        weight = chip.weight(site.name, self.weight_shape(site))
        chip.keep(site.name, "inputs", inputs)
        chip.keep(site.name, "weight", weight)
        columns = windowed(inputs, *self.windows, self.groups)
        kernels = grouped(weight.array, self.groups)
        gemm = self.gemms(site, len(x), chip).forward
        y = ungrouped(chip.multiply(gemm, columns, weight.rearranged(kernels)))
        return self.add_bias(site, y.reshape(len(x), *self.output_shape(site)), chip)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        self.bias_backward(site, dy, chip)
        for_input, for_weight = chip.gradients(site.name, dy)
        self._weight_gradient(site, for_weight, chip)
        shape = (len(dy), *site.input_shape)
        if not site.needs_input_gradient:
            return np.zeros(shape, dy.dtype)
        gemms = self.gemms(site, len(dy), chip).backward
        steps = both(self.stride)
        if steps == (1, 1):  # one class, of all positions
            (gemm,), (classes,) = gemms, self.classes(site)
            product = self._input_gradient(site, gemm, classes, for_input, chip)
            return chip.activation_backward(site.name, product.reshape(shape))
        dx = np.zeros(shape, dy.dtype)
        for gemm, (down, across) in zip(gemms, self.classes(site), strict=True):
            product = self._input_gradient(site, gemm, (down, across), for_input, chip)
            positions = dx[:, down.first_input :: steps[0], across.first_input :: steps[1]]
            positions[...] = product.reshape(len(dy), down.inputs, across.inputs, -1)
        return chip.activation_backward(site.name, dx)

    def _weight_gradient(self, site: Site, dy: Operand, chip: Executor) -> None:
        inputs = chip.kept(site.name, "inputs")
        gemm = self.gemms(site, len(dy.array), chip).update
        columns = windowed(inputs, *self.windows, self.groups)
        gradient = grouped(dy.array, self.groups)
        dw = chip.multiply(gemm, columns.transposed(), dy.rearranged(gradient))
        chip.add_gradient(site.name, "weight", ungrouped(dw).reshape(self.weight_shape(site)))

    def _input_gradient(
        self, site: Site, gemm: Gemm, classes: tuple[Residue, Residue], dy: Operand, chip: Executor
    ) -> F32:
        """dL/dx at the positions of one pair of classes: (positions, channels)."""
        down, across = classes
        weight = chip.kept(site.name, "weight")
        taps = weight.array[down.offset :: down.spacing, across.offset :: across.spacing]
        columns = gradient_windowed(dy, down, across, self.groups)
        product = chip.multiply(gemm, columns, weight.rearranged(self._turned(taps)))
        return ungrouped(product)

    def _turned(self, taps: Array) -> Array:
        """(taps down, across, c / groups, channels) as what dL/dy is multiplied by, or a stack of them.

        K runs over (tap row, tap column, output channel).
        """
        down, across, inputs, channels = taps.shape
        split = taps.reshape(down, across, inputs, self.groups, channels // self.groups)
        stack = split.transpose(3, 0, 1, 4, 2).reshape(self.groups, -1, inputs)
        return stack[0] if self.groups == 1 else stack
