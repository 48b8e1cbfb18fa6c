"""The two products of every attention head and their four gradients, as groups of one GEMM each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

from accelsim.network import conversions
from accelsim.network.executor import F32, Array, Executor, Operand
from accelsim.network.layer import Formats, Layer, Site, tensor, vector_layer_work
from accelsim.operations import Gemm, LayerWork, Tensor, TensorFormats, VectorWork

Role = Literal["query", "key", "probabilities", "value"]
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

    def _gemm(
        self, phase: Literal["forward", "backward"], extents: tuple[int, int, int], groups: int,
        a: tuple[str, str], b: tuple[str, str], out: tuple[str, str],
    ) -> Gemm:  # fmt: skip
        """One product of every head; operands as (tensor, format)."""
        m, k, n = extents
        left, right, result = (
            tensor(self.site, name, groups * elements, fmt, "stream")
            for (name, fmt), elements in ((a, m * k), (b, k * n), (out, m * n))
        )
        return Gemm(self.site.name, phase, m, k, n, a[1], b[1], left, right, result, groups)

    def forward_gemms(self, batch: int, formats: Formats) -> tuple[Gemm, Gemm]:
        """q k^T and p v."""
        query, key, p, value = (formats[self._name(role)] for role in ROLES)
        groups, queries, keys, width = batch * self.heads, self.queries, self.keys, self.width
        return (
            self._gemm(
                "forward", (queries, width, keys), groups,
                ("query codes", query.activation), ("key codes", key.activation), ("scores", query.storage),
            ),
            self._gemm(
                "forward", (queries, keys, width), groups,
                ("p codes", p.activation), ("value codes", value.activation), ("y", p.storage),
            ),
        )  # fmt: skip

    def backward_gemms(self, batch: int, formats: Formats) -> tuple[Gemm, Gemm, Gemm, Gemm]:
        """dp = dy v^T, dv = p^T dy, dq = ds k and dk^T = q^T ds, in this order."""
        query, key, p, value = (formats[self._name(role)] for role in ROLES)
        groups, queries, keys, width = batch * self.heads, self.queries, self.keys, self.width
        return (
            self._gemm(
                "backward", (queries, width, keys), groups,
                ("dy codes (dx)", p.gradient_input), ("value codes", value.activation), ("dp", p.storage),
            ),
            self._gemm(
                "backward", (keys, queries, width), groups,
                ("p codes", p.activation), ("dy codes (dW)", p.gradient_weight), ("dvalue", p.storage),
            ),
            self._gemm(
                "backward", (queries, keys, width), groups,
                ("dscores codes (dx)", query.gradient_input), ("key codes", key.activation),
                ("dquery", query.storage),
            ),
            self._gemm(
                "backward", (width, queries, keys), groups,
                ("query codes", query.activation), ("dscores codes (dW)", query.gradient_weight),
                ("dkey", query.storage),
            ),
        )  # fmt: skip

    def forward(self, parts: list[F32], chip: Executor) -> F32:
        """Queries (n, T, C), keys and values (n, S, C) to (n, T, C)."""
        query, key, value = (
            chip.activation(f"{self.site.name}.{role}", self._split(part))
            for role, part in zip(("query", "key", "value"), parts, strict=True)
        )
        batch = len(parts[0])
        first, second = self.forward_gemms(batch, self._formats(chip))
        scores = chip.multiply(first, query, _transposed(key))
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
        dp = chip.multiply(for_p, narrow, _transposed(value))
        dp = chip.activation_backward(self._name("probabilities"), dp)
        dvalue = chip.multiply(for_value, _transposed(codes), wide)
        ds = chip.vector.attention_softmax_backward(dp, p, self.factor)
        narrow, wide = chip.gradients(self._name("query"), ds)
        dquery = chip.multiply(for_query, narrow, key)
        dkey = chip.multiply(for_key, _transposed(query), wide).transpose(0, 2, 1)
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
        reads = [
            self._stream("dp", probabilities, storage),
            tensor(self.site, "p", probabilities, storage, "saved"),
        ]
        writes: list[Tensor] = []
        for role, name in (("query", "dscores"), ("probabilities", "dy")):
            if role in coded:
                count = probabilities if role == "query" else elements["query"]
                vector += conversions.gradient_codes(count)
                reads.append(self._stream(name, count, storage))
                own = formats[self._name(role)]
                writes.append(self._stream(f"{name} codes (dx)", count, own.gradient_input))
                writes.append(self._stream(f"{name} codes (dW)", count, own.gradient_weight))
        for role, (count, own) in coded.items():
            vector += [conversions.output_scale(count), conversions.activation_clip(count)]
            reads += conversions.kept_codes(self.place(role), count, own)[1:]
        done = vector_layer_work(self.layer, self.site, "backward", vector, reads, writes)
        return replace(done, gemms=self.backward_gemms(batch, formats))

    def _stream(self, name: str, elements: int, fmt: str) -> Tensor:
        return tensor(self.site, name, elements, fmt, "stream")


def _transposed(operand: Operand) -> Operand:
    """Each matrix of a stack transposed."""
    array: Array = operand.array.transpose(0, 2, 1)
    return operand.rearranged(array)
