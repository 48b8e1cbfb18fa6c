"""Layers that close branches; no workload names them, `accelsim.network.graph` puts them there."""

from __future__ import annotations

from pydantic import Field

from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Formats, Layer, Site, tensor, vector_layer_work
from accelsim.operations import LayerWork, VectorWork


class Closing(Layer):
    """What closes branches: the block puts them together and hands that on, the layer's input and output."""

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return x

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return dy


class Add(Closing):
    """The sum that closes a residual block."""

    kind = "add"

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements, storage = batch * site.elements, formats[site.name].storage
        moved = [tensor(site, name, elements, storage, "stream") for name in ("body", "shortcut", "sum")]
        added = (VectorWork("residual_add", elements, adds=1),)
        return [
            LayerWork(site.name, self.kind, "forward", (), added, tuple(moved[:2]), tuple(moved[2:])),
            LayerWork(site.name, self.kind, "backward", (), added, tuple(moved[:2]), tuple(moved[2:])),
        ]


class Join(Closing):
    """The end of branches that stand side by side.

    Writing side by side costs nothing; the gradients of the branches' common input are added.
    """

    kind = "concat"
    branches: int = Field(ge=1, description="number of branches")
    inputs: int = Field(ge=1, description="elements of one sample of their common input")

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        if self.branches == 1:
            return []
        elements, storage = batch * self.inputs, formats[site.name].storage
        read = [tensor(site, f"dx {i + 1}", elements, storage, "stream") for i in range(self.branches)]
        added = VectorWork("branch_gradient_add", elements, adds=self.branches - 1)
        written = tensor(site, "dx", elements, storage, "stream")
        return [vector_layer_work(self, site, "backward", [added], read, [written])]


class Product(Closing):
    """The product that closes a gated block.

    Both operands are kept; the gradients of the branches' common input are added.
    """

    kind = "gated"
    gate: int = Field(ge=1, description="elements of one sample of the gate")
    inputs: int = Field(ge=1, description="elements of one sample of the branches' common input")

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements, gate, inputs = batch * site.elements, batch * self.gate, batch * self.inputs
        storage = formats[site.name].storage
        y, dy = (tensor(site, name, elements, storage, "stream") for name in ("y", "dy"))
        operands = [("body", elements), ("gate", gate)]
        read = [tensor(site, name, count, storage, "stream") for name, count in operands]
        kept = [tensor(site, f"{name} kept", count, storage, "saved") for name, count in operands]
        given = [tensor(site, f"d{name}", count, storage, "stream") for name, count in operands]
        spread = 1 if gate < elements else 0  # one gate for many positions: its gradient is their sum
        back = [
            VectorWork("gate_gradient", elements, adds=spread, multiplies=2),
            VectorWork("branch_gradient_add", inputs, adds=1),
        ]
        forward = [VectorWork("gate", elements, multiplies=1)]
        return [
            vector_layer_work(self, site, "forward", forward, read, [y, *kept]),
            vector_layer_work(self, site, "backward", back, [dy, *kept], given),
        ]
