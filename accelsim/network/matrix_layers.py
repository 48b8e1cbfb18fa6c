"""Layers that run on the MAC array: three GEMMs each (forward, dL/dx, dL/dW), and their vector work."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from accelsim.network.executor import F32, Array, Executor, Operand
from accelsim.network.layer import Layer, Parameter, Shape, ShapeError, Site, mask_tensor, tensor
from accelsim.network.windows import Residue, gradient_columns, im2col, output_extent, residues
from accelsim.operations import Gemm, LayerWork, Phase, Tensor, TensorFormats, VectorWork


class MatrixLayer(Layer):
    """What linear layers and convolutions share: a weight, a clipped input, quantised gradients."""

    has_gemm: ClassVar[bool] = True

    bias: bool = Field(default=False, description="add a trained bias")
    precision: Literal["recipe", "high", "low"] = Field(
        default="recipe",
        description="'high': the recipe's high-precision formats; 'low': its low ones even in a first "
        "or last layer; 'recipe': as the recipe says",
    )

    def is_depthwise(self, site: Site) -> bool:
        """Whether there are groups and every output channel sees one input channel only."""
        return False

    def fan_in(self, site: Site) -> int:
        """Products per output element."""
        raise NotImplementedError(self.kind)

    def weight_shape(self, site: Site) -> Shape:
        """Shape of the weight; output channels last."""
        raise NotImplementedError(self.kind)

    def parameters(self, site: Site) -> dict[str, Parameter]:
        shape = self.weight_shape(site)
        found = {"weight": Parameter(shape, "kaiming", self.fan_in(site), decays=True)}
        if self.bias:
            found["bias"] = Parameter((shape[-1],), "zeros")
        return found

    def forward_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        """input x weight."""
        raise NotImplementedError(self.kind)

    def backward_gemms(self, site: Site, batch: int, formats: TensorFormats) -> list[Gemm]:
        """dL/dy x weight transposed; one GEMM per class of input positions."""
        raise NotImplementedError(self.kind)

    def update_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        """input transposed x dL/dy."""
        raise NotImplementedError(self.kind)

    def work(self, site: Site, batch: int, formats: TensorFormats) -> list[LayerWork]:
        inputs = batch * site.elements
        outputs = batch * math.prod(self.output_shape(site))
        low = formats.activation != formats.storage
        works = [self._forward_work(site, batch, formats, inputs, outputs, low)]
        conversion = self._gradient_work(outputs) if low else []
        dy = [tensor(site, "dy", outputs, formats.storage, "stream")] if low else []
        codes = self._gradient_codes(site, formats, outputs) if low else []
        if site.needs_input_gradient:
            works.append(self._backward_work(site, batch, formats, inputs, low, (conversion, dy, codes)))
            conversion, dy, codes = [], [], []
        update = LayerWork(
            site.name, self.kind, "update", (self.update_gemm(site, batch, formats),),
            (*conversion, *self._update_vector_work(site, formats, outputs, low)),
            tuple(dy), tuple(codes),
        )  # fmt: skip
        return [*works, update]

    def _forward_work(
        self, site: Site, batch: int, formats: TensorFormats, inputs: int, outputs: int, low: bool
    ) -> LayerWork:
        saved = tensor(site, "input codes", inputs, formats.activation, "saved")
        vector = [VectorWork("bias", outputs, adds=1)] if self.bias else []
        reads: tuple[Tensor, ...] = ()
        writes: tuple[Tensor, ...] = (saved,)
        if low:
            # clamp at both ends, scale, convert
            vector.append(VectorWork("activation_codes", inputs, multiplies=1, compares=3))
            vector.append(VectorWork("output_scale", outputs, multiplies=1))
            reads = (tensor(site, "input", inputs, formats.storage, "stream"),)
            writes = (saved, mask_tensor(site, inputs))
        gemm = self.forward_gemm(site, batch, formats)
        return LayerWork(site.name, self.kind, "forward", (gemm,), tuple(vector), reads, writes)

    def _gradient_work(self, outputs: int) -> list[VectorWork]:
        # scale; maximum for the scale; two conversions of a multiply by 1.6, an exponent and a clamp
        return [
            VectorWork("gradient_scale", outputs, multiplies=1, compares=1),
            VectorWork("gradient_codes", outputs, multiplies=2, compares=4),
        ]

    def _gradient_codes(self, site: Site, formats: TensorFormats, outputs: int) -> list[Tensor]:
        names = {"dy codes (dW)": formats.gradient_weight}
        if site.needs_input_gradient:
            names["dy codes (dx)"] = formats.gradient_input
        return [tensor(site, name, outputs, fmt, "stream") for name, fmt in names.items()]

    def _backward_work(
        self, site: Site, batch: int, formats: TensorFormats, inputs: int, low: bool,
        gradient: tuple[list[VectorWork], list[Tensor], list[Tensor]],
    ) -> LayerWork:  # fmt: skip
        conversion, dy, codes = gradient
        vector, reads = list(conversion), list(dy)
        if low:
            vector.append(VectorWork("output_scale", inputs, multiplies=1))
            vector.append(VectorWork("activation_clip", inputs, adds=1, compares=1))
            reads.append(mask_tensor(site, inputs))
        gemms = tuple(self.backward_gemms(site, batch, formats))
        return LayerWork(site.name, self.kind, "backward", gemms, tuple(vector), tuple(reads), tuple(codes))

    def _update_vector_work(
        self, site: Site, formats: TensorFormats, outputs: int, low: bool
    ) -> list[VectorWork]:
        weights = math.prod(self.weight_shape(site))
        found = [VectorWork("bias_gradient", outputs, adds=1)] if self.bias else []
        if low:
            found.append(VectorWork("output_scale", weights, multiplies=1))
            # |w| and w*w summed, then scale, clamp, convert
            found.append(VectorWork("weight_codes", weights, adds=2, multiplies=2, compares=4))
        elif formats.master != formats.weight:
            found.append(VectorWork("weight_cast", weights, compares=1))
        return found

    def add_bias(self, site: Site, y: F32, chip: Executor) -> F32:
        """y plus the bias, where there is one."""
        return chip.vector.add_bias(y, chip.parameter(site.name, "bias")) if self.bias else y

    def bias_backward(self, site: Site, dy: F32, chip: Executor) -> None:
        """Hand over dL/dbias, where there is a bias."""
        if self.bias:
            chip.add_gradient(site.name, "bias", chip.vector.column_sums(dy))


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

    def _gemm(
        self, site: Site, phase: Phase, mkn: tuple[int, int, int], *operands: Tensor, **fmt: str
    ) -> Gemm:
        a, b, out = operands
        return Gemm(site.name, phase, *mkn, fmt["a"], fmt["b"], a, b, out)

    def forward_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        k, n = self.weight_shape(site)
        return self._gemm(
            site, "forward", (batch, k, n),
            tensor(site, "input codes", batch * k, formats.activation, "stream"),
            tensor(site, "weight codes", k * n, formats.weight, "parameter"),
            tensor(site, "y", batch * n, formats.storage, "stream"),
            a=formats.activation, b=formats.weight,
        )  # fmt: skip

    def backward_gemms(self, site: Site, batch: int, formats: TensorFormats) -> list[Gemm]:
        k, n = self.weight_shape(site)
        gemm = self._gemm(
            site, "backward", (batch, n, k),
            tensor(site, "dy codes (dx)", batch * n, formats.gradient_input, "stream"),
            tensor(site, "weight codes", k * n, formats.weight, "parameter"),
            tensor(site, "dx", batch * k, formats.storage, "stream"),
            a=formats.gradient_input, b=formats.weight,
        )  # fmt: skip
        return [gemm]

    def update_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        k, n = self.weight_shape(site)
        return self._gemm(
            site, "update", (k, batch, n),
            tensor(site, "input codes", batch * k, formats.activation, "saved"),
            tensor(site, "dy codes (dW)", batch * n, formats.gradient_weight, "stream"),
            tensor(site, "dW", k * n, formats.storage, "parameter"),
            a=formats.activation, b=formats.gradient_weight,
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


class Conv2d(MatrixLayer):
    """2-D convolution of (h, w, c) images; the weight is (kernel, kernel, c / groups, channels).

    K of the forward GEMM runs over (tap row, tap column, input channel). dL/dx of a strided
    convolution is one GEMM per class of input positions that meet the same taps, so that no
    multiply is spent on a dilation zero: but for the image's edges, where a window reaches over, its
    MACs equal those of the forward pass.
    """

    kind: ClassVar[str] = "conv2d"
    channels: int = Field(ge=1, le=65536, description="output channels")
    kernel: int = Field(ge=1, le=63, description="height and width of the kernel")
    stride: int = Field(default=1, ge=1, le=63, description="step of the window")
    padding: int | None = Field(
        default=None, ge=0, le=63, description="zeros at each edge; default kernel // 2"
    )
    groups: int = Field(
        default=1, ge=1, description="as many groups as input channels is depthwise"
    )

    def is_depthwise(self, site: Site) -> bool:
        return self.groups > 1 and self.groups == site.input_shape[2]

    @property
    def edge(self) -> int:
        """Zeros at each edge."""
        return self.kernel // 2 if self.padding is None else self.padding

    def output_shape(self, site: Site) -> Shape:
        if len(site.input_shape) != 3:
            raise ShapeError(f"conv2d takes (height, width, channels), got {site.input_shape}")
        height, width, channels = site.input_shape
        if channels % self.groups or self.channels % self.groups:
            raise ShapeError(
                f"groups {self.groups} must divide the {channels} input and {self.channels} output channels"
            )
        rows = output_extent(height, self.kernel, self.stride, self.edge)
        cols = output_extent(width, self.kernel, self.stride, self.edge)
        if min(rows, cols) < 1:
            raise ShapeError(f"kernel {self.kernel} does not fit in the padded input {site.input_shape}")
        return (rows, cols, self.channels)

    def fan_in(self, site: Site) -> int:
        return self.kernel * self.kernel * site.input_shape[2] // self.groups

    def weight_shape(self, site: Site) -> Shape:
        return (self.kernel, self.kernel, site.input_shape[2] // self.groups, self.channels)

    def classes(self, site: Site) -> list[tuple[Residue, Residue]]:
        """Pairs of row and column residue classes of the input positions."""
        height, width, _ = site.input_shape
        down = residues(height, self.kernel, self.stride, self.edge)
        across = residues(width, self.kernel, self.stride, self.edge)
        return [(d, a) for d in down for a in across]

    def forward_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        rows, cols, channels = self.output_shape(site)
        return Gemm(
            site.name, "forward", batch * rows * cols, self.fan_in(site), channels // self.groups,
            formats.activation, formats.weight,
            tensor(site, "input codes", batch * site.elements, formats.activation, "stream"),
            tensor(site, "weight codes", self.fan_in(site) * channels, formats.weight, "parameter"),
            tensor(site, "y", batch * rows * cols * channels, formats.storage, "stream"),
            self.groups,
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
        )  # fmt: skip

    def _group(self, array: Array, group: int) -> Array:
        """The channels (last axis) of one group."""
        width = array.shape[-1] // self.groups
        return array[..., group * width : (group + 1) * width]

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        inputs = chip.activation(site.name, x)
        weight = chip.weight(site.name, self.weight_shape(site))
        chip.keep(site.name, "inputs", inputs)
        chip.keep(site.name, "weight", weight)
        gemm = self.forward_gemm(site, len(x), chip.formats(site.name))
        parts = []
        for group in range(self.groups):
            columns = im2col(self._group(inputs.array, group), self.kernel, self.stride, self.edge)
            kernel = self._group(weight.array, group).reshape(gemm.k, gemm.n)
            parts.append(chip.multiply(gemm, inputs.rearranged(columns), weight.rearranged(kernel)))
        y = _joined(parts).reshape(len(x), *self.output_shape(site))
        return self.add_bias(site, y, chip)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        self.bias_backward(site, dy, chip)
        for_input, for_weight = chip.gradients(site.name, dy)
        self._weight_gradient(site, for_weight, chip)
        dx = np.zeros((len(dy), *site.input_shape), np.float32)
        if not site.needs_input_gradient:
            return dx
        gemms = self.backward_gemms(site, len(dy), chip.formats(site.name))
        for gemm, (down, across) in zip(gemms, self.classes(site), strict=True):
            self._input_gradient(site, gemm, (down, across), for_input, dx, chip)
        return chip.activation_backward(site.name, dx)

    def _weight_gradient(self, site: Site, dy: Operand, chip: Executor) -> None:
        inputs = chip.kept(site.name, "inputs")
        gemm = self.update_gemm(site, len(dy.array), chip.formats(site.name))
        parts = []
        for group in range(self.groups):
            columns = im2col(self._group(inputs.array, group), self.kernel, self.stride, self.edge)
            gradient = self._group(dy.array, group).reshape(gemm.k, gemm.n)
            parts.append(chip.multiply(gemm, inputs.rearranged(columns.T), dy.rearranged(gradient)))
        chip.add_gradient(site.name, "weight", _joined(parts).reshape(self.weight_shape(site)))

    def _input_gradient(
        self, site: Site, gemm: Gemm, classes: tuple[Residue, Residue], dy: Operand, dx: F32, chip: Executor
    ) -> None:
        down, across = classes
        weight = chip.kept(site.name, "weight")
        taps = weight.array[down.offset :: self.stride, across.offset :: self.stride]
        parts = []
        for group in range(self.groups):
            columns = gradient_columns(self._group(dy.array, group), down, across)
            kernel = np.swapaxes(self._group(taps, group), 2, 3).reshape(gemm.k, gemm.n)
            parts.append(chip.multiply(gemm, dy.rearranged(columns), weight.rearranged(kernel)))
        shape = (len(dx), down.inputs, across.inputs, dx.shape[3])
        dx[:, down.first_input :: self.stride, across.first_input :: self.stride] = _joined(parts).reshape(
            shape
        )


def _joined(parts: list[F32]) -> F32:
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=-1)
