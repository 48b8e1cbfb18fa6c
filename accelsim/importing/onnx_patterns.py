"""Operators that exporters write out in many nodes, found and put back together."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np

from accelsim.errors import InputError
from accelsim.importing.onnx_graph import Graph, Node
from accelsim.importing.onnx_pieces import padded, parts, rms_norms, rotated, shuffles

SHAPING = {"Transpose", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Cast", "Flatten"}
"""Operators that move values and compute nothing."""
_PICKING = SHAPING | {"Split", "Slice", "Gather", "Part"}


def fused(graph: Graph, notes: list[str]) -> Graph:
    """The graph with norms, GELUs, swishes, shuffled channels and attentions as one node each."""
    graph = parts(padded(graph))
    for find in (_layer_norms, rms_norms, _gelus, _swishes, shuffles):
        graph = _replaced(graph, list(find(graph)))
    return _replaced(graph, list(_attentions(graph, notes)))


def _replaced(graph: Graph, found: Sequence[Node]) -> Graph:
    """New nodes in place of those that made the same value."""
    made = {node.outputs[0]: node for node in found if node.op != "Joined"}
    joined = {node.outputs[0]: node for node in found if node.op == "Joined"}
    nodes: list[Node] = []
    for node in graph.nodes:
        new = made.get(node.outputs[0]) if node.outputs else None
        if new is None:
            nodes.append(node)
            continue
        if new.inputs[0] in joined:
            nodes.append(joined[new.inputs[0]])
        nodes.append(new)
    return graph.rewired(nodes)


def _only(graph: Graph, value: str, op: str) -> Node | None:
    """The node of this kind that reads a value, if there is just one."""
    found = [node for node in graph.consumers.get(value, ()) if node.op == op]
    return found[0] if len(found) == 1 else None


def _made_by(graph: Graph, value: str, *ops: str) -> Node | None:
    node = graph.producer.get(value)
    return node if node is not None and node.op in ops else None


def _layer_norms(graph: Graph) -> Iterator[Node]:
    """(x - mean) / sqrt(variance + epsilon), then the scale and the shift where they are."""
    for node in graph.nodes:
        if node.op != "Div" or len(graph.dynamic(node)) != 2:
            continue
        root = _made_by(graph, node.inputs[1], "Sqrt")
        shifted = root and _made_by(graph, root.inputs[0], "Add")
        mean = shifted and _made_by(graph, graph.dynamic(shifted)[0], "ReduceMean")
        square = mean and _made_by(graph, mean.inputs[0], "Pow", "Mul")
        centred = _made_by(graph, node.inputs[0], "Sub")
        if not (shifted and square and centred and square.inputs[0] == node.inputs[0]):
            continue
        end = _after(graph, _after(graph, node, "Mul"), "Add")
        epsilon = graph.scalar(shifted) or 1e-5
        attributes = {"epsilon": epsilon, "axis": -1}
        yield Node("LayerNormalization", node.name, (centred.inputs[0],), end.outputs, attributes)


def _after(graph: Graph, node: Node, op: str) -> Node:
    """The next node if it combines this one with a constant vector, else this one."""
    following = _only(graph, node.outputs[0], op)
    constant = following and [v for v in following.inputs if v in graph.constants]
    if following and constant and len(graph.constants[constant[0]].shape) == 1:
        return following
    return node


def _gelus(graph: Graph) -> Iterator[Node]:
    """x (1 + erf(x / sqrt 2)) / 2, or the same with tanh (Hendrycks and Gimpel, arXiv:1606.08415)."""
    for node in graph.nodes:
        if node.op not in ("Erf", "Tanh"):
            continue
        plus = _only(graph, node.outputs[0], "Add")
        product = plus and graph.scalar(plus) == 1 and _only(graph, plus.outputs[0], "Mul")
        if not plus or not product:
            continue
        others = [value for value in graph.dynamic(product) if value != plus.outputs[0]]
        half = others and _made_by(graph, others[0], "Mul")
        if half and graph.scalar(half) == 0.5:
            yield Node("Gelu", node.name, (graph.dynamic(half)[0],), product.outputs, {})
            continue
        halving = _only(graph, product.outputs[0], "Mul")
        if others and halving and graph.scalar(halving) == 0.5:
            yield Node("Gelu", node.name, (others[0],), halving.outputs, {})


def _swishes(graph: Graph) -> Iterator[Node]:
    """x sigmoid(x), and the same of a hard sigmoid."""
    for node in graph.nodes:
        if node.op != "Mul" or len(graph.dynamic(node)) != 2:
            continue
        for x, gate in (node.inputs, node.inputs[::-1]):
            sigmoid = _made_by(graph, gate, "Sigmoid", "HardSigmoid")
            if sigmoid and sigmoid.inputs[0] == x:
                kind = "Swish" if sigmoid.op == "Sigmoid" else "HardSwish"
                yield Node(kind, node.name, (x,), node.outputs, sigmoid.attributes)


def _attentions(graph: Graph, notes: list[str]) -> Iterator[Node]:
    """softmax(q k^T + mask) v from each softmax between two products of activations."""
    for node in graph.nodes:
        if node.op != "Softmax" or len(graph.shapes.get(node.inputs[0], ())) not in (3, 4):
            continue
        mixed = _product_after(graph, node.outputs[0])
        scores, causal = _scores(graph, node, notes)
        if mixed is None or scores is None:
            continue
        values = mixed.inputs[1]
        sources = [_source(graph, value, notes) for value in (*scores.inputs, values)]
        heads = math.prod(graph.shape(node.inputs[0])[:-2]) // _batch(graph)
        end = _end_of_shaping(graph, mixed)
        if len(set(sources)) == 1:
            joined = sources[0]
        else:
            joined = f"{node.outputs[0]}.queries_keys_values"
            yield Node("Joined", node.name, tuple(sources), (joined,), {"axis": -1})
        yield Node("Attention", node.name, (joined,), (end,), {"heads": heads, "causal": causal})


def _batch(graph: Graph) -> int:
    """Samples in the file's shapes."""
    return max(next((graph.shapes[name][0] for name in graph.inputs if graph.shapes.get(name)), 1), 1)


