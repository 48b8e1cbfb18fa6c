"""``accelsim formats``: the number formats, and the full code table of one."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from accelsim.cli.options import json_option, out_option
from accelsim.numerics.block_formats import BlockFormat, block_format, block_format_names
from accelsim.numerics.formats import NumberFormat, format_families, format_names, number_format

EXAMPLES = """\b
Examples:
  accelsim formats
  accelsim formats fp4_r4_odd
  accelsim formats dlfloat16 | head
  accelsim formats fixed16_2_14 | tail
  accelsim formats nvfp4
  accelsim formats my_format.yaml
  accelsim formats int4 --json
  accelsim formats --plot
  accelsim formats --plot fp8_e4m3fn fp8_e5m2 int8 --out reports/fp8
  accelsim formats --pictures
"""

# Radix 2 against radix 4 against integers, all in four bits.
PLOTTED = ("fp4_e3m0", "fp4_r4_even", "fp4_r4_odd", "int4")
PLOT_FOLDER = Path("reports/formats")


@click.command("formats", epilog=EXAMPLES)
@click.argument("names", metavar="[NAME...]", nargs=-1)
@click.option("--plot", is_flag=True, help="Draw the formats side by side, as PNG and SVG.")
@click.option("--pictures", is_flag=True, help="Draw an image and a weight tensor in four bits.")
@out_option(f"{PLOT_FOLDER} (with --plot or --pictures)")
@json_option
def command(names: tuple[str, ...], plot: bool, pictures: bool, out: Path | None, as_json: bool) -> None:
    """Show the number formats, or every code of the format NAME with its value.

    NAME is one of the list, a member of a family (int5, fixed16_2_14, fp6_r16, log5_sqrt2), a block
    format, or a YAML file with the fields of a format of your own.

    --plot draws number lines, rounding staircases and relative errors of all NAMEs (at most 8 bits each) side
    by side; without a NAME: radix 2 against radix 4 against INT4. --pictures draws what four bits make of
    an image and of a weight tensor: linearly rescaled to -8..7, and on the base-4 scale of FP4.
    """
    if plot or pictures:
        _draw(names, out or PLOT_FOLDER, plot=plot, pictures=pictures, as_json=as_json)
        return
    if out is not None:
        raise click.UsageError("--out goes with --plot or --pictures")
    if len(names) > 1:
        raise click.UsageError(f"several NAMEs go with --plot; without it one is wanted, got {len(names)}")
    if not names:
        _show_all(as_json)
    elif names[0] in block_format_names():
        _show_block(block_format(names[0]), as_json)
    else:
        _show_one(number_format(names[0]), as_json)


def _draw(names: Sequence[str], out: Path, *, plot: bool, pictures: bool, as_json: bool) -> None:
    from accelsim import api

    drawn = (names or PLOTTED) if plot else ()
    paths = [*(api.draw_formats(drawn, out) if plot else []), *(api.draw_four_bits(out) if pictures else [])]
    files = [str(path) for path in paths]
    click.echo(
        json.dumps({"formats": list(drawn), "files": files}, indent=1) if as_json else "\n".join(files)
    )


def _show_all(as_json: bool) -> None:
    formats = [number_format(each) for each in format_names()]
    blocks = [block_format(each) for each in block_format_names()]
    if as_json:
        families = [
            {"name": each.syntax, "family": True, "source": each.source} for each in format_families()
        ]
        summaries = [_summary(fmt) for fmt in formats] + [_block_summary(fmt) for fmt in blocks]
        click.echo(json.dumps([*summaries, *families], indent=1))
        return
    from accelsim.cli.terminal import print_table

    rows = [
        (fmt.name, str(fmt.bits), f"{fmt.min_positive:.6g}", f"{fmt.max_value:.10g}", fmt.source)
        for fmt in formats
    ]
    print_table(("format", "bits", "smallest > 0", "largest", "source"), rows, right=(1, 2, 3))
    print_table(("family", "source"), [(each.syntax, each.source) for each in format_families()])
    print_table(
        ("block format", "elements", "scale of a block", "bits per value", "source"),
        [
            (
                each.name,
                f"{each.block} {each.element}",
                each.scale.upper(),
                f"{each.bits_per_value:g}",
                each.source,
            )
            for each in blocks
        ],
        right=(3,),
    )
    click.echo("accelsim formats NAME prints every code of a format.")


def _summary(fmt: NumberFormat) -> dict[str, Any]:
    return {
        "name": fmt.name,
        "bits": fmt.bits,
        "min_positive": fmt.min_positive,
        "max_value": fmt.max_value,
        "rounding": fmt.rounding,
        "overflow": fmt.overflow,
        "source": fmt.source,
    }


def _block_summary(fmt: BlockFormat) -> dict[str, Any]:
    return {
        "name": fmt.name,
        "element": fmt.element.name,
        "block": fmt.block,
        "scale": fmt.scale,
        "bits_per_value": fmt.bits_per_value,
        "source": fmt.source,
    }


def _show_one(fmt: NumberFormat, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_summary(fmt) | {"codes": _json_codes(fmt)}))
        return
    lines = _code_lines(fmt)
    source = f" ({fmt.source})" if fmt.source else ""
    click.echo(f"{fmt.name}: {fmt.bits} bits, {len(lines):,} codes{source}\n" + "\n".join(lines))


def _show_block(fmt: BlockFormat, as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps(_block_summary(fmt) | {"codes": _json_codes(fmt.element)}))
        return
    scale = {
        "e8m0": "a power of two in 8 bits (E8M0): code c is 2**(c - 127), 255 is NaN",
        "e4m3": "an fp8_e4m3fn value, times one fp32 value for the whole tensor",
    }[fmt.scale]
    head = f"{fmt.name}: {fmt.bits_per_value:g} bits per value ({fmt.source})"
    body = f"{fmt.block} elements share a scale: {scale}\nelements are {fmt.element}, saturating:"
    click.echo("\n".join([head, body, *_code_lines(fmt.element)]))


def _code_lines(fmt: NumberFormat) -> list[str]:
    digits = -(-fmt.bits // 4)
    return [f"{code:#0{digits + 2}x}  {code:0{fmt.bits}b}  {value:.17g}" for code, value in fmt.table()]


def _json_codes(fmt: NumberFormat) -> list[dict[str, Any]]:
    return [{"code": code, "value": _json_value(value)} for code, value in fmt.table()]


def _json_value(value: float) -> float | str:
    """JSON has no NaN and no infinity: they become the words "nan", "inf" and "-inf"."""
    return value if math.isfinite(value) else str(value)
