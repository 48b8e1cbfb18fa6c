"""Row-stationary convolutions against an array on which every primitive is placed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from accelsim.chip import load_chip
from accelsim.errors import InputError
from accelsim.validation.row_stationary import (
    Placement,
    Shape,
    channels_held,
    choose_block,
    filters_held,
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


def test_stream_cycles_equal_a_schedule_written_out() -> None:
    """Primitives dealt out to sets in turn, strip by strip: the longest queue is the closed form."""
    one = shape()
    for placement in placements(one, 6, 4):
        strips = math.ceil(one.rows_out / placement.strip)
        cycles = 0
        for _ in range(one.samples):
            pairs = [(f, c) for f in range(one.filters) for c in range(one.channels)]
            while pairs:
                pairs = pairs[placement.sets :]
                cycles += strips * one.kernel * one.cols_out
        assert placement.stream_cycles(one) == cycles


def test_a_kernel_that_is_too_high_is_refused() -> None:
    """Its rows could not add up down the array."""
    with pytest.raises(InputError, match="a kernel of 7 rows does not fit 6 rows of PEs"):
        placements(shape(kernel=7), 6, 4)


def test_published_mapping_of_alexnet_is_found() -> None:
    """Filters and channels a PE holds are those that the chip's designers list: 16 and 1, 2, 4, 4, 4."""
    store = load_chip("eyeriss").array.local_store
    assert store is not None
    kernels = {11: 1, 5: 2, 3: 4}
    for kernel, channels in kernels.items():
        one = shape(kernel=kernel, filters=64, channels=48)
        assert (filters_held(one, store), channels_held(one, store)) == (16, channels)


def test_a_block_fits_and_no_other_moves_less() -> None:
    """The block's sums and inputs fit into the buffer, and the walk over samples finds none cheaper."""
    store = load_chip("eyeriss").array.local_store
    assert store is not None
    one = shape(samples=4, filters=64, channels=16, rows_in=15, cols_in=15, rows_out=13, cols_out=13)
    buffer_words = 12_000
    block = choose_block(one, 13, store, buffer_words)
    inputs = block.samples * 15 * 15 * channels_held(one, store)
    assert inputs + block.samples * block.filters * 13 * 13 <= buffer_words
    assert block.dram_words <= choose_block(one, 13, store, buffer_words // 2).dram_words


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
