"""Closed forms of other simulators against slow walks over their folds, and against their printed figures."""

from __future__ import annotations

import json
from itertools import product

import pytest

from accelsim.cli.main import main
from accelsim.mapping.conventions import Convention, convention_cycles
from accelsim.mapping.passes import ArrayShape, Share, input_stationary, weight_stationary
from accelsim.mapping.plan import Dataflow

DATAFLOWS: tuple[Dataflow, ...] = ("output_stationary", "weight_stationary", "input_stationary")


def walked(convention: Convention, m: int, k: int, n: int, rows: int, cols: int, dataflow: Dataflow) -> int:
    """The same by going through the folds one by one."""
    down, across, stream = {
        "output_stationary": (m, n, k),
        "weight_stationary": (k, n, m),
        "input_stationary": (k, m, n),
    }[dataflow]
    total = 0
    for top in range(0, down, rows):
        for left in range(0, across, cols):
            used = min(rows, down - top), min(cols, across - left)
            if convention == "ideal":
                total += stream
            elif convention == "stonne":
                total += used[0] + used[1] + stream + 3
            else:
                loading = 0 if dataflow == "output_stationary" else rows
                total += loading + stream + (rows - 1) + (cols - 1)
    return total - (convention == "scalesim_printed")


@pytest.mark.parametrize("convention", ["scalesim", "scalesim_printed", "stonne", "ideal"])
def test_closed_forms_equal_a_walk_over_the_folds(convention: Convention) -> None:
    """Every small shape, ragged ones too, in every dataflow."""
    for m, k, n in product((1, 3, 4, 7), (1, 4, 9), (1, 5, 8)):
        for rows, cols, dataflow in product((1, 4), (1, 3, 5), DATAFLOWS):
            found = convention_cycles(convention, m, k, n, rows=rows, cols=cols, dataflow=dataflow)
            assert found == walked(convention, m, k, n, rows, cols, dataflow), (m, k, n, rows, cols, dataflow)


def test_a_layer_that_scale_sim_was_run_on() -> None:
    """784 x 512, batch 128, on 32 x 32: forward and weight gradient, as version 3 of the program counts."""
    sizes = {"forward": (128, 784, 512), "update": (784, 128, 512)}
    counted = {
        ("forward", "output_stationary"): 54_144,
        ("forward", "input_stationary"): 60_600,
        ("forward", "weight_stationary"): 88_800,
        ("update", "weight_stationary"): 56_192,
        ("update", "input_stationary"): 60_600,
        ("update", "output_stationary"): 76_000,
    }
    for (phase, dataflow), cycles in counted.items():
        m, k, n = sizes[phase]
        assert convention_cycles("scalesim", m, k, n, rows=32, cols=32, dataflow=dataflow) == cycles  # type: ignore[arg-type]


def test_our_unpipelined_stationary_passes_are_scale_sims() -> None:
    """Without overlap of folds, our own counts of weight and input stationary are the same to the cycle."""
    for m, k, n in ((7, 9, 5), (128, 784, 512), (1, 1, 1)):
        array = ArrayShape(rows=8, cols=4, simd=1, lanes=1, chunk=8, pipelined=False)
        share = Share(m, k, n, 1)
        for count, dataflow in ((weight_stationary, DATAFLOWS[1]), (input_stationary, DATAFLOWS[2])):
            theirs = convention_cycles("scalesim", m, k, n, rows=8, cols=4, dataflow=dataflow)
            assert count(share, array).array_cycles == theirs


def test_a_chip_for_inference_has_a_forward_pass(capsys: pytest.CaptureFixture[str]) -> None:
    """Its gradients have no mode, so the phase is chosen; the rows are those of that phase alone."""
    words = ["cycles", "tpu_v1", "alexnet_imagenet"]
    assert main(words) == 2
    told = capsys.readouterr().err
    assert "has no mode that multiplies uint8 x bf16; its modes take: int8 x int8, uint8 x int8" in told
    assert told.endswith("; choose another --recipe or --phase\n")
    assert main([*words, "--phase", "forward", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert {row["phase"] for row in rows} == {"forward"}
    assert (
        sum(row["our_cycles"]["weight_stationary"] for row in rows[:-1])
        == (rows[-1]["our_cycles"]["weight_stationary"])
    )


def test_an_empty_product_takes_no_time() -> None:
    """A dimension of 0 is no fold at all."""
    assert convention_cycles("scalesim", 0, 4, 4, rows=2, cols=2, dataflow="output_stationary") == 0
