"""Timeloop problem files: a shape (loops and data spaces) and an instance (their sizes)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from accelsim.errors import InputError, unknown
from accelsim.importing.loopnests import Nest, Slide, nest_problem, sized, whole
from accelsim.importing.naming import layer_name
from accelsim.importing.problem import Problem
from accelsim.yamlfile import YamlDocument, position_of

_CNN = {
    "dimensions": ["C", "M", "R", "S", "N", "P", "Q", "G"],
    "data-spaces": [
        {"name": "Weights", "projection": [[["G"]], [["C"]], [["M"]], [["R"]], [["S"]]]},
        {
            "name": "Inputs",
            "projection": [
                [["N"]], [["G"]], [["C"]],
                [["R", "Wdilation"], ["P", "Wstride"]], [["S", "Hdilation"], ["Q", "Hstride"]],
            ],
        },
        {"name": "Outputs", "projection": [[["N"]], [["G"]], [["M"]], [["Q"]], [["P"]]], "read-write": True},
    ],
}  # fmt: skip
"""The shape that Timeloop calls ``cnn-layer``, for files that name it only."""
_NAMED = {"cnn-layer": _CNN, "cnn_layer": _CNN}


def timeloop_problem(document: YamlDocument) -> Problem:
    """The one operation of a Timeloop problem file.

    Raises `InputError` with file and line for a shape that is neither named nor given, data spaces that
    are not two read and one written, loops without sizes, and operations that are no matrix product.
    """
    where = position_of(document, ("problem",))
    problem = document.data["problem"]
    if not isinstance(problem, dict):
        raise InputError("problem: must be a mapping with 'shape' and 'instance'", where)
    shape = _shape(problem.get("shape", "cnn-layer"), where)
    defaults = {"G": 1} if shape is _CNN else {}
    inner = problem.get("instance")
    instance = inner if isinstance(inner, dict) else {k: v for k, v in problem.items() if k != "shape"}
    coefficients = [each for each in _list(shape, "coefficients") if "name" in each]
    instance = defaults | {each["name"]: each.get("default", 1) for each in coefficients} | instance
    spaces = _list(shape, "data-spaces")
    written = [space for space in spaces if space.get("read-write")]
    read = [space for space in spaces if not space.get("read-write")]
    if len(written) != 1 or len(read) != 2:
        raise InputError("shape: needs two data spaces that are read and one with 'read-write: true'", where)
    slides: list[Slide] = []
    loops = [_loops(space, instance, slides, where) for space in (*written, *read)]
    every = sorted(frozenset[str]().union(*loops))
    sizes = sized(every, instance, where)
    name = layer_name(str(shape.get("name", document.path.stem)), ()) or "layer1"
    return nest_problem(Nest(name, sizes, loops[0], (loops[1], loops[2]), tuple(slides), "N"), where)


def _shape(shape: Any, where: str) -> Mapping[str, Any]:
    if isinstance(shape, str):
        if shape not in _NAMED:
            raise unknown("shape", shape, _NAMED, where)
        return _NAMED[shape]
    if not isinstance(shape, dict):
        raise InputError("shape: must be a name or a mapping with 'dimensions' and 'data-spaces'", where)
    return shape


def _list(shape: Mapping[str, Any], key: str) -> list[dict[str, Any]]:
    """The mappings in a list of the shape; none where there is no list."""
    found = shape.get(key)
    return [each for each in found if isinstance(each, dict)] if isinstance(found, list) else []


def _loops(
    space: Mapping[str, Any], instance: Mapping[str, Any], slides: list[Slide], where: str
) -> frozenset[str]:
    """Loops that index a data space; the sum of two is a sliding axis and goes to ``slides``."""
    found: set[str] = set()
    projection = space.get("projection")
    if not isinstance(projection, list) or not all(map(_is_axis, projection)):
        wanted = "'projection' must be a list of axes, each a list of [LOOP] or [LOOP, COEFFICIENT]"
        raise InputError(f"data space {space.get('name')!r}: {wanted}", where)
    for axis in projection:
        terms = [(str(term[0]), _coefficient(term, instance, where)) for term in axis]
        found |= {name for name, _ in terms}
        if len(terms) == 2:
            (tap, dilation), (output, stride) = terms
            slides.append(Slide(output, tap, stride, dilation))
    return frozenset(found)


def _is_axis(axis: Any) -> bool:
    return isinstance(axis, list) and all(isinstance(term, list) and term for term in axis)


def _coefficient(term: Any, instance: Mapping[str, Any], where: str) -> int:
    """The factor of a loop in an axis: 1, or what the instance gives (1 where it does not)."""
    if len(term) < 2:
        return 1
    return whole(instance.get(str(term[1]), 1), str(term[1]), where)
