"""ONNX models as workloads: branches put back together, published sizes kept, mistakes with their node."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_models as models
import onnx_networks as networks
import pytest
from onnx_models import Builder, onnx

from accelsim import api
from accelsim.errors import InputError
from accelsim.importing import OnnxChoice, import_file
from accelsim.program import model_size
from accelsim.workload import Workload, load_workload

LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
"""Models that the onnx package carries for its own tests: whole networks without their weights."""


def network_lines(path: Path, **sizes: int) -> list[str]:
    """The lines under ``network:`` of the imported workload, without the nodes' names."""
    text = import_file(path, onnx=OnnxChoice(sizes)).text
    lines = text.split("network:\n")[1].splitlines()
    return [re.sub(r",? ?name: \w+", "", line).replace("{, ", "{").strip() for line in lines]


def test_residuals_and_branches_are_found(tmp_path: Path) -> None:
    """A projection, an identity, three branches of different lengths, and a flat end after the pool."""
    assert network_lines(models.residual_cnn(tmp_path / "net.onnx")) == [
        "- conv2d: {channels: 8, kernel: 7, stride: 2, bias: true}",
        "- relu",
        "- max_pool: {size: 3, stride: 2, padding: 1}",
        "- residual:",
        "body:",
        "- conv2d: {channels: 16, kernel: 3, stride: 2, bias: true}",
        "- relu",
        "- conv2d: {channels: 16, kernel: 3, bias: true}",
        "shortcut:",
        "- conv2d: {channels: 16, kernel: 1, stride: 2, bias: true}",
        "- relu",
        "- residual:",
        "body:",
        "- conv2d: {channels: 16, kernel: 3, bias: true}",
        "- relu",
        "- concat:",
        "branches:",
        "- - conv2d: {channels: 4, kernel: 1, bias: true}",
        "- - conv2d: {channels: 16, kernel: 3, groups: 16, bias: true}",
        "- relu6",
        "- conv2d: {channels: 8, kernel: 1, bias: true}",
        "- []",
        "- average_pool",
        "- linear: {features: 10, bias: true}",
    ]


def test_dense_concatenations_nest(tmp_path: Path) -> None:
    """A list of all earlier results becomes one identity branch beside the new one, layer by layer."""
    path = models.dense_cnn(tmp_path / "dense.onnx")
    assert network_lines(path).count("- []") == 2
    (tmp_path / "dense.yaml").write_text(import_file(path).text, encoding="utf-8")
    leaves = {leaf.site.name: leaf for leaf in load_workload(tmp_path / "dense.yaml").network.leaves()}
    assert leaves["concat2"].output_shape == (16, 16, 16)


def test_an_encoder_layer_is_recognised(tmp_path: Path) -> None:
    """Layer norms, GELU and attention written out in fifty nodes; an open length given by name."""
    assert network_lines(models.encoder(tmp_path / "bert.onnx"), sequence=8) == [
        "- embedding: {tokens: 50, features: 16}",
        "- positions: {kind: learned}",
        "- layer_norm: {epsilon: 0.000000000001}",
        "- residual:",
        "body:",
        "- concat:",
        "branches:",
        "- - linear: {features: 16, bias: true}",
        "- - linear: {features: 16, bias: true}",
        "- - linear: {features: 16, bias: true}",
        "- attention: {heads: 2}",
        "- linear: {features: 16, bias: true}",
        "- layer_norm: {epsilon: 0.000000000001}",
        "- residual:",
        "body:",
        "- linear: {features: 64, bias: true}",
        "- gelu",
        "- linear: {features: 16, bias: true}",
        "- layer_norm: {epsilon: 0.000000000001}",
        "- linear: {features: 50, bias: true}",
    ]


