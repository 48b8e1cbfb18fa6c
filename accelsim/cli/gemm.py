"""``accelsim gemm``: one GEMM on a chip, bit for bit."""

from __future__ import annotations

import json
import re
from pathlib import Path

import click

from accelsim import api
from accelsim.cli.options import drawn_seed_option, json_option
from accelsim.mapping import Plan
from accelsim.operations import PHASES, Phase
from accelsim.report import quantities
from accelsim.report.drawing import COMPONENT_HUES
from accelsim.report.readings import JOULE_PER_AJ

EXAMPLES = """\b
Examples:
  accelsim gemm fp4_training 256 1024 256
  accelsim gemm fp4_training 256 1024 256 --phase backward --seed 7
  accelsim gemm fp16_training 64 512 64 --json
  accelsim gemm fp4_training 8 64 8 --a activations.npy --b weights.npy --a-format uint4
"""

_FILE = click.Path(path_type=Path)


class _SizesCommand(click.Command):
    """A command whose arguments are sizes: a negative one is a size, not an option nobody knows."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        for before, word in zip(["", *args], args, strict=False):
            if re.fullmatch(r"-\d+", word) and not before.startswith("--"):
                raise click.UsageError(f"M, K and N must be at least 1, got {word}", ctx)
        return super().parse_args(ctx, args)


@click.command("gemm", cls=_SizesCommand, epilog=EXAMPLES)
@click.argument("chip")
@click.argument("m", metavar="M", type=int)
@click.argument("k", metavar="K", type=int)
@click.argument("n", metavar="N", type=int)
@click.option(
    "--phase",
    type=click.Choice(PHASES),
    default="forward",
    show_default=True,
    help="Fixes the formats: those of the chip's recipe in that phase.",
)
@click.option("--a", type=_FILE, metavar="FILE", help=".npy file of A, M x K; default: random.")
@click.option("--b", type=_FILE, metavar="FILE", help=".npy file of B, K x N; default: random.")
@click.option("--a-format", metavar="FORMAT", help="Format of A in place of the recipe's.")
@click.option("--b-format", metavar="FORMAT", help="Format of B in place of the recipe's.")
@drawn_seed_option("random operands")
@json_option
def command(
    chip: str,
    m: int,
    k: int,
    n: int,
    phase: Phase,
    a: Path | None,
    b: Path | None,
    a_format: str | None,
    b_format: str | None,
    seed: int,
    as_json: bool,
) -> None:
    """Multiply A (M x K) by B (K x N) on CHIP, bit for bit.

    Shows plan, digest of the result, error against exact arithmetic, cycles and energy. A .npy file of
    unsigned integers holds codes; one of floating-point numbers holds values, which are rounded to the format
    without a scale. Random operands are normal numbers; those of narrow formats reach the largest value at
    three standard deviations.
    """
    report = api.gemm_report(
        chip, m, k, n, phase=phase, a=a, b=b, a_format=a_format, b_format=b_format, seed=seed
    )
    if as_json:
        click.echo(json.dumps(report.as_record(), indent=1))
    else:
        _show(report)


def _show(report: api.GemmReport) -> None:
    from accelsim.cli.terminal import print_table

    plan, formats = report.result.plan, f"{report.a_format} x {report.b_format} into {report.result.format}"
    header = (f"{plan.m} x {plan.k} x {plan.n}", f"{report.chip.name}, {report.phase}: {formats}")
    rows = [*_operand_rows(report), *_plan_rows(report), *_error_rows(report), *_cost_rows(report)]
    print_table(header, rows)


def _operand_rows(report: api.GemmReport) -> list[tuple[str, str]]:
    plan = report.result.plan
    return [
        ("A", f"{plan.m} x {plan.k} {report.a_format}, {report.a_origin}"),
        ("B", f"{plan.k} x {plan.n} {report.b_format}, {report.b_origin}"),
        ("Result", f"{plan.m} x {plan.n} {report.result.format}, SHA-256 {report.digest}"),
        ("Kernel", report.result.kernel),
    ]


def _plan_rows(report: api.GemmReport) -> list[tuple[str, str]]:
    plan, counts = report.result.plan, report.cost.gemms[0].counts
    pes = f"of {plan.rows} x {plan.cols} PEs"
    split = f"{plan.split} split over {plan.workers} arrays {pes}" if plan.workers > 1 else f"one array {pes}"
    return [
        ("Dataflow", f"{plan.dataflow}, {split}"),
        ("Order of additions", _order_text(plan)),
        ("Tile in the scratchpads", f"{plan.tile_m} x {plan.tile_k} x {plan.tile_n}, {plan.loop_order}"),
        ("Passes", f"{counts.array_passes:,}"),
    ]


def _order_text(plan: Plan) -> str:
    """When a sum is rounded."""
    if plan.accumulator == "exact":
        return f"exact sums; one rounding, to {plan.readout}, when they are read"
    lanes = (
        f"{plan.lanes} products exactly, then a rounding" if plan.lanes > 1 else "a rounding every product"
    )
    return f"{lanes}; after {plan.chunk} the sum goes to the outer accumulator"


def _error_rows(report: api.GemmReport) -> list[tuple[str, str]]:
    error, fmt = report.error, report.result.format
    left_out = f"; {error.excluded:,} infinite or NaN left out" if error.excluded else ""
    return [
        ("Inexact results", f"{error.inexact:,} of {error.outputs:,}{left_out}"),
        (f"Error in ulps of {fmt}", f"max {error.max_ulps:.4g}, rms {error.rms_ulps:.4g}"),
        ("Error, absolute", f"max {error.max_absolute:.4g}, rms {error.rms_absolute:.4g}"),
        ("Error, relative", f"max {error.max_relative:.4g}, rms {error.rms_relative:.4g}"),
    ]


def _cost_rows(report: api.GemmReport) -> list[tuple[str, str]]:
    cost, time = report.cost, report.cost.time
    busy = f"{time.array_cycles:,}, {time.dram_cycles:,}, {time.scratchpad_cycles:,}"
    energy = {COMPONENT_HUES[name].name: aj for name, aj in cost.energy.as_record().items() if aj}
    return [
        ("Cycles", f"{time.total_cycles:,} ({quantities.seconds(report.seconds)}), bound by {time.bound}"),
        ("  of array, DRAM, scratchpad", busy),
        ("  of the first fill", f"{time.fill_cycles:,}"),
        ("Utilization", quantities.percent(cost.utilization)),
        ("Energy", quantities.joules(cost.energy.total_aj * JOULE_PER_AJ)),
        *((f"  {name}", quantities.joules(aj * JOULE_PER_AJ)) for name, aj in energy.items()),
        ("  MACs, with the activity measured", _measured_text(report)),
    ]


def _measured_text(report: api.GemmReport) -> str:
    seen = report.activity
    idle = quantities.percent(seen["idle_products"] / seen["products"])
    energy = quantities.joules(seen["measured_mac_aj"] * JOULE_PER_AJ)
    toggles = quantities.percent(seen["toggle_fraction"])
    return f"{energy}; {idle} of the products with a zero operand, {toggles} of operand bits toggling"
