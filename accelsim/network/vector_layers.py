"""Layers that run on the vector unit: normalisation, activation, pooling, reshaping."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field, model_validator

from accelsim.network.executor import F32, Executor
from accelsim.network.layer import (
    Layer,
    Parameter,
    Shape,
    ShapeError,
    Site,
    mask_tensor,
    tensor,
    vector_layer_work,
)
from accelsim.network.windows import output_extent
from accelsim.operations import LayerWork, TensorFormats, VectorWork


class BatchNorm(Layer):
    """Batch normalisation over all positions of a channel (Ioffe and Szegedy, ICML 2015).

    The backward pass normalises the kept input again instead of keeping both.
    """

    kind: ClassVar[str] = "batch_norm"
    epsilon: float = Field(default=1e-5, gt=0, description="added to the variance")
    momentum: float = Field(default=0.1, gt=0, le=1, description="weight of a batch in running statistics")

    def parameters(self, site: Site) -> dict[str, Parameter]:
        shape = (site.input_shape[-1],)
        return {
            "gamma": Parameter(shape, "ones"),
            "beta": Parameter(shape, "zeros"),
            "running_mean": Parameter(shape, "zeros", trained=False),
            "running_variance": Parameter(shape, "ones", trained=False),
        }

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        gamma, beta = chip.parameter(site.name, "gamma"), chip.parameter(site.name, "beta")
        if not chip.training:
            inverse = chip.vector.inverse_deviation(
                chip.parameter(site.name, "running_variance"), self.epsilon
            )
            mean = chip.parameter(site.name, "running_mean")
            return chip.vector.batch_norm_fixed(x, gamma, beta, mean, inverse)
        y, mean, variance, inverse = chip.vector.batch_norm(x, gamma, beta, self.epsilon)
        for name, value in (("running_mean", mean), ("running_variance", variance)):
            old = chip.parameter(site.name, name)
            chip.set_statistic(site.name, name, chip.vector.moving_average(old, value, self.momentum))
        chip.keep(site.name, "normalised", (x, mean, inverse))
        return y

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        x, mean, inverse = chip.kept(site.name, "normalised")
        gamma = chip.parameter(site.name, "gamma")
        dx, dgamma, dbeta = chip.vector.batch_norm_backward(dy, x, gamma, mean, inverse)
        chip.add_gradient(site.name, "gamma", dgamma)
        chip.add_gradient(site.name, "beta", dbeta)
        return dx

    def work(self, site: Site, batch: int, formats: TensorFormats) -> list[LayerWork]:
        elements, channels = batch * site.elements, site.input_shape[-1]

        def moved(name: str, residence: Literal["stream", "saved"]):  # type: ignore[no-untyped-def]
            return tensor(site, name, elements, formats.storage, residence)

        # sum; deviation, square, sum - then normalise: (x - mean) * factor + beta
        forward = [
            VectorWork("batch_norm_statistics", elements, adds=3, multiplies=1),
            VectorWork("batch_norm_apply", elements, adds=2, multiplies=1),
            VectorWork("batch_norm_channels", channels, adds=4, multiplies=6, specials=2),
        ]
        # normalise again; sums of dy and dy*xhat - then dy - mean(dy) - xhat*mean(dy*xhat), scaled
        backward = [
            VectorWork("batch_norm_gradient_sums", elements, adds=3, multiplies=2),
            VectorWork("batch_norm_gradient", elements, adds=3, multiplies=3),
        ]
        return [
            vector_layer_work(
                self, site, "forward", forward,
                [moved("x", "stream")], [moved("y", "stream"), moved("x kept", "saved")],
            ),
            vector_layer_work(
                self, site, "backward", backward,
                [moved("dy", "stream"), moved("x kept", "saved")], [moved("dx", "stream")],
            ),
        ]  # fmt: skip


class Relu(Layer):
    """max(x, 0), applied while the tensor passes through the vector unit; one bit an element is kept."""

    kind: ClassVar[str] = "relu"

    def output_nonnegative(self, site: Site) -> bool:
        return True

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        y = chip.vector.relu(x)
        if chip.training:
            chip.keep(site.name, "mask", y > 0)
        return y

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return chip.vector.masked(dy, chip.kept(site.name, "mask"))

    def work(self, site: Site, batch: int, formats: TensorFormats) -> list[LayerWork]:
        elements = batch * site.elements
        mask = mask_tensor(site, elements)
        work = [VectorWork("relu", elements, compares=1)]
        return [
            vector_layer_work(self, site, "forward", work, writes=[mask]),
            vector_layer_work(self, site, "backward", work, reads=[mask]),
        ]


class MaxPool(Layer):
    """Largest value of each window of (h, w, c); no padding."""

    kind: ClassVar[str] = "max_pool"
    size: int = Field(ge=1, le=15, description="height and width of the window")
    stride: int | None = Field(default=None, ge=1, le=63, description="step of the window; default size")

    @property
    def step(self) -> int:
        """Step of the window."""
        return self.size if self.stride is None else self.stride

    def output_shape(self, site: Site) -> Shape:
        return _pooled_shape(self.kind, site, (self.size, self.size), self.step)

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        y, places = chip.vector.max_pool(x, self.size, self.step)
        chip.keep(site.name, "places", (places, x.shape))
        return y

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        places, shape = chip.kept(site.name, "places")
        return chip.vector.max_pool_backward(dy, places, shape, self.size, self.step)

    def work(self, site: Site, batch: int, formats: TensorFormats) -> list[LayerWork]:
        inputs, outputs = batch * site.elements, batch * math.prod(self.output_shape(site))
        window = self.size * self.size
        # which element of its window was the largest
        places = tensor(site, "places", outputs, "uint4" if window <= 16 else "uint8", "saved")
        forward = VectorWork("max_pool", outputs, compares=window - 1)
        backward = VectorWork("max_pool_gradient", inputs, adds=1, compares=1)
        x = tensor(site, "x", inputs, formats.storage, "stream")
        y = tensor(site, "y", outputs, formats.storage, "stream")
        return [
            vector_layer_work(self, site, "forward", [forward], [x], [y, places]),
            vector_layer_work(self, site, "backward", [backward], [y, places], [x]),
        ]


class AveragePool(Layer):
    """Mean of each window of (h, w, c); without ``size`` of the whole image, then flat: (c,)."""

    kind: ClassVar[str] = "average_pool"
    size: int | None = Field(
        default=None, ge=1, le=63, description="height and width; default the whole image"
    )
    stride: int | None = Field(default=None, ge=1, le=63, description="step of the window; default size")

    @model_validator(mode="after")
    def _stride_has_a_size(self) -> AveragePool:
        if self.size is None and self.stride is not None:
            raise ValueError("'stride' needs 'size': without it the window is the whole image")
        return self

    def _window(self, site: Site) -> tuple[tuple[int, int], int]:
        if self.size is None:
            return (site.input_shape[0], site.input_shape[1]), 1
        return (self.size, self.size), self.stride or self.size

    def output_shape(self, site: Site) -> Shape:
        if len(site.input_shape) != 3:
            raise ShapeError(f"{self.kind} takes (height, width, channels), got {site.input_shape}")
        if self.size is None:
            return (site.input_shape[2],)
        return _pooled_shape(self.kind, site, *self._window(site))

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        y = chip.vector.average_pool(x, *self._window(site))
        return y.reshape(len(x), *self.output_shape(site))

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        size, stride = self._window(site)
        height, width, channels = site.input_shape
        rows, cols = output_extent(height, size[0], stride, 0), output_extent(width, size[1], stride, 0)
        images = dy.reshape(len(dy), rows, cols, channels)
        return chip.vector.average_pool_backward(images, (len(dy), height, width, channels), size, stride)

    def work(self, site: Site, batch: int, formats: TensorFormats) -> list[LayerWork]:
        inputs, outputs = batch * site.elements, batch * math.prod(self.output_shape(site))
        size, _ = self._window(site)
        x = tensor(site, "x", inputs, formats.storage, "stream")
        y = tensor(site, "y", outputs, formats.storage, "stream")
        forward = VectorWork("average_pool", outputs, adds=size[0] * size[1] - 1, multiplies=1)
        backward = VectorWork("average_pool_gradient", inputs, adds=1, multiplies=1)
        return [
            vector_layer_work(self, site, "forward", [forward], [x], [y]),
            vector_layer_work(self, site, "backward", [backward], [y], [x]),
        ]


def _pooled_shape(kind: str, site: Site, size: tuple[int, int], stride: int) -> Shape:
    if len(site.input_shape) != 3:
        raise ShapeError(f"{kind} takes (height, width, channels), got {site.input_shape}")
    height, width, channels = site.input_shape
    rows, cols = output_extent(height, size[0], stride, 0), output_extent(width, size[1], stride, 0)
    if min(rows, cols) < 1:
        raise ShapeError(f"window {size[0]} does not fit in the input {site.input_shape}")
    return (rows, cols, channels)


class Flatten(Layer):
    """(h, w, c) as (h * w * c,); costs nothing."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, site: Site) -> Shape:
        return (site.elements,)

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return x.reshape(len(x), -1)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return dy.reshape(len(dy), *site.input_shape)

    def work(self, site: Site, batch: int, formats: TensorFormats) -> list[LayerWork]:
        return []
