"""Layers that make images smaller: the largest or the mean of each window."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import replace
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, field_validator, model_validator

from accelsim.network.executor import F32, Counts, Executor, Pair
from accelsim.network.layer import Formats, Layer, Shape, ShapeError, Site, tensor, vector_layer_work
from accelsim.network.window_keys import both, checked_padding, extents_text, sides, windows_of
from accelsim.network.windows import Window
from accelsim.operations import Axis, LayerWork, VectorWork

Step = Annotated[int, Field(ge=1, le=63)]
Few = Annotated[int, Field(ge=1, le=15)]
Edge = Annotated[int, Field(ge=0, le=31)]


class Pool(Layer):
    """What both pools share: a window that slides over images (h, w, c).

    With ``ceil`` a last window may reach over the lower and right edge, as long as it starts inside the image
    or its upper or left padding.
    """

    stride: Step | tuple[Step, Step] | None = Field(
        default=None, description="step of the window: one number or [down, across]; default size"
    )
    padding: Edge | tuple[Edge, ...] = Field(
        default=0,
        description="positions at the edges, at most half the size: one number, [down, across] or "
        "[top, left, bottom, right]",
    )
    ceil: bool = Field(default=False, description="let the last window reach over the edge")

    @field_validator("padding")
    @classmethod
    def _has_sides(cls, padding: Edge | tuple[Edge, ...]) -> Edge | tuple[Edge, ...]:
        return checked_padding(padding)

    @model_validator(mode="after")
    def _padding_meets_the_image(self) -> Self:
        size = self.extent
        if size is not None and any(
            2 * max(edges) > taps for edges, taps in zip(sides(self.padding), both(size), strict=True)
        ):
            given = self.padding if isinstance(self.padding, int) else list(self.padding)
            raise ValueError(f"'padding' must be at most half of 'size' {extents_text(size)}, got {given}")
        return self

    @property
    @abstractmethod
    def extent(self) -> int | Pair | None:
        """The window's extent as it is given; None is the whole image."""

    def windows(self, site: Site) -> tuple[Window, Window]:
        """The window along both axes: (down, across), without what it reaches over the edge."""
        if self.extent is None:
            height, width, _ = site.input_shape
            return Window(height), Window(width)
        return windows_of(self.extent, self.stride or self.extent, self.padding)

    def reaching(self, site: Site) -> tuple[Window, Window]:
        """The same, with what a last window reaches over the edge counted as padding."""
        down, across = self.windows(site)
        height, width, _ = site.input_shape
        return (_reaching(down, height), _reaching(across, width)) if self.ceil else (down, across)

    def output_shape(self, site: Site) -> Shape:
        if len(site.input_shape) != 3:
            raise ShapeError(f"{self.kind} takes (height, width, channels), got {site.input_shape}")
        rows, cols = self.positions(site)
        if min(rows, cols) < 1 and self.extent is not None:
            size = extents_text(self.extent)
            raise ShapeError(f"window {size} does not fit in the input {site.input_shape}")
        return (rows, cols, site.input_shape[2])

    def positions(self, site: Site) -> Pair:
        """Output positions: (down, across)."""
        down, across = self.reaching(site)
        return down.positions(site.input_shape[0]), across.positions(site.input_shape[1])

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def padded(self, site: Site, x: F32, value: float) -> F32:
        """(n, h, w, c) with ``value`` around it."""
        edges = [(window.before, window.after) for window in self.reaching(site)]
        return np.pad(x, [(0, 0), *edges, (0, 0)], constant_values=value) if any(map(any, edges)) else x

    def cropped(self, site: Site, dx: F32) -> F32:
        """The gradient without that of the padding."""
        (top, left), (height, width, _) = (each.before for each in self.windows(site)), site.input_shape
        return dx[:, top : top + height, left : left + width]


def _reaching(window: Window, extent: int) -> Window:
    padded = extent + window.before + window.after
    over = (padded - window.taps) % window.stride
    starts_inside = padded - over + window.stride - window.taps < extent + window.before
    if over and padded >= window.taps and starts_inside:
        return replace(window, after=window.after + window.stride - over)
    return window


