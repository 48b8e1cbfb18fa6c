"""A network step on a chip: operands by the recipe, GEMMs by their plans, gradients collected."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.edge import EdgeOperand, edge_product
from accelsim.datapath.gemm import Seeds, scaled_product
from accelsim.datapath.quantisers import (
    gradient_codes,
    gradscale_top,
    pact,
    root_mean_square,
    sawb,
)
from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.mapping import Plan, Planner
from accelsim.network import Operand
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.quantise import largest_magnitude
from accelsim.numerics.random_bits import random_words, stream_key, uniform
from accelsim.operations import Gemm, TensorFormats
from accelsim.recipe import ActivationRule, GradientRule, Recipe, SiteRules, WeightRule
from accelsim.run.activity_meter import ActivityMeter
from accelsim.run.gradient_scales import NETWORK, GradientScales, LossScale
from accelsim.run.observing import Observer
from accelsim.run.scale_rules import by_rule, step_size
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

    It stands for all chips of a ring: `begin` says which of them works on its part of the mini-batch. Weights
    are the same on all; what a first mini-batch sets, and running statistics, are those of the first.
    """

    def __init__(
        self,
        planner: Planner,
        recipe: Recipe,
        rules: Mapping[str, SiteRules],
        state: TrainingState,
        seed: int = 0,
    ) -> None:
        self.vector = ChipVectorUnit(recipe.storage)
        self.state = state
        self.training = True
        self.gradients_by_key: dict[str, F32] = {}
        self.observed: Observer | None = None
        self.activity: ActivityMeter | None = None
        self.last_kernel = ""
        self._planner = planner
        self._seed = seed
        self._sums_key = stream_key(seed, "sums")
        self._recipe = recipe
        self.rules = rules
        self._plans: dict[Gemm, Plan] = {}  # by the GEMM itself: quicker than the planner's own memory
        self._kept: dict[tuple[str, str], Any] = {}
        self._shared: dict[str, Any] = {}
        self._weights: dict[tuple[str, str], Operand] = {}
        self._clipped: dict[str, list[tuple[NDArray[np.uint8], np.float32]]] = {}
        self._place = 0
        self._scales = GradientScales(state)
        self._loss_scale = LossScale(state, recipe.loss_scale)
        self._drawn: Counter[str] = Counter()

    def watch(self, *, closely: bool) -> None:
        """From the next step on: note how tensors fare and what operands do, from nothing; or do not."""
        self.observed = Observer() if closely else None
        self.activity = ActivityMeter(self._planner.chip) if closely else None

    def begin(self, *, training: bool, place: int = 0) -> None:
        """Start a step, or the part of the chip at ``place`` in the ring: nothing kept, no gradients."""
        self.training, self._place = training, place
        self._scales.begin(place)
        self._kept.clear()
        self._shared.clear()
        self.gradients_by_key.clear()
        self._clipped.clear()
        self._drawn.clear()

    @property
    def _watched(self) -> bool:
        """Whether this part of a step is one to look at: a training one of the first chip."""
        return self.training and self._place == 0

    def end_of_update(self) -> None:
        """Parameters changed: weights are quantised anew, the scales of the backward pass move."""
        self._weights.clear()
        self._scales.follow_votes()
        self._loss_scale.move()

    @property
    def loss_scale(self) -> float:
        """The factor on this step's loss."""
        return self._loss_scale.factor

    def usable_gradients(self) -> dict[str, F32]:
        """What the optimiser gets: nothing where a dynamic loss scale made a gradient overflow."""
        return self._loss_scale.usable(self.gradients_by_key)

    def formats(self, layer: str) -> TensorFormats:
        """The number formats of a layer's tensors."""
        return self.rules[layer].formats

    def parameter(self, layer: str, name: str) -> F32:
        """A master parameter."""
        return self.state.parameters[f"{layer}.{name}"]

    def set_statistic(self, layer: str, name: str, value: F32) -> None:
        """Replace a parameter that is not trained; the first chip's is kept."""
        if self._place == 0:
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
        return (uniform(self._key("dropout", layer), math.prod(shape)) >= rate).reshape(shape)

    def _key(self, purpose: str, layer: str) -> int:
        """Of the next random bits of this step; each purpose counts for itself, and each chip has its own."""
        self._drawn[purpose] += 1
        words = (self._seed, purpose, self.state.step, layer, self._drawn[purpose])
        return stream_key(*words, self._place) if self._place else stream_key(*words)

    def _by_rule(
        self, layer: str, values: F32, fmt: str, rule: WeightRule | ActivationRule | GradientRule,
        key: int | None = None,
    ) -> Operand:  # fmt: skip
        """An operand by a scale rule that looks at the values alone."""
        if key is None and rule.rounding == "stochastic":
            key = self._key("rounding", layer)
        return by_rule(values, fmt, rule, self._recipe.storage, key)

    def share(self, name: str, value: Any) -> None:
        """Hand a value to another layer of the same pass."""
        self._shared[name] = value

    def shared(self, name: str) -> Any:
        """What another layer shared."""
        return self._shared[name]

    def weight(
        self, layer: str, shape: tuple[int, ...], parameter: str = "weight", owner: str | None = None
    ) -> Operand:
        """A weight of the layer (or of ``owner``) in the layer's format, quantised once per update."""
        key = layer, parameter
        if key not in self._weights:
            master = self.parameter(owner or layer, parameter).reshape(shape)
            self._weights[key] = self._weight(layer, parameter, master)
        return self._weights[key]

    def _weight(self, layer: str, parameter: str, master: F32) -> Operand:
        """Its random bits do not depend on when it is first asked for: a test may come before or not."""
        rule, key = self.rules[layer].weight, None
        if rule.rounding == "stochastic":
            key = stream_key(self._seed, "weight", self.state.step, layer, parameter)
        if rule.scale != "sawb":
            return self._by_rule(layer, master, rule.format, rule, key)
        return sawb(master, number_format(rule.format), self._recipe.storage, rule.rounding, key)

    def activation(self, layer: str, x: F32, *, remember: bool = True) -> Operand:
        """The layer's input in its format; remembers where it was clipped, unless it is asked for again."""
        rule, name = self.rules[layer].activation, self.formats(layer).activation
        if rule.scale in ("pact", "pact_rms"):
            operand = self._clipped_activation(layer, x, number_format(name), remember)
        else:
            operand = self._by_rule(layer, x, name, rule)
        if rule.scale != "cast" and remember:
            self._observe(layer, "activation", x, operand)
        return operand

    def _clipped_activation(self, layer: str, x: F32, fmt: NumberFormat, remember: bool) -> Operand:
        rule = self.rules[layer].activation
        key = self._key("rounding", layer) if rule.rounding == "stochastic" else None
        unit = root_mean_square(x) if rule.scale == "pact_rms" else 1.0
        if not 0.0 < unit < math.inf:
            unit = 1.0
        clip = float(self._clip(layer, x, fmt)[0]) * unit
        clipped = pact(x, fmt, clip, self._recipe.storage, rule.rounding, key)
        if self.training and remember:
            self._clipped.setdefault(layer, []).append((clipped.places, np.float32(unit)))
        return clipped.operand

    def _clip(self, layer: str, x: F32, fmt: NumberFormat) -> F32:
        key = f"{layer}.{CLIP}"
        if key not in self.state.parameters:
            rule = self.rules[layer].activation
            first = rule.deviations[not fmt.signed] if rule.scale == "pact_rms" else rule.initial_clip
            if first == "first_batch":
                rows = np.ascontiguousarray(x).reshape(-1, 1)
                square = float(self.vector.column_sums(rows * rows)[0]) / rows.size
                first = rule.first_batch_deviations * float(np.sqrt(square)) or 1.0
            self.state.parameters[key] = np.array([first], np.float32)
        return self.state.parameters[key]

    def activation_backward(self, layer: str, dx: F32) -> F32:
        """The gradient before the clip; hands over the clip's own gradient."""
        if layer not in self._clipped:
            return dx
        places, unit = self._clipped[layer].pop()
        passed, by_channel = self.vector.clip_backward(dx, places)
        self.add_gradient(layer, CLIP, self.vector.column_sums(by_channel.reshape(-1, 1)) * unit)
        return passed

    def gradients(self, layer: str, dy: F32) -> tuple[Operand, Operand]:
        """dL/dy in the formats of the dL/dx GEMM and of the dL/dW GEMM, both from the same tensor."""
        rule = self.rules[layer].gradient
        if rule.scale == "gradscale":
            pair = self._gradscaled(layer, dy, rule)
        else:
            pair = self._gradients_by_rule(layer, dy, rule)
        if rule.scale != "cast":
            self._observe(layer, "gradient_input", dy, pair[0])
            self._observe(layer, "gradient_weight", dy, pair[1])
        return pair

    def _gradients_by_rule(self, layer: str, dy: F32, rule: GradientRule) -> tuple[Operand, Operand]:
        for_input = self._by_rule(layer, dy, rule.input_format, rule)
        if rule.samples > 1:
            step = step_size(dy, number_format(rule.weight_format), rule.scale, self._recipe.storage)
            key = self._key("rounding", layer)
            for_weight: Operand = EdgeOperand(
                dy, rule.weight_format, step, rule.rounding, key, samples=rule.samples
            )
        elif rule.weight_format == rule.input_format:
            for_weight = for_input
        else:
            for_weight = self._by_rule(layer, dy, rule.weight_format, rule)
        if rule.hadamard and isinstance(for_weight, EdgeOperand):
            for_weight = replace(for_weight, signs=stream_key(self._seed, "hadamard"))
        return for_input, for_weight

    def _gradscaled(self, layer: str, dy: F32, rule: GradientRule) -> tuple[Operand, Operand]:
        """Codes by the layer's (or the network's) power-of-two scale, whose vote is prepared."""
        for_input, for_weight = number_format(rule.input_format), number_format(rule.weight_format)
        largest = largest_magnitude(np.ascontiguousarray(dy))
        name = layer if rule.scope == "layer" else NETWORK
        exponent = self._scales.exponent(name, largest, gradscale_top(for_input))
        found = []
        for fmt in (for_input, for_weight):
            key = self._key("rounding", layer) if rule.rounding == "stochastic" else None
            found.append(gradient_codes(dy, fmt, exponent, rule.ties, rule.rounding, key, rule.threshold))
        return found[0], found[1]

    def multiply(self, gemm: Gemm, a: Operand, b: Operand) -> F32:
        """a (m, k) times b (k, n), or stacks of them, scaled and rounded to the storage format."""
        plan = self._plans.get(gemm)
        if plan is None:
            plan = self._plans[gemm] = self._planner.plan(gemm)
        at_edge = isinstance(a, EdgeOperand) or isinstance(b, EdgeOperand)
        products = a.shape[0] if len(a.shape) == 3 else 1
        if self.activity is not None and self._watched and not at_edge:
            self.activity.note(gemm, plan, a, b)
        seed: Seeds = 0
        if at_edge or "stochastic" in plan.rounding:  # each of the products draws its own random bits
            seeds = self._seeds(products)
            seed = seeds if len(a.shape) == 3 else int(seeds[0])
        product = edge_product if at_edge else scaled_product
        result, kernel = product(plan, a, b, self._recipe.storage, seed)
        self.last_kernel = kernel
        self.state.kernels[kernel] = self.state.kernels.get(kernel, 0) + products
        return result

    def _seeds(self, products: int) -> NDArray[np.uint64]:
        """Of the random bits of the next products, by their numbers in the run."""
        return random_words(self._sums_key, products, sum(self.state.kernels.values()))

    def _observe(self, layer: str, role: str, values: F32, operand: Operand) -> None:
        if self.observed is not None and self._watched:
            self.observed.note(layer, role, values, operand)
