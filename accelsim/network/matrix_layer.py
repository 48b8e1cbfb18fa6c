"""Layers that run on the MAC array: three GEMMs each (forward, dL/dx, dL/dW), and their vector work."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar, Literal

from pydantic import Field

from accelsim.network.conversions import (
    activation_clip,
    activation_codes,
    gradient_codes,
    has_codes,
    has_gradient_codes,
    output_scale,
    weight_work,
)
from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Formats, Layer, Parameter, Shape, Site, mask_tensor, tensor
from accelsim.operations import Gemm, LayerWork, Tensor, TensorFormats, VectorWork


class ArrayLayer(Layer):
    """What all layers with GEMMs on the MAC array share."""

    has_gemm: ClassVar[bool] = True

    precision: Literal["recipe", "high", "low"] = Field(
        default="recipe",
        description="'high': the recipe's high-precision formats; 'low': its low ones even in a first "
        "or last layer; 'recipe': as the recipe says",
    )

    def is_depthwise(self, site: Site) -> bool:
        """Whether there are groups and every output channel sees one input channel only."""
        return False


@dataclass(frozen=True)
class StepGemms:
    """The GEMMs of one layer in one training step."""

    forward: Gemm
    backward: tuple[Gemm, ...]
    update: Gemm


_MOST_KEPT = 4096
_kept: dict[tuple[int, int, int, TensorFormats], tuple[MatrixLayer, Site, StepGemms]] = {}


def step_gemms(layer: MatrixLayer, site: Site, batch: int, formats: TensorFormats) -> StepGemms:
    """The GEMMs of a layer, made once: every step asks for the same.

    They are found by what the layer and its site are, not by what they say: comparing all of that takes
    longer than a small product. Both are kept with them, so that nothing else can come to be in their place.
    """
    key = id(layer), id(site), batch, formats
    if key not in _kept:
        if len(_kept) >= _MOST_KEPT:
            _kept.clear()
        _kept[key] = layer, site, _step_gemms(layer, site, batch, formats)
    return _kept[key][2]


def _step_gemms(layer: MatrixLayer, site: Site, batch: int, formats: TensorFormats) -> StepGemms:
    backward = layer.backward_gemms(site, batch, formats) if site.needs_input_gradient else ()
    return StepGemms(
        layer.forward_gemm(site, batch, formats), tuple(backward), layer.update_gemm(site, batch, formats)
    )


class MatrixLayer(ArrayLayer):
    """What linear layers and convolutions share: a weight, a clipped input, quantised gradients."""

    bias: bool = Field(default=False, description="add a trained bias")
    initial: Literal["kaiming", "xavier", "normal"] = Field(
        default="kaiming", description="how the weight is drawn"
    )

    @abstractmethod
    def fan_in(self, site: Site) -> int:
        """Products per output element."""

    @abstractmethod
    def weight_shape(self, site: Site) -> Shape:
        """Shape of the weight; output channels last."""

    def parameters(self, site: Site) -> dict[str, Parameter]:
        shape = self.weight_shape(site)
        fan_out = math.prod(shape[:-2]) * shape[-1]
        weight = Parameter(
            shape, self.initial, self.fan_in(site), fan_out=fan_out, decays=True, operand_of=site.name
        )
        found = {"weight": weight}
        if self.bias:
            found["bias"] = Parameter((shape[-1],), "zeros")
        return found

    def gemms(self, site: Site, batch: int, chip: Executor) -> StepGemms:
        """Its GEMMs of a mini-batch on ``chip``."""
        return step_gemms(self, site, batch, chip.formats(site.name))

    @abstractmethod
    def forward_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        """input x weight."""

    @abstractmethod
    def backward_gemms(self, site: Site, batch: int, formats: TensorFormats) -> list[Gemm]:
        """dL/dy x weight transposed; one GEMM per class of input positions."""

    @abstractmethod
    def update_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        """input transposed x dL/dy."""

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        return self._work(site, batch, formats[site.name])

    def _work(self, site: Site, batch: int, formats: TensorFormats) -> list[LayerWork]:
        inputs = batch * site.elements
        outputs = batch * math.prod(self.output_shape(site))
        low = has_codes(formats)
        works = [self._forward_work(site, batch, formats, inputs, outputs, low)]
        narrowed = has_gradient_codes(formats)
        conversion = gradient_codes(outputs) if narrowed else []
        dy = [tensor(site, "dy", outputs, formats.storage, "stream")] if narrowed else []
        codes = self._gradient_codes(site, formats, outputs) if narrowed else []
        if site.needs_input_gradient:
            works.append(self._backward_work(site, batch, formats, inputs, low, (conversion, dy, codes)))
            conversion, dy, codes = [], [], []
        update = LayerWork(
            site.name, self.kind, "update", (self.update_gemm(site, batch, formats),),
            (*conversion, *self._update_vector_work(site, formats, outputs)),
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
            vector += [activation_codes(inputs), output_scale(outputs)]
            reads = (tensor(site, "input", inputs, formats.storage, "stream"),)
            writes = (saved, mask_tensor(site, inputs))
        gemm = self.forward_gemm(site, batch, formats)
        return LayerWork(site.name, self.kind, "forward", (gemm,), tuple(vector), reads, writes)

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
            vector += [output_scale(inputs), activation_clip(inputs)]
            reads.append(mask_tensor(site, inputs))
        gemms = tuple(self.backward_gemms(site, batch, formats))
        return LayerWork(site.name, self.kind, "backward", gemms, tuple(vector), tuple(reads), tuple(codes))

    def _update_vector_work(self, site: Site, formats: TensorFormats, outputs: int) -> list[VectorWork]:
        weights = math.prod(self.weight_shape(site))
        found = [VectorWork("bias_gradient", outputs, adds=1)] if self.bias else []
        return [*found, *weight_work(weights, formats)]

    def add_bias(self, site: Site, y: F32, chip: Executor) -> F32:
        """y plus the bias, where there is one."""
        return chip.vector.add_bias(y, chip.parameter(site.name, "bias")) if self.bias else y

    def bias_backward(self, site: Site, dy: F32, chip: Executor) -> None:
        """Hand over dL/dbias, where there is a bias."""
        if self.bias:
            chip.add_gradient(site.name, "bias", chip.vector.column_sums(dy))


def joined(site: Site, kind: str, works: Iterable[LayerWork]) -> LayerWork:
    """Works of parts of one layer in one phase, as the layer's."""
    parts = list(works)
    return LayerWork(
        site.name, kind, parts[0].phase,
        tuple(gemm for work in parts for gemm in work.gemms),
        tuple(each for work in parts for each in work.vector_work),
        tuple(one for work in parts for one in work.reads),
        tuple(one for work in parts for one in work.writes),
    )  # fmt: skip