def test_segments_and_masks_are_no_data(tmp_path: Path) -> None:
    """Token ids are the input; segments are one constant vector, a mask is left out, and notes say so."""
    path = models.masked_encoder(tmp_path / "bert.onnx")
    lines = network_lines(path)
    assert lines[:3] == ["- embedding: {tokens: 50, features: 16}", "- residual:", "body:"]
    assert lines[-1] == "- attention: {heads: 2}"
    notes = " ".join(import_file(path).notes)
    assert "taken as constant: token_type_ids" in notes
    assert "its mask depends on an input and is left out" in notes


def test_a_decoder_layer_is_recognised(tmp_path: Path) -> None:
    """One projection split in three, a causal mask, a shared table at the end."""
    path = models.decoder(tmp_path / "gpt.onnx")
    assert network_lines(path) == [
        "- embedding: {tokens: 50, features: 16}",
        "- positions: {kind: learned}",
        "- residual:",
        "body:",
        "- layer_norm",
        "- linear: {features: 48, bias: true}",
        "- attention: {heads: 4, causal: true}",
        "- linear: {features: 16, bias: true}",
        "- residual:",
        "body:",
        "- linear: {features: 64, bias: true}",
        "- gelu",
        "- linear: {features: 16, bias: true}",
        "- unembedding: {of: Gather_0}",
    ]
    assert "data: {shape: [8], tokens: 50, targets: [8], classes: 50, samples: 32}" in import_file(path).text


@pytest.mark.parametrize(
    ("build", "parameters"),
    [
        (
            models.encoder,
            50 * 16 + 8 * 16 + 3 * 2 * 16 + 4 * 272 + 16 * 64 + 64 + 64 * 16 + 16 + 16 * 50 + 50,
        ),
        (models.decoder, 50 * 16 + 8 * 16 + 2 * 16 + 48 * 17 + 16 * 17 + 16 * 64 + 64 + 64 * 16 + 16),
        (models.recurrent, 2 * 28 * (5 + 7 + 1) + 14 * 3 + 3),
        (models.last_state, 28 * (5 + 7 + 1) + 7 * 3 + 3),
        (models.masked_encoder, 50 * 16 + 3 * 272),
    ],
)
def test_sequence_models_load_with_their_parameters(
    tmp_path: Path, build: Callable[[Path], Path], parameters: int
) -> None:
    """What is written is a workload that builds, each weight of the export once (one bias to a gate)."""
    path = tmp_path / "model.yaml"
    choice = OnnxChoice({"sequence": 8} if build is models.encoder else {})
    path.write_text(import_file(build(tmp_path / "m.onnx"), onnx=choice).text, encoding="utf-8")
    assert model_size(load_workload(path)).parameters == parameters


@pytest.mark.skipif(not LIGHT.is_dir(), reason="this onnx package carries no models of its own")
@pytest.mark.parametrize(
    ("name", "parameters", "macs"),
    [
        # parameters: torchvision's table of weights, which also gives 19.63, 4.09, 2.83 and 0.35 GMACs
        ("vgg19", 143_667_240, 19.63e9),
        ("resnet50", 25_557_032, 4.09e9),
        ("densenet121", 7_978_856, 2.83e9),
        ("squeezenet", 1_235_496, 0.35e9),
    ],
)
def test_whole_models_keep_their_published_size(
    tmp_path: Path, name: str, parameters: int, macs: float
) -> None:
    """Networks of another exporter have the published number of parameters, to the last one."""
    imported = import_file(LIGHT / f"light_{name}.onnx")
    path = tmp_path / "model.yaml"
    path.write_text(imported.text, encoding="utf-8")
    size = model_size(load_workload(path))
    assert size.parameters == parameters
    assert size.macs == pytest.approx(macs, rel=0.005)


def test_an_lstm_with_the_batch_first_is_recognised(tmp_path: Path) -> None:
    """The turns of axes around it say nothing about a sample, and its two directions stand side by side."""
    assert network_lines(models.recurrent(tmp_path / "lstm.onnx")) == [
        "- lstm: {features: 7, bidirectional: true}",
        "- linear: {features: 3, bias: true}",
    ]


