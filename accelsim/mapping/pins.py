"""Mappings that a user fixes in a YAML file, GEMM by GEMM; what is left out is chosen.

.. code-block:: yaml

    mappings:
      - layer: stem                  # as `accelsim map CHIP WORKLOAD` lists them
        phase: update
        gemm: [9, 9800, 16]          # M, K, N; only where a layer has several in a phase
        part: first step             # which of them; only where two are of one shape
        dataflow: input_stationary
        splits: {k: 8}               # pieces of m, n, groups, k
        tile: {m: 9, n: 16, k: 9800, loop_order: m_outer}
        convolution: direct          # or im2col, where the chip leaves both
        window: {chunks: 4}          # a tile of positions: chunks of dL/dW, else rows and cols
      - layer: conv3                 # on a row-stationary array
        phase: forward
        rows: {strip: 13, sets: 4, filters: 16, channels: 4, block_samples: 4, block_filters: 64}
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, PrivateAttr

from accelsim.chip import Chip
from accelsim.errors import InputError, nearest
from accelsim.mapping.plan import Convolution, Dataflow, LoopOrder, Splits
from accelsim.mapping.row_mapping import RowChoice
from accelsim.operations import Gemm, Phase
from accelsim.yamlfile import FromFile, YamlDocument, key_text, parse, position_of, read_yaml

Extent = Annotated[int, Field(ge=1)]


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class PinnedSplits(_Part):
    """Pieces of each dimension; a dimension left out is not cut."""

    m: Extent = 1
    n: Extent = 1
    groups: Extent = 1
    k: Extent = 1

    def as_splits(self) -> Splits:
        """The same for the search."""
        return Splits(self.m, self.n, self.groups, self.k)


class PinnedTile(_Part):
    """Extents in elements, and the outer loop."""

    m: Extent
    n: Extent
    k: Extent
    loop_order: LoopOrder = "m_outer"


class PinnedRows(_Part):
    """A row-stationary mapping, see `accelsim.mapping.row_mapping`."""

    strip: Extent
    sets: Extent
    filters: Extent
    channels: Extent
    channel_sets: Extent = 1
    block_samples: Extent = 1
    block_filters: Extent

    def as_choice(self) -> RowChoice:
        """The same for the search."""
        return RowChoice(**self.model_dump())


class PinnedWindow(_Part):
    """A tile of positions of a direct convolution."""

    rows: Annotated[int, Field(ge=0)] = 0
    cols: Annotated[int, Field(ge=0)] = 0
    chunks: Annotated[int, Field(ge=0)] = 0


class Pin(_Part):
    """What is fixed of the mapping of one layer's GEMMs in one phase."""

    layer: str
    phase: Phase
    gemm: tuple[Extent, Extent, Extent] | None = None
    part: str | None = None
    dataflow: Dataflow | None = None
    splits: PinnedSplits | None = None
    tile: PinnedTile | None = None
    rows: PinnedRows | None = None
    convolution: Convolution | None = None
    window: PinnedWindow | None = None

    def is_for(self, gemm: Gemm) -> bool:
        """Whether ``gemm`` is one of those that this pin speaks of."""
        shape = (gemm.m, gemm.k, gemm.n)
        return (
            (self.layer, self.phase) == (gemm.layer, gemm.phase)
            and self.gemm in (None, shape)
            and self.part in (None, gemm.part)
        )

    @property
    def breadth(self) -> int:
        """How many of shape and part are left open."""
        return (self.gemm is None) + (self.part is None)


class PinFile(FromFile, _Part):
    """All pins of a file."""

    mappings: tuple[Pin, ...] = Field(min_length=1)

    _document: YamlDocument = PrivateAttr()

    def index_for(self, gemm: Gemm) -> int | None:
        """The place of the pin that speaks of ``gemm``; one of its shape or part goes before one of all."""
        places = [index for index, pin in enumerate(self.mappings) if pin.is_for(gemm)]
        return min(places, key=lambda index: self.mappings[index].breadth, default=None)

    def mistake(self, index: int, key: str, message: str) -> InputError:
        """An error at a key of one pin."""
        path = ("mappings", index, key)
        return InputError(f"{key_text(path)}: {message}", position_of(self._document, path))


