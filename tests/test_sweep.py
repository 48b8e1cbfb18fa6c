"""Sweeps: every combination is the estimate of that chip, the best are best, mistakes are told."""

from __future__ import annotations

import csv
import io
import json
from itertools import product
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, tuples

import accelsim
from accelsim.chip import load_chip
from accelsim.cli.main import main
from accelsim.errors import InputError
from accelsim.report.readings import read_off
from accelsim.study.sweep import DesignPoint, Figures, axis_of, points_csv, sweep, with_best
from accelsim.study.sweep_figure import sweep_images, time_and_energy_front

AXES = {"array.rows": [4, 8], "dram.bandwidth_gb_per_s.value": [50, 300.5]}
GIVEN = "fp4_training", "letters_mlp"


def point(seconds: float, joules: float, area: float) -> DesignPoint:
    """A point of that time, energy and area."""
    return DesignPoint((("key", 1),), Figures(seconds, joules, 1.0, 1.0, area, "array"))


def test_each_point_is_the_estimate_of_its_chip() -> None:
    """The figures of `estimate` on a chip whose file says so, the first key slowest."""
    told: list[tuple[int, int]] = []
    points = sweep(*GIVEN, AXES, batch=50, objective="energy", told=lambda *done: told.append(done))
    assert told == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert [dict(each.changes) for each in points] == [
        dict(zip(AXES, values, strict=True)) for values in product(*AXES.values())
    ]
    for each in points:
        chip = load_chip(GIVEN[0], dict(each.changes))
        found = read_off(accelsim.estimate(chip, GIVEN[1], batch=50, objective="energy"))
        assert each.figures is not None
        assert each.figures.aims == pytest.approx(
            (found.step_seconds, 50 * found.energy_per_sample_j, found.die_mm2)
        )
        assert each.figures.samples_per_second == found.samples_per_second
        assert each.figures.bound_by == found.binding


def test_processes_do_not_change_a_figure() -> None:
    """Two at a time: the same points in the same order."""
    assert sweep(*GIVEN, AXES, processes=2) == sweep(*GIVEN, AXES)


def test_a_point_that_cannot_be_is_told_beside_the_others() -> None:
    """The mistake stands where its figures would; only if no point can be is it raised."""
    axes = {"array.output_chunk": [7, 16]}
    mistaken, fine = sweep(*GIVEN, axes)
    assert mistaken.figures is None
    assert "must be a multiple of" in mistaken.mistake
    assert fine.figures is not None
    assert fine.best
    rows = list(csv.DictReader(io.StringIO(points_csv([mistaken, fine]))))
    assert [row["array.output_chunk"] for row in rows] == ["7", "16"]
    assert (rows[0]["step_ms"], rows[0]["best"]) == ("", "0")
    assert float(rows[1]["step_ms"]) == pytest.approx(1e3 * fine.figures.step_seconds, rel=1e-5)
    with pytest.raises(InputError, match=r"array\.output_chunk: must be a multiple of"):
        sweep(*GIVEN, {"array.output_chunk": [7]})


def test_mistakes_in_axes_are_told() -> None:
    """No axis, no values, a value twice, a key that the file does not have, an unknown recipe."""
    with pytest.raises(InputError, match=r"a sweep needs a key and its values \(array\.rows=4,8,16\)"):
        sweep(*GIVEN, {})
    for text in ("array.rows", "=4", "array.rows="):
        with pytest.raises(InputError, match=r"must be KEY=VALUE,VALUE\.\.\. \(array\.rows=4,8,16\), got '"):
            axis_of(text)
    with pytest.raises(InputError, match=r"array\.rows: 4 stands twice"):
        axis_of("array.rows=4,8,4")
    with pytest.raises(InputError, match=r"unknown key 'row' in array \(did you mean 'rows'\?\)"):
        sweep(*GIVEN, {"array.row": [4]})
    with pytest.raises(InputError, match="unknown recipe 'ibm'"):
        sweep(*GIVEN, AXES, recipe="ibm")


def test_values_are_yaml() -> None:
    """Numbers, words, nothing, and a list in brackets as one value."""
    assert axis_of("array.output_chunk=16,null") == ("array.output_chunk", [16, None])
    assert axis_of("array.dataflows=[a, b],[c]") == ("array.dataflows", [["a", "b"], ["c"]])
    assert axis_of("array.accumulator=fp16") == ("array.accumulator", ["fp16"])


small = integers(1, 4)


@settings(max_examples=150, deadline=None)
@given(aims=lists(tuples(small, small, small), min_size=1, max_size=12))
def test_the_best_are_those_that_none_beats(aims: list[tuple[int, int, int]]) -> None:
    """Against every pair: as good in all three and better in one is better; equals are best together."""
    found = with_best([point(*each) for each in aims])
    for own, each in zip(aims, found, strict=True):
        beaten = any(other != own and all(a <= b for a, b in zip(other, own, strict=True)) for other in aims)
        assert each.best == (not beaten)
    front = time_and_energy_front([each.figures for each in found if each.figures])
    for own in aims:
        assert any(one.step_seconds <= own[0] and one.step_energy_j <= own[1] for one in front)


def test_the_command_shows_and_writes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The best in a table, all points in files that can be read back, and the figure of them."""
    words = ["sweep", *GIVEN, "--set", "array.rows=4,8", "--set", "array.output_chunk=16,7"]
    assert main([*words, "--all", "--out", str(tmp_path), "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "4 points, 2 of them best in time, energy and area." in text
    assert "2 cannot be: " in text
    records = json.loads((tmp_path / "points.json").read_text(encoding="utf-8"))
    assert [each["changes"]["array.rows"] for each in records] == [4, 4, 8, 8]
    assert [bool(each["mistake"]) for each in records] == [False, True, False, True]
    points = sweep(*GIVEN, {"array.rows": [4, 8], "array.output_chunk": [16, 7]})
    assert (tmp_path / "points.csv").read_text(encoding="utf-8") == points_csv(points)
    drawn = sweep_images(points, "fp4_training, letters_mlp")
    assert (tmp_path / "pareto.png").read_bytes() == drawn["png"]
    assert main([*words, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == records
    assert "4 of 4 points" in captured.err


def test_a_key_is_given_once(capsys: pytest.CaptureFixture[str]) -> None:
    """Two lists of values for one key are a mistake, not a choice."""
    assert main(["sweep", *GIVEN, "--set", "array.rows=4", "--set", "array.rows=8"]) == 2
    assert "--set: array.rows: given twice" in capsys.readouterr().err
