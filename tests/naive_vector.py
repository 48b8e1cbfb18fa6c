"""The vector unit one scalar at a time: float32 after every operation, every sum in the documented order.

Slow twins, under the same names, of `accelsim.datapath.vector_unit` and of the kernels it has no method
for. Roundings to the storage format come from the oracle, everything else is NumPy's float32 scalars.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence

import numpy as np
from oracles import formats

BLOCK = 256
"""Rows added one after another before the partial sums are added in order."""

Scalar = np.float32
Pair = tuple[int, int]
ONE, ZERO = np.float32(1), np.float32(0)


def stored(values: np.ndarray, storage: str) -> np.ndarray:
    """Each value rounded once to the storage format."""
    if storage == "fp32":
        return values
    flat = [formats.as_float(formats.decode(storage, _code(storage, value))) for value in values.reshape(-1)]
    signed = np.copysign(np.array(flat, np.float32), values.reshape(-1))
    return signed.reshape(values.shape)


def _code(storage: str, value: Scalar) -> int:
    return formats.encode(storage, float(value))


def block_sum(terms: Sequence[Scalar]) -> Scalar:
    """Blocks of `BLOCK` terms in order, then the blocks in order."""
    total = ZERO
    for start in range(0, len(terms), BLOCK):
        partial = ZERO
        for term in terms[start : start + BLOCK]:
            partial = partial + term
        total = total + partial
    return total


def by_channel(x: np.ndarray, term: Callable[[int, int], Scalar]) -> np.ndarray:
    """One `block_sum` per last-axis channel of term(row, channel); leading axes together are the rows."""
    channels = x.shape[-1]
    count = x.size // channels if channels else 0
    sums = [block_sum([term(row, channel) for row in range(count)]) for channel in range(channels)]
    return np.array(sums, np.float32)


def rows_of(x: np.ndarray) -> np.ndarray:
    """All leading axes together."""
    return x.reshape(-1, x.shape[-1])


def elementwise(function: Callable[..., Scalar], *arrays: np.ndarray) -> np.ndarray:
    """function of the elements of arrays of one shape (broadcast along leading axes)."""
    wide = np.broadcast_arrays(*arrays)
    flat = [function(*elements) for elements in zip(*(one.reshape(-1) for one in wide), strict=True)]
    return np.array(flat, np.float32).reshape(wide[0].shape)


def column_sums(x: np.ndarray) -> np.ndarray:
    rows = rows_of(x)
    return by_channel(x, lambda row, channel: rows[row, channel])


def batch_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float, storage: str
) -> tuple[np.ndarray, ...]:
    rows = rows_of(x)
    share = np.float32(1.0 / len(rows))
    mean = elementwise(lambda total: total * share, column_sums(x))
    squares = by_channel(x, lambda r, c: (rows[r, c] - mean[c]) * (rows[r, c] - mean[c]))
    variance = elementwise(lambda total: total * share, squares)
    inverse = inverse_deviation(variance, epsilon)
    return batch_norm_fixed(x, gamma, beta, mean, inverse, storage), mean, variance, inverse


def batch_norm_fixed(
    x: np.ndarray,
    gamma: np.ndarray,
    beta: np.ndarray,
    mean: np.ndarray,
    inverse: np.ndarray,
    storage: str,
) -> np.ndarray:
    y = elementwise(lambda v, g, b, m, i: (v - m) * (i * g) + b, x, gamma, beta, mean, inverse)
    return stored(y, storage)


def batch_norm_backward(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, inverse: np.ndarray, storage: str
) -> tuple[np.ndarray, ...]:
    rows, gradient = rows_of(x), rows_of(dy)
    share = np.float32(1.0 / len(rows))
    dbeta = column_sums(dy)
    dgamma = by_channel(x, lambda r, c: gradient[r, c] * ((rows[r, c] - mean[c]) * inverse[c]))

    def one(g: Scalar, v: Scalar, m: Scalar, i: Scalar, scale: Scalar, db: Scalar, dg: Scalar) -> Scalar:
        xhat = (v - m) * i
        return ((g - db * share) - xhat * (dg * share)) * (i * scale)

    return stored(elementwise(one, dy, x, mean, inverse, gamma, dbeta, dgamma), storage), dgamma, dbeta


def inverse_deviation(variance: np.ndarray, epsilon: float) -> np.ndarray:
    return elementwise(lambda v: ONE / np.sqrt(v + np.float32(epsilon)), variance)


def moving_average(old: np.ndarray, new: np.ndarray, momentum: float) -> np.ndarray:
    return elementwise(lambda o, n: o + np.float32(momentum) * (n - o), old, new)


def _places(y_shape: tuple[int, ...]) -> Iterable[tuple[int, int, int, int]]:
    return itertools.product(*map(range, y_shape))


def _pooled(x_shape: tuple[int, ...], size: Pair, stride: Pair) -> tuple[int, int, int, int]:
    n, height, width, channels = x_shape
    return n, (height - size[0]) // stride[0] + 1, (width - size[1]) // stride[1] + 1, channels


def max_pool(x: np.ndarray, size: Pair, stride: Pair) -> tuple[np.ndarray, np.ndarray]:
    y = np.zeros(_pooled(x.shape, size, stride), np.float32)
    places = np.zeros(y.shape, np.uint8)
    for i, r, s, c in _places(y.shape):
        window = [
            x[i, r * stride[0] + p, s * stride[1] + q, c] for p in range(size[0]) for q in range(size[1])
        ]
        y[i, r, s, c] = max(window)
        places[i, r, s, c] = window.index(max(window))
    return y, places


def max_pool_backward(
    dy: np.ndarray, places: np.ndarray, shape: tuple[int, ...], size: Pair, stride: Pair, storage: str
) -> np.ndarray:
    dx = np.zeros(shape, np.float32)
    for i, r, s, c in _places(dy.shape):
        p, q = divmod(int(places[i, r, s, c]), size[1])
        dx[i, r * stride[0] + p, s * stride[1] + q, c] += dy[i, r, s, c]
    return stored(dx, storage)


def average_pool(
    x: np.ndarray, size: Pair, stride: Pair, storage: str, counts: np.ndarray | None = None
) -> np.ndarray:
    y = np.zeros(_pooled(x.shape, size, stride), np.float32)
    for i, r, s, c in _places(y.shape):
        total = ZERO
        for p, q in itertools.product(range(size[0]), range(size[1])):
            total = total + x[i, r * stride[0] + p, s * stride[1] + q, c]
        y[i, r, s, c] = total * np.float32(1.0 / (size[0] * size[1] if counts is None else counts[r, s]))
    return stored(y, storage)


def average_pool_backward(
    dy: np.ndarray, shape: tuple[int, ...], size: Pair, stride: Pair, storage: str,
    counts: np.ndarray | None = None,
) -> np.ndarray:  # fmt: skip
    dx = np.zeros(shape, np.float32)
    for i, r, s, c in _places(dy.shape):
        elements = size[0] * size[1] if counts is None else counts[r, s]
        share = dy[i, r, s, c] * np.float32(1.0 / elements)
        for p, q in itertools.product(range(size[0]), range(size[1])):
            dx[i, r * stride[0] + p, s * stride[1] + q, c] += share
    return stored(dx, storage)


def exponential(x: Scalar) -> Scalar:
    """2**n times the degree-7 Taylor polynomial of the rest, Horner's rule, ln 2 in two parts."""
    if x < np.float32(-87.0):
        return ZERO
    n = np.rint(x * np.float32(1.44269504))
    rest = (x - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
    result = np.float32(1.0 / 5040.0)
    for coefficient in (1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0):
        result = result * rest + np.float32(coefficient)
    return result * np.float32(2.0 ** int(n))


def softmax(logits: np.ndarray) -> np.ndarray:
    rows = []
    for row in logits:
        powers = [exponential(logit - max(row)) for logit in row]
        total = ZERO
        for power in powers:
            total = total + power
        rows.append([power / total for power in powers])
    return np.array(rows, np.float32).reshape(logits.shape)


def cross_entropy_gradient(
    probabilities: np.ndarray, labels: np.ndarray, loss_scale: float, storage: str, smoothing: float = 0.0
) -> np.ndarray:
    factor = np.float32(loss_scale / (len([label for label in labels if label >= 0]) or 1))
    gradient = probabilities.copy()
    spread = np.float32(smoothing / probabilities.shape[1])
    for r, c in np.ndindex(*probabilities.shape):
        one_hot = np.float32(1 - smoothing) if labels[r] == c else ZERO
        gradient[r, c] = ((probabilities[r, c] - spread) - one_hot) * factor if labels[r] >= 0 else ZERO
    return stored(gradient, storage)


def sgd_step(
    weight: np.ndarray, gradient: np.ndarray, velocity: np.ndarray, rate: Scalar, momentum: Scalar,
    decay: Scalar, factor: Scalar,
) -> None:  # fmt: skip
    for i in range(weight.size):
        velocity[i] = momentum * velocity[i] + (gradient[i] * factor + decay * weight[i])
        weight[i] = weight[i] - rate * velocity[i]


def adam_step(
    weight: np.ndarray, gradient: np.ndarray, first: np.ndarray, second: np.ndarray, rate: Scalar,
    beta1: Scalar, beta2: Scalar, correction1: Scalar, correction2: Scalar, epsilon: Scalar, decay: Scalar,
    factor: Scalar,
) -> None:  # fmt: skip
    for i in range(weight.size):
        g = gradient[i] * factor + decay * weight[i]
        first[i] = beta1 * first[i] + (ONE - beta1) * g
        second[i] = beta2 * second[i] + (ONE - beta2) * (g * g)
        root = np.sqrt(second[i] * correction2) + epsilon
        weight[i] = weight[i] - rate * ((first[i] * correction1) / root)