def test_the_last_state_of_an_lstm_is_its_last_output(tmp_path: Path) -> None:
    """A forward LSTM's state after the last step is what it gives there; of two directions it is not."""
    assert network_lines(models.last_state(tmp_path / "lstm.onnx")) == [
        "- lstm: {features: 7}",
        "- take_last",
        "- linear: {features: 3, bias: true}",
    ]
    path = models.last_state(tmp_path / "both.onnx", "bidirectional")
    with pytest.raises(InputError, match="its last states are used; only its outputs, or the last of a fo"):
        import_file(path)


@pytest.mark.parametrize(
    ("direction", "turn", "message"),
    [
        ("reverse", True, "direction reverse: only forward or bidirectional"),
        ("forward", False, "its input has the batch second; export the model with the batch first"),
    ],
)
def test_an_lstm_that_no_layer_is(tmp_path: Path, direction: str, turn: bool, message: str) -> None:
    """An LSTM that runs backwards, or whose input begins with time."""
    b = Builder()
    x = b.node("Transpose", "x", perm=[1, 0, 2]) if turn else "x"
    y = b.node("LSTM", x, b.zeros(1, 20, 9), b.zeros(1, 20, 5), hidden_size=5, direction=direction)
    with pytest.raises(InputError, match=message):
        import_file(b.write(tmp_path / "x.onnx", (1, 4, 9), y))


def small_image(b: Builder) -> tuple[int, ...]:
    """The input shape that the mistakes below start from."""
    return (1, 4, 9, 9)


