"""Row-stationary convolutions against an array on which every primitive is placed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from accelsim.chip import load_chip
from accelsim.errors import InputError
from accelsim.validation.row_stationary import (
    Mapping,
    Placement,
    Shape,
    choose,
    mappings,
    moved_aj,
    placements,
    row_stationary_layers,
)
from accelsim.validation.schema import Zeros
from accelsim.workload import load_workload

CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")


def shape(**changes: int) -> Shape:
    """A small convolution: 3 samples, 6 filters of 4 channels, 3 x 3, 5 x 7 outputs."""
    sizes = {
        "samples": 3, "groups": 1, "filters": 6, "channels": 4, "kernel": 3, "stride": 1, "rows_in": 7,
        "cols_in": 9, "rows_out": 5, "cols_out": 7,
    }  # fmt: skip
    return Shape(**(sizes | changes))


def busy_cells(placement: Placement, kernel: int, rows: int, cols: int) -> list[tuple[int, int]]:
    """PEs that the sets of a placement take, laid out one by one; two on one PE show up twice."""
    segments = math.ceil(placement.strip / cols)
    side_by_side = cols // placement.strip if segments == 1 else 1
    cells = []
    for number in range(placement.sets):
        top = number // side_by_side * kernel * segments
        left = number % side_by_side * placement.strip if segments == 1 else 0
        for output_row in range(placement.strip):
            for kernel_row in range(kernel):
                cells.append((top + output_row // cols * kernel + kernel_row, left + output_row % cols))
    return cells


@pytest.mark.parametrize("kernel", [1, 2, 3, 5])
def test_sets_fit_on_the_array_without_sharing_a_pe(kernel: int) -> None:
    """Every placement, laid out PE by PE, stays on the array, and no further set would fit below."""
    rows, cols = 6, 4
    for placement in placements(shape(kernel=kernel, rows_out=11), rows, cols):
        cells = busy_cells(placement, kernel, rows, cols)
        assert len(set(cells)) == len(cells) == kernel * placement.strip * placement.sets
        assert all(0 <= row < rows and 0 <= col < cols for row, col in cells)
        more = busy_cells(Placement(placement.strip, placement.sets + 1), kernel, rows, cols)
        assert any(row >= rows for row, _ in more)


def test_cycles_equal_passes_written_out() -> None:
    """Every mapping of a small layer, pass by pass: computing, waiting for sums, loading filters."""
    chip = load_chip("eyeriss")
    store = chip.array.local_store
    assert store is not None
    one = shape(groups=2)
    for mapping in mappings(one, chip, store):
        computing = waiting = loaded = passes = 0
        for _group in range(one.groups):
            for first in range(0, one.samples, mapping.block_samples):
                for _strip in range(0, one.rows_out, mapping.strip):
                    loaded += one.weights
                    for _sample in range(first, min(first + mapping.block_samples, one.samples)):
                        for _filter in range(0, one.filters, mapping.filters * mapping.sets):
                            for _channel in range(0, one.channels, mapping.channels):
                                busy = mapping.filters * mapping.channels * one.kernel * one.cols_out
                                sums = mapping.filters * mapping.sets * mapping.strip * one.cols_out
                                computing += busy
                                waiting += max(-(-sums // store.sum_words_per_cycle) - busy, 0)
                                passes += 1
        assert mapping.stream_cycles() == computing
        assert mapping.waiting_cycles(store) == waiting
        assert mapping.passes * one.groups == passes
        assert mapping.loading_cycles(store) == pytest.approx(loaded / store.filter_words_per_cycle, abs=2)


def test_a_kernel_that_is_too_high_is_refused() -> None:
    """Its rows could not add up down the array."""
    with pytest.raises(InputError, match="a kernel of 7 rows does not fit 6 rows of PEs"):
        placements(shape(kernel=7), 6, 4)


def test_published_mapping_of_alexnet_is_found() -> None:
    """The search finds what the chip's designers list for conv1 to conv3 (JSSC 2017, Table III)."""
    layers = row_stationary_layers(load_workload("alexnet_2012").adjusted(batch=4), load_chip("eyeriss"))
    found = [
        (m.block_filters, m.block_samples, m.strip, m.filters, m.channels, m.sets)
        for m in (layer.mapping for layer in layers[:3])
    ]
    assert found == [(96, 1, 7, 16, 1, 2), (64, 1, 27, 16, 2, 1), (64, 4, 13, 16, 4, 4)]


