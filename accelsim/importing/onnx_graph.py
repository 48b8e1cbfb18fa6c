"""An ONNX file as a small graph: constants folded, shapes known, nothing left that no output needs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError, unknown
from accelsim.importing.onnx_file import fix_sizes, node_text, onnx_package, read_model, reason

Shape = tuple[int, ...]

_SMALL = 1024
"""Elements of the constants whose values shape inference is shown: shapes and axes, not weights."""
_KNOWN = 2**21
"""Elements of the largest constant that is computed; it must hold an attention mask of 1024 x 1024."""


@dataclass(frozen=True)
class Constant:
    """A value that does not depend on the data: its shape, its values unless they are large or elsewhere.

    ``origin`` is the initializer that it is, or that it is the transpose of.
    """

    shape: Shape
    values: NDArray[Any] | None
    origin: str

    @property
    def elements(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)


@dataclass(frozen=True)
class Node:
    """One operator. ``inputs`` holds an empty text where an optional one is left out."""

    op: str
    name: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]

    def __str__(self) -> str:
        return f"node {self.name or self.outputs[0]!r} ({self.op})"


@dataclass(frozen=True)
class Graph:
    """Nodes in an order in which they can run, from ``inputs`` to ``output``."""

    path: Path
    nodes: tuple[Node, ...]
    shapes: Mapping[str, Shape]
    constants: Mapping[str, Constant]
    inputs: tuple[str, ...]
    output: str
    whole_inputs: frozenset[str]

    @cached_property
    def producer(self) -> dict[str, Node]:
        """The node that makes each value."""
        return {value: node for node in self.nodes for value in node.outputs}

    @cached_property
    def consumers(self) -> dict[str, list[Node]]:
        """The nodes that read each value, each once."""
        found: dict[str, list[Node]] = {}
        for node in self.nodes:
            for value in dict.fromkeys(node.inputs):
                found.setdefault(value, []).append(node)
        return found

    def dynamic(self, node: Node) -> list[str]:
        """Inputs of a node that depend on the data."""
        return [value for value in node.inputs if value and value not in self.constants]

    def constant(self, node: Node, index: int) -> Constant | None:
        """A constant input by its place, None if it is not there or not constant."""
        return self.constants.get(node.inputs[index]) if index < len(node.inputs) else None

    def scalar(self, node: Node) -> float | None:
        """The one number that a node combines its data with, if there is one."""
        found = [self.constants[value] for value in node.inputs if value in self.constants]
        if len(found) != 1 or found[0].elements != 1 or found[0].values is None:
            return None
        return float(found[0].values.reshape(-1)[0])

    def shape(self, value: str) -> Shape:
        """The shape of a value. Raises `InputError` if the file does not tell it."""
        if value not in self.shapes:
            made_by = f"{self.producer[value]}: " if value in self.producer else ""
            message = f"the shape of value {value!r} does not follow from its inputs'"
            raise InputError(made_by + message, str(self.path))
        return self.shapes[value]

    def rewired(self, nodes: Iterable[Node]) -> Graph:
        """The same graph of other nodes, without those that the output does not need."""
        return replace(self, nodes=tuple(_needed(list(nodes), self.output)))


def read_graph(path: Path, sizes: Mapping[str, int], output: str | None) -> Graph:
    """The graph of an ONNX file.

    Parameters
    ----------
    sizes: extents of named axes that the file leaves open; an open first axis is a batch of 1.
    output: name of the output that is meant; None is the first.

    Raises
    ------
    InputError: the onnx package is missing, no ONNX file, an unknown output, an axis without a size.
    """
    onnx = onnx_package(path)
    model = read_model(onnx, path)
    initializers = {tensor.name: tensor for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in initializers]
    fix_sizes(inputs, sizes, path)
    outputs = [value.name for value in model.graph.output]
    wanted = outputs[0] if output is None else output
    if wanted not in outputs:
        raise unknown("output", wanted, outputs, str(path))
    names = tuple(value.name for value in inputs)
    whole = frozenset(value.name for value in inputs if value.type.tensor_type.elem_type in (6, 7))
    constants = {name: _initial(onnx, tensor, path) for name, tensor in initializers.items()}
    model.graph.ClearField("initializer")
    model.graph.ClearField("value_info")
    protos, shapes = _fold(onnx, model, inputs, constants, path)
    nodes = [_node(onnx, proto) for proto in protos]
    graph = Graph(path, tuple(nodes), shapes, constants, names, wanted, whole)
    return graph.rewired(graph.nodes)


def _initial(onnx: Any, tensor: Any, path: Path) -> Constant:
    shape = tuple(tensor.dims)
    if min(shape, default=1) < 0:
        raise InputError(f"weight {tensor.name!r}: shape {list(shape)}", str(path))
    external = tensor.data_location == onnx.TensorProto.EXTERNAL
    if math.prod(shape) > _KNOWN or external:
        return Constant(shape, None, tensor.name)
    try:
        return Constant(shape, onnx.numpy_helper.to_array(tensor), tensor.name)
    except KeyError:
        message = f"unknown element type {tensor.data_type}"
    except (ValueError, TypeError) as error:
        message = reason(error)
    raise InputError(f"weight {tensor.name!r} of shape {list(shape)}: {message}", str(path))


def _fold(
    onnx: Any, model: Any, inputs: Sequence[Any], constants: dict[str, Constant], path: Path
) -> tuple[list[Any], dict[str, Shape]]:
    """(nodes that depend on the data, shapes of all values); adds what does not to ``constants``."""
    left, types = list(model.graph.node), dict[str, int]()
    shapes: dict[str, Shape] = {}
    while True:
        try:
            shapes |= _inferred(onnx, model, left, inputs, constants, types)
        except Exception as error:  # the package raises its own kinds
            raise InputError(f"shapes do not fit: {reason(error)}", str(path)) from None
        kept = []
        for proto in left:
            try:
                folded = _folded(onnx, proto, shapes, constants, model.opset_import)
            except Exception as error:  # whatever the reference implementation of an operator raises
                message = f"cannot be computed: {reason(error)}"
                raise InputError(f"{node_text(proto)}: {message}", str(path)) from None
            if not folded:
                kept.append(proto)
        if len(kept) == len(left):
            return kept, shapes
        left = kept


def _inferred(
    onnx: Any, model: Any, nodes: Sequence[Any], inputs: Sequence[Any],
    constants: Mapping[str, Constant], types: dict[str, int],
) -> dict[str, Shape]:  # fmt: skip
    """Shapes by the package's own inference, which sees small constants only."""
    read = {value for node in nodes for value in node.input}
    given, tensors = list(inputs), []
    for name, constant in constants.items():
        if name not in read:
            continue
        if constant.values is not None and constant.elements <= _SMALL:
            tensors.append(onnx.numpy_helper.from_array(constant.values, name))
        else:
            kind = onnx.TensorProto.FLOAT
            if constant.values is not None:
                kind = onnx.helper.np_dtype_to_tensor_dtype(constant.values.dtype)
            given.append(onnx.helper.make_tensor_value_info(name, types.get(name, kind), constant.shape))
    graph = onnx.helper.make_graph(nodes, "shapes", given, list(model.graph.output), tensors)
    version = max(model.ir_version, 4)  # before, an initializer had to be an input too
    light = onnx.helper.make_model(graph, opset_imports=model.opset_import, ir_version=version)
    found = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    shapes = {}
    for value in (*found.value_info, *found.input, *found.output):
        types[value.name] = value.type.tensor_type.elem_type
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(dim.dim_value > 0 for dim in dims):
            shapes[value.name] = tuple(dim.dim_value for dim in dims)
    return shapes | {name: constant.shape for name, constant in constants.items()}


