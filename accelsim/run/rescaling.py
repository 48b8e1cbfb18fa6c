"""A tensor in four bits, two ways: the data of the figure that explains why gradients need FP4."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.numerics.formats import number_format
from accelsim.run.state import initial_state
from accelsim.workload import load_workload

F64 = NDArray[np.float64]

LOWEST, HIGHEST = -8, 7


@dataclass(frozen=True, eq=False)
class FourBits:
    """``values`` as they are; ``codes``: rescaled to -8..7; ``logarithmic``: on the radix-4 grid."""

    values: F64
    codes: NDArray[np.int64]
    logarithmic: F64


def rescaled(values: F64, low: float, high: float) -> F64:
    """``values`` on the straight line that takes ``low`` to -8 and ``high`` to 7, not yet rounded."""
    return np.asarray(LOWEST + (HIGHEST - LOWEST) * (values - low) / (high - low))


def in_four_bits(values: F64) -> FourBits:
    """Both ways of writing a tensor in four bits; ties of the linear scale go to the even code.

    Raises `InputError` for a tensor that is empty, not finite or holds one value only.
    """
    if values.size == 0 or not np.isfinite(values).all() or values.min() == values.max():
        raise InputError("a tensor to be rescaled needs at least two different finite values")
    linear = rescaled(values, float(values.min()), float(values.max()))
    codes = number_format("int4").round(linear).astype(np.int64)
    grid = number_format("fp4_r4_even")
    factor = grid.max_value / float(np.abs(values).max())
    return FourBits(values, codes, grid.round(values * factor, overflow="saturate") / factor)


def sample_image() -> F64:
    """The first test image of the bundled Fashion-MNIST, (28, 28), 0..1."""
    dataset = load_workload("fashion_cnn").source.load()
    return np.asarray(dataset.test_x[0, :, :, 0], np.float64) / 255.0


def sample_weights() -> F64:
    """Initial weights of a convolution of the demo as a matrix, (channels out, taps and channels in)."""
    weights = initial_state(load_workload("fashion_cnn")).parameters["conv2d2.weight"]
    return np.asarray(weights, np.float64).reshape(-1, weights.shape[-1]).T