Build = Callable[[Builder], str]
MISTAKES: dict[str, tuple[Build, str]] = {
    "operator": (lambda b: b.node("LRN", "x", size=3), "'/LRN_0' (LRN): no layer does this operator"),
    "dilated pool": (
        lambda b: b.node("MaxPool", "x", kernel_shape=[2, 2], dilations=[2, 2]), "dilations [2, 2]: no po",
    ),
    "wide pool": (lambda b: b.node("MaxPool", "x", kernel_shape=[1, 16], pads=[0, 4, 0, 4]), "a window of ["),
    "pool of zeros": (
        lambda b: b.node("MaxPool", "x", kernel_shape=[3, 3], pads=[0, 0, 2, 0]), "pads [0, 0, 2, 0]: mor",
    ),
    "cut off": (lambda b: b.conv("x", 4, 2, 3, pads=[1, -1, 1, 1]), "pads [1, -1, 1, 1]: cuts off what"),
    "one pixel": (
        lambda b: b.conv(b.node("GlobalAveragePool", "x"), 4, 2, 3), "a kernel over the one pixel that a",
    ),
    "cubic": (
        lambda b: b.node("Resize", "x", "", b.constant([1, 1, 2, 2]), mode="cubic"), "mode cubic of sha",
    ),
    "steep": (lambda b: b.node("HardSigmoid", "x"), "slope 0.2 and middle 0.5: only 1/6 and 1/2"),
    "softmax": (lambda b: b.node("Relu", b.node("Softmax", "x", axis=1)), "a softmax inside the network, o"),
    "rows cut": (
        lambda b: b.node("Slice", "x", b.constant([1], np.int64), b.constant([3], np.int64),
                         b.constant([2], np.int64)), "positions 1 to 2 of axis 2: no layer cuts",
    ),
    "columns": (
        lambda b: b.node("Mul", b.node("MaxPool", "x", kernel_shape=[9, 1]), "x"), "multiplies (1, 4, 1,",
    ),
    "dynamic": (lambda b: b.node("Conv", "x", "x"), "its weight is computed from the data"),
    "mean": (lambda b: b.node("ReduceMean", "x", axes=[1]), "a mean over axes [1] of 4: only over an image"),
    "reshape": (
        lambda b: b.node("Reshape", "x", b.constant([1, 2, 18, 9], np.int64)), "no layer turns (1, 4, 9, 9)",
    ),
    "rows": (lambda b: b.conv(b.node("Flatten", "x"), 4, 2, 3), "only images (n, c, h, w) or seq"),
    "transposed": (
        lambda b: b.node("Gemm", b.node("Flatten", "x"), b.zeros(1, 5), transA=1), "only data x constant wei",
    ),
    "product": (lambda b: b.node("MatMul", "x", b.zeros(4, 9, 9)), "a product of two activations outside an"),
    "table": (lambda b: b.node("Add", "x", b.zeros(4, 9, 9)), "adding a constant of shape (4, 9, 9): no lay"),
    "square": (lambda b: b.node("Mul", "x", "x"), "a value and itself: no layer does it"),
    "shapes": (
        lambda b: b.node("Gemm", b.node("Flatten", "x"), b.zeros(7, 2)), "node '/Gemm_1' (Gemm): the shape o",
    ),
    "heads": (
        lambda b: b.node("MatMul", b.node("Softmax", b.node("MatMul", "x", "x"), axis=-1), "x"),
        "cannot see where its heads are joined",
    ),
    "gate": (lambda b: b.node("Max", b.node("Relu", "x"), "x"), "branches meet here; only Add, Mul and"),
    "itself": (lambda b: b.node("Mul", "x", b.node("Identity", "x")), "multiplies a value by itself: no"),
    "mask": (lambda b: b.node("Mul", "x", b.zeros(4, 9, 9)), "a constant of shape (4, 9, 9): no layer does"),
    "gather": (lambda b: b.node("Gather", "x", b.constant([0], np.int64)), "only rows of a constant table,"),
    "clip": (lambda b: b.node("Clip", "x", b.constant(-1.0), b.constant(1.0)), "a clip from -1.0 to 1.0: on"),
    "norm": (
        lambda b: b.node("LayerNormalization", "x", b.zeros(9, 9), axis=2), "normalises more than the last a",
    ),
    "axis": (
        lambda b: b.node("Concat", b.node("Relu", "x"), "x", axis=2), "joins along another axis than the cha",
    ),
    "constant": (lambda b: b.node("Concat", "x", b.zeros(1, 1, 9, 9), axis=1), "joins the data with a const"),
    "double": (lambda b: b.node("Add", "x", b.node("Identity", "x")), "adds a value to itself: no layer doe"),
    "turned": (lambda b: b.node("Transpose", "x", perm=[0, 1, 3, 2]), "axes in the order [0, 1, 3, 2]: no l"),
}  # fmt: skip


@pytest.mark.parametrize("name", list(MISTAKES))
def test_what_no_layer_does_names_its_node(tmp_path: Path, name: str) -> None:
    """Operators and attributes without a layer are told with the node, not skipped."""
    build, message = MISTAKES[name]
    b = Builder()
    path = b.write(tmp_path / "x.onnx", small_image(b), build(b))
    with pytest.raises(InputError, match=re.escape(message)):
        import_file(path)


PUBLISHED = [
    # torchvision's table of weights: parameters, and its "GFLOPS", which are multiply-accumulates
    (networks.efficientnet_b0, 5_288_548, 0.39),
    (networks.mobilenet_v3_large, 5_483_032, 0.22),
    (networks.regnet_y_400mf, 4_344_144, 0.40),
    (networks.shufflenet_v2, 2_278_604, 0.14),
    (networks.squeezenet1_1, 1_235_496, 0.35),
    (networks.convnext_tiny, 28_589_128, 4.46),
    (networks.vit_b_16, 86_567_656, 17.56),
]


def loaded(tmp_path: Path, build: Callable[[Path], Path]) -> tuple[Workload, list[str]]:
    """The imported workload and its lines."""
    imported, path = import_file(build(tmp_path / "net.onnx")), tmp_path / "net.yaml"
    path.write_text(imported.text, encoding="utf-8")
    lines = imported.text.split("network:\n")[1].splitlines()
    return load_workload(path), [
        re.sub(r",? ?name: \w+", "", line).replace("{, ", "{").strip() for line in lines
    ]


