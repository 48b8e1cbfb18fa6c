"""`network.Executor` in plain float64 loops: nothing is rounded, no chip, no code of the datapath."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from accelsim.network import Blend, Leaf, Operand
from accelsim.operations import Gemm, TensorFormats

Pair = tuple[int, int]
FORMATS = TensorFormats("fp32", "fp32", "fp32", "fp32", "fp32", "fp32")
QUANTISED = TensorFormats("int4", "uint4", "fp4_r4_even", "fp4_r4_odd", "dlfloat16", "fp32")


def everywhere(formats: TensorFormats) -> Mapping[str, TensorFormats]:
    """The same formats at every site."""
    return defaultdict(lambda: formats)


def key_of(layer: str, name: str) -> tuple[str, str]:
    """The key of a parameter: a weight of a site within a layer is that site's ``weight``."""
    site, _, last = f"{layer}.{name}".rpartition(".")
    return site, last


def _pooled(shape: tuple[int, ...], size: Pair, stride: Pair) -> tuple[int, int, int, int]:
    n, height, width, channels = shape
    return n, (height - size[0]) // stride[0] + 1, (width - size[1]) // stride[1] + 1, channels


def _windows(shape: tuple[int, ...], size: Pair, stride: Pair) -> Iterator[tuple[Any, Any]]:
    """(index of the output, slice of the input) of every window of every image and channel."""
    for image, row, col, channel in np.ndindex(*_pooled(shape, size, stride)):
        down = slice(row * stride[0], row * stride[0] + size[0])
        across = slice(col * stride[1], col * stride[1] + size[1])
        yield (image, row, col, channel), (image, down, across, channel)


def _matrix(blend: Blend, extent: int) -> Any:
    """What each output takes of each input."""
    found = np.zeros((len(blend.share), extent))
    for output, (first, second, share) in enumerate(zip(blend.first, blend.second, blend.share, strict=True)):
        found[output, first] += 1 - share
        found[output, second] += share
    return found


def _sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


def _normal(x: float) -> float:
    return 0.5 * (1 + math.erf(x / math.sqrt(2)))


CURVES: dict[str, tuple[Any, Any]] = {
    "sigmoid": (_sigmoid, lambda y: y * (1 - y)),
    "tanh": (math.tanh, lambda y: 1 - y * y),
    "gelu": (
        lambda x: x * _normal(x),
        lambda x: _normal(x) + x * math.exp(-x * x / 2) / math.sqrt(2 * math.pi),
    ),
    "hard_sigmoid": (lambda x: min(max(x / 6 + 0.5, 0), 1), lambda y: 1 / 6 if 0 < y < 1 else 0),
    "hard_swish": (
        lambda x: x * min(max(x / 6 + 0.5, 0), 1),
        lambda x: x / 3 + 0.5 if abs(x) < 3 else float(x > 0),
    ),
    "swish": (lambda x: x * _sigmoid(x), lambda x: _sigmoid(x) * (1 + x * (1 - _sigmoid(x)))),
}
"""Function and derivative; of what the layer keeps: y of sigmoids and tanh, x of the others."""


