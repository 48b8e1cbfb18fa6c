"""ONNX models as workloads: branches put back together, published sizes kept, mistakes with their node."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx_models as models
import pytest
from onnx_models import Builder, onnx

from accelsim.errors import InputError
from accelsim.importing import OnnxChoice, import_file
from accelsim.program import model_size
from accelsim.workload import load_workload

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
    "oblong": (
        lambda b: b.node("Conv", "x", b.zeros(2, 4, 3, 1)), "(Conv): kernel 3 x 1: only square ones",
    ),
    "strides": (
        lambda b: b.conv("x", 4, 2, 3, strides=[1, 2]), "strides [1, 2]: a layer has one for both axes",
    ),
    "dilated": (lambda b: b.conv("x", 4, 2, 3, dilations=[2, 2]), "dilations above 1: no layer spreads"),
    "auto": (
        lambda b: b.node("Conv", "x", b.zeros(2, 4, 2, 2), auto_pad="SAME_UPPER"), "auto_pad SAME_UPPER pads",
    ),
    "dynamic": (lambda b: b.node("Conv", "x", "x"), "its weight is computed from the data"),
    "padded average": (
        lambda b: b.node("AveragePool", "x", kernel_shape=[3, 3], pads=[1, 1, 1, 1]), "an average over paddi",
    ),
    "uneven": (
        lambda b: b.node("MaxPool", "x", kernel_shape=[3, 3], pads=[0, 1, 0, 1]), "pads [0, 1, 0, 1]: a laye",
    ),
    "mean": (lambda b: b.node("ReduceMean", "x", axes=[1]), "a mean over axes [1] of 4: only over an image"),
    "reshape": (
        lambda b: b.node("Reshape", "x", b.constant([1, 2, 18, 9], np.int64)), "no layer turns (1, 4, 9, 9)",
    ),
    "rows": (lambda b: b.conv(b.node("Flatten", "x"), 4, 2, 3), "only images (n, c, h, w), got (1, 324)"),
    "transposed": (
        lambda b: b.node("Gemm", b.node("Flatten", "x"), b.zeros(1, 5), transA=1), "only data x constant wei",
    ),
    "product": (lambda b: b.node("MatMul", "x", b.zeros(4, 9, 9)), "a product of two activations outside an"),
    "table": (lambda b: b.node("Add", "x", b.zeros(4, 9, 9)), "adding a constant of shape (4, 9, 9): no lay"),
    "square": (lambda b: b.node("Mul", "x", "x"), "two activations: only their sum (Add) has a layer"),
    "shapes": (
        lambda b: b.node("Gemm", b.node("Flatten", "x"), b.zeros(7, 2)), "the shape of value 'v1' is not",
    ),
    "heads": (
        lambda b: b.node("MatMul", b.node("Softmax", b.node("MatMul", "x", "x"), axis=-1), "x"),
        "cannot see where its heads are joined",
    ),
    "gate": (lambda b: b.node("Mul", b.node("Relu", "x"), "x"), "branches meet here; only Add and Concat jo"),
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
