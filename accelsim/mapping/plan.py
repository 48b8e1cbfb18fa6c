"""The plan of one GEMM on one array: what fixes its cycles *and* its bits."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from accelsim.mapping.row_mapping import RowMapping
from accelsim.operations import Sliding

Dataflow = Literal["weight_stationary", "output_stationary", "input_stationary", "row_stationary"]
LoopOrder = Literal["m_outer", "n_outer"]
Convolution = Literal["im2col", "direct"]
LOOP_ORDERS: tuple[LoopOrder, ...] = ("m_outer", "n_outer")


@dataclass(frozen=True)
class Splits:
    """Into how many pieces a chip's arrays cut M, N, the groups and K of a GEMM."""

    m: int = 1
    n: int = 1
    groups: int = 1
    k: int = 1

    @property
    def workers(self) -> int:
        """Arrays that have a piece, where each dimension has as many elements as pieces."""
        return self.m * self.n * self.groups * self.k

    def __str__(self) -> str:
        """``n`` where one dimension is cut, ``m 2 x k 4`` where more are, ``m`` where none is."""
        cut = [(name, pieces) for name, pieces in vars(self).items() if pieces > 1]
        return cut[0][0] if len(cut) == 1 else " x ".join(f"{name} {pieces}" for name, pieces in cut) or "m"


@dataclass(frozen=True)
class Patches:
    """How a directly mapped convolution walks over its images, see `accelsim.mapping.direct`.

    Where positions lie along M, a tile is ``rows`` x ``cols`` positions of an image; where they lie along K,
    it is ``chunks`` chunks of K one after another.
    """

    sliding: Sliding
    rows: int = 0
    cols: int = 0
    chunks: int = 0


@dataclass(frozen=True)
class Plan:
    """How one `Gemm` runs on a chip.

    The bits follow from ``lanes`` (products added exactly, rounded once), ``chunk`` (products per
    inner accumulation; chunks are added to the outer accumulator in ascending k, one rounding each),
    ``k_splits`` (contiguous pieces of K, added up in their order) and the adder: ``accumulator``,
    ``overflow``, ``rounding``, ``alignment_bits`` and ``readout``, which are words of
    `numerics.accumulation.Accumulation`. Everything else decides cycles and traffic.

    Array geometry is that of one corelet: ``rows`` x ``cols`` PEs, each ``simd`` independent output
    columns wide, each of those ``lanes`` products deep along K. The chip has ``workers`` such arrays;
    ``m_splits`` x ``n_splits`` x ``group_splits`` x ``k_splits`` of them work, each on its piece. Pieces of
    K meet on links of ``link_bytes_per_cycle`` with ``hop_cycles`` each (`accelsim.mapping.merging`; 0:
    there are none), in sums of ``sum_bits``. ``multicast``: one scratchpad read serves several arrays.
    ``by_rows``: how a row-stationary array slides over images, which decides its counts (not its bits: see
    `accelsim.mapping.row_mapping`). ``patches``: how a direct convolution takes its images; None: im2col.
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
    m_splits: int
    n_splits: int
    group_splits: int
    tile_m: int
    tile_n: int
    tile_k: int
    loop_order: LoopOrder
    energy_aj_per_mac: int
    sum_bits: int
    link_bytes_per_cycle: int = 0
    hop_cycles: int = 1
    rounding: str = "format"
    alignment_bits: int | None = None
    k_splits: int = 1
    readout: str = "fp32"
    multicast: bool = False
    by_rows: RowMapping | None = None
    patches: Patches | None = None

    @property
    def splits(self) -> Splits:
        """Into how many pieces each dimension is cut."""
        return Splits(self.m_splits, self.n_splits, self.group_splits, self.k_splits)

    @property
    def split(self) -> str:
        """The same in words: ``n``, ``m 2 x k 4``."""
        return str(self.splits)

    @property
    def output_cols(self) -> int:
        """Independent output columns of one array: PE columns times SIMD width."""
        return self.cols * self.simd
