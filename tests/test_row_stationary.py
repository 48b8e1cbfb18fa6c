"""Row-stationary convolutions against an array on which every primitive is placed by hand."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from accelsim import api
from accelsim.chip import Chip, LocalStore, Mode, load_chip
from accelsim.cli.map import loop_nest, pin_text
from accelsim.errors import InputError
from accelsim.mapping.row_mapping import ConvolutionShape, RowMapping, shape_of
from accelsim.mapping.row_stationary import (
    Placement,
    choose,
    held,
    mappings,
    moved_aj,
    placements,
    sample_blocks,
    shares,
    useful,
)
from accelsim.network import Conv2d, Site
from accelsim.operations import TensorFormats
from accelsim.record import LayerRecord
from accelsim.storage import find_resource
from accelsim.validation.row_stationary import row_stationary_layers
from accelsim.validation.schema import Zeros
from accelsim.workload import load_workload

FORMATS = TensorFormats("int4", "int4", "int4", "int4", "fp16", "fp32")
CONVOLUTIONS = ("conv1", "conv2", "conv3", "conv4", "conv5")


def shape(**changes: int) -> ConvolutionShape:
    """A small convolution: 3 samples, 6 filters of 4 channels, 3 x 3, 5 x 7 outputs."""
    sizes = {
        "samples": 3, "groups": 1, "filters": 6, "channels": 4, "kernel": 3, "taps": 3, "stride": 1,
        "step": 1, "rows_in": 7, "cols_in": 9, "rows_out": 5, "cols_out": 7,
    }  # fmt: skip
    return ConvolutionShape(**(sizes | changes))


def eyeriss(name: str = "eyeriss_rows") -> tuple[Chip, LocalStore, Mode]:
    """A shipped chip, what its PEs hold, and its only mode."""
    chip = load_chip(name)
    assert chip.array.local_store is not None
    return chip, chip.array.local_store, chip.array.modes[0]


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
    chip, store, mode = eyeriss()
    one = shape(groups=2, taps=2, cols_out=8)
    for mapping in mappings(one, chip, store, mode, placements(one, 12, 14)):
        computing = waiting = loaded = passes = 0
        at_once = mapping.channels * mapping.channel_sets
        for _group in range(one.groups):
            for first in range(0, one.samples, mapping.block_samples):
                for row in range(0, one.rows_out, mapping.strip):
                    loaded += one.weights
                    rows = min(mapping.strip, one.rows_out - row)
                    for _sample in range(first, min(first + mapping.block_samples, one.samples)):
                        for _filter in range(0, one.filters, mapping.filters * mapping.sets):
                            for _channel in range(0, one.channels, at_once):
                                busy = mapping.filters * mapping.channels * one.taps * one.cols_out
                                sums = mapping.filters * mapping.sets * rows * one.cols_out
                                computing += busy
                                waiting += max(-(-sums // store.sum_words_per_cycle) - busy, 0)
                                passes += 1
        assert mapping.stream_cycles() == computing
        assert mapping.waiting_cycles() == waiting
        assert mapping.passes * one.groups == passes
        assert mapping.loading_cycles() == pytest.approx(loaded / store.filter_words_per_cycle, abs=2)


def test_a_kernel_that_is_too_high_is_refused() -> None:
    """Its rows could not add up down the array."""
    with pytest.raises(InputError, match="a kernel of 7 rows does not fit 6 rows of PEs"):
        placements(shape(kernel=7), 6, 4)


def test_published_mapping_of_alexnet_is_found() -> None:
    """With its banks the search finds what the designers list for conv1 and conv5 (JSSC 2017, Table III)."""
    workload = load_workload("alexnet_2012").adjusted(batch=4)
    layers = row_stationary_layers(workload, load_chip("eyeriss_banks"), ("conv1", "conv5"))
    found = [
        (m.block_filters, m.block_samples, m.strip, m.filters, m.channels, m.channel_sets, m.sets)
        for m in (layer.mapping for layer in layers)
    ]
    assert found == [(96, 1, 7, 16, 1, 1, 2), (64, 4, 13, 16, 3, 2, 2)]


@pytest.mark.parametrize("name", ["eyeriss_rows", "eyeriss_banks"])
def test_the_mapping_fits_and_none_costs_less(name: str) -> None:
    """Sums and inputs of its block fit into the buffer's banks; every other mapping takes more energy."""
    chip, store, mode = eyeriss(name)
    one = shape(samples=4, filters=64, channels=16, rows_in=15, cols_in=15, rows_out=13, cols_out=13)
    best = choose(one, chip, store, mode)
    words = chip.scratchpad.capacity_kib * 1024 // store.word_bytes
    banks = chip.scratchpad.banks.count if chip.scratchpad.banks else words
    for mapping in mappings(one, chip, store, mode, placements(one, 12, 14)):
        inputs = mapping.channels * mapping.channel_sets * mapping.rows_in * one.cols_read
        sums = mapping.block_filters * mapping.strip * one.cols_out
        held_banks = [math.ceil(mapping.block_samples * each * banks / words) for each in (inputs, sums)]
        assert sum(held_banks) <= banks
        assert mapping.channels * mapping.filters * one.kernel <= store.filter_words
        assert moved_aj(best, chip) <= moved_aj(mapping, chip)