def _product_after(graph: Graph, value: str) -> Node | None:
    """The product of two activations that the softmax's output enters, also through a dropout."""
    for node in graph.consumers.get(value, ()):
        if node.op == "MatMul" and len(graph.dynamic(node)) == 2:
            return node
        if node.op in ("Dropout", "Cast", "Where"):
            return _product_after(graph, node.outputs[0])
    return None


def _scores(graph: Graph, softmax: Node, notes: list[str]) -> tuple[Node | None, bool]:
    """(the product q k^T in front of a softmax, whether a mask on the way hides later positions)."""
    value, causal = softmax.inputs[0], False
    while node := graph.producer.get(value):
        if node.op == "MatMul":
            return (node, causal) if len(graph.dynamic(node)) == 2 else (None, False)
        if node.op not in ("Add", "Sub", "Mul", "Div", "Where", "Cast", "Max"):
            return None, False
        scores = _towards_product(graph, node)
        masks = [v for v in node.inputs if v and v != scores]
        dropped = node.op == "Where" and scores == node.inputs[2]  # true where positions are hidden
        causal |= any(_hides_later(graph, mask, dropped) for mask in masks)
        if any(mask not in graph.constants for mask in masks):
            notes.append(f"{softmax}: its mask depends on an input and is left out")
        if node.op == "Add" and any(_biases(graph, mask) for mask in masks):
            notes.append(f"{softmax}: a table added to its scores is left out")
        value = scores
    return None, False


def _towards_product(graph: Graph, node: Node) -> str:
    """The input of a node that comes from a product of two activations."""
    seen: set[str] = set()

    def leads(value: str) -> bool:
        maker = graph.producer.get(value)
        if maker is None or value in seen:
            return False
        seen.add(value)
        if maker.op == "MatMul":
            return len(graph.dynamic(maker)) == 2
        return maker.op in ("Add", "Sub", "Mul", "Div", "Where", "Cast", "Max") and any(
            leads(each) for each in maker.inputs
        )

    return next((value for value in node.inputs if leads(value)), "")


def _hides_later(graph: Graph, value: str, dropped: bool) -> bool:
    """Whether a constant mask keeps the lower triangle and drops the upper; ``dropped`` turns it around."""
    constant = graph.constants.get(value)
    if constant is None or constant.values is None or len(constant.shape) < 2:
        return False
    mask = constant.values.reshape(-1, *constant.shape[-2:])[0]
    if mask.shape[0] != mask.shape[1] or mask.shape[0] < 2:
        return False
    later = np.triu(np.ones(mask.shape, bool), 1)
    kept = (mask != dropped) if mask.dtype == bool else mask > -1e3
    return not kept[later].any() and bool(kept[~later].all())


def _biases(graph: Graph, value: str) -> bool:
    """Whether a constant that is added to scores is more than a mask of zeros and numbers far below."""
    constant = graph.constants.get(value)
    if constant is None:
        return False
    return constant.values is None or bool(((constant.values > -1e3) & (constant.values != 0)).any())


def _source(graph: Graph, value: str, notes: list[str]) -> str:
    """Where queries, keys or values were computed: back over moving, picking, scaling and rotating."""
    while node := graph.producer.get(value):
        turned = rotated(graph, node)
        if turned is not None:
            notes.append(f"{node}: the rotation of its positions is left out")
            value = turned
            continue
        scaled = node.op in ("Mul", "Div") and graph.scalar(node) is not None
        if not (scaled or (node.op in _PICKING and len(graph.dynamic(node)) == 1)):
            return value
        value = graph.dynamic(node)[0]
    return value


def _end_of_shaping(graph: Graph, node: Node) -> str:
    """The value in which the heads stand side by side again."""
    value = node.outputs[0]
    while len(following := graph.consumers.get(value, [])) == 1 and following[0].op in SHAPING:
        value = following[0].outputs[0]
    if len(graph.shape(value)) > 3:
        raise InputError(f"{node}: cannot see where its heads are joined", str(graph.path))
    return value
