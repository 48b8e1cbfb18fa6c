"""Token ids to vectors, positions added to them, and the same table on the way back to logits."""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from accelsim.network.executor import F32, Executor, Operand
from accelsim.network.layer import (
    Formats,
    Layer,
    Parameter,
    Shape,
    ShapeError,
    Site,
    tensor,
    vector_layer_work,
)
from accelsim.network.linear import LinearBase
from accelsim.network.reshaping import channels_of
from accelsim.network.waves import sinusoids
from accelsim.operations import LayerWork, Tensor, TensorFormats, VectorWork

_SMALL_IDS = 2**16


class TableLookup(Layer):
    """Row ``id`` of a trained table for each token id: (T,) to (T, C). Ids enter as whole numbers."""

    kind: ClassVar[str] = "embedding"

    @abstractmethod
    def table(self, site: Site) -> tuple[int, int]:
        """Tokens and features of the table. Raises `ShapeError` if there is none."""

    @abstractmethod
    def owner(self, site: Site) -> str:
        """Name of the embedding whose parameter the table is."""

    def output_shape(self, site: Site) -> Shape:
        if len(site.input_shape) != 1:
            raise ShapeError(f"embedding takes (positions,) of token ids, got {site.input_shape}")
        return (site.input_shape[0], self.table(site)[1])

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        chip.keep(site.name, "tokens", x)
        return chip.vector.table_rows(chip.parameter(self.owner(site), "weight"), x)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        ids = chip.kept(site.name, "tokens")
        gradient = chip.vector.table_gradient(dy, ids, self.table(site)[0])
        chip.add_gradient(self.owner(site), "weight", gradient)
        return np.zeros_like(ids)

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        own, (tokens, features) = formats[site.name], self.table(site)
        positions = batch * site.elements
        elements, bits = positions * features, 16 if tokens <= _SMALL_IDS else 32
        ids = Tensor(f"{site.name}.tokens", positions, bits, "stream")
        kept = Tensor(f"{site.name}.tokens kept", positions, bits, "saved")
        rows = tensor(site, "rows", elements, own.master, "parameter")
        y = tensor(site, "y", elements, own.storage, "stream")
        dy = tensor(site, "dy", elements, own.storage, "stream")
        # a row of the table is converted to the storage format; its gradient is read, added to, written
        forward = VectorWork("embedding", elements, compares=1)
        backward = VectorWork("embedding_gradient", elements, adds=1)
        return [
            vector_layer_work(self, site, "forward", [forward], [ids, rows], [y, kept]),
            vector_layer_work(self, site, "backward", [backward], [dy, kept, rows], [rows]),
        ]


class Embedding(TableLookup):
    """A lookup in a table of its own."""

    tokens: int = Field(ge=1, le=2**20, description="number of different tokens")
    features: int = Field(ge=1, le=65536, description="length of a token's vector")
    deviation: float = Field(default=0.02, gt=0, le=10, description="standard deviation of the first table")

    def table(self, site: Site) -> tuple[int, int]:
        return self.tokens, self.features

    def owner(self, site: Site) -> str:
        return site.name

    def parameters(self, site: Site) -> dict[str, Parameter]:
        return {"weight": Parameter((self.tokens, self.features), "normal", deviation=self.deviation)}


class SharedEmbedding(TableLookup):
    """A lookup in the table of an embedding before it (Press and Wolf, EACL 2017); gradients add up."""

    of: str = Field(description="name of the embedding layer before it")

    def table(self, site: Site) -> tuple[int, int]:
        if site.table is None:
            raise ShapeError(f"there is no embedding named '{self.of}' before it")
        return site.table

    def owner(self, site: Site) -> str:
        return self.of