def test_sets_are_shared_out_to_filters_and_channels() -> None:
    """Every share of the sets fits, and each other one has no more of either than one of them."""
    for sets, filters, channels in ((12, 12, 12), (12, 3, 2), (5, 9, 9), (1, 4, 4)):
        found = shares(sets, filters, channels)
        for one in range(1, min(sets, channels) + 1):
            wanted = min(sets // one, filters)
            assert any(mine >= wanted and other >= one and mine * other <= sets for mine, other in found)


def test_channel_sets_spare_rounds_and_buffer_accesses() -> None:
    """Two sets on channels of the same filters: half the rounds, half the sums that wait, the same MACs."""
    one, common = shape(channels=8), {"strip": 5, "sets": 1, "filters": 2, "channels": 2}
    blocks = {"block_samples": 1, "block_filters": 2}
    alone, together = (
        RowMapping(shape=one, store=eyeriss()[1], **common, **blocks, channel_sets=sets) for sets in (1, 2)
    )
    assert (alone.rounds, together.rounds) == (4, 2)
    assert alone.waiting_sums() == 3 * together.waiting_sums() == 3 * one.outputs
    assert alone.stream_cycles() == 2 * together.stream_cycles()
    assert alone.passed_sums() == together.passed_sums()
    assert alone.input_reads() == together.input_reads()


def test_traffic_of_a_mapping_by_hand() -> None:
    """Two strips of 3 rows that share 2, two blocks of filters, three of samples."""
    mapping = RowMapping(
        shape=shape(), store=eyeriss()[1], strip=3, sets=1, filters=2, channels=2, block_samples=1,
        block_filters=3,
    )  # fmt: skip
    inputs = 3 * (2 * 5) * 9 * 4
    outputs = 3 * 5 * 7 * 6
    assert mapping.dram_words() == inputs * 2 + 6 * 4 * 9 * 2 * 3 + outputs
    assert mapping.buffer_words() == (inputs * 3 + outputs, outputs * 2)


def test_a_row_that_does_not_fit_is_refused() -> None:
    """One output row must fit into the global buffer with its inputs."""
    chip, store, mode = eyeriss()
    wide = shape(cols_in=60_000, cols_out=59_998)
    with pytest.raises(InputError, match="not even one output row of 59998 fits into 100 KiB"):
        choose(wide, chip, store, mode)


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


def test_shorter_strips_stand_for_longer_ones() -> None:
    """What `useful` leaves out never costs less: the best of all is among the useful ones."""
    chip, store, mode = eyeriss()
    for one in (shape(rows_out=29, cols_out=29, rows_in=31, cols_in=31, filters=24), shape(rows_out=17)):
        everything = placements(one, 12, 14)
        few = useful(one, everything)
        assert len(few) < len(everything)
        cheapest = [
            min(moved_aj(each, chip) for each in mappings(one, chip, store, mode, places))
            for places in (everything, few)
        ]
        assert cheapest[0] == cheapest[1]


def test_blocks_of_many_samples_are_tried_by_powers_of_two() -> None:
    """Few samples in every number, many in powers of two and all at once."""
    assert sample_blocks(4) == [1, 2, 3, 4]
    assert sample_blocks(40) == [1, 2, 4, 8, 16, 32, 40]


def test_lanes_and_simd_shorten_a_pass() -> None:
    """Two filters and three channels in a cycle take a sixth of the cycles, but rows stay whole."""
    (_, store, _), one = eyeriss(), shape(filters=8, channels=6)
    plain, wide = (
        RowMapping(
            shape=one,
            store=store,
            strip=5,
            sets=1,
            filters=4,
            channels=3,
            block_samples=1,
            block_filters=4,
            lanes=lanes,
            simd=simd,
        )
        for lanes, simd in ((1, 1), (3, 2))
    )
    assert plain.stream_cycles() == 6 * wide.stream_cycles()
    assert plain.dram_words() == wide.dram_words()


def test_a_pe_holds_what_it_says() -> None:
    """Rows of all its filters and channels fit into the local stores."""
    _, store, _ = eyeriss()
    for filters, channels in held(shape(channels=12, filters=64), store):
        assert channels * 3 <= store.input_words
        assert filters * channels * 3 <= store.filter_words
        assert filters <= store.sum_words


def test_spread_taps_take_more_of_the_image_and_no_more_weights() -> None:
    """Rows and columns under a dilated kernel count where inputs are held, its taps where it computes."""
    _, store, _ = eyeriss()
    conv = Conv2d(channels=6, kernel=(3, 2), dilation=(2, 3), padding=0)
    one = shape_of(conv.forward_gemm(Site("conv", (9, 10, 12)), 3, FORMATS))
    assert (one.rows, one.cols, one.rows_out, one.cols_out) == (5, 4, 5, 7)
    mapping = RowMapping(
        shape=one, store=store, strip=4, sets=1, filters=2, channels=2, block_samples=1, block_filters=2
    )
    assert mapping.rows_in == len({output + 2 * tap for output in range(4) for tap in range(3)})
    assert one.cols_read == 10
    assert one.macs == 3 * 5 * 7 * 6 * 12 * 3 * 2
    assert all(channels * 4 <= store.input_words for _, channels in held(one, store))


def estimated(workload: str, batch: int) -> dict[str, LayerRecord]:
    """Layers of an estimate on the shipped chip, by name."""
    return {row.layer: row for row in api.estimate("eyeriss_rows", workload, batch=batch).cost.layers}


def test_an_estimate_takes_the_cycles_of_the_mapping() -> None:
    """`estimate` of AlexNet's convolutions is array-bound at the cycles of the validation's model."""
    alone = row_stationary_layers(load_workload("alexnet_2012").adjusted(batch=4), load_chip("eyeriss_rows"))
    rows = estimated("alexnet_2012", 4)
    for layer in alone:
        row = rows[layer.name]
        assert row.array_cycles == layer.cycles
        assert row.bound == "array"
        assert row.gemms[0].dataflow == "row_stationary"
        moved = row.dram_read_bytes + row.dram_write_bytes
        assert moved == pytest.approx(layer.dram_bytes, rel=1e-6)


def test_energy_of_an_estimate_adds_up_from_its_mapping() -> None:
    """MACs, sums between PEs, and the scratchpad's words, each at the chip file's price."""
    chip, store, mode = eyeriss()
    (layer,) = row_stationary_layers(load_workload("alexnet_2012").adjusted(batch=4), chip, ("conv2",))
    row = estimated("alexnet_2012", 4)["conv2"]
    mapping = layer.mapping
    assert row.energy_aj.mac == layer.macs * round(mode.energy_pj_per_mac.value * 1e6)
    between = mapping.passed_sums() * store.word_bytes
    assert row.energy_aj.operand_buffer == between * round(chip.operand_buffer.energy_pj_per_byte.value * 1e6)
    reads, writes = mapping.buffer_words()
    words = reads + writes + mapping.weight_reads()
    through = row.dram_read_bytes + row.dram_write_bytes
    assert row.scratchpad_bytes == words * store.word_bytes + through


def test_linear_layers_are_convolutions_of_one_tap() -> None:
    """They wait for their weights, which cross from DRAM once for samples that share a block."""
    row = estimated("alexnet_2012", 4)["fc2"]
    assert row.bound == "dram"
    assert row.dram_read_bytes == pytest.approx(2 * 4096 * 4096, rel=0.01)


def test_backward_products_are_refused() -> None:
    """The dataflow is followed forward only, and the message says what helps."""
    with pytest.raises(
        InputError, match=r"\(update\): row_stationary runs forward products alone; add another"
    ):
        api.estimate("eyeriss_rows", "alexnet_2012", batch=4, phases="training")


def with_array(old: str, new: str, tmp_path: Path) -> Path:
    """The shipped chip's file with one change."""
    text = find_resource("arch_configs", "eyeriss_rows").read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "rows.yaml"
    path.write_text(text.replace(old, new, 1), encoding="utf-8")
    return path


def test_another_dataflow_does_what_rows_cannot(tmp_path: Path) -> None:
    """With a second dataflow a chip trains: its forward convolutions by rows, all else by the other one."""
    path = with_array("[row_stationary]", "[row_stationary, output_stationary]", tmp_path)
    mapped = api.map_gemms(path, "alexnet_2012", batch=2)
    flows = {(each.kind, each.gemm.phase): each.plan.dataflow for each in mapped}
    assert flows["conv2d", "forward"] == "row_stationary"
    assert {flow for key, flow in flows.items() if key != ("conv2d", "forward")} == {"output_stationary"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("cores: 1", "cores: 2", r"'row_stationary' runs on one array, but cores x corelets are 2"),
        ("[row_stationary]", "[row_stationary, row_stationary]", "'row_stationary' is listed twice"),
    ],
)
def test_chips_that_cannot_keep_rows(old: str, new: str, message: str, tmp_path: Path) -> None:
    """The file and the key are named when the chip is read."""
    with pytest.raises(InputError, match=message):
        load_chip(with_array(old, new, tmp_path))