class PlainVectorUnit:
    """The vector unit's functions as the textbook has them."""

    def add(self, x: Any, y: Any) -> Any:
        return x + y

    def add_bias(self, x: Any, bias: Any) -> Any:
        return x + bias

    def column_sums(self, x: Any) -> Any:
        return x.reshape(-1, x.shape[-1]).sum(axis=0)

    def relu(self, x: Any) -> Any:
        return x * (x > 0)

    def multiply(self, x: Any, y: Any) -> Any:
        return x * y

    def relu6(self, x: Any) -> Any:
        return np.clip(x, 0, 6)

    def curve(self, name: str, x: Any) -> Any:
        return np.vectorize(CURVES[name][0])(x)

    def curve_backward(self, name: str, dy: Any, kept: Any) -> Any:
        return dy * np.vectorize(CURVES[name][1])(kept)

    def masked(self, dy: Any, mask: Any) -> Any:
        return dy * mask

    def scaled_mask(self, x: Any, mask: Any, factor: float) -> Any:
        return x * mask * factor

    def layer_norm(self, x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
        mean = x.mean(axis=-1, keepdims=True)
        inverse = 1 / np.sqrt(((x - mean) ** 2).mean(axis=-1, keepdims=True) + epsilon)
        return (x - mean) * inverse * gamma + beta, mean, inverse

    def layer_norm_backward(
        self, dy: Any, x: Any, gamma: Any, mean: Any, inverse: Any
    ) -> tuple[Any, Any, Any]:
        """dx = the Jacobian of one row times dy * gamma, written out: (I - 1/c - xhat xhat^T/c) * inverse."""
        channels = x.shape[-1]
        rows, gradients = x.reshape(-1, channels), dy.reshape(-1, channels)
        means, inverses = mean.reshape(-1), inverse.reshape(-1)
        dx, dgamma = np.zeros(rows.shape), np.zeros(channels)
        for r in range(len(rows)):
            xhat = (rows[r] - means[r]) * inverses[r]
            jacobian = np.eye(channels) - 1 / channels - np.outer(xhat, xhat) / channels
            dx[r] = jacobian.dot(gradients[r] * gamma) * inverses[r]
            dgamma += gradients[r] * xhat
        return dx.reshape(x.shape), dgamma, gradients.sum(axis=0)

    def rms_norm(self, x: Any, gamma: Any, epsilon: float) -> tuple[Any, Any]:
        inverse = 1 / np.sqrt((x**2).mean(axis=-1, keepdims=True) + epsilon)
        return x * inverse * gamma, inverse

    def rms_norm_backward(self, dy: Any, x: Any, gamma: Any, inverse: Any) -> tuple[Any, Any]:
        """dx = (I - xhat xhat^T / c) * inverse, the Jacobian of one row, times dy * gamma."""
        channels = x.shape[-1]
        rows, gradients, factors = x.reshape(-1, channels), dy.reshape(-1, channels), inverse.reshape(-1)
        dx, dgamma = np.zeros(rows.shape), np.zeros(channels)
        for r in range(len(rows)):
            xhat = rows[r] * factors[r]
            dx[r] = (np.eye(channels) - np.outer(xhat, xhat) / channels).dot(gradients[r] * gamma) * factors[
                r
            ]
            dgamma += gradients[r] * xhat
        return dx.reshape(x.shape), dgamma

    def resample(self, x: Any, down: Blend, across: Blend) -> Any:
        return np.einsum("oh,nhwc,pw->nopc", _matrix(down, x.shape[1]), x, _matrix(across, x.shape[2]))

    def resample_backward(self, dy: Any, shape: tuple[int, ...], down: Blend, across: Blend) -> Any:
        return np.einsum("oh,nopc,pw->nhwc", _matrix(down, shape[1]), dy, _matrix(across, shape[2]))

    def inverse_deviation(self, variance: Any, epsilon: float) -> Any:
        return 1 / np.sqrt(variance + epsilon)

    def batch_norm(self, x: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any, Any]:
        rows = x.reshape(-1, x.shape[-1])
        mean = rows.mean(axis=0)
        variance = ((rows - mean) ** 2).mean(axis=0)
        inverse = self.inverse_deviation(variance, epsilon)
        return self.batch_norm_fixed(x, gamma, beta, mean, inverse), mean, variance, inverse

    def batch_norm_fixed(self, x: Any, gamma: Any, beta: Any, mean: Any, inverse: Any) -> Any:
        return (x - mean) * inverse * gamma + beta

    def batch_norm_backward(
        self, dy: Any, x: Any, gamma: Any, mean: Any, inverse: Any
    ) -> tuple[Any, Any, Any]:
        """The three paths of the chain rule, one by one: through x, the variance and the mean."""
        rows, dy_rows = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1])
        dnormal = dy_rows * gamma
        dvariance = (dnormal * (rows - mean)).sum(axis=0) * -0.5 * inverse**3
        dmean = -(dnormal * inverse).sum(axis=0)
        dx = dnormal * inverse + dvariance * 2 * (rows - mean) / len(rows) + dmean / len(rows)
        return dx.reshape(x.shape), (dy_rows * (rows - mean) * inverse).sum(axis=0), dy_rows.sum(axis=0)

    def moving_average(self, old: Any, new: Any, momentum: float) -> Any:
        return (1 - momentum) * old + momentum * new

    def table_rows(self, table: Any, ids: Any) -> Any:
        return table[ids.astype(int)]

    def table_gradient(self, dy: Any, ids: Any, rows: int) -> Any:
        hot = np.eye(rows)[ids.astype(int)].reshape(-1, rows)
        return hot.T @ dy.reshape(len(hot), -1)

    def attention_softmax(self, scores: Any, factor: float, causal: bool) -> Any:
        seen = np.tril(np.ones(scores.shape[1:])) if causal else np.ones(scores.shape[1:])
        powers = np.exp(scores * factor) * seen
        return powers / powers.sum(axis=-1, keepdims=True)

    def attention_softmax_backward(self, dp: Any, p: Any, factor: float) -> Any:
        """The Jacobian of each row, diag(p) - p p^T, times dp."""
        ds = np.zeros(p.shape)
        for g, q in np.ndindex(*p.shape[:2]):
            row = p[g, q]
            ds[g, q] = (np.diag(row) - np.outer(row, row)).dot(dp[g, q]) * factor
        return ds

    def lstm_cell(self, of_input: Any, of_state: Any, bias: Any, before: Any) -> tuple[Any, Any, Any]:
        i, f, g, o = np.split(of_input + of_state + bias[:, None], 4, axis=-1)
        i, f, o = (np.vectorize(_sigmoid)(gate) for gate in (i, f, o))
        g = np.tanh(g)
        cell = f * before + i * g
        return np.concatenate([i, f, g, o], axis=-1), cell, o * np.tanh(cell)

    def lstm_cell_backward(
        self, dhidden: Any, dcell: Any, gates: Any, before: Any, cell: Any
    ) -> tuple[Any, Any]:
        i, f, g, o = np.split(gates, 4, axis=-1)
        dcell = dcell + dhidden * o * (1 - np.tanh(cell) ** 2)
        inner = [dcell * g, dcell * before, dcell * i, dhidden * np.tanh(cell)]
        slopes = [i * (1 - i), f * (1 - f), 1 - g**2, o * (1 - o)]
        pairs = zip(inner, slopes, strict=True)
        return np.concatenate([a * b for a, b in pairs], axis=-1), dcell * f

    def max_pool(self, x: Any, size: Pair, stride: Pair) -> tuple[Any, Any]:
        y = np.zeros(_pooled(x.shape, size, stride))
        places = np.zeros(y.shape, np.uint8)
        for output, window in _windows(x.shape, size, stride):
            y[output], places[output] = x[window].max(), x[window].argmax()
        return y, places

    def max_pool_backward(
        self, dy: Any, places: Any, shape: tuple[int, ...], size: Pair, stride: Pair
    ) -> Any:
        dx = np.zeros(shape)
        for output, window in _windows(shape, size, stride):
            dx[window][divmod(places[output], size[1])] += dy[output]
        return dx

    def average_pool(self, x: Any, size: Pair, stride: Pair, counts: Any = None) -> Any:
        y = np.zeros(_pooled(x.shape, size, stride))
        for output, window in _windows(x.shape, size, stride):
            y[output] = x[window].sum() / (x[window].size if counts is None else counts[output[1:3]])
        return y

    def average_pool_backward(
        self, dy: Any, shape: tuple[int, ...], size: Pair, stride: Pair, counts: Any = None
    ) -> Any:
        dx = np.zeros(shape)
        for output, window in _windows(shape, size, stride):
            dx[window] += dy[output] / (dx[window].size if counts is None else counts[output[1:3]])
        return dx


