"""``accelsim map``: how a layer's GEMMs run on a chip, as loop nests."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, fields
from fractions import Fraction
from pathlib import Path
from typing import Any

import click

from accelsim import api
from accelsim.cli.array_loops import array_loops, row_loops
from accelsim.cli.options import (
    batch_option,
    changes_option,
    json_option,
    mapping_option,
    objective_option,
    recipe_option,
)
from accelsim.cli.terminal import print_table
from accelsim.mapping.passes import ceil_div
from accelsim.mapping.row_mapping import RowChoice, RowMapping
from accelsim.operations import PHASES
from accelsim.report import quantities
from accelsim.report.readings import JOULE_PER_AJ
from accelsim.storage import write_text
from accelsim.yamlfile import Change

_CAUSAL = "Causal attention: a mask hides about half of the products, the arrays compute all of them."
_STAYS = {
    "step": "saved tensors and weights, from the forward pass on",
    "update": "gradients of weights, from GEMM to optimiser",
    "dram": "codes of a gradient, in DRAM to make room",
}
"""What a search of residency (`accelsim.cost.residency`) chooses, by `Kept.stays`."""

EXAMPLES = """\b
Examples:
  accelsim map fp4_training fashion_cnn
  accelsim map fp4_training fashion_cnn stem --phase update
  accelsim map fp4_training fashion_cnn stem --pin stem.yaml
  accelsim map fp4_training fashion_cnn stem --mapping stem.yaml --objective energy
