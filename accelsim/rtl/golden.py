"""The expected results, all from the simulator's own arithmetic, by way of `accelsim.matmul`."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

import accelsim
from accelsim.chip import Chip
from accelsim.numerics.formats import number_format
from accelsim.rtl.design import Design

Integers = NDArray[np.int64]


def add_groups(design: Design, psum: NDArray[Any], a: NDArray[Any], b: NDArray[Any]) -> Integers:
    """What the simulator makes of ``psum + a . b``, rounded once.

    Parameters
    ----------
    psum: (m,) values of the accumulator's format. a: (m, lanes), b: (lanes,) values of operands.

    Returns
    -------
    int64 (m,), codes of the accumulator's format.

    A sum starts at +0, so psum enters as a first group ``psum * 1``, which rounds to itself. (An
    infinite psum that saturates would not; no accumulator that saturates ever holds one.)
    """
    (m, lanes) = a.shape
    left = np.zeros((m, 2 * lanes))
    left[:, 0], left[:, lanes:] = psum, a
    right = np.zeros((2 * lanes, 1))
    right[0], right[lanes:, 0] = 1, b
    carrier = number_format("fp32")  # holds every value of the other formats
    result = accelsim.matmul(
        _two_groups(design.chip, lanes), carrier.encode(left), carrier.encode(right), carrier, carrier
    )
    return result.codes[:, 0].astype(np.int64)


def _two_groups(chip: Chip, lanes: int) -> Chip:
    """A single PE with the chip's accumulator, whose chunk is two groups of ``lanes`` fp32 products."""
    mode = chip.array.modes[0].model_copy(update={"operands": (("fp32", "fp32"),), "lanes": lanes})
    array = chip.array.model_copy(
        update={
            "rows": 1,
            "cols": 1,
            "simd": 1,
            "dataflows": ("output_stationary",),
            "output_chunk": 2 * lanes,
            "modes": (mode,),
        }
    )
    return chip.model_copy(update={"array": array})
