"""One step of a long short-term memory: float32 inside, in a fixed order of operations.

Arrays are (directions, samples, ...), C-contiguous; the gates of a sample stand side by side: i, f, g, o.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange

from accelsim.datapath.curve_kernels import hyperbolic_tangent, sigmoid
from accelsim.numerics.compiled import kernel


@kernel(parallel=True)
def lstm_cell(
    of_input: Any, of_state: Any, bias: Any, before: Any, gates: Any, cell: Any, hidden: Any
) -> None:
    """Gates of (of_input + of_state) + bias; cell = f * before + i * g; hidden = o * tanh(cell)."""
    directions, samples, features = before.shape
    for row in prange(directions * samples):
        d, n = row // samples, row % samples
        for j in range(features):
            for gate in range(4):
                at = gate * features + j
                total = (of_input[d, n, at] + of_state[d, n, at]) + bias[d, at]
                gates[d, n, at] = hyperbolic_tangent(total) if gate == 2 else sigmoid(total)
            kept = gates[d, n, features + j] * before[d, n, j]
            cell[d, n, j] = kept + gates[d, n, j] * gates[d, n, 2 * features + j]
            hidden[d, n, j] = gates[d, n, 3 * features + j] * hyperbolic_tangent(cell[d, n, j])


@kernel(parallel=True)
def lstm_cell_backward(
    dhidden: Any, dcell: Any, gates: Any, before: Any, cell: Any, dgates: Any, dbefore: Any
) -> None:
    """Gradients of what goes into the gates' functions, and of the cell before."""
    one = np.float32(1.0)
    directions, samples, features = before.shape
    for row in prange(directions * samples):
        d, n = row // samples, row % samples
        for j in range(features):
            i, f = gates[d, n, j], gates[d, n, features + j]
            g, o = gates[d, n, 2 * features + j], gates[d, n, 3 * features + j]
            t = hyperbolic_tangent(cell[d, n, j])
            change = dcell[d, n, j] + (dhidden[d, n, j] * o) * (one - t * t)
            dgates[d, n, j] = (change * g) * (i * (one - i))
            dgates[d, n, features + j] = (change * before[d, n, j]) * (f * (one - f))
            dgates[d, n, 2 * features + j] = (change * i) * (one - g * g)
            dgates[d, n, 3 * features + j] = (dhidden[d, n, j] * t) * (o * (one - o))
            dbefore[d, n, j] = change * f
