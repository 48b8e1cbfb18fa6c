"""Convolutions on an array that keeps rows still (row stationary), in closed form: cycles, traffic, energy.

The dataflow of Eyeriss (Chen et al., ISCA 2016, section V; JSSC 2017, section IV). A PE slides one kernel
row over one input row: ``kernel`` x ``cols_out`` MACs. A *set* of ``kernel`` x ``strip`` PEs does ``strip``
output rows of one filter and channel; kernel rows lie down the array, output rows across it, and a strip
longer than the array is wide lies in segments one above the other. As many sets as fit work side by side,
each on filters of its own, and a PE works on ``filters`` and ``channels`` in turn, whose rows it holds. So
the sums of ``filters`` x sets filters are added up over ``channels`` channels in one *pass*; samples,
strips and the rest of filters and channels follow pass by pass, each of which takes the longest of

- filters channels kernel cols_out cycles per sample, in which the PEs compute, and
- filters sets strip cols_out / ``sum_words_per_cycle`` per sample, in which sums come and go;

filters are loaded before, ``filter_words_per_cycle`` at a time, once per strip and block of samples.

A *block* is the samples and filters whose sums wait in the global buffer, beside the inputs of one pass;
they must fit. Inputs cross DRAM once per block's filters, rows that two strips share twice; weights once
per strip and block's samples; outputs once. In the global buffer inputs are read once per filters held in
the array, sums go out and back once per pass. Per kernel row of MACs one sum moves between PEs; four words
are accessed inside a PE per MAC, which the mode's energy per MAC includes. A zero input saves a share of a
MAC's energy. Nothing is compressed.

All of this is chosen for the least energy with DRAM's, as the chip's designers do: for AlexNet it finds the
mapping that they publish (JSSC 2017, Table III).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cache

from accelsim.chip import Chip, LocalStore
from accelsim.cost.energy import static_energy_aj
from accelsim.errors import InputError, unknown
from accelsim.mapping.attojoules import attojoules
from accelsim.mapping.passes import ceil_div
from accelsim.network import Conv2d, Leaf
from accelsim.validation.schema import Zeros
from accelsim.workload import Workload


@dataclass(frozen=True)
class Shape:
    """A convolution; ``filters`` and ``channels`` are those of one group."""

    samples: int
    groups: int
    filters: int
    channels: int
    kernel: int
    stride: int
    rows_in: int
    cols_in: int
    rows_out: int
    cols_out: int

    @property
    def weights(self) -> int:
        """Weights of one group."""
        return self.filters * self.channels * self.kernel**2

    @property
    def outputs(self) -> int:
        """Results of one group, all samples."""
        return self.samples * self.rows_out * self.cols_out * self.filters

    @property
    def macs(self) -> int:
        """Products of all groups and samples."""
        return self.groups * self.outputs * self.channels * self.kernel**2


@dataclass(frozen=True)
class Placement:
    """``sets`` sets of ``strip`` output rows each on the array at once."""

    strip: int
    sets: int


@dataclass(frozen=True)
class Mapping:
    """How a convolution runs; the words are those of the module's text."""

    shape: Shape
    strip: int
    sets: int
    filters: int
    channels: int
    block_samples: int
    block_filters: int

    @property
    def strips(self) -> int:
        """Strips of one image."""
        return ceil_div(self.shape.rows_out, self.strip)

    @property
    def rows_in(self) -> int:
        """Input rows that a strip needs."""
        return (self.strip - 1) * self.shape.stride + self.shape.kernel

    @property
    def sample_blocks(self) -> int:
        """Blocks that the samples make."""
        return ceil_div(self.shape.samples, self.block_samples)

    @property
    def rounds(self) -> int:
        """Passes that add to the same sums."""
        return ceil_div(self.shape.channels, self.channels)

    @property
    def passes(self) -> int:
        """Passes of one group, each over one sample."""
        across = ceil_div(self.shape.filters, self.filters * self.sets)
        return self.shape.samples * self.strips * across * self.rounds

    def stream_cycles(self) -> int:
        """Cycles in which the PEs compute, all groups."""
        once = self.filters * self.channels * self.shape.kernel * self.shape.cols_out
        return self.shape.groups * self.passes * once

    def waiting_cycles(self, store: LocalStore) -> int:
        """Cycles in which they wait for sums, all groups."""
        words = self.filters * self.sets * self.strip * self.shape.cols_out
        once = self.filters * self.channels * self.shape.kernel * self.shape.cols_out
        wait = max(ceil_div(words, store.sum_words_per_cycle) - once, 0)
        return self.shape.groups * self.passes * wait

    def loading_cycles(self, store: LocalStore) -> int:
        """Cycles in which filters are loaded, all groups."""
        words = self.shape.weights * self.strips * self.sample_blocks
        return self.shape.groups * ceil_div(words, store.filter_words_per_cycle)

    def input_words(self) -> int:
        """Inputs of one group and all samples, with the rows that strips share."""
        rows = max(self.strips * self.rows_in, self.shape.rows_in)
        return self.shape.samples * rows * self.shape.cols_in * self.shape.channels

    def dram_words(self) -> int:
        """Words over DRAM, all groups."""
        inputs = self.input_words() * ceil_div(self.shape.filters, self.block_filters)
        weights = self.shape.weights * self.strips * self.sample_blocks
        return self.shape.groups * (inputs + weights + self.shape.outputs)

    def buffer_words(self) -> tuple[int, int]:
        """Words read from and written into the global buffer, all groups."""
        inputs = self.input_words() * ceil_div(self.shape.filters, self.filters * self.sets)
        reads = inputs + self.shape.outputs * (self.rounds - 1)
        return self.shape.groups * reads, self.shape.groups * self.shape.outputs * self.rounds


