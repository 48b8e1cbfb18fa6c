"""Convolutions on a row-stationary array by themselves: processing time, traffic and energy without a link.

The published latencies of such chips are of processing: DRAM does not limit them. Mappings and closed forms
are those of `accelsim.mapping.row_mapping`; a chip whose file lists ``row_stationary`` among its dataflows is
estimated by the same, with DRAM's time beside it. A zero input saves a share of a MAC's energy.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from accelsim.chip import Chip, LocalStore
from accelsim.errors import InputError, unknown
from accelsim.mapping.attojoules import attojoules
from accelsim.mapping.row_mapping import ConvolutionShape, RowMapping
from accelsim.mapping.row_stationary import RowChoice, choose, dram_aj, fixed, moved_aj
from accelsim.network import Conv2d, Leaf
from accelsim.validation.schema import Zeros
from accelsim.workload import Workload


@dataclass(frozen=True)
class RowStationaryLayer:
    """What one convolution costs."""

    name: str
    mapping: RowMapping
    macs: int
    stream_cycles: int
    cycles: int
    ideal_cycles: Fraction
    dram_bytes: int
    buffer_bytes: int
    on_chip_aj: Fraction
    dram_aj: int


def row_stationary_layers(
    workload: Workload,
    chip: Chip,
    layers: tuple[str, ...] = (),
    zeros: Zeros | None = None,
    rows: RowChoice | None = None,
) -> list[RowStationaryLayer]:
    """All convolutions of ``workload`` (or those of ``layers``) on ``chip``, for one mini-batch.

    ``rows``: the mapping, in place of the chosen one.
    Raises `InputError` for a layer that is not a convolution, rows that do not fit, a chip without a local
    store in its PEs.
    """
    found = {leaf.site.name: leaf for leaf in workload.network.leaves() if isinstance(leaf.layer, Conv2d)}
    for name in layers:
        if name not in found:
            raise unknown("convolution", name, found, f"workload {workload.name}")
    if chip.array.local_store is None:
        raise InputError(f"row stationary: chip '{chip.name}' has no 'array.local_store'")
    wanted = [leaf for name, leaf in found.items() if not layers or name in layers]
    return [_layer(leaf, workload.batch, chip, chip.array.local_store, zeros, rows) for leaf in wanted]


def layer_shape(leaf: Leaf, samples: int) -> ConvolutionShape:
    """The shape of a convolution."""
    layer = leaf.layer
    assert isinstance(layer, Conv2d)
    rows_in, cols_in, channels = leaf.site.input_shape
    rows, cols, filters = layer.output_shape(leaf.site)
    groups = layer.groups
    return ConvolutionShape(
        samples, groups, filters // groups, channels // groups, layer.kernel, layer.stride,
        rows_in, cols_in, rows, cols,
    )  # fmt: skip


def _layer(
    leaf: Leaf, samples: int, chip: Chip, store: LocalStore, zeros: Zeros | None, rows: RowChoice | None
) -> RowStationaryLayer:
    name, shape, mode = leaf.site.name, layer_shape(leaf, samples), chip.array.modes[0]
    saved = zeros.share.get(name, 0.0) * zeros.energy_saved if zeros else 0.0
    mapping = fixed(shape, chip, store, mode, rows) if rows else choose(shape, chip, store, mode)
    mac_aj = attojoules(mode.energy_pj_per_mac.value) * shape.macs * (1 - Fraction(saved))
    of_dram_aj = dram_aj(mapping, chip)
    return RowStationaryLayer(
        name=name,
        mapping=mapping,
        macs=shape.macs,
        stream_cycles=mapping.stream_cycles(),
        cycles=mapping.cycles(),
        ideal_cycles=Fraction(shape.macs, chip.array.rows * chip.array.cols),
        dram_bytes=mapping.dram_words() * store.word_bytes,
        buffer_bytes=sum(mapping.buffer_words()) * store.word_bytes,
        on_chip_aj=mac_aj + moved_aj(mapping, chip) - of_dram_aj,
        dram_aj=of_dram_aj,
    )
