"""Workload files: the networks they expand to and the learning rates they ask for."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from tiny_workload import TEXT, edited, written

from accelsim.network import Conv2d, Residual
from accelsim.storage import shipped
from accelsim.workload import Workload, load_workload
from accelsim.workload.schema import Constant, Cosine, InverseSquareRoot, Linear, Step


def layer_names(workload: Workload) -> list[str]:
    """Names of all layers, in order."""
    return [leaf.site.name for leaf in workload.network.leaves()]


@pytest.mark.parametrize("name", shipped("workloads"))
def test_a_shipped_workload_loads_under_its_own_name(name: str) -> None:
    """File name and workload name agree, layer names are unique, and the file is kept word for word."""
    workload = load_workload(name)
    assert (workload.name, workload.source_name) == (name, f"{name}.yaml")
    assert f"name: {name}\n" in workload.source_text
    assert len(set(layer_names(workload))) == len(layer_names(workload))
    assert workload.network.output_shape == workload.output_shape


def test_blocks_repeats_and_residuals_are_written_out(tmp_path: Path) -> None:
    """The network is what the file says, with names, shapes, signs and who needs a gradient."""
    workload = load_workload(written(tmp_path, TEXT))
    assert layer_names(workload) == [
        "conv2d1", "relu1", "conv2d2", "relu2", "add1", "batch_norm1", "batch_norm2", "flatten1", "linear1",
    ]  # fmt: skip
    leaves = {leaf.site.name: leaf for leaf in workload.network.leaves()}
    first, second = leaves["conv2d1"].layer, leaves["conv2d2"].layer
    assert isinstance(first, Conv2d)
    assert isinstance(second, Conv2d)
    assert (first.channels, first.kernel, second.kernel) == (4, 3, 1)
    assert isinstance(workload.network.parts[2], Residual)
    assert leaves["linear1"].site.input_shape == (8 * 8 * 4,)
    assert [name for name in leaves if leaves[name].site.nonnegative] == ["conv2d2", "batch_norm1"]
    assert [name for name in leaves if not leaves[name].site.needs_input_gradient] == ["conv2d1"]


def test_both_branches_at_the_start_have_no_use_for_an_input_gradient(tmp_path: Path) -> None:
    """The first layers of a body and of its shortcut both stand before everything trained."""
    branch = "[conv2d: {channels: 2, kernel: 1}, conv2d: {channels: 2, kernel: 1}]"
    path = edited(tmp_path, "  - block: {use: pair, width: 4}\n  - residual:\n      body:\n",
                  f"  - residual: {{body: {branch}, shortcut: {branch}}}\n"
                  "  - conv2d: {channels: 4, kernel: 1}\n  - residual:\n      body:\n")  # fmt: skip
    leaves = list(load_workload(path).network.leaves())
    assert [leaf.site.name for leaf in leaves if not leaf.site.needs_input_gradient] == ["conv2d1", "conv2d3"]


def test_values_pass_through_nested_blocks(tmp_path: Path) -> None:
    """A block hands its own parameters on to the blocks it uses, and a parameter can name a block."""
    outer = "  outer:\n    parameters: {w: null, inner: pair, n: 2}\n    layers:\n" \
            "      - repeat: {times: $n, layers: [block: {use: $inner, width: $w, kernel: 1}]}\n"  # fmt: skip
    text = TEXT.replace("network:\n", f"{outer}network:\n  - block: {{use: outer, w: 6}}\n")
    convolutions = [leaf.layer for leaf in load_workload(written(tmp_path, text)).network.leaves()]
    widths = [layer.channels for layer in convolutions if isinstance(layer, Conv2d)]
    assert widths == [6, 6, 4, 4]


def test_numbered_names_leave_given_names_alone(tmp_path: Path) -> None:
    """A layer without a name takes the next number that no earlier layer was given by hand."""
    path = edited(
        tmp_path,
        "  - flatten\n",
        "  - relu: {name: batch_norm4}\n  - batch_norm\n  - batch_norm\n  - flatten\n",
    )
    assert layer_names(load_workload(path))[5:10] == [
        "batch_norm1", "batch_norm2", "batch_norm4", "batch_norm3", "batch_norm5",
    ]  # fmt: skip


def test_an_empty_shortcut_is_the_identity_and_zero_repeats_are_none(tmp_path: Path) -> None:
    """What is there zero times adds no layer."""
    path = edited(tmp_path, "      times: 2\n", "      times: 0\n")
    assert "batch_norm1" not in layer_names(load_workload(path))
    path = edited(tmp_path, "  - residual:\n", "  - residual:\n      shortcut: []\n")
    assert len(layer_names(load_workload(path))) == 9


def test_constant_rate_is_constant() -> None:
    """The same at the start and the end."""
    schedule = Constant(schedule="constant", initial=0.3)
    assert {schedule.at(epoch / 7, 3) for epoch in range(21)} == {0.3}


def test_step_rate_falls_after_each_milestone() -> None:
    """The factor applies from the milestone's first step on, once for each milestone passed."""
    schedule = Step(schedule="step", initial=1.0, factor=0.5, milestones=(2, 5))
    assert [schedule.at(epoch, 8) for epoch in (0, 1.99, 2, 4.9, 5, 7)] == [1.0, 1.0, 0.5, 0.5, 0.25, 0.25]


