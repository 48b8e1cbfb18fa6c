"""Vector work and tensors of what becomes codes on its way to the array, where a recipe has codes at all."""

from __future__ import annotations

from accelsim.network.layer import Site, mask_tensor, tensor
from accelsim.operations import Tensor, TensorFormats, VectorWork


def has_codes(formats: TensorFormats) -> bool:
    """Whether operands are converted; else the array reads tensors as they are stored."""
    return formats.activation != formats.storage


def has_gradient_codes(formats: TensorFormats) -> bool:
    """Whether gradients are converted; a recipe may narrow the forward pass alone."""
    return formats.gradient_input != formats.storage or formats.gradient_weight != formats.storage


def activation_codes(elements: int) -> VectorWork:
    """Clamp at both ends, scale, convert."""
    return VectorWork("activation_codes", elements, multiplies=1, compares=3)


def activation_clip(elements: int) -> VectorWork:
    """The gradient of the clip, and the mask."""
    return VectorWork("activation_clip", elements, adds=1, compares=1)


def output_scale(elements: int) -> VectorWork:
    """The scales of both operands, applied to a product."""
    return VectorWork("output_scale", elements, multiplies=1)


def gradient_codes(elements: int) -> list[VectorWork]:
    """Scale; maximum for the scale; two conversions of a multiply by 1.6, an exponent and a clamp."""
    return [
        VectorWork("gradient_scale", elements, multiplies=1, compares=1),
        VectorWork("gradient_codes", elements, multiplies=2, compares=4),
    ]


def weight_work(elements: int, formats: TensorFormats) -> list[VectorWork]:
    """A gradient's scale, then |w| and w*w summed, scale, clamp, convert; or the cast of a wide weight."""
    if has_codes(formats):
        codes = VectorWork("weight_codes", elements, adds=2, multiplies=2, compares=4)
        return [output_scale(elements), codes]
    cast = VectorWork("weight_cast", elements, compares=1)
    return [cast] if formats.master != formats.weight else []


def kept_codes(site: Site, elements: int, formats: TensorFormats) -> list[Tensor]:
    """Codes kept for the backward pass, with the mask of their clip."""
    codes = tensor(site, "codes", elements, formats.activation, "saved")
    return [codes, mask_tensor(site, elements)] if has_codes(formats) else [codes]
