"""Clipping of the gradients by their common norm (Pascanu, Mikolov, Bengio, ICML 2013)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.vector_unit import ChipVectorUnit

F32 = NDArray[np.float32]


def clip_factor(
    vector: ChipVectorUnit, gradients: Mapping[str, F32], limit: float | None, loss_scale: float
) -> float:
    """What to multiply all gradients by so that their norm (without the loss scale) is at most ``limit``.

    Squares are added in float32 on the vector unit, tensor after tensor in the order of their names;
    1.0 without a limit, and where the norm is not finite.
    """
    if limit is None:
        return 1.0
    total = np.float32(0)
    for name in sorted(gradients):
        rows = gradients[name].reshape(-1, gradients[name].shape[-1])
        columns = vector.column_sums(rows * rows)
        total = total + vector.column_sums(columns.reshape(-1, 1))[0]
    norm = math.sqrt(float(total)) / loss_scale
    return limit / norm if limit < norm < math.inf else 1.0
