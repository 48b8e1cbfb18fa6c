"""The tables below the main one: what binds each layer, how each GEMM was mapped, memory, sources."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from accelsim.operations import Phase
from accelsim.record import EVIDENCE, Evidence, LayerRecord, Resource, RunRecord
from accelsim.report import quantities as q


@dataclass(frozen=True)
class BottleneckCell:
    """One layer and phase on one chip; ``bar`` is its time over the longest of that chip."""

    bound: Resource
    time: str
    step_share: str
    bar: float
    utilization: str
    dram: str
    energy: str


@dataclass(frozen=True)
class BottleneckRow:
    """One layer and phase on every chip (None where a chip does not have it); ``speedup`` in words."""

    layer: str
    kind: str
    phase: Phase
    macs: str
    cells: tuple[BottleneckCell | None, ...]
    speedup: str


def bottleneck_rows(records: Sequence[RunRecord]) -> tuple[BottleneckRow, ...]:
    """Every layer and phase that takes time, layer by layer in network order."""
    tables = [{(row.layer, row.phase): row for row in record.cost.layers} for record in records]
    layers = dict.fromkeys(row.layer for record in records for row in record.cost.layers)
    keys = dict.fromkeys(key for table in tables for key in table)
    ordered = sorted(keys, key=lambda key: list(layers).index(key[0]))
    found = [[table.get(key) for table in tables] for key in ordered]
    return tuple(
        _bottleneck_row(records, rows) for rows in found if any(row and row.total_cycles for row in rows)
    )


def _bottleneck_row(records: Sequence[RunRecord], rows: Sequence[LayerRecord | None]) -> BottleneckRow:
    known = next(row for row in rows if row)
    seconds = [
        row.total_cycles / record.cost.clock_mhz * 1e-6 / record.batch if row else 0.0
        for record, row in zip(records, rows, strict=True)
    ]
    compared = len(seconds) == 2 and all(seconds)
    return BottleneckRow(
        layer=known.layer,
        kind=known.kind.replace("_", " "),
        phase=known.phase,
        macs=q.si(known.macs, "") if known.macs else "–",
        cells=tuple(
            _bottleneck_cell(record, row) if row else None for record, row in zip(records, rows, strict=True)
        ),
        speedup=q.times(seconds[1] / seconds[0]) if compared else "–",
    )


def _bottleneck_cell(record: RunRecord, row: LayerRecord) -> BottleneckCell:
    return BottleneckCell(
        bound=row.bound,
        time=q.seconds(row.total_cycles / record.cost.clock_mhz * 1e-6),
        step_share=q.percent(row.total_cycles / record.cost.step_cycles),
        bar=row.total_cycles / max(other.total_cycles for other in record.cost.layers),
        utilization=q.percent(row.utilization, 0) if row.macs else "–",
        dram=q.size(row.dram_read_bytes + row.dram_write_bytes),
        energy=q.joules(row.energy_aj.total_aj * 1e-18),
    )


def longest(record: RunRecord, most: int = 3) -> tuple[tuple[LayerRecord, float], ...]:
    """The layers and phases that take the most time, with their share of the step."""
    rows = sorted(record.cost.layers, key=lambda row: -row.total_cycles)[:most]
    return tuple((row, row.total_cycles / record.cost.step_cycles) for row in rows)


@dataclass(frozen=True)
class PlanRow:
    """How one GEMM runs, in words."""

    layer: str
    phase: Phase
    shape: str
    formats: str
    dataflow: str
    workers: str
    lanes: int
    chunk: int
    passes: str
    array_cycles: str
    utilization: str


def plan_rows(record: RunRecord) -> tuple[PlanRow, ...]:
    """The plan of every GEMM, in the order of the layers."""
    return tuple(
        PlanRow(
            layer=row.layer,
            phase=row.phase,
            shape=f"{gemm.m:,} × {gemm.k:,} × {gemm.n:,}"
            + (f" × {gemm.groups:,}" if gemm.groups > 1 else ""),
            formats=f"{gemm.a_format} × {gemm.b_format}",
            dataflow=gemm.dataflow.replace("_", " "),
            workers=f"{gemm.workers} along {gemm.split}",
            lanes=gemm.lanes,
            chunk=gemm.chunk,
            passes=f"{gemm.passes:,}",
            array_cycles=f"{gemm.array_cycles:,}",
            utilization=q.percent(row.utilization, 0),
        )
        for row in record.cost.layers
        for gemm in row.gemms
    )


def area_rows(records: Sequence[RunRecord]) -> tuple[tuple[str, tuple[str, ...]], ...]:
    """(what, its area on every chip)."""
    areas = [
        ("MAC arrays", "mac_array_mm2"),
        ("Vector units", "vector_unit_mm2"),
        ("Scratchpads", "scratchpad_mm2"),
        ("Interconnect, control, IO", "other_mm2"),
        ("Die", "die_mm2"),
    ]
    return tuple(
        (label, tuple(f"{q.number(getattr(record.cost.area, key))} mm²" for record in records))
        for label, key in areas
    )


@dataclass(frozen=True)
class SourceRow:
    """One physical number and where it comes from; ``chips`` names whose it is."""

    key: str
    value: str
    unit: str
    evidence: Evidence
    source: str
    chips: str


def source_rows(records: Sequence[RunRecord]) -> tuple[SourceRow, ...]:
    """Physical numbers of all chips, best known first; a number that all chips share is listed once."""
    owners: dict[tuple[str, float, str, Evidence, str], list[str]] = {}
    for record in records:
        for row in (*record.sources, *(record.grid.sources if record.grid else ())):
            owner = owners.setdefault((row.key, row.value, row.unit, row.evidence, row.source), [])
            owner.append(record.chip.name)
    ordered = sorted(owners, key=lambda row: EVIDENCE.index(row[3]))
    return tuple(
        SourceRow(
            key,
            f"{value:,.10g}",
            unit.replace("um2", "µm²").replace("mm2", "mm²"),
            evidence,
            source,
            _chips(owners[key, value, unit, evidence, source], records),
        )
        for key, value, unit, evidence, source in ordered
    )


def _chips(owners: Sequence[str], records: Sequence[RunRecord]) -> str:
    return "all" if len(owners) == len(records) else ", ".join(owners)


def evidence_counts(rows: Sequence[SourceRow]) -> dict[Evidence, int]:
    """How many physical numbers rest on each kind of evidence."""
    return {evidence: sum(row.evidence == evidence for row in rows) for evidence in EVIDENCE}


def latest_tensors(record: RunRecord) -> tuple[tuple[str, str, str, str, str], ...]:
    """(layer, role, saturated, flushed to zero, scale) of every quantised tensor in the last epoch held."""
    tensors = record.training.tensors if record.training else ()
    last = max((tensor.epoch for tensor in tensors), default=0)
    return tuple(
        (
            tensor.layer,
            tensor.role.replace("_", " "),
            q.percent(tensor.saturated, 2),
            q.percent(tensor.underflow, 2),
            "–" if tensor.scale is None else q.number(tensor.scale),
        )
        for tensor in tensors
        if tensor.epoch == last
    )
