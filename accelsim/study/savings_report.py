"""The savings study as tables: Markdown for people, CSV for programs."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from accelsim.cost import grid_record, load_grid
from accelsim.record import GridRecord
from accelsim.report import quantities as q
from accelsim.report.footprint import JOULE_PER_KWH, footprint
from accelsim.storage import write_bytes, write_text
from accelsim.study.savings_figures import savings_images
from accelsim.study.savings_record import Binding, Row, Savings

BINDINGS: dict[Binding, str] = {
    "array_low": "MAC arrays, 4-bit layers",
    "array_16bit": "MAC arrays, 16-bit layers",
    "dram": "DRAM",
    "scratchpad": "scratchpads",
    "vector": "vector units",
    "link": "links between chips",
}
SEARCH_KWH, SEARCH_PUE, SEARCH_GRID = 656_347, 1.58, "usa_2018"
"""Energy of one neural architecture search at the meter (Strubell et al., ACL 2019, table 3)."""


def write_savings(savings: Savings, folder: Path) -> list[Path]:
    """Write savings.md, savings.csv and figures/ into ``folder``; return the paths."""
    paths = [folder / "savings.md", folder / "savings.csv"]
    write_text(paths[1], savings_csv(savings))
    for name, kinds in savings_images(savings).items():
        for kind, data in kinds.items():
            paths.append(folder / "figures" / f"{name}.{kind}")
            write_bytes(paths[-1], data)
    write_text(paths[0], savings_markdown(savings))
    return paths


def savings_csv(savings: Savings) -> str:
    """Every row with full-precision numbers."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    sides = ("step_seconds", "run_seconds", "run_j", "kwh", "co2e_kg", "money", "peak_bytes")
    header = ["pair", "model", "parameters", "macs", "batch", "epochs", "steps", "speedup", "all_low_speedup"]
    header += ["energy_ratio"]
    header += [f"{side}_{name}" for name in sides for side in ("chip", "baseline")]
    writer.writerow([*header, *(f"chip_bound_{name}" for name in BINDINGS), "key"])
    for row in savings.rows:
        cells: list[object] = [
            row.pair,
            row.model,
            row.parameters,
            row.macs,
            row.batch,
            row.epochs,
            row.steps,
        ]
        cells += [repr(row.speedup), repr(row.all_low_speedup), repr(row.energy_ratio)]
        cells += [repr(getattr(side, name)) for name in sides for side in (row.chip, row.baseline)]
        cells += [repr(row.chip.time_share[name]) for name in BINDINGS]
        writer.writerow([*cells, row.key])
    return out.getvalue()


def savings_markdown(savings: Savings) -> str:
    """The study in words and tables."""
    lines = ["# What 4-bit training saves", "", *_opening(savings)]
    for pair in dict.fromkeys(row.pair for row in savings.rows):
        rows = savings.of(pair)
        chip, baseline = rows[0].chip.chip, rows[0].baseline.chip
        lines += ["", f"## {pair.capitalize()}: {chip} against {baseline}", ""]
        lines += _findings(rows, savings.mac_ratios[pair])
        lines += ["", *_table(rows), "", *_run_table(rows)]
        lines += ["", f"![speed and energy](figures/{pair}_ratios.png)", ""]
        lines += [f"![where the time goes](figures/{pair}_time.png)"]
    lines += ["", "![energy of a training run](figures/energy_per_run.png)", "", *_search(savings)]
    lines += ["", "## How this was made", "", f"`{savings.command}`", ""]
    versions = ", ".join(f"{name} {number}" for name, number in sorted(savings.versions.items()) if number)
    lines += [
        f"{versions}; sources `{savings.code_sha256[:16]}`. Every row's key in savings.json is the digest"
    ]
    lines += [
        "of its files and of these sources; the command computes again what has changed, and only that."
    ]
    return "\n".join(lines) + "\n"


def _opening(savings: Savings) -> list[str]:
    return [
        "Estimates, not measurements: cycles and energy of whole training runs on two pairs of simulated",
        "chips of equal area (4-bit against 16-bit), with the batch and epochs of each workload file, each",
        f"by its own recipe. `{savings.rows[0].chip.recipe}` keeps first, last and depthwise layers in 16",
        "bits, in which its chip has a third of the baseline's rate; the column 'ends too' shows the speed",
        "with first and last layers in 4 bits. Accuracy is no part of this. Electricity: grid",
        f"`{savings.grid}`, and a data centre's overhead for the server pair. Where a step does not fit the",
        "DRAM of both chips, the mini-batch is halved until it does (marked `*`); each step pays its update.",
    ]


