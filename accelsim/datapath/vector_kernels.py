"""Kernels of the vector unit: float32 inside, no contraction, every sum in a fixed order.

Tensors are (rows, c) or (n, h, w, c), C-contiguous. A reduction over rows adds `SUM_BLOCK` rows one
after another, then the partial sums in order, whatever the number of threads.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from accelsim.numerics.compiled import kernel
from accelsim.numerics.quantise import SUM_BLOCK

_SIDE = 4
"""Blocks of rows summed side by side, so that an add need not wait for the one before it."""


@kernel()
def add_partials(partial: Any) -> Any:
    """Sums of blocks of rows, added in order: (blocks, c) -> (c,)."""
    total = np.zeros(partial.shape[1], np.float32)
    for block in range(partial.shape[0]):
        for c in range(partial.shape[1]):
            total[c] += partial[block, c]
    return total


@kernel(parallel=True)
def column_sums(x: Any) -> Any:
    """(rows, c) -> (c,)."""
    rows, channels = x.shape
    blocks = -(-rows // SUM_BLOCK)
    partial = np.zeros((blocks, channels), np.float32)
    for group in prange(-(-blocks // _SIDE)):
        for r in range(SUM_BLOCK):
            for block in range(group * _SIDE, min((group + 1) * _SIDE, blocks)):
                row = block * SUM_BLOCK + r
                if row < rows:
                    for c in range(channels):
                        partial[block, c] += x[row, c]
    return add_partials(partial)


@kernel(parallel=True)
def square_sums(x: Any, mean: Any) -> Any:
    """Sums of (x - mean)**2 over rows: (rows, c) -> (c,)."""
    rows, channels = x.shape
    blocks = -(-rows // SUM_BLOCK)
    partial = np.zeros((blocks, channels), np.float32)
    for group in prange(-(-blocks // _SIDE)):
        for r in range(SUM_BLOCK):
            for block in range(group * _SIDE, min((group + 1) * _SIDE, blocks)):
                row = block * SUM_BLOCK + r
                if row < rows:
                    for c in range(channels):
                        deviation = x[row, c] - mean[c]
                        partial[block, c] += deviation * deviation
    return add_partials(partial)


@kernel(parallel=True)
def gradient_sums(dy: Any, x: Any, mean: Any, inverse: Any) -> Any:
    """Sums over rows of dy, and of dy * (x - mean) * inverse: (rows, c) -> (c,), (c,)."""
    rows, channels = x.shape
    blocks = -(-rows // SUM_BLOCK)
    plain, weighted = np.zeros((blocks, channels), np.float32), np.zeros((blocks, channels), np.float32)
    for group in prange(-(-blocks // _SIDE)):
        for r in range(SUM_BLOCK):
            for block in range(group * _SIDE, min((group + 1) * _SIDE, blocks)):
                row = block * SUM_BLOCK + r
                if row < rows:
                    for c in range(channels):
                        plain[block, c] += dy[row, c]
                        weighted[block, c] += dy[row, c] * ((x[row, c] - mean[c]) * inverse[c])
    return add_partials(plain), add_partials(weighted)


@kernel(parallel=True)
def clipped_quotients(x: Any, step: Any, low: Any, high: Any, has_nan: bool, y: Any) -> None:
    """y = x / step between ``low`` and ``high``; what is not a number is 0 where there is none."""
    for i in prange(x.size):
        value = x[i] / step
        value = low if value < low else value
        value = high if value > high else value
        y[i] = value if value == value or has_nan else np.float32(0.0)


@kernel(parallel=True)
def clip_places(x: Any, clip: Any, signed: bool, places: Any) -> None:
    """Where each element lies: codes of `quantisers.PLACES`."""
    zero = np.float32(0.0)
    for i in prange(x.size):
        value = x[i]
        if signed:
            place = np.uint8(2 if value > zero else 3 if value < zero else 0)
            place = place if abs(value) >= clip else np.uint8(4 if value != value else 1)
        else:
            place = np.uint8(2) if value >= clip else np.uint8(1 if value > zero else 0)
        places[i] = place


@kernel(parallel=True)
def clip_backward(dy: Any, places: Any, dx: Any) -> Any:
    """dx = dy inside the clip, else +0; sums over rows of dy's share in the clip's gradient: (c,).

    (rows, c); ``places``: codes of `quantisers.PLACES`.
    """
    rows, channels = dy.shape
    blocks = -(-rows // SUM_BLOCK)
    partial = np.zeros((blocks, channels), np.float32)
    for group in prange(-(-blocks // _SIDE)):
        for r in range(SUM_BLOCK):
            for block in range(group * _SIDE, min((group + 1) * _SIDE, blocks)):
                row = block * SUM_BLOCK + r
                if row < rows:
                    for c in range(channels):
                        place, value = places[row, c], dy[row, c]
                        sign = np.float32(1.0) if place == 2 else np.float32(0.0)
                        sign = np.float32(-1.0) if place == 3 else sign
                        sign = np.float32(np.nan) if place == 4 else sign
                        partial[block, c] += value * sign
                        dx[row, c] = value if place == 1 or place == 4 else np.float32(0.0)
    return add_partials(partial)


@kernel(parallel=True)
def normalise(x: Any, mean: Any, factor: Any, beta: Any, y: Any) -> None:
    """y = (x - mean) * factor + beta."""
    rows, channels = x.shape
    for r in prange(rows):
        for c in range(channels):
            y[r, c] = (x[r, c] - mean[c]) * factor[c] + beta[c]


@kernel(parallel=True)
def normalise_backward(
    dy: Any, x: Any, mean: Any, inverse: Any, factor: Any, mean_dy: Any, mean_dy_xhat: Any, dx: Any
) -> None:
    """dx = (dy - mean(dy) - xhat * mean(dy * xhat)) * factor, with xhat = (x - mean) * inverse."""
    rows, channels = x.shape
    for r in prange(rows):
        for c in range(channels):
            xhat = (x[r, c] - mean[c]) * inverse[c]
            dx[r, c] = (dy[r, c] - mean_dy[c] - xhat * mean_dy_xhat[c]) * factor[c]


@kernel(parallel=True)
def positive_part(x: Any, y: Any) -> None:
    """y = x where x > 0, else +0."""
    for i in prange(x.size):
        y[i] = x[i] if x[i] > np.float32(0.0) else np.float32(0.0)


@kernel(parallel=True)
def keep_where(x: Any, mask: Any, y: Any) -> None:
    """y = x where the mask is set, else +0."""
    for i in prange(x.size):
        y[i] = x[i] if mask[i] else np.float32(0.0)


@kernel(parallel=True)
def max_pool(x: Any, size: Any, stride: Any, y: Any, places: Any) -> None:
    """Largest value of each window and its position in it (the first of equals).

    ``size`` and ``stride`` of this and the next three are (down, across).
    """
    (height, width), (down, across) = size, stride
    n, rows, cols, channels = y.shape
    for i in prange(n):
        for r in range(rows):
            for s in range(cols):
                for c in range(channels):
                    best, place = x[i, r * down, s * across, c], 0
                    for p in range(1, height * width):
                        value = x[i, r * down + p // width, s * across + p % width, c]
                        if value > best:
                            best, place = value, p
                    y[i, r, s, c] = best
                    places[i, r, s, c] = place


@kernel(parallel=True)
def max_pool_backward(dy: Any, places: Any, size: Any, stride: Any, dx: Any) -> None:
    """Each gradient goes to the largest element of its window; overlapping windows add up in order."""
    width, (down, across) = size[1], stride
    n, rows, cols, channels = dy.shape
    for i in prange(n):
        for r in range(rows):
            for s in range(cols):
                for c in range(channels):
                    p = places[i, r, s, c]
                    dx[i, r * down + p // width, s * across + p % width, c] += dy[i, r, s, c]


@kernel(parallel=True)
def average_pool(x: Any, size: Any, stride: Any, factors: Any, y: Any) -> None:
    """Sum of each window in order, times its factor (rows, cols)."""
    (height, width), (down, across) = size, stride
    n, rows, cols, channels = y.shape
    for i in prange(n):
        for r in range(rows):
            for s in range(cols):
                for c in range(channels):
                    total = np.float32(0.0)
                    for p in range(height * width):
                        total += x[i, r * down + p // width, s * across + p % width, c]
                    y[i, r, s, c] = total * factors[r, s]


@kernel(parallel=True)
def average_pool_backward(dy: Any, size: Any, stride: Any, factors: Any, dx: Any) -> None:
    """dy times its window's factor to every element of it; overlapping windows add up in order."""
    (height, width), (down, across) = size, stride
    n, rows, cols, channels = dy.shape
    for i in prange(n):
        for r in range(rows):
            for s in range(cols):
                for c in range(channels):
                    share = dy[i, r, s, c] * factors[r, s]
                    for p in range(height * width):
                        dx[i, r * down + p // width, s * across + p % width, c] += share


@kernel()
def exponential(x: Any) -> Any:
    """e**x for x <= 0 in float32: 2**n times a polynomial, so that no libm decides a bit.

    n = round(x / ln 2); the rest r lies in +-0.35, where the degree-7 Taylor polynomial is within a
    tenth of a unit in the last place of a float32; with its roundings the result is within two.
    Below -87 the result is 0.
    """
    # nothing here is a jump or a call, so that whole vectors of elements go through at once
    is_zero = x < np.float32(-87.0)
    inside = np.float32(-87.0) if is_zero else x
    # adding 1.5 * 2**23 rounds to nearest even
    n = np.float32(np.float32(inside * np.float32(1.44269504)) + np.float32(12582912.0))
    n = np.float32(n - np.float32(12582912.0))
    # ln 2 in two parts, the first with trailing zeros, so that n * high is exact
    r = (inside - n * np.float32(0.693359375)) - n * np.float32(-2.12194440e-4)
    p = np.float32(1.0 / 5040.0)
    p = p * r + np.float32(1.0 / 720.0)
    p = p * r + np.float32(1.0 / 120.0)
    p = p * r + np.float32(1.0 / 24.0)
    p = p * r + np.float32(1.0 / 6.0)
    p = p * r + np.float32(0.5)
    p = p * r + np.float32(1.0)
    p = p * r + np.float32(1.0)
    y = p * np.int32(np.int32(np.int32(n) + np.int32(127)) << np.int32(23)).view(np.float32)
    return np.float32(0.0) if is_zero else y


@kernel()
def softmax_rows(logits: Any, probabilities: Any) -> None:
    """Softmax of each row: largest subtracted, exponentials summed in order."""
    rows, classes = logits.shape
    for r in range(rows):
        largest = logits[r, 0]
        for c in range(1, classes):
            largest = max(largest, logits[r, c])
        total = np.float32(0.0)
        for c in range(classes):
            probabilities[r, c] = exponential(logits[r, c] - largest)
            total += probabilities[r, c]
        for c in range(classes):
            probabilities[r, c] = probabilities[r, c] / total


@kernel(parallel=True)
def sgd_step(
    weight: Any, gradient: Any, velocity: Any, rate: Any, momentum: Any, decay: Any, factor: Any
) -> None:
    """velocity = momentum * velocity + (gradient * factor + decay * weight); weight -= rate * velocity."""
    for i in prange(weight.size):
        step = gradient[i] * factor + decay * weight[i]
        velocity[i] = momentum * velocity[i] + step
        weight[i] = weight[i] - rate * velocity[i]


@kernel(parallel=True)
def adam_step(
    weight: Any, gradient: Any, first: Any, second: Any, rate: Any, beta1: Any, beta2: Any,
    correction1: Any, correction2: Any, epsilon: Any, decay: Any, factor: Any,
) -> None:  # fmt: skip
    """Adam with L2 decay; ``correction1`` = 1 / (1 - beta1**t), ``correction2`` likewise."""
    one = np.float32(1.0)
    for i in prange(weight.size):
        g = gradient[i] * factor + decay * weight[i]
        first[i] = beta1 * first[i] + (one - beta1) * g
        second[i] = beta2 * second[i] + (one - beta2) * (g * g)
        root = np.sqrt(second[i] * correction2) + epsilon
        weight[i] = weight[i] - rate * ((first[i] * correction1) / root)
