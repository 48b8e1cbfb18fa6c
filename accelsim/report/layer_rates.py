"""What a layer does in a second and for a joule: the units in which measurements of chips are published."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields

from accelsim.record import LayerRecord, RunRecord
from accelsim.report.readings import JOULE_PER_AJ


@dataclass(frozen=True)
class LayerRates:
    """One layer in one phase of one mini-batch, or several together; 1 MAC is 2 operations.

    ``array_ms`` is the time of the arrays alone, ``total_ms`` that with what holds them up. ``tops`` are
    useful operations in the total time; the chip is the whole of it without its DRAM. None where it would
    be over nothing: ``ops_per_dram_byte`` of what moves none, efficiencies of what takes no energy.
    """

    layer: str
    phase: str
    macs: int
    array_ms: float
    total_ms: float
    utilization: float
    tops: float
    chip_mw: float
    dram_mw: float
    tops_per_w_chip: float | None
    tops_per_w: float | None
    dram_read_mb: float
    dram_write_mb: float
    scratchpad_mb: float
    ops_per_dram_byte: float | None


def layer_rates(record: RunRecord) -> list[LayerRates]:
    """Every layer and phase that takes time, then each phase, then the step; of one of several chips."""
    clock_mhz = record.cost.clock_mhz
    layers = [layer for layer in record.cost.layers if layer.total_cycles]
    rows = [_rates(layer.layer, layer.phase, [layer], clock_mhz) for layer in layers]
    phases = list(dict.fromkeys(layer.phase for layer in layers))
    for phase in phases if len(phases) > 1 else []:
        rows.append(_rates("all layers", phase, [one for one in layers if one.phase == phase], clock_mhz))
    return [*rows, _rates("all layers", "", layers, clock_mhz)]


def _rates(name: str, phase: str, layers: Iterable[LayerRecord], clock_mhz: float) -> LayerRates:
    layers = list(layers)
    total_s, array_s = (
        sum(getattr(layer, f"{kind}_cycles") for layer in layers) / clock_mhz / 1e6
        for kind in ("total", "array")
    )
    macs = sum(layer.macs for layer in layers)
    dram_j = sum(layer.energy_aj.dram for layer in layers) * JOULE_PER_AJ
    total_j = sum(layer.energy_aj.total_aj for layer in layers) * JOULE_PER_AJ
    read, written = (
        sum(getattr(layer, f"dram_{way}_bytes") for layer in layers) for way in ("read", "write")
    )
    ideal = sum(layer.utilization * layer.total_cycles for layer in layers)
    return LayerRates(
        layer=name,
        phase=phase,
        macs=macs,
        array_ms=array_s * 1e3,
        total_ms=total_s * 1e3,
        utilization=ideal / sum(layer.total_cycles for layer in layers),
        tops=2 * macs / total_s / 1e12,
        chip_mw=(total_j - dram_j) / total_s * 1e3,
        dram_mw=dram_j / total_s * 1e3,
        tops_per_w_chip=_over(2 * macs / 1e12, total_j - dram_j),
        tops_per_w=_over(2 * macs / 1e12, total_j),
        dram_read_mb=read / 1e6,
        dram_write_mb=written / 1e6,
        scratchpad_mb=sum(layer.scratchpad_bytes for layer in layers) / 1e6,
        ops_per_dram_byte=_over(2 * macs, read + written),
    )


def peaks(record: RunRecord) -> list[tuple[str, float, float]]:
    """(mode, peak TOPS, operations per byte of DRAM at which both limit) of one chip.

    A record whose chip states no DRAM bandwidth among its sources has none.
    """
    rates = [one.value for one in record.sources if one.key == "dram.bandwidth_gb_per_s"]
    return [
        (mode, tops, tops * 1000 / rate) for rate in rates for mode, tops in record.cost.peak_tops.items()
    ]


def _over(dividend: float, divisor: float) -> float | None:
    return dividend / divisor if divisor else None


def rates_csv(records: Iterable[RunRecord]) -> str:
    """One line per chip, layer and phase, full precision; units stand in the names of the columns."""
    out = io.StringIO()
    names = ["chip", "workload", "batch", *(field.name for field in fields(LayerRates))]
    writer = csv.DictWriter(out, names, lineterminator="\n")
    writer.writeheader()
    for record in records:
        about = {"chip": record.chip.name, "workload": record.workload.name, "batch": record.batch}
        for row in layer_rates(record):
            writer.writerow(about | asdict(row))
    return out.getvalue()
