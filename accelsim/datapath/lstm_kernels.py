"""One step of a long short-term memory: float32 inside, in a fixed order of operations.

Arrays are (directions, samples, ...), C-contiguous; the gates of a sample stand side by side: i, f, g, o.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from accelsim.datapath.curve_kernels import hyperbolic_tangent, sigmoid
from accelsim.numerics.compiled import kernel


@kernel()
def _gates(gates: Any) -> Any:
    """The four gates of a sample, each by itself."""
    h = gates.size // 4
    return gates[:h], gates[h : 2 * h], gates[2 * h : 3 * h], gates[3 * h :]


@kernel(parallel=True)
def lstm_cell(
    of_input: Any, of_state: Any, bias: Any, before: Any, gates: Any, cell: Any, hidden: Any
) -> None:
    """Gates of (of_input + of_state) + bias; cell = f * before + i * g; hidden = o * tanh(cell)."""
    directions, samples, features = before.shape
    for row in prange(directions * samples):
        d, n = row // samples, row % samples
        left, right, fixed, found = of_input[d, n], of_state[d, n], bias[d], gates[d, n]
        for at in range(4 * features):
            found[at] = (left[at] + right[at]) + fixed[at]
        i, f, g, o = _gates(found)
        for gate in (i, f, o):
            for j in range(features):
                gate[j] = sigmoid(gate[j])
        for j in range(features):
            g[j] = hyperbolic_tangent(g[j])
        old, new, out = before[d, n], cell[d, n], hidden[d, n]
        for j in range(features):
            new[j] = f[j] * old[j] + i[j] * g[j]
        for j in range(features):
            out[j] = o[j] * hyperbolic_tangent(new[j])


@kernel(parallel=True)
def lstm_cell_backward(
    dhidden: Any, dcell: Any, gates: Any, before: Any, cell: Any, dgates: Any, dbefore: Any
) -> None:
    """Gradients of what goes into the gates' functions, and of the cell before."""
    one = np.float32(1.0)
    directions, samples, features = before.shape
    for row in prange(directions * samples):
        d, n = row // samples, row % samples
        above, old, out = dhidden[d, n], before[d, n], dbefore[d, n]
        i, f, g, o = _gates(gates[d, n])
        di, df, dg, do = _gates(dgates[d, n])
        curved, change = np.empty(features, np.float32), np.empty(features, np.float32)
        for j in range(features):
            curved[j] = hyperbolic_tangent(cell[d, n, j])
        for j in range(features):
            change[j] = dcell[d, n, j] + (above[j] * o[j]) * (one - curved[j] * curved[j])
            do[j] = (above[j] * curved[j]) * (o[j] * (one - o[j]))
        for j in range(features):
            di[j] = (change[j] * g[j]) * (i[j] * (one - i[j]))
            dg[j] = (change[j] * i[j]) * (one - g[j] * g[j])
        for j in range(features):
            df[j] = (change[j] * old[j]) * (f[j] * (one - f[j]))
            out[j] = change[j] * f[j]
