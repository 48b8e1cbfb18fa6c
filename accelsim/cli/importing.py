"""``accelsim import``: a model of another tool as a workload file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import click

from accelsim.cli.options import json_option, quiet_option
from accelsim.errors import InputError
from accelsim.importing import Imported, OnnxChoice, Training, import_file
from accelsim.program import model_size
from accelsim.storage import write_text
from accelsim.workload import workload_of
from accelsim.yamlfile import document_of

EXAMPLES = """\b
Examples:
  accelsim import resnet50.onnx --out resnet50.yaml --batch 256 --samples 1281167 --epochs 90
  accelsim import gpt2.onnx --out gpt2.yaml --size sequence=1024 --output logits
  accelsim import topologies/alexnet.csv --out alexnet.yaml
  accelsim import zigzag_workload.yaml --out workload.yaml
"""


def _sizes(_context: click.Context, _option: click.Parameter, given: tuple[str, ...]) -> dict[str, int]:
    """``name=number`` pairs as a mapping."""
    sizes = {}
    for pair in given:
        name, _, number = pair.partition("=")
        if not name or not number.isdecimal() or int(number) < 1:
            raise InputError(f"must be NAME=NUMBER with a number of at least 1, got {pair[:60]!r}", "--size")
        sizes[name] = int(number)
    return sizes


@click.command("import", epilog=EXAMPLES)
@click.argument("file", type=click.Path(path_type=Path))
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path), help="Default: NAME.yaml here.")
@click.option("--batch", metavar="N", type=click.IntRange(1, 65536), help="Mini-batch; default: the file's.")
@click.option(
    "--epochs", metavar="N", type=click.IntRange(min=1), default=1, show_default=True, help="Epochs."
)
@click.option(
    "--samples", metavar="N", type=click.IntRange(min=1), help="Training samples; default: a batch."
)
@click.option(
    "--size", "sizes", metavar="NAME=N", multiple=True, callback=_sizes, help="Size of a named axis (ONNX)."
)
@click.option("--output", metavar="NAME", help="The output that is trained (ONNX); default: the first.")
@json_option
@quiet_option
def command(
    file: Path,
    out: Path | None,
    batch: int | None,
    epochs: int,
    samples: int | None,
    sizes: dict[str, int],
    output: str | None,
    as_json: bool,
    quiet: bool,
) -> None:
    """Write FILE as a workload YAML: an ONNX model, a SCALE-Sim topology, a ZigZag or Timeloop YAML.

    The workload holds shapes, not weights or data: estimate it, or give it data of your own. What no layer
    can say is told with its row or node.
    """
    imported = import_file(file, Training(batch, epochs, samples), OnnxChoice(sizes, output))
    out = out or Path(f"{imported.name}.yaml")
    facts = _facts(imported, file)
    write_text(out, imported.text)
    if as_json:
        click.echo(json.dumps({"file": str(out), **facts, "notes": imported.notes}, indent=1))
        return
    for note in () if quiet else imported.notes:
        click.echo(f"note: {note}")
    counts = f"{facts['layers']} layers, {facts['parameters']:,} parameters, {facts['macs']:,} MACs"
    click.echo(f"{out}: {counts} forward per sample")


def _facts(imported: Imported, file: Path) -> dict[str, Any]:
    """The size of what will be written: a mistake is told before a file is written over."""
    try:
        return asdict(model_size(workload_of(document_of(Path(f"{imported.name}.yaml"), imported.text))))
    except InputError as error:
        raise InputError(f"would become no workload: {error.message}", str(file)) from None
