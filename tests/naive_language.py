"""Slow twins of the vector unit's functions for language and speech: one float32 scalar after another."""

from __future__ import annotations

import math

import numpy as np
from naive_vector import ONE, ZERO, Scalar, by_channel, column_sums, elementwise, exponential, stored

F = np.float32


def sigmoid(x: Scalar) -> Scalar:
    power = exponential(-np.abs(x))
    return power / (ONE + power) if x < 0 else ONE / (ONE + power)


def tanh(x: Scalar) -> Scalar:
    """Series of the Bernoulli numbers near zero, else by the exponential."""
    if np.abs(x) < F(0.35):
        square, p = x * x, ZERO
        for top, bottom in ((21844, 6081075), (-1382, 155925), (62, 2835), (-17, 315), (2, 15), (-1, 3)):
            p = p * square + F(top / bottom)
        return x + x * (square * p)
    power = exponential(F(-2) * np.abs(x))
    return np.copysign((ONE - power) / (ONE + power), x)


def normal_share(x: Scalar) -> Scalar:
    z = np.abs(x) * F(math.sqrt(0.5))
    t, p = ONE / (ONE + F(0.3275911) * z), ZERO
    for coefficient in (1.061405429, -1.453152027, 1.421413741, -0.284496736, 0.254829592):
        p = p * t + F(coefficient)
    tail = F(0.5) * (p * t) * exponential(-(z * z))
    return tail if x < 0 else ONE - tail


def hard_sigmoid(x: Scalar) -> Scalar:
    value = x * F(1 / 6) + F(0.5)
    return value if np.isnan(value) else F(np.clip(value, ZERO, ONE))


CURVES = {
    "hard_sigmoid": (hard_sigmoid, lambda g, y: g * F(1 / 6) if 0 < y < 1 else ZERO),
    "hard_swish": (
        lambda x: x * hard_sigmoid(x),
        lambda g, x: g * (hard_sigmoid(x) + (x * F(1 / 6) if 0 < hard_sigmoid(x) < 1 else ZERO)),
    ),
    "sigmoid": (sigmoid, lambda g, y: g * (y * (ONE - y))),
    "tanh": (tanh, lambda g, y: g * (ONE - y * y)),
    "gelu": (
        lambda x: x * normal_share(x),
        lambda g, x: (
            g * (normal_share(x) + x * (F(1 / math.sqrt(2 * math.pi)) * exponential(F(-0.5) * (x * x))))
        ),
    ),
    "swish": (
        lambda x: x * sigmoid(x),
        lambda g, x: g * (sigmoid(x) + (x * sigmoid(x)) * (ONE - sigmoid(x))),
    ),
}
"""Function of x, and gradient from dy and what is kept."""


def curve(name: str, x: np.ndarray, storage: str) -> np.ndarray:
    return stored(elementwise(CURVES[name][0], x), storage)


def curve_backward(name: str, dy: np.ndarray, kept: np.ndarray, storage: str) -> np.ndarray:
    return stored(elementwise(CURVES[name][1], dy, kept), storage)


def ordered_sum(terms: list[Scalar]) -> Scalar:
    total = ZERO
    for term in terms:
        total = total + term
    return total


def rms_norm(x: np.ndarray, gamma: np.ndarray, epsilon: float, storage: str) -> tuple[np.ndarray, np.ndarray]:
    rows, share = x.reshape(-1, x.shape[-1]), F(1.0 / x.shape[-1])
    y, inverses = np.zeros_like(rows), []
    for r, row in enumerate(rows):
        inverses.append(ONE / np.sqrt(ordered_sum([value * value for value in row]) * share + F(epsilon)))
        y[r] = [value * inverses[-1] * scale + ZERO for value, scale in zip(row, gamma, strict=True)]
    return stored(y.reshape(x.shape), storage), np.array(inverses, F)


def rms_norm_backward(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, inverse: np.ndarray, storage: str
) -> tuple[np.ndarray, np.ndarray]:
    rows, gradients, share = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1]), F(1.0 / x.shape[-1])
    dx = np.zeros_like(rows)
    for r, (row, gradient) in enumerate(zip(rows, gradients, strict=True)):
        xhat = [value * inverse[r] for value in row]
        g = [d * scale for d, scale in zip(gradient, gamma, strict=True)]
        along = ordered_sum([d * unit for d, unit in zip(g, xhat, strict=True)]) * share
        dx[r] = [(d - unit * along) * inverse[r] for d, unit in zip(g, xhat, strict=True)]
    dgamma = by_channel(rows, lambda r, c: gradients[r, c] * (rows[r, c] * inverse[r]))
    return stored(dx.reshape(x.shape), storage), dgamma


