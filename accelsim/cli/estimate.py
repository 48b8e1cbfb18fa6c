"""``accelsim estimate``: cycles, energy, memory and traffic, at once, without computing values."""

from __future__ import annotations

from pathlib import Path

import click

from accelsim import api
from accelsim.chip import operating_at, with_stated_zeros
from accelsim.cli.electricity import electricity_options, on_grid
from accelsim.cli.options import (
    batch_option,
    changes_option,
    chips_option,
    epochs_option,
    json_option,
    mapping_option,
    objective_option,
    out_option,
    quiet_option,
    recipe_option,
)
from accelsim.cli.tables import result_json, show_layers, show_memory, show_rates, show_result
from accelsim.cli.training import command_line
from accelsim.cli.writable import require_writable
from accelsim.record import RunRecord, record_text
from accelsim.report.layer_rates import rates_csv
from accelsim.report.readings import phases_sentence
from accelsim.run.phases import PHASE_CHOICES
from accelsim.storage import write_text
from accelsim.yamlfile import Change

EXAMPLES = """\b
Examples:
  accelsim estimate fp4_training fashion_cnn
  accelsim estimate fp4_training fashion_cnn --baseline fp16_training
  accelsim estimate edge_fp4 fashion_cnn --batch 256 --json
  accelsim estimate fp4_training fashion_cnn --grid france --pue 1.09
  accelsim estimate fp4_training resnet50_imagenet --chips 8
  accelsim estimate tpu_v1 resnet18_imagenet --phases forward --batch 8
  accelsim estimate fp4_training fashion_cnn --voltage 0.6 --zeros 0.5
  accelsim estimate eyeriss_rows alexnet_2012 --batch 4 --rates --csv layers.csv
  accelsim estimate fp4_training fashion_cnn --set scratchpad.residency=searched
  accelsim estimate my_chip.yaml fashion_cnn --out reports/my_chip
"""


@click.command("estimate", epilog=EXAMPLES)
@click.argument("chip")
@click.argument("workload")
@click.option("--baseline", metavar="CHIP", help="A second chip to compare with.")
@changes_option
@recipe_option
@epochs_option
@batch_option
@mapping_option
@objective_option
@chips_option
@click.option(
    "--phases",
    type=click.Choice(PHASE_CHOICES),
    help="A training step, or the forward pass alone (inference); default: training, where CHIP can.",
)
@click.option("--clock-mhz", metavar="X", type=float, help="Clock of CHIP in place of its file's.")
@click.option(
    "--voltage", metavar="X", type=float, help="Supply voltage of CHIP, V; scales energy and clock."
)
@click.option("--zeros", metavar="X", type=float, help="Stated share (0..1) of products with a zero operand.")
@electricity_options
@click.option("--rates", is_flag=True, help="Show layers in ms, TOPS, mW, TOPS/W, DRAM MB and ops per byte.")
@click.option(
    "--csv",
    "csv_file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write those of every layer and phase as CSV.",
)
@out_option("nothing is written")
@json_option
@quiet_option
def command(
    chip: str,
    workload: str,
    baseline: str | None,
    changes: dict[str, Change],
    recipe: str | None,
    epochs: int | None,
    batch: int | None,
    mapping: str | None,
    objective: str,
    chips: int | None,
    phases: str | None,
    clock_mhz: float | None,
    voltage: float | None,
    zeros: float | None,
    grid: str | None,
    price: float | None,
    pue: float | None,
    rates: bool,
    csv_file: Path | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Estimate the training of WORKLOAD on CHIP: time, energy, memory and traffic.

    A chip that cannot train (TPU, NVDLA) is estimated in its forward pass; a line says so, and its baseline
    is, too.
    No values are computed, so there is no accuracy. --set, --recipe, --mapping, --clock-mhz and --voltage
    apply to CHIP, the rest to both. With --out the records, tables, figures and report.html are written; with
    --json the record goes to standard output (the comparison, when there is a baseline). --quiet leaves out
    the table of layers.
    """
    loaded = api.load_workload(workload)
    ours = operating_at(api.load_chip(chip, changes), clock_mhz=clock_mhz, voltage_v=voltage)
    wanted = [(ours, recipe, mapping)] + ([(api.load_chip(baseline), None, None)] if baseline else [])

    def estimated(phases: str | None) -> list[RunRecord]:
        return [
            api.estimate(
                each if zeros is None else with_stated_zeros(each, zeros), loaded, recipe=own_recipe,
                batch=batch, epochs=epochs, chips=chips, mapping=pins, objective=objective, phases=phases,
                command=command_line(),
            )
            for each, own_recipe, pins in wanted
        ]  # fmt: skip

    records = estimated(phases)
    untrainable = [each for each in records if each.phases == "forward" and phases is None]
    if 0 < len(untrainable) < len(records):
        records = estimated("forward")
    records = on_grid(records, grid, price, pue)
    files = _write(records, out) if out else []
    if csv_file:
        write_text(csv_file, rates_csv(records))
    if as_json:
        click.echo(result_json(records, files) if baseline else record_text(records[0]).rstrip("\n"))
        return
    if not quiet:
        for record in records:
            (show_rates if rates else show_layers)(record)
    _show(records, untrainable)
    if csv_file:
        click.echo(f"Rates: {csv_file}")
    if out:
        click.echo(f"Report: {out / 'report.html'}")


def _show(records: list[RunRecord], untrainable: list[RunRecord]) -> None:
    """All but the layers: which chip cannot train, what a step is, memory, the result."""
    for record in untrainable:
        click.echo(
            f"{record.chip.name} cannot train with recipe {record.recipe.name}: "
            "its MACs take no GEMM of a backward pass."
        )
    for sentence in filter(None, map(phases_sentence, records)):
        click.echo(sentence)
    show_memory(records)
    show_result(records)


def _write(records: list[RunRecord], out: Path) -> list[Path]:
    from accelsim.report import write_report

    require_writable(out)
    names = [record.chip.name for record in records]
    if len(set(names)) < len(names):
        names[1] += "_baseline"
    files = [out / name / "record.json" for name in names]
    for path, record in zip(files, records, strict=True):
        write_text(path, record_text(record))
    write_report(records, out)
    return files
