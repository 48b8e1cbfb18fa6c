"""Workload files: what they expand to, and that every mistake is one line that points at its place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelsim.errors import InputError
from accelsim.network import Conv2d, Residual
from accelsim.storage import shipped
from accelsim.workload import Workload, load_workload
from accelsim.workload.schema import Constant, Cosine, Step

TEXT = """\
name: tiny
description: A tiny network
data: digits8x8
batch: 10
epochs: 4
normalise: {mean: 0.5, deviation: 0.25}
optimizer: {kind: sgd}
learning_rate: {schedule: constant, initial: 0.1}
blocks:
  pair:
    parameters: {width: null, kernel: 3}
    layers:
      - conv2d: {channels: $width, kernel: $kernel}
      - relu
network:
  - block: {use: pair, width: 4}
  - residual:
      body:
        - block: {use: pair, width: 4, kernel: 1}
  - repeat:
      times: 2
      layers:
        - batch_norm
  - flatten
  - linear: {features: 10}
"""


def written(tmp_path: Path, text: str) -> Path:
    """A workload file of that text."""
    path = tmp_path / "tiny.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """The tiny workload with the first occurrence of a text replaced."""
    assert old in TEXT
    return written(tmp_path, TEXT.replace(old, new, 1))


def complaint(path: Path) -> str:
    """The one line that loading the file ends in, from the line number on."""
    with pytest.raises(InputError) as caught:
        load_workload(path)
    text = str(caught.value)
    assert text.splitlines() == [text]
    assert text.isprintable()
    return text.removeprefix(f"{path}:")


def names(workload: Workload) -> list[str]:
    """Names of all layers, in order."""
    return [leaf.site.name for leaf in workload.network.leaves()]


@pytest.mark.parametrize("name", shipped("workloads"))
def test_a_shipped_workload_loads_under_its_own_name(name: str) -> None:
    """File name and workload name agree, layer names are unique, and the file is kept word for word."""
    workload = load_workload(name)
    assert (workload.name, workload.source_name) == (name, f"{name}.yaml")
    assert f"name: {name}\n" in workload.source_text
    assert len(set(names(workload))) == len(names(workload))
    assert workload.network.output_shape == (workload.classes,)


def test_blocks_repeats_and_residuals_are_written_out(tmp_path: Path) -> None:
    """The network is what the file says, with names, shapes, signs and who needs a gradient."""
    workload = load_workload(written(tmp_path, TEXT))
    assert names(workload) == [
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
    assert names(load_workload(path))[5:10] == [
        "batch_norm1", "batch_norm2", "batch_norm4", "batch_norm3", "batch_norm5",
    ]  # fmt: skip


def test_an_empty_shortcut_is_the_identity_and_zero_repeats_are_none(tmp_path: Path) -> None:
    """What is there zero times adds no layer."""
    path = edited(tmp_path, "      times: 2\n", "      times: 0\n")
    assert "batch_norm1" not in names(load_workload(path))
    path = edited(tmp_path, "  - residual:\n", "  - residual:\n      shortcut: []\n")
    assert len(names(load_workload(path))) == 9


KINDS = "average_pool, batch_norm, block, conv2d, flatten, linear, max_pool, relu, repeat, residual"
USE = "  - block: {use: pair, width: 4}\n"
MISTAKES = [
    # the keys of the file
    ("batch: 10", "batch: 0", "4:1: batch: must be at least 1, got 0"),
    ("batch: 10", "batch: '10'", "4:1: batch: must be a whole number, got '10'; remove the quotes"),
    ("batch: 10", "bach: 10", "4:1: unknown key 'bach' (did you mean 'batch'?); allowed: name, description"),
    ("epochs: 4\n", "", "1:1: missing key 'epochs'"),
    ("{kind: sgd}", "{kind: sdg}", "7:1: optimizer: unknown kind 'sdg' (did you mean 'sgd'?); allowed: sgd, adam"),
    ("initial: 0.1", "initial: 0", "8:40: learning_rate.initial: must be above 0, got 0"),
    (
        "schedule: constant",
        "schedule: step, milestones: [2, 0]",
        "8:48: learning_rate.milestones[1]: must be at least 1, got 0",
    ),
    (
        "{width: null, kernel: 3}",
        "{use: 3}",
        "11:5: blocks.pair.parameters: a parameter cannot be called 'use': that key names the block",
    ),
    # data
    ("digits8x8", "digits8x9", "3:1: data: unknown data set 'digits8x9' (did you mean 'digits8x8'?); allowed: digits8x8"),
    ("digits8x8", "no.npz", "3:1: data: no such file: '{folder}/no.npz'"),
    ("digits8x8", '"a\\0b.npz"', "3:1: data: no such file: '{folder}/a\\x00b.npz'"),
    ("digits8x8", "x" * 300 + ".npz", "3:1: data: no such file: '{folder}/xxx"),
    ("digits8x8", '"a\\nb"', "3:1: data: unknown data set 'a\\nb'; allowed: "),
    # the list of layers
    ("  - flatten\n", "  - flaten\n", f"24:5: unknown layer 'flaten' (did you mean 'flatten'?); allowed: {KINDS}"),
    ("  - flatten\n", '  - "a\\nb"\n', f"24:5: unknown layer 'a\\nb'; allowed: {KINDS}"),
    ("  - flatten\n", "  - 7\n", "24:5: network[3]: must be a layer: a kind, or one 'kind: {settings}', got 7"),
    ("  - flatten\n", "  -\n", "network[3]: must be a layer: a kind, or one 'kind: {settings}', got null"),
    ("  - flatten\n", "  - {relu: {}, flatten: {}}\n", "24:5: network[3]: must be a layer: a kind, or one"),
    ("  - flatten\n", "  - flatten: true\n", "24:5: network[3].flatten: must be a mapping of settings, got true"),
    ("      body:\n", "      body: 3\n      bodi:\n", "19:7: unknown key 'bodi' (did you mean 'body'?); allowed: body, shortcut"),
    ("      body:\n", "      shortcut:\n", "17:5: network[1].residual: the key 'body' is missing"),
    ("  - residual:\n", "  - residual: {body: []}\n  - residual:\n", "17:16: network[1].residual.body: must have at least one layer"),
    ("  - residual:\n", "  - residual: {body: relu}\n  - residual:\n", "17:16: network[1].residual.body: must be a list of layers, got 'relu'"),
    ("  - residual:\n", "  - residual:\n      shortcut:\n", "18:7: network[1].residual.shortcut: must be a list of layers, got null"),
    ("times: 2", "times: -1", "21:7: network[2].repeat.times: must be a whole number from 0 to 5000, got -1"),
    ("times: 2", "times: true", "21:7: network[2].repeat.times: must be a whole number from 0 to 5000, got true"),
    ("times: 2", "times: 5001", "21:7: network[2].repeat.times: must be a whole number from 0 to 5000, got 5001"),
    ("      times: 2\n", "", "20:5: network[2].repeat: the key 'times' is missing"),
    ("times: 2", "time: 2", "21:7: unknown key 'time' (did you mean 'times'?); allowed: layers, times"),
    ("times: 2", "times: $n", "21:7: network[2].repeat.times: unknown parameter '$n': this is not inside a block"),
    # blocks
    (USE, "  - block\n", "16:5: network[0]: the key 'use' must name a block"),
    ("use: pair", "use: 3", "16:5: network[0].block: the key 'use' must name a block"),
    ("use: pair", "use: par", "16:13: unknown block 'par' (did you mean 'pair'?); allowed: pair"),
    (", width: 4}", "}", "16:5: network[0].block: block 'pair' needs a value for 'width'"),
    (", width: 4}", ", width:}", "16:5: network[0].block: block 'pair' needs a value for 'width'"),
    (", width: 4}", ", widht: 4}", "16:24: unknown parameter of block 'pair' 'widht' (did you mean 'width'?); allowed: kernel, width"),
    ("$kernel", "$kern", "13:35: blocks.pair.layers[0].conv2d.kernel: unknown parameter '$kern' (did you mean 'kernel'?); allowed: $width, $kernel"),
    ("{width: null, kernel: 3}", "{}", "16:24: unknown parameter of block 'pair' 'width'; allowed: "),
    ("      - relu\n", "      - relu: {name: $}\n", "14:16: blocks.pair.layers[1].relu.name: unknown parameter '$'; allowed: $width, $kernel"),
    (USE, USE + "  - relu: {name: $width}\n", "17:12: network[1].relu.name: unknown parameter '$width': this is not inside a block"),
    (
        "      - relu\n",
        "      - block: {use: pair, width: $width}\n",
        "14:9: blocks.pair.layers[1].block: nested deeper",
    ),
    # settings of a layer, and of a layer of a block
    ("{features: 10}", "{features: 10.0}", "25:14: network[4].linear: features: must be a whole number, got 10.0; write 10"),
    ("{features: 10}", "{features: true}", "25:14: network[4].linear: features: must be a whole number, got true"),
    ("{features: 10}", "{}", "25:5: network[4].linear: missing key 'features' (output features)"),
    ("{features: 10}", "{features: 10, bais: true}", "25:28: network[4].linear: unknown key 'bais' (did you mean 'bias'?); allowed: name, bias"),
    ("{features: 10}", "{features: 10, name: a b}", "25:28: network[4].linear: name: must match ^[A-Za-z0-9_.-]+$, got 'a b'"),
    ("{features: 10}", "{features: 10, name: loss}", "25:28: network[4].linear: name: 'loss' is the name of the loss itself"),
    ("{features: 10}", "{features: 10, name: relu1}", "25:28: network[4].linear: name: another layer is named 'relu1' already"),
    (
        "      - relu\n",
        "      - relu: {name: twice}\n",
        "14:16: blocks.pair.layers[1].relu: name: another layer is named 'twice' already (in the block used on line 19)",
    ),
    (
        "width: 4}",
        "width: 0}",
        "16:24: blocks.pair.layers[0].conv2d: channels: must be at least 1, got 0 (in the block used on line 16)",
    ),
    (
        "width: 4}",
        "width: [4]}",
        "16:24: blocks.pair.layers[0].conv2d: channels: must be a whole number, got a list (in the block used on line 16)",
    ),
    (
        "kernel: 3}",
        "kernel: wide}",
        "11:31: blocks.pair.layers[0].conv2d: kernel: must be a whole number, got 'wide' (in the block used on line 16)",
    ),
    # shapes
    ("  - flatten\n", "", "24:5: network[3].linear: linear takes (features,), got (8, 8, 4); put 'flatten' before it"),
    (
        "kernel: 1}",
        "kernel: 2}",
        "17:5: network[1].residual: body gives (9, 9, 4) but shortcut gives (8, 8, 4); they must be equal",
    ),
    (
        "kernel: $kernel}",
        "kernel: $kernel, groups: 2}",
        "13:9: blocks.pair.layers[0].conv2d: groups 2 must divide the 1 input and 4 output channels "
        "(in the block used on line 16)",
    ),
    ("features: 10", "features: 9", "15:1: network: ends in (9,), but the data has 10 classes: (10,)"),
    ("  - linear: {features: 10}\n", "", "15:1: network: ends in (256,), but the data has 10 classes: (10,)"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "message"), MISTAKES, ids=[message for _, _, message in MISTAKES])
def test_mistake_is_one_line_that_points_at_its_place(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """Line, column, key, value given and what is allowed, in the words a person reads."""
    found = complaint(edited(tmp_path, old, new))
    assert message.replace("{folder}", str(tmp_path.resolve())) in found


def test_a_network_without_gemm_is_refused(tmp_path: Path) -> None:
    """A network that never uses the MAC array is no workload."""
    own = tmp_path / "own.npz"
    y = np.arange(4) % 3
    np.savez(
        own,
        train_x=np.zeros((4, 2, 2, 3), np.uint8),
        train_y=y,
        test_x=np.zeros((4, 2, 2, 3), np.uint8),
        test_y=y,
    )
    head = TEXT.split("blocks:")[0].replace("digits8x8", "own.npz")
    path = written(tmp_path, f"{head}network: [average_pool]\n")
    assert complaint(path) == "9:1: network: has no linear or conv2d layer"
    path = written(tmp_path, f"{head}network: [average_pool, linear: {{features: 3}}]\n")
    assert load_workload(path).data == str(own.resolve())


def test_data_that_is_no_data_set_names_the_data_file(tmp_path: Path) -> None:
    """A file that is there but is not an .npz is reported under its own name."""
    (tmp_path / "own.npz").write_text("hello")
    with pytest.raises(InputError, match=r"own\.npz: not an \.npz file of plain arrays"):
        load_workload(edited(tmp_path, "digits8x8", "own.npz"))


def test_huge_networks_are_refused_at_once(tmp_path: Path) -> None:
    """Repeats within repeats, empty ones too, end at the limit and not when memory does."""
    nested = "relu"
    for _ in range(6):
        nested = f"repeat: {{times: 5000, layers: [{nested}]}}"
    text = f"{TEXT.split('network:')[0]}network:\n  - {nested}\n"
    assert "more than 5000 items when blocks and repeats are written out" in complaint(
        written(tmp_path, text)
    )
    text = text.replace("[relu]", "[]")
    assert complaint(written(tmp_path, text)).endswith("layers: must have at least one layer")


def test_many_layers_load_in_reasonable_time(tmp_path: Path) -> None:
    """A network near the limit is only a long list."""
    path = edited(tmp_path, "times: 2", "times: 4000")
    assert len(names(load_workload(path))) == 4007


def test_block_that_uses_itself_twice_is_refused_at_once(tmp_path: Path) -> None:
    """The depth is bounded before the number of layers doubles at every level."""
    twice = "      - block: {use: pair, width: $width}\n" * 2
    text = TEXT.replace("      - relu\n", twice).replace(
        "      - conv2d: {channels: $width, kernel: $kernel}\n", ""
    )
    assert complaint(written(tmp_path, text)).endswith(
        "nested deeper than 20 levels; does a block use itself?"
    )


def test_adjusted_changes_only_what_is_given(tmp_path: Path) -> None:
    """Batch, epochs and seed of a run can differ from the file's; senseless ones are refused by name."""
    workload = load_workload(written(tmp_path, TEXT))
    assert workload.adjusted() == workload
    changed = workload.adjusted(batch=3, epochs=2, seed=0)
    assert (changed.batch, changed.epochs, changed.seed) == (3, 2, 0)
    assert changed.network is workload.network
    for key, value, least in (("batch", 0, 1), ("epochs", 0, 1), ("seed", -1, 0)):
        with pytest.raises(InputError, match=f"^{key}: must be at least {least}, got {value}$"):
            workload.adjusted(**{key: value})


