"""ONNX models, as torchvision and transformers export them -> workload files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from accelsim.errors import InputError
from accelsim.importing.naming import workload_name
from accelsim.importing.onnx_graph import Constant, Graph, read_graph
from accelsim.importing.onnx_layers import Translator
from accelsim.importing.onnx_layouts import Layout
from accelsim.importing.onnx_patterns import fused
from accelsim.importing.onnx_structure import layered
from accelsim.importing.writing import Head, Item, workload_text

DEFAULT_BATCH = 32


@dataclass(frozen=True)
class OnnxChoice:
    """What an ONNX file leaves open: sizes of named axes, and which output is meant (default the first)."""

    sizes: Mapping[str, int] = field(default_factory=dict)
    output: str | None = None


def onnx_workload(
    path: Path, choice: OnnxChoice, batch: int | None, epochs: int, samples: int | None
) -> tuple[str, str, tuple[str, ...]]:
    """(name, text, notes) of the workload of an ONNX model.

    Raises `InputError` naming the node whose operator or attribute no layer has, an input whose size is
    open, several inputs that the output depends on.
    """
    notes: list[str] = []
    graph = _one_input(fused(read_graph(path, choice.sizes, choice.output), notes), notes)
    start = _data_input(graph)
    translator = Translator(graph, notes)
    items = layered(graph, start, translator)
    data = _data(graph, start, items, translator.layouts) | {"samples": samples or batch or DEFAULT_BATCH}
    name = workload_name(path.stem)
    comment = f"Written by accelsim import from {path.name} (ONNX), output {graph.output}."
    comment += "".join(f"\nNote: {note}" for note in notes)
    head = Head(comment, name, f"Imported from {path.name}", data, batch or DEFAULT_BATCH, epochs)
    return name, workload_text(head, items), tuple(notes)


def _one_input(graph: Graph, notes: list[str]) -> Graph:
    """The graph with token ids alone: other whole numbers, as segments and masks are, count as constant.

    A vector looked up by them is then one vector for all positions.
    """
    used = [name for name in graph.inputs if name in graph.consumers]
    main = "input_ids" if "input_ids" in used else (used or [""])[0]
    others = [name for name in used if name != main and name in graph.whole_inputs]
    if main not in graph.whole_inputs or not others:
        return graph
    notes.append(f"taken as constant: {', '.join(others)}")
    constants = dict(graph.constants) | {name: Constant(graph.shape(name), None, "") for name in others}
    nodes = []
    for node in graph.nodes:
        if not all(value in constants for value in node.inputs if value):
            nodes.append(node)
            continue
        looked_up = node.op == "Gather" and node.inputs[1] in others
        for value in node.outputs:
            shape = graph.shapes.get(value, ())
            constants[value] = Constant(shape[-1:] if looked_up else shape, None, "")
    return replace(graph, constants=constants).rewired(nodes)


def _data_input(graph: Graph) -> str:
    """The one input that the output depends on."""
    used = [name for name in graph.inputs if name in graph.consumers]
    if len(used) != 1:
        found = ", ".join(used) or "none"
        raise InputError(f"output {graph.output!r} must depend on one input, got: {found}", str(graph.path))
    return used[0]


def _data(graph: Graph, start: str, items: list[Item], layouts: Mapping[str, Layout]) -> dict[str, Any]:
    """The mapping under ``data``: shape of a sample and of its labels, classes, token ids."""
    shape = _sample(graph.shape(start), layouts[start])
    out = _sample(graph.shape(graph.output), layouts[graph.output])
    tokens = next((settings["tokens"] for kind, settings in items if kind == "embedding"), None)
    found: dict[str, Any] = {"shape": shape}
    found |= {"tokens": tokens} if start in graph.whole_inputs and tokens else {}
    found |= {"targets": out[:-1]} if len(out) > 1 else {}
    return found | {"classes": out[-1]}


def _sample(shape: tuple[int, ...], layout: Layout) -> list[int]:
    """Shape of one sample, channels last; what slides along one axis is an image of one column."""
    if layout.flat:
        return [shape[layout.axis]]
    extents = list(shape[1:])
    if layout.axis != 1 or len(extents) < 2:
        return extents
    return [*extents[1:], *[1] * (3 - len(extents)), extents[0]]
