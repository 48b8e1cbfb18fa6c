"""Layers that normalise: over a mini-batch, or over the channels of each position."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

from pydantic import Field

from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Formats, Layer, Parameter, Site, passing, tensor, vector_layer_work
from accelsim.operations import LayerWork, VectorWork


def _backward(site: Site, dy: F32, chip: Executor, gradients: Callable[..., tuple[F32, F32, F32]]) -> F32:
    """dL/dx of a normalisation with gamma and beta, whose gradients are handed to the executor."""
    x, mean, inverse = chip.kept(site.name, "normalised")
    dx, dgamma, dbeta = gradients(dy, x, chip.parameter(site.name, "gamma"), mean, inverse)
    chip.add_gradient(site.name, "gamma", dgamma)
    chip.add_gradient(site.name, "beta", dbeta)
    return dx


class BatchNorm(Layer):
    """Batch normalisation over all positions of a channel (Ioffe and Szegedy, ICML 2015).

    The backward pass normalises the kept input again instead of keeping both.
    """

    kind: ClassVar[str] = "batch_norm"
    epsilon: float = Field(default=1e-5, gt=0, description="added to the variance")
    momentum: float = Field(default=0.1, gt=0, le=1, description="weight of a batch in running statistics")

    def parameters(self, site: Site) -> dict[str, Parameter]:
        shape = (site.input_shape[-1],)
        return {
            "gamma": Parameter(shape, "ones"),
            "beta": Parameter(shape, "zeros"),
            "running_mean": Parameter(shape, "zeros", trained=False),
            "running_variance": Parameter(shape, "ones", trained=False),
        }

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        gamma, beta = chip.parameter(site.name, "gamma"), chip.parameter(site.name, "beta")
        if not chip.training:
            inverse = chip.vector.inverse_deviation(
                chip.parameter(site.name, "running_variance"), self.epsilon
            )
            mean = chip.parameter(site.name, "running_mean")
            return chip.vector.batch_norm_fixed(x, gamma, beta, mean, inverse)
        y, mean, variance, inverse = chip.vector.batch_norm(x, gamma, beta, self.epsilon)
        for name, value in (("running_mean", mean), ("running_variance", variance)):
            old = chip.parameter(site.name, name)
            chip.set_statistic(site.name, name, chip.vector.moving_average(old, value, self.momentum))
        chip.keep(site.name, "normalised", (x, mean, inverse))
        return y

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return _backward(site, dy, chip, chip.vector.batch_norm_backward)

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements, channels = batch * site.elements, site.input_shape[-1]
        x, y, dy, dx = passing(site, batch, formats)
        kept = tensor(site, "x kept", elements, formats[site.name].storage, "saved")
        # sum; deviation, square, sum - then normalise: (x - mean) * factor + beta
        forward = [
            VectorWork("batch_norm_statistics", elements, adds=3, multiplies=1),
            VectorWork("batch_norm_apply", elements, adds=2, multiplies=1),
            VectorWork("batch_norm_channels", channels, adds=4, multiplies=6, specials=2),
        ]
        # normalise again; sums of dy and dy*xhat - then dy - mean(dy) - xhat*mean(dy*xhat), scaled
        backward = [
            VectorWork("batch_norm_gradient_sums", elements, adds=3, multiplies=2),
            VectorWork("batch_norm_gradient", elements, adds=3, multiplies=3),
        ]
        return [
            vector_layer_work(self, site, "forward", forward, [x], [y, kept]),
            vector_layer_work(self, site, "backward", backward, [dy, kept], [dx]),
        ]


class LayerNorm(Layer):
    """Normalisation over the channels (the last axis) of each position (Ba et al., arXiv:1607.06450).

    The backward pass normalises the kept input again, from each position's kept mean and deviation.
    """

    kind: ClassVar[str] = "layer_norm"
    epsilon: float = Field(default=1e-5, gt=0, description="added to the variance")

    def parameters(self, site: Site) -> dict[str, Parameter]:
        shape = (site.input_shape[-1],)
        return {"gamma": Parameter(shape, "ones"), "beta": Parameter(shape, "zeros")}

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        gamma, beta = chip.parameter(site.name, "gamma"), chip.parameter(site.name, "beta")
        y, mean, inverse = chip.vector.layer_norm(x, gamma, beta, self.epsilon)
        chip.keep(site.name, "normalised", (x, mean, inverse))
        return y

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return _backward(site, dy, chip, chip.vector.layer_norm_backward)

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements, storage = batch * site.elements, formats[site.name].storage
        positions = elements // site.input_shape[-1]
        x, y, dy, dx = passing(site, batch, formats)
        kept = tensor(site, "x kept", elements, storage, "saved")
        statistics = tensor(site, "statistics", 2 * positions, "fp32", "saved")
        # sum; deviation, square, sum - then (x - mean) * inverse * gamma + beta
        forward = [
            VectorWork("layer_norm_statistics", elements, adds=3, multiplies=1),
            VectorWork("layer_norm_positions", positions, adds=1, multiplies=2, specials=2),
            VectorWork("layer_norm_apply", elements, adds=2, multiplies=2),
        ]
        # normalise again; sums of dy * gamma and of it times xhat for x, of dy and dy * xhat for parameters
        backward = [
            VectorWork("layer_norm_gradient_sums", elements, adds=5, multiplies=4),
            VectorWork("layer_norm_gradient", elements, adds=3, multiplies=4),
        ]
        return [
            vector_layer_work(self, site, "forward", forward, [x], [y, kept, statistics]),
            vector_layer_work(self, site, "backward", backward, [dy, kept, statistics], [dx]),
        ]


class RmsNorm(Layer):
    """x / sqrt(mean square of the channels) * gamma (Zhang and Sennrich, NeurIPS 2019).

    The backward pass normalises the kept input again, from each position's kept factor.
    """

    kind: ClassVar[str] = "rms_norm"
    epsilon: float = Field(default=1e-6, gt=0, description="added to the mean square")

    def parameters(self, site: Site) -> dict[str, Parameter]:
        return {"gamma": Parameter((site.input_shape[-1],), "ones")}

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        y, inverse = chip.vector.rms_norm(x, chip.parameter(site.name, "gamma"), self.epsilon)
        chip.keep(site.name, "normalised", (x, inverse))
        return y

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        x, inverse = chip.kept(site.name, "normalised")
        dx, dgamma = chip.vector.rms_norm_backward(dy, x, chip.parameter(site.name, "gamma"), inverse)
        chip.add_gradient(site.name, "gamma", dgamma)
        return dx

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements, storage = batch * site.elements, formats[site.name].storage
        positions = elements // site.input_shape[-1]
        x, y, dy, dx = passing(site, batch, formats)
        kept = tensor(site, "x kept", elements, storage, "saved")
        factors = tensor(site, "factors", positions, "fp32", "saved")
        forward = [
            VectorWork("rms_norm_squares", elements, adds=1, multiplies=1),
            VectorWork("rms_norm_positions", positions, adds=1, multiplies=1, specials=2),
            VectorWork("rms_norm_apply", elements, multiplies=2),
        ]
        # normalise again; the sums of dy * gamma * xhat for x and of dy * xhat for gamma
        backward = [
            VectorWork("rms_norm_gradient_sums", elements, adds=2, multiplies=4),
            VectorWork("rms_norm_gradient", elements, adds=1, multiplies=4),
        ]
        return [
            vector_layer_work(self, site, "forward", forward, [x], [y, kept, factors]),
            vector_layer_work(self, site, "backward", backward, [dy, kept, factors], [dx]),
        ]


class Scale(Layer):
    """Each channel times a trained number (Touvron et al., ICCV 2021, section 2)."""

    kind: ClassVar[str] = "scale"

    def parameters(self, site: Site) -> dict[str, Parameter]:
        return {"gamma": Parameter((site.input_shape[-1],), "ones")}

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        chip.keep(site.name, "x", x)
        return chip.vector.multiply(x, chip.parameter(site.name, "gamma"))

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        shares = chip.vector.multiply(dy, chip.kept(site.name, "x"))
        chip.add_gradient(site.name, "gamma", chip.vector.column_sums(shares))
        return chip.vector.multiply(dy, chip.parameter(site.name, "gamma"))

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements, storage = batch * site.elements, formats[site.name].storage
        x, y, dy, dx = passing(site, batch, formats)
        kept = tensor(site, "x kept", elements, storage, "saved")
        forward = [VectorWork("scale", elements, multiplies=1)]
        backward = [VectorWork("scale_gradient", elements, adds=1, multiplies=2)]
        return [
            vector_layer_work(self, site, "forward", forward, [x], [y, kept]),
            vector_layer_work(self, site, "backward", backward, [dy, kept], [dx]),
        ]