@pytest.mark.parametrize(
    ("build", "parameters", "giga_macs"), PUBLISHED, ids=lambda v: getattr(v, "__name__", "")
)
def test_exports_have_the_published_sizes(
    tmp_path: Path, build: Callable[[Path], Path], parameters: int, giga_macs: float
) -> None:
    """Whole networks node by node: every parameter once, and as many products as published."""
    size = model_size(loaded(tmp_path, build)[0])
    assert size.parameters == parameters
    assert round(size.macs / 1e9, 2) == giga_macs


@pytest.mark.parametrize(
    "build",
    [networks.deeplab_head, networks.inception_parts, networks.same_padding, networks.t5_encoder,
     networks.llama_layer, networks.shufflenet_v2, networks.whisper_encoder],
    ids=lambda build: build.__name__,
)  # fmt: skip
def test_what_is_imported_is_estimated(tmp_path: Path, build: Callable[[Path], Path]) -> None:
    """Every layer of the export has work, a plan and a price."""
    workload, _ = loaded(tmp_path, build)
    record = api.estimate("fp4_training", tmp_path / "net.yaml", batch=2)
    layers = {row.layer for row in record.cost.layers}
    assert {leaf.site.name for leaf in workload.network.leaves() if leaf.layer.has_gemm} <= layers
    assert record.cost.step_cycles > 0


def test_segmentation_gives_labels_to_pixels(tmp_path: Path) -> None:
    """Spread taps, a mean made as large again, and as many labels as pixels."""
    workload, lines = loaded(tmp_path, networks.deeplab_head)
    assert workload.output_shape == (64, 64, 21)
    assert [line for line in lines if "dilation" in line] == [
        f"- - conv2d: {{channels: 16, kernel: 3, dilation: {rate}}}" for rate in (2, 4, 6)
    ]
    assert lines.count("- resize: {height: 8, width: 8}") == 1
    assert lines[-1] == "- resize: {height: 64, width: 64}"


def test_uneven_padding_is_that_of_each_side(tmp_path: Path) -> None:
    """SAME of an even extent pads below and to the right, SAME_LOWER above; a `Pad` joins its convolution."""
    _, lines = loaded(tmp_path, networks.same_padding)
    assert lines[:3] == [
        "- conv2d: {channels: 8, kernel: 3, stride: 2, padding: [0, 0, 1, 1]}",
        "- conv2d: {channels: 8, kernel: 5, stride: 2, padding: [1, 1, 2, 2], groups: 8}",
        "- max_pool: {size: 3, stride: 2, padding: [1, 1, 0, 0]}",
    ]


def test_oblong_kernels_and_averages_of_padding(tmp_path: Path) -> None:
    """One row of seven taps, one column of them; zeros counted in one mean and not in the other."""
    _, lines = loaded(tmp_path, networks.inception_parts)
    assert [line for line in lines if "take_channels" in line] == [
        "- - take_channels: {count: 1}",
        "- - take_channels: {first: 1, count: 1}",
        "- - take_channels: {first: 2, count: 1}",
    ]
    assert "- - conv2d: {channels: 8, kernel: [1, 7]}" in lines
    assert "- conv2d: {channels: 8, kernel: [7, 1]}" in lines
    assert [line for line in lines if "padding" in line] == [
        "- - average_pool: {size: 3, stride: 1, padding: 1, count_padding: true}",
        "- - average_pool: {size: 3, stride: 1, padding: 1}",
    ]


