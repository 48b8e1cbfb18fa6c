"""Convolutions on an array that keeps rows still (row stationary), in closed form: cycles, traffic, energy.

The dataflow of Eyeriss (Chen et al., ISCA 2016, section V; JSSC 2017, section IV). A PE slides one kernel
row over one input row: ``kernel`` x ``cols_out`` MACs. A *set* of ``kernel`` x ``strip`` PEs does ``strip``
output rows of one filter and channel; kernel rows lie down the array, output rows across it, and a strip
longer than the array is wide lies in segments one above the other. As many sets as fit work side by side on
other filters and channels. So one sample takes

    ceil(filters channels_per_group / sets) strips kernel cols_out

cycles, strips being ceil(rows_out / strip). Filters do not overlap with computing, since a PE holds them
once: each weight enters over a bus of ``filter_words_per_cycle`` once per strip and per block of samples.

A block is the samples and filters that are worked on together, the latter in multiples of what a PE holds.
Inputs cross DRAM once per block of filters, weights once per strip and block of samples, outputs once; the
sums and inputs of a block must fit into the global buffer. The block moves the fewest words, the strip costs
the least energy with DRAM's, which is what the chip was made for. Nothing is compressed.

Words accessed: per MAC four in the PE (input, weight, sum out and back), which the mode's energy per MAC
includes; per kernel row of MACs one sum between PEs (operand buffer energy); in the global buffer inputs
once per filters held in the array, sums out and back once per channels held. A zero input saves a share of
a MAC's energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

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
    """One group of a convolution: filters x channels, kernel rows and columns, output rows and columns."""

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
    def macs(self) -> int:
        """Products of all groups and samples."""
        return self.samples * self.groups * self.weights * self.rows_out * self.cols_out


@dataclass(frozen=True)
class Placement:
    """``sets`` sets of ``strip`` output rows each on the array at once."""

    strip: int
    sets: int

    def strips(self, shape: Shape) -> int:
        """How many strips the output rows make."""
        return ceil_div(shape.rows_out, self.strip)

    def stream_cycles(self, shape: Shape) -> int:
        """Cycles in which the PEs compute, all groups and samples."""
        primitives = ceil_div(shape.filters * shape.channels, self.sets) * self.strips(shape)
        return shape.samples * shape.groups * primitives * shape.kernel * shape.cols_out


@dataclass(frozen=True)
class Block:
    """Samples and filters worked on together, and the words that cross DRAM for it (one group)."""

    samples: int
    filters: int
    dram_words: int


@dataclass(frozen=True)
class RowStationaryLayer:
    """What one convolution costs."""

    name: str
    macs: int
    stream_cycles: int
    filter_cycles: int
    ideal_cycles: Fraction
    dram_bytes: int
    on_chip_aj: Fraction
    dram_aj: int

    @property
    def cycles(self) -> int:
        """Computing and loading of filters, one after the other."""
        return self.stream_cycles + self.filter_cycles


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


def choose_block(shape: Shape, strip: int, store: LocalStore, buffer_words: int) -> Block:
    """The block of least DRAM traffic that fits; the smallest there is if none does."""
    held = min(filters_held(shape, store), shape.filters)
    input_rows = (strip - 1) * shape.stride + shape.kernel
    strips = ceil_div(shape.rows_out, strip)
    blocks = []
    for samples in range(1, shape.samples + 1):
        inputs = samples * input_rows * shape.cols_in * channels_held(shape, store)
        room = (buffer_words - inputs) // (samples * strip * shape.cols_out)
        filters = min(max(room // held, 1) * held, shape.filters)
        if room >= filters or samples == 1:
            blocks.append(Block(samples, filters, _dram_words(shape, samples, filters, strips)))
    return min(blocks, key=lambda block: block.dram_words)


def _dram_words(shape: Shape, samples: int, filters: int, strips: int) -> int:
    inputs = shape.samples * shape.rows_in * shape.cols_in * shape.channels
    outputs = shape.samples * shape.rows_out * shape.cols_out * shape.filters
    sample_blocks = ceil_div(shape.samples, samples)
    return inputs * ceil_div(shape.filters, filters) + shape.weights * sample_blocks * strips + outputs


def channels_held(shape: Shape, store: LocalStore) -> int:
    """Channels that a PE works on in turn: kernel rows of inputs that its store holds."""
    return max(min(store.input_words // shape.kernel, shape.channels), 1)


def filters_held(shape: Shape, store: LocalStore) -> int:
    """Filters that a PE works on in turn: it holds their rows and one sum of each; a power of two."""
    most = min(store.filter_words // (shape.kernel * channels_held(shape, store)), store.sum_words)
    return 1 << max(most, 1).bit_length() - 1


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
    """The shape of a convolution, one group."""
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
    """The layer in the placement of least energy, DRAM included; of equals the one of fewer strips."""
    shape = layer_shape(leaf, samples)
    saved = zeros.share.get(leaf.site.name, 0.0) * zeros.energy_saved if zeros else 0.0
    found = [
        _placed(leaf.site.name, shape, placement, chip, store, saved)
        for placement in reversed(placements(shape, chip.array.rows, chip.array.cols))
    ]
    return min(found, key=lambda layer: layer.on_chip_aj + layer.dram_aj)


def _placed(
    name: str, shape: Shape, placement: Placement, chip: Chip, store: LocalStore, saved: float
) -> RowStationaryLayer:
    block = choose_block(
        shape, placement.strip, store, chip.scratchpad.capacity_kib * 1024 // store.word_bytes
    )
    loads = ceil_div(shape.samples, block.samples) * placement.strips(shape) * shape.groups
    stream = placement.stream_cycles(shape)
    filter_cycles = ceil_div(shape.weights * loads, store.filter_words_per_cycle)
    dram_bytes = shape.groups * block.dram_words * store.word_bytes
    dynamic = _dynamic_aj(shape, placement, chip, store, saved)
    return RowStationaryLayer(
        name=name,
        macs=shape.macs,
        stream_cycles=stream,
        filter_cycles=filter_cycles,
        ideal_cycles=Fraction(shape.macs, chip.array.rows * chip.array.cols),
        dram_bytes=dram_bytes,
        on_chip_aj=dynamic + static_energy_aj(stream + filter_cycles, chip),
        dram_aj=8 * dram_bytes * attojoules(chip.dram.read_energy_pj_per_bit.value),
    )


def _dynamic_aj(shape: Shape, placement: Placement, chip: Chip, store: LocalStore, saved: float) -> Fraction:
    """Energy of MACs with their local words, of sums between PEs, and of the global buffer."""
    (mode, *_) = chip.array.modes
    mac = attojoules(mode.energy_pj_per_mac.value) * shape.macs * (1 - Fraction(saved))
    between = Fraction(shape.macs, shape.kernel * channels_held(shape, store)) * store.word_bytes
    network = between * attojoules(chip.operand_buffer.energy_pj_per_byte.value)
    inputs = shape.samples * shape.rows_in * shape.cols_in * shape.channels
    reads = inputs * ceil_div(shape.filters, filters_held(shape, store) * placement.sets)
    outputs = shape.samples * shape.rows_out * shape.cols_out * shape.filters
    rounds = ceil_div(shape.channels, channels_held(shape, store))
    pad = chip.scratchpad
    words = (reads + outputs * (rounds - 1)) * attojoules(pad.read_energy_pj_per_byte.value)
    words += outputs * rounds * attojoules(pad.write_energy_pj_per_byte.value)
    return mac + network + shape.groups * words * store.word_bytes
