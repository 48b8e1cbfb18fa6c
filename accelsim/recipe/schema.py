"""The keys of a recipe: which tensor gets which format, scale rule and rounding, in which layers."""

from __future__ import annotations

import re
from collections.abc import Collection
from fnmatch import fnmatchcase
from typing import Annotated, Literal, TypeVar

from pydantic import AfterValidator, Field, field_validator, model_validator

from accelsim.operations import TensorFormats
from accelsim.recipe.rules import ActivationRule, GradientRule, Keys, SiteRules, WeightRule
from accelsim.yamlfile import FromFile

LayerKind = Literal[
    "first", "last", "depthwise", "pointwise", "conv2d", "linear", "attention", "cross_attention", "lstm",
    "embedding", "unembedding",
]  # fmt: skip
"""Kinds a rule may name. ``first``, ``last``: of the layers with weights; ``pointwise``: 1x1 convolutions."""

SiteKind = Literal[
    "first", "last", "depthwise", "pointwise", "conv2d", "linear", "attention", "cross_attention", "lstm",
    "embedding", "unembedding", "probabilities",
]  # fmt: skip
"""`LayerKind`, and the one place in a layer that is a kind of its own: the probabilities of an attention."""

_WIDE = ("dlfloat16", "fp16", "bf16", "fp32")


def _wide(name: str) -> str:
    if name not in _WIDE and not re.fullmatch(r"fixed16_\d\d?_\d\d?", name, re.ASCII):
        raise ValueError(f"must be one of {', '.join(_WIDE)} or fixed16_<IL>_<FL>, got '{name}'")
    return name


WideFormat = Annotated[str, AfterValidator(_wide)]
_Rule = TypeVar("_Rule", WeightRule, ActivationRule, GradientRule)


class HighPrecision(Keys):
    """Layers whose tensors all keep one wider format, unscaled."""

    format: WideFormat
    layers: tuple[LayerKind, ...]


class DynamicLossScale(Keys):
    """A power-of-two loss scale that moves: halved, and the step skipped, where a gradient overflows,
    doubled every ``growth_interval`` steps (Micikevicius et al., ICLR 2018, section 3.2)."""

    initial: float = Field(gt=0, description="a power of two")
    growth_interval: int = Field(ge=1, description="steps from one doubling to the next")

    @model_validator(mode="after")
    def _is_a_power_of_two(self) -> DynamicLossScale:
        if self.initial.hex().split("p")[0] != "0x1.0000000000000":
            raise ValueError(f"'initial' must be a power of two, got {self.initial:g}")
        return self


class Override(Keys):
    """Other rules for some layers: those of a kind in ``kinds`` and a name in ``names`` within ``depth``.

    ``kinds``, ``names`` (``*`` stands for any letters): empty fits all. ``depth``: from .. to, 0 being the
    first layer with weights and 1 the last. Roles that are not given keep their rule.
    """

    kinds: tuple[SiteKind, ...] = ()
    names: tuple[str, ...] = ()
    depth: tuple[Annotated[float, Field(ge=0, le=1)], Annotated[float, Field(ge=0, le=1)]] = (0.0, 1.0)
    weight: WeightRule | None = None
    activation: ActivationRule | None = None
    gradient: GradientRule | None = None

    @field_validator("depth")
    @classmethod
    def _goes_deeper(cls, depth: tuple[float, float]) -> tuple[float, float]:
        if depth[0] > depth[1]:
            raise ValueError(f"must go from a lower to a higher number, got {depth[0]:g}, {depth[1]:g}")
        return depth

    @model_validator(mode="after")
    def _says_something(self) -> Override:
        if self.weight is None and self.activation is None and self.gradient is None:
            raise ValueError("needs at least one of 'weight', 'activation', 'gradient'")
        return self

    def fits(self, names: Collection[str], kinds: Collection[str], depth: float) -> bool:
        """Whether a layer is meant."""
        named = (fnmatchcase(name, pattern) for name in names for pattern in self.names)
        return (
            (not self.kinds or any(kind in kinds for kind in self.kinds))
            and (not self.names or any(named))
            and self.depth[0] <= depth <= self.depth[1]
        )


class Recipe(FromFile, Keys):
    """One training system."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    description: str = Field(min_length=1)
    source: str = Field(min_length=1, description="paper and section")
    storage: WideFormat = Field(description="format of GEMM results and of all tensors of the vector unit")
    master: WideFormat = Field(description="format of trained parameters and optimiser state")
    master_rounding: Literal["stochastic", "nearest"] = Field(
        default="stochastic", description="how an update is rounded to a master format other than fp32"
    )
    loss_scale: Annotated[float, Field(gt=0, le=2.0**48)] | DynamicLossScale = Field(
        default=1.0, description="factor on the loss before the backward pass"
    )
    weight: WeightRule
    activation: ActivationRule
    gradient: GradientRule
    high_precision: HighPrecision
    overrides: tuple[Override, ...] = ()

    def rules(
        self, names: Collection[str], kinds: Collection[str], depth: float, *, nonnegative: bool
    ) -> SiteRules:
        """The rules of a quantised site; later overrides win, a nonnegative input gets the unsigned format.

        ``names``: of the site and its layer; ``kinds``: all words of `SiteKind` that fit; ``depth``: 0
        (first) to 1 (last layer with weights).
        """
        fitting = [one for one in self.overrides if one.fits(names, kinds, depth)]
        weight = _last(self.weight, [one.weight for one in fitting])
        activation = _last(self.activation, [one.activation for one in fitting])
        gradient = _last(self.gradient, [one.gradient for one in fitting])
        formats = TensorFormats(
            weight=weight.format,
            activation=activation.unsigned_format if nonnegative else activation.signed_format,
            gradient_input=gradient.input_format,
            gradient_weight=gradient.weight_format,
            storage=self.storage,
            master=self.master,
        )
        return SiteRules(weight, activation, gradient, formats)

    def wide_rules(self) -> SiteRules:
        """The rules of a layer kept in high precision: one format, no scales."""
        wide = self.high_precision.format
        return SiteRules(
            WeightRule(format=wide, scale="cast"),
            ActivationRule(unsigned_format=wide, signed_format=wide, scale="cast"),
            GradientRule(input_format=wide, weight_format=wide, scale="cast"),
            TensorFormats(wide, wide, wide, wide, self.storage, self.master),
        )


def _last(rule: _Rule, others: list[_Rule | None]) -> _Rule:
    for other in others:
        rule = other or rule
    return rule