def test_unknown_workload_names_the_nearest() -> None:
    """A misspelt name of a shipped workload is corrected."""
    with pytest.raises(InputError, match=r"unknown workload 'fashion_cn' \(did you mean 'fashion_cnn'\?\)"):
        load_workload("fashion_cn")


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
    assert (schedule.at(0, 10), schedule.at(10, 10)) == (0.8, pytest.approx(0.2))


def test_warmup_rises_without_a_jump() -> None:
    """A straight line from a tenth of the initial rate, which it never exceeds, to where the cosine starts."""
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


ODD_VALUES: list[Any] = [
    "7", "text", "''", "true", "null", "-1", "0", "1.5", "1e30", "99999999999999999999999999", "[]", "[1, [2]]",
    "{}", "{a: {b: 1}}", "$width", "$nothing", "'$'", '"a\\nb"', '"\\0"', '"\\ud800"', '"\\u2028"', "[$width]",
    "{use: pair}", "block", "[block]", "[[]]", "[null]", "[{}]", "[{relu: 3}]", "[{linear: {features: '1'}}]",
]  # fmt: skip


def places(text: str) -> list[tuple[int, int]]:
    """(start, end) of every value in the text: what stands after a ``: `` or a ``- ``."""
    found = []
    for start in range(len(text)):
        if text[:start].endswith((": ", "- ")):
            end = start
            while text[end] not in ",}\n" or text[start:end].count("{") > text[start : end + 1].count("}"):
                end += 1
            found.append((start, end))
    return found


@pytest.mark.parametrize("value", ODD_VALUES)
def test_any_value_anywhere_loads_or_is_one_line(tmp_path: Path, value: str) -> None:
    """Wrong types in every place of the file end in an `InputError` of one line and nothing else."""
    assert len(places(TEXT)) > 25
    for start, end in places(TEXT):
        path = written(tmp_path, TEXT[:start] + value + TEXT[end:])
        try:
            load_workload(path)
        except InputError as error:
            assert str(error).splitlines() == [str(error)]
            assert str(error).isprintable()
            assert str(error).startswith(str(tmp_path))


@pytest.mark.parametrize("start", range(8))
def test_any_line_left_out_loads_or_is_one_line(tmp_path: Path, start: int) -> None:
    """Files with lines missing or moved end in one line too."""
    lines = TEXT.splitlines(keepends=True)
    random = np.random.default_rng(start)
    for _ in range(60):
        kept = [line for line in lines if random.random() > 0.08]
        i, j = random.integers(0, len(kept), 2)
        kept[i], kept[j] = (kept[j], kept[i]) if random.random() < 0.5 else (kept[i], kept[j])
        try:
            load_workload(written(tmp_path, "".join(kept)))
        except InputError as error:
            assert str(error).splitlines() == [str(error)]