def test_gates_shuffles_and_scales_are_found(tmp_path: Path) -> None:
    """A gate beside its body or alone, channels cut in two and turned around, one number a channel."""
    _, lines = loaded(tmp_path, networks.efficientnet_b0)
    at = lines.index("gate:")
    assert lines[at - 1 : at + 6] == [
        "- gated:", "gate:", "- average_pool", "- linear: {features: 8, bias: true}", "- swish",
        "- linear: {features: 32, bias: true}", "- sigmoid",
    ]  # fmt: skip
    _, lines = loaded(tmp_path, networks.shufflenet_v2)
    assert lines.count("- shuffle_channels: {groups: 2}") == 16
    assert "- - take_channels: {count: 58}" in lines
    assert "- - take_channels: {first: 58, count: 58}" in lines
    _, lines = loaded(tmp_path, networks.convnext_tiny)
    assert lines.count("- scale") == 18
    _, lines = loaded(tmp_path, networks.llama_layer)
    assert lines[lines.index("- gated:") :][:6] == [
        "- gated:", "body:", "- linear: {features: 48}", "gate:", "- linear: {features: 48}", "- swish",
    ]  # fmt: skip


def test_transformers_of_images_and_sound(tmp_path: Path) -> None:
    """Patches and a class token; time down an image of one column; heads that stand in the batch."""
    workload, lines = loaded(tmp_path, lambda path: networks.vit_b_16(path, 1))
    assert lines[:4] == [
        "- conv2d: {channels: 768, kernel: 16, stride: 16, padding: 0, bias: true}", "- as_positions",
        "- class_token", "- positions: {kind: learned}",
    ]  # fmt: skip
    assert "- attention: {heads: 12}" in lines
    assert lines[-2:] == ["- take_first", "- linear: {features: 1000, bias: true}"]
    workload, lines = loaded(tmp_path, lambda path: networks.whisper_encoder(path, 1))
    assert workload.input_shape == (3000, 1, 80)
    assert lines[2] == "- conv2d: {channels: 384, kernel: [3, 1], stride: [2, 1], bias: true}"
    assert lines[4:6] == ["- as_positions", "- positions: {kind: learned}"]
    assert "- attention: {heads: 6}" in lines


def test_what_language_models_leave_out_is_said(tmp_path: Path) -> None:
    """A table of relative positions, and rotations of queries and keys."""
    notes = import_file(networks.t5_encoder(tmp_path / "t5.onnx")).notes
    assert [note.split(": ")[1] for note in notes] == ["a table added to its scores is left out"]
    notes = import_file(networks.llama_layer(tmp_path / "llama.onnx")).notes
    assert {note.split(": ")[1] for note in notes} == {"the rotation of its positions is left out"}
    _, lines = loaded(tmp_path, networks.llama_layer)
    assert "- attention: {heads: 4, causal: true}" in lines
    assert lines.count("- rms_norm") == 2


def test_what_a_file_leaves_open_is_asked_for(tmp_path: Path) -> None:
    """Open sizes, unknown outputs and several inputs are told with what to give."""
    path = models.encoder(tmp_path / "bert.onnx")
    message = "input 'x': the size of axis 'sequence' is open; give it with --size sequence=N"
    with pytest.raises(InputError, match=re.escape(message)):
        import_file(path)
    with pytest.raises(
        InputError, match=re.escape("--size: unknown open axis 'sequenz' (did you mean 'sequence'?)")
    ):
        import_file(path, onnx=OnnxChoice({"sequence": 8, "sequenz": 9}))
    with pytest.raises(InputError, match=re.escape("unknown output 'logits'; allowed: v61")):
        import_file(path, onnx=OnnxChoice({"sequence": 8}, "logits"))
    b = Builder()
    path = b.write(tmp_path / "none.onnx", (1, 4), b.node("Relu", b.zeros(1, 4)))
    with pytest.raises(InputError, match=re.escape("output 'v0' must depend on one input, got: none")):
        import_file(path)


def test_no_onnx_file_and_no_onnx_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of another kind, and a computer without the package, are told in one line."""
    path = tmp_path / "x.onnx"
    path.write_text("not a model", encoding="utf-8")
    with pytest.raises(InputError, match="not an ONNX model that can be read: "):
        import_file(path)
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(InputError, match=re.escape("needs the onnx package: pip install 'accelsim[onnx]'")):
        import_file(path)
