"""Weights that stay in a chip's scratchpads between forward passes."""

from __future__ import annotations

from dataclasses import replace

from accelsim import api
from accelsim.chip import Chip, load_chip
from accelsim.cost.resident_weights import parameter_bytes, with_resident_weights
from accelsim.operations import Gemm, LayerWork, Tensor
from accelsim.record import RunRecord


def keeping(name: str) -> Chip:
    """A shipped chip whose weights stay."""
    chip = load_chip(name)
    return chip.model_copy(update={"scratchpad": chip.scratchpad.model_copy(update={"weights": "resident"})})


def dram_reads(record: RunRecord) -> dict[str, int]:
    """DRAM bytes read by layer."""
    return {row.layer: row.dram_read_bytes for row in record.cost.layers}


def test_only_the_samples_are_read_where_all_weights_fit() -> None:
    """Of a network that fits, no layer but the first reads DRAM, and that one its samples alone."""
    records = [
        api.estimate(chip, "letters_mlp", batch=8, phases="forward") for chip in ("tpu_v1", keeping("tpu_v1"))
    ]
    streamed, resident = map(dram_reads, records)
    first = next(iter(resident))
    in_dram = [record.cost.memory.parameter_bytes for record in records]
    assert in_dram[0] - in_dram[1] == sum(streamed.values()) - sum(resident.values())
    assert min(value for layer, value in streamed.items() if layer.startswith("linear")) > 0
    assert resident[first] == 8 * 16  # letters have 16 features, each a byte
    assert {value for layer, value in resident.items() if layer != first} == {0}


def test_a_network_that_does_not_fit_is_read_as_ever() -> None:
    """VGG16 has 138 MB of weights, so 24 MiB keep none of them."""
    plain, kept = (
        dram_reads(api.estimate(chip, "vgg16_imagenet", batch=1, phases="forward"))
        for chip in ("tpu_v1", keeping("tpu_v1"))
    )
    assert plain == kept


def test_training_reads_its_weights() -> None:
    """A step that changes weights costs the same with and without the key."""
    chips = ("edge_fp4", keeping("edge_fp4"))
    plain, kept = (dram_reads(api.estimate(chip, "letters_mlp", batch=8)) for chip in chips)
    assert plain == kept


def work(weights: int, handed_on: int) -> LayerWork:
    """A layer with so many bytes of weights, which reads and writes so many of other tensors."""
    a, out = Tensor("x", handed_on, 8, "stream"), Tensor("y", handed_on, 8, "stream")
    b = Tensor("w", weights, 8, "parameter")
    return LayerWork("fc", "linear", "forward", (Gemm("fc", "forward", 1, 1, 1, "int8", "int8", a, b, out),))


def test_weights_stay_up_to_the_last_byte_beside_the_streams() -> None:
    """They fit beside what is handed on and not with one byte more; a weight read twice counts once."""
    chip = keeping("tpu_v1")
    room = chip.scratchpad.capacity_kib * 1024 - 1000
    for size, wanted in ((room, "kept"), (room + 1, "parameter")):
        one = work(size, 1000)
        twice = replace(one, gemms=one.gemms * 2)
        assert parameter_bytes([twice, one]) == size
        found = with_resident_weights([twice, one], chip)
        assert {gemm.b.residence for each in found for gemm in each.gemms} == {wanted}
        assert {gemm.a.residence for each in found for gemm in each.gemms} == {"stream"}
