"""Written-out layers to a `Network`: names, shapes, signs."""

from __future__ import annotations

import math
from collections.abc import Callable

from accelsim.errors import InputError
from accelsim.network import (
    LAYERS,
    Add,
    Concat,
    EncoderDecoder,
    Gated,
    Join,
    Layer,
    Leaf,
    Memory,
    Network,
    Part,
    Product,
    Residual,
    Sequence,
    ShapeError,
    SharedEmbedding,
    Site,
    TableLookup,
    Unembedding,
)
from accelsim.workload.expansion import Entry, shown
from accelsim.yamlfile import KeyPath, YamlDocument, key_text, parse, position_of

LOSS = "loss"
"""What records call the loss; no layer may take the name."""


class NetworkBuilder:
    """Builds one network; remembers the names given so far."""

    def __init__(self, document: YamlDocument) -> None:
        self._document = document
        self._names: set[str] = set()
        self._counts: dict[str, int] = {}
        self._trained_before = False
        self._tables: dict[str, tuple[str, tuple[int, int]]] = {}  # whose it is, its shape
        self._memory: Memory | None = None
        self._composites: dict[str, Callable[[Entry, tuple[int, ...], bool], Part]] = {
            "residual": self._residual,
            "concat": self._concat,
            "gated": self._gated,
            "encoder_decoder": self._encoder_decoder,
        }

    def build(self, entries: list[Entry], input_shape: tuple[int, ...]) -> Network:
        """The network on samples of ``input_shape``. Raises `InputError` at the layer that does not fit."""
        return self._sequence(entries, input_shape, False)

    def _mistake(self, entry: Entry, message: str) -> InputError:
        """An error of a layer as a whole."""
        return self._located(entry, message, position_of(self._document, entry.path))

    def _located(self, entry: Entry, message: str, where: str) -> InputError:
        """An error somewhere in a layer; a layer of a block also says which use of the block it is."""
        use = ""
        if entry.used_at is not None:
            line = self._document.positions[entry.used_at][0]
            use = f" (in the block used on line {line})"
        return InputError(f"{key_text(entry.path)}: {message}{use}", where)

    def _sequence(self, entries: list[Entry], shape: tuple[int, ...], nonnegative: bool) -> Sequence:
        sequence = Sequence((), shape, nonnegative)
        for entry in entries:
            here, sign = sequence.output_shape, sequence.output_nonnegative
            make = self._composites.get(entry.kind, self._leaf)
            sequence = Sequence((*sequence.parts, make(entry, here, sign)), shape, nonnegative)
        return sequence

    def _leaf(self, entry: Entry, shape: tuple[int, ...], nonnegative: bool) -> Leaf:
        part = _part(self._document, entry)
        try:
            layer = parse(_class_of(entry), part)
        except InputError as error:
            raise self._located(entry, error.message, error.where) from None
        table = None
        if isinstance(layer, SharedEmbedding | Unembedding) and layer.of in self._tables:
            owner, table = self._tables[layer.of]
            layer = layer.model_copy(update={"of": owner})
        name = self._name(layer, entry, part)
        site = Site(name, shape, nonnegative, self._trained_before, table, self._memory)
        leaf = Leaf(layer, site)
        try:
            layer.output_shape(site)
        except ShapeError as error:
            raise self._mistake(entry, str(error)) from None
        trained = any(parameter.trained for parameter in layer.parameters(site).values())
        self._trained_before |= trained or table is not None
        self._reserve(entry, layer.sites(site)[1:])
        if isinstance(layer, TableLookup):
            self._tables[name] = (layer.owner(site), layer.table(site))
        return leaf

    def _residual(self, entry: Entry, shape: tuple[int, ...], nonnegative: bool) -> Residual:
        branches = [entry.settings["body"], entry.settings["shortcut"]]
        body, shortcut = self._side_by_side(branches, shape, nonnegative)
        if body.output_shape != shortcut.output_shape:
            shapes = f"body gives {body.output_shape} but shortcut gives {shortcut.output_shape}"
            raise self._mistake(entry, f"{shapes}; they must be equal")
        closing = Add()
        site = Site(self._numbered(closing.kind), body.output_shape, False, True)
        return Residual((body, shortcut), Leaf(closing, site))

    def _concat(self, entry: Entry, shape: tuple[int, ...], nonnegative: bool) -> Concat:
        branches = self._side_by_side(entry.settings["branches"], shape, nonnegative)
        shapes = [branch.output_shape for branch in branches]
        if len({one[:-1] for one in shapes}) > 1:
            given = " and ".join(map(str, dict.fromkeys(shapes)))
            raise self._mistake(entry, f"branches give {given}; all but the last axis must be equal")
        joined = (*shapes[0][:-1], sum(one[-1] for one in shapes))
        closing = Join(branches=len(branches), inputs=math.prod(shape))
        site = Site(self._numbered(closing.kind), joined, False, True)
        return Concat(branches, Leaf(closing, site))

    def _gated(self, entry: Entry, shape: tuple[int, ...], nonnegative: bool) -> Gated:
        branches = [entry.settings["body"], entry.settings["gate"]]
        body, gate = self._side_by_side(branches, shape, nonnegative)
        if gate.output_shape not in (body.output_shape, body.output_shape[-1:]):
            shapes = f"body gives {body.output_shape} but gate gives {gate.output_shape}"
            raise self._mistake(entry, f"{shapes}; it must give the same, or one number a channel")
        closing = Product(gate=math.prod(gate.output_shape), inputs=math.prod(shape))
        site = Site(self._numbered(closing.kind), body.output_shape, False, True)
        return Gated((body, gate), Leaf(closing, site))

    def _encoder_decoder(self, entry: Entry, shape: tuple[int, ...], nonnegative: bool) -> EncoderDecoder:
        source, positions = entry.settings["source"], shape[0]
        if isinstance(source, bool) or not isinstance(source, int) or not 1 <= source < positions:
            where = position_of(self._document, entry.origins.get("source", (*entry.path, "source")))
            message = f"must be a whole number from 1 to {positions - 1}, got {shown(source)}"
            raise self._located(entry, f"source: {message}", where)
        before, name = self._trained_before, self._numbered(entry.kind)
        encoder = self._sequence(entry.settings["encoder"], (source, *shape[1:]), nonnegative)
        if len(encoder.output_shape) != 2:
            message = f"the encoder must give (positions, channels), got {encoder.output_shape}"
            raise self._mistake(entry, message)
        after, outer = self._trained_before, self._memory
        self._trained_before = before
        self._memory = Memory(name, encoder.output_shape, encoder.output_nonnegative)
        decoder = self._sequence(entry.settings["decoder"], (positions - source, *shape[1:]), nonnegative)
        self._trained_before |= after
        self._memory = outer
        if not any(leaf.layer.kind == "cross_attention" for leaf in decoder.leaves()):
            raise self._mistake(entry, "the decoder has no 'cross_attention' to listen to the encoder with")
        return EncoderDecoder(name, source, encoder, decoder)

    def _side_by_side(
        self, branches: list[list[Entry]], shape: tuple[int, ...], nonnegative: bool
    ) -> tuple[Sequence, ...]:
        """Branches of one input: what is trained in one of them does not stand before another."""
        before, after = self._trained_before, self._trained_before
        built = []
        for entries in branches:
            self._trained_before = before
            built.append(self._sequence(entries, shape, nonnegative))
            after |= self._trained_before
        self._trained_before = after
        return tuple(built)

    def _name(self, layer: Layer, entry: Entry, part: YamlDocument) -> str:
        """The given name, or kind and a number; unique either way."""
        if layer.name is None:
            return self._numbered(layer.kind)
        where = position_of(part, ("name",))
        if layer.name == LOSS:
            raise self._located(entry, f"name: '{LOSS}' is the name of the loss itself", where)
        if layer.name in self._names:
            raise self._located(entry, f"name: another layer is named '{layer.name}' already", where)
        self._names.add(layer.name)
        return layer.name

    def _reserve(self, entry: Entry, parts: tuple[Site, ...]) -> None:
        """Take the names of a layer's operand sites, which records and checkpoints use as layers' names."""
        for part in parts:
            if part.name in self._names:
                message = f"a layer is named '{part.name}', which is the name of a part of this one"
                raise self._mistake(entry, message)
            self._names.add(part.name)

    def _numbered(self, kind: str) -> str:
        """Kind and the first number that is not taken."""
        self._counts[kind] = self._counts.get(kind, 0) + 1
        while (name := f"{kind}{self._counts[kind]}") in self._names:
            self._counts[kind] += 1
        self._names.add(name)
        return name


def _class_of(entry: Entry) -> type[Layer]:
    """The class that a layer's keys stand for."""
    if entry.kind == SharedEmbedding.kind and "of" in entry.settings:
        return SharedEmbedding
    return LAYERS[entry.kind]


def _part(document: YamlDocument, entry: Entry) -> YamlDocument:
    """The settings of one layer as a document of their own, with their places in the file."""
    places: dict[KeyPath, KeyPath] = {(): entry.path}
    places |= {(key,): entry.origins.get(key, (*entry.path, key)) for key in entry.settings}
    positions = {key: document.positions[path] for key, path in places.items()}
    return YamlDocument(document.path, document.text, entry.settings, positions)
