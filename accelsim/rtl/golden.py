"""The expected results, all from the simulator's own arithmetic."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.accumulate import Accumulation, Matrix, multiply
from accelsim.numerics.formats import number_format
from accelsim.rtl.design import Design

Integers = NDArray[np.int64]


def add_groups(design: Design, psum: NDArray[Any], a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.float32]:
    """What the simulator makes of ``psum + a . b``, rounded once.

    Parameters
    ----------
    psum: (m,) values of the accumulator's format. a: (m, lanes), b: (lanes,) values of operands.

    Returns
    -------
    float32 (m,), values of the accumulator's format.

    A sum starts at +0, so psum enters as a first group ``psum * 1``, which rounds to itself. All
    values are given as fp32, which holds them exactly. (An infinite psum that saturates does not
    round to itself; no accumulator that saturates ever holds one.)
    """
    (m, lanes) = a.shape
    left = np.zeros((m, 2 * lanes), np.float32)
    left[:, 0], left[:, lanes:] = psum, a
    right = np.zeros((2 * lanes, 1), np.float32)
    right[0], right[lanes:, 0] = 1, b
    overflow = "saturate" if design.saturates else "format"
    rule = Accumulation(lanes, 2 * lanes, design.accumulator.name, overflow)
    carrier = number_format("fp32")
    return multiply(rule, Matrix(left, carrier), Matrix(right, carrier))[0][:, 0]


def codes_of(design: Design, values: NDArray[Any]) -> Integers:
    """Codes of values of the accumulator's format, int64."""
    return design.accumulator.encode(values).astype(np.int64)