class Positions(Layer):
    """Adds a vector for each position to (T, C).

    ``sinusoidal``: sines in the even channels and cosines in the odd ones, of wavelengths from 2 pi to
    20000 pi (Vaswani et al., NeurIPS 2017, section 3.5). ``learned``: a trained table.
    """

    kind: ClassVar[str] = "positions"
    form: Literal["learned", "sinusoidal"] = Field(alias="kind", description="trained or fixed")

    def output_shape(self, site: Site) -> Shape:
        channels_of(self.kind, site)
        return site.input_shape

    def parameters(self, site: Site) -> dict[str, Parameter]:
        return {"weight": Parameter(site.input_shape, "normal")} if self.form == "learned" else {}

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        if self.form == "learned":
            table = chip.parameter(site.name, "weight")
        else:
            table = sinusoids(*site.input_shape)
        flat = chip.vector.add_bias(x.reshape(len(x), -1), table.reshape(-1))
        return flat.reshape(x.shape)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        if self.form == "learned":
            sums = chip.vector.column_sums(dy.reshape(len(dy), -1))
            chip.add_gradient(site.name, "weight", sums.reshape(site.input_shape))
        return dy

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements, own = batch * site.elements, formats[site.name]
        table = tensor(site, "table", site.elements, own.master, "parameter")
        x, y = (tensor(site, name, elements, own.storage, "stream") for name in ("x", "y"))
        added = VectorWork("positions", elements, adds=1)
        works = [vector_layer_work(self, site, "forward", [added], [x, table], [y])]
        if self.form == "learned":
            dy = tensor(site, "dy", elements, own.storage, "stream")
            sums = VectorWork("positions_gradient", elements, adds=1)
            works.append(vector_layer_work(self, site, "backward", [sums], [dy]))
        return works


class ClassToken(Layer):
    """A trained vector before the first position: (T, C) as (T + 1, C) (Dosovitskiy et al., ICLR 2021)."""

    kind: ClassVar[str] = "class_token"

    def output_shape(self, site: Site) -> Shape:
        channels = channels_of(self.kind, site)
        return (site.input_shape[0] + 1, channels)

    def parameters(self, site: Site) -> dict[str, Parameter]:
        return {"weight": Parameter((site.input_shape[1],), "normal")}

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        before = np.zeros((len(x), 1, site.input_shape[1]), x.dtype)
        token = chip.vector.add_bias(before, chip.parameter(site.name, "weight"))
        return np.concatenate([token, x], axis=1)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        chip.add_gradient(site.name, "weight", chip.vector.column_sums(dy[:, 0]))
        return dy[:, 1:]

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements, own = batch * site.input_shape[1], formats[site.name]
        token = tensor(site, "token", site.input_shape[1], own.master, "parameter")
        y, dy = (tensor(site, name, elements, own.storage, "stream") for name in ("y", "dy"))
        sums = VectorWork("class_token_gradient", elements, adds=1)
        return [
            vector_layer_work(self, site, "forward", [], [token], [y]),
            vector_layer_work(self, site, "backward", [sums], [dy]),
        ]


class Unembedding(LinearBase):
    """y = x E^T with the table E of an embedding (Press and Wolf, EACL 2017); its gradient adds to E's."""

    kind: ClassVar[str] = "unembedding"
    of: str = Field(description="name of the embedding layer before it")

    def weight_shape(self, site: Site) -> Shape:
        owner = site.table
        if owner is None:
            raise ShapeError(f"there is no embedding named '{self.of}' before it")
        tokens, features = owner
        if site.input_shape[-1] != features:
            given = f"{features} features, got {site.input_shape}"
            raise ShapeError(f"the vectors of embedding '{self.of}' have {given}")
        return (features, tokens)

    def parameters(self, site: Site) -> dict[str, Parameter]:
        found = super().parameters(site)
        del found["weight"]
        return found

    def weight(self, site: Site, chip: Executor) -> Operand:
        features, tokens = self.weight_shape(site)
        table = chip.weight(site.name, (tokens, features), "weight", self.of)
        return table.rearranged(table.array.T)

    def hand_over(self, site: Site, gradient: F32, chip: Executor) -> None:
        chip.add_gradient(self.of, "weight", np.ascontiguousarray(gradient.T))

    def _update_vector_work(self, site: Site, formats: TensorFormats, outputs: int) -> list[VectorWork]:
        found = super()._update_vector_work(site, formats, outputs)
        # the sum of this gradient and the embedding's
        return [*found, VectorWork("tied_gradient_add", math.prod(self.weight_shape(site)), adds=1)]
