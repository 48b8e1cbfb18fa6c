"""Runs in number formats of one's own: files that chip and recipe name, relative to where they stand."""

from __future__ import annotations

import json
from dataclasses import fields, replace
from pathlib import Path

import pytest

import accelsim
from accelsim.errors import InputError
from accelsim.numerics.formats import number_format
from accelsim.storage import find_resource

WORKLOAD = """\
name: tiny
description: three linear layers
data: digits8x8
batch: 300
epochs: 2
normalise: {mean: 0.3, deviation: 0.4}
optimizer: {kind: sgd}
learning_rate: {schedule: constant, initial: 0.1}
network: [flatten, {linear: {features: 8}}, relu, {linear: {features: 8}}, relu, {linear: {features: 10}}]
"""


def format_file(folder: Path, source: str, name: str, **changes: object) -> Path:
    """A file with the fields of a catalog format under another name."""
    wanted = replace(number_format(source), name=name, **changes)  # type: ignore[arg-type]
    text = "".join(f"{field.name}: {json.dumps(getattr(wanted, field.name))}\n" for field in fields(wanted))
    path = folder / f"{name}.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A chip, its recipe in a folder beside it, and a workload; gradients in two files of formats."""
    for part in ("chips", "recipes", "formats"):
        (tmp_path / part).mkdir()
    (tmp_path / "tiny.yaml").write_text(WORKLOAD, encoding="utf-8")
    chip = find_resource("arch_configs", "fp4_training").read_text(encoding="utf-8")
    recipe = find_resource("recipes", "ibm2020_fp4").read_text(encoding="utf-8")
    chip = chip.replace("recipe: ibm2020_fp4", "recipe: ../recipes/mine.yaml")
    for old, new in (("fp4_r4_even", "own_even"), ("fp4_r4_odd", "own_odd")):
        format_file(tmp_path / "formats", old, new)
        chip, recipe = (text.replace(old, f"../formats/{new}.yaml") for text in (chip, recipe))
    (tmp_path / "chips" / "mine.yaml").write_text(chip, encoding="utf-8")
    (tmp_path / "recipes" / "mine.yaml").write_text(recipe, encoding="utf-8")
    return tmp_path


def test_a_file_trains_as_the_catalog_does(folder: Path) -> None:
    """With the fields of the catalog's formats in files, a run ends in the same bits and estimates alike."""
    chip, workload = accelsim.load_chip(folder / "chips" / "mine.yaml"), folder / "tiny.yaml"
    shipped = accelsim.load_chip("fp4_training")
    records = [accelsim.train(each, workload) for each in (chip, shipped)]
    assert [len(each.formats) for each in records] == [2, 0]
    for each in records[0].formats:
        assert each.text == (folder / "formats" / f"{each.name}.yaml").read_text(encoding="utf-8")
    ours, theirs = (each.training for each in records)
    assert ours is not None
    assert theirs is not None
    assert ours.weight_digest == theirs.weight_digest
    costs = [accelsim.estimate(each, workload).cost for each in (chip, shipped)]
    assert costs[0].step_cycles == costs[1].step_cycles
    assert costs[0].step_energy_aj == costs[1].step_energy_aj


def test_a_run_goes_on_only_in_the_same_format(folder: Path) -> None:
    """A checkpoint of a run whose format's file says something else since is refused."""
    chip, kept = accelsim.load_chip(folder / "chips" / "mine.yaml"), folder / "checkpoint.npz"
    accelsim.train(chip, folder / "tiny.yaml", checkpoint=kept)
    format_file(folder / "formats", "fp4_r4_even", "own_even", ties="even")
    with pytest.raises(InputError, match="checkpoint"):
        accelsim.train(chip, folder / "tiny.yaml", checkpoint=kept, resume=True)


def test_names_tell_formats_apart(tmp_path: Path) -> None:
    """A format that was read is known by its name; one name for two different formats is refused."""
    with pytest.raises(InputError, match="unknown number format 'told_apart'"):
        number_format("told_apart")
    first = number_format(format_file(tmp_path, "fp4_e2m1", "told_apart"))
    assert number_format("told_apart") == first
    changed = number_format(format_file(tmp_path, "fp4_e2m1", "told_apart", bias=2))
    assert number_format("told_apart") == changed != first
    (tmp_path / "other").mkdir()
    other = format_file(tmp_path / "other", "fp4_e2m1", "told_apart")
    assert number_format(other) == first
    with pytest.raises(InputError, match="give different formats the name 'told_apart'; rename all but one"):
        number_format("told_apart")