def test_rows_need_local_stores(tmp_path: Path) -> None:
    """Without what a PE holds there is nothing to count."""
    text = find_resource("arch_configs", "tpu_v1").read_text(encoding="utf-8")
    path = tmp_path / "tpu.yaml"
    path.write_text(text.replace("[weight_stationary]", "[row_stationary]"), encoding="utf-8")
    with pytest.raises(InputError, match=r"'row_stationary' needs 'array\.local_store'"):
        load_chip(path)


def test_values_need_sums_that_no_order_changes(tmp_path: Path) -> None:
    """An exact accumulator gives the same bits in any order; any other is refused, not approximated."""
    codes = [[256, 512], [768, 1024]]
    exact = api.matmul("eyeriss_rows", codes, codes, "fixed16_8_8", "fixed16_8_8")
    assert exact.values.tolist() == api.matmul("eyeriss", codes, codes, *["fixed16_8_8"] * 2).values.tolist()
    rounding = with_array("accumulator: exact", "accumulator: fp32", tmp_path)
    rounding.write_text(rounding.read_text().replace("overflow: saturate", "overflow: format"))
    with pytest.raises(
        InputError, match="an order that is not computed bit by bit with a 'fp32' accumulator"
    ):
        api.matmul(rounding, codes, codes, "fixed16_8_8", "fixed16_8_8")


