"""Sines and cosines of positions, from float64 series in a fixed order and no libm."""

from __future__ import annotations

from functools import cache

import numpy as np

from accelsim.network.executor import F32

_TURN = 6.283185307179586
_LOG_10000 = 9.210340371976184


@cache
def sinusoids(positions: int, channels: int) -> F32:
    """(positions, channels): sin(p / 10000**(2i/channels)) in channel 2i, its cosine in channel 2i + 1.

    Vaswani et al., NeurIPS 2017, section 3.5.
    """
    wide = np.zeros((positions, channels), np.float64)
    place = np.arange(positions, dtype=np.float64)
    for channel in range(channels):
        angle = place * _decay(_LOG_10000 * (channel - channel % 2) / channels)
        turns = angle / _TURN + (0.25 if channel % 2 else 0.0)
        wide[:, channel] = _sine((turns - np.rint(turns)) * _TURN)
    table = wide.astype(np.float32)
    table.flags.writeable = False
    return table


def _decay(x: float) -> float:
    """e**-x for 0 <= x <= 10: the series at x / 1024, squared ten times; error below 1e-12."""
    small, term, total = -x / 1024.0, 1.0, 1.0
    for n in range(1, 12):
        term = term * small / n
        total += term
    for _ in range(10):
        total *= total
    return total


def _sine(angle: np.ndarray) -> np.ndarray:
    """Sine of angles within half a turn: Taylor series to the 25th power, error below 1e-12."""
    square = angle * angle
    total = np.zeros_like(angle)
    for n in range(25, 1, -2):
        total = (1.0 - total) * square / (n * (n - 1.0))
    return angle * (1.0 - total)