"""


@click.command("map", epilog=EXAMPLES)
@click.argument("chip")
@click.argument("workload")
@click.argument("layer", required=False)
@click.option("--phase", type=click.Choice(PHASES), help="Only this phase.")
@changes_option
@recipe_option
@batch_option
@mapping_option
@objective_option
@click.option(
    "--pin",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write what is shown as a file for --mapping, to be changed by hand.",
)
@json_option
def command(
    chip: str,
    workload: str,
    layer: str | None,
    changes: dict[str, Change],
    pin: Path | None,
    as_json: bool,
    **options: Any,
) -> None:
    """Show how the GEMMs of WORKLOAD run on CHIP: all in a table, or those of LAYER as loop nests.

    Each is the best of its space by --objective, unless a file given with --mapping pins it; costs are
    those of the GEMM alone, without the vector work of its layer.
    """
    loaded = api.load_chip(chip, changes)
    mapped = api.map_gemms(loaded, workload, layer, **options)
    if pin:
        write_text(pin, pin_text(mapped))
    if as_json:
        click.echo(json.dumps([_json(each) for each in mapped], indent=1))
        return
    if layer is None:
        _show_all(mapped)
        if any(each.gemm.causal for each in mapped):
            click.echo(_CAUSAL)
        click.echo(space_text(loaded))
        del options["phase"]
        _show_kept(api.kept_tensors(loaded, workload, **options))
    else:
        for each in mapped:
            _show(each)
    if pin:
        click.echo(f"Pinned: {pin}")


def _show_all(mapped: Sequence[api.MappedGemm]) -> None:
    rows = [
        [
            each.gemm.layer,
            _phase(each),
            _shape(each),
            each.plan.dataflow + (", direct" if each.plan.patches else ""),
            each.plan.split,
            f"{each.plan.tile_m} x {each.plan.tile_k} x {each.plan.tile_n}",
            f"{each.cost.time.total_cycles:,}",
            each.cost.time.bound,
            quantities.percent(each.cost.utilization),
            quantities.joules(each.cost.energy.total_aj * JOULE_PER_AJ),
        ]
        for each in mapped
    ]
    header = ("layer", "phase", "M x K x N", "dataflow", "cut along", "tile", "cycles", "bound by", "MAC use")
    print_table((*header, "energy"), rows, right=(6, 8, 9))


def space_text(chip: api.Chip) -> str:
    """The mappings that a search on ``chip`` chooses from, in a few lines."""
    array, cut = chip.array, "m, n and groups" + (", and k over the ring" if chip.ring else "")
    lines = [
        f"The exact best of: {', '.join(array.dataflows)}; {_arrays(chip.workers)} cut along {cut}; "
        "tiles of whole passes times powers of two, both loop orders.",
    ]
    if array.convolution != "im2col":
        ways = "or im2col" if array.convolution == "either" else "wherever two patches fit"
        lines.append(f"Convolutions direct {ways}: rows or chunks a power of two, cols all, 1/2, 1/4 or 1/8.")
    if chip.scratchpad.residency == "searched":
        lines.append(f"Scratchpads: every set that fits of {'; '.join(_STAYS.values())}.")
    return "\n".join(lines)


def _show_kept(kept: Sequence[api.Kept]) -> None:
    if kept:
        rows = [(each.name, f"{each.size_bytes:,}", _STAYS[each.stays]) for each in kept]
        print_table(("kept on the chip", "bytes", "what"), rows, right=(1,))


def _phase(each: api.MappedGemm) -> str:
    return f"{each.gemm.phase}, {each.gemm.part}" if each.gemm.part else each.gemm.phase


def _shape(each: api.MappedGemm) -> str:
    groups = f" x {each.gemm.groups} groups" if each.gemm.groups > 1 else ""
    return f"{each.gemm.m:,} x {each.gemm.k:,} x {each.gemm.n:,}{groups}"


def _show(each: api.MappedGemm) -> None:
    gemm, plan = each.gemm, each.plan
    click.echo(
        f"{gemm.layer}, {_phase(each)}: {_shape(each)} (M x K x N), {gemm.a_format} x {gemm.b_format} "
        f"into {plan.accumulator}, {plan.dataflow}{', direct' if plan.patches else ''}\n"
    )
    if gemm.causal:
        click.echo(f"{_CAUSAL}\n")
    nest = [("  " * depth + loop, note) for depth, (loop, note) in enumerate(loop_nest(each), 1)]
    width = max(48, *(len(loop) for loop, _ in nest)) + 2
    for loop, note in nest:
        click.echo(f"{loop:<{width}}{note}".rstrip())
    click.echo("")
    print_table(("cost of the GEMM alone", ""), _cost_rows(each), right=(1,))


def loop_nest(each: api.MappedGemm) -> list[tuple[str, str]]:
    """The loops from DRAM to the PE, outermost first, each with a note about data."""
    plan = each.plan
    if plan.by_rows is not None:
        return row_loops(plan.by_rows)
    outer, inner = ("m", "n") if plan.loop_order == "m_outer" else ("n", "m")
    a_loads, b_loads = each.loads
    tiles = {"m": (plan.m, plan.tile_m), "n": (plan.n, plan.tile_n), "k": (plan.k, plan.tile_k)}
    notes = (f"A read {_times(a_loads)} x from memory", f"B read {b_loads} x", "sums stay while k advances")
    nest = [
        (_tile_loop(name, *tiles[name]), note) for name, note in zip((outer, inner, "k"), notes, strict=True)
    ]
    used = plan.splits.workers
    merge = (
        f"; pieces of k add up in order, {each.counts.counts.merge_cycles:,} cycles"
        if plan.k_splits > 1
        else ""
    )
    cut = " x ".join(f"{name} {pieces}" for name, pieces in vars(plan.splits).items())
    nest.append((f"in parallel {cut}", f"{used} of {_arrays(plan.workers)}{merge}"))
    return [*nest, *array_loops(each.plan)]


def _times(loads: int | Fraction) -> str:
    """A whole number, or one with the share that neighbouring tiles load twice."""
    return str(loads) if loads == int(loads) else f"{float(loads):.3f}"


def _arrays(count: int) -> str:
    return f"{count} arrays" if count > 1 else "1 array"


def _tile_loop(name: str, extent: int, tile: int) -> str:
    return f"for {name} in {ceil_div(extent, max(tile, 1))} tile(s) of {tile:,}"


def _cost_rows(each: api.MappedGemm) -> list[tuple[str, str]]:
    cost, counts, time = each.cost, each.counts.counts, each.cost.time
    kinds = ("fill", "compute", "stall", "drain", "merge")
    energy = {name.replace("_", " "): aj for name, aj in cost.energy.as_record().items() if aj}
    return [
        ("Cycles", f"{time.total_cycles:,}"),
        ("  bound by", time.bound),
        ("  of the arrays", f"{time.array_cycles:,}"),
        *((f"    {kind}", f"{getattr(counts, f'{kind}_cycles'):,}") for kind in kinds),
        ("  of DRAM", f"{time.dram_cycles:,}"),
        ("  of the scratchpads", f"{time.scratchpad_cycles:,}"),
        ("  before the arrays start", f"{time.fill_cycles:,}"),
        ("MAC use", quantities.percent(cost.utilization)),
        ("DRAM read, written", f"{cost.traffic.dram_read_bytes:,}, {cost.traffic.dram_write_bytes:,} bytes"),
        ("Scratchpads, both ways", f"{cost.traffic.scratchpad_bytes:,} bytes"),
        ("Operand buffers", f"{counts.operand_buffer_bytes:,} bytes"),
        ("From array to array", f"{counts.ring_bytes:,} bytes"),
        ("Energy", quantities.joules(cost.energy.total_aj * JOULE_PER_AJ)),
        *((f"  {name}", quantities.joules(aj * JOULE_PER_AJ)) for name, aj in energy.items()),
    ]


def pin_text(mapped: Sequence[api.MappedGemm]) -> str:
    """A file for ``--mapping`` that pins these mappings as they are."""
    lines = ["# Pinned mappings, for --mapping of estimate, run and compare.", "mappings:"]
    distinct = {(each.gemm.layer, each.gemm.phase, each.gemm.part, _shape(each)): each for each in mapped}
    for each in distinct.values():
        gemm, plan = each.gemm, each.plan
        splits = ", ".join(f"{name}: {pieces}" for name, pieces in vars(plan.splits).items())
        tile = f"m: {plan.tile_m}, n: {plan.tile_n}, k: {plan.tile_k}, loop_order: {plan.loop_order}"
        lines += [
            f"  - layer: {gemm.layer}",
            f"    phase: {gemm.phase}",
            f"    gemm: [{gemm.m}, {gemm.k}, {gemm.n}]",
            *([f"    part: {gemm.part}"] if gemm.part else []),
            f"    dataflow: {plan.dataflow}",
            *(
                [f"    splits: {{{splits}}}", f"    tile: {{{tile}}}", *_pinned_windows(each)]
                if plan.by_rows is None
                else _rows(plan.by_rows)
            ),
        ]
    return "\n".join(lines) + "\n"


def _rows(mapping: RowMapping) -> list[str]:
    """The pin of a row-stationary mapping."""
    pairs = ", ".join(f"{each.name}: {getattr(mapping, each.name)}" for each in fields(RowChoice))
    return [f"    rows: {{{pairs}}}"]


def _pinned_windows(each: api.MappedGemm) -> list[str]:
    """The keys of a convolution whose windows share inputs."""
    sliding, patches = each.gemm.sliding, each.plan.patches
    if sliding is None or not sliding.repeats:
        return []
    if patches is None:
        return ["    convolution: im2col"]
    extents = f"chunks: {patches.chunks}" if patches.chunks else f"rows: {patches.rows}, cols: {patches.cols}"
    return ["    convolution: direct", f"    window: {{{extents}}}"]


def _json(each: api.MappedGemm) -> dict[str, Any]:
    return {
        "layer": each.gemm.layer,
        "phase": each.gemm.phase,
        "part": each.gemm.part,
        "plan": asdict(each.plan),
        "loop_nest": [loop for loop, _ in loop_nest(each)],
        "counts": vars(each.counts.counts),
        "cost": each.cost.as_record(),
    }
