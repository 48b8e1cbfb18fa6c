"""Functions of rows: normalisation over channels. Each row's sums run from its first element to its last."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from accelsim.datapath.vector_kernels import add_partials
from accelsim.numerics.compiled import kernel
from accelsim.numerics.quantise import SUM_BLOCK


@kernel(parallel=True)
def layer_norm(
    x: Any, gamma: Any, beta: Any, share: Any, epsilon: Any, y: Any, mean: Any, inverse: Any
) -> None:
    """y = (x - mean) * inverse * gamma + beta of each row (rows, c); ``share`` is 1 / c."""
    rows, channels = x.shape
    for r in prange(rows):
        total = np.float32(0.0)
        for c in range(channels):
            total += x[r, c]
        mean[r] = total * share
        squares = np.float32(0.0)
        for c in range(channels):
            deviation = x[r, c] - mean[r]
            squares += deviation * deviation
        inverse[r] = np.float32(1.0) / np.sqrt(squares * share + epsilon)
        for c in range(channels):
            y[r, c] = ((x[r, c] - mean[r]) * inverse[r]) * gamma[c] + beta[c]


@kernel(parallel=True)
def layer_norm_backward(dy: Any, x: Any, gamma: Any, mean: Any, inverse: Any, share: Any, dx: Any) -> None:
    """dx = (g - mean(g) - xhat * mean(g * xhat)) * inverse, with g = dy * gamma, of each row."""
    rows, channels = x.shape
    for r in prange(rows):
        total, projected = np.float32(0.0), np.float32(0.0)
        for c in range(channels):
            g = dy[r, c] * gamma[c]
            total += g
            projected += g * ((x[r, c] - mean[r]) * inverse[r])
        total, projected = total * share, projected * share
        for c in range(channels):
            xhat = (x[r, c] - mean[r]) * inverse[r]
            dx[r, c] = ((dy[r, c] * gamma[c] - total) - xhat * projected) * inverse[r]


@kernel(parallel=True)
def row_product_sums(dy: Any, x: Any, mean: Any, inverse: Any) -> Any:
    """Sums of dy * (x - mean) * inverse over rows, mean and inverse being each row's: (rows, c) -> (c,)."""
    rows, channels = x.shape
    partial = np.zeros((-(-rows // SUM_BLOCK), channels), np.float32)
    for block in prange(partial.shape[0]):
        for r in range(block * SUM_BLOCK, min((block + 1) * SUM_BLOCK, rows)):
            for c in range(channels):
                partial[block, c] += dy[r, c] * ((x[r, c] - mean[r]) * inverse[r])
    return add_partials(partial)