def _folded(
    onnx: Any, proto: Any, shapes: Mapping[str, Shape], constants: dict[str, Constant], opsets: Any
) -> bool:
    """Whether a node is constant; its outputs then are in ``constants``."""
    if proto.op_type == "Shape" and proto.input[0] in shapes and not proto.attribute:
        extents = np.array(shapes[proto.input[0]], np.int64)
        constants[proto.output[0]] = Constant(extents.shape, extents, "")
        return True
    if any(name and name not in constants for name in proto.input):
        return False
    if any(attribute.HasField("g") for attribute in proto.attribute):
        return False
    known = [constants[name] for name in proto.input if name]
    if all(each.values is not None for each in known) and sum(each.elements for each in known) <= _KNOWN:
        results = _evaluated(onnx, proto, constants, opsets)
        for name, values in zip(proto.output, results, strict=False):
            constants[name] = Constant(values.shape, values, _origin(proto, constants))
        return True
    if any(name not in shapes for name in proto.output):
        return False
    for name in proto.output:
        constants[name] = Constant(shapes[name], None, _origin(proto, constants))
    return True


def _evaluated(onnx: Any, proto: Any, constants: Mapping[str, Constant], opsets: Any) -> list[NDArray[Any]]:
    """A constant node's outputs, by the package's reference implementation."""
    names = [name for name in dict.fromkeys(proto.input) if name]
    empty = [onnx.ValueInfoProto(name=name) for name in names]
    graph = onnx.helper.make_graph([proto], "one", empty, [onnx.ValueInfoProto(name=n) for n in proto.output])
    model = onnx.helper.make_model(graph, opset_imports=opsets)
    run = onnx.reference.ReferenceEvaluator(model).run
    with np.errstate(all="ignore"):
        return [np.asarray(each) for each in run(None, {name: constants[name].values for name in names})]


def _origin(proto: Any, constants: Mapping[str, Constant]) -> str:
    passes = proto.op_type in ("Transpose", "Identity", "Cast", "Reshape", "DequantizeLinear")
    return constants[proto.input[0]].origin if passes else ""


def _node(onnx: Any, proto: Any) -> Node:
    op = f"{proto.domain}::{proto.op_type}" if proto.domain not in ("", "ai.onnx") else proto.op_type
    if op == "Sum" and len(proto.input) == 2:
        op = "Add"
    attributes = {each.name: onnx.helper.get_attribute_value(each) for each in proto.attribute}
    return Node(op, proto.name, tuple(proto.input), tuple(proto.output), attributes)


def _needed(nodes: Sequence[Node], output: str) -> list[Node]:
    wanted, kept = {output}, []
    for node in reversed(nodes):
        if wanted & set(node.outputs):
            kept.append(node)
            wanted |= {value for value in node.inputs if value}
    return kept[::-1]
