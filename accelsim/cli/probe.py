"""``accelsim probe``: true training steps of a network of any size, looked at layer by layer."""

from __future__ import annotations

from pathlib import Path

import click

from accelsim import api
from accelsim.cli.options import (
    batch_option,
    json_option,
    out_option,
    quiet_option,
    recipe_option,
    seed_option,
    threads_option,
)
from accelsim.cli.training import command_line
from accelsim.cli.writable import require_writable
from accelsim.operations import PHASES
from accelsim.record.probe import ProbeRecord, probe_text
from accelsim.report.probe_figures import write_probe
from accelsim.storage import write_text

EXAMPLES = """\b
Examples:
  accelsim probe fp4_training fashion_cnn --steps 20
  accelsim probe fp4_training resnet18_imagenet --steps 1 --batch 8
  accelsim probe fp4_training resnet50_imagenet --batch 4 --data my_images.npz
"""


@click.command("probe", epilog=EXAMPLES)
@click.argument("chip")
@click.argument("workload")
@click.option(
    "--steps",
    type=click.IntRange(min=1),
    default=1,
    show_default=True,
    help="Training steps; the last is probed.",
)
@click.option("--data", metavar="FILE", help="Samples (.npz) in place of the workload's data.")
@recipe_option
@batch_option
@seed_option
@threads_option
@out_option("reports/probes/WORKLOAD_on_CHIP")
@json_option
@quiet_option
def command(
    chip: str,
    workload: str,
    steps: int,
    data: str | None,
    recipe: str | None,
    batch: int | None,
    seed: int | None,
    threads: int | None,
    out: Path | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Run training steps of WORKLOAD on CHIP, all multiply-accumulates bit for bit; look at the last one.

    A workload of which only the shape of the data is known gets random samples. The last step is repeated in
    float32 with the same parameters: the table says, layer by layer, how far the chip's tensors are from
    those (cosine, gain), what four bits did to each operand (saturated, flushed to zero) and what the
    accumulator lost.
    """
    loaded_chip, loaded = api.load_chip(chip), api.load_workload(workload)
    folder = out or Path("reports/probes") / f"{loaded.name}_on_{loaded_chip.name}"
    require_writable(folder)
    record = api.probe(
        loaded_chip,
        loaded,
        steps=steps,
        data=data,
        recipe=recipe,
        batch=batch,
        seed=seed,
        threads=threads,
        command=command_line(),
        progress=None if quiet else lambda text: click.echo(text, err=True),
    )
    write_text(folder / "probe.json", probe_text(record))
    write_probe(record, folder)
    if as_json:
        click.echo(probe_text(record).rstrip("\n"))
        return
    _show(record)
    click.echo(f"Kept in {folder}")


def _show(record: ProbeRecord) -> None:
    from accelsim.cli.terminal import print_table

    agreement = {(one.layer, one.phase): one for one in record.agreement}
    errors = {(one.layer, one.phase): one.error_rms for one in record.products}
    operands = {(one.layer, one.role): one for one in record.operands}
    rows = []
    for layer in dict.fromkeys(one.layer for one in record.agreement):
        cells = [layer]
        for phase in PHASES:
            found = agreement.get((layer, phase))
            cells.append(f"{_text(found.cosine)} / {_text(found.gain)}" if found else "-")
        gradient = operands.get((layer, "gradient_input"))
        cells.append(f"{100 * gradient.underflow:.1f} / {100 * gradient.saturated:.1f}" if gradient else "-")
        cells.append(" ".join(_small(errors.get((layer, phase))) for phase in PHASES))
        rows.append(tuple(cells))
    print_table(
        ("layer", "input: cosine / gain", "dL/dy: cosine / gain", "dL/dW: cosine / gain",
         "dL/dy % to 0 / top", "accumulation error"),
        rows,
        right=(1, 2, 3, 4, 5),
    )  # fmt: skip
    losses = ", ".join(f"{_text(step.loss)} ({_text(step.float32_loss)})" for step in record.steps[-3:])
    click.echo(f"loss on the chip (in float32) of the last steps: {losses}")
    click.echo(
        f"{record.macs_per_step / 1e9:.2f} GMAC a step of {record.batch} samples, {record.samples}; "
        f"{record.host_seconds:.1f} s a step on this computer; "
        f"{record.step_cycles / record.clock_mhz / 1e3:.3f} ms and "
        f"{record.step_energy_aj.total_aj * 1e-15:.2f} mJ on the chip; weights {record.weight_digest[:16]}"
    )


def _text(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _small(value: float | None) -> str:
    return "-" if value is None else f"{value:.1e}"
