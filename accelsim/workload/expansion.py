"""Blocks and repeats of a workload file written out: a page of YAML to a scroll of layers.

Every entry keeps the key path it came from, and every value given to a block the path where it was
given, so that a mistake in a block is reported where it stands.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from accelsim.errors import InputError, nearest, unknown
from accelsim.workload.schema import Block
from accelsim.yamlfile import KeyPath, YamlDocument, key_text, position_of

_MAX_ITEMS = 5000
_MAX_NESTING = 20


@dataclass(frozen=True)
class Given:
    """The value of a block's parameter and where it was given: at the block's use or as its default."""

    value: Any
    path: KeyPath


@dataclass(frozen=True)
class Scope:
    """What surrounds a list of layers.

    ``values`` are the parameters of the block it stands in, ``used_at`` is where the network itself
    uses that block (or the block around it), ``depth`` counts the levels of nesting.
    """

    values: Mapping[str, Given] = field(default_factory=dict)
    used_at: KeyPath | None = None
    depth: int = 0

    def inner(self) -> Scope:
        """The scope one level down, in the same block."""
        return Scope(self.values, self.used_at, self.depth + 1)


@dataclass(frozen=True)
class Entry:
    """One layer as written: its kind, its settings and where they stand in the file.

    ``origins`` says where the settings that are parameters of a block were given.
    """

    kind: str
    settings: dict[str, Any]
    path: KeyPath
    origins: dict[str, KeyPath]
    used_at: KeyPath | None


def shown(value: Any) -> str:
    """A value of the file in an error message: short, printable, on one line."""
    text = repr(value) if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."


class Expander:
    """Writes out one workload file's list of layers."""

    def __init__(self, document: YamlDocument, blocks: dict[str, Block], kinds: list[str]) -> None:
        self._document = document
        self._blocks = blocks
        self._kinds = [*kinds, "residual", "concat", "gated", "encoder_decoder", "block", "repeat"]
        self._items = 0

    def _mistake(self, path: KeyPath, message: str) -> InputError:
        return InputError(f"{key_text(path)}: {message}", position_of(self._document, path))

    def _unknown(self, what: str, given: str, allowed: list[str], path: KeyPath) -> InputError:
        return unknown(what, given, allowed, position_of(self._document, path))

    def expand(self, items: Any, path: KeyPath, scope: Scope | None = None) -> list[Entry]:
        """The entries of the list of layers at ``path``. Raises `InputError` at the first mistake."""
        scope = scope or Scope()
        if not isinstance(items, list):
            raise self._mistake(path, f"must be a list of layers, got {shown(items)}")
        if scope.depth > _MAX_NESTING:
            raise self._mistake(path, f"nested deeper than {_MAX_NESTING} levels; does a block use itself?")
        entries: list[Entry] = []
        for index, item in enumerate(items):
            entries += self._item(item, (*path, index), scope)
        return entries

    def _item(self, item: Any, path: KeyPath, scope: Scope) -> list[Entry]:
        self._items += 1
        if self._items > _MAX_ITEMS:
            raise self._mistake(path, f"more than {_MAX_ITEMS} items when blocks and repeats are written out")
        kind, written = self._split(item, path)
        inner = (*path, kind) if isinstance(item, dict) else path
        if kind == "residual":
            parts = self._branches(written, inner, scope, ["body", "shortcut"], "body")
            return [Entry(kind, parts, inner, {}, scope.used_at)]
        if kind == "gated":
            parts = self._branches(written, inner, scope, ["body", "gate"], "gate")
            return [Entry(kind, parts, inner, {}, scope.used_at)]
        if kind == "concat":
            return [Entry(kind, self._concat(written, inner, scope), inner, {}, scope.used_at)]
        if kind == "encoder_decoder":
            return [self._encoder_decoder(written, inner, scope)]
        settings, origins = self._filled(written, inner, scope)
        if kind == "repeat":
            return self._repeat(settings, origins, inner, scope)
        if kind == "block":
            return self._block(settings, origins, inner, scope)
        return [Entry(kind, settings, inner, origins, scope.used_at)]

    def _split(self, item: Any, path: KeyPath) -> tuple[str, dict[str, Any]]:
        settings: Any = {}
        if isinstance(item, str):
            kind = item
        elif isinstance(item, dict) and len(item) == 1:
            kind, settings = next(iter(item.items()))
            settings = {} if settings is None else settings
        else:
            raise self._mistake(
                path, f"must be a layer: a kind, or one 'kind: {{settings}}', got {shown(item)}"
            )
        if kind not in self._kinds:
            raise self._unknown("layer", kind, self._kinds, path)
        if not isinstance(settings, dict):
            raise self._mistake((*path, kind), f"must be a mapping of settings, got {shown(settings)}")
        return kind, settings

    def _filled(
        self, settings: dict[str, Any], path: KeyPath, scope: Scope
    ) -> tuple[dict[str, Any], dict[str, KeyPath]]:
        """Settings with every ``$name`` replaced by its value, and where such values were given."""
        filled, origins = {}, {}
        for key, value in settings.items():
            if isinstance(value, str) and value.startswith("$"):
                given = self._parameter(value, (*path, key), scope)
                filled[key], origins[key] = given.value, given.path
            else:
                filled[key] = value
        return filled, origins

    def _parameter(self, reference: str, path: KeyPath, scope: Scope) -> Given:
        name = reference.removeprefix("$")
        if name not in scope.values:
            if scope.used_at is None:
                raise self._mistake(path, f"unknown parameter {shown(reference)}: this is not inside a block")
            allowed = ", ".join(f"${known}" for known in scope.values) or "none, the block has no parameters"
            hint = nearest(name, scope.values)
            raise self._mistake(path, f"unknown parameter {shown(reference)}{hint}; allowed: {allowed}")
        return scope.values[name]

    def _known_keys(
        self, settings: dict[str, Any], path: KeyPath, allowed: list[str], needed: list[str]
    ) -> None:
        for key in settings:
            if key not in allowed:
                raise self._unknown("key", key, allowed, (*path, key))
        for key in needed:
            if key not in settings:
                raise self._mistake(path, f"the key '{key}' is missing")
            if settings[key] == []:
                raise self._mistake((*path, key), "must have at least one layer")

    def _repeat(
        self, settings: dict[str, Any], origins: dict[str, KeyPath], path: KeyPath, scope: Scope
    ) -> list[Entry]:
        self._known_keys(settings, path, ["times", "layers"], ["times", "layers"])
        times = settings["times"]
        if isinstance(times, bool) or not isinstance(times, int) or not 0 <= times <= _MAX_ITEMS:
            message = f"must be a whole number from 0 to {_MAX_ITEMS}, got {shown(times)}"
            where = position_of(self._document, origins.get("times", (*path, "times")))
            raise InputError(f"{key_text((*path, 'times'))}: {message}", where)
        entries: list[Entry] = []
        for _ in range(times):
            entries += self.expand(settings["layers"], (*path, "layers"), scope.inner())
        return entries

    def _block(
        self, settings: dict[str, Any], origins: dict[str, KeyPath], path: KeyPath, scope: Scope
    ) -> list[Entry]:
        name = settings.get("use")
        if not isinstance(name, str):
            raise self._mistake(path, "the key 'use' must name a block")
        if name not in self._blocks:
            raise self._unknown("block", name, list(self._blocks), origins.get("use", (*path, "use")))
        block = self._blocks[name]
        values = {
            key: Given(value, ("blocks", name, "parameters", key)) for key, value in block.parameters.items()
        }
        for key, value in settings.items():
            if key == "use":
                continue
            if key not in values:
                raise self._unknown(f"parameter of block '{name}'", key, list(values), (*path, key))
            values[key] = Given(value, origins.get(key, (*path, key)))
        missing = [key for key, given in values.items() if given.value is None]
        if missing:
            raise self._mistake(path, f"block '{name}' needs a value for '{missing[0]}'")
        inside = Scope(values, scope.used_at or path, scope.depth + 1)
        return self.expand(block.layers, ("blocks", name, "layers"), inside)

    def _concat(self, settings: dict[str, Any], path: KeyPath, scope: Scope) -> dict[str, Any]:
        self._known_keys(settings, path, ["branches"], ["branches"])
        written = settings["branches"]
        if not isinstance(written, list):
            message = f"must be a list of branches, each a list of layers, got {shown(written)}"
            raise self._mistake((*path, "branches"), message)
        places = [(*path, "branches", index) for index in range(len(written))]
        return {
            "branches": [
                self.expand(branch, place, scope.inner())
                for branch, place in zip(written, places, strict=True)
            ]
        }

    def _encoder_decoder(self, settings: dict[str, Any], path: KeyPath, scope: Scope) -> Entry:
        keys = ["source", "encoder", "decoder"]
        self._known_keys(settings, path, keys, keys)
        parts = {key: self.expand(settings[key], (*path, key), scope.inner()) for key in keys[1:]}
        source, origins = self._filled({"source": settings["source"]}, path, scope)
        return Entry("encoder_decoder", {**source, **parts}, path, origins, scope.used_at)

    def _branches(
        self, settings: dict[str, Any], path: KeyPath, scope: Scope, names: list[str], needed: str
    ) -> dict[str, Any]:
        """Two lists of layers by their names; the one that is not ``needed`` may be left out."""
        self._known_keys(settings, path, names, [needed])
        return {
            branch: self.expand(settings.get(branch, []), (*path, branch), scope.inner()) for branch in names
        }
