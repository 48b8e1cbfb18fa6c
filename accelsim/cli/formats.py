"""``accelsim formats``: the number formats, and the full code table of one."""

from __future__ import annotations

import json
import math
from typing import Any

import click

from accelsim.cli.options import json_option
from accelsim.numerics.formats import NumberFormat, format_names, number_format

EXAMPLES = """\b
Examples:
  accelsim formats
  accelsim formats fp4_r4_odd
  accelsim formats dlfloat16 | head
  accelsim formats int4 --json
"""


@click.command("formats", epilog=EXAMPLES)
@click.argument("name", required=False)
@json_option
def command(name: str | None, as_json: bool) -> None:
    """Show the number formats, or every code of the format NAME with its value."""
    if name is None:
        _show_all([number_format(each) for each in format_names()], as_json)
    else:
        _show_one(number_format(name), as_json)


def _show_all(formats: list[NumberFormat], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([_summary(fmt) for fmt in formats], indent=1))
        return
    from accelsim.cli.terminal import print_table

    rows = [
        (fmt.name, str(fmt.bits), f"{fmt.min_positive:.6g}", f"{fmt.max_value:.10g}", fmt.source)
        for fmt in formats
    ]
    print_table(("format", "bits", "smallest > 0", "largest", "source"), rows, right=(1, 2, 3))
    click.echo("accelsim formats NAME prints every code of a format.")


def _summary(fmt: NumberFormat) -> dict[str, Any]:
    return {
        "name": fmt.name,
        "bits": fmt.bits,
        "min_positive": fmt.min_positive,
        "max_value": fmt.max_value,
        "source": fmt.source,
    }


def _show_one(fmt: NumberFormat, as_json: bool) -> None:
    table = fmt.table()
    if as_json:
        codes = [{"code": code, "value": _json_value(value)} for code, value in table]
        click.echo(json.dumps(_summary(fmt) | {"codes": codes}))
        return
    digits = -(-fmt.bits // 4)
    lines = [f"{code:#0{digits + 2}x}  {code:0{fmt.bits}b}  {value:.17g}" for code, value in table]
    click.echo(f"{fmt.name}: {fmt.bits} bits, {len(table):,} codes ({fmt.source})\n" + "\n".join(lines))


def _json_value(value: float) -> float | str:
    """JSON has no NaN and no infinity: they become the words "nan", "inf" and "-inf"."""
    return value if math.isfinite(value) else str(value)
