"""Blocks and repeats of a workload file written out: a page of YAML to a scroll of layers.

Every entry keeps the key path it came from, so that a mistake in a block is reported where it stands.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from accelsim.errors import InputError, nearest, unknown
from accelsim.workload.schema import Block
from accelsim.yamlfile import KeyPath, YamlDocument, key_text, position_of

_MAX_LAYERS = 5000
_MAX_NESTING = 20
_REFERENCE = re.compile(r"\$([a-z_][a-z0-9_]*)")


@dataclass(frozen=True)
class Entry:
    """One layer as written: its kind, its settings and where they stand in the file."""

    kind: str
    settings: dict[str, Any]
    path: KeyPath


class Expander:
    """Writes out one workload file's list of layers."""

    def __init__(self, document: YamlDocument, blocks: dict[str, Block], kinds: list[str]) -> None:
        self._document = document
        self._blocks = blocks
        self._kinds = [*kinds, "residual", "block", "repeat"]
        self._written = 0

    def mistake(self, path: KeyPath, message: str) -> InputError:
        """An error at a key of the file."""
        return InputError(f"{key_text(path)}: {message}", position_of(self._document, path))

    def expand(
        self, items: Any, path: KeyPath, values: dict[str, Any] | None = None, depth: int = 0
    ) -> list[Entry]:
        """The entries of a list of layers; ``values`` are the parameters of the block it stands in."""
        if not isinstance(items, list):
            raise self.mistake(path, f"must be a list of layers, got {items!r}")
        if depth > _MAX_NESTING:
            raise self.mistake(path, f"nested deeper than {_MAX_NESTING} levels; does a block use itself?")
        entries: list[Entry] = []
        for index, item in enumerate(items):
            entries += self._item(item, (*path, index), values or {}, depth)
        return entries

    def _item(self, item: Any, path: KeyPath, values: dict[str, Any], depth: int) -> list[Entry]:
        kind, settings = self._split(item, path)
        inner = (*path, kind) if isinstance(item, dict) else path
        if kind == "repeat":
            return self._repeat(self._filled(settings, inner, values, keep=("layers",)), inner, values, depth)
        if kind == "block":
            return self._block(self._filled(settings, inner, values), inner, depth)
        self._written += 1
        if self._written > _MAX_LAYERS:
            raise self.mistake(
                path, f"more than {_MAX_LAYERS} layers after blocks and repeats are written out"
            )
        if kind == "residual":
            return [Entry(kind, self._branches(settings, inner, values, depth), inner)]
        return [Entry(kind, self._filled(settings, inner, values), inner)]

    def _split(self, item: Any, path: KeyPath) -> tuple[str, dict[str, Any]]:
        if isinstance(item, str):
            kind, settings = item, {}
        elif isinstance(item, dict) and len(item) == 1:
            kind, settings = next(iter(item.items()))
            settings = {} if settings is None else settings
        else:
            raise self.mistake(path, "must be a layer: a kind, or one 'kind: {settings}'")
        if kind not in self._kinds:
            raise unknown("layer", str(kind), self._kinds, position_of(self._document, path))
        if not isinstance(settings, dict):
            raise self.mistake((*path, kind), f"must be a mapping of settings, got {settings!r}")
        return kind, settings

    def _filled(
        self, settings: dict[str, Any], path: KeyPath, values: dict[str, Any], keep: tuple[str, ...] = ()
    ) -> dict[str, Any]:
        """Settings with every ``$name`` replaced by its value."""
        filled = {}
        for key, value in settings.items():
            match = _REFERENCE.fullmatch(value) if isinstance(value, str) and key not in keep else None
            if match and match[1] not in values:
                allowed = ", ".join(f"${name}" for name in values) or "none (this is not inside a block)"
                hint = nearest(match[1], values)
                raise self.mistake((*path, key), f"unknown parameter {value}{hint}; allowed: {allowed}")
            filled[key] = values[match[1]] if match else value
        return filled

    def _known_keys(self, settings: dict[str, Any], path: KeyPath, needed: tuple[str, ...]) -> None:
        for key in settings:
            if key not in needed:
                raise unknown("key", key, needed, position_of(self._document, (*path, key)))
        for key in needed:
            if key not in settings:
                raise self.mistake(path, f"the key '{key}' is missing")

    def _repeat(
        self, settings: dict[str, Any], path: KeyPath, values: dict[str, Any], depth: int
    ) -> list[Entry]:
        self._known_keys(settings, path, ("times", "layers"))
        times = settings["times"]
        if isinstance(times, bool) or not isinstance(times, int) or not 0 <= times <= _MAX_LAYERS:
            raise self.mistake(
                (*path, "times"), f"must be a whole number from 0 to {_MAX_LAYERS}, got {times!r}"
            )
        entries: list[Entry] = []
        for _ in range(times):
            entries += self.expand(settings["layers"], (*path, "layers"), values, depth + 1)
        return entries

    def _block(self, settings: dict[str, Any], path: KeyPath, depth: int) -> list[Entry]:
        name = settings.get("use")
        if not isinstance(name, str):
            raise self.mistake(path, "the key 'use' must name a block")
        if name not in self._blocks:
            raise unknown("block", name, self._blocks, position_of(self._document, (*path, "use")))
        block = self._blocks[name]
        given = {key: value for key, value in settings.items() if key != "use"}
        for key in given:
            if key not in block.parameters:
                where = position_of(self._document, (*path, key))
                raise unknown(f"parameter of block '{name}'", key, block.parameters, where)
        values = {**block.parameters, **given}
        missing = [key for key, value in values.items() if value is None]
        if missing:
            raise self.mistake(path, f"block '{name}' needs a value for '{missing[0]}'")
        return self.expand(block.layers, ("blocks", name, "layers"), values, depth + 1)

    def _branches(
        self, settings: dict[str, Any], path: KeyPath, values: dict[str, Any], depth: int
    ) -> dict[str, Any]:
        for key in settings:
            if key not in ("body", "shortcut"):
                raise unknown("key", key, ("body", "shortcut"), position_of(self._document, (*path, key)))
        if "body" not in settings:
            raise self.mistake(path, "the key 'body' is missing")
        return {
            branch: self.expand(settings.get(branch, []), (*path, branch), values, depth + 1)
            for branch in ("body", "shortcut")
        }
