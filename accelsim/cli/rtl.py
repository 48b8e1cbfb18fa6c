"""``accelsim rtl``: the PE of a chip in Verilog, with testbenches and golden vectors."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path

import click

from accelsim import api
from accelsim.cli.options import drawn_seed_option, json_option, quiet_option
from accelsim.cli.writable import require_writable

EXAMPLES = """\b
Examples:
  accelsim rtl fp4_training --out build/fp4_training
  accelsim rtl my_chip.yaml --out build/my_chip --vectors 1000000 --seed 7
"""


@click.command("rtl", epilog=EXAMPLES)
@click.argument("chip")
@click.option(
    "--out",
    required=True,
    type=click.Path(path_type=Path, file_okay=True),
    metavar="FOLDER",
    help="Where to write.",
)
@click.option(
    "--vectors",
    metavar="N",
    type=click.IntRange(1, 10_000_000),
    default=100_000,
    show_default=True,
    help="At least so many vectors per unit.",
)
@drawn_seed_option("the vectors")
@json_option
@quiet_option
def command(chip: str, out: Path, vectors: int, seed: int, as_json: bool, quiet: bool) -> None:
    """Write the PE of CHIP as Verilog, with testbenches and the simulator's results as vectors.

    For verification: 'make -C FOLDER sim' compares the Verilog with the simulator in Icarus Verilog. The
    README.md in the folder describes the vectors, to check other designs with. Modes of the chip that
    have no Verilog are named with the reason.
    """
    from accelsim.rtl import design_of, write_rtl

    loaded = api.load_chip(chip)
    design_of(loaded)  # a chip without any mode for Verilog is told before the folder is made
    require_writable(out)
    written = write_rtl(loaded, out, vectors, seed)
    if as_json:
        click.echo(json.dumps(asdict(written) | {"folder": str(out)}, indent=1))
        return
    if not quiet:
        for pair in written.pairs:
            click.echo(f"{pair.mode}: {pair.a} x {pair.b}, {pair.lanes} per cycle")
    for each in written.left_out:
        click.echo(f"{each.mode}: {each.a} x {each.b} left out: {each.reason}")
    counts = ", ".join(f"{count} of {unit}" for unit, count in written.vectors.items())
    click.echo(f"{out}: {len(written.files)} files, vectors: {counts}; compare with: make -C {out} sim")
