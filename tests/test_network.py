"""Layers: their gradients are those of their forward pass, and the GEMMs they run are those they announce."""

from __future__ import annotations

from collections import Counter
from itertools import product
from typing import Any, ClassVar

import numpy as np
import pytest
from gradient_check import announced, chain, check_gradients, executed, residual, settings
from plain_executor import FORMATS, QUANTISED, PlainExecutor, everywhere
from pydantic import ValidationError

from accelsim.network import (
    Add,
    AveragePool,
    BatchNorm,
    Conv2d,
    Flatten,
    Layer,
    Leaf,
    Linear,
    MatrixLayer,
    MaxPool,
    Relu,
    Residual,
    Sequence,
    ShapeError,
    Site,
)
from accelsim.network.windows import Window, gradient_columns, grouped, im2col, ungrouped
from accelsim.operations import PHASES, TensorFormats

ODD_IMAGE = (5, 7)


CONVOLUTIONS = [
    Conv2d(channels=3, kernel=kernel, stride=stride, padding=padding)
    for kernel, stride, padding in product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2, None))
]
GROUPED = [
    Conv2d(channels=6, kernel=3, groups=2, bias=True),
    Conv2d(channels=4, kernel=3, groups=4),
    Conv2d(channels=8, kernel=3, stride=2, groups=4, bias=True),
    Conv2d(channels=2, kernel=5, stride=3, groups=2, padding=0),
    Conv2d(channels=4, kernel=2, stride=3, groups=4, padding=2),
]


OBLONG = [
    Conv2d(channels=2, kernel=(1, 3)),
    Conv2d(channels=4, kernel=(3, 1), stride=(2, 1), padding=(0, 2)),
    Conv2d(channels=2, kernel=(2, 3), stride=(1, 3), padding=(0, 1, 1, 0)),
    Conv2d(channels=2, kernel=3, stride=2, padding=(0, 0, 1, 1)),
    Conv2d(channels=2, kernel=3, dilation=2),
    Conv2d(channels=2, kernel=(2, 3), stride=(3, 2), dilation=(2, 3), padding=(1, 2, 3, 4)),
    Conv2d(channels=2, kernel=3, stride=2, dilation=2, padding=2),
    Conv2d(channels=4, kernel=(3, 2), stride=(4, 2), dilation=(2, 1), groups=2, padding=3),
    Conv2d(channels=4, kernel=(1, 5), stride=(1, 2), groups=4, bias=True),
    Conv2d(channels=4, kernel=3, dilation=2, groups=4),
    Conv2d(channels=4, kernel=(5, 3), dilation=(1, 3), groups=2),
]


@pytest.mark.parametrize("layer", [*CONVOLUTIONS, *GROUPED, *OBLONG], ids=settings)
def test_convolution_gradients(layer: Conv2d) -> None:
    """Every kernel, stride, padding, dilation and grouping has the gradients of its own forward pass."""
    check_gradients(chain((*ODD_IMAGE, 2 if layer in CONVOLUTIONS else 4), layer))


