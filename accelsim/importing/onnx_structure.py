"""A graph of nodes -> layers one after another, with residual sums and concatenations where branches meet."""

from __future__ import annotations

import math
from collections.abc import Sequence

from accelsim.importing.onnx_graph import Graph, Node
from accelsim.importing.onnx_layers import Translator
from accelsim.importing.writing import Item

_GATES = {"sigmoid", "hard_sigmoid", "tanh", "gelu", "swish", "relu", "hard_swish"}
_JOINS = ("Add", "Mul", "Concat", "Joined")


def layered(graph: Graph, start: str, translator: Translator) -> list[Item]:
    """The layers from the value ``start`` to the graph's output.

    Raises `InputError` at the node where branches meet in another way than a sum or a concatenation.
    """
    return _Walk(_nested_concats(graph), translator).between(start, graph.output)


def _nested_concats(graph: Graph) -> Graph:
    """Concatenations that repeat a shorter one read its result: a, b, c becomes (a, b), c."""
    made = {node.inputs: node.outputs[0] for node in graph.nodes if node.op == "Concat"}
    nodes = []
    for node in graph.nodes:
        if node.op == "Concat":
            inputs = node.inputs
            for length in range(len(inputs) - 1, 1, -1):
                if inputs[:length] in made:
                    inputs = (made[inputs[:length]], *inputs[length:])
                    break
            node = Node(node.op, node.name, inputs, node.outputs, node.attributes)
        nodes.append(node)
    return graph.rewired(nodes)


class _Walk:
    """Goes along the values of a graph and opens a branch wherever one is read more than once."""

    def __init__(self, graph: Graph, translator: Translator) -> None:
        self._graph = graph
        self._translator = translator

    def between(self, start: str, end: str) -> list[Item]:
        """The layers that turn the value ``start`` into the value ``end``."""
        items: list[Item] = []
        inside = self._leading_to(end)
        value = start
        while value != end:
            readers = [node for node in self._graph.consumers.get(value, ()) if node.outputs[0] in inside]
            if not readers:
                maker = self._graph.producer[end]
                raise self._translator.mistake(maker, f"does not come from value {value!r} alone")
            node = readers[0]
            if len(readers) == 1 and self._class_token(node):
                items.append(("class_token", {}))
            elif len(readers) > 1 or len(set(self._graph.dynamic(node))) > 1 or node.op in _JOINS[2:]:
                node = self._meeting(value, inside, readers)
                items.append(self._joined(node, value))
            else:
                self._translator.extend(items, node)
            value = next(each for each in node.outputs if each == end or self._read(each, inside))
        return items

    def _read(self, value: str, inside: set[str]) -> bool:
        """Whether a value enters what the walk goes to."""
        return any(node.outputs[0] in inside for node in self._graph.consumers.get(value, ()))

    def _leading_to(self, end: str) -> set[str]:
        """All values that ``end`` depends on, and itself."""
        found, waiting = set[str](), [end]
        while waiting:
            value = waiting.pop()
            if value in found:
                continue
            found.add(value)
            if node := self._graph.producer.get(value):
                found.add(node.outputs[0])
                waiting += self._graph.dynamic(node)
        return found

    def _meeting(self, value: str, inside: set[str], readers: Sequence[Node]) -> Node:
        """The first node behind which everything comes through it alone; at the latest, the end's."""
        meeting, reached = readers[0], {value}
        open_edges = {(value, node.outputs[0]) for node in readers}
        for meeting in self._graph.nodes:
            entering = {(each, meeting.outputs[0]) for each in meeting.inputs if each in reached}
            if not entering or meeting.outputs[0] not in inside:
                continue
            open_edges -= entering
            if not open_edges:
                break
            reached |= set(meeting.outputs)
            open_edges |= {
                (out, later.outputs[0])
                for out in meeting.outputs
                for later in self._graph.consumers.get(out, ())
                if later.outputs[0] in inside
            }
        return meeting

    def _joined(self, node: Node, value: str) -> Item:
        """The item of a node in which branches from ``value`` meet."""
        if node.op not in _JOINS:
            raise self._translator.mistake(node, "branches meet here; only Add, Mul and Concat join them")
        if len(self._graph.dynamic(node)) < len(node.inputs):
            raise self._translator.mistake(node, "joins the data with a constant: no layer does it")
        branches = [self.between(value, each) for each in node.inputs]
        if node.op == "Add":
            body, shortcut = sorted(branches, key=len, reverse=True)
            if not body:
                raise self._translator.mistake(node, "adds a value to itself: no layer does it")
            return "residual", {"body": body, "shortcut": shortcut}
        if node.op == "Mul":
            return self._gated(node, branches)
        rank, axis = len(self._graph.shape(node.inputs[0])), self._translator.layouts[node.inputs[0]].axis
        if node.op == "Concat" and node.attributes.get("axis", 0) % rank != axis:
            raise self._translator.mistake(node, "joins along another axis than the channels")
        return "concat", {"branches": branches}

    def _gated(self, node: Node, branches: list[list[Item]]) -> Item:
        """A product of two branches: the gate is the smaller one, or the one that ends in a function."""
        if not any(branches):
            raise self._translator.mistake(node, "multiplies a value by itself: no layer does it")
        (first, second), shapes = branches, [self._graph.shape(value) for value in node.inputs]
        layouts = [self._translator.layouts[value] for value in node.inputs]
        narrow = [
            math.prod(shape[1:]) == shape[layout.axis] for shape, layout in zip(shapes, layouts, strict=True)
        ]
        if shapes[0] != shapes[1] and not any(narrow):
            raise self._translator.mistake(node, f"multiplies {shapes[0]} by {shapes[1]}: no layer does it")
        ends = [bool(branch) and branch[-1][0] in _GATES for branch in branches]
        turned = narrow[0] if shapes[0] != shapes[1] else not second or (ends[0] and not ends[1])
        body, gate = (second, first) if turned else (first, second)
        return "gated", {"body": body, "gate": gate}

    def _class_token(self, node: Node) -> bool:
        """Whether a node puts one constant vector before the first position."""
        if node.op != "Concat" or len(node.inputs) != 2:
            return False
        token, shape = self._graph.constant(node, 0), self._graph.shape(node.outputs[0])
        before = node.attributes.get("axis", 0) % max(len(shape), 1) == 1 and len(shape) == 3
        return token is not None and before and token.elements == shape[0] * shape[2]
