"""Layers that pick, rearrange, gate and resize: their definitions, gradients, shapes and announced work."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gradient_check import chain, check_gradients, renamed, settings
from plain_executor import QUANTISED, PlainExecutor, everywhere

from accelsim.errors import InputError
from accelsim.network import (
    AsImage,
    AsPositions,
    AsSequence,
    AveragePool,
    ClassToken,
    Conv2d,
    Gated,
    Gelu,
    HardSigmoid,
    HardSwish,
    Layer,
    Leaf,
    Linear,
    Product,
    Relu,
    Resize,
    RmsNorm,
    Scale,
    Sequence,
    ShapeError,
    ShuffleChannels,
    Sigmoid,
    Site,
    TakeChannels,
    TakeFirst,
)
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.workload import load_workload


def gated(body: Sequence, gate: Sequence) -> Gated:
    """A gated block; its layers get names of their own."""
    named = renamed("body", body), renamed("gate", gate)
    inputs, elements = int(np.prod(body.input_shape)), int(np.prod(gate.output_shape))
    site = Site("gated", body.output_shape)
    return Gated(named, Leaf(Product(gate=elements, inputs=inputs), site))


@pytest.mark.parametrize("layer", [HardSigmoid(), HardSwish(), RmsNorm(epsilon=0.1), Scale()], ids=settings)
@pytest.mark.parametrize("shape", [(5,), (4, 3), (3, 2, 2)], ids=str)
def test_gradients_of_functions(layer: Layer, shape: tuple[int, ...]) -> None:
    """Hard sigmoid and swish away from their corners, and root mean square normalisation."""
    check_gradients(chain(shape, layer), batch=4)


@pytest.mark.parametrize(
    ("shape", "layers"),
    [
        ((3, 2, 4), (AsPositions(), Linear(features=2))),
        ((5, 4), (AsImage(), Conv2d(channels=3, kernel=(3, 1), padding=(1, 0)), AsSequence())),
        ((5, 4), (TakeFirst(), Linear(features=2))),
        ((4, 3), (ClassToken(), TakeFirst(), Linear(features=2))),
        ((4, 3), (ClassToken(), Linear(features=2))),
        ((3, 4, 6), (TakeChannels(first=1, count=3),)),
        ((2, 3, 6), (ShuffleChannels(groups=2), Conv2d(channels=2, kernel=1))),
        ((3, 4, 2), (Resize(height=7, width=5),)),
        ((6, 5, 2), (Resize(height=4, width=2), Relu())),
        ((3, 4, 2), (Resize(height=5, width=9, method="nearest"),)),
    ],
    ids=lambda value: "-".join(layer.kind for layer in value) if isinstance(value[0], Layer) else str(value),
)
def test_gradients_of_rearranged_tensors(shape: tuple[int, ...], layers: tuple[Layer, ...]) -> None:
    """Whatever is moved, cut out, put before or blended: the gradient goes the same way back."""
    check_gradients(chain(shape, *layers), batch=3)


def test_gradients_of_gates() -> None:
    """One number a channel from the whole image, one an element from the same positions, one a feature."""
    shape = (3, 4, 5)
    squeeze = chain(
        shape, AveragePool(), Linear(features=2, bias=True), Relu(), Linear(features=5), Sigmoid()
    )
    check_gradients(chain(shape, Conv2d(channels=5, kernel=1), gated(chain(shape), squeeze)))
    check_gradients(
        chain((4, 3), gated(chain((4, 3), Linear(features=6)), chain((4, 3), Linear(features=6), Gelu())))
    )
    check_gradients(chain((3,), gated(chain((3,), Linear(features=2)), chain((3,), Linear(features=2)))))


def test_a_gate_multiplies_each_position() -> None:
    """Squeeze and excitation by hand: every pixel of a channel times the channel's number."""
    shape = (2, 3, 2)
    block = gated(chain(shape), chain(shape, AveragePool()))
    x = np.random.default_rng(1).normal(size=(2, *shape))
    found = chain(shape, block).forward(x, PlainExecutor([]))
    np.testing.assert_allclose(found, x * x.mean(axis=(1, 2), keepdims=True))


def test_channels_change_places_as_in_groups() -> None:
    """The first of each group, then the second: a reshape, a transposition, and back."""
    x = np.arange(12).reshape(1, 1, 2, 6).astype(np.float64)
    found = ShuffleChannels(groups=2).forward(Site("s", (1, 2, 6)), x, PlainExecutor([]))
    assert found.tolist() == [[[[0, 3, 1, 4, 2, 5], [6, 9, 7, 10, 8, 11]]]]
    assert TakeChannels(first=2, count=3).forward(Site("t", (1, 2, 6)), x, PlainExecutor([])).tolist() == [
        [[[2, 3, 4], [8, 9, 10]]]
    ]


