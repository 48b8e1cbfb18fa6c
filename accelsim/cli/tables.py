"""What the commands show of records on standard output: the main table, the layers, the memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from accelsim.cli.terminal import print_table
from accelsim.record import LayerRecord, RunRecord
from accelsim.report import TableRow, compare_records, comparison_table, quantities, title
from accelsim.report.activity import activity_sentence
from accelsim.report.layer_rates import LayerRates, layer_rates, peaks
from accelsim.report.memory import fit_sentence, memory_rows
from accelsim.report.readings import JOULE_PER_AJ


def show_result(records: Sequence[RunRecord]) -> None:
    """The main table of one record, or of a chip's and a baseline's, under its headline."""
    names = [record.chip.name for record in records]
    compared = len(records) == 2
    header = ["", *names, "chip against baseline"] if compared else ["", *names]
    rows = [
        [row.label, *row.texts, row.reading] if compared else [row.label, *row.texts]
        for row in comparison_table(records)
        if row.group == "result"
    ]
    print_table(header, rows, title=title(records), right=range(1, len(names) + 1))
    if compared and (differences := compare_records(*records).differences):
        click.echo(f"Not equal on both sides: {'; '.join(differences)}.")
    if compared and names[0] == names[1]:
        click.echo(f"Both chips are named '{names[0]}': the first is the chip, the second the baseline.")
    for sentence in filter(None, map(_divergence_sentence, records)):
        click.echo(sentence)
    for sentence in filter(None, map(activity_sentence, records)):
        click.echo(sentence)


def _divergence_sentence(record: RunRecord) -> str:
    """From which epoch on the loss was no number; empty for a run that learnt, or did not train."""
    epochs = record.training.epochs if record.training else ()
    lost = [epoch.epoch for epoch in epochs if epoch.train_loss is None]
    if not lost:
        return ""
    return (
        f"{record.chip.name}: the training diverged: the loss is not a finite number from epoch {lost[0]} on."
    )


def result_json(records: Sequence[RunRecord], files: Sequence[Path] = ()) -> str:
    """The main table with full-precision numbers, for a program."""
    content: dict[str, Any] = {
        "title": title(records),
        "chips": [record.chip.name for record in records],
        "rows": [_row_json(row) for row in comparison_table(records)],
        "records": [str(path) for path in files],
    }
    return json.dumps(content, indent=1, ensure_ascii=False)


def _row_json(row: TableRow) -> dict[str, Any]:
    return {
        "key": row.key,
        "label": row.label,
        "unit": row.unit,
        "values": list(row.values),
        "meaning": row.reading,
    }


def show_layers(record: RunRecord) -> None:
    """Every layer in every phase: work, cycles, what binds, energy; shares are of the whole step."""
    cycles, energy_aj = record.cost.step_cycles, record.cost.step_energy_aj.total_aj
    header = ("layer", "kind", "phase", "MACs", "cycles", "share", "bound by", "MAC use", "energy", "share")
    layers = [layer for layer in record.cost.layers if layer.total_cycles]
    rows = [_layer_row(layer, cycles, energy_aj) for layer in layers]
    macs = sum(layer.macs for layer in layers)
    energy = quantities.joules(energy_aj * JOULE_PER_AJ)
    rows.append(["one step", "", "", f"{macs:,}", f"{cycles:,}", "100.0 %", "", "", energy, "100.0 %"])
    print_table(
        header,
        rows,
        title=f"{record.workload.name} on {record.chip.name}: one step of {record.batch} samples",
        right=(3, 4, 5, 7, 8, 9),
        strong=(len(rows) - 1,),
    )


def _layer_row(layer: LayerRecord, step_cycles: int, step_energy_aj: int) -> list[str]:
    return [
        layer.layer,
        layer.kind,
        layer.phase,
        f"{layer.macs:,}" if layer.macs else "",
        f"{layer.total_cycles:,}",
        quantities.percent(layer.total_cycles / step_cycles),
        layer.bound,
        quantities.percent(layer.utilization) if layer.macs else "",
        quantities.joules(layer.energy_aj.total_aj * JOULE_PER_AJ),
        quantities.percent(layer.energy_aj.total_aj / step_energy_aj),
    ]


def show_rates(record: RunRecord) -> None:
    """Every layer in every phase as measurements are published: ms, TOPS, mW, TOPS/W, DRAM, intensity."""
    header = (
        "layer",
        "phase",
        "array ms",
        "ms",
        "MAC use",
        "TOPS",
        "chip mW",
        "DRAM mW",
        "TOPS/W chip",
        "TOPS/W",
    )
    rows = [_rates_row(rates) for rates in layer_rates(record)]
    print_table(
        (*header, "DRAM MB in, out", "ops/byte"),
        rows,
        title=f"{record.workload.name} on {record.chip.name}: one step of {record.batch} samples",
        right=range(2, 12),
        strong=[index for index, row in enumerate(rows) if row[0] == "all layers"],
    )
    for mode, tops, ridge in peaks(record):
        at = f"{quantities.number(tops, 5)} TOPS, ridge {quantities.number(ridge, 4)} ops/byte"
        click.echo(f"Peak in mode {mode}: {at}.")


def _rates_row(rates: LayerRates) -> list[str]:
    def shown(value: float | None) -> str:
        return "" if value is None else quantities.number(value, 4)

    times = shown(rates.array_ms), shown(rates.total_ms)
    speed = (quantities.percent(rates.utilization), shown(rates.tops)) if rates.macs else ("", "")
    power = shown(rates.chip_mw), shown(rates.dram_mw)
    efficiency = (shown(rates.tops_per_w_chip), shown(rates.tops_per_w)) if rates.macs else ("", "")
    traffic = f"{shown(rates.dram_read_mb)}, {shown(rates.dram_write_mb)}"
    intensity = shown(rates.ops_per_dram_byte) if rates.macs else ""
    return [rates.layer, rates.phase, *times, *speed, *power, *efficiency, traffic, intensity]


def show_memory(records: Sequence[RunRecord]) -> None:
    """DRAM that training needs by class, whether it fits, and the DRAM traffic of a step, for each record."""
    names = [record.chip.name for record in records]
    rows = [[label, *texts] for label, texts in memory_rows(records)]
    print_table(["memory", *names], rows, right=range(1, len(names) + 1))
    for sentence in filter(None, map(fit_sentence, records)):
        click.echo(sentence)
