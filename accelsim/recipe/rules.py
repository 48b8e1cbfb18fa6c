"""The rules of one place where operands enter the array: format, scale and rounding of each role."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

from accelsim.operations import TensorFormats

FormatName = Annotated[str, Field(min_length=1)]
PositiveNumber = Annotated[float, Field(gt=0)]
RoundingName = Literal["format", "nearest_even", "nearest_up", "nearest_down", "toward_zero", "stochastic"]


class Keys(BaseModel):
    """A frozen part of a recipe file."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class WeightRule(Keys):
    """Weights.

    ``scale``: ``cast`` none; ``sawb`` clip from first and second moment (Choi et al., SysML 2019), then
    linear; ``max`` the largest magnitude falls on the largest code, anew each time; ``max_power`` the same
    to the next power of two; ``block`` that of a block format. ``square``: blocks are squares, so that a
    weight has the same values in the forward and the backward product (NVIDIA, 2025, NVFP4).
    """

    format: FormatName
    scale: Literal["cast", "sawb", "max", "max_power", "block"]
    rounding: RoundingName = "format"
    square: bool = False


class ActivationRule(Keys):
    """Inputs of GEMMs. ``pact``: a trained clip (Choi et al., 2018), then linear; ``rms``: a clip at so many
    ``deviations`` (signed, unsigned) from zero, but not above the largest magnitude, anew each time, then
    linear; ``pact_rms``: both, a clip of so many deviations of the values at hand, whose number starts at
    ``deviations`` and is trained; else as in `WeightRule`. Beyond a clip that is not trained the gradient
    passes.

    ``initial_clip``: where the clip of ``pact`` starts; ``first_batch`` takes ``first_batch_deviations``
    times the root mean square of the first mini-batch. ``clip_decay``: L2 decay of a trained clip.
    """

    unsigned_format: FormatName
    signed_format: FormatName
    scale: Literal["cast", "pact", "pact_rms", "rms", "max", "max_power", "block"]
    rounding: RoundingName = "format"
    deviations: tuple[PositiveNumber, PositiveNumber] = (2.5, 3.8)
    initial_clip: Annotated[float, Field(gt=0)] | Literal["first_batch"] = 8.0
    first_batch_deviations: float = Field(default=3.0, gt=0)
    clip_decay: float = Field(default=0.0, ge=0)


class GradientRule(Keys):
    """dL/dy as it enters the dL/dx GEMM (``input_format``) and the dL/dW GEMM (``weight_format``).

    ``gradscale``: a power-of-two scale, moved once per step by where the largest gradient falls (Sun et
    al., NeurIPS 2020, section 3.2); it starts where the first mini-batch's largest gradient fits.
    ``scope``: one such scale for each layer, or one for the whole network. Else as in `WeightRule`.
    ``ties``: of ``rounding: format`` in radix 4. ``threshold``: in radix 4 a magnitude becomes 4**n from
    4**n / threshold on; 1.6 is the arithmetic middle, 2 the middle of the logarithms.
    ``samples``: the dL/dW GEMM is computed on that many independent stochastic roundings and averaged
    (Chmiel et al., ICLR 2023). ``hadamard``: both operands of the dL/dW GEMM pass a random Hadamard
    transform of 16 neighbours along its inner axis (block formats only; NVIDIA, 2025).
    """

    input_format: FormatName
    weight_format: FormatName
    scale: Literal["cast", "gradscale", "max", "max_power", "block"]
    rounding: RoundingName = "format"
    ties: Literal["up", "down"] = "up"
    threshold: float = Field(default=1.6, ge=1, le=4)
    scope: Literal["layer", "network"] = "layer"
    samples: int = Field(default=1, ge=1, le=16)
    hadamard: bool = False


@dataclass(frozen=True)
class SiteRules:
    """What a recipe says about one place: the rule of each role, and the formats that follow."""

    weight: WeightRule
    activation: ActivationRule
    gradient: GradientRule
    formats: TensorFormats