def naive_convolution(layer: Conv2d, x: Any, weight: Any) -> Any:
    """y[n, i, j, o] by its definition, one multiply at a time."""
    n, height, width, channels = x.shape
    (kh, kw), (sh, sw), (dh, dw) = map(pair, (layer.kernel, layer.stride, layer.dilation))
    top, left, bottom, right = four(layer)
    rows = (height + top + bottom - (kh - 1) * dh - 1) // sh + 1
    cols = (width + left + right - (kw - 1) * dw - 1) // sw + 1
    y = np.zeros((n, rows, cols, layer.channels))
    inputs, outputs = channels // layer.groups, layer.channels // layer.groups
    taps = product(range(kh), range(kw), range(inputs))
    for (image, i, j, o), (p, q, c) in product(np.ndindex(*y.shape), list(taps)):
        down, across = i * sh + p * dh - top, j * sw + q * dw - left
        if 0 <= down < height and 0 <= across < width:
            y[image, i, j, o] += x[image, down, across, o // outputs * inputs + c] * weight[p, q, c, o]
    return y


def pair(value: Any) -> tuple[int, int]:
    """Down and across."""
    return (value, value) if isinstance(value, int) else value


def four(layer: Conv2d) -> tuple[int, ...]:
    """Zeros at the top, left, bottom and right."""
    given: Any = layer.padding
    if given is None:
        given = tuple(d * (k // 2) for d, k in zip(pair(layer.dilation), pair(layer.kernel), strict=True))
    return given if isinstance(given, tuple) and len(given) == 4 else 2 * pair(given)


@pytest.mark.parametrize("layer", [*CONVOLUTIONS[::5], *GROUPED, *OBLONG], ids=settings)
def test_convolution_is_its_definition(layer: Conv2d) -> None:
    """The forward pass through im2col and GEMMs is the sum over taps and channels."""
    network = chain((*ODD_IMAGE, 2 if layer in CONVOLUTIONS else 4), layer)
    chip = PlainExecutor(list(network.leaves()))
    x = np.random.default_rng(1).normal(size=(2, *network.input_shape))
    name = f"{layer.kind}0"
    expected = naive_convolution(layer, x, chip.parameters[name, "weight"])
    expected += chip.parameters.get((name, "bias"), 0)
    np.testing.assert_allclose(network.forward(x, chip), expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(
    "layers",
    [
        (Linear(features=4),),
        (Linear(features=1, bias=True),),
        (Linear(features=5), Relu(), Linear(features=3, bias=True)),
        (Linear(features=4), BatchNorm(), Relu()),
    ],
    ids=lambda layers: "-".join(layer.kind for layer in layers),
)
def test_gradients_of_layers_of_features(layers: tuple[Layer, ...]) -> None:
    """Linear layers with and without bias, and normalisation over (samples, features)."""
    check_gradients(chain((6,), *layers), batch=5)


@pytest.mark.parametrize(
    "layer",
    [
        BatchNorm(epsilon=0.1),
        Relu(),
        Flatten(),
        MaxPool(size=2),
        MaxPool(size=3, stride=1),
        MaxPool(size=3, stride=2),
        MaxPool(size=1, stride=3),
        AveragePool(),
        AveragePool(size=2),
        AveragePool(size=3, stride=1),
        AveragePool(size=2, stride=3),
        MaxPool(size=(2, 3), stride=(3, 1)),
        AveragePool(size=(1, 3), stride=(2, 1)),
    ],
    ids=settings,
)
def test_gradients_of_layers_of_images(layer: Layer) -> None:
    """Normalisation, pools with overlapping, touching and separate windows, and reshaping."""
    check_gradients(chain((*ODD_IMAGE, 3), layer))


def test_residual_gradients_with_the_identity_as_shortcut() -> None:
    """dL/dx is the sum of the gradients of both branches."""
    shape = (4, 3, 2)
    body = chain(shape, Conv2d(channels=2, kernel=3), BatchNorm(), Relu(), Conv2d(channels=2, kernel=3))
    block = residual("block", body, chain(shape))
    check_gradients(chain(shape, BatchNorm(), block, Relu(), Flatten(), Linear(features=3)))


def test_residual_gradients_with_layers_on_the_shortcut() -> None:
    """A block that halves the image and widens it, within another block."""
    shape = (5, 5, 2)
    body = chain(shape, Conv2d(channels=4, kernel=3, stride=2), BatchNorm())
    shortcut = chain(shape, Conv2d(channels=4, kernel=1, stride=2, padding=0), BatchNorm())
    inner = residual("inner", body, shortcut)
    outer = Residual(
        (
            Sequence((inner,), shape, False),
            chain(shape, AveragePool(size=2, stride=2), Conv2d(channels=4, kernel=2, padding=1)),
        ),
        Leaf(Add(), Site("outer.add", (3, 3, 4))),
    )
    check_gradients(chain(shape, outer, MaxPool(size=2)))


def test_batch_norm_trains_on_batch_statistics_and_tests_on_running_ones() -> None:
    """In training the output is standardised and the statistics move by ``momentum``; in a test they stay."""
    network = chain((4,), BatchNorm(momentum=0.25))
    chip = PlainExecutor(list(network.leaves()))
    x = np.random.default_rng(2).normal(size=(50, 4)) * 3 + 1
    chip.parameters["batch_norm0", "gamma"], chip.parameters["batch_norm0", "beta"] = np.ones(4), np.zeros(4)
    old = dict(chip.parameters)
    y = network.forward(x, chip)
    np.testing.assert_allclose(y.mean(axis=0), 0, atol=1e-12)
    np.testing.assert_allclose(y.std(axis=0), 1, rtol=1e-5)
    mean, variance = (chip.parameters["batch_norm0", f"running_{name}"] for name in ("mean", "variance"))
    np.testing.assert_allclose(mean, 0.75 * old["batch_norm0", "running_mean"] + 0.25 * x.mean(axis=0))
    np.testing.assert_allclose(variance, 0.75 * old["batch_norm0", "running_variance"] + 0.25 * x.var(axis=0))
    chip.training = False
    np.testing.assert_allclose(network.forward(x, chip), (x - mean) / np.sqrt(variance + 1e-5))
    assert chip.parameters["batch_norm0", "running_mean"] is mean
    assert chip.parameters["batch_norm0", "running_variance"] is variance


@pytest.mark.parametrize(("kernel", "stride", "padding"), [*product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2, 4))])
def test_im2col_is_a_quadruple_loop(kernel: int, stride: int, padding: int) -> None:
    """Each row is one window, its columns ordered (tap row, tap column, channel), zero outside."""
    images = np.arange(1, 2 * 5 * 7 * 2 + 1).reshape(2, *ODD_IMAGE, 2)
    window = Window(kernel, stride, padding, padding)
    rows, cols = (window.positions(extent) for extent in ODD_IMAGE)
    columns = im2col(images, window, window).reshape(2, rows, cols, kernel, kernel, 2)
    for n, i, j, p, q in np.ndindex(2, rows, cols, kernel, kernel):
        down, across = i * stride + p - padding, j * stride + q - padding
        inside = 0 <= down < ODD_IMAGE[0] and 0 <= across < ODD_IMAGE[1]
        assert list(columns[n, i, j, p, q]) == (list(images[n, down, across]) if inside else [0, 0])


@pytest.mark.parametrize(("channels", "groups"), [(4, 2), (3, 3), (6, 2)])
@pytest.mark.parametrize(("kernel", "stride", "padding"), [(1, 1, 0), (3, 1, 1), (3, 2, 0), (2, 3, 2)])
def test_windows_of_groups_are_those_of_each_group(
    channels: int, groups: int, kernel: int, stride: int, padding: int
) -> None:
    """A stack holds, group by group, the windows of that group's channels alone; `ungrouped` undoes it."""
    images = np.arange(1, 2 * 5 * 7 * channels + 1).reshape(2, *ODD_IMAGE, channels)
    parts = np.split(images, groups, axis=-1)
    window = Window(kernel, stride, padding, padding)
    found = im2col(images, window, window, groups)
    np.testing.assert_array_equal(found, [im2col(part, window, window) for part in parts])
    np.testing.assert_array_equal(grouped(images, groups), [grouped(part, 1) for part in parts])
    np.testing.assert_array_equal(ungrouped(grouped(images, groups)), images.reshape(-1, channels))
    rows, cols = (window.positions(extent) for extent in ODD_IMAGE)
    dy = np.arange(1, 2 * rows * cols * channels + 1).reshape(2, rows, cols, channels)
    halves = np.split(dy, groups, axis=-1)
    for classes in product(*(window.residues(extent) for extent in ODD_IMAGE)):
        found = gradient_columns(dy, *classes, groups)
        np.testing.assert_array_equal(found, [gradient_columns(half, *classes) for half in halves])


@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [*product((1, 2, 3, 5), (1, 2, 3), (0, 1, 2)), (3, 1, 4), (1, 2, 3)]
)
def test_gradient_columns_are_a_quadruple_loop(kernel: int, stride: int, padding: int) -> None:
    """Every input position meets every tap that reaches it exactly once, with the right output position."""
    window = Window(kernel, stride, padding, padding)
    rows, cols = (window.positions(extent) for extent in ODD_IMAGE)
    dy = np.arange(1, rows * cols + 1).reshape(1, rows, cols, 1)
    met = set()
    down_classes, across_classes = (window.residues(extent) for extent in ODD_IMAGE)
    for down, across in product(down_classes, across_classes):
        columns = gradient_columns(dy, down, across)
        columns = columns.reshape(down.inputs, across.inputs, down.taps, across.taps)
        for i, j, s, t in np.ndindex(*columns.shape):
            y, x = down.first_input + i * stride, across.first_input + j * stride
            p, q = down.offset + s * stride, across.offset + t * stride
            row, col = (y + padding - p) // stride, (x + padding - q) // stride
            assert (row * stride, col * stride) == (y + padding - p, x + padding - q)
            inside = 0 <= row < rows and 0 <= col < cols
            assert columns[i, j, s, t] == (dy[0, row, col, 0] if inside else 0)
            met.add((y, x, p, q))
    for y, x, p, q in np.ndindex(*ODD_IMAGE, kernel, kernel):
        meets = (y + padding - p) % stride == 0 and (x + padding - q) % stride == 0
        assert ((y, x, p, q) in met) == meets


@pytest.mark.parametrize("window", [
    Window(3, 2, 1, 0, 2), Window(2, 3, 2, 1, 2), Window(3, 4, 0, 3, 2), Window(4, 1, 3, 3, 3),
    Window(3, 2, 2, 2, 3), Window(1, 2, 0, 0, 2), Window(5, 6, 4, 1, 4),
])  # fmt: skip
@pytest.mark.parametrize("extent", [5, 8])
def test_classes_of_dilated_windows_hold_every_meeting_once(window: Window, extent: int) -> None:
    """Input i meets output o by tap p where i + before = o stride + p dilation, and nowhere else."""
    met = [
        (residue.first_input + i * window.stride, residue.first_quotient + i - j * residue.back,
         residue.offset + j * residue.spacing)
        for residue in window.residues(extent) for i in range(residue.inputs) for j in range(residue.taps)
    ]  # fmt: skip
    wanted = {
        (i, (i + window.before - p * window.dilation) // window.stride, p)
        for i in range(extent) for p in range(window.taps)
        if (i + window.before - p * window.dilation) % window.stride == 0
    }  # fmt: skip
    assert len(met) == len(set(met))
    assert set(met) == wanted


@pytest.mark.parametrize("formats", [FORMATS, QUANTISED], ids=["wide", "quantised"])
@pytest.mark.parametrize("shape", [(6, 5, 4), (6, 6, 4)])
def test_executed_gemms_are_those_announced(formats: TensorFormats, shape: tuple[int, ...]) -> None:
    """Forward, dL/dx and dL/dW run exactly the GEMMs of ``work()``: what is priced is what is computed."""
    layers = [
        Conv2d(channels=4, kernel=3),
        Conv2d(channels=4, kernel=3, groups=4),
        Relu(),
        Conv2d(channels=6, kernel=3, stride=2, groups=2, bias=True),
        Conv2d(channels=2, kernel=(2, 3), stride=(2, 1), dilation=(1, 2), padding=(0, 1, 1, 2)),
        AveragePool(),
        Linear(features=3, bias=True),
    ]
    network = chain(shape, *layers)
    found = executed(network, 3, PlainExecutor(list(network.leaves()), formats=formats))
    expected = announced(network, 3, formats)
    assert found["forward"] == expected["forward"]
    for phase in ("backward", "update"):
        order = [leaf.site.name for leaf in network.leaves()][::-1]
        assert found[phase] == sorted(expected[phase], key=lambda gemm: order.index(gemm.layer))


def test_executed_gemms_of_a_residual_block_are_those_announced() -> None:
    """Branches run the GEMMs they announce; the backward pass of a block may take either branch first."""
    shape = (4, 4, 2)
    body = chain(shape, Conv2d(channels=2, kernel=3), Relu(), Conv2d(channels=2, kernel=1))
    network = chain(shape, residual("block", body, chain(shape, Conv2d(channels=2, kernel=1))))
    found = executed(network, 2, PlainExecutor(list(network.leaves()), formats=QUANTISED))
    expected = announced(network, 2, QUANTISED)
    assert found["forward"] == expected["forward"]
    assert {phase: Counter(found[phase]) for phase in PHASES} == {
        phase: Counter(expected[phase]) for phase in PHASES
    }


def macs(layer: Layer, shape: tuple[int, ...], batch: int) -> dict[str, int]:
    """Announced MACs by phase."""
    works = layer.work(Site("layer", shape), batch, everywhere(QUANTISED))
    return {phase: sum(work.macs for work in works if work.phase == phase) for phase in PHASES}


@pytest.mark.parametrize(
    ("layer", "shape", "forward", "backward"),
    [
        (Linear(features=10), (64,), 8 * 64 * 10, 8 * 64 * 10),
        (Conv2d(channels=16, kernel=3), (28, 28, 1), 8 * 28 * 28 * 9 * 16, 8 * 28 * 28 * 9 * 16),
        # 3x3 at stride 2, even image: each of 14 x 14 windows has 9 taps, each input meets 9/4 of them
        (Conv2d(channels=4, kernel=3, stride=2), (28, 28, 2), 8 * 14 * 14 * 9 * 8, 8 * 14 * 14 * 9 * 8),
        # no padding: 26 x 26 outputs, but each of the 28 x 28 inputs meets 9 taps, zeros at the edge
        (Conv2d(channels=2, kernel=3, padding=0), (28, 28, 1), 8 * 26 * 26 * 9 * 2, 8 * 28 * 28 * 9 * 2),
        # one tap in nine input positions
        (Conv2d(channels=5, kernel=1, stride=3, padding=0), (9, 9, 2), 8 * 9 * 10, 8 * 9 * 10),
        # depthwise: 9 taps for each channel
        (Conv2d(channels=32, kernel=3, groups=32), (14, 14, 32), 8 * 14 * 14 * 32 * 9, 8 * 14 * 14 * 32 * 9),
        (Conv2d(channels=8, kernel=5, groups=2), (7, 7, 4), 8 * 49 * 25 * 2 * 8, 8 * 49 * 25 * 2 * 8),
    ],
)
def test_macs_are_those_of_the_hand_formula(
    layer: Layer, shape: tuple[int, ...], forward: int, backward: int
) -> None:
    """Outputs x taps x channels per group; dL/dW spends what the forward pass spends."""
    assert macs(layer, shape, 8) == {"forward": forward, "backward": backward, "update": forward}


@pytest.mark.parametrize(
    ("layer", "shape"), [(Linear(features=3, bias=True), (4,)), (Conv2d(channels=3, kernel=3), (4, 4, 2))]
)
def test_first_layer_spends_nothing_on_its_input(layer: Layer, shape: tuple[int, ...]) -> None:
    """Where nothing before is trained there is no dL/dx GEMM, and the gradient handed on is zero."""
    leaf = Leaf(layer, Site("first", shape, needs_input_gradient=False))
    assert [work.phase for work in layer.work(leaf.site, 2, everywhere(QUANTISED))] == ["forward", "update"]
    network = Sequence((leaf,), shape, False)
    chip = PlainExecutor([leaf], formats=QUANTISED)
    x = np.ones((2, *shape))
    dx = network.backward(network.forward(x, chip), chip)
    assert dx.shape == x.shape
    assert not dx.any()
    assert [gemm.phase for gemm in chip.executed] == ["forward", "update"]
    codes = [
        tensor.name for work in layer.work(leaf.site, 2, everywhere(QUANTISED)) for tensor in work.writes
    ]
    assert "first.dy codes (dW)" in codes
    assert "first.dy codes (dx)" not in codes


def test_gradient_codes_are_converted_once() -> None:
    """dL/dy becomes codes in the dL/dx work where there is one, else in the dL/dW work, never in both."""
    for needed in (True, False):
        site = Site("layer", (6, 6, 4), needs_input_gradient=needed)
        works = Conv2d(channels=4, kernel=3).work(site, 2, everywhere(QUANTISED))
        converting = [
            work.phase for work in works for each in work.vector_work if each.function == "gradient_codes"
        ]
        assert converting == ["backward" if needed else "update"]


@pytest.mark.parametrize(
    ("layers", "nonnegative"),
    [
        ((Relu(),), True),
        ((Relu(), MaxPool(size=2), AveragePool(), Linear(features=2)), False),
        ((Relu(), MaxPool(size=2), AveragePool()), True),
        ((Relu(), Flatten()), True),
        ((Relu(), BatchNorm()), False),
        ((MaxPool(size=2), Flatten()), False),
    ],
    ids=lambda value: str(value) if isinstance(value, bool) else "-".join(layer.kind for layer in value),
)
def test_sign_of_a_tensor_is_known(layers: tuple[Layer, ...], nonnegative: bool) -> None:
    """What comes from a ReLU through pools and reshaping is nonnegative: its codes are unsigned."""
    network = chain((4, 4, 2), *layers)
    assert network.output_nonnegative == nonnegative
    chip = PlainExecutor(list(network.leaves()))
    y = network.forward(np.random.default_rng(5).normal(size=(20, 4, 4, 2)), chip)
    assert (y.min() >= 0) == nonnegative


def test_sum_of_nonnegative_branches_is_nonnegative() -> None:
    """A residual block is nonnegative if and only if both of its branches are."""
    shape = (3,)
    relu, plain = chain(shape, Relu()), chain(shape, Linear(features=3))
    for body, shortcut, expected in ((relu, relu, True), (relu, plain, False), (plain, relu, False)):
        assert Residual((body, shortcut), Leaf(Add(), Site("add", shape))).output_nonnegative == expected


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv2d(channels=2, kernel=3), (16,), r"conv2d takes \(height, width, channels\), got \(16,\)"),
        (Conv2d(channels=2, kernel=5, padding=0), (4, 9, 1), r"kernel 5 does not fit in the padded input"),
        (Conv2d(channels=4, kernel=1, groups=3), (4, 4, 3), "groups 3 must divide the 3 input and 4 output"),
        (Conv2d(channels=3, kernel=1, groups=3), (4, 4, 4), "groups 3 must divide the 4 input and 3 output"),
        (MaxPool(size=2), (16,), r"max_pool takes \(height, width, channels\), got \(16,\)"),
        (MaxPool(size=5), (4, 9, 1), r"window 5 does not fit in the input \(4, 9, 1\)"),
        (AveragePool(), (16,), r"average_pool takes \(height, width, channels\), got \(16,\)"),
        (AveragePool(size=2), (16,), r"average_pool takes \(height, width, channels\), got \(16,\)"),
        (AveragePool(size=3), (2, 2, 1), r"window 3 does not fit in the input \(2, 2, 1\)"),
    ],
)
def test_shapes_that_do_not_fit(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    """A layer says why it cannot take the tensor it is given."""
    with pytest.raises(ShapeError, match=message):
        layer.output_shape(Site("layer", shape))


def test_stride_of_an_average_over_the_whole_image_is_refused() -> None:
    """A setting that would have no effect is a mistake."""
    with pytest.raises(ValidationError, match="'stride' needs 'size': without it the window is the whole"):
        AveragePool(stride=2)


class Bare(MatrixLayer):
    """A layer on the MAC array that brings nothing of its own."""

    kind: ClassVar[str] = "bare"


def test_a_layer_without_mathematics_cannot_be_made() -> None:
    """Whoever writes a layer and forgets a part of it is told which parts are missing."""
    with pytest.raises(TypeError, match=r"abstract methods.*backward.*forward.*update_gemm"):
        Bare()


def test_depthwise_means_one_input_channel_for_each_output_channel() -> None:
    """Also where a channel has several outputs; groups of several input channels are not depthwise."""
    image = Site("layer", (4, 4, 8))
    assert Conv2d(channels=8, kernel=3, groups=8).is_depthwise(image)
    assert Conv2d(channels=16, kernel=3, groups=8).is_depthwise(image)
    assert not Conv2d(channels=4, kernel=3, groups=4).is_depthwise(image)
    assert not Conv2d(channels=1, kernel=3).is_depthwise(Site("layer", (4, 4, 1)))
    assert not Linear(features=8).is_depthwise(Site("layer", (8,)))
