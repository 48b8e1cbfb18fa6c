"""A network: layers in sequence, with branches. It knows shapes and order, no chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np
from pydantic import Field

from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Formats, Layer, Shape, Site, tensor, vector_layer_work
from accelsim.operations import LayerWork, VectorWork


@dataclass(frozen=True)
class Leaf:
    """One layer where it stands."""

    layer: Layer
    site: Site

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's output."""
        return self.layer.output_shape(self.site)

    @property
    def output_nonnegative(self) -> bool:
        """Whether the output cannot be below zero."""
        return self.layer.output_nonnegative(self.site)

    def leaves(self) -> Iterator[Leaf]:
        """All layers, in forward order."""
        yield self

    def forward(self, x: F32, chip: Executor) -> F32:
        """Output of a mini-batch."""
        return self.layer.forward(self.site, x, chip)

    def backward(self, dy: F32, chip: Executor) -> F32:
        """dL/dx from dL/dy."""
        return self.layer.backward(self.site, dy, chip)


@dataclass(frozen=True)
class Sequence:
    """Parts one after another."""

    parts: tuple[Part, ...]
    input_shape: Shape
    input_nonnegative: bool

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's output (of the input, if there are no parts)."""
        return self.parts[-1].output_shape if self.parts else self.input_shape

    @property
    def output_nonnegative(self) -> bool:
        """Whether the output cannot be below zero."""
        return self.parts[-1].output_nonnegative if self.parts else self.input_nonnegative

    def leaves(self) -> Iterator[Leaf]:
        """All layers, in forward order."""
        for part in self.parts:
            yield from part.leaves()

    @cached_property
    def decaying(self) -> frozenset[str]:
        """The parameters that weight decay shrinks, as ``layer.parameter``."""
        return frozenset(
            f"{leaf.site.name}.{name}"
            for leaf in self.leaves()
            for name, parameter in leaf.layer.parameters(leaf.site).items()
            if parameter.decays
        )

    def forward(self, x: F32, chip: Executor) -> F32:
        """Output of a mini-batch."""
        for part in self.parts:
            x = part.forward(x, chip)
        return x

    def backward(self, dy: F32, chip: Executor) -> F32:
        """dL/dx from dL/dy."""
        for part in reversed(self.parts):
            dy = part.backward(dy, chip)
        return dy


class Add(Layer):
    """The sum that closes a residual block; no workload names it.

    `Residual` adds the branches and hands the sum on, which is then the layer's input and output.
    """

    kind = "add"

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return x

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return dy

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements, storage = batch * site.elements, formats[site.name].storage
        moved = [tensor(site, name, elements, storage, "stream") for name in ("body", "shortcut", "sum")]
        added = (VectorWork("residual_add", elements, adds=1),)
        return [
            LayerWork(site.name, self.kind, "forward", (), added, tuple(moved[:2]), tuple(moved[2:])),
            LayerWork(site.name, self.kind, "backward", (), added, tuple(moved[:2]), tuple(moved[2:])),
        ]


@dataclass(frozen=True)
class Residual:
    """body(x) + shortcut(x) (He et al., CVPR 2016); an empty shortcut is the identity."""

    body: Sequence
    shortcut: Sequence
    closing: Leaf

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's output."""
        return self.body.output_shape

    @property
    def output_nonnegative(self) -> bool:
        """Whether the output cannot be below zero."""
        return self.body.output_nonnegative and self.shortcut.output_nonnegative

    def leaves(self) -> Iterator[Leaf]:
        """All layers, in forward order, the adding last."""
        yield from self.body.leaves()
        yield from self.shortcut.leaves()
        yield self.closing

    def forward(self, x: F32, chip: Executor) -> F32:
        """Output of a mini-batch."""
        return self.closing.forward(
            chip.vector.add(self.body.forward(x, chip), self.shortcut.forward(x, chip)), chip
        )

    def backward(self, dy: F32, chip: Executor) -> F32:
        """dL/dx from dL/dy: the sum of both branches'."""
        dy = self.closing.backward(dy, chip)
        return chip.vector.add(self.body.backward(dy, chip), self.shortcut.backward(dy, chip))


