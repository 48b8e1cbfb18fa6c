"""The plan of one GEMM on one array: what fixes its cycles *and* its bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Dataflow = Literal["weight_stationary", "output_stationary", "input_stationary"]


@dataclass(frozen=True)
class Plan:
    """How one `Gemm` runs on a chip.

    The bits follow from ``lanes`` (products added exactly, rounded once), ``chunk`` (products per
    inner accumulation; chunks are added to the outer accumulator in ascending k, one rounding each),
    ``k_splits`` (contiguous pieces of K, added up in their order) and the adder: ``accumulator``,
    ``overflow``, ``rounding``, ``alignment_bits`` and ``readout``, which are words of
    `numerics.accumulation.Accumulation`. Everything else decides cycles and traffic.

    Array geometry is that of one corelet: ``rows`` x ``cols`` PEs, each ``simd`` independent output
    columns wide, each of those ``lanes`` products deep along K.
    """

    m: int
    k: int
    n: int
    groups: int
    dataflow: Dataflow
    rows: int
    cols: int
    simd: int
    lanes: int
    chunk: int
    accumulator: str
    overflow: Literal["format", "saturate", "wrap"]
    pipelined: bool
    workers: int
    split: Literal["m", "n", "groups"]
    tile_m: int
    tile_n: int
    tile_k: int
    loop_order: Literal["m_outer", "n_outer"]
    energy_aj_per_mac: int
    rounding: str = "format"
    alignment_bits: int | None = None
    k_splits: int = 1
    readout: str = "fp32"

    @property
    def output_cols(self) -> int:
        """Independent output columns of one array: PE columns times SIMD width."""
        return self.cols * self.simd
