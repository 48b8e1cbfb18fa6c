"""The two products of every attention head and their four gradients, as groups of one GEMM each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from accelsim.network import conversions
from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Formats, Layer, Site, tensor, vector_layer_work
from accelsim.operations import Gemm, LayerWork, Residence, Tensor, TensorFormats, VectorWork

Role = Literal["query", "key", "probabilities", "value"]
GradientRole = Literal["query", "probabilities"]
ROLES: tuple[Role, ...] = ("query", "key", "probabilities", "value")


@dataclass(frozen=True)
class Heads:
    """Attention of ``queries`` positions to ``keys`` positions, ``channels`` over all heads.

    Operands are stacks (samples * heads, positions, channels of a head).
    """

    layer: Layer
    site: Site
    heads: int
    queries: int
    keys: int
    channels: int
    causal: bool = False

    @property
    def width(self) -> int:
        """Channels of a head."""
        return self.channels // self.heads

    @property
    def factor(self) -> float:
        """1 / sqrt(width), which the softmax applies."""
        return 1.0 / math.sqrt(self.width)

    @property
    def sites(self) -> tuple[Site, ...]:
        """The operand sites."""
        return tuple(self.place(role) for role in ROLES)

    def place(self, role: Role) -> Site:
        """The site of one operand."""
        return replace(self.site.part(role), nonnegative=role == "probabilities")

    def _name(self, role: Role) -> str:
        return self.place(role).name

    def _codes(self, role: Role, batch: int, formats: Formats, residence: Residence) -> Tensor:
        """One operand in its format: on its way to the array, or kept for the backward pass."""
        elements, fmt = self._elements(batch)[role], formats[self._name(role)].activation
        return tensor(self.place(role), "codes", elements, fmt, residence)

    def _gemm(
        self, phase: Literal["forward", "backward"], extents: tuple[int, int, int], batch: int,
        a: tuple[Tensor, str], b: tuple[Tensor, str], out: tuple[str, str],
    ) -> Gemm:  # fmt: skip
        """One product of every head; operands as (tensor, format), the result as (name, format)."""
        m, k, n = extents
        groups = batch * self.heads
        result = self._stream(out[0], groups * m * n, out[1])
        return Gemm(
            self.site.name, phase, m, k, n, a[1], b[1], a[0], b[0], result, groups, out[0], causal=self.causal
        )

    def forward_gemms(self, batch: int, formats: Formats) -> tuple[Gemm, Gemm]:
        """q k^T and p v."""
        query, key, p, value = (
            (self._codes(role, batch, formats, "stream"), formats[self._name(role)].activation)
            for role in ROLES
        )
        storage = formats[self._name("query")].storage
        queries, keys, width = self.queries, self.keys, self.width
        return (
            self._gemm("forward", (queries, width, keys), batch, query, key, ("scores", storage)),
            self._gemm("forward", (queries, keys, width), batch, p, value, ("y", storage)),
        )

    def backward_gemms(self, batch: int, formats: Formats) -> tuple[Gemm, Gemm, Gemm, Gemm]:
        """dp = dy v^T, dv = p^T dy, dq = ds k and dk^T = q^T ds, in this order."""
        query, key, p, value = (
            (self._codes(role, batch, formats, "saved"), formats[self._name(role)].activation)
            for role in ROLES
        )
        dy, dscores = (self._gradients(role, batch, formats) for role in ("probabilities", "query"))
        storage = formats[self._name("query")].storage
        queries, keys, width = self.queries, self.keys, self.width
        return (
            self._gemm("backward", (queries, width, keys), batch, dy[0], value, ("dp", storage)),
            self._gemm("backward", (keys, queries, width), batch, p, dy[1], ("dvalue", storage)),
            self._gemm("backward", (queries, keys, width), batch, dscores[0], key, ("dquery", storage)),
            self._gemm("backward", (width, queries, keys), batch, query, dscores[1], ("dkey", storage)),
        )

    def _scaled(self, batch: int) -> dict[GradientRole, tuple[str, int]]:
        """Name and elements of the gradient that is scaled at a site."""
        elements = self._elements(batch)
        return {"query": ("dscores", elements["probabilities"]), "probabilities": ("dy", elements["query"])}

    def _gradients(
        self, role: GradientRole, batch: int, formats: Formats
    ) -> tuple[tuple[Tensor, str], tuple[Tensor, str]]:
        """That gradient in the formats of both products that take it."""
        own, (name, elements) = formats[self._name(role)], self._scaled(batch)[role]
        kinds = (("dx", own.gradient_input), ("dW", own.gradient_weight))
        narrow, wide = (
            (tensor(self.place(role), f"{name} codes ({kind})", elements, fmt, "stream"), fmt)
            for kind, fmt in kinds
        )
        return narrow, wide

    def forward(self, parts: list[F32], chip: Executor) -> F32:
        """Queries (n, T, C), keys and values (n, S, C) to (n, T, C)."""
        query, key, value = (
            chip.activation(f"{self.site.name}.{role}", self._split(part))
            for role, part in zip(("query", "key", "value"), parts, strict=True)
        )
        batch = len(parts[0])
        first, second = self.forward_gemms(batch, self._formats(chip))
        scores = chip.multiply(first, query, key.transposed())
        p = chip.vector.attention_softmax(scores, self.factor, self.causal)
        codes = chip.activation(self._name("probabilities"), p)
        chip.keep(self.site.name, "heads", (query, key, value, codes, p))
        return self._joined(chip.multiply(second, codes, value), batch)

    def backward(self, dy: F32, chip: Executor) -> list[F32]:
        """dL/d(queries, keys, values)."""
        query, key, value, codes, p = chip.kept(self.site.name, "heads")
        batch = len(dy)
        for_p, for_value, for_query, for_key = self.backward_gemms(batch, self._formats(chip))
        narrow, wide = chip.gradients(self._name("probabilities"), self._split(dy))
        dp = chip.multiply(for_p, narrow, value.transposed())
        dp = chip.activation_backward(self._name("probabilities"), dp)
        dvalue = chip.multiply(for_value, codes.transposed(), wide)
        ds = chip.vector.attention_softmax_backward(dp, p, self.factor)
        narrow, wide = chip.gradients(self._name("query"), ds)
        dquery = chip.multiply(for_query, narrow, key)
        dkey = chip.multiply(for_key, query.transposed(), wide).transpose(0, 2, 1)
        gradients = {"query": dquery, "key": dkey, "value": dvalue}
        return [
            self._joined(chip.activation_backward(f"{self.site.name}.{role}", gradient), batch)
            for role, gradient in gradients.items()
        ]

    def _formats(self, chip: Executor) -> Formats:
        return {site.name: chip.formats(site.name) for site in self.sites}

    def _split(self, x: F32) -> F32:
        """(n, T, C) to (n * heads, T, width)."""
        n, positions, _ = x.shape
        stacked = x.reshape(n, positions, self.heads, self.width).transpose(0, 2, 1, 3)
        return stacked.reshape(n * self.heads, positions, self.width)

    def _joined(self, x: F32, batch: int) -> F32:
        """(n * heads, T, width) to (n, T, C)."""
        stacked = x.reshape(batch, self.heads, -1, self.width).transpose(0, 2, 1, 3)
        return stacked.reshape(batch, -1, self.channels)

    def _elements(self, batch: int) -> dict[Role, int]:
        return {
            "query": batch * self.queries * self.channels,
            "key": batch * self.keys * self.channels,
            "probabilities": batch * self.heads * self.queries * self.keys,
            "value": batch * self.keys * self.channels,
        }

    def works(self, batch: int, formats: Formats) -> list[LayerWork]:
        """Forward and backward work."""
        return [self._forward_work(batch, formats), self._backward_work(batch, formats)]

    def _coded(self, batch: int, formats: Formats) -> dict[Role, tuple[int, TensorFormats]]:
        """Elements and formats of each operand that becomes codes."""
        places = {role: formats[self._name(role)] for role in ROLES}
        elements = self._elements(batch)
        return {role: (elements[role], own) for role, own in places.items() if conversions.has_codes(own)}

    def _forward_work(self, batch: int, formats: Formats) -> LayerWork:
        elements, coded = self._elements(batch), self._coded(batch, formats)
        storage, probabilities = formats[self.site.name].storage, elements["probabilities"]
        vector = [conversions.activation_codes(count) for count, _ in coded.values()]
        if "query" in coded:
            vector.append(conversions.output_scale(probabilities))
        # scale and subtract, exponential, sum, divide
        vector.append(VectorWork("softmax", probabilities, adds=2, multiplies=1, compares=1, specials=2))
        if "probabilities" in coded:
            vector.append(conversions.output_scale(elements["query"]))
        reads = [
            self._stream(f"{role}", elements[role], storage) for role in coded if role != "probabilities"
        ]
        reads.append(self._stream("scores", probabilities, storage))
        writes: list[Tensor] = []
        for role in ROLES:
            writes += conversions.kept_codes(self.place(role), elements[role], formats[self._name(role)])
        if "probabilities" in coded:
            writes.append(tensor(self.site, "p", probabilities, storage, "saved"))
        done = vector_layer_work(self.layer, self.site, "forward", vector, reads, writes)
        return replace(done, gemms=self.forward_gemms(batch, formats))

    def _backward_work(self, batch: int, formats: Formats) -> LayerWork:
        elements, coded = self._elements(batch), self._coded(batch, formats)
        storage, probabilities = formats[self.site.name].storage, elements["probabilities"]
        # p * (dp - sum of p * dp) * factor
        vector = [VectorWork("softmax_gradient", probabilities, adds=2, multiplies=3)]
        kept = tensor(self.site, "p", probabilities, storage, "saved")
        if "probabilities" not in coded:
            kept = self._codes("probabilities", batch, formats, "saved")
        reads = [self._stream("dp", probabilities, storage), kept]
        writes: list[Tensor] = []
        for role, (name, count) in self._scaled(batch).items():
            if conversions.has_gradient_codes(formats[self._name(role)]):
                vector += conversions.gradient_codes(count)
                reads.append(self._stream(name, count, storage))
                writes += [one for one, _ in self._gradients(role, batch, formats)]
        if not conversions.has_gradient_codes(formats[self._name("query")]):
            writes.append(self._stream("dscores", probabilities, storage))
        for operand, (count, own) in coded.items():
            vector += [conversions.output_scale(count), conversions.activation_clip(count)]
            reads += conversions.kept_codes(self.place(operand), count, own)[1:]
        done = vector_layer_work(self.layer, self.site, "backward", vector, reads, writes)
        return replace(done, gemms=self.backward_gemms(batch, formats))

    def _stream(self, name: str, elements: int, fmt: str) -> Tensor:
        return tensor(self.site, name, elements, fmt, "stream")
