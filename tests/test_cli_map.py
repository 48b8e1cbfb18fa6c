"""The command that shows mappings: loop nests that multiply out, files that pin what was shown."""

from __future__ import annotations

import json
import re
from math import prod
from pathlib import Path

import pytest

import accelsim
from accelsim.cli import map as command
from accelsim.cli.main import main
from accelsim.errors import InputError
from accelsim.mapping import load_pins

WORDS = ["map", "fp4_training", "letters_mlp"]


def test_the_table_lists_every_gemm_of_a_step(capsys: pytest.CaptureFixture[str]) -> None:
    """Layer, phase and extents of all GEMMs, in the order of the step, with dataflow and cut."""
    assert main(WORDS) == 0
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    rows = [line for line in lines if len(line) > 9 and line[3] == line[5] == "x" and line[0] != "layer"]
    record = accelsim.estimate("fp4_training", "letters_mlp")
    expected = [(row.layer, row.phase, gemm) for row in record.cost.layers for gemm in row.gemms]
    assert [(row[0], row[1]) for row in rows] == [(layer, phase) for layer, phase, _ in expected]
    assert [int(row[4]) for row in rows] == [gemm.k for _, _, gemm in expected]
    assert [row[7] for row in rows] == [gemm.dataflow for _, _, gemm in expected]


def test_a_loop_nest_multiplies_out() -> None:
    """The loops of an array are the cycles in which it is fed; pieces and tiles cover the GEMM."""
    mapped = accelsim.map_gemms("fp4_training", "fashion_cnn")
    for each in mapped:
        loops = [loop for loop, _ in command.loop_nest(each)]
        own = [loop for loop in loops if loop.startswith("for ") and "tile" not in loop]
        counts = [int(re.search(r" in ([\d,]+)", loop)[1].replace(",", "")) for loop in own]  # type: ignore[index]
        fed = each.counts.counts.compute_cycles
        ragged = each.plan.dataflow == "output_stationary" and each.plan.k % each.plan.chunk
        assert prod(counts) >= fed if ragged else prod(counts) == fed
        (pieces,) = (loop for loop in loops if loop.startswith("in parallel"))
        assert prod(map(int, re.findall(r"\d+", pieces))) == each.plan.workers
    assert {each.plan.dataflow for each in mapped} > {"weight_stationary"}


def test_causal_products_say_that_all_is_computed(capsys: pytest.CaptureFixture[str]) -> None:
    """The mask saves no cycles, and both the table and the layer say so; another network's do not."""
    said = "Causal attention: a mask hides about half of the products, the arrays compute all of them."
    mapped = accelsim.map_gemms("fp4_training", "austen_gpt")
    (layer, *_) = [each.gemm.layer for each in mapped if each.gemm.causal]
    assert {each.gemm.part for each in mapped if each.gemm.causal and each.gemm.layer == layer} == {
        "scores", "y", "dp", "dvalue", "dquery", "dkey",
    }  # fmt: skip
    for words, times in (
        (["austen_gpt"], 1),
        (["austen_gpt", layer, "--phase", "forward"], 2),
        (WORDS[2:], 0),
    ):
        assert main(["map", "fp4_training", *words]) == 0
        assert capsys.readouterr().out.count(said) == times


def test_a_layer_is_shown_with_its_costs(capsys: pytest.CaptureFixture[str]) -> None:
    """Operands, loops, the addition of pieces of K, and totals that are those of the JSON."""
    words = [*WORDS, "classifier", "--phase", "forward"]
    assert main(words) == 0
    text = capsys.readouterr().out
    assert main([*words, "--json"]) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert text.startswith("classifier, forward: 100 x 128 x 26 (M x K x N), dlfloat16 x dlfloat16 into")
    assert "pieces of k add up in order" in text
    assert f"{found['cost']['total_cycles']:,}" in text
    assert f"{found['counts']['ring_bytes']:,} bytes" in text
    assert all(loop in text for loop in found["loop_nest"])
    assert found["plan"]["k_splits"] == 2


def test_what_is_shown_can_be_pinned(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--pin writes a file that --mapping takes, here and in an estimate, and nothing changes."""
    pins = tmp_path / "pins.yaml"
    assert main([*WORDS, "--objective", "energy", "--pin", str(pins)]) == 0
    shown = capsys.readouterr().out.removesuffix(f"Pinned: {pins}\n")
    assert main([*WORDS, "--mapping", str(pins)]) == 0
    assert capsys.readouterr().out == shown
    assert len(load_pins(pins).mappings) == 11
    pinned = accelsim.estimate("fp4_training", "letters_mlp", mapping=pins)
    assert pinned.cost == accelsim.estimate("fp4_training", "letters_mlp", objective="energy").cost


@pytest.mark.parametrize(
    ("workload", "layer"),
    [("austen_lstm", "lstm1"), ("fashion_cnn", "conv2d3"), ("austen_gpt", "attention1")],
)
def test_equal_shapes_with_unequal_plans_can_be_pinned(
    workload: str, layer: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Steps of an LSTM, classes of a strided convolution, products of an attention: each keeps its plan."""
    pins, words = tmp_path / "pins.yaml", ["map", "fp4_training", workload, layer, "--json"]
    assert main([*words, "--objective", "energy", "--pin", str(pins)]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert main([*words, "--mapping", str(pins)]) == 0
    assert json.loads(capsys.readouterr().out) == shown
    parts = [each["part"] for each in shown if each["phase"] == "backward"]
    assert len(set(parts)) == len(parts) > 1
    assert len(load_pins(pins).mappings) == len(shown)


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["linear9"], "error: unknown layer 'linear9' (did you mean 'linear3'?); allowed: "),
        (["linear1", "--phase", "backward"], "error: phase: 'linear1' has no GEMM in phase backward; "),
        (["--mapping", "gone.yaml"], "error: gone.yaml: cannot read the file"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(
    words: list[str], text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A layer that is not there, a phase it does not have, a file that is gone."""
    assert main([*WORDS, *words]) == 2
    found = capsys.readouterr().err
    assert found.startswith(text)
    assert found.count("\n") == 1


def test_one_array_is_spoken_of_in_the_singular(capsys: pytest.CaptureFixture[str]) -> None:
    """A chip of one array splits nothing, in both commands that show plans."""
    assert main(["gemm", "tpu_v1", "4", "9", "5"]) == 0
    assert "weight_stationary, one array of 256 x 256 PEs" in capsys.readouterr().out
    assert main(["map", "gupta2015", "letters_mlp", "linear1", "--phase", "forward"]) == 0
    assert re.search(r"in parallel m 1 x n 1 x groups 1 x k 1 +1 of 1 array$", capsys.readouterr().out, re.M)


def test_an_unknown_phase_is_told() -> None:
    """From a program as from the command line."""
    with pytest.raises(InputError, match=r"^unknown phase 'wgrad'; allowed: backward, forward, update$"):
        accelsim.map_gemms("fp4_training", "letters_mlp", phase="wgrad")
