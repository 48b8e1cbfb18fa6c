"""The seam of a list of layers that says nothing about how its layers are connected."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import numpy as np
from pydantic import Field

from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Layer, Shape, Site
from accelsim.operations import LayerWork

Extent = Annotated[int, Field(ge=1, le=2**24)]


class Refit(Layer):
    """A tensor of another shape from the same values, cut off at the end or repeated from the start.

    Topology and problem files list layers without the padding, pooling and branches between them, so the
    output of one row need not be the input of the next. Costs nothing.
    """

    kind: ClassVar[str] = "refit"
    shape: tuple[Extent, ...] = Field(min_length=1, max_length=3, description="shape of one sample's output")

    def output_shape(self, site: Site) -> Shape:
        return self.shape

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        places = np.arange(math.prod(self.shape)) % site.elements
        return x.reshape(len(x), -1)[:, places].reshape(len(x), *self.shape)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        elements, given = site.elements, math.prod(self.shape)
        dx = np.zeros((len(dy), elements), np.float32)
        flat = dy.reshape(len(dy), given)
        for start in range(0, given, elements):  # one repetition after the other, first to last
            part = flat[:, start : start + elements]
            dx[:, : part.shape[1]] += part
        return dx.reshape(len(dy), *site.input_shape)

    def work(self, site: Site, batch: int, formats: object) -> list[LayerWork]:
        return []
