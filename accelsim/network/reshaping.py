"""Layers that pick, average or rearrange positions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from pydantic import Field

from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Formats, Layer, Shape, ShapeError, Site, tensor, vector_layer_work
from accelsim.operations import LayerWork, VectorWork


class Flatten(Layer):
    """All axes of a sample as one: (h, w, c) as (h * w * c,), (T, C) as (T * C,); costs nothing."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, site: Site) -> Shape:
        return (site.elements,)

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return x.reshape(len(x), -1)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return dy.reshape(len(dy), *site.input_shape)

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        return []


class AsSequence(Flatten):
    """(h, w, c) as a sequence of h positions of w * c channels; costs nothing."""

    kind: ClassVar[str] = "as_sequence"

    def output_shape(self, site: Site) -> Shape:
        if len(site.input_shape) != 3:
            raise ShapeError(f"as_sequence takes (height, width, channels), got {site.input_shape}")
        height, width, channels = site.input_shape
        return (height, width * channels)

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return x.reshape(len(x), *self.output_shape(site))


class AsPositions(Flatten):
    """(h, w, c) as a sequence of h * w positions of c channels; costs nothing."""

    kind: ClassVar[str] = "as_positions"

    def output_shape(self, site: Site) -> Shape:
        if len(site.input_shape) != 3:
            raise ShapeError(f"as_positions takes (height, width, channels), got {site.input_shape}")
        height, width, channels = site.input_shape
        return (height * width, channels)

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return x.reshape(len(x), *self.output_shape(site))


class AsImage(Flatten):
    """A sequence (T, C) as an image (T, 1, C), for convolutions along one axis; costs nothing."""

    kind: ClassVar[str] = "as_image"

    def output_shape(self, site: Site) -> Shape:
        return (site.input_shape[0], 1, channels_of(self.kind, site))

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return x.reshape(len(x), *self.output_shape(site))


class TakeChannels(Layer):
    """Channels ``first`` .. ``first + count - 1`` of (..., c); costs nothing."""

    kind: ClassVar[str] = "take_channels"
    first: int = Field(default=0, ge=0, description="the first channel, from 0")
    count: int = Field(ge=1, description="number of channels")

    def output_shape(self, site: Site) -> Shape:
        end, channels = self.first + self.count, site.input_shape[-1]
        if end > channels:
            raise ShapeError(f"channels {self.first} to {end - 1} of {channels} are not there")
        return (*site.input_shape[:-1], self.count)

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return np.ascontiguousarray(x[..., self.first : self.first + self.count])

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        dx = np.zeros((len(dy), *site.input_shape), dy.dtype)
        dx[..., self.first : self.first + self.count] = dy
        return dx

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        return []


class ShuffleChannels(Layer):
    """The first channels of all groups, then their second ones, and so on (Zhang et al., CVPR 2018).

    Costs nothing: a result is written in that order.
    """

    kind: ClassVar[str] = "shuffle_channels"
    groups: int = Field(ge=1, description="groups that the channels come from; divides them")

    def output_shape(self, site: Site) -> Shape:
        if site.input_shape[-1] % self.groups:
            raise ShapeError(f"groups {self.groups} must divide the {site.input_shape[-1]} channels")
        return site.input_shape

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return _turned(x, self.groups)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return _turned(dy, site.input_shape[-1] // self.groups)

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        return []


def _turned(x: F32, groups: int) -> F32:
    """Channels (groups, each) as (each, groups)."""
    split = x.reshape(*x.shape[:-1], groups, -1)
    return np.ascontiguousarray(split.swapaxes(-1, -2)).reshape(x.shape)


class TakeFirst(Layer):
    """The first position of a sequence: (T, C) as (C,); costs nothing."""

    kind: ClassVar[str] = "take_first"
    position: ClassVar[int] = 0

    def output_shape(self, site: Site) -> Shape:
        return (channels_of(self.kind, site),)

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return x[:, self.position]

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        dx = np.zeros((len(dy), *site.input_shape), dy.dtype)
        dx[:, self.position] = dy
        return dx

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        return []


class TakeLast(TakeFirst):
    """The last position of a sequence: (T, C) as (C,); costs nothing."""

    kind: ClassVar[str] = "take_last"
    position: ClassVar[int] = -1


class MeanPositions(Layer):
    """Mean over the positions of a sequence: (T, C) as (C,), added from the first position to the last."""

    kind: ClassVar[str] = "mean_positions"

    def output_shape(self, site: Site) -> Shape:
        return (channels_of(self.kind, site),)

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        positions, channels = site.input_shape
        columns = x.reshape(len(x), positions, 1, channels)
        return chip.vector.average_pool(columns, (positions, 1), (1, 1)).reshape(len(x), channels)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        positions, channels = site.input_shape
        columns = dy.reshape(len(dy), 1, 1, channels)
        shape = (len(dy), positions, 1, channels)
        dx = chip.vector.average_pool_backward(columns, shape, (positions, 1), (1, 1))
        return dx.reshape(len(dy), positions, channels)

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        storage = formats[site.name].storage
        inputs, outputs = batch * site.elements, batch * site.input_shape[-1]
        x = tensor(site, "x", inputs, storage, "stream")
        y = tensor(site, "y", outputs, storage, "stream")
        forward = VectorWork("mean_positions", outputs, adds=site.input_shape[0] - 1, multiplies=1)
        backward = VectorWork("mean_positions_gradient", inputs, multiplies=1)
        return [
            vector_layer_work(self, site, "forward", [forward], [x], [y]),
            vector_layer_work(self, site, "backward", [backward], [y], [x]),
        ]


def channels_of(kind: str, site: Site) -> int:
    """Channels of a sequence (positions, channels). Raises `ShapeError` for any other shape."""
    if len(site.input_shape) != 2:
        raise ShapeError(f"{kind} takes (positions, channels), got {site.input_shape}")
    return site.input_shape[1]