def load_pins(path: str | Path) -> PinFile:
    """Read pinned mappings. Raises `InputError` with file, line and key for the first mistake."""
    document = read_yaml(path)
    pins = parse(PinFile, document).read_from(document)
    pins._document = document
    seen: dict[tuple[object, ...], int] = {}
    for index, pin in enumerate(pins.mappings):
        first = seen.setdefault((pin.layer, pin.phase, pin.gemm, pin.part), index)
        if first != index:
            raise pins.mistake(index, "layer", f"'{pin.layer}' {pin.phase} is pinned twice")
    return pins


def require_known(pins: PinFile, gemms: Mapping[Gemm, object]) -> None:
    """Raise `InputError` for a pin that speaks of no GEMM of the program."""
    for index, pin in enumerate(pins.mappings):
        if not any(pin.is_for(gemm) for gemm in gemms):
            raise pins.mistake(index, *_of_nothing(pin, list(gemms)))


def _of_nothing(pin: Pin, gemms: list[Gemm]) -> tuple[str, str]:
    """The first key by which a pin misses all GEMMs, and what it may be."""
    of_layer = [gemm for gemm in gemms if gemm.layer == pin.layer]
    if not of_layer:
        layers = list(dict.fromkeys(gemm.layer for gemm in gemms))
        allowed = f"{nearest(pin.layer, layers)}; allowed: {', '.join(layers)}"
        return "layer", f"no GEMM belongs to layer '{pin.layer}'{allowed}"
    of_phase = [gemm for gemm in of_layer if gemm.phase == pin.phase]
    if not of_phase:
        allowed = ", ".join(dict.fromkeys(gemm.phase for gemm in of_layer))
        return "phase", f"'{pin.layer}' has no GEMM in phase {pin.phase}; allowed: {allowed}"
    of_shape = [gemm for gemm in of_phase if pin.gemm in (None, (gemm.m, gemm.k, gemm.n))]
    if not of_shape:
        shapes = dict.fromkeys(f"[{gemm.m}, {gemm.k}, {gemm.n}]" for gemm in of_phase)
        return "gemm", f"must be {' or '.join(shapes)}, got {list(pin.gemm or ())}"
    parts = dict.fromkeys(gemm.part for gemm in of_shape if gemm.part)
    if not parts:
        return "part", f"'{pin.layer}' {pin.phase} has one GEMM only; remove this key"
    return "part", f"must be {' or '.join(parts)}, got {pin.part}"


def check_pin(pins: PinFile, index: int, chip: Chip) -> None:
    """Raise `InputError` where a pin asks for what the chip does not have."""
    pin = pins.mappings[index]
    if pin.dataflow is not None and pin.dataflow not in chip.array.dataflows:
        allowed = ", ".join(chip.array.dataflows)
        raise pins.mistake(index, "dataflow", f"chip '{chip.name}' has no {pin.dataflow}; allowed: {allowed}")
    by_rows = pin.dataflow == "row_stationary" or pin.rows is not None
    if pin.rows is not None and "row_stationary" not in chip.array.dataflows:
        raise pins.mistake(index, "rows", f"chip '{chip.name}' has no row_stationary")
    if by_rows and (pin.splits or pin.tile):
        key = "splits" if pin.splits else "tile"
        raise pins.mistake(
            index, key, "row_stationary runs on one array and chooses its own blocks; leave it out"
        )
    if chip.array.convolution == "im2col" and (pin.convolution == "direct" or pin.window):
        key = "window" if pin.window else "convolution"
        raise pins.mistake(
            index, key, f"chip '{chip.name}' has no window buffer: its convolutions are im2col"
        )
    if pin.splits is None:
        return
    pieces = pin.splits.as_splits().workers
    if pieces > chip.workers:
        raise pins.mistake(
            index, "splits", f"{pieces} pieces are more than the {chip.workers} arrays of chip '{chip.name}'"
        )
    if pin.splits.k > 1 and chip.ring is None:
        raise pins.mistake(index, "splits", f"chip '{chip.name}' has no ring to add up pieces of k")
