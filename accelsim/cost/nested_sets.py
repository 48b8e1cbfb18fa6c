"""The best choice of one option per layer, where options of outer layers take room in all inner ones.

Layers come from the outermost to the innermost; an option takes bytes and costs cycles and attojoules. What
is chosen of a layer and of all around it must fit into the layer's room. The least weighted sum of cycles and
energy is found exactly: partial choices are extended layer by layer, and one is dropped only if another takes
as little room at as little cost, or if a bound says that no completion of it beats a choice already known.
The bound lets the smallest room be exceeded at a price per byte (a Lagrange multiplier; Martello and Toth,
Knapsack Problems, 1990, section 2.2); the known choice comes from the same steps with few partial choices
kept.

``latency`` weighs a cycle as more than all energy, ``energy`` the other way round: so each is exact, ties
included. ``edp`` weighs both by the slopes of their product, first where nothing is chosen, then where the
last search ended, until the product falls no more: no set with a smaller sum along that tangent is left.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from accelsim.mapping import Objective

Weights = tuple[int, int]
"""What a cycle and an attojoule weigh."""

_FEW = 64
"""Partial choices kept on the way to the known choice."""


@dataclass(frozen=True)
class Chosen:
    """Options of the layers so far: bytes, cycles, attojoules, and what is chosen."""

    size_bytes: int
    cycles: int
    energy_aj: int
    kept: tuple[Any, ...] = ()

    def with_option(self, own: Chosen) -> Chosen:
        """The same and one more layer's."""
        return Chosen(
            self.size_bytes + own.size_bytes,
            self.cycles + own.cycles,
            self.energy_aj + own.energy_aj,
            self.kept + own.kept,
        )

    def weight(self, weights: Weights) -> int:
        """The weighted sum of cycles and energy."""
        return weights[0] * self.cycles + weights[1] * self.energy_aj


@dataclass(frozen=True)
class LayerOptions:
    """What a layer can choose from, the first of which takes nothing, and the bytes of its room."""

    options: tuple[Chosen, ...]
    room_bytes: int


def best_choice(layers: Sequence[LayerOptions], objective: Objective) -> Chosen:
    """The choice of least cost by ``objective``, its second aim among equals."""
    none = Chosen(0, 0, 0)
    for each in layers:
        none = none.with_option(each.options[0])
    most_cycles, most_aj = none.cycles + 1, none.energy_aj + 1
    if objective == "latency":
        return least_sum(layers, (most_aj, 1))
    if objective == "energy":
        return least_sum(layers, (1, most_cycles))
    known = none
    while True:
        found = least_sum(layers, (known.energy_aj, known.cycles))
        if found.cycles * found.energy_aj >= known.cycles * known.energy_aj:
            return known
        known = found


def least_sum(layers: Sequence[LayerOptions], weights: Weights) -> Chosen:
    """The choice of the least weighted sum."""
    layers = [LayerOptions(tuple(_undominated(each.options, weights)), each.room_bytes) for each in layers]
    bound = _Bound(layers, weights)
    known = _extended(layers, weights, bound.nearest).weight(weights)

    def hopeful(sets: list[Chosen], index: int) -> list[Chosen]:
        return [each for each in sets if bound.least(each, index) <= known]

    return _extended(layers, weights, hopeful)


def _extended(
    layers: Sequence[LayerOptions], weights: Weights, kept: Callable[[list[Chosen], int], list[Chosen]]
) -> Chosen:
    """The best of the partial choices that ``kept`` leaves after each layer."""
    sets = [Chosen(0, 0, 0)]
    for index, layer in enumerate(layers):
        joined = [
            outer.with_option(own)
            for outer in sets
            for own in layer.options
            if outer.size_bytes + own.size_bytes <= layer.room_bytes
        ]
        sets = _undominated(kept(joined, index + 1), weights)
    return min(sets, key=lambda each: each.weight(weights))


def _undominated(sets: Sequence[Chosen], weights: Weights) -> list[Chosen]:
    """Those for which no other takes as little room and costs as little, the smallest first."""
    found: list[Chosen] = []
    for each in sorted(sets, key=lambda one: (one.size_bytes, one.weight(weights))):
        if not found or each.weight(weights) < found[-1].weight(weights):
            found.append(each)
    return found


class _Bound:
    """What a partial choice costs at least when all layers have chosen."""

    def __init__(self, layers: Sequence[LayerOptions], weights: Weights) -> None:
        self._weights, count = weights, len(layers)
        self._tightest = min(range(count), key=lambda index: (layers[index].room_bytes, -index), default=0)
        self._room = min((each.room_bytes for each in layers), default=0)
        self._price = self._best_price(layers[: self._tightest + 1])
        self._rest = [0] * (count + 1)
        for index in reversed(range(count)):
            least = min(self._priced(each, index) for each in layers[index].options)
            self._rest[index] = self._rest[index + 1] + least

    def _priced(self, each: Chosen, index: int) -> int:
        """The cost of an option with the price of its room, where the smallest room is still to come."""
        price = self._price if index <= self._tightest else 0
        return each.weight(self._weights) + price * each.size_bytes

    def _best_price(self, layers: Sequence[LayerOptions]) -> int:
        """The least price per byte at which what each layer would choose fits into the smallest room."""
        costs = [[(each.weight(self._weights), each.size_bytes) for each in one.options] for one in layers]
        low, high = 0, 1 + max((cost for options in costs for cost, _ in options), default=0)
        while low < high:
            price = (low + high) // 2
            wanted = (min(options, key=lambda one: one[0] + price * one[1]) for options in costs)
            low, high = (low, price) if sum(size for _, size in wanted) <= self._room else (price + 1, high)
        return low

    def least(self, each: Chosen, index: int) -> int:
        """A bound on all completions of a choice of the first ``index`` layers."""
        beyond = self._price * self._room if index <= self._tightest else 0
        return self._priced(each, index) + self._rest[index] - beyond

    def nearest(self, sets: list[Chosen], index: int) -> list[Chosen]:
        """Those of least bound, and the smallest, which has a completion."""
        smallest = min(sets, key=lambda each: each.size_bytes)
        return [*sorted(sets, key=lambda each: self.least(each, index))[:_FEW], smallest]
