"""Layers that make images smaller: the largest or the mean of each window."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from pydantic import Field, model_validator

from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Formats, Layer, Shape, ShapeError, Site, tensor, vector_layer_work
from accelsim.network.windows import output_extent
from accelsim.operations import LayerWork, VectorWork


class MaxPool(Layer):
    """Largest value of each window of (h, w, c).

    Padding lies below every value. With ``ceil`` a last window may reach over the lower and right edge,
    as long as it starts inside the image or its upper or left padding.
    """

    kind: ClassVar[str] = "max_pool"
    size: int = Field(ge=1, le=15, description="height and width of the window")
    stride: int | None = Field(default=None, ge=1, le=63, description="step of the window; default size")
    padding: int = Field(default=0, ge=0, le=7, description="positions at each edge; at most half the size")
    ceil: bool = Field(default=False, description="let the last window reach over the edge")

    @model_validator(mode="after")
    def _padding_meets_the_image(self) -> MaxPool:
        if 2 * self.padding > self.size:
            raise ValueError(f"'padding' must be at most half of 'size' {self.size}, got {self.padding}")
        return self

    @property
    def step(self) -> int:
        """Step of the window."""
        return self.size if self.stride is None else self.stride

    def output_shape(self, site: Site) -> Shape:
        _check_image(self.kind, site)
        height, width, channels = site.input_shape
        extents = [self._padded(extent) for extent in (height, width)]
        rows, cols = (output_extent(extent, self.size, self.step, 0) for extent in extents)
        if min(rows, cols) < 1:
            raise ShapeError(f"window {self.size} does not fit in the input {site.input_shape}")
        return (rows, cols, channels)

    def _padded(self, extent: int) -> int:
        """The extent with padding, and with what a last window reaches over the edge."""
        padded = extent + 2 * self.padding
        over = (padded - self.size) % self.step
        starts_inside = padded - over + self.step - self.size < extent + self.padding
        if self.ceil and over and padded >= self.size and starts_inside:
            return padded + self.step - over
        return padded

    def _edges(self, site: Site) -> list[tuple[int, int]]:
        """Positions before and after each axis of (n, h, w, c)."""
        added = [self._padded(extent) - extent - self.padding for extent in site.input_shape[:2]]
        return [(0, 0), (self.padding, added[0]), (self.padding, added[1]), (0, 0)]

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        edges = self._edges(site)
        if any(map(any, edges)):
            x = np.pad(x, edges, constant_values=-np.inf)
        y, places = chip.vector.max_pool(x, self.size, self.step)
        chip.keep(site.name, "places", (places, x.shape))
        return y

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        places, shape = chip.kept(site.name, "places")
        dx = chip.vector.max_pool_backward(dy, places, shape, self.size, self.step)
        height, width, _ = site.input_shape
        return dx[:, self.padding : self.padding + height, self.padding : self.padding + width]

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        inputs, outputs = batch * site.elements, batch * math.prod(self.output_shape(site))
        window = self.size * self.size
        # which element of its window was the largest
        places = tensor(site, "places", outputs, "uint4" if window <= 16 else "uint8", "saved")
        forward = VectorWork("max_pool", outputs, compares=window - 1)
        backward = VectorWork("max_pool_gradient", inputs, adds=1, compares=1)
        x = tensor(site, "x", inputs, formats[site.name].storage, "stream")
        y = tensor(site, "y", outputs, formats[site.name].storage, "stream")
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
        _check_image(self.kind, site)
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

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        inputs, outputs = batch * site.elements, batch * math.prod(self.output_shape(site))
        size, _ = self._window(site)
        x = tensor(site, "x", inputs, formats[site.name].storage, "stream")
        y = tensor(site, "y", outputs, formats[site.name].storage, "stream")
        forward = VectorWork("average_pool", outputs, adds=size[0] * size[1] - 1, multiplies=1)
        backward = VectorWork("average_pool_gradient", inputs, adds=1, multiplies=1)
        return [
            vector_layer_work(self, site, "forward", [forward], [x], [y]),
            vector_layer_work(self, site, "backward", [backward], [y], [x]),
        ]


def _check_image(kind: str, site: Site) -> None:
    if len(site.input_shape) != 3:
        raise ShapeError(f"{kind} takes (height, width, channels), got {site.input_shape}")


def _pooled_shape(kind: str, site: Site, size: tuple[int, int], stride: int) -> Shape:
    _check_image(kind, site)
    height, width, channels = site.input_shape
    rows, cols = output_extent(height, size[0], stride, 0), output_extent(width, size[1], stride, 0)
    if min(rows, cols) < 1:
        raise ShapeError(f"window {size[0]} does not fit in the input {site.input_shape}")
    return (rows, cols, channels)
