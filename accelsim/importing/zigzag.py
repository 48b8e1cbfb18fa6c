"""ZigZag workload files: a list of operators with an equation, loop sizes and relations of axes."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from accelsim.errors import InputError
from accelsim.importing.loopnests import Nest, Slide, nest_problem, sized, whole
from accelsim.importing.naming import layer_name
from accelsim.importing.problem import Problem
from accelsim.yamlfile import YamlDocument, position_of

KEY = "layers"
_TENSOR = re.compile(r"(\w+)((?:\[\w+\])+)")
_RELATION = re.compile(r"(\w+)=(?:(\d+)\*)?(\w+)\+(?:(\d+)\*)?(\w+)")
_PASSIVE = ("Pooling", "Add", "Simd", "Softmax", "Elementwise")


def zigzag_problems(document: YamlDocument) -> list[Problem]:
    """The matrix products and convolutions of a ZigZag workload, in order.

    Operators without MACs (pooling, adding) are left out. Raises `InputError` at the operator that cannot
    be read: no equation, loops without sizes, no matrix product.
    """
    problems: list[Problem] = []
    for index, operator in enumerate(document.data[KEY]):
        where = position_of(document, (KEY, index))
        if not isinstance(operator, dict):
            raise InputError("must be an operator with 'equation', 'loop_dims' and 'loop_sizes'", where)
        if str(operator.get("operator_type", "")).startswith(_PASSIVE):
            continue
        given = str(operator.get("name", operator.get("id", index)))
        name = layer_name(given, {each.name for each in problems}) or f"layer{index}"
        problems.append(nest_problem(_nest(operator, name, where), where))
    if not problems:
        raise InputError("holds no operator that runs on a MAC array", str(document.path))
    return problems


def _nest(operator: Mapping[str, Any], name: str, where: str) -> Nest:
    equation = re.sub(r"\s", "", str(operator.get("equation", "")))
    tensors = [re.findall(r"\w+", indices) for _, indices in _TENSOR.findall(equation)]
    if len(tensors) != 3:
        wanted = "O[..]+=W[..]*I[..]"
        raise InputError(f"equation: must name three tensors ({wanted}), got {equation[:60]!r}", where)
    sizes = _sizes(operator, where)
    slides: dict[str, Slide] = {}
    relations = operator.get("dimension_relations") or ()
    if not isinstance(relations, list | tuple):
        raise InputError(f"dimension_relations: must be a list, got {str(relations)[:60]!r}", where)
    for relation in relations:
        match = _RELATION.fullmatch(re.sub(r"\s", "", str(relation)))
        if not match:
            raise InputError(f"dimension_relations: cannot read {str(relation)[:60]!r}: ix=2*ox+1*fx", where)
        axis, stride, output, dilation, tap = match.groups()
        slides[axis] = Slide(output, tap, int(stride or 1), int(dilation or 1))
    loops = [_loops(indices, slides) for indices in tensors]
    every = sorted(frozenset[str]().union(*loops))
    known = sized(every, sizes, where)
    return Nest(name, known, loops[0], (loops[1], loops[2]), tuple(slides.values()), "b")


def _loops(indices: list[str], slides: Mapping[str, Slide]) -> frozenset[str]:
    """Loops of a tensor: an axis that slides stands for its output loop and its tap loop."""
    found: set[str] = set()
    for index in indices:
        slide = slides.get(index)
        found |= {slide.output, slide.tap} if slide else {index}
    return frozenset(found)


def _sizes(operator: Mapping[str, Any], where: str) -> dict[str, int]:
    names, sizes = operator.get("loop_dims"), operator.get("loop_sizes")
    if not isinstance(names, list) or not isinstance(sizes, list) or len(names) != len(sizes):
        raise InputError("'loop_dims' and 'loop_sizes' must be two lists of one length", where)
    return {str(name).lower(): whole(size, str(name), where) for name, size in zip(names, sizes, strict=True)}
