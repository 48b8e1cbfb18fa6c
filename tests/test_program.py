"""Programs: the work of a training step against numbers worked out by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_workload import TEXT, written

from accelsim.operations import PHASES, LayerWork, Tensor
from accelsim.program import Program, compile_program
from accelsim.recipe import load_recipe
from accelsim.storage import shipped
from accelsim.workload import Workload, load_workload

HEAD = TEXT.split("blocks:")[0]


def program_of(workload: str | Path, recipe: str = "ibm2020_fp4", batch: int | None = None) -> Program:
    """The program of a workload under a recipe."""
    return compile_program(load_workload(workload), load_recipe(recipe), batch)


def network(tmp_path: Path, *layers: str, head: str = HEAD) -> Path:
    """A workload on 8 x 8 x 1 images with 10 classes."""
    return written(tmp_path, f"{head}network: [{', '.join(layers)}]\n")


def macs(program: Program) -> list[int]:
    """Multiply-accumulates of forward, backward and update phase."""
    return [sum(work.macs for work in program.works if work.phase == phase) for phase in PHASES]


def work_of(program: Program, layer: str, phase: str) -> LayerWork:
    """The one work of a layer in a phase."""
    (work,) = [work for work in program.works if (work.layer, work.phase) == (layer, phase)]
    return work


# 28 x 28 -> 14 x 14 x 16; a block of two 3 x 3; blocks with 1 x 1 shortcuts to 7 x 7 x 32 and 4 x 4 x 64
CNN = {
    "stem": 14 * 14 * 9 * 16,
    "basic": 2 * 14 * 14 * 9 * 16 * 16,
    "widen 32": 7 * 7 * (9 * 16 * 32 + 9 * 32 * 32 + 16 * 32),
    "widen 64": 4 * 4 * (9 * 32 * 64 + 9 * 64 * 64 + 32 * 64),
    "classifier": 64 * 10,
}
# dL/dx of the last strided 3 x 3: along an axis of 7, 3 positions meet two taps and 4 meet one, so
# 10 x 10 (input, tap) pairs where the forward pass has 4 x 4 x 9 = 12 x 12; the stem has none.
CNN_BACKWARD = sum(CNN.values()) - CNN["stem"] - (12 * 12 - 10 * 10) * 32 * 64
SEPARABLE = [(14, 16, 32), (7, 32, 64), (7, 64, 64), (7, 64, 64), (7, 64, 64)]


@pytest.mark.parametrize(
    ("name", "forward", "backward"),
    [
        ("letters_mlp", 16 * 128 + 2 * 128 * 128 + 128 * 26, 2 * 128 * 128 + 128 * 26),
        ("fashion_cnn", sum(CNN.values()), CNN_BACKWARD),
    ],
)
def test_macs_of_shipped_workloads(name: str, forward: int, backward: int) -> None:
    """Per image and phase: dL/dW spends what the forward pass does, dL/dx all but the first layer's."""
    assert macs(program_of(name, batch=8)) == [8 * forward, 8 * backward, 8 * forward]


def test_macs_of_the_depthwise_workload() -> None:
    """About a million MACs per image, of which depthwise layers do a tenth."""
    forward, backward, update = macs(program_of("fashion_depthwise", batch=1))
    pointwise = sum(extent * extent * inputs * channels for extent, inputs, channels in SEPARABLE)
    # the one strided depthwise layer sees 14 x 14 inputs, an even extent: dL/dx spends what forward does
    taps = 14 * 14 * 9 * 16 + 7 * 7 * 9 * (32 + 3 * 64)
    assert forward == update == 14 * 14 * 9 * 16 + pointwise + taps + 64 * 10
    assert backward == forward - 14 * 14 * 9 * 16
    assert 0.9e6 < forward < 1.1e6


@pytest.mark.parametrize("name", ["resnet18_imagenet", "fashion_depthwise", "alexnet_2012"])
def test_windows_account_for_the_products_of_convolutions(name: str) -> None:
    """A forward A has positions times samples rows, taps times channels columns, over the layer's images."""
    workload = load_workload(name)
    program = compile_program(workload, load_recipe("fp16_dlfloat"), batch=3)
    shapes = {leaf.site.name: leaf.site.input_shape for leaf in workload.network.leaves()}
    seen = [gemm for gemm in program.gemms if gemm.sliding is not None]
    assert {gemm.phase for gemm in seen} == {"forward", "backward", "update"}
    for gemm in seen:
        if gemm.sliding is None or gemm.phase != "forward":
            continue
        down, across = gemm.sliding.down, gemm.sliding.across
        assert gemm.m == 3 * down.positions * across.positions
        assert gemm.groups * gemm.k == down.taps * across.taps * shapes[gemm.layer][2]
        assert (down.extent, across.extent) == shapes[gemm.layer][:2]