def test_the_map_shows_what_slides(tmp_path: Path) -> None:
    """The loop nest speaks of strips, sets and passes; a pin names the dataflow and nothing more."""
    (conv,) = api.map_gemms("eyeriss_rows", "alexnet_2012", "conv3", batch=4)
    text = " ".join(loop for loop, _ in loop_nest(conv))
    assert "for strip of 13 output rows in 1" in text
    assert "at once 3 x 13 PEs x 2 x 2" in text
    path = tmp_path / "pins.yaml"
    path.write_text(pin_text([conv]), encoding="utf-8")
    (again,) = api.map_gemms("eyeriss_rows", "alexnet_2012", "conv3", batch=4, mapping=path)
    assert again.plan == conv.plan
    path.write_text(pin_text([conv]) + "    splits: {n: 1}\n", encoding="utf-8")
    with pytest.raises(InputError, match="splits: row_stationary runs on one array"):
        api.map_gemms("eyeriss_rows", "alexnet_2012", "conv3", batch=4, mapping=path)


GOOD = {"strip": 13, "sets": 4, "filters": 16, "channels": 4, "block_samples": 4, "block_filters": 64}


def pinned_rows(path: Path, layer: str = "conv3", **changes: int) -> Path:
    """A mapping file that fixes the rows of a convolution of AlexNet."""
    rows = ", ".join(f"{key}: {value}" for key, value in (GOOD | changes).items())
    path.write_text(
        f"mappings:\n  - layer: {layer}\n    phase: forward\n    rows: {{{rows}}}\n", encoding="utf-8"
    )
    return path