def layer_norm(
    x: np.ndarray, gamma: np.ndarray, beta: np.ndarray, epsilon: float, storage: str
) -> tuple[np.ndarray, ...]:
    rows, share = x.reshape(-1, x.shape[-1]), F(1.0 / x.shape[-1])
    y, means, inverses = np.zeros_like(rows), [], []
    for r, row in enumerate(rows):
        mean = ordered_sum(list(row)) * share
        variance = ordered_sum([(v - mean) * (v - mean) for v in row]) * share
        inverse = ONE / np.sqrt(variance + F(epsilon))
        y[r] = [((v - mean) * inverse) * g + b for v, g, b in zip(row, gamma, beta, strict=True)]
        means.append(mean)
        inverses.append(inverse)
    return stored(y.reshape(x.shape), storage), np.array(means, F), np.array(inverses, F)


def layer_norm_backward(
    dy: np.ndarray, x: np.ndarray, gamma: np.ndarray, mean: np.ndarray, inverse: np.ndarray, storage: str
) -> tuple[np.ndarray, ...]:
    rows, gradients, share = x.reshape(-1, x.shape[-1]), dy.reshape(-1, x.shape[-1]), F(1.0 / x.shape[-1])
    dx = np.zeros_like(rows)
    for r, row in enumerate(rows):
        xhat = [(v - mean[r]) * inverse[r] for v in row]
        inner = [g * scale for g, scale in zip(gradients[r], gamma, strict=True)]
        total = ordered_sum(inner) * share
        projected = ordered_sum([g * h for g, h in zip(inner, xhat, strict=True)]) * share
        dx[r] = [((g - total) - h * projected) * inverse[r] for g, h in zip(inner, xhat, strict=True)]
    dgamma = by_channel(x, lambda r, c: gradients[r, c] * ((rows[r, c] - mean[r]) * inverse[r]))
    return stored(dx.reshape(x.shape), storage), dgamma, column_sums(dy)


def attention_softmax(scores: np.ndarray, factor: float, causal: bool, storage: str) -> np.ndarray:
    p = np.zeros_like(scores)
    for g, q in np.ndindex(*scores.shape[:2]):
        row = [score * F(factor) for score in scores[g, q][: q + 1 if causal else None]]
        powers = [exponential(one - max(row)) for one in row]
        total = ordered_sum(powers)
        p[g, q, : len(row)] = [power / total for power in powers]
    return stored(p, storage)


def attention_softmax_backward(dp: np.ndarray, p: np.ndarray, factor: float, storage: str) -> np.ndarray:
    ds = np.zeros_like(p)
    for g, q in np.ndindex(*p.shape[:2]):
        pairs = list(zip(p[g, q], dp[g, q], strict=True))
        total = ordered_sum([one * change for one, change in pairs])
        ds[g, q] = [(one * (change - total)) * F(factor) for one, change in pairs]
    return stored(ds, storage)


def table_gradient(dy: np.ndarray, ids: np.ndarray, rows: int) -> np.ndarray:
    table = np.zeros((rows, dy.shape[-1]), F)
    for place in np.ndindex(*ids.shape):
        table[int(ids[place])] = table[int(ids[place])] + dy[place]
    return table


def lstm_cell(
    of_input: np.ndarray, of_state: np.ndarray, bias: np.ndarray, before: np.ndarray, storage: str
) -> tuple[np.ndarray, ...]:
    gates, cell, hidden = np.zeros_like(of_input), np.zeros_like(before), np.zeros_like(before)
    features = before.shape[-1]
    for d, n, j in np.ndindex(*before.shape):
        at = [gate * features + j for gate in range(4)]
        sums = [(of_input[d, n, a] + of_state[d, n, a]) + bias[d, a] for a in at]
        i, f, g, o = sigmoid(sums[0]), sigmoid(sums[1]), tanh(sums[2]), sigmoid(sums[3])
        gates[d, n, at] = i, f, g, o
        cell[d, n, j] = f * before[d, n, j] + i * g
        hidden[d, n, j] = o * tanh(cell[d, n, j])
    return stored(gates, storage), stored(cell, storage), stored(hidden, storage)


def lstm_cell_backward(
    dhidden: np.ndarray, dcell: np.ndarray, gates: np.ndarray, before: np.ndarray, cell: np.ndarray,
    storage: str,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    dgates, dbefore, features = np.zeros_like(gates), np.zeros_like(before), before.shape[-1]
    for d, n, j in np.ndindex(*before.shape):
        at = [gate * features + j for gate in range(4)]
        i, f, g, o = gates[d, n, at]
        t, dh = tanh(cell[d, n, j]), dhidden[d, n, j]
        change = dcell[d, n, j] + (dh * o) * (ONE - t * t)
        dgates[d, n, at] = (
            (change * g) * (i * (ONE - i)), (change * before[d, n, j]) * (f * (ONE - f)),
            (change * i) * (ONE - g * g), (dh * t) * (o * (ONE - o)),
        )  # fmt: skip
        dbefore[d, n, j] = change * f
    return stored(dgates, storage), stored(dbefore, storage)