def test_memory_of_a_tiny_network(tmp_path: Path) -> None:
    """Every byte that a step holds in DRAM, summed by hand."""
    path = network(
        tmp_path,
        "conv2d: {channels: 4, kernel: 3}",
        "batch_norm",
        "relu",
        "conv2d: {channels: 8, kernel: 3, stride: 2, bias: true}",
        "max_pool: {size: 2}",
        "flatten",
        "linear: {features: 10}",
    )
    memory = program_of(path, batch=10).memory
    # weights 9*4, gamma and beta, 9*4*8 and a bias, 2*2*8*10; running mean and variance are not trained
    trained = 36 + 8 + 288 + 8 + 320
    # codes of the weights: first and last layer in 16 bits, the other in 4
    codes = 36 * 2 + 288 // 2 + 320 * 2
    assert memory.parameter_bytes == (trained + 8) * 4 + codes
    assert memory.optimizer_bytes == trained * 4
    # per image: input 64 in 16 bits; 256 kept by batch_norm in 16; a mask of 256 bits; 256 codes of 4 bits
    # and the mask of their clip; 32 places of 4 bits; 32 inputs of the last layer in 16 bits
    saved = 64 * 2 + 256 * 2 + 256 // 8 + 256 // 2 + 256 // 8 + 32 // 2 + 32 * 2
    assert memory.saved_activation_bytes == 10 * saved
    assert memory.input_bytes == 10 * 64 * 2
    assert memory.peak_bytes == (
        memory.parameter_bytes + memory.optimizer_bytes + memory.saved_activation_bytes + memory.input_bytes
    )


def test_adam_holds_two_states(tmp_path: Path) -> None:
    """Its moments take twice the momentum's bytes, and its update more operations."""
    layers = ("flatten", "linear: {features: 10}")
    sgd = program_of(network(tmp_path, *layers))
    adam = program_of(network(tmp_path, *layers, head=HEAD.replace("kind: sgd", "kind: adam")))
    assert adam.memory.optimizer_bytes == 2 * sgd.memory.optimizer_bytes == 2 * 640 * 4
    states = [t.name for t in work_of(adam, "linear1", "update").writes]
    assert states == [
        "linear1.master", "linear1.optimizer state 1", "linear1.optimizer state 2", "linear1.weight codes",
    ]  # fmt: skip


@pytest.mark.parametrize("name", shipped("workloads"))
def test_each_trained_layer_is_updated_once(name: str) -> None:
    """One optimiser step over all trained parameters of each layer, in its update phase, and nowhere else."""
    workload = load_workload(name)
    program = program_of(name)
    steps = [
        (work.layer, each.elements, work.phase)
        for work in program.works
        for each in work.vector_work
        if each.function == "optimizer"
    ]
    expected = {
        leaf.site.name: sum(p.elements for p in leaf.layer.parameters(leaf.site).values() if p.trained)
        for leaf in workload.network.leaves()
    }
    assert sorted(steps) == sorted((layer, count, "update") for layer, count in expected.items() if count)


@pytest.mark.parametrize("name", shipped("workloads"))
def test_works_stand_in_the_order_of_a_step(name: str) -> None:
    """Forward in the network's order, the loss, then backward and update from the last layer to the first."""
    workload: Workload = load_workload(name)
    order = [leaf.site.name for leaf in workload.network.leaves()]
    program = program_of(name)
    forward = [work.layer for work in program.works if work.phase == "forward"]
    assert forward == [*(layer for layer in order if layer in forward), "loss"]
    backward = [work.layer for work in program.works if work.phase != "forward"]
    assert backward == sorted(backward, key=lambda layer: -order.index(layer))
    assert [work.phase == "forward" for work in program.works] == [True] * len(forward) + [False] * len(
        backward
    )
    places = [(work.layer, work.phase) for work in program.works]
    assert len(places) == len(set(places))


