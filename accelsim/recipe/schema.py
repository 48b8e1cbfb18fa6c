"""The keys of a recipe: which tensor gets which format, scale rule and rounding."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from accelsim.numerics.formats import number_format
from accelsim.operations import TensorFormats

FormatName = Annotated[str, Field(min_length=1)]
SixteenBit = Literal["dlfloat16", "fp16", "bf16", "fp32"]


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightRule(_Keys):
    """Weights. ``sawb``: clip from first and second moment (Choi et al., SysML 2019), then linear."""

    format: FormatName
    scale: Literal["cast", "sawb"]


class ActivationRule(_Keys):
    """Inputs of GEMMs. ``pact``: a trained clip (Choi et al., 2018), then linear.

    ``initial_clip``: where the clip starts; ``first_batch`` takes ``first_batch_deviations`` times the
    root mean square of the first mini-batch. ``clip_decay``: L2 decay of the clip.
    """

    unsigned_format: FormatName
    signed_format: FormatName
    scale: Literal["cast", "pact"]
    initial_clip: Annotated[float, Field(gt=0)] | Literal["first_batch"] = 8.0
    first_batch_deviations: float = Field(default=3.0, gt=0)
    clip_decay: float = Field(default=0.0, ge=0)


class GradientRule(_Keys):
    """dL/dy as it enters the dL/dx GEMM (``input_format``) and the dL/dW GEMM (``weight_format``).

    ``gradscale``: a power-of-two scale per layer, moved once per step by where the largest gradient
    falls (Sun et al., NeurIPS 2020, section 3.2); it starts where the first mini-batch's largest
    gradient fits.
    """

    input_format: FormatName
    weight_format: FormatName
    scale: Literal["cast", "gradscale"]
    ties: Literal["up", "down"] = "up"


class HighPrecision(_Keys):
    """Layers whose tensors all keep one wider format, unscaled."""

    format: SixteenBit
    layers: tuple[Literal["first", "last", "depthwise"], ...]


class Recipe(_Keys):
    """One training system."""

    name: str = Field(pattern=r"^[a-z0-9_]+$")
    description: str = Field(min_length=1)
    source: str = Field(min_length=1, description="paper and section")
    storage: SixteenBit = Field(description="format of GEMM results and of all tensors of the vector unit")
    master: Literal["fp32", "dlfloat16"] = Field(
        description="format of trained parameters and optimiser state; dlfloat16 rounds stochastically"
    )
    loss_scale: float = Field(default=1.0, gt=0, description="factor on the loss before the backward pass")
    weight: WeightRule
    activation: ActivationRule
    gradient: GradientRule
    high_precision: HighPrecision
    _source_text: str = PrivateAttr(default="")
    _source_name: str = PrivateAttr(default="")

    @property
    def source_text(self) -> str:
        """The file word for word."""
        return self._source_text

    @property
    def source_name(self) -> str:
        """The file's name."""
        return self._source_name

    def low_formats(self, *, nonnegative: bool) -> TensorFormats:
        """Formats of a quantised layer; a nonnegative input gets the unsigned format."""
        rule = self.activation
        return TensorFormats(
            weight=self.weight.format,
            activation=rule.unsigned_format if nonnegative else rule.signed_format,
            gradient_input=self.gradient.input_format,
            gradient_weight=self.gradient.weight_format,
            storage=self.storage,
            master=self.master,
        )

    def high_formats(self) -> TensorFormats:
        """Formats of a layer kept in high precision."""
        wide = self.high_precision.format
        return TensorFormats(wide, wide, wide, wide, self.storage, self.master)


def format_names_used(recipe: Recipe) -> dict[tuple[str, ...], str]:
    """Every format the recipe names, by key path."""
    return {
        ("weight", "format"): recipe.weight.format,
        ("activation", "unsigned_format"): recipe.activation.unsigned_format,
        ("activation", "signed_format"): recipe.activation.signed_format,
        ("gradient", "input_format"): recipe.gradient.input_format,
        ("gradient", "weight_format"): recipe.gradient.weight_format,
    }


def scale_faults(recipe: Recipe) -> dict[tuple[str, ...], str]:
    """Scale rules that do not go with their formats, by key path. The formats' names must be known."""
    return {
        **_weight_faults(recipe.weight),
        **_activation_faults(recipe.activation),
        **_gradient_faults(recipe.gradient),
    }


def _weight_faults(rule: WeightRule) -> dict[tuple[str, ...], str]:
    fmt = number_format(rule.format)
    signed_integer = fmt.kind == "integer" and fmt.signed
    if rule.scale == "sawb" and not signed_integer:
        return {("weight", "scale"): f"'sawb' needs int2, int4 or int8, but the format is {fmt}"}
    if rule.scale == "cast" and fmt.kind == "integer":
        return {("weight", "scale"): f"'cast' does not scale, but the format is {fmt}; {fmt} needs 'sawb'"}
    return {}


def _activation_faults(rule: ActivationRule) -> dict[tuple[str, ...], str]:
    for key in ("unsigned_format", "signed_format"):
        fmt = number_format(getattr(rule, key))
        if rule.scale == "pact" and fmt.kind != "integer":
            return {("activation", "scale"): f"'pact' needs an integer format, but {key} is {fmt}"}
        if rule.scale == "cast" and fmt.kind == "integer":
            return {("activation", "scale"): f"'cast' does not scale, but {key} is {fmt}; {fmt} needs 'pact'"}
    if not number_format(rule.signed_format).signed:
        return {("activation", "signed_format"): f"must be signed, got {rule.signed_format}"}
    return {}


def _gradient_faults(rule: GradientRule) -> dict[tuple[str, ...], str]:
    for key in ("input_format", "weight_format"):
        fmt = number_format(getattr(rule, key))
        if fmt.kind == "integer":
            return {("gradient", key): f"gradients need a floating-point format, got {fmt}"}
        if rule.scale == "gradscale" and fmt.radix != 4:
            return {("gradient", "scale"): f"'gradscale' needs a radix-4 format, but {key} is {fmt}"}
    return {}
