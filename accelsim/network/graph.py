"""A network: layers in sequence, with branches. It knows shapes and order, no chip."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import numpy as np

from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Layer, Shape, Site


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


@dataclass(frozen=True)
class Branched:
    """Branches of one input and the layer that closes them, whose input is what they give together."""

    branches: tuple[Sequence, ...]
    closing: Leaf

    @property
    def branch_names(self) -> tuple[str, ...]:
        """What the branches' outputs are called where the closing layer reads them."""
        return tuple(str(number) for number in range(len(self.branches)))

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's output."""
        return self.closing.output_shape

    @property
    def output_nonnegative(self) -> bool:
        """Whether the output cannot be below zero."""
        return all(branch.output_nonnegative for branch in self.branches)

    def leaves(self) -> Iterator[Leaf]:
        """All layers, in forward order, the closing one last."""
        for branch in self.branches:
            yield from branch.leaves()
        yield self.closing


class Residual(Branched):
    """body(x) + shortcut(x) (He et al., CVPR 2016); an empty shortcut is the identity."""

    branch_names = ("body", "shortcut")

    def forward(self, x: F32, chip: Executor) -> F32:
        """Output of a mini-batch."""
        body, shortcut = (branch.forward(x, chip) for branch in self.branches)
        return self.closing.forward(chip.vector.add(body, shortcut), chip)

    def backward(self, dy: F32, chip: Executor) -> F32:
        """dL/dx from dL/dy: the sum of both branches'."""
        dy = self.closing.backward(dy, chip)
        body, shortcut = (branch.backward(dy, chip) for branch in self.branches)
        return chip.vector.add(body, shortcut)


class Concat(Branched):
    """Branches of one input, their outputs side by side along the last axis (Szegedy et al., CVPR 2015).

    An empty branch is the identity, which makes a densely connected block (Huang et al., CVPR 2017).
    """

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


class Gated(Branched):
    """body(x) * gate(x), element by element; an empty body is the identity.

    A gate of shape (c,) counts for every position of the body's channels: squeeze and excitation (Hu et al.,
    CVPR 2018). One of the body's shape is a gated linear unit (Dauphin et al., ICML 2017).
    """

    branch_names = ("body", "gate")

    def forward(self, x: F32, chip: Executor) -> F32:
        """Output of a mini-batch."""
        body, gate = (branch.forward(x, chip) for branch in self.branches)
        chip.keep(self.closing.site.name, "operands", (body, gate))
        return self.closing.forward(chip.vector.multiply(body, _spread(gate, body)), chip)

    def backward(self, dy: F32, chip: Executor) -> F32:
        """dL/dx from dL/dy: the sum of both branches'."""
        dy = self.closing.backward(dy, chip)
        body, gate = chip.kept(self.closing.site.name, "operands")
        dbody = chip.vector.multiply(dy, _spread(gate, body))
        dgate = _summed(chip.vector.multiply(dy, body), gate, chip)
        into_body, into_gate = self.branches
        return chip.vector.add(into_body.backward(dbody, chip), into_gate.backward(dgate, chip))


def _spread(gate: F32, body: F32) -> F32:
    """The gate with an axis for each of the body's."""
    return gate.reshape(len(gate), *(1,) * (body.ndim - gate.ndim), *gate.shape[1:])


def _summed(dgate: F32, gate: F32, chip: Executor) -> F32:
    """The gradient of a gate from that of its every use: their sum where it counts for many positions."""
    if gate.size < dgate.size:
        columns = dgate.reshape(len(dgate), -1, 1, dgate.shape[-1])
        positions = columns.shape[1], 1
        dgate = chip.vector.average_pool(columns, positions, (1, 1), np.ones((1, 1), np.int64))
    return dgate.reshape(gate.shape)


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


Part = Leaf | Residual | Concat | Gated | EncoderDecoder
Network = Sequence
