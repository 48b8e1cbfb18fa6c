"""Smooth functions of single elements: float32 in a fixed order of operations, and no libm.

Both sides of a choice are computed and one is taken, so that whole vectors of elements go through at once.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from accelsim.datapath.vector_kernels import exponential
from accelsim.numerics.compiled import kernel

CURVES = {"sigmoid": 0, "tanh": 1, "gelu": 2, "swish": 3, "hard_sigmoid": 4, "hard_swish": 5}
"""Numbers of the functions in the kernels below."""

_PART = 4096
"""Elements that one thread takes at a time."""


@kernel()
def sigmoid(x: Any) -> Any:
    """1 / (1 + e**-x) without an exponential above 1."""
    one = np.float32(1.0)
    power = exponential(-abs(x))
    top = power if x < np.float32(0.0) else one
    return top / (one + power)


@kernel()
def hyperbolic_tangent(x: Any) -> Any:
    """(1 - e) / (1 + e) with e = exp(-2 |x|); below 0.35, where 1 - e would cancel, its Taylor series.

    Terms up to x**13 leave a relative error of 1e-9 there.
    """
    one, size, square = np.float32(1.0), abs(x), x * x
    p = np.float32(21844.0 / 6081075.0)
    p = p * square + np.float32(-1382.0 / 155925.0)
    p = p * square + np.float32(62.0 / 2835.0)
    p = p * square + np.float32(-17.0 / 315.0)
    p = p * square + np.float32(2.0 / 15.0)
    p = p * square + np.float32(-1.0 / 3.0)
    near = x + x * (square * p)
    power = exponential(np.float32(-2.0) * size)
    value = (one - power) / (one + power)
    far = value if x > np.float32(0.0) else -value
    return near if size < np.float32(0.35) else far


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
    value = np.float32(0.0) if value < np.float32(0.0) else value
    return np.float32(1.0) if value > np.float32(1.0) else value


@kernel(parallel=True)
def curve(number: int, x: Any, y: Any) -> None:
    """y of each element of flat arrays."""
    for part in prange(-(-x.size // _PART)):
        u, v = x[part * _PART : (part + 1) * _PART], y[part * _PART : (part + 1) * _PART]
        if number == 0:
            for i in range(u.size):
                v[i] = sigmoid(u[i])
        elif number == 1:
            for i in range(u.size):
                v[i] = hyperbolic_tangent(u[i])
        elif number == 2:
            for i in range(u.size):
                v[i] = u[i] * normal_share(u[i])
        elif number == 3:
            for i in range(u.size):
                v[i] = u[i] * sigmoid(u[i])
        elif number == 4:
            for i in range(u.size):
                v[i] = hard_sigmoid(u[i])
        else:
            for i in range(u.size):
                v[i] = u[i] * hard_sigmoid(u[i])


@kernel()
def gelu_slope(x: Any) -> Any:
    """The derivative of x times the normal distribution function of x."""
    density = np.float32(0.3989422804014327) * exponential(np.float32(-0.5) * (x * x))
    return normal_share(x) + x * density


@kernel()
def swish_slope(x: Any) -> Any:
    """The derivative of x * sigmoid(x)."""
    s = sigmoid(x)
    return s + (x * s) * (np.float32(1.0) - s)


@kernel()
def hard_swish_slope(x: Any) -> Any:
    """The derivative of x * hard_sigmoid(x)."""
    zero, one, sixth = np.float32(0.0), np.float32(1.0), np.float32(1.0 / 6.0)
    s = hard_sigmoid(x)
    return s + (x * sixth if zero < s < one else zero)


@kernel(parallel=True)
def curve_backward(number: int, dy: Any, kept: Any, dx: Any) -> None:
    """dy times the derivative; ``kept`` is y of a (hard) sigmoid or tanh, x of the others."""
    zero, one, sixth = np.float32(0.0), np.float32(1.0), np.float32(1.0 / 6.0)
    for part in prange(-(-dy.size // _PART)):
        here = slice(part * _PART, (part + 1) * _PART)
        g, u, v = dy[here], kept[here], dx[here]
        if number == 0:
            for i in range(g.size):
                v[i] = g[i] * (u[i] * (one - u[i]))
        elif number == 1:
            for i in range(g.size):
                v[i] = g[i] * (one - u[i] * u[i])
        elif number == 2:
            for i in range(g.size):
                v[i] = g[i] * gelu_slope(u[i])
        elif number == 3:
            for i in range(g.size):
                v[i] = g[i] * swish_slope(u[i])
        elif number == 4:
            for i in range(g.size):
                v[i] = g[i] * sixth if zero < u[i] < one else zero
        else:
            for i in range(g.size):
                v[i] = g[i] * hard_swish_slope(u[i])
