"""The keys of a workload file other than its layers."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

Positive = Annotated[float, Field(gt=0)]
NotNegative = Annotated[float, Field(ge=0)]


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Sgd(_Keys):
    """Stochastic gradient descent with momentum and L2 weight decay (on weights only)."""

    kind: Literal["sgd"]
    momentum: float = Field(default=0.9, ge=0, lt=1)
    weight_decay: NotNegative = 0.0


class Adam(_Keys):
    """Adam (Kingma and Ba, ICLR 2015) with L2 weight decay (on weights only)."""

    kind: Literal["adam"]
    beta1: float = Field(default=0.9, ge=0, lt=1)
    beta2: float = Field(default=0.999, ge=0, lt=1)
    epsilon: Positive = 1e-8
    weight_decay: NotNegative = 0.0


class Constant(_Keys):
    """The same learning rate throughout."""

    schedule: Literal["constant"]
    initial: Positive

    def at(self, epoch: float, epochs: int) -> float:
        """Learning rate after ``epoch`` epochs (a fraction within an epoch) of ``epochs``."""
        return self.initial


class Step(_Keys):
    """The learning rate times ``factor`` after each of the epochs in ``milestones``."""

    schedule: Literal["step"]
    initial: Positive
    factor: float = Field(default=0.1, gt=0, lt=1)
    milestones: tuple[Annotated[int, Field(ge=1)], ...] = Field(min_length=1)

    def at(self, epoch: float, epochs: int) -> float:
        """Learning rate after ``epoch`` epochs (a fraction within an epoch) of ``epochs``."""
        rate = self.initial
        for milestone in self.milestones:
            # not a power: that would be the libm's, and a run must not depend on it
            rate *= self.factor if milestone <= epoch else 1.0
        return rate


class _Falling(_Keys, ABC):
    """From ``initial`` to ``final`` over the whole run.

    In the first ``warmup_epochs`` the rate rises in a straight line from a tenth of ``initial`` (Goyal
    et al., arXiv:1706.02677, section 2.2, warm up from a smaller rate); the fall takes the rest.
    """

    initial: Positive
    final: NotNegative = 0.0
    warmup_epochs: NotNegative = 0.0

    def at(self, epoch: float, epochs: int) -> float:
        """Learning rate after ``epoch`` epochs (a fraction, below ``epochs``) of ``epochs``."""
        if epoch < self.warmup_epochs:
            return _warming(self.initial, epoch / self.warmup_epochs)
        return self._fallen((epoch - self.warmup_epochs) / (epochs - self.warmup_epochs))

    @abstractmethod
    def _fallen(self, part: float) -> float:
        """The rate after ``part`` (0..1) of the fall."""


class Cosine(_Falling):
    """Half a cosine from ``initial`` to ``final`` over the whole run (Loshchilov and Hutter, ICLR 2017)."""

    schedule: Literal["cosine"]

    def _fallen(self, part: float) -> float:
        return self.final + (self.initial - self.final) * _half_cosine(part)


def _half_cosine(part: float) -> float:
    """(1 + cos(pi * part)) / 2 from a polynomial, so that a run does not depend on the libm.

    Taylor series of the sine around the middle of the half wave, error below 1e-15.
    """
    x = 3.141592653589793 * (0.5 - part)
    square = x * x
    total = 0.0
    for divisor in (342.0, 272.0, 210.0, 156.0, 110.0, 72.0, 42.0, 20.0, 6.0):
        total = (1.0 - total) * square / divisor
    return (1.0 + x * (1.0 - total)) / 2.0


class Linear(_Falling):
    """A straight line from ``initial`` to ``final``."""

    schedule: Literal["linear"]

    def _fallen(self, part: float) -> float:
        return self.initial + (self.final - self.initial) * part


class InverseSquareRoot(_Keys):
    """``initial`` at the end of the warm-up, then falling with the root of time (Vaswani et al., 2017, 5.3).

    The warm-up is a straight line as in `Cosine`.
    """

    schedule: Literal["inverse_sqrt"]
    initial: Positive
    warmup_epochs: Positive

    def at(self, epoch: float, epochs: int) -> float:
        """Learning rate after ``epoch`` epochs (a fraction within an epoch) of ``epochs``."""
        if epoch < self.warmup_epochs:
            return _warming(self.initial, epoch / self.warmup_epochs)
        return self.initial * math.sqrt(self.warmup_epochs / epoch)


LearningRate = Constant | Step | Cosine | Linear | InverseSquareRoot


def _warming(initial: float, part: float) -> float:
    """The rate in a warm-up of which a ``part`` is over: a straight line from a tenth of ``initial``."""
    return initial * (0.1 + 0.9 * part)


class Normalise(_Keys):
    """Input values x enter as (x - mean) / deviation, 8-bit ones (0..255) as (x / 255 - mean) / deviation."""

    mean: float
    deviation: Positive


class Block(_Keys):
    """A named run of layers; ``$parameter`` stands for a value given where the block is used."""

    parameters: dict[str, Any] = Field(default={}, description="name: default, or null for required")
    layers: list[Any] = Field(min_length=1)

    @field_validator("parameters")
    @classmethod
    def _use_is_taken(cls, parameters: dict[str, Any]) -> dict[str, Any]:
        if "use" in parameters:
            raise ValueError("a parameter cannot be called 'use': that key names the block")
        return parameters


class WorkloadKeys(_Keys):
    """A workload file; ``network`` and the bodies of ``blocks`` are read by the network builder."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    description: str = Field(min_length=1)
    data: str | dict[str, Any] = Field(description="bundled data set, path of an .npz file, or a mapping")
    batch: int = Field(ge=1, le=65536, description="samples per optimiser step")
    epochs: int = Field(ge=1, le=100_000)
    seed: int = Field(default=1, ge=0, lt=2**63)
    normalise: Normalise | None = None
    optimizer: Sgd | Adam = Field(discriminator="kind")
    learning_rate: LearningRate = Field(discriminator="schedule")
    label_smoothing: float = Field(default=0.0, ge=0, lt=1, description="weight spread over all classes")
    clip_norm: float | None = Field(default=None, gt=0, description="largest norm of all gradients together")
    blocks: dict[str, Block] = Field(default={}, description="named runs of layers")
    network: list[Any] = Field(min_length=1)
