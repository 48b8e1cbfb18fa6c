"""The best choice of one option per layer, where options of outer layers take room in all inner ones.

Layers come from the outermost to the innermost. An option takes blocks of memory, costs cycles and
attojoules, and has a limit: the most blocks that may be taken with it, by itself and all layers around.

*Least weighted sum.* The least that a layer and all within it can cost, for every number of blocks that is
taken around them, follows from the same numbers of the next layer: dynamic programming from the inside out,
exact for any weights (the multiple-choice knapsack of Martello and Toth, Knapsack Problems, 1990, with a
capacity that differs from layer to layer). ``latency`` weighs a cycle as more than all energy, ``energy`` the
other way round: so each is exact, ties included.

*Least product of cycles and energy.* Where x and y are positive, all points with xy >= c are a convex set.
So no point of a convex hull has a smaller product than the least of its corners: the best choice is a corner
of the lower left hull of all choices, the least weighted sum for some pair of weights. (A tangent that is
followed from product to product ends at a corner, but not always at the best one.) Corners are found between
known ones, each by the weights of the line through two neighbours (Aneja and Nair, Bicriteria Transportation
Problem, Management Science 25(1), 1979). Neighbours with their own lines bound all that is between them by a
triangle; if the product at its third corner is above the best known, nothing in it is better.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.mapping import Objective

Weights = tuple[int, int]
"""What a cycle and an attojoule weigh."""

_LIMB_BITS = 60
_LIMB = (1 << _LIMB_BITS) - 1
_NOTHING_YET = 1 << 62
"""The high limb of a cost that no choice has: more than any."""


@dataclass(frozen=True)
class Option:
    """Blocks it takes, the most taken in all with it, its cycles and attojoules, and what it stands for."""

    blocks: int
    limit: int
    cycles: int
    energy_aj: int
    kept: tuple[Any, ...] = ()


@dataclass(frozen=True)
class Choice:
    """One option per layer: what they cost together, and all that they stand for."""

    cycles: int
    energy_aj: int
    kept: tuple[Any, ...]

    def weight(self, weights: Weights) -> int:
        """The weighted sum of cycles and energy."""
        return weights[0] * self.cycles + weights[1] * self.energy_aj

    @property
    def by_product(self) -> tuple[int, int]:
        """The product of cycles and energy, and of equals the cycles."""
        return self.cycles * self.energy_aj, self.cycles


def best_choice(layers: Sequence[Sequence[Option]], objective: Objective) -> Choice:
    """The choice of least cost by ``objective``, its second aim among equals.

    The first option of each layer takes no block.
    """
    fastest: Weights = 1 + sum(max(each.energy_aj for each in options) for options in layers), 1
    thriftiest: Weights = 1, 1 + sum(max(each.cycles for each in options) for options in layers)
    if objective == "latency":
        return least_sum(layers, fastest)
    if objective == "energy":
        return least_sum(layers, thriftiest)
    ends = least_sum(layers, fastest), least_sum(layers, thriftiest)
    return least_product(*ends, lambda weights: least_sum(layers, weights))


def least_product(fastest: Choice, thriftiest: Choice, least: Callable[[Weights], Choice]) -> Choice:
    """The least product of cycles and energy between the ends of the hull, by least weighted sums."""
    best = min(fastest, thriftiest, key=lambda each: each.by_product)
    between = [(fastest, thriftiest, (1, 0), (0, 1))]
    while between:
        left, right, left_line, right_line = between.pop()
        if not _may_beat(best, (left, left_line), (right, right_line)):
            continue
        chord = left.energy_aj - right.energy_aj, right.cycles - left.cycles
        found = least(chord)
        if found.weight(chord) < left.weight(chord):
            best = min(best, found, key=lambda each: each.by_product)
            between += [(left, found, left_line, chord), (found, right, chord, right_line)]
    return best


def _may_beat(best: Choice, left: tuple[Choice, Weights], right: tuple[Choice, Weights]) -> bool:
    """Whether the corner of the lines through two neighbours has no larger product than ``best``."""
    (a, b), (c, d) = left[1], right[1]
    determinant = a * d - b * c
    first, second = left[0].weight(left[1]), right[0].weight(right[1])
    cycles, energy_aj = first * d - b * second, a * second - first * c
    distinct = left[0] != right[0] and determinant > 0
    return distinct and cycles * energy_aj <= best.by_product[0] * determinant**2


def _chosen(options: Sequence[Option]) -> Choice:
    return Choice(
        sum(each.cycles for each in options),
        sum(each.energy_aj for each in options),
        tuple(name for each in options for name in each.kept),
    )


def least_sum(layers: Sequence[Sequence[Option]], weights: Weights) -> Choice:
    """The choice of the least weighted sum."""
    useful = [_undominated(options, weights) for options in layers]
    costs = _Costs(np.zeros(1 + max((each.limit for own in useful for each in own), default=0), np.int64))
    taken: list[NDArray[np.uint16]] = []
    for options in reversed(useful):
        costs, best = costs.around(options, weights)
        taken.append(best)
    chosen, blocks = [], 0
    for options, best in zip(useful, reversed(taken), strict=True):
        chosen.append(options[best[blocks]])
        blocks += chosen[-1].blocks
    return _chosen(chosen)


def _undominated(options: Sequence[Option], weights: Weights) -> list[Option]:
    """Those for which no other takes as little, allows as much and costs as little, the smallest first."""

    def weight(each: Option) -> int:
        return weights[0] * each.cycles + weights[1] * each.energy_aj

    found: list[tuple[int, Option]] = []
    for each in sorted(options, key=lambda one: (one.blocks, weight(one), -one.limit)):
        cost = weight(each)
        if not any(known <= cost and other.limit >= each.limit for known, other in found):
            found.append((cost, each))
    return [each for _, each in found]


class _Costs:
    """The least weighted sum of some layers, by the blocks taken around them.

    Sums are whole numbers of two limbs: the low one has 60 bits, the high one what is above.
    """

    def __init__(self, high: NDArray[np.int64], low: NDArray[np.int64] | None = None) -> None:
        self.high, self.low = high, np.zeros_like(high) if low is None else low

    def around(self, options: Sequence[Option], weights: Weights) -> tuple[_Costs, NDArray[np.uint16]]:
        """The same with one more layer around these, and its best option for each number of blocks."""
        most = len(self.high) - 1
        counts = [1 + min(each.limit, most) - each.blocks for each in options]
        high = np.full(max(counts), _NOTHING_YET, np.int64)
        low, best = np.zeros_like(high), np.zeros(len(high), np.uint16)
        for index, (each, count) in enumerate(zip(options, counts, strict=True)):
            if count <= 0:
                continue
            cost = weights[0] * each.cycles + weights[1] * each.energy_aj
            inner = slice(each.blocks, each.blocks + count)
            low_sum = self.low[inner] + (cost & _LIMB)
            high_sum = self.high[inner] + (low_sum >> _LIMB_BITS) + (cost >> _LIMB_BITS)
            low_sum &= _LIMB
            better = (high_sum < high[:count]) | ((high_sum == high[:count]) & (low_sum < low[:count]))
            np.copyto(high[:count], high_sum, where=better)
            np.copyto(low[:count], low_sum, where=better)
            best[:count][better] = index
        return _Costs(high, low), best