def test_rows_can_be_pinned(tmp_path: Path) -> None:
    """A pinned mapping is taken as it is, also where it costs more than the chosen one."""
    path = pinned_rows(tmp_path / "rows.yaml", channels=2)
    (pinned,) = api.map_gemms("eyeriss_rows", "alexnet_2012", "conv3", batch=4, mapping=path)
    (free,) = api.map_gemms("eyeriss_rows", "alexnet_2012", "conv3", batch=4)
    assert pinned.plan.by_rows is not None
    assert pinned.plan.by_rows.channels == 2
    assert pinned.cost.energy.total_aj > free.cost.energy.total_aj


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"sets": 5}, "rows: 4 sets of 13 output rows fit, not 5"),
        ({"channel_sets": 2}, "rows: 4 sets of 13 output rows fit, not 8"),
        ({"channels": 5}, "rows: 16 filters x 5 channels do not fit a PE's local store"),
        ({"filters": 32, "channels": 1}, "rows: a PE holds 24 sums, not 32"),
        ({"block_filters": 96}, "rows: its block needs 68,496 words of the 51,200 of the scratchpad"),
    ],
)
def test_rows_that_do_not_fit_are_refused(changes: dict[str, int], message: str, tmp_path: Path) -> None:
    """The file, the key and what is too much are named."""
    path = pinned_rows(tmp_path / "rows.yaml", **changes)
    with pytest.raises(InputError, match=message):
        api.map_gemms("eyeriss_rows", "alexnet_2012", "conv3", batch=4, mapping=path)


def test_only_row_stationary_chips_take_rows(tmp_path: Path) -> None:
    """On another chip, and for what does not run row by row, a pin of rows is a mistake."""
    path = pinned_rows(tmp_path / "rows.yaml")
    with pytest.raises(InputError, match="rows: chip 'eyeriss' has no row_stationary"):
        api.map_gemms("eyeriss", "alexnet_2012", "conv3", phase="forward", batch=4, mapping=path)
    both = with_array("[row_stationary]", "[row_stationary, output_stationary]", tmp_path)
    fc = pinned_rows(tmp_path / "fc.yaml", layer="fc1")
    with pytest.raises(InputError, match="rows: 'fc1' forward does not run row by row"):
        api.map_gemms(both, "alexnet_2012", "fc1", phase="forward", batch=4, mapping=fc)