def from_input(program: Program) -> set[str]:
    """Names of all tensors that are read as the mini-batch itself."""
    read: list[Tensor] = [tensor for work in program.works for tensor in work.reads]
    read += [operand for gemm in program.gemms for operand in (gemm.a, gemm.b)]
    return {tensor.name for tensor in read if tensor.residence == "input"}


@pytest.mark.parametrize(
    ("layers", "expected"),
    [
        (["conv2d: {channels: 2, kernel: 3}"], {"conv2d1.input codes"}),
        # converted to 4 bits on its way: the array then reads the codes, not the input again
        (["conv2d: {channels: 2, kernel: 3, precision: low}"], {"conv2d1.input"}),
        (["batch_norm", "conv2d: {channels: 2, kernel: 3}"], {"batch_norm1.x"}),
        (["relu", "max_pool: {size: 2}"], {"max_pool1.x"}),
        (["flatten", "linear: {features: 8}", "relu"], {"linear1.input codes"}),
        (["residual: {body: [conv2d: {channels: 1, kernel: 3}]}"], {"conv2d1.input codes", "add1.shortcut"}),
        (
            ["residual: {body: [batch_norm], shortcut: [conv2d: {channels: 1, kernel: 1}]}"],
            {"batch_norm1.x", "conv2d1.input codes"},
        ),
        (["residual: {body: [relu], shortcut: [batch_norm]}"], {"add1.body", "batch_norm1.x"}),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_stands_first_reads_the_mini_batch(
    tmp_path: Path, layers: list[str], expected: set[str]
) -> None:
    """The mini-batch comes from DRAM to whatever is given it; all later layers stream."""
    tail = ["linear: {features: 10}"] if layers[0] == "flatten" else ["flatten", "linear: {features: 10}"]
    path = network(tmp_path, *layers, *tail)
    assert from_input(program_of(path)) == expected


@pytest.mark.parametrize("name", shipped("workloads"))
def test_saved_4_bit_activations_are_a_quarter_of_the_16_bit_ones(name: str) -> None:
    """The input codes that a quantised layer keeps for dL/dW take 4 bits an element instead of 16."""
    narrow, wide = program_of(name), program_of(name, "fp16_dlfloat")
    kept = [
        {t.name: t for work in program.works for t in work.writes if t.name.endswith("codes")}
        for program in (narrow, wide)
    ]
    pairs = [(one, kept[1][name]) for name, one in kept[0].items() if one.residence == "saved"]
    quantised = [(one, other) for one, other in pairs if one.bits == 4]
    assert len(quantised) >= 2
    for one, other in quantised:
        assert (other.bits, other.elements) == (16, one.elements)
    assert narrow.memory.saved_activation_bytes < wide.memory.saved_activation_bytes


def test_16_bit_layers_convert_nothing() -> None:
    """Under the 16-bit recipe the array reads tensors as they are stored: no operand is converted."""
    program = program_of("fashion_cnn", "fp16_dlfloat")
    functions = {each.function for work in program.works for each in work.vector_work}
    assert not functions & {
        "activation_codes",
        "gradient_codes",
        "gradient_scale",
        "output_scale",
        "weight_codes",
    }


@pytest.mark.parametrize("workload", ["fashion_cnn", "austen_gpt", "austen_lstm"])
def test_only_what_a_recipe_narrows_is_converted(workload: str) -> None:
    """INT2 in the forward pass alone: weights and activations become codes, gradients stay as they are."""
    program = program_of(workload, "choi2019_int2")
    functions = {each.function for work in program.works for each in work.vector_work}
    assert {"activation_codes", "weight_codes", "output_scale"} <= functions
    assert not functions & {"gradient_codes", "gradient_scale"}
    written = {tensor.name for work in program.works for tensor in work.writes}
    assert not {name for name in written if name.endswith((" codes (dx)", " codes (dW)"))}


def test_batch_scales_work_and_not_parameters() -> None:
    """Twice the samples are twice the MACs and activations, with the same weights."""
    once, twice = program_of("fashion_cnn", batch=8), program_of("fashion_cnn", batch=16)
    assert macs(twice) == [2 * count for count in macs(once)]
    assert twice.memory.saved_activation_bytes == 2 * once.memory.saved_activation_bytes
    assert twice.memory.parameter_bytes == once.memory.parameter_bytes
    assert program_of("fashion_cnn").gemms == program_of("fashion_cnn", batch=50).gemms