def test_resizing_twice_as_large_is_the_textbooks() -> None:
    """Centres of pixels: quarters and three quarters inside, the edge itself outside; nearest repeats."""
    x, chip, site = np.float64([[[[0.0], [4.0]]]]), PlainExecutor([]), Site("r", (1, 2, 1))
    smooth = Resize(height=1, width=4).forward(site, x, chip)
    assert smooth.reshape(-1).tolist() == [0, 1, 3, 4]
    repeated = Resize(height=2, width=4, method="nearest").forward(site, x, chip)
    assert repeated.reshape(-1).tolist() == [0, 0, 4, 4] * 2


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (AsPositions(), (4, 4), "as_positions takes (height, width, channels), got (4, 4)"),
        (AsImage(), (4,), "as_image takes (positions, channels), got (4,)"),
        (Resize(height=2, width=2), (4, 4), "resize takes (height, width, channels), got (4, 4)"),
        (TakeChannels(first=3, count=2), (2, 2, 4), "channels 3 to 4 of 4 are not there"),
        (ShuffleChannels(groups=3), (2, 2, 4), "groups 3 must divide the 4 channels"),
        (TakeFirst(), (4,), "take_first takes (positions, channels), got (4,)"),
        (ClassToken(), (4,), "class_token takes (positions, channels), got (4,)"),
    ],
    ids=lambda value: value.kind if isinstance(value, Layer) else None,
)
def test_shapes_that_do_not_fit(layer: Layer, shape: tuple[int, ...], message: str) -> None:
    """A layer says why it cannot take the tensor it is given."""
    with pytest.raises(ShapeError, match=re.escape(message)):
        layer.output_shape(Site("layer", shape))


HEAD = "name: x\ndescription: x\nbatch: 4\nepochs: 1\noptimizer: {kind: sgd}\n"
HEAD += "learning_rate: {schedule: constant, initial: 0.1}\n"
HEAD += "data: {shape: [8, 8, 4], classes: 3, samples: 8}\nnetwork:\n"
GATED = """\
  - gated:
      body: [conv2d: {channels: 6, kernel: 3}]
      gate: [average_pool, linear: {features: 6}, hard_sigmoid]
  - average_pool
  - linear: {features: 3}
"""


def written(folder: Path, network: str) -> Path:
    """A workload file with this network."""
    path = folder / "x.yaml"
    path.write_text(HEAD + network, encoding="utf-8")
    return path


def test_a_gated_block_announces_its_traffic(tmp_path: Path) -> None:
    """Both operands are read, kept and read again; the input is that of both branches."""
    program = compile_program(load_workload(written(tmp_path, GATED)), load_recipe("fp16_dlfloat"))
    forward, backward = (work for work in program.works if work.layer == "gated1")
    body, gate = 4 * 64 * 6, 4 * 6
    assert [(t.name, t.elements) for t in forward.reads] == [("gated1.body", body), ("gated1.gate", gate)]
    kept = [t for t in forward.writes if t.residence == "saved"]
    assert [t.elements for t in kept] == [body, gate]
    assert [t for t in backward.reads if t.residence == "saved"] == kept
    readers = {work.layer for work in program.works for t in work.reads if t.residence == "input"}
    assert {"conv2d1", "average_pool1"} & readers or program.works[0].gemms[0].a.residence == "input"
    assert program.inside["conv2d1"] == program.inside["linear1"] == ("gated1",)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "features: 6",
            "features: 5",
            "9:5: network[0].gated: body gives (8, 8, 6) but gate gives (5,); it",
        ),
        ("gate:", "gat:", "unknown key 'gat' (did you mean 'gate'?); allowed: body, gate"),
        (
            "      gate: [average_pool, linear: {features: 6}, hard_sigmoid]\n",
            "",
            "the key 'gate' is missing",
        ),
    ],
)
def test_mistakes_in_gated_blocks(tmp_path: Path, old: str, new: str, message: str) -> None:
    """What does not fit is told with line, column and what is allowed."""
    with pytest.raises(InputError) as mistake:
        load_workload(written(tmp_path, GATED.replace(old, new)))
    assert message in str(mistake.value)


def test_a_gate_may_stand_alone(tmp_path: Path) -> None:
    """Without a body the input itself is multiplied."""
    alone = GATED.replace("      body: [conv2d: {channels: 6, kernel: 3}]\n", "").replace("6", "4")
    network = load_workload(written(tmp_path, alone)).network
    assert network.parts[0].output_shape == (8, 8, 4)


@pytest.mark.parametrize(
    "layer",
    [RmsNorm(), Scale(), HardSwish(), Resize(height=9, width=3), Resize(height=9, width=3, method="nearest")],
    ids=settings,
)
def test_work_of_both_passes(layer: Any) -> None:
    """What waits for the backward pass is read there; results are announced with their elements."""
    site = Site("layer", (4, 6, 5))
    forward, backward = layer.work(site, 3, everywhere(QUANTISED))
    kept = [t for t in forward.writes if t.residence == "saved"]
    assert [t for t in backward.reads if t.residence == "saved"] == kept
    assert forward.writes[0].elements == 3 * int(np.prod(layer.output_shape(site)))
    assert backward.writes[0].elements == 3 * site.elements