class Join(Layer):
    """The end of branches that stand side by side; no workload names it.

    `Concat` puts the branches together and hands them on, which is then the layer's input and output.
    Writing side by side costs nothing; the gradients of the branches' common input are added.
    """

    kind = "concat"
    branches: int = Field(ge=1, description="number of branches")
    inputs: int = Field(ge=1, description="elements of one sample of their common input")

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        return x

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return dy

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        if self.branches == 1:
            return []
        elements, storage = batch * self.inputs, formats[site.name].storage
        read = [tensor(site, f"dx {i + 1}", elements, storage, "stream") for i in range(self.branches)]
        added = VectorWork("branch_gradient_add", elements, adds=self.branches - 1)
        written = tensor(site, "dx", elements, storage, "stream")
        return [vector_layer_work(self, site, "backward", [added], read, [written])]


@dataclass(frozen=True)
class Concat:
    """Branches of one input, their outputs side by side along the last axis (Szegedy et al., CVPR 2015).

    An empty branch is the identity, which makes a densely connected block (Huang et al., CVPR 2017).
    """

    branches: tuple[Sequence, ...]
    closing: Leaf

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's output."""
        return self.closing.site.input_shape

    @property
    def output_nonnegative(self) -> bool:
        """Whether the output cannot be below zero."""
        return all(branch.output_nonnegative for branch in self.branches)

    def leaves(self) -> Iterator[Leaf]:
        """All layers, in forward order, the joining last."""
        for branch in self.branches:
            yield from branch.leaves()
        yield self.closing

    def forward(self, x: F32, chip: Executor) -> F32:
        """Output of a mini-batch."""
        joined = np.concatenate([branch.forward(x, chip) for branch in self.branches], axis=-1)
        return self.closing.forward(joined, chip)

    def backward(self, dy: F32, chip: Executor) -> F32:
        """dL/dx from dL/dy: the sum of all branches', the first with the second and so on."""
        dy = self.closing.backward(dy, chip)
        ends = list(accumulate(branch.output_shape[-1] for branch in self.branches))
        parts = np.split(dy, ends[:-1], axis=-1)
        pairs = zip(self.branches, parts, strict=True)
        first, *others = [branch.backward(part, chip) for branch, part in pairs]
        for other in others:
            first = chip.vector.add(first, other)
        return first


@dataclass(frozen=True)
class EncoderDecoder:
    """Two networks on one sample: the first ``source`` positions are the encoder's, the others the decoder's.

    The decoder's cross attentions listen to the encoder's output, shared under ``name``; the output is
    the decoder's (Vaswani et al., NeurIPS 2017, section 3.1).
    """

    name: str
    source: int
    encoder: Sequence
    decoder: Sequence

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's output."""
        return self.decoder.output_shape

    @property
    def output_nonnegative(self) -> bool:
        """Whether the output cannot be below zero."""
        return self.decoder.output_nonnegative

    def leaves(self) -> Iterator[Leaf]:
        """All layers, in forward order."""
        yield from self.encoder.leaves()
        yield from self.decoder.leaves()

    def forward(self, x: F32, chip: Executor) -> F32:
        """The decoder's output of a mini-batch."""
        chip.share(self.name, self.encoder.forward(x[:, : self.source], chip))
        return self.decoder.forward(x[:, self.source :], chip)

    def backward(self, dy: F32, chip: Executor) -> F32:
        """dL/dx from dL/dy; the encoder's is the sum of what the cross attentions hand back."""
        chip.share(f"{self.name} gradient", np.zeros_like(chip.shared(self.name)))
        decoder = self.decoder.backward(dy, chip)
        encoder = self.encoder.backward(chip.shared(f"{self.name} gradient"), chip)
        return np.concatenate([encoder, decoder], axis=1)


Part = Leaf | Residual | Concat | EncoderDecoder
Network = Sequence
