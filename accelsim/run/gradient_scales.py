"""Scales of the backward pass that follow the gradients: of each layer by votes, of the loss by overflows."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.quantisers import first_gradscale, gradscale_vote
from accelsim.recipe import DynamicLossScale
from accelsim.run.state import TrainingState

F32 = NDArray[np.float32]

NETWORK, LOSS = "network scale", "loss scale"
"""Names of the gradient scale that all layers share and of the loss scale; no layer can have them."""


class GradientScales:
    """The power-of-two gradient scales of a training state (GradScale).

    Each chip of a ring votes once a step on each scale with the largest magnitude that it met; scales follow
    the sign of all votes (Sun et al., NeurIPS 2020, section 3.2).
    """

    def __init__(self, state: TrainingState) -> None:
        self._state = state
        self._ballots: list[dict[str, tuple[float, float]]] = [{}]  # a chip each: largest magnitudes, tops

    def begin(self, place: int) -> None:
        """Start the part of a step of the chip at ``place`` in the ring."""
        self._ballots = [*(self._ballots[:place]), {}]

    def exponent(self, name: str, largest: float, top: float) -> int:
        """The scale's exponent for a tensor of this largest magnitude, which is noted for the vote.

        ``top``: the format's largest value, as `accelsim.datapath.quantisers.gradscale_top` gives it.
        """
        exponents = self._state.gradient_exponents
        if name not in exponents:
            exponents[name] = first_gradscale(largest, top)
        ballot = self._ballots[-1]
        before = ballot.get(name, (0.0, top))[0]
        ballot[name] = float(np.maximum(largest, before)), top
        return exponents[name]

    def follow_votes(self) -> None:
        """Move every scale that was voted on in this step by one or not at all."""
        exponents = self._state.gradient_exponents
        for name in dict.fromkeys(name for ballot in self._ballots for name in ballot):
            votes = 0
            for largest, top in (ballot[name] for ballot in self._ballots if name in ballot):
                votes += gradscale_vote(largest, exponents[name], top)
            exponents[name] += (votes > 0) - (votes < 0)


class LossScale:
    """The factor on the loss: a constant, or one that a training state keeps beside its gradient scales."""

    def __init__(self, state: TrainingState, rule: float | DynamicLossScale) -> None:
        self._state = state
        self._rule = rule
        self._overflowed = False

    @property
    def factor(self) -> float:
        """What this step's loss is multiplied by."""
        if not isinstance(self._rule, DynamicLossScale):
            return self._rule
        first = math.frexp(self._rule.initial)[1] - 1
        return math.ldexp(1.0, self._state.gradient_exponents.setdefault(LOSS, first))

    def usable(self, gradients: dict[str, F32]) -> dict[str, F32]:
        """What the optimiser gets: nothing where a dynamic scale made a gradient overflow."""
        if not isinstance(self._rule, DynamicLossScale):
            return gradients
        self._overflowed = not _all_finite(gradients)
        return {} if self._overflowed else gradients

    def move(self) -> None:
        """Halve a dynamic scale after an overflow, double it when it has held long enough."""
        rule, exponents = self._rule, self._state.gradient_exponents
        if isinstance(rule, DynamicLossScale) and LOSS in exponents:
            grows = self._state.step % rule.growth_interval == 0
            moved = exponents[LOSS] + (-1 if self._overflowed else grows)
            # beyond float32's normal numbers no scale helps: a run that has diverged would move on for ever
            exponents[LOSS] = min(max(moved, -126), 126)


def _all_finite(gradients: Mapping[str, F32]) -> bool:
    return all(np.isfinite(value).all() for value in gradients.values())
