"""A network step on a chip: operands by the recipe, GEMMs by their plans, gradients collected."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.chip import Chip
from accelsim.datapath.gemm import scaled_product
from accelsim.datapath.quantisers import (
    cast,
    first_gradscale,
    gradient_codes,
    gradscale_vote,
    pact,
    sawb,
)
from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.mapping import Plan, plan_gemm
from accelsim.network import Operand
from accelsim.numerics.formats import number_format
from accelsim.numerics.quantise import largest_magnitude
from accelsim.numerics.random_bits import random_words, stream_key, uniform
from accelsim.operations import Gemm, TensorFormats
from accelsim.recipe import Recipe
from accelsim.run.activity_meter import ActivityMeter
from accelsim.run.state import TrainingState

F32 = NDArray[np.float32]

CLIP = "activation_clip"
"""Name of the parameter that holds a layer's trained clip, float32 of one element."""


class ChipExecutor:
    """`network.Executor` of one chip and recipe, on one training state.

    What a step leaves behind (kept tensors, gradients, votes) is forgotten by `begin`. A site's operands
    may be asked for several times a step (the steps of a recurrent layer): `activation_backward` then
    answers the last `activation` not yet answered, gradients of one parameter add up, and a gradient
    scale votes once, with the largest magnitude of the step.
    """

    def __init__(
        self,
        chip: Chip,
        recipe: Recipe,
        formats: Mapping[str, TensorFormats],
        state: TrainingState,
        seed: int = 0,
    ) -> None:
        self.vector = ChipVectorUnit(recipe.storage)
        self.state = state
        self.training = True
        self.gradients_by_key: dict[str, F32] = {}
        self.observed: dict[tuple[str, str], dict[str, float]] | None = None
        self.activity: ActivityMeter | None = None
        self._chip = chip
        self._seed = seed
        self._sums_key = stream_key(seed, "sums")
        self._recipe = recipe
        self._formats = formats
        self._plans: dict[Gemm, Plan] = {}
        self._kept: dict[tuple[str, str], Any] = {}
        self._weights: dict[tuple[str, str], Operand] = {}
        self._clipped: dict[str, list[tuple[F32, NDArray[np.bool_]]]] = {}
        self._largest: dict[str, float] = {}
        self._masks_drawn = 0

    def watch(self, *, closely: bool) -> None:
        """From the next step on: note how tensors fare and what operands do, from nothing; or do not."""
        self.observed = {} if closely else None
        self.activity = ActivityMeter(self._chip) if closely else None

    def begin(self, *, training: bool) -> None:
        """Start a step: nothing kept, no gradients."""
        self.training = training
        self._kept.clear()
        self.gradients_by_key.clear()
        self._clipped.clear()
        self._largest.clear()
        self._masks_drawn = 0

    def end_of_update(self) -> None:
        """Parameters changed: weights are quantised anew, gradient scales follow their votes."""
        self._weights.clear()
        exponents = self.state.gradient_exponents
        for layer, largest in self._largest.items():
            exponents[layer] += gradscale_vote(largest, exponents[layer])

    def formats(self, layer: str) -> TensorFormats:
        """The number formats of a layer's tensors."""
        return self._formats[layer]

    def parameter(self, layer: str, name: str) -> F32:
        """A master parameter."""
        return self.state.parameters[f"{layer}.{name}"]

    def set_statistic(self, layer: str, name: str, value: F32) -> None:
        """Replace a parameter that is not trained."""
        self.state.parameters[f"{layer}.{name}"] = value

    def keep(self, layer: str, name: str, value: Any) -> None:
        """Keep a value for the backward pass."""
        if self.training:
            self._kept[layer, name] = value

    def kept(self, layer: str, name: str) -> Any:
        """A value that the forward pass kept."""
        return self._kept[layer, name]

    def add_gradient(self, layer: str, name: str, value: F32) -> None:
        """Hand over the gradient of a parameter; what was handed over before in this step is added."""
        key = f"{layer}.{name}"
        before = self.gradients_by_key.get(key)
        self.gradients_by_key[key] = value if before is None else before + value

    def dropout_mask(self, layer: str, shape: tuple[int, ...], rate: float) -> NDArray[np.bool_]:
        """True where an element is kept, each with the probability 1 - ``rate``.

        The random bits are those of (seed, step, layer, mask of the step, element).
        """
        key = stream_key(self._seed, "dropout", self.state.step, layer, self._masks_drawn)
        self._masks_drawn += 1
        return (uniform(key, math.prod(shape)) >= rate).reshape(shape)

    def _is_low(self, layer: str) -> bool:
        return self.formats(layer) != self._recipe.high_formats()

    def weight(self, layer: str, shape: tuple[int, ...], parameter: str = "weight") -> Operand:
        """A weight of the layer in its format, quantised once per update."""
        key = layer, parameter
        if key not in self._weights:
            master = self.parameter(layer, parameter).reshape(shape)
            fmt = number_format(self.formats(layer).weight)
            scaled = self._recipe.weight.scale == "sawb" and self._is_low(layer)
            self._weights[key] = sawb(master, fmt, self._recipe.storage) if scaled else cast(master, fmt)
        return self._weights[key]

    def activation(self, layer: str, x: F32) -> Operand:
        """The layer's input in its format; remembers where it was clipped."""
        fmt = number_format(self.formats(layer).activation)
        if self._recipe.activation.scale == "cast" or not self._is_low(layer):
            return cast(x, fmt)
        clip = float(self._clip(layer, x)[0])
        clipped = pact(x, fmt, clip, self._recipe.storage)
        if self.training:
            above = np.sign(x) * clipped.above if fmt.signed else clipped.above
            self._clipped.setdefault(layer, []).append((above.astype(np.float32), clipped.inside))
        self._observe(layer, "activation", x, clipped.operand)
        return clipped.operand

    def _clip(self, layer: str, x: F32) -> F32:
        key = f"{layer}.{CLIP}"
        if key not in self.state.parameters:
            first = self._recipe.activation.initial_clip
            if first == "first_batch":
                rows = np.ascontiguousarray(x).reshape(-1, 1)
                square = float(self.vector.column_sums(rows * rows)[0]) / rows.size
                first = self._recipe.activation.first_batch_deviations * float(np.sqrt(square)) or 1.0
            self.state.parameters[key] = np.array([first], np.float32)
        return self.state.parameters[key]

    def activation_backward(self, layer: str, dx: F32) -> F32:
        """The gradient before the clip; hands over the clip's own gradient."""
        if layer not in self._clipped:
            return dx
        above, inside = self._clipped[layer].pop()
        by_channel = self.vector.column_sums((dx * above).reshape(-1, dx.shape[-1]))
        self.add_gradient(layer, CLIP, self.vector.column_sums(by_channel.reshape(-1, 1)))
        return self.vector.masked(dx, inside)

    def gradients(self, layer: str, dy: F32) -> tuple[Operand, Operand]:
        """dL/dy in the formats of the dL/dx GEMM and of the dL/dW GEMM, both from the same tensor."""
        formats, rule = self.formats(layer), self._recipe.gradient
        for_input, for_weight = number_format(formats.gradient_input), number_format(formats.gradient_weight)
        if rule.scale == "cast" or not self._is_low(layer):
            operand = cast(dy, for_input)
            return operand, operand if for_weight is for_input else cast(dy, for_weight)
        exponents = self.state.gradient_exponents
        largest = largest_magnitude(np.ascontiguousarray(dy))
        if layer not in exponents:
            exponents[layer] = first_gradscale(largest)
        self._largest[layer] = float(np.maximum(largest, self._largest.get(layer, 0.0)))
        pair = tuple(gradient_codes(dy, fmt, exponents[layer], rule.ties) for fmt in (for_input, for_weight))
        self._observe(layer, "gradient_input", dy, pair[0])
        self._observe(layer, "gradient_weight", dy, pair[1])
        return pair[0], pair[1]

    def multiply(self, gemm: Gemm, a: Operand, b: Operand) -> F32:
        """a (m, k) times b (k, n), scaled and rounded to the storage format."""
        plan = self._plans.get(gemm)
        if plan is None:
            plan = self._plans[gemm] = plan_gemm(gemm, self._chip)
        if self.activity is not None and self.training:
            self.activity.note(gemm, plan, a, b)
        products_before = sum(self.state.kernels.values())
        seed = int(random_words(self._sums_key, 1, products_before)[0])
        result, kernel = scaled_product(plan, a, b, self._recipe.storage, seed)
        self.state.kernels[kernel] = self.state.kernels.get(kernel, 0) + 1
        return result

    def _observe(self, layer: str, role: str, values: F32, operand: Operand) -> None:
        """Fractions at the largest code and flushed to zero, while `observed` is a mapping."""
        if self.observed is None or not self.training:
            return
        fmt = number_format(operand.format)
        magnitude = np.abs(fmt.decode(operand.array))
        saturated = float(np.mean(magnitude == fmt.max_value))
        flushed = float(np.mean((magnitude == 0) & (values != 0)))
        self.observed[layer, role] = {"saturated": saturated, "underflow": flushed, "scale": operand.scale}
