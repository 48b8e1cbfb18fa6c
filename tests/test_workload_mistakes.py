"""Mistakes in workload files: each ends in one line that points at its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tiny_workload import TEXT, complaint, edited, written

from accelsim.errors import InputError
from accelsim.network import LAYERS
from accelsim.workload import load_workload
from accelsim.workload.datasets import NpzData

KINDS = ", ".join(sorted([*LAYERS, "block", "concat", "encoder_decoder", "gated", "repeat", "residual"]))
USE = "  - block: {use: pair, width: 4}\n"
MISTAKES = [
    # the keys of the file
    ("batch: 10", "batch: 0", "4:1: batch: must be at least 1, got 0"),
    ("batch: 10", "batch: '10'", "4:1: batch: must be a whole number, got '10'; remove the quotes"),
    ("batch: 10", "bach: 10", "4:1: unknown key 'bach' (did you mean 'batch'?); allowed: name, description"),
    ("epochs: 4\n", "", "1:1: missing key 'epochs'"),
    (
        "{kind: sgd}",
        "{kind: sdg}",
        "7:1: optimizer: unknown 'kind' 'sdg' (did you mean 'sgd'?); allowed: sgd, adam",
    ),
    ("initial: 0.1", "initial: 0", "8:37: learning_rate.initial: must be above 0, got 0"),
    (
        "schedule: constant",
        "schedule: step, milestones: [2, 0]",
        "8:49: learning_rate.milestones[1]: must be at least 1, got 0",
    ),
    (
        "{width: null, kernel: 3}",
        "{use: 3}",
        "11:5: blocks.pair.parameters: a parameter cannot be called 'use': that key names the block",
    ),
    # data
    (
        "digits8x8",
        "digits8x9",
        "3:1: data: unknown data set 'digits8x9' (did you mean 'digits8x8'?); allowed: asterisk",
    ),
    ("digits8x8", "no.npz", "3:1: data: no such file: '{folder}/no.npz'"),
    ("digits8x8", '"a\\0b.npz"', "3:1: data: no such file: '{folder}/a\\x00b.npz'"),
    ("digits8x8", "x" * 300 + ".npz", "3:1: data: no such file: '{folder}/xxx"),
    ("digits8x8", '"a\\nb"', "3:1: data: unknown data set 'a\\nb'; allowed: "),
    # the list of layers
    (
        "  - flatten\n",
        "  - flaten\n",
        f"24:5: unknown layer 'flaten' (did you mean 'flatten'?); allowed: {KINDS}",
    ),
    ("  - flatten\n", '  - "a\\nb"\n', f"24:5: unknown layer 'a\\nb'; allowed: {KINDS}"),
    (
        "  - flatten\n",
        "  - 7\n",
        "24:5: network[3]: must be a layer: a kind, or one 'kind: {settings}', got 7",
    ),
    ("  - flatten\n", "  -\n", "network[3]: must be a layer: a kind, or one 'kind: {settings}', got null"),
    ("  - flatten\n", "  - {relu: {}, flatten: {}}\n", "24:5: network[3]: must be a layer: a kind, or one"),
    (
        "  - flatten\n",
        "  - flatten: true\n",
        "24:5: network[3].flatten: must be a mapping of settings, got true",
    ),
    (
        "  - flatten\n",
        "  - concat: {branches: 3}\n",
        "24:14: network[3].concat.branches: must be a list of branches, each a list of layers, got 3",
    ),
    ("  - flatten\n", "  - concat\n", "24:5: network[3]: the key 'branches' is missing"),
    ("  - flatten\n", "  - concat: {branches: [relu]}\n", "network[3].concat.branches[0]: must be a list of"),
    (
        "  - flatten\n",
        "  - concat: {branches: [[], [flatten]]}\n",
        "24:5: network[3].concat: branches give (8, 8, 4) and (256,); all but the last axis must be equal",
    ),
    (
        "  - flatten\n",
        "  - max_pool: {size: 3, padding: 2}\n",
        "24:5: network[3].max_pool: 'padding' must be at most half of 'size' 3, got 2",
    ),
    (
        "  - flatten\n",
        "  - max_pool: {size: [3, 2], stride: 1, padding: [1, 1, 1]}\n",
        "24:41: network[3].max_pool: padding: must be one number, [down, across] or [top",
    ),
    (
        "  - flatten\n",
        "  - conv2d: {channels: 2, kernel: [3, 0]}\n",
        "24:27: network[3].conv2d: kernel[1]: must be at least 1, got 0",
    ),
    (
        "  - flatten\n",
        "  - conv2d: {channels: 2, kernel: [3]}\n",
        "24:27: network[3].conv2d: kernel: too few items: item 2 is missing",
    ),
    (
        "  - flatten\n",
        "  - conv2d: {channels: 2, kernel: 3, stride: [1, 1, 1]}\n",
        "24:38: network[3].conv2d: stride: must be a list of 2 items, got 3",
    ),
    (
        "  - flatten\n",
        "  - conv2d: {channels: 2, kernel: [9, 3], padding: [0, 1]}\n",
        "24:5: network[3].conv2d: kernel 9 x 3 does not fit in the padded input (8, 8, 4)",
    ),
    (
        "  - flatten\n",
        "  - average_pool: {count_padding: true}\n",
        "24:5: network[3].average_pool: 'count_padding' needs 'size': without it the window is",
    ),
    (
        "      body:\n",
        "      body: 3\n      bodi:\n",
        "19:7: unknown key 'bodi' (did you mean 'body'?); allowed: body, shortcut",
    ),
    ("      body:\n", "      shortcut:\n", "17:5: network[1].residual: the key 'body' is missing"),
    (
        "  - residual:\n",
        "  - residual: {body: []}\n  - residual:\n",
        "17:16: network[1].residual.body: must have at least one layer",
    ),
    (
        "  - residual:\n",
        "  - residual: {body: relu}\n  - residual:\n",
        "17:16: network[1].residual.body: must be a list of layers, got 'relu'",
    ),
    (
        "  - residual:\n",
        "  - residual:\n      shortcut:\n",
        "18:7: network[1].residual.shortcut: must be a list of layers, got null",
    ),
    ("times: 2", "times: -1", "21:7: network[2].repeat.times: must be a whole number from 0 to 5000, got -1"),
    (
        "times: 2",
        "times: true",
        "21:7: network[2].repeat.times: must be a whole number from 0 to 5000, got true",
    ),
    (
        "times: 2",
        "times: 5001",
        "21:7: network[2].repeat.times: must be a whole number from 0 to 5000, got 5001",
    ),
    ("      times: 2\n", "", "20:5: network[2].repeat: the key 'times' is missing"),
    ("times: 2", "time: 2", "21:7: unknown key 'time' (did you mean 'times'?); allowed: layers, times"),
    (
        "times: 2",
        "times: $n",
        "21:7: network[2].repeat.times: unknown parameter '$n': this is not inside a block",
    ),
    # blocks
    (USE, "  - block\n", "16:5: network[0]: the key 'use' must name a block"),
    ("use: pair", "use: 3", "16:5: network[0].block: the key 'use' must name a block"),
    ("use: pair", "use: par", "16:13: unknown block 'par' (did you mean 'pair'?); allowed: pair"),
    (", width: 4}", "}", "16:5: network[0].block: block 'pair' needs a value for 'width'"),
    (", width: 4}", ", width:}", "16:5: network[0].block: block 'pair' needs a value for 'width'"),
    (
        ", width: 4}",
        ", widht: 4}",
        "16:24: unknown parameter of block 'pair' 'widht' (did you mean 'width'?); allowed: kernel, width",
    ),
    (
        "$kernel",
        "$kern",
        "13:36: blocks.pair.layers[0].conv2d.kernel: unknown parameter '$kern' (did you mean "
        "'kernel'?); allowed: $width, $kernel",
    ),
    ("{width: null, kernel: 3}", "{}", "16:24: unknown parameter of block 'pair' 'width'; allowed: "),
    (
        "      - relu\n",
        "      - relu: {name: $}\n",
        "14:16: blocks.pair.layers[1].relu.name: unknown parameter '$'; allowed: $width, $kernel",
    ),
    (
        USE,
        USE + "  - relu: {name: $width}\n",
        "17:12: network[1].relu.name: unknown parameter '$width': this is not inside a block",
    ),
    (
        "      - relu\n",
        "      - block: {use: pair, width: $width}\n",
        "12:5: blocks.pair.layers: nested deeper than 20 levels; does a block use itself?",
    ),
    # settings of a layer, and of a layer of a block
    (
        "{features: 10}",
        "{features: 10.0}",
        "25:14: network[4].linear: features: must be a whole number, got 10.0; write 10",
    ),
    (
        "{features: 10}",
        "{features: true}",
        "25:14: network[4].linear: features: must be a whole number, got true",
    ),
    ("{features: 10}", "{}", "25:5: network[4].linear: missing key 'features' (output features)"),
    (
        "{features: 10}",
        "{features: 10, bais: true}",
        "25:28: network[4].linear: unknown key 'bais' (did you mean 'bias'?); allowed: name, precision, bias",
    ),
    (
        "{features: 10}",
        "{features: 10, name: a b}",
        "25:28: network[4].linear: name: must match ^[A-Za-z0-9_.-]+$, got 'a b'",
    ),
    (
        "{features: 10}",
        "{features: 10, name: loss}",
        "25:28: network[4].linear: name: 'loss' is the name of the loss itself",
    ),
    (
        "{features: 10}",
        "{features: 10, name: relu1}",
        "25:28: network[4].linear: name: another layer is named 'relu1' already",
    ),
    (
        "      - relu\n",
        "      - relu: {name: twice}\n",
        "14:16: blocks.pair.layers[1].relu: name: another layer is named 'twice' already (in the "
        "block used on line 19)",
    ),
    (
        "width: 4}",
        "width: 0}",
        "16:24: blocks.pair.layers[0].conv2d: channels: must be at least 1, got 0 (in the block "
        "used on line 16)",
    ),
    (
        "width: 4}",
        "width: [4]}",
        "16:24: blocks.pair.layers[0].conv2d: channels: must be a whole number, got a list (in the "
        "block used on line 16)",
    ),
    (
        "kernel: 3}",
        "kernel: wide}",
        "11:31: blocks.pair.layers[0].conv2d: kernel: must be a whole number or a list of 2 items, got "
        "'wide' (in the "
        "block used on line 16)",
    ),
    # shapes
    (
        "  - flatten\n",
        "",
        "15:1: network: ends in (8, 8, 10), but the data has 10 classes: (10,)",
    ),
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
]


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
    assert complaint(path).startswith("9:1: network: has no layer that runs on the MAC array (linear, conv2d")
    path = written(tmp_path, f"{head}network: [average_pool, linear: {{features: 3}}]\n")
    assert load_workload(path).source == NpzData(path=own.resolve())


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
    assert len(list(load_workload(path).network.leaves())) == 4007


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


ODD_VALUES = [
    "7", "text", "''", "true", "null", "-1", "0", "1.5", "1e30", "99999999999999999999999999", "[]", "{}",
    "[1, [2]]", "{a: {b: 1}}", "$width", "$nothing", "'$'", '"a\\nb"', '"\\0"', '"\\ud800"', '"\\u2028"',
    "[$width]", "{use: pair}", "block", "[block]", "[[]]", "[null]", "[{}]", "[{relu: 3}]",
    "[{linear: {features: '1'}}]",
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


def outcome(path: Path) -> str:
    """What loading ends in: nothing, or the text of an `InputError`; any other exception passes."""
    try:
        load_workload(path)
    except InputError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("value", ODD_VALUES)
def test_any_value_anywhere_loads_or_is_one_line(tmp_path: Path, value: str) -> None:
    """Wrong types in every place of the file end in an `InputError` of one line and nothing else."""
    assert len(places(TEXT)) > 25
    found = {outcome(written(tmp_path, TEXT[:start] + value + TEXT[end:])) for start, end in places(TEXT)}
    assert all(text.startswith(str(tmp_path)) for text in found - {""})
    assert [text for text in found if len(text.splitlines()) > 1] == []


@pytest.mark.parametrize("seed", range(8))
def test_any_lines_left_out_load_or_are_one_line(tmp_path: Path, seed: int) -> None:
    """Files with lines missing and two lines swapped end in one line too."""
    random = np.random.default_rng(seed)
    for _ in range(60):
        kept = [line for line in TEXT.splitlines(keepends=True) if random.random() > 0.08]
        i, j = random.integers(0, len(kept), 2)
        kept[i], kept[j] = kept[j], kept[i]
        assert len(outcome(written(tmp_path, "".join(kept))).splitlines()) <= 1
