"""An ONNX file as the onnx package reads it, with the mistakes told that the package lets pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from accelsim.errors import InputError, unknown


def onnx_package(path: Path) -> Any:
    """The onnx package. Raises `InputError` if it is not installed."""
    try:
        import onnx
        import onnx.inliner
        import onnx.reference
        import onnx.shape_inference
    except ImportError:
        message = "reading ONNX files needs the onnx package: pip install 'accelsim[onnx]'"
        raise InputError(message, str(path)) from None
    return onnx


def read_model(onnx: Any, path: Path) -> Any:
    """The model in a file, its own functions written out.

    Raises `InputError` for a file that is none, and for a node that is not as its operator's definition
    says or reads what no node before it makes.
    """
    try:
        model = onnx.load(str(path), load_external_data=False)
        if not model.graph.output:
            raise ValueError("no output")
        model = onnx.inliner.inline_local_functions(model) if model.functions else model
    except Exception as error:  # protobuf raises its own kinds, by version
        raise InputError(f"not an ONNX model that can be read: {reason(error)}", str(path)) from None
    _require_definitions(onnx, model, path)
    _require_order(model, path)
    return model


def reason(error: Exception) -> str:
    """What the onnx package says of a mistake, on one line."""
    return " ".join(str(error).split())[:160] or type(error).__name__


def node_text(proto: Any) -> str:
    """A node as messages name it."""
    return f"node {proto.name or ', '.join(proto.output)!r} ({proto.op_type})"


def _require_definitions(onnx: Any, model: Any, path: Path) -> None:
    """Attributes of the right kinds and enough inputs; operators without a definition are told later."""
    context = type(onnx.checker.DEFAULT_CONTEXT)()
    context.ir_version = model.ir_version
    versions = {each.domain: each.version for each in model.opset_import}
    context.opset_imports = versions
    for proto in model.graph.node:
        version = versions.get(proto.domain)
        if version is None or not onnx.defs.has(proto.op_type, version, proto.domain):
            continue
        try:
            onnx.checker.check_node(proto, context)
        except Exception as error:
            raise InputError(f"{node_text(proto)}: {reason(error)}", str(path)) from None


def _require_order(model: Any, path: Path) -> None:
    graph = model.graph
    made = {value.name for value in (*graph.input, *graph.initializer)}
    made |= {tensor.values.name for tensor in graph.sparse_initializer}
    for proto in graph.node:
        missing = [name for name in proto.input if name and name not in made]
        if missing:
            message = f"reads {missing[0]!r}, which is no input, no weight and made by no node before it"
            raise InputError(f"{node_text(proto)}: {message}", str(path))
        made |= set(proto.output)
    for value in graph.output:
        if value.name not in made:
            raise InputError(f"no node makes the output {value.name!r}", str(path))


def fix_sizes(inputs: Sequence[Any], sizes: Mapping[str, int], path: Path) -> None:
    """Write the given sizes into the open axes of the inputs; an open first axis is a batch of 1.

    Raises `InputError` for an axis left open, and for a size of none, which would change nothing.
    """
    dims = [(axis, dim) for value in inputs for axis, dim in enumerate(value.type.tensor_type.shape.dim)]
    open_axes = {dim.dim_param or str(axis) for axis, dim in dims if dim.dim_value <= 0}
    for name in sizes:
        if name not in open_axes:
            raise unknown("open axis", name, open_axes, f"{path}: --size")
    for value in inputs:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value > 0:
                continue
            name = dim.dim_param or str(axis)
            if axis and name not in sizes:
                message = (
                    f"input {value.name!r}: the size of axis {name!r} is open; give it with --size {name}=N"
                )
                raise InputError(message, str(path))
            dim.dim_value = sizes.get(name, 1)
