"""Layers of the vector unit that language and speech networks need: gradients, shapes, signs, branches."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradient_check import announced, chain, check_gradients, concat, executed, settings
from plain_executor import QUANTISED, PlainExecutor, everywhere
from pydantic import ValidationError
from tiny_workload import TEXT, written

from accelsim.network import (
    AsSequence,
    AveragePool,
    Conv2d,
    Dropout,
    Flatten,
    Gelu,
    Layer,
    LayerNorm,
    Linear,
    MaxPool,
    MeanPositions,
    Relu,
    Relu6,
    ShapeError,
    Sigmoid,
    Site,
    Swish,
    TakeLast,
    Tanh,
)
from accelsim.operations import PHASES
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.run.state import initial_state
from accelsim.workload import load_workload


@pytest.mark.parametrize(
    "layer", [Relu6(), Sigmoid(), Tanh(), Gelu(), Swish(), Dropout(rate=0.3)], ids=settings
)
@pytest.mark.parametrize("shape", [(3,), (4, 3), (3, 2, 2)], ids=str)
def test_gradients_of_element_functions(layer: Layer, shape: tuple[int, ...]) -> None:
    """Each function of single elements has its own derivative, whatever the shape it stands in."""
    check_gradients(chain(shape, layer), batch=4)


@pytest.mark.parametrize("shape", [(5,), (4, 6), (2, 3, 4)], ids=str)
def test_gradients_of_layer_norm(shape: tuple[int, ...]) -> None:
    """Normalisation over the last axis of features, sequences and images."""
    check_gradients(chain(shape, LayerNorm(epsilon=0.1)), batch=3)


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((5, 4), (Linear(features=3, bias=True), Relu())),
        ((2, 3, 4), (Linear(features=5),)),
        ((5, 4), (Linear(features=6), Gelu(), Linear(features=4, bias=True), LayerNorm())),
        ((5, 4), (TakeLast(), Linear(features=2))),
        ((5, 4), (Linear(features=3), MeanPositions())),
        ((5, 4), (Flatten(), Linear(features=3))),
        ((5, 4, 2), (Conv2d(channels=3, kernel=3), AsSequence(), Linear(features=2))),
    ],
    ids=lambda value: "-".join(layer.kind for layer in value) if isinstance(value[0], Layer) else str(value),
)
def test_gradients_of_layers_of_sequences(shape: tuple[int, ...], layers: tuple[Layer, ...]) -> None:
    """Linear layers at every position, and the ways from a sequence to a vector."""
    check_gradients(chain(shape, *layers), batch=3)


POOLS = [
    MaxPool(size=3, stride=2, padding=1),
    MaxPool(size=3, stride=2, ceil=True),
    MaxPool(size=2, stride=2, ceil=True),
    MaxPool(size=2, stride=3, ceil=True),
    MaxPool(size=4, stride=3, padding=2, ceil=True),
    MaxPool(size=(3, 1), stride=(2, 1), padding=(1, 0)),
    MaxPool(size=(2, 3), stride=2, padding=(0, 0, 1, 1)),
    MaxPool(size=(3, 2), stride=(2, 3), padding=(1, 0, 0, 1), ceil=True),
    AveragePool(size=3, stride=1, padding=1),
    AveragePool(size=3, stride=1, padding=1, count_padding=True),
    AveragePool(size=2, stride=2, ceil=True),
    AveragePool(size=(3, 2), stride=2, padding=(1, 0, 1, 1), ceil=True, count_padding=True),
]


@pytest.mark.parametrize("layer", POOLS, ids=settings)
@pytest.mark.parametrize("extents", [(5, 7), (6, 6), (4, 9)], ids=str)
def test_padded_pools(layer: MaxPool | AveragePool, extents: tuple[int, int]) -> None:
    """Padding and windows over the edge: the values of a loop over windows, and their gradients."""
    network = chain((*extents, 2), layer)
    x = np.random.default_rng(1).normal(size=(2, *extents, 2))
    y = network.forward(x, PlainExecutor(list(network.leaves())))
    size: Any = layer.size if isinstance(layer.size, tuple) else (layer.size, layer.size)
    step: Any = layer.stride if isinstance(layer.stride, tuple) else (layer.stride, layer.stride)
    edge: Any = layer.padding if isinstance(layer.padding, tuple) else (layer.padding,) * 4
    edge = 2 * edge if len(edge) == 2 else edge
    for n, i, j, c in np.ndindex(*y.shape):
        rows, cols = (
            range(at * step[axis] - edge[axis], at * step[axis] - edge[axis] + size[axis])
            for axis, at in ((0, i), (1, j))
        )
        window = [x[n, p, q, c] for p in rows for q in cols if 0 <= p < extents[0] and 0 <= q < extents[1]]
        if isinstance(layer, MaxPool):
            assert y[n, i, j, c] == max(window)
            continue
        counted = len(window)
        if layer.count_padding:  # up to the padding's end, not what a window reaches beyond it
            ends = extents[0] + edge[2], extents[1] + edge[3]
            counted = sum(p < ends[0] for p in rows) * sum(q < ends[1] for q in cols)
        np.testing.assert_allclose(y[n, i, j, c], sum(window) / counted)
    check_gradients(network)


@pytest.mark.parametrize(
    ("layer", "extent", "expected"),
    [
        (MaxPool(size=3, stride=2), 112, 55),
        (MaxPool(size=3, stride=2, padding=1), 112, 56),
        (MaxPool(size=3, stride=2, ceil=True), 112, 56),
        (MaxPool(size=3, stride=2, ceil=True), 55, 27),
        (MaxPool(size=3, stride=2, ceil=True), 28, 14),
        (MaxPool(size=2, stride=3, ceil=True), 6, 2),
    ],
    ids=str,
)
def test_extents_of_padded_pools(layer: MaxPool, extent: int, expected: int) -> None:
    """Those of ResNet's and GoogLeNet's pools; no window starts beyond the image."""
    assert layer.output_shape(Site("pool", (extent, extent, 1))) == (expected, expected, 1)


def test_padding_beyond_half_a_window_is_refused() -> None:
    """A window that saw padding only would have no largest value."""
    with pytest.raises(ValidationError, match="'padding' must be at most half of 'size' 3, got 2"):
        MaxPool(size=3, padding=2)
    with pytest.raises(ValidationError, match=re.escape("half of 'size' 3 x 2, got [1, 0, 1, 2]")):
        AveragePool(size=(3, 2), padding=(1, 0, 1, 2))


def test_concat_gradients() -> None:
    """Branches of different depth side by side, the identity among them, one block within another."""
    shape = (4, 3, 2)
    inner = concat("inner", chain(shape), chain(shape, Conv2d(channels=3, kernel=3), Relu()))
    outer = concat(
        "outer",
        chain(shape, inner, Conv2d(channels=2, kernel=1)),
        chain(shape, MaxPool(size=3, stride=1, padding=1)),
        chain(shape),
    )
    assert inner.output_shape == (4, 3, 5)
    assert outer.output_shape == (4, 3, 6)
    check_gradients(chain(shape, outer, AveragePool(), Linear(features=2)))


def test_concat_is_side_by_side() -> None:
    """Branch after branch along the last axis; nonnegative only if all branches are."""
    shape = (3,)
    block = concat("block", chain(shape), chain(shape, Relu()))
    network = chain(shape, block)
    x = np.float64([[1, -2, 3]])
    assert network.forward(x, PlainExecutor(list(network.leaves()))).tolist() == [[1, -2, 3, 1, 0, 3]]
    assert not network.output_nonnegative
    assert concat("block", chain(shape, Relu()), chain(shape, Relu())).output_nonnegative


def test_gemms_of_a_sequence_are_those_announced() -> None:
    """A linear layer on (positions, channels) is one GEMM over all positions of all samples."""
    network = chain((5, 4), Linear(features=6, bias=True), Gelu(), Linear(features=3))
    found = executed(network, 2, PlainExecutor(list(network.leaves()), formats=QUANTISED))
    assert {phase: sorted(found[phase], key=str) for phase in PHASES} == {
        phase: sorted(gemms, key=str) for phase, gemms in announced(network, 2, QUANTISED).items()
    }
    assert [(gemm.m, gemm.k, gemm.n) for gemm in found["forward"]] == [(10, 4, 6), (10, 6, 3)]


@pytest.mark.parametrize("layer", [Gelu(), Sigmoid(), LayerNorm(), Dropout(rate=0.5), Relu6()], ids=settings)
def test_kept_bits(layer: Layer) -> None:
    """What waits for the backward pass is announced: the tensor in 16 bits, or one bit an element."""
    works = layer.work(Site("layer", (4, 6)), 3, everywhere(QUANTISED))
    kept = [tensor for work in works for tensor in work.writes if tensor.residence == "saved"]
    mask = layer.kind in ("dropout", "relu6")
    assert [(tensor.elements, tensor.bits) for tensor in kept[:1]] == [(3 * 24, 1 if mask else 16)]
    again = [tensor for work in works for tensor in work.reads if tensor.residence == "saved"]
    assert again == kept
    assert [work.phase for work in works] == ["forward", "backward"]


def test_dropout_does_nothing_in_a_test() -> None:
    """The mask scales what stays in training; in a test the tensor passes as it is."""
    network = chain((50,), Dropout(rate=0.75))
    chip = PlainExecutor(list(network.leaves()))
    x = np.ones((4, 50))
    assert set(np.unique(network.forward(x, chip))) == {0, 4}
    chip.training = False
    assert network.forward(x, chip) is x


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (TakeLast(), (4,), r"take_last takes \(positions, channels\), got \(4,\)"),
        (MeanPositions(), (4, 4, 1), r"mean_positions takes \(positions, channels\), got \(4, 4, 1\)"),
        (AsSequence(), (4, 4), r"as_sequence takes \(height, width, channels\), got \(4, 4\)"),
    ],
)
def test_shapes_that_do_not_fit(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    """A layer says why it cannot take the tensor it is given."""
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(Site("layer", shape))


@pytest.mark.parametrize(
    ("initial", "deviation"), [("kaiming", 0.0791), ("xavier", 0.0707), ("normal", 0.02)]
)
def test_first_weights(tmp_path: Path, initial: str, deviation: float) -> None:
    """Uniform within sqrt(6 / fan_in) or sqrt(6 / (fan_in + fan_out)), or normal; the same for one seed."""
    layers = f"  - flatten\n  - linear: {{features: 80, initial: {initial}}}\n  - linear: {{features: 10}}\n"
    head = TEXT.split("blocks:")[0].replace(
        "data: digits8x8", "data: {shape: [320], classes: 10, samples: 9}"
    )
    workload = load_workload(written(tmp_path, f"{head}network:\n{layers}"))
    weight = initial_state(workload).parameters["linear1.weight"]
    assert weight.shape == (320, 80)
    assert abs(weight.std() - deviation) < 0.01 * deviation
    assert abs(weight.mean()) < 0.02 * deviation
    limit = {"kaiming": (6 / 320) ** 0.5, "xavier": (6 / 400) ** 0.5, "normal": 6 * 0.02}[initial]
    assert 0.6 * limit < np.abs(weight).max() <= limit
    np.testing.assert_array_equal(weight, initial_state(workload).parameters["linear1.weight"])


def test_branches_of_a_workload(tmp_path: Path) -> None:
    """A file's `concat` becomes branches; those that are first read the mini-batch, and it compiles."""
    block = "  - concat: {branches: [[], [{conv2d: {channels: 3, kernel: 3}}, relu]]}\n"
    path = written(tmp_path, TEXT.replace("network:\n", f"network:\n{block}", 1))
    workload = load_workload(path)
    assert workload.network.parts[0].output_shape == (8, 8, 4)
    works = compile_program(workload, load_recipe("ibm2020_fp4")).works
    (join,) = [work for work in works if work.kind == "concat"]
    assert [tensor.name for tensor in join.reads] == ["concat1.dx 1", "concat1.dx 2"]
    reading = [t for work in works for g in work.gemms for t in (g.a, g.b) if t.residence == "input"]
    assert [tensor.name for tensor in reading] == ["conv2d1.input codes"]
