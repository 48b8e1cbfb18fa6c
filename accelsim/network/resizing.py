"""Images made larger or smaller by looking up or blending their neighbours."""

from __future__ import annotations

import math
from typing import ClassVar, Literal

from pydantic import Field

from accelsim.network.executor import F32, Blend, Executor
from accelsim.network.layer import Formats, Layer, Shape, ShapeError, Site, tensor, vector_layer_work
from accelsim.operations import LayerWork, VectorWork


class Resize(Layer):
    """(h, w, c) as (height, width, c), or the one pixel (c,); pixels are squares whose centres are compared.

    ``bilinear`` blends the two nearest rows, then the two nearest columns; ``nearest`` takes the pixel in
    which the output's upper left corner lies.
    """

    kind: ClassVar[str] = "resize"
    height: int = Field(ge=1, le=16384, description="rows of the output")
    width: int = Field(ge=1, le=16384, description="columns of the output")
    method: Literal["nearest", "bilinear"] = Field(default="bilinear", description="how pixels are made")

    def output_shape(self, site: Site) -> Shape:
        if len(site.input_shape) not in (1, 3):
            raise ShapeError(f"resize takes (height, width, channels), got {site.input_shape}")
        return (self.height, self.width, site.input_shape[-1])

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def _blends(self, site: Site) -> tuple[Blend, Blend]:
        height, width, _ = _image(site)
        down, across = ((height, self.height), (width, self.width))
        return blend(*down, self.method == "nearest"), blend(*across, self.method == "nearest")

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return chip.vector.resample(x.reshape(len(x), *_image(site)), *self._blends(site))

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        dx = chip.vector.resample_backward(dy, (len(dy), *_image(site)), *self._blends(site))
        return dx.reshape(len(dy), *site.input_shape)

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        storage, (_, width, channels) = formats[site.name].storage, _image(site)
        inputs, outputs = batch * site.elements, batch * math.prod(self.output_shape(site))
        rows = batch * self.height * width * channels  # blended rows, before the columns
        x = tensor(site, "x", inputs, storage, "stream")
        y = tensor(site, "y", outputs, storage, "stream")
        blends = (rows, outputs) if self.method == "bilinear" else ()
        forward = [VectorWork("resize", elements, adds=1, multiplies=2) for elements in blends]
        backward = [VectorWork("resize_gradient", elements, adds=2, multiplies=2) for elements in blends]
        if not blends:
            backward = [VectorWork("resize_gradient", outputs, adds=1)]
        return [
            vector_layer_work(self, site, "forward", forward, [x], [y]),
            vector_layer_work(self, site, "backward", backward, [y], [x]),
        ]


def _image(site: Site) -> tuple[int, int, int]:
    height, width, channels = (1, 1, *site.input_shape)[-3:]
    return height, width, channels


def blend(extent: int, wanted: int, nearest: bool) -> Blend:
    """Which pixels of ``extent`` make each of ``wanted``, and how much of the second."""
    if nearest:
        first = tuple(output * extent // wanted for output in range(wanted))
        return Blend(first, first, (0.0,) * wanted)
    places = [max((2 * output + 1) * extent / (2 * wanted) - 0.5, 0.0) for output in range(wanted)]
    first = tuple(int(place) for place in places)
    second = tuple(min(one + 1, extent - 1) for one in first)
    return Blend(first, second, tuple(place - one for place, one in zip(places, first, strict=True)))
