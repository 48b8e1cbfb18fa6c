"""Functions of rows: normalisation, attention's softmax, tables. A row's sums run from first to last."""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from accelsim.datapath.vector_kernels import add_partials, exponential
from accelsim.numerics.compiled import kernel
from accelsim.numerics.quantise import SUM_BLOCK


@kernel(parallel=True)
def layer_norm(
    x: Any, gamma: Any, beta: Any, share: Any, epsilon: Any, centred: bool, y: Any, mean: Any, inverse: Any
) -> None:
    """y = (x - mean) * inverse * gamma + beta of each row (rows, c); ``share`` is 1 / c.

    Not ``centred``, the mean counts as zero (root mean square normalisation).
    """
    rows, channels = x.shape
    for r in prange(rows):
        total = np.float32(0.0)
        for c in range(channels):
            total += x[r, c]
        mean[r] = total * share if centred else np.float32(0.0)
        squares = np.float32(0.0)
        for c in range(channels):
            deviation = x[r, c] - mean[r]
            squares += deviation * deviation
        inverse[r] = np.float32(1.0) / np.sqrt(squares * share + epsilon)
        for c in range(channels):
            y[r, c] = ((x[r, c] - mean[r]) * inverse[r]) * gamma[c] + beta[c]


@kernel(parallel=True)
def layer_norm_backward(
    dy: Any, x: Any, gamma: Any, mean: Any, inverse: Any, share: Any, centred: bool, dx: Any
) -> None:
    """dx = (g - mean(g) - xhat * mean(g * xhat)) * inverse, with g = dy * gamma, of each row.

    Not ``centred``, mean(g) counts as zero.
    """
    rows, channels = x.shape
    for r in prange(rows):
        total, projected = np.float32(0.0), np.float32(0.0)
        for c in range(channels):
            g = dy[r, c] * gamma[c]
            total += g
            projected += g * ((x[r, c] - mean[r]) * inverse[r])
        total, projected = total * share if centred else np.float32(0.0), projected * share
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


@kernel()
def add_rows(dy: Any, ids: Any, table: Any) -> None:
    """table[ids[r]] += dy[r] for each row r, in order."""
    for r in range(dy.shape[0]):
        for c in range(dy.shape[1]):
            table[ids[r], c] += dy[r, c]


@kernel(parallel=True)
def attention_softmax(scores: Any, factor: Any, causal: bool, p: Any) -> None:
    """Softmax over the last axis of (g, queries, keys) of factor * scores.

    The largest is subtracted, the exponentials are summed in order. ``causal``: query q sees keys 0..q.
    """
    products, queries, keys = scores.shape
    for g in prange(products):
        for q in range(queries):
            seen = min(q + 1, keys) if causal else keys
            largest = scores[g, q, 0] * factor
            for k in range(1, seen):
                largest = max(largest, scores[g, q, k] * factor)
            total = np.float32(0.0)
            for k in range(seen):
                p[g, q, k] = exponential(scores[g, q, k] * factor - largest)
                total += p[g, q, k]
            for k in range(seen):
                p[g, q, k] = p[g, q, k] / total
            for k in range(seen, keys):
                p[g, q, k] = np.float32(0.0)


@kernel(parallel=True)
def attention_softmax_backward(dp: Any, p: Any, factor: Any, ds: Any) -> None:
    """ds = p * (dp - sum(p * dp)) * factor over the last axis of (g, queries, keys)."""
    products, queries, keys = p.shape
    for g in prange(products):
        for q in range(queries):
            total = np.float32(0.0)
            for k in range(keys):
                total += p[g, q, k] * dp[g, q, k]
            for k in range(keys):
                ds[g, q, k] = (p[g, q, k] * (dp[g, q, k] - total)) * factor