class MaxPool(Pool):
    """Largest value of each window of (h, w, c); padding lies below every value."""

    kind: ClassVar[str] = "max_pool"
    size: Few | tuple[Few, Few] = Field(description="extent of the window: one number or [height, width]")

    @property
    def extent(self) -> int | Pair:
        return self.size

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        x = self.padded(site, x, -np.inf)
        y, places = chip.vector.max_pool(x, *_size_and_step(self.windows(site)))
        chip.keep(site.name, "places", (places, x.shape))
        return y

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        places, shape = chip.kept(site.name, "places")
        window = _size_and_step(self.windows(site))
        return self.cropped(site, chip.vector.max_pool_backward(dy, places, shape, *window))

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        inputs, outputs = batch * site.elements, batch * math.prod(self.output_shape(site))
        window = math.prod(both(self.size))
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


class AveragePool(Pool):
    """Mean of each window of (h, w, c); without ``size`` of the whole image, then flat: (c,).

    The mean is over what lies inside the image, with ``count_padding`` over the zeros around it, too (but not
    over what ``ceil`` adds).
    """

    kind: ClassVar[str] = "average_pool"
    size: Step | tuple[Step, Step] | None = Field(
        default=None, description="extent of the window: one number or [height, width]; default the image"
    )
    count_padding: bool = Field(default=False, description="the mean is over the padding's zeros, too")

    @model_validator(mode="after")
    def _rest_needs_a_size(self) -> AveragePool:
        if self.size is None:
            given = [key for key in ("stride", "padding", "ceil", "count_padding") if getattr(self, key)]
            if given:
                raise ValueError(f"'{given[0]}' needs 'size': without it the window is the whole image")
        return self

    @property
    def extent(self) -> int | Pair | None:
        return self.size

    def output_shape(self, site: Site) -> Shape:
        rows, cols, channels = super().output_shape(site)
        return (channels,) if self.size is None else (rows, cols, channels)

    def counts(self, site: Site) -> Counts | None:
        """Over how many elements each window's mean is; None: all of them."""
        plain, reaching = self.windows(site), self.reaching(site)
        if not any(window.before or window.after for window in reaching):
            return None
        found = []
        for extent, window, wide in zip(site.input_shape, plain, reaching, strict=False):
            before, after = (window.before, window.after) if self.count_padding else (0, 0)
            positions, first = wide.positions(extent), before - window.before
            counted = Axis(before + extent + after, positions, window.taps, window.stride, first)
            found.append([counted.reached(position, 1) for position in range(positions)])
        return np.multiply.outer(*found)

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        x = self.padded(site, x, 0)
        y = chip.vector.average_pool(x, *_size_and_step(self.windows(site)), self.counts(site))
        return y.reshape(len(x), *self.output_shape(site))

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        height, width, channels = site.input_shape
        down, across = self.reaching(site)
        shape = (len(dy), height + down.before + down.after, width + across.before + across.after, channels)
        images = dy.reshape(len(dy), *self.positions(site), channels)
        window = _size_and_step(self.windows(site))
        dx = chip.vector.average_pool_backward(images, shape, *window, self.counts(site))
        return self.cropped(site, dx)

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        inputs, outputs = batch * site.elements, batch * math.prod(self.output_shape(site))
        taps = math.prod(window.taps for window in self.windows(site))
        x = tensor(site, "x", inputs, formats[site.name].storage, "stream")
        y = tensor(site, "y", outputs, formats[site.name].storage, "stream")
        forward = VectorWork("average_pool", outputs, adds=taps - 1, multiplies=1)
        backward = VectorWork("average_pool_gradient", inputs, adds=1, multiplies=1)
        return [
            vector_layer_work(self, site, "forward", [forward], [x], [y]),
            vector_layer_work(self, site, "backward", [backward], [y], [x]),
        ]


def _size_and_step(windows: tuple[Window, Window]) -> tuple[Pair, Pair]:
    down, across = windows
    return (down.taps, across.taps), (down.stride, across.stride)