def _findings(rows: Sequence[Row], mac_ratio: float) -> list[str]:
    """Where the peak ratio holds, where it does not, and what takes its place: read off the rows."""
    best, worst = max(rows, key=_speed), min(rows, key=_speed)
    lines = [
        f"- At peak the 4-bit chip does {q.number(mac_ratio)} times the multiply-accumulates. The most that",
        f"  is left of it is {q.times(best.speedup)} ({best.model}), the least {q.times(worst.speedup)} "
        f"({worst.model}).",
    ]
    for name, words in BINDINGS.items():
        bound = [row for row in rows if row.chip.binding == name]
        if bound:
            listed = ", ".join(
                f"{row.model} ({q.percent(row.chip.time_share[name], 0)}, {q.times(row.speedup)})"
                for row in bound
            )
            lines.append(f"- Bound most by {words}: {listed}.")
    return lines


def _speed(row: Row) -> float:
    return row.speedup


def _table(rows: Sequence[Row]) -> list[str]:
    """Ratios are 16-bit / 4-bit: above 1 is better for 4 bits; memory is 4-bit / 16-bit."""
    header = (
        "model",
        "parameters",
        "MACs",
        "batch",
        "speed",
        "ends too",
        "energy",
        "peak memory",
        "most bound by",
    )
    cells = [
        (
            row.model,
            q.si(row.parameters, ""),
            q.si(row.macs, ""),
            f"{row.batch}{'*' if row.halvings else ''}",
            q.times(row.speedup),
            q.times(row.all_low_speedup),
            q.times(row.energy_ratio),
            f"{q.size(row.chip.peak_bytes)} / {q.size(row.baseline.peak_bytes)}",
            _bound_text(row),
        )
        for row in rows
    ]
    return _markdown(header, cells)


def _bound_text(row: Row) -> str:
    """What binds the longest, and the layer it is, where 16-bit layers do."""
    text = f"{BINDINGS[row.chip.binding]} ({q.percent(row.chip.time_share[row.chip.binding], 0)})"
    if row.chip.binding == "array_16bit" and row.widest:
        return f"{text}: {row.widest[0]} {q.percent(row.widest[1], 0)}"
    return text


def _run_table(rows: Sequence[Row]) -> list[str]:
    """Whole runs: time, energy at the meter, carbon, money, and battery charges where there is a battery."""
    battery = any(row.chip.battery_charges is not None for row in rows)
    header = ["full run, 4-bit / 16-bit", "epochs", "days", "kWh", "kg CO2e", rows[0].chip.currency]
    header += ["battery charges"] if battery else []
    cells = []
    for row in rows:
        pairs = [
            (side.run_seconds / 86400, side.kwh, side.co2e_kg, side.money)
            for side in (row.chip, row.baseline)
        ]
        line = [row.model, f"{row.epochs:,}"]
        line += [f"{q.number(ours)} / {q.number(theirs)}" for ours, theirs in zip(*pairs, strict=True)]
        if battery:
            charges = (row.chip.battery_charges or 0, row.baseline.battery_charges or 0)
            line.append(f"{q.number(charges[0])} / {q.number(charges[1])}")
        cells.append(line)
    return _markdown(header, cells)


def _search(savings: Savings) -> list[str]:
    """The 284 tonnes of one neural architecture search, scaled by this study's ratios."""
    grid = GridRecord.model_validate(grid_record(load_grid(SEARCH_GRID), None, pue=SEARCH_PUE))
    found = footprint(SEARCH_KWH / SEARCH_PUE * JOULE_PER_KWH, grid)
    server = savings.of("server")
    lines = [
        "## The 284 tonnes",
        "",
        f"One neural architecture search took {SEARCH_KWH:,} kWh at the meter (PUE {SEARCH_PUE}), which at",
        f"0.954 lb a kWh are {q.number(found.co2e_kg / 1000)} t CO2e (Strubell et al., ACL 2019). Had all",
        "of it been training at the energy ratio that a model has here on the server pair:",
        "",
    ]
    cells = [
        (row.model, q.times(row.energy_ratio), f"{q.number(found.co2e_kg / 1000 / row.energy_ratio)} t")
        for row in sorted(server, key=lambda row: row.energy_ratio)
    ]
    cells.append(("if energy fell by 7 as the peak does", q.times(7), f"{q.number(found.co2e_kg / 7000)} t"))
    return lines + _markdown(("at the ratio of", "energy", "CO2e"), cells)


def _markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [header, ["---"] * len(header), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]
