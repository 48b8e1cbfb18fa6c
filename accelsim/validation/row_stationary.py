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
from accelsim.mapping.row_mapping import RowChoice, RowMapping, shape_of
from accelsim.mapping.row_stationary import choose, dram_aj, fixed, moved_aj
from accelsim.operations import Gemm
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
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
    program = compile_program(workload, load_recipe(chip.recipe))
    found = {
        work.layer: work.gemms[0]
        for work in program.works
        if work.phase == "forward" and work.kind == "conv2d" and work.gemms
    }
    for name in layers:
        if name not in found:
            raise unknown("convolution", name, found, f"workload {workload.name}")
    if chip.array.local_store is None:
        raise InputError(f"row stationary: chip '{chip.name}' has no 'array.local_store'")
    wanted = [gemm for name, gemm in found.items() if not layers or name in layers]
    return [_layer(gemm, chip, chip.array.local_store, zeros, rows) for gemm in wanted]


def _layer(
    gemm: Gemm, chip: Chip, store: LocalStore, zeros: Zeros | None, rows: RowChoice | None
) -> RowStationaryLayer:
    name, shape, mode = gemm.layer, shape_of(gemm), chip.array.modes[0]
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
