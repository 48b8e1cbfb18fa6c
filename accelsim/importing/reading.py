"""A file of another tool -> the text of a workload file; the kind is seen from the file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from accelsim.errors import InputError
from accelsim.importing.naming import workload_name
from accelsim.importing.onnx_model import OnnxChoice, onnx_workload
from accelsim.importing.problem import Problem, problem_items
from accelsim.importing.scalesim import read_topology
from accelsim.importing.timeloop import timeloop_problem
from accelsim.importing.writing import Head, workload_text
from accelsim.importing.zigzag import KEY, zigzag_problems
from accelsim.yamlfile import read_yaml_list


@dataclass(frozen=True)
class Training:
    """What a file of another tool does not say: mini-batch, epochs and training samples.

    None leaves the batch to the file (or 1, or 32 for ONNX), and the samples to one step an epoch.
    """

    batch: int | None = None
    epochs: int = 1
    samples: int | None = None


@dataclass(frozen=True)
class Imported:
    """A workload file's ``name`` and ``text``, and notes on what was left out or assumed."""

    name: str
    text: str
    notes: tuple[str, ...] = ()


def import_file(
    path: str | Path, training: Training | None = None, onnx: OnnxChoice | None = None
) -> Imported:
    """Read an ONNX model, a SCALE-Sim topology CSV, a ZigZag workload or a Timeloop problem.

    Raises `InputError` naming file and line, row or node: a file that cannot be read or is of no known
    kind, what no layer can say.
    """
    path, training = Path(path), training or Training()
    if not path.is_file():
        message = "this is a directory; a file is wanted" if path.is_dir() else "no such file"
        raise InputError(message, str(path))
    if path.suffix == ".onnx":
        name, text, notes = onnx_workload(
            path, onnx or OnnxChoice(), training.batch, training.epochs, training.samples
        )
        return Imported(name, text, notes)
    if onnx and (onnx.sizes or onnx.output is not None):
        option = "--size" if onnx.sizes else "--output"
        raise InputError(f"goes with an ONNX file, not with {path.name}", option)
    if path.suffix == ".csv":
        return _listed(path, read_topology(path), "SCALE-Sim topology", training)
    if path.suffix not in (".yaml", ".yml"):
        raise InputError(
            "unknown kind of file: an .onnx model, a SCALE-Sim .csv or a ZigZag or Timeloop .yaml is wanted",
            str(path),
        )
    document = read_yaml_list(path, KEY)
    if "problem" in document.data:
        return _listed(path, [timeloop_problem(document)], "Timeloop problem", training)
    if not isinstance(document.data.get(KEY), list):
        message = (
            "neither a ZigZag workload (a list of operators) nor a Timeloop file (key 'problem'); keys: "
        )
        raise InputError(message + ", ".join(document.data), str(path))
    return _listed(path, zigzag_problems(document), "ZigZag workload", training)


def _listed(path: Path, problems: Sequence[Problem], kind: str, training: Training) -> Imported:
    batches = sorted({problem.batch for problem in problems})
    if len(batches) > 1:  # no batch of the workload fits them all: each row is one sample
        problems, batches = [problem.as_one_sample() for problem in problems], [1]
    batch = training.batch or batches[0]
    items, shape, classes = problem_items(problems)
    comment = (
        f"Written by accelsim import from {path.name} ({kind}). The file lists layers and not how they are\n"
        "connected: each reads a tensor of its own shape ('refit'). For estimates."
    )
    name = workload_name(path.stem)
    data = {"shape": shape, "classes": classes, "samples": training.samples or batch}
    description = f"{len(problems)} layers of the {kind} {path.name}"
    head = Head(comment, name, description, data, batch, training.epochs)
    return Imported(name, workload_text(head, items))