def test_the_mapping_fits_and_none_costs_less() -> None:
    """Sums and inputs of its block fit into the buffer; every other mapping takes at least the energy."""
    chip = load_chip("eyeriss")
    store = chip.array.local_store
    assert store is not None
    one = shape(samples=4, filters=64, channels=16, rows_in=15, cols_in=15, rows_out=13, cols_out=13)
    best = choose(one, chip, store)
    buffer_words = chip.scratchpad.capacity_kib * 1024 // store.word_bytes
    for mapping in mappings(one, chip, store):
        inputs = mapping.channels * mapping.rows_in * one.cols_in
        sums = mapping.block_filters * mapping.strip * one.cols_out
        assert mapping.block_samples * (inputs + sums) <= buffer_words
        assert mapping.channels * mapping.filters * one.kernel <= store.filter_words
        assert moved_aj(best, chip, store) <= moved_aj(mapping, chip, store)


def test_traffic_of_a_mapping_by_hand() -> None:
    """Two strips of 3 rows that share 2, two blocks of filters, three of samples."""
    mapping = Mapping(shape(), strip=3, sets=1, filters=2, channels=2, block_samples=1, block_filters=3)
    inputs = 3 * (2 * 5) * 9 * 4
    outputs = 3 * 5 * 7 * 6
    assert mapping.dram_words() == inputs * 2 + 6 * 4 * 9 * 2 * 3 + outputs
    assert mapping.buffer_words() == (inputs * 3 + outputs, outputs * 2)


def test_a_row_that_does_not_fit_is_refused() -> None:
    """One output row must fit into the global buffer with its inputs."""
    chip = load_chip("eyeriss")
    store = chip.array.local_store
    assert store is not None
    wide = shape(cols_in=60_000, cols_out=59_998)
    with pytest.raises(InputError, match="not even one output row of 59998 fits into 97 KiB"):
        choose(wide, chip, store)


def test_macs_and_latency_of_a_whole_network() -> None:
    """All five layers: AlexNet's 666 million products a sample, never faster than all 168 PEs allow."""
    layers = row_stationary_layers(load_workload("alexnet_2012").adjusted(batch=4), load_chip("eyeriss"))
    assert tuple(layer.name for layer in layers) == CONVOLUTIONS
    assert round(sum(layer.macs for layer in layers) / 4e6) == 666
    for layer in layers:
        assert layer.ideal_cycles <= layer.stream_cycles < layer.cycles


def test_zeros_save_energy_and_no_time() -> None:
    """A layer whose inputs are half zeros takes as long and costs less, by the MACs' share alone."""
    workload, chip = load_workload("alexnet_2012").adjusted(batch=4), load_chip("eyeriss")
    zeros = Zeros(share={"conv2": 0.5}, energy_saved=0.8, source="a test")
    (plain,) = row_stationary_layers(workload, chip, ("conv2",))
    (gated,) = row_stationary_layers(workload, chip, ("conv2",), zeros)
    assert gated.cycles == plain.cycles
    saved_aj = plain.on_chip_aj - gated.on_chip_aj
    mac_aj = round(chip.array.modes[0].energy_pj_per_mac.value * 1e6) * plain.macs
    assert float(saved_aj) == pytest.approx(0.4 * mac_aj)


def test_a_chip_without_local_stores_is_refused(tmp_path: Path) -> None:
    """A model needs what it counts; a layer that is no convolution is not silently left out."""
    workload = load_workload("alexnet_2012")
    with pytest.raises(InputError, match=r"row stationary: chip 'rapid_core' has no 'array.local_store'"):
        row_stationary_layers(workload, load_chip("rapid_core"))
    with pytest.raises(InputError, match=r"unknown convolution 'fc1'.*allowed: conv1, conv2"):
        row_stationary_layers(workload, load_chip("eyeriss"), ("fc1",))
