"""Broken ONNX files: each mistake is one line with the node or weight, whatever the onnx package says."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx_models as models
import pytest
from onnx_models import Builder, onnx

from accelsim.errors import InputError
from accelsim.importing import import_file

Build = Callable[[Builder], str]


def convolution(**attributes: Any) -> Build:
    """A 3 x 3 convolution of an image of 4 channels, with some attributes of its own."""
    return lambda b: b.conv("x", 4, 2, 3, **attributes)


BROKEN: dict[str, tuple[Build, str]] = {
    "kernel": (
        lambda b: b.conv("x", 4, 2, 11, pads=[0] * 4),
        "node '/Conv_0' (Conv): a window of [11, 11] is larger than its input of [9, 9], zeros at the edges ",
    ),
    "taps": (convolution(dilations=[5, 5], pads=[0] * 4), "a window of [11, 11] is larger than its input of"),
    "pool": (
        lambda b: b.node("AveragePool", "x", kernel_shape=[9, 10]),
        "a window of [9, 10] is larger than its input of [9, 9]",
    ),
    "stride": (convolution(strides=[0, 1]), "strides: must be 2 numbers of at least 1, got [0, 1]"),
    "pads": (convolution(pads=[1, 1]), "pads: must be 4 numbers, got [1, 1]"),
    "kind": (convolution(strides=1.5), "node '/Conv_0' (Conv): Mismatched attribute type in"),
    "inputs": (
        lambda b: b.node("Conv", "x"),
        "node '/Conv_0' (Conv): Node(/Conv_0) with schema(::Conv:11) has",
    ),
    "channels": (
        lambda b: b.conv("x", 8, 2, 3, group=4),
        "node '/Conv_0' (Conv): its weight takes 2 channels in each of 4 groups, its input has 4",
    ),
    "order": (
        lambda b: b.node("Add", "x", "v1"),
        "node '/Add_0' (Add): reads 'v1', which is no input, no weight and made by no node before it",
    ),
    "memory": (
        lambda b: b.node("Add", "x", b.node("ConstantOfShape", b.constant([2**60], np.int64))),
        "node '/ConstantOfShape_0' (ConstantOfShape): cannot be computed: ",
    ),
    "output": (lambda b: "nothing", "no node makes the output 'nothing'"),
}


@pytest.mark.parametrize("name", list(BROKEN))
def test_broken_graphs_name_their_node(tmp_path: Path, name: str) -> None:
    """What the operator's definition forbids, windows without room, values that nothing makes."""
    build, message = BROKEN[name]
    b = Builder()
    path = b.write(tmp_path / "x.onnx", (1, 4, 9, 9), build(b))
    with pytest.raises(InputError, match=re.escape(message)):
        import_file(path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.dims.__setitem__(0, 3), "of shape [3, 3, 7, 7]: cannot reshape"),
        (lambda w: w.dims.__setitem__(0, -1), "weight 'w0': shape [-1, 3, 7, 7]"),
        (lambda w: setattr(w, "data_type", 99), "of shape [8, 3, 7, 7]: unknown element type 99"),
        (lambda w: setattr(w, "data_type", 0), "of shape [8, 3, 7, 7]: The element type"),
    ],
)
def test_broken_weights_are_named(tmp_path: Path, change: Callable[[Any], None], message: str) -> None:
    """A weight whose bytes are not its shape's, or whose numbers are of no known kind."""
    path = models.residual_cnn(tmp_path / "x.onnx")
    model = onnx.load(str(path))
    change(model.graph.initializer[0])
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=re.escape(message)):
        import_file(path)


def test_a_file_cut_off_is_no_model(tmp_path: Path) -> None:
    """Half a download is told as such, at any place of the cut."""
    path = models.dense_cnn(tmp_path / "x.onnx")
    whole = path.read_bytes()
    for size in range(0, len(whole), len(whole) // 16):
        path.write_bytes(whole[:size])
        with pytest.raises(InputError, match=r"^\S*x\.onnx: "):
            import_file(path)
