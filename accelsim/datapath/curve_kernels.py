"""Smooth functions of single elements: float32 in a fixed order of operations, and no libm."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from accelsim.datapath.vector_kernels import exponential
from accelsim.numerics.compiled import kernel

CURVES = {"sigmoid": 0, "tanh": 1, "gelu": 2, "swish": 3, "hard_sigmoid": 4, "hard_swish": 5}
"""Numbers of the functions in the kernels below."""


@kernel()
def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x) without an exponential above 1."""
    one = np.float32(1.0)
    power = exponential(-abs(x))
    if x < np.float32(0.0):
        return power / (one + power)
    return one / (one + power)


@kernel()
def hyperbolic_tangent(x: Any) -> Any:
    """(1 - e) / (1 + e) with e = exp(-2 |x|); below 0.35, where 1 - e would cancel, its Taylor series.

    Terms up to x**13 leave a relative error of 1e-9 there.
    """
    size = abs(x)
    if size < np.float32(0.35):
        square = x * x
        p = np.float32(21844.0 / 6081075.0)
        p = p * square + np.float32(-1382.0 / 155925.0)
        p = p * square + np.float32(62.0 / 2835.0)
        p = p * square + np.float32(-17.0 / 315.0)
        p = p * square + np.float32(2.0 / 15.0)
        p = p * square + np.float32(-1.0 / 3.0)
        return x + x * (square * p)
    one = np.float32(1.0)
    power = exponential(np.float32(-2.0) * size)
    value = (one - power) / (one + power)
    return value if x > np.float32(0.0) else -value


@kernel()
def normal_share(x: Any) -> Any:
    """The normal distribution function at x, within 3e-7.

    The upper tail by Hastings' rational form, number 7.1.26 in Abramowitz and Stegun's Handbook of
    Mathematical Functions (1964), whose error is at most 1.5e-7.
    """
    one = np.float32(1.0)
    z = abs(x) * np.float32(0.7071067811865476)
    t = one / (one + np.float32(0.3275911) * z)
    p = np.float32(1.061405429)
    p = p * t + np.float32(-1.453152027)
    p = p * t + np.float32(1.421413741)
    p = p * t + np.float32(-0.284496736)
    p = p * t + np.float32(0.254829592)
    tail = np.float32(0.5) * (p * t) * exponential(-(z * z))
    return tail if x < np.float32(0.0) else one - tail


@kernel()
def hard_sigmoid(x: Any) -> Any:
    """x / 6 + 1/2 between 0 and 1."""
    value = x * np.float32(1.0 / 6.0) + np.float32(0.5)
    if value < np.float32(0.0):
        return np.float32(0.0)
    if value > np.float32(1.0):
        return np.float32(1.0)
    return value


@kernel(parallel=True)
def curve(number: int, x: Any, y: Any) -> None:
    """y of each element of flat arrays."""
    for i in prange(x.size):
        if number == 0:
            y[i] = sigmoid(x[i])
        elif number == 1:
            y[i] = hyperbolic_tangent(x[i])
        elif number == 2:
            y[i] = x[i] * normal_share(x[i])
        elif number == 3:
            y[i] = x[i] * sigmoid(x[i])
        elif number == 4:
            y[i] = hard_sigmoid(x[i])
        else:
            y[i] = x[i] * hard_sigmoid(x[i])


@kernel(parallel=True)
def curve_backward(number: int, dy: Any, kept: Any, dx: Any) -> None:
    """dy times the derivative; ``kept`` is y of a (hard) sigmoid or tanh, x of the others."""
    zero, one, sixth = np.float32(0.0), np.float32(1.0), np.float32(1.0 / 6.0)
    for i in prange(dy.size):
        v = kept[i]
        if number == 0:
            dx[i] = dy[i] * (v * (one - v))
        elif number == 1:
            dx[i] = dy[i] * (one - v * v)
        elif number == 2:
            density = np.float32(0.3989422804014327) * exponential(np.float32(-0.5) * (v * v))
            dx[i] = dy[i] * (normal_share(v) + v * density)
        elif number == 3:
            s = sigmoid(v)
            dx[i] = dy[i] * (s + (v * s) * (one - s))
        elif number == 4:
            dx[i] = dy[i] * sixth if zero < v < one else zero
        else:
            s = hard_sigmoid(v)
            dx[i] = dy[i] * (s + (v * sixth if zero < s < one else zero))