def test_cosine_rate_is_half_a_cosine() -> None:
    """From ``initial`` to ``final``, as the host's own cosine has it to the last bits."""
    schedule = Cosine(schedule="cosine", initial=0.8, final=0.2)
    for epoch in np.linspace(0, 10, 101):
        expected = 0.2 + 0.6 * (1 + math.cos(math.pi * epoch / 10)) / 2
        assert schedule.at(float(epoch), 10) == pytest.approx(expected, abs=1e-15)
    assert schedule.at(0, 10) == 0.8
    assert schedule.at(10, 10) == pytest.approx(0.2)


def test_warmup_rises_without_a_jump() -> None:
    """A straight line from a tenth of the initial rate, never above it, to where the cosine starts."""
    schedule = Cosine(schedule="cosine", initial=0.5, warmup_epochs=2)
    rates = [schedule.at(epoch, 10) for epoch in np.linspace(0, 10, 4001)[:-1]]
    assert rates[0] == pytest.approx(0.05)
    assert rates[400] == pytest.approx(0.05 + 0.45 / 2)
    assert max(rates) == rates[800] == 0.5
    assert max(abs(np.diff(rates))) < 1e-3
    assert all(np.diff(rates[:801]) > 0)
    assert all(np.diff(rates[800:]) < 0)
    assert min(rates) > 0


def test_warmup_longer_than_the_run_only_rises() -> None:
    """A short trial of a long schedule stays in its warm-up."""
    schedule = Cosine(schedule="cosine", initial=1.0, warmup_epochs=5)
    assert [schedule.at(epoch, 1) for epoch in (0, 0.5)] == pytest.approx([0.1, 0.19])


def test_linear_rate_is_a_straight_line_after_its_warmup() -> None:
    """From ``initial`` to ``final``; the warm-up rises to where the line begins."""
    schedule = Linear(schedule="linear", initial=0.8, final=0.2, warmup_epochs=2)
    assert [schedule.at(epoch, 8) for epoch in (2, 5, 8)] == pytest.approx([0.8, 0.5, 0.2])
    assert [schedule.at(epoch, 8) for epoch in (0, 1)] == pytest.approx([0.08, 0.44])


def test_inverse_square_root_rate_peaks_at_the_end_of_the_warmup() -> None:
    """Four times the warm-up halves the rate, whatever the length of the run."""
    schedule = InverseSquareRoot(schedule="inverse_sqrt", initial=0.6, warmup_epochs=2)
    assert [schedule.at(epoch, 40) for epoch in (0, 1, 2, 8, 32)] == pytest.approx(
        [0.06, 0.33, 0.6, 0.3, 0.15]
    )
