"""The plan that every other starts from: a GEMM in one piece, on one array of a chip."""

from __future__ import annotations

from accelsim.chip import Chip, Mode
from accelsim.mapping.attojoules import attojoules
from accelsim.mapping.plan import Dataflow, Plan
from accelsim.operations import Gemm


def whole_plan(gemm: Gemm, chip: Chip, mode: Mode, dataflow: Dataflow, sum_bits: int) -> Plan:
    """``gemm`` uncut, as one tile and one chunk: array, adder and price are those of any plan on ``chip``.

    ``sum_bits``: width of a partial sum.
    """
    array = chip.array
    return Plan(
        m=gemm.m,
        k=gemm.k,
        n=gemm.n,
        groups=gemm.groups,
        dataflow=dataflow,
        rows=array.rows,
        cols=array.cols,
        simd=array.simd,
        lanes=mode.lanes,
        chunk=max(gemm.k, 1),
        accumulator=array.accumulator,
        overflow=array.overflow,
        pipelined=array.pipelined,
        workers=1,
        m_splits=1,
        n_splits=1,
        group_splits=1,
        tile_m=gemm.m,
        tile_n=gemm.n,
        tile_k=gemm.k,
        loop_order="m_outer",
        energy_aj_per_mac=attojoules(mode.energy_pj_per_mac.value),
        sum_bits=sum_bits,
        rounding=array.rounding,
        alignment_bits=array.alignment_bits,
        readout=chip.vector_unit.storage_format,
    )
