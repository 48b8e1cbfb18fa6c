"""The package's sources as data: which module imports which, which function calls what. Nothing is run."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PACKAGE = ROOT / "accelsim"


@dataclass(frozen=True)
class Module:
    """One source file. ``name`` is dotted (``accelsim.run.state``), ``room`` the part after ``accelsim``."""

    name: str
    path: Path
    tree: ast.Module

    @property
    def room(self) -> str:
        parts = self.name.split(".")
        return parts[1] if len(parts) > 1 else ""

    @property
    def place(self) -> str:
        """The path as a message shows it."""
        return self.path.relative_to(ROOT).as_posix()


@dataclass(frozen=True)
class Import:
    """One import, anywhere in a module: also in a function, also for type checkers only."""

    source: Module
    target: str
    line: int


@cache
def modules() -> dict[str, Module]:
    """Every module of the package by its dotted name."""
    found = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = list(path.relative_to(ROOT).with_suffix("").parts)
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        found[name] = Module(name, path, ast.parse(path.read_text(encoding="utf-8")))
    return found


def imports(module: Module) -> Iterator[Import]:
    """What a module imports, each name resolved to the module it comes from; outside names as they are."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _plain(module, alias, node.lineno)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module.place}:{node.lineno} imports relatively; write the whole name"
            for alias in node.names:
                yield Import(module, _resolved(f"{node.module}", alias.name), node.lineno)


def _plain(module: Module, alias: ast.alias, line: int) -> Iterator[Import]:
    if alias.name != "accelsim":
        yield Import(module, alias.name, line)
        return
    used = (node for node in ast.walk(module.tree) if isinstance(node, ast.Attribute))
    for node in used:
        if isinstance(node.value, ast.Name) and node.value.id == "accelsim":
            yield Import(module, _resolved("accelsim", node.attr), line)


def _resolved(package: str, name: str) -> str:
    """The module that ``from package import name`` reaches; a verb of the package itself is the API's."""
    if f"{package}.{name}" in modules():
        return f"{package}.{name}"
    if package == "accelsim" and not name.startswith("__") and name != "InputError":
        return "accelsim.api"
    return package


def own_imports(module: Module) -> Iterator[Import]:
    """Imports of the package's own modules."""
    return (one for one in imports(module) if one.target.split(".")[0] == "accelsim")


def loading_imports(module: Module) -> Iterator[Import]:
    """Own imports that happen when the module is loaded: outside functions, not for type checkers only."""
    later: set[int] = set()
    for node in ast.walk(module.tree):
        checking = isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        if checking or isinstance(node, ast.FunctionDef | ast.Lambda):
            later |= {
                inner.lineno for inner in ast.walk(node) if isinstance(inner, ast.Import | ast.ImportFrom)
            }
    return (one for one in own_imports(module) if one.line not in later)


def room_of(target: str) -> str:
    """The room of a dotted name, or nothing for the package itself."""
    return target.split(".")[1] if "." in target else ""


def functions(tree: ast.Module) -> Iterator[tuple[str, ast.AST]]:
    """Every node with the name of the innermost function or class it stands in (``module`` outside)."""

    def walk(node: ast.AST, name: str) -> Iterator[tuple[str, ast.AST]]:
        for child in ast.iter_child_nodes(node):
            yield name, child
            named = isinstance(child, ast.FunctionDef | ast.ClassDef)
            yield from walk(child, child.name if named else name)  # type: ignore[attr-defined]

    return walk(tree, "module")
