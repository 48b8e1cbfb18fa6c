"""Compute cycles of a GEMM by the closed forms of other simulators, by name, for cross-checks.

All without stalls, of one array of R rows and C columns, Y (M, N) = X (M, K) W (K, N); with S the two
dimensions that lie on the array and T the one that streams:

- ``scalesim`` (Samajdar et al., ISPASS 2020, section III; its version 3 counts the same): one fold after
  another. Output stationary: folds ceil(M/R) ceil(N/C) of R + C + K - 2, the drain left out. Weight
  stationary: ceil(K/R) ceil(N/C) of 2R + C + M - 2. Input stationary: ceil(K/R) ceil(M/C) of 2R + C + N -
  2.
- ``scalesim_printed``: what its report shows, one cycle less per layer (it prints the number of the last
  cycle, counted from 0).
- ``stonne`` (Munoz-Martinez et al., IISWC 2021), output stationary: each fold takes what it uses, r + c + K
  + 3.
- ``ideal``: the product of the temporal loops, no fill and no drain (Timeloop, ZigZag, nn_dataflow).

An array whose PEs have lanes and SIMD columns counts as one of R times the lanes (where K lies along the
rows) and C times the columns; where K streams, it streams K / lanes deep.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from accelsim.mapping.passes import ceil_div
from accelsim.mapping.plan import Dataflow

Convention = Literal["scalesim", "scalesim_printed", "stonne", "ideal"]
CONVENTIONS: tuple[Convention, ...] = ("scalesim", "scalesim_printed", "stonne", "ideal")


@dataclass(frozen=True)
class Folds:
    """A GEMM on an array: ``down`` x ``across`` lie on it in folds, ``stream`` steps enter in each."""

    down: int
    across: int
    stream: int
    rows: int
    cols: int

    @property
    def count(self) -> int:
        """Folds."""
        return ceil_div(self.down, self.rows) * ceil_div(self.across, self.cols)


def folds(m: int, k: int, n: int, rows: int, cols: int, dataflow: Dataflow) -> Folds:
    """How (m, k) x (k, n) lies on ``rows`` x ``cols``."""
    down, across, stream = {
        "output_stationary": (m, n, k),
        "weight_stationary": (k, n, m),
        "input_stationary": (k, m, n),
    }[dataflow]
    return Folds(down, across, stream, rows, cols)


def convention_cycles(
    convention: Convention, m: int, k: int, n: int, *, rows: int, cols: int, dataflow: Dataflow
) -> int:
    """Cycles of one GEMM by ``convention``; ``stonne`` is known for output stationary arrays only.

    ``rows`` and ``cols`` are those of the array in single MACs. Any dimension may be 0, which takes no
    time.
    """
    if not m * k * n:
        return 0
    lie = folds(m, k, n, rows, cols, dataflow)
    if convention == "ideal":
        return lie.count * lie.stream
    if convention == "stonne":
        return _stonne(lie)
    load = 0 if dataflow == "output_stationary" else rows
    total = lie.count * (load + rows + cols + lie.stream - 2)
    return total - 1 if convention == "scalesim_printed" else total


def _stonne(lie: Folds) -> int:
    """The sum over folds of used rows + used columns + K + 3; used rows add up to ``down`` per column."""
    down, across = ceil_div(lie.down, lie.rows), ceil_div(lie.across, lie.cols)
    return lie.down * across + lie.across * down + lie.count * (lie.stream + 3)