@dataclass(frozen=True)
class RowStationaryLayer:
    """What one convolution costs."""

    name: str
    mapping: Mapping
    macs: int
    stream_cycles: int
    cycles: int
    ideal_cycles: Fraction
    dram_bytes: int
    on_chip_aj: Fraction
    dram_aj: int


def placements(shape: Shape, rows: int, cols: int) -> list[Placement]:
    """All placements on ``rows`` x ``cols`` PEs, the shortest strip first.

    Raises `InputError` for a kernel with more rows than the array.
    """
    if shape.kernel > rows:
        raise InputError(f"row stationary: a kernel of {shape.kernel} rows does not fit {rows} rows of PEs")
    slots = rows // shape.kernel
    found = []
    for strip in range(1, shape.rows_out + 1):
        segments = ceil_div(strip, cols)
        sets = slots * (cols // strip) if segments == 1 else slots // segments
        if sets:
            found.append(Placement(strip, sets))
    return found


def held(shape: Shape, store: LocalStore) -> list[tuple[int, int]]:
    """(filters, channels) that a PE can hold: channels divide the layer's, filters are powers of two."""
    most_channels = max(store.input_words // shape.kernel, 1)
    found = []
    for channels in range(1, min(most_channels, shape.channels) + 1):
        if shape.channels % channels == 0:
            most = min(store.filter_words // (shape.kernel * channels), store.sum_words)
            found += [(1 << power, channels) for power in range(max(most, 1).bit_length())]
    return found


def mappings(shape: Shape, chip: Chip, store: LocalStore) -> Iterator[Mapping]:
    """All mappings whose blocks fit, each with the most filters that do."""
    buffer_words = chip.scratchpad.capacity_kib * 1024 // store.word_bytes
    for place in placements(shape, chip.array.rows, chip.array.cols):
        for filters, channels in held(shape, store):
            sets = min(place.sets, ceil_div(shape.filters, filters))
            for samples in range(1, shape.samples + 1):
                one = Mapping(shape, place.strip, sets, filters, channels, samples, filters * sets)
                inputs = channels * one.rows_in * shape.cols_in
                room = (buffer_words // samples - inputs) // (place.strip * shape.cols_out)
                block = room // (filters * sets) * filters * sets
                if block > 0:
                    yield Mapping(
                        shape, place.strip, sets, filters, channels, samples, min(block, shape.filters)
                    )


@cache
def choose(shape: Shape, chip: Chip, store: LocalStore) -> Mapping:
    """The mapping of least energy, DRAM's included. Raises `InputError` if none fits."""
    found = min(mappings(shape, chip, store), key=lambda each: moved_aj(each, chip, store), default=None)
    if found is None:
        capacity = chip.scratchpad.capacity_kib
        raise InputError(
            f"row stationary: not even one output row of {shape.cols_out} fits into {capacity} KiB"
        )
    return found


def row_stationary_layers(
    workload: Workload, chip: Chip, layers: tuple[str, ...] = (), zeros: Zeros | None = None
) -> list[RowStationaryLayer]:
    """All convolutions of ``workload`` (or those of ``layers``) on ``chip``, for one mini-batch.

    Raises `InputError` for a layer that is not a convolution, a chip without a local store in its PEs.
    """
    found = {leaf.site.name: leaf for leaf in workload.network.leaves() if isinstance(leaf.layer, Conv2d)}
    for name in layers:
        if name not in found:
            raise unknown("convolution", name, found, f"workload {workload.name}")
    if chip.array.local_store is None:
        raise InputError(f"row stationary: chip '{chip.name}' has no 'array.local_store'")
    wanted = [leaf for name, leaf in found.items() if not layers or name in layers]
    return [_layer(leaf, workload.batch, chip, chip.array.local_store, zeros) for leaf in wanted]


def layer_shape(leaf: Leaf, samples: int) -> Shape:
    """The shape of a convolution."""
    layer = leaf.layer
    assert isinstance(layer, Conv2d)
    rows_in, cols_in, channels = leaf.site.input_shape
    rows, cols, filters = layer.output_shape(leaf.site)
    groups = layer.groups
    return Shape(
        samples, groups, filters // groups, channels // groups, layer.kernel, layer.stride,
        rows_in, cols_in, rows, cols,
    )  # fmt: skip


def _layer(
    leaf: Leaf, samples: int, chip: Chip, store: LocalStore, zeros: Zeros | None
) -> RowStationaryLayer:
    name, shape = leaf.site.name, layer_shape(leaf, samples)
    saved = zeros.share.get(name, 0.0) * zeros.energy_saved if zeros else 0.0
    mapping = choose(shape, chip, store)
    mac_aj = attojoules(chip.array.modes[0].energy_pj_per_mac.value) * shape.macs * (1 - Fraction(saved))
    dram_aj = _dram_aj(mapping, chip, store)
    return RowStationaryLayer(
        name=name,
        mapping=mapping,
        macs=shape.macs,
        stream_cycles=mapping.stream_cycles(),
        cycles=_cycles(mapping, store),
        ideal_cycles=Fraction(shape.macs, chip.array.rows * chip.array.cols),
        dram_bytes=mapping.dram_words() * store.word_bytes,
        on_chip_aj=mac_aj + moved_aj(mapping, chip, store) - dram_aj,
        dram_aj=dram_aj,
    )


def _cycles(mapping: Mapping, store: LocalStore) -> int:
    return mapping.loading_cycles(store) + mapping.stream_cycles() + mapping.waiting_cycles(store)


def _dram_aj(mapping: Mapping, chip: Chip, store: LocalStore) -> int:
    per_byte = 8 * attojoules(chip.dram.read_energy_pj_per_bit.value)
    return mapping.dram_words() * store.word_bytes * per_byte


def moved_aj(mapping: Mapping, chip: Chip, store: LocalStore) -> int:
    """All energy but that of the MACs, which no mapping changes."""
    reads, writes = mapping.buffer_words()
    pad, between = chip.scratchpad, mapping.shape.macs // (mapping.shape.kernel * mapping.channels)
    words = (
        reads * attojoules(pad.read_energy_pj_per_byte.value)
        + writes * attojoules(pad.write_energy_pj_per_byte.value)
        + between * attojoules(chip.operand_buffer.energy_pj_per_byte.value)
    )
    static = static_energy_aj(_cycles(mapping, store), chip)
    return words * store.word_bytes + static + _dram_aj(mapping, chip, store)
