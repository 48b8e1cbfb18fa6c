"""Workloads that give only the shape of their data: they are priced, and say that they cannot be trained."""

from __future__ import annotations

from pathlib import Path

import pytest
from tiny_workload import TEXT, complaint, written

import accelsim
from accelsim.errors import InputError
from accelsim.workload import load_workload

HEAD = """\
name: shapes
description: Nothing but shapes
batch: 32
epochs: 3
optimizer: {kind: sgd}
learning_rate: {schedule: constant, initial: 0.1}
"""
IMAGES = "data: {shape: [32, 32, 3], classes: 100, samples: 1281167}\n"
NETWORK = "network: [conv2d: {channels: 8, kernel: 3}, average_pool, linear: {features: 100}]\n"


def test_a_shape_is_all_an_estimate_needs(tmp_path: Path) -> None:
    """Shapes, classes and steps come from the key, and the record says that there was no data."""
    path = written(tmp_path, HEAD + IMAGES + NETWORK)
    workload = load_workload(path)
    assert (workload.input_shape, workload.data.tokens) == ((32, 32, 3), None)
    assert (workload.classes, workload.output_shape) == (100, (100,))
    record = accelsim.estimate("fp4_training", path)
    assert record.dataset is None
    assert record.steps_per_epoch == 1281167 // 32
    assert sum(layer.macs for layer in record.cost.layers if layer.phase == "forward") == 32 * (
        32 * 32 * 27 * 8 + 8 * 100
    )


def test_shapes_cost_what_data_of_that_shape_costs(tmp_path: Path) -> None:
    """The price of a step does not depend on whether there is data."""
    real = accelsim.estimate("fp4_training", written(tmp_path, TEXT))
    shape = "data: {shape: [8, 8, 1], classes: 10, samples: 1500}"
    bare = accelsim.estimate("fp4_training", written(tmp_path, TEXT.replace("data: digits8x8", shape)))
    assert bare.cost == real.cost
    assert bare.steps_per_epoch == real.steps_per_epoch


def test_a_shape_cannot_be_trained(tmp_path: Path) -> None:
    """One line, before anything is computed."""
    path = written(tmp_path, HEAD + IMAGES + NETWORK)
    with pytest.raises(
        InputError,
        match=r"^data: the workload gives only the shape of its data: it can be priced, not trained$",
    ):
        accelsim.train("fp4_training", path)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ("{shape: [32, 32, 3], classes: 100}", "7:1: data: missing key 'samples' (training samples of an"),
        ("{shape: [32, 0, 3], classes: 9, samples: 9}", "7:20: data: shape[1]: must be at least 1, got 0"),
        ("{shape: [], classes: 9, samples: 9}", "7:8: data: shape: must have at least 1 item(s), got 0"),
        ("{shape: [3], classes: 9, sample: 9}", "7:32: data: unknown key 'sample' (did you mean 'samples'?)"),
        (
            "{shape: [3, 3], classes: 9, samples: 9, tokens: 5}",
            "data: shape of token ids must be [positions], got [3, 3]",
        ),
        ("{classes: 9}", "7:1: data: must have one of the keys shape"),
        ("3", "7:1: data: must be text or a mapping"),
        (
            "{shape: [32, 32, 3], classes: 100, samples: 64, targets: [7]}",
            "8:1: network: ends in (100,), but the data has 100 classes for each of (7,) labels: (7, 100)",
        ),
        (
            "{shape: [32], tokens: 5, classes: 100, samples: 64}",
            "8:1: network: the samples are token ids, which need an 'embedding'",
        ),
    ],
)
def test_mistakes_in_a_shape_point_at_their_place(tmp_path: Path, data: str, message: str) -> None:
    """Line, column, key and what is allowed, as everywhere in the file."""
    network = NETWORK if "[32, 32" in data else "network: [linear: {features: 100}]\n"
    assert message in complaint(written(tmp_path, f"{HEAD}data: {data}\n{network}"))


def test_numbers_need_a_rule_to_enter_by(tmp_path: Path) -> None:
    """Data of numbers without `normalise` is refused; a shape may do without."""
    text = TEXT.replace("normalise: {mean: 0.5, deviation: 0.25}\n", "")
    assert "missing key 'normalise' (mean and deviation of the samples)" in complaint(written(tmp_path, text))
