"""Attention (Vaswani et al., NeurIPS 2017, section 3.2): both products of each head on the array."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
from pydantic import Field

from accelsim.network.executor import F32, Executor
from accelsim.network.heads import Heads
from accelsim.network.layer import Formats, Parameter, Shape, ShapeError, Site
from accelsim.network.linear import Linear
from accelsim.network.matrix_layer import ArrayLayer, joined
from accelsim.network.reshaping import channels_of
from accelsim.operations import LayerWork, VectorWork


class Attention(ArrayLayer):
    """softmax(q k^T / sqrt(d)) v of each head: queries, keys and values side by side (T, 3C) to (T, C).

    Its operand sites are ``NAME.query`` (also the gradient of the scores), ``NAME.key``,
    ``NAME.probabilities`` (nonnegative; also the gradient of the output) and ``NAME.value``.

    ``causal`` masks the softmax and saves no products: an array takes whole rectangles, so scores that the
    mask hides are computed and probabilities of zero are multiplied. Every position counts as a key, that of
    a padding symbol, too: a network learns what its embedding means, and no sample depends on another's
    length.
    """

    kind: ClassVar[str] = "attention"
    heads: int = Field(ge=1, le=256, description="number of heads; divides the channels")
    causal: bool = Field(default=False, description="a position sees itself and those before it only")

    def output_shape(self, site: Site) -> Shape:
        channels = channels_of(self.kind, site)
        if channels % (3 * self.heads):
            raise ShapeError(
                f"attention takes queries, keys and values of {self.heads} heads, got {channels} channels, "
                f"not a multiple of {3 * self.heads}"
            )
        return (site.input_shape[0], channels // 3)

    def sites(self, site: Site) -> tuple[Site, ...]:
        return (site, *self._heads(site).sites)

    def _heads(self, site: Site) -> Heads:
        positions, channels = site.input_shape
        return Heads(self, site, self.heads, positions, positions, channels // 3, self.causal)

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return self._heads(site).forward(np.split(x, 3, axis=-1), chip)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return np.concatenate(self._heads(site).backward(dy, chip), axis=-1)

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        return self._heads(site).works(batch, formats)


class CrossAttention(ArrayLayer):
    """Attention of queries (T, C) to an encoder's output; one weight makes its keys and values.

    Operand sites are those of `Attention` and ``NAME.key_value``, where the encoder's output meets the
    weight (C of the encoder, 2C).
    """

    kind: ClassVar[str] = "cross_attention"
    heads: int = Field(ge=1, le=256, description="number of heads; divides the channels")

    def output_shape(self, site: Site) -> Shape:
        channels = channels_of(self.kind, site)
        if site.memory is None:
            raise ShapeError("cross_attention stands in the decoder of an 'encoder_decoder' only")
        if channels % self.heads:
            raise ShapeError(f"{self.heads} heads must divide the {channels} channels")
        return site.input_shape

    def sites(self, site: Site) -> tuple[Site, ...]:
        return (site, *self._heads(site).sites, self._projection(site)[1])

    def _heads(self, site: Site) -> Heads:
        assert site.memory is not None
        positions, channels = site.input_shape
        return Heads(self, site, self.heads, positions, site.memory.shape[0], channels)

    def _projection(self, site: Site) -> tuple[Linear, Site]:
        """The layer that makes keys and values, and where it stands."""
        assert site.memory is not None
        memory = site.memory
        place = Site(f"{site.name}.key_value", memory.shape, memory.nonnegative)
        return Linear(features=2 * site.input_shape[1], initial="xavier"), place

    def parameters(self, site: Site) -> dict[str, Parameter]:
        layer, place = self._projection(site)
        return {f"key_value.{name}": one for name, one in layer.parameters(place).items()}

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        layer, place = self._projection(site)
        assert site.memory is not None
        keys_and_values = layer.forward(place, chip.shared(site.memory.name), chip)
        return self._heads(site).forward([x, *np.split(keys_and_values, 2, axis=-1)], chip)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        layer, place = self._projection(site)
        assert site.memory is not None
        dx, *others = self._heads(site).backward(dy, chip)
        given = layer.backward(place, np.concatenate(others, axis=-1), chip)
        name = f"{site.memory.name} gradient"
        chip.share(name, chip.vector.add(chip.shared(name), given))
        return dx

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        layer, place = self._projection(site)
        heads, projection = self._heads(site).works(batch, formats), layer.work(place, batch, formats)
        # the gradients of all layers that listen to the encoder are added
        added = VectorWork("memory_gradient_add", batch * place.elements, adds=1)
        forward, backward = (joined(site, self.kind, pair) for pair in zip(heads, projection, strict=False))
        backward = replace(backward, vector_work=(*backward.vector_work, added))
        return [forward, backward, joined(site, self.kind, projection[2:])]
