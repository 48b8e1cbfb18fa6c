"""YAML file to `Chip`: the schema first, then what no single key can say."""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from types import MappingProxyType

from accelsim.chip.schema import Chip
from accelsim.errors import InputError
from accelsim.numerics.accumulation import adder_faults
from accelsim.numerics.block_formats import stored_bits
from accelsim.storage import find_resource
from accelsim.yamlfile import (
    Change,
    KeyPath,
    YamlDocument,
    changed,
    key_text,
    one_line,
    parse,
    position_of,
    read_yaml,
    with_files_beside,
)

_AS_IT_IS: Mapping[str, Change] = MappingProxyType({})


def load_chip(name_or_path: str | Path, changes: Mapping[str, Change] = _AS_IT_IS) -> Chip:
    """Read a chip by the name of a shipped one or by the path of a YAML file.

    ``changes``: other values by key (``array.accumulator: fp16``), as if the file and its text said so.

    Raises `InputError` with file, line, column, key, the value given and what is allowed, for the
    first mistake in the file. A `Chip` that comes back is complete and needs no further check.
    """
    document = changed(read_yaml(find_resource("arch_configs", name_or_path)), changes)
    try:
        return chip_of(document)
    except InputError as error:
        if not changes:
            raise
        said = ", ".join(f"{key}={one_line(value)}" for key, value in changes.items())
        raise InputError(f"{error.message} (the file with {said})", error.where) from None


def chip_of(document: YamlDocument) -> Chip:
    """The chip of a file that has been read. Raises `InputError` as `load_chip` does."""
    document = with_files_beside(document)
    chip = parse(Chip, document)
    _check_name(chip, document)
    _check_dataflows(chip, document)
    _check_adder(chip, document)
    _check_modes(chip, document)
    _check_output_chunk(chip, document)
    _check_activity(chip, document)
    _check_voltage(chip, document)
    _check_scratchpad(chip, document)
    return chip.read_from(document)


def _mistake(document: YamlDocument, path: KeyPath, message: str) -> InputError:
    return InputError(f"{key_text(path)}: {message}", position_of(document, path))


def _check_name(chip: Chip, document: YamlDocument) -> None:
    if not re.fullmatch(r"[a-z0-9_]+", chip.name):
        raise _mistake(document, ("name",), f"must be made of a-z, 0-9 and _, got {chip.name!r}")


def _check_dataflows(chip: Chip, document: YamlDocument) -> None:
    dataflows = chip.array.dataflows
    for index, dataflow in enumerate(dataflows):
        if dataflow in dataflows[:index]:
            raise _mistake(document, ("array", "dataflows", index), f"'{dataflow}' is listed twice")
    array = chip.array
    if array.convolution != "im2col" and array.window_bytes is None:
        message = (
            f"'{array.convolution}' needs 'array.window_bytes', what the window buffer of an array holds"
        )
        raise _mistake(document, ("array", "convolution"), message)
    if array.window_area_mm2 is not None and array.window_bytes is None:
        message = "there is no window buffer: give 'array.window_bytes', or leave this out"
        raise _mistake(document, ("array", "window_area_mm2"), message)
    if "row_stationary" not in dataflows:
        return
    place: KeyPath = ("array", "dataflows", dataflows.index("row_stationary"))
    if chip.array.local_store is None:
        raise _mistake(document, place, "'row_stationary' needs 'array.local_store', what a PE holds")
    if chip.workers > 1:
        message = f"'row_stationary' runs on one array, but cores x corelets are {chip.workers}"
        raise _mistake(document, place, message)


def _check_adder(chip: Chip, document: YamlDocument) -> None:
    array, readout = chip.array, chip.vector_unit.storage_format
    adder = array.accumulator, array.overflow, array.rounding, array.alignment_bits, readout
    for key, message in adder_faults(*adder):
        raise _mistake(document, ("array", key), message)


def _check_modes(chip: Chip, document: YamlDocument) -> None:
    names: set[str] = set()
    owners: dict[frozenset[str], str] = {}
    for number, mode in enumerate(chip.array.modes):
        place: KeyPath = ("array", "modes", number)
        if mode.name in names:
            raise _mistake(document, (*place, "name"), f"another mode is named '{mode.name}' already")
        names.add(mode.name)
        for index, pair in enumerate(mode.operands):
            _check_formats(document, (*place, "operands", index), pair)
            owner = owners.setdefault(frozenset(pair), mode.name)
            if owner != mode.name or pair in mode.operands[:index] or pair[::-1] in mode.operands[:index]:
                message = f"mode '{owner}' multiplies {pair[0]} x {pair[1]} already"
                raise _mistake(document, (*place, "operands", index), message)


def _check_formats(document: YamlDocument, place: KeyPath, pair: tuple[str, str]) -> None:
    for index, name in enumerate(pair):
        try:
            stored_bits(name)
        except InputError as error:
            raise _mistake(document, (*place, index), str(error)) from None


def _check_output_chunk(chip: Chip, document: YamlDocument) -> None:
    chunk = chip.array.output_chunk
    for mode in chip.array.modes:
        if chunk is not None and chunk % mode.lanes:
            message = f"must be a multiple of the {mode.lanes} lanes of mode '{mode.name}', got {chunk}"
            raise _mistake(document, ("array", "output_chunk"), message)


def _check_activity(chip: Chip, document: YamlDocument) -> None:
    """Zero fractions rise from 0, and each has its energy."""
    model = chip.array.activity
    if model is None:
        return
    place: KeyPath = ("array", "activity")
    zeros = model.zero_fractions
    if zeros[0] != 0 or any(left >= right for left, right in pairwise(zeros)):
        message = f"must start at 0 and rise, got {', '.join(f'{zero:g}' for zero in zeros)}"
        raise _mistake(document, (*place, "zero_fractions"), message)
    if len(model.energy_ratios) != len(zeros):
        message = f"must be as many as the {len(zeros)} zero_fractions, got {len(model.energy_ratios)}"
        raise _mistake(document, (*place, "energy_ratios"), message)
    if model.toggle_share and model.energy_pj_per_toggle:
        message = "'toggle_share' prices toggles already; give one of the two"
        raise _mistake(document, (*place, "energy_pj_per_toggle"), message)


def _check_voltage(chip: Chip, document: YamlDocument) -> None:
    point = chip.operating_point
    if point is not None and point.threshold_v.value >= point.voltage_v.value:
        message = f"must be below the voltage of {point.voltage_v.value:g}, got {point.threshold_v.value:g}"
        raise _mistake(document, ("operating_point", "threshold_v"), message)


def _check_scratchpad(chip: Chip, document: YamlDocument) -> None:
    """The smallest stationary tile, 16 bits a value, twice (double-buffered), for every corelet."""
    lanes = max(mode.lanes for mode in chip.array.modes)
    needed_bytes = 2 * 2 * chip.corelets * chip.array.rows * lanes * chip.array.output_cols
    if needed_bytes > chip.scratchpad.capacity_kib * 1024:
        message = (
            f"must be at least {-(-needed_bytes // 1024)} to hold two 16-bit tiles of "
            f"{chip.array.rows * lanes} x {chip.array.output_cols} for each of {chip.corelets} corelets, "
            f"got {chip.scratchpad.capacity_kib}"
        )
        raise _mistake(document, ("scratchpad", "capacity_kib"), message)
