"""Written-out layers to a `Network`: names, shapes, signs."""

from __future__ import annotations

from accelsim.errors import InputError
from accelsim.network import LAYERS, Add, Layer, Leaf, Network, Residual, Sequence, ShapeError, Site
from accelsim.workload.expansion import Entry
from accelsim.yamlfile import KeyPath, YamlDocument, key_text, parse, position_of


class NetworkBuilder:
    """Builds one network; remembers the names given so far."""

    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self._names: set[str] = set()
        self._counts: dict[str, int] = {}
        self._trained_before = False

    def build(self, entries: list[Entry], input_shape: tuple[int, ...]) -> Network:
        """The network on samples of ``input_shape``. Raises `InputError` at the layer that does not fit."""
        return self._sequence(entries, input_shape, False)

    def _mistake(self, path: KeyPath, message: str) -> InputError:
        return InputError(f"{key_text(path)}: {message}", position_of(self._document, path))

    def _sequence(self, entries: list[Entry], shape: tuple[int, ...], nonnegative: bool) -> Sequence:
        sequence = Sequence((), shape, nonnegative)
        for entry in entries:
            here, sign = sequence.output_shape, sequence.output_nonnegative
            make = self._residual if entry.kind == "residual" else self._leaf
            sequence = Sequence((*sequence.parts, make(entry, here, sign)), shape, nonnegative)
        return sequence

    def _leaf(self, entry: Entry, shape: tuple[int, ...], nonnegative: bool) -> Leaf:
        layer = parse(LAYERS[entry.kind], _part(self._document, entry))
        site = Site(self._name(layer, entry), shape, nonnegative, self._trained_before)
        leaf = Leaf(layer, site)
        try:
            layer.output_shape(site)
        except ShapeError as error:
            raise self._mistake(entry.path, str(error)) from None
        self._trained_before |= any(parameter.trained for parameter in layer.parameters(site).values())
        return leaf

    def _residual(self, entry: Entry, shape: tuple[int, ...], nonnegative: bool) -> Residual:
        trained_before = self._trained_before
        body = self._sequence(entry.settings["body"], shape, nonnegative)
        trained_after, self._trained_before = self._trained_before, trained_before
        shortcut = self._sequence(entry.settings["shortcut"], shape, nonnegative)
        self._trained_before |= trained_after
        if body.output_shape != shortcut.output_shape:
            raise self._mistake(
                entry.path,
                f"body gives {body.output_shape} but shortcut gives {shortcut.output_shape}; they must be equal",
            )
        closing = Add()
        site = Site(self._name(closing, entry), body.output_shape, False, True)
        return Residual(body, shortcut, Leaf(closing, site))

    def _name(self, layer: Layer, entry: Entry) -> str:
        """The given name, or kind and a number; unique either way."""
        if layer.name is None:
            self._counts[layer.kind] = self._counts.get(layer.kind, 0) + 1
            name = f"{layer.kind}{self._counts[layer.kind]}"
        else:
            name = layer.name
        if name in self._names:
            raise self._mistake((*entry.path, "name"), f"another layer is named '{name}' already")
        self._names.add(name)
        return name


def _part(document: YamlDocument, entry: Entry) -> YamlDocument:
    """The settings of one layer as a document of their own, with their places in the file."""
    depth = len(entry.path)
    positions = {
        path[depth:]: place for path, place in document.positions.items() if path[:depth] == entry.path
    }
    return YamlDocument(document.path, document.text, entry.settings, positions)
