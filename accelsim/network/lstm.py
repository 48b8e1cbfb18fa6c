"""Long short-term memory (Hochreiter and Schmidhuber, 1997; with forget gates, Gers et al., 2000)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import Field

from accelsim.network import conversions
from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Formats, Parameter, Shape, Site, tensor, vector_layer_work
from accelsim.network.linear import Linear
from accelsim.network.matrix_layer import ArrayLayer, joined
from accelsim.network.reshaping import channels_of
from accelsim.operations import PHASES, Gemm, LayerWork, Phase, Residence, TensorFormats, VectorWork


@dataclass(frozen=True)
class _Step:
    """What the backward pass needs of one step: directions first, (d, n, ...)."""

    gates: F32
    before: F32
    cell: F32


class Lstm(ArrayLayer):
    """(T, C) to (T, H), or (T, 2H) where a second one reads from the last position to the first.

    i, f, o = sigmoid, g = tanh of x W + h R + b; c' = f c + i g; h' = o tanh(c'). The columns of W, R and b
    are ordered (direction, gate, feature), the gates i, f, g, o. ``NAME.input`` is the site of x and W, one
    GEMM for all positions; ``NAME.state`` that of h and R, one GEMM a step, after another. The bias of
    the forget gate starts at one (Jozefowicz et al., ICML 2015).
    """

    kind: ClassVar[str] = "lstm"
    features: int = Field(ge=1, le=65536, description="length of the state of one direction")
    bidirectional: bool = Field(default=False, description="a second one reads backwards")

    @property
    def directions(self) -> int:
        """One, or two."""
        return 2 if self.bidirectional else 1

    def output_shape(self, site: Site) -> Shape:
        channels_of(self.kind, site)
        return (site.input_shape[0], self.directions * self.features)

    def sites(self, site: Site) -> tuple[Site, ...]:
        return (site, self._input(site), self._state(site))

    def _input(self, site: Site) -> Site:
        return replace(site, name=f"{site.name}.input")

    def _state(self, site: Site) -> Site:
        return replace(site.part("state"), input_shape=(site.input_shape[0], self.features))

    @property
    def _linear(self) -> Linear:
        """The product of the inputs with W."""
        return Linear(features=4 * self.directions * self.features)

    def parameters(self, site: Site) -> dict[str, Parameter]:
        place, state, h = self._input(site), self._state(site), self.features
        weights = self._linear.parameters(place)["weight"]
        recurrent = Parameter(
            (self.directions, h, 4 * h), "xavier", h, fan_out=h, decays=True, operand_of=state.name
        )
        return {
            "input.weight": replace(weights, initial="xavier", fan_out=h),
            "state.weight": recurrent,
            "bias": Parameter((self.directions, 4, h), "forget_ones"),
        }

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        batch, positions, h = len(x), site.input_shape[0], self.features
        flat = self._linear.forward(self._input(site), x, chip)
        inputs = flat.reshape(batch, positions, self.directions, 4 * h)
        state = self._state(site)
        weight = chip.weight(state.name, (self.directions, h, 4 * h))
        bias = chip.parameter(site.name, "bias").reshape(self.directions, 4 * h)
        hidden = cell = np.zeros((self.directions, batch, h), x.dtype)
        y = np.zeros((batch, positions, self.directions, h), x.dtype)
        history, steps = np.zeros_like(y), []
        first, later = self._gemms(site, "forward", batch, chip.formats(state.name))
        for step in range(positions):
            self._put(history, step, hidden)
            gemm = later if step else first
            product = chip.multiply(gemm, chip.activation(state.name, hidden), weight)
            before = cell
            gates, cell, hidden = chip.vector.lstm_cell(self._at(inputs, step), product, bias, before)
            self._put(y, step, hidden)
            steps.append(_Step(gates, before, cell))
        if chip.training:
            chip.keep(site.name, "steps", steps)
            chip.keep(site.name, "weight", weight)
            chip.keep(
                site.name, "history", chip.activation(state.name, _by_direction(history), remember=False)
            )
        return y.reshape(batch, positions, -1)

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        batch, positions, h = len(dy), site.input_shape[0], self.features
        state = self._state(site)
        steps: list[_Step] = chip.kept(site.name, "steps")
        weight = chip.kept(site.name, "weight").transposed()
        handed = dy.reshape(batch, positions, self.directions, h)
        dgates = np.zeros((batch, positions, self.directions, 4 * h), dy.dtype)
        dhidden = dcell = np.zeros((self.directions, batch, h), dy.dtype)
        first, later = self._gemms(site, "backward", batch, chip.formats(state.name))
        for step in reversed(range(positions)):
            dhidden = chip.vector.add(self._at(handed, step), dhidden)
            kept = steps[step]
            change, dcell = chip.vector.lstm_cell_backward(dhidden, dcell, kept.gates, kept.before, kept.cell)
            self._put(dgates, step, change)
            if step > 0:
                gemm = first if step == positions - 1 else later
                narrow, _ = chip.gradients(state.name, change)
                dhidden = chip.activation_backward(state.name, chip.multiply(gemm, narrow, weight))
        self._parameter_gradients(site, dgates, chip)
        return self._linear.backward(self._input(site), dgates.reshape(batch, positions, -1), chip)

    def _parameter_gradients(self, site: Site, dgates: F32, chip: Executor) -> None:
        """dL/db and dL/dR, the latter as one GEMM over all steps."""
        sums = chip.vector.column_sums(dgates.reshape(-1, self.directions * 4 * self.features))
        chip.add_gradient(site.name, "bias", sums.reshape(self.directions, 4, self.features))
        state = self._state(site)
        _, wide = chip.gradients(state.name, _by_direction(dgates))
        gemm = self._update_gemm(site, len(dgates), chip.formats(state.name))
        history = chip.kept(site.name, "history").transposed()
        chip.add_gradient(state.name, "weight", chip.multiply(gemm, history, wide))

    def _places(self, positions: int, step: int) -> list[int]:
        """The position that each direction is at."""
        return [step, positions - 1 - step][: self.directions]

    def _at(self, values: F32, step: int) -> F32:
        """(n, T, d, c) at a step: (d, n, c)."""
        places = self._places(values.shape[1], step)
        return np.stack([values[:, place, d] for d, place in enumerate(places)])

    def _put(self, values: F32, step: int, value: F32) -> None:
        """Write (d, n, c) into (n, T, d, c) at a step."""
        for d, place in enumerate(self._places(values.shape[1], step)):
            values[:, place, d] = value[d]

    def _gemms(
        self, site: Site, phase: Literal["forward", "backward"], batch: int, formats: TensorFormats
    ) -> tuple[Gemm, Gemm]:
        """Of the first step of a pass, and of each later one."""
        first, later = (self._gemm(site, phase, batch, formats, is_first) for is_first in (True, False))
        return first, later

    def _gemm(
        self, site: Site, phase: Literal["forward", "backward"], batch: int, formats: TensorFormats,
        is_first: bool,
    ) -> Gemm:  # fmt: skip
        """One step of h R, or of its gradient with R transposed; after the first, R may be on the chip."""
        h, d, state = self.features, self.directions, self._state(site)
        where: Residence = "parameter" if is_first else "stream"
        weight = tensor(state, "weight codes", d * h * 4 * h, formats.weight, where)
        gates, hidden = d * batch * 4 * h, d * batch * h
        part = "first step" if is_first else "later steps"
        if phase == "forward":
            codes = tensor(state, "codes", hidden, formats.activation, "stream")
            out = tensor(state, "gates", gates, formats.storage, "stream")
            fmt = formats.activation
            shape = batch, h, 4 * h
            return Gemm(site.name, phase, *shape, fmt, formats.weight, codes, weight, out, d, part=part)
        fmt = formats.gradient_input
        codes = tensor(state, "dgates codes (dx)", gates, fmt, "stream")
        out = tensor(state, "dh", hidden, formats.storage, "stream")
        return Gemm(site.name, phase, batch, 4 * h, h, fmt, formats.weight, codes, weight, out, d, part=part)

    def _update_gemm(self, site: Site, batch: int, formats: TensorFormats) -> Gemm:
        """h transposed x dgates over all steps."""
        h, d, state = self.features, self.directions, self._state(site)
        rows = batch * site.input_shape[0]
        return Gemm(
            site.name, "update", h, rows, 4 * h, formats.activation, formats.gradient_weight,
            tensor(state, "codes", d * rows * h, formats.activation, "saved"),
            tensor(state, "dgates codes (dW)", d * rows * 4 * h, formats.gradient_weight, "stream"),
            tensor(state, "dW", d * h * 4 * h, formats.storage, "parameter"),
            d,
        )  # fmt: skip

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        works = [
            *self._linear.work(self._input(site), batch, formats),
            self._forward_work(site, batch, formats[f"{site.name}.state"]),
            self._backward_work(site, batch, formats[f"{site.name}.state"]),
            self._update_work(site, batch, formats[f"{site.name}.state"]),
        ]
        by_phase = {phase: [work for work in works if work.phase == phase] for phase in PHASES}
        return [joined(site, self.kind, parts) for parts in by_phase.values()]

    def _forward_work(self, site: Site, batch: int, formats: TensorFormats) -> LayerWork:
        state, cells = self._state(site), batch * site.input_shape[0] * self.directions * self.features
        # eight sums of gates, three sigmoids and two hyperbolic tangents, two products and a sum, a product
        vector = [VectorWork("lstm_cell", cells, adds=16, multiplies=5, compares=7, specials=10)]
        if conversions.has_codes(formats):
            vector += [conversions.activation_codes(cells), conversions.output_scale(4 * cells)]
        fmt = formats.storage
        reads = [tensor(state, name, 4 * cells, fmt, "stream") for name in ("gates of x", "gates of h")]
        writes = [
            tensor(site, "y", cells, fmt, "stream"),
            tensor(site, "gates", 4 * cells, fmt, "saved"),
            tensor(site, "cell", cells, fmt, "saved"),
            *conversions.kept_codes(state, cells, formats),
        ]
        return replace(
            vector_layer_work(self, site, "forward", vector, reads, writes),
            gemms=self._steps(site, "forward", batch, formats, site.input_shape[0]),
        )

    def _backward_work(self, site: Site, batch: int, formats: TensorFormats) -> LayerWork:
        state, cells = self._state(site), batch * site.input_shape[0] * self.directions * self.features
        vector = [
            VectorWork("lstm_state_add", cells, adds=1),
            VectorWork("lstm_cell_gradient", cells, adds=8, multiplies=17, compares=2, specials=2),
        ]
        fmt = formats.storage
        reads = [
            tensor(site, "dy", cells, fmt, "stream"),
            tensor(site, "gates", 4 * cells, fmt, "saved"),
            tensor(site, "cell", cells, fmt, "saved"),
        ]
        writes = [tensor(state, "dgates", 4 * cells, fmt, "stream")]
        if conversions.has_gradient_codes(formats):
            vector += conversions.gradient_codes(4 * cells)
        if conversions.has_codes(formats):
            vector += [conversions.output_scale(cells), conversions.activation_clip(cells)]
            reads += conversions.kept_codes(state, cells, formats)[1:]
        return replace(
            vector_layer_work(self, site, "backward", vector, reads, writes),
            gemms=self._steps(site, "backward", batch, formats, site.input_shape[0] - 1),
        )

    def _steps(
        self, site: Site, phase: Literal["forward", "backward"], batch: int, formats: TensorFormats,
        count: int,
    ) -> tuple[Gemm, ...]:  # fmt: skip
        """The GEMMs of so many steps, one after another."""
        first, later = self._gemms(site, phase, batch, formats)
        return (first, *([later] * (count - 1))) if count else ()

    def _update_work(self, site: Site, batch: int, formats: TensorFormats) -> LayerWork:
        state = self._state(site)
        cells = batch * site.input_shape[0] * self.directions * self.features
        weights = self.directions * 4 * self.features * self.features
        vector = [
            VectorWork("bias_gradient", 4 * cells, adds=1),
            *conversions.weight_work(weights, formats),
        ]
        read = tensor(state, "dgates", 4 * cells, formats.storage, "stream")
        phase: Phase = "update"
        done = vector_layer_work(self, site, phase, vector, [read])
        return replace(done, gemms=(self._update_gemm(site, batch, formats),))


def _by_direction(values: F32) -> F32:
    """(n, T, d, c) as (d, n * T, c)."""
    directions, channels = values.shape[2:]
    return np.ascontiguousarray(values.transpose(2, 0, 1, 3)).reshape(directions, -1, channels)
