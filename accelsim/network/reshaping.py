"""Layers that pick, average or rearrange positions."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

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


class TakeLast(Layer):
    """The last position of a sequence: (T, C) as (C,); costs nothing."""

    kind: ClassVar[str] = "take_last"

    def output_shape(self, site: Site) -> Shape:
        return (channels_of(self.kind, site),)

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return x[:, -1]

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        dx = np.zeros((len(dy), *site.input_shape), dy.dtype)
        dx[:, -1] = dy
        return dx

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        return []


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