class PlainExecutor:
    """Holds float64 parameters, gradients and what is kept, and notes every GEMM it is asked for."""

    def __init__(self, leaves: list[Leaf], seed: int = 0, formats: TensorFormats = FORMATS) -> None:
        self.vector = PlainVectorUnit()
        self.training = True
        self.parameters: dict[tuple[str, str], Any] = {}
        self.gradients_found: dict[tuple[str, str], Any] = {}
        self.executed: list[Gemm] = []
        self._formats = formats
        self._kept: dict[tuple[str, str], Any] = {}
        self._shared: dict[str, Any] = {}
        random = np.random.default_rng(seed)
        for leaf in leaves:
            for name, parameter in leaf.layer.parameters(leaf.site).items():
                drawn = random.normal(size=parameter.shape)
                self.parameters[key_of(leaf.site.name, name)] = (
                    drawn if parameter.trained else np.abs(drawn) + 0.5
                )

    def formats(self, layer: str) -> TensorFormats:
        return self._formats

    def parameter(self, layer: str, name: str) -> Any:
        return self.parameters[key_of(layer, name)]

    def set_statistic(self, layer: str, name: str, value: Any) -> None:
        self.parameters[layer, name] = value

    def keep(self, layer: str, name: str, value: Any) -> None:
        self._kept[layer, name] = value

    def kept(self, layer: str, name: str) -> Any:
        return self._kept[layer, name]

    def add_gradient(self, layer: str, name: str, value: Any) -> None:
        key = key_of(layer, name)
        assert value.shape == self.parameters[key].shape
        self.gradients_found[key] = self.gradients_found.get(key, 0) + value

    def dropout_mask(self, layer: str, shape: tuple[int, ...], rate: float) -> Any:
        """The same at every call, so that finite differences see one function."""
        return np.random.default_rng(len(layer)).random(shape) >= rate

    def share(self, name: str, value: Any) -> None:
        self._shared[name] = value

    def shared(self, name: str) -> Any:
        return self._shared[name]

    def weight(
        self, layer: str, shape: tuple[int, ...], parameter: str = "weight", owner: str | None = None
    ) -> Operand:
        return Operand(self.parameter(owner or layer, parameter).reshape(shape), self._formats.weight)

    def activation(self, layer: str, x: Any, *, remember: bool = True) -> Operand:
        return Operand(x, self._formats.activation)

    def activation_backward(self, layer: str, dx: Any) -> Any:
        return dx

    def gradients(self, layer: str, dy: Any) -> tuple[Operand, Operand]:
        return Operand(dy, self._formats.gradient_input), Operand(dy, self._formats.gradient_weight)

    def multiply(self, gemm: Gemm, a: Operand, b: Operand) -> Any:
        if a.array.ndim == 3:
            assert len(a.array) == len(b.array) == gemm.groups
            pairs = zip(a.array, b.array, strict=True)
            return np.stack([self.multiply(gemm, a.rearranged(x), b.rearranged(y)) for x, y in pairs])
        assert a.array.shape == (gemm.m, gemm.k)
        assert b.array.shape == (gemm.k, gemm.n)
        assert (a.format, b.format) == (gemm.a_format, gemm.b_format)
        self.executed.append(gemm)
        return np.einsum("mk,kn->mn", a.array, b.array)
