"""Chips with other values than their files: `accelsim run --set`, and the ablations of a study."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fake_verbs import FakeVerbs

from accelsim import api
from accelsim.chip import load_chip
from accelsim.cli import main as shell
from accelsim.errors import InputError
from accelsim.record import RunRecord
from accelsim.run.study_plan import StudyJob, load_study
from accelsim.run.studying import study_runs
from accelsim.yamlfile import change_of, changed, one_line, read_yaml

PLAN = """\
name: small
description: A small study
baseline: narrow
ablated: narrow
systems:
  narrow: {chip: fp4_training, label: 4 bits}
  rough:
    chip: fp4_training
    set: {array.accumulator: bf16, array.dataflows: [output_stationary], array.output_chunk: null}
    label: bfloat16
    ablates: sums
tasks:
  letters: {workload: letters_mlp, label: letters}
runs:
  - {tasks: [letters], systems: [narrow, rough], seeds: [1]}
"""


def written(folder: Path, text: str) -> Path:
    """A file of that text."""
    path = folder / "file.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_changed_chip_says_so_in_its_text() -> None:
    """Values, list items and lists are replaced where they stand, and nothing else of the text moves."""
    chip = load_chip(
        "fp4_training",
        {"array.accumulator": "fp16", "array.dataflows": ["output_stationary"], "array.modes[1].lanes": 8},
    )
    assert (chip.array.accumulator, chip.array.dataflows) == ("fp16", ("output_stationary",))
    assert [mode.lanes for mode in chip.array.modes] == [16, 8, 1]
    before = load_chip("fp4_training").source_text.splitlines()
    after = chip.source_text.splitlines()
    moved = [(old, new) for old, new in zip(before, after, strict=True) if old != new]
    assert [new.split("#")[0].strip() for _, new in moved] == [
        "dataflows: [output_stationary]",
        "accumulator: fp16",
        "lanes: 8",
    ]


def test_a_changed_chip_is_checked_like_any_other() -> None:
    """What the schema refuses in a file it refuses in a change, with the place in the file."""
    with pytest.raises(
        InputError, match=r"fp4_training\.yaml:\d+:\d+: array.output_chunk: must be a multiple"
    ):
        load_chip("fp4_training", {"array.output_chunk": 1})


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("array.acumulator", r"\d+:\d+: unknown key 'acumulator' in array \(did you mean 'accumulator'\?\)"),
        ("aray.rows", r"no key 'aray.rows' to change \(did you mean 'array.rows'\?\)"),
        ("array.rows.more", r"no key 'array.rows.more' to change"),
        ("array.modes[0]", r"array.modes\[0\]: only a value on one line can be replaced"),
        ("clock_mhz", "another; it has clock_mhz.value, clock_mhz.source, clock_mhz.evidence"),
        ("array.area_um2_per_pe.source", "only a value on one line can be replaced"),
    ],
)
def test_what_cannot_be_changed_is_told(key: str, message: str) -> None:
    """A key that is not there, and values that stand on several lines."""
    with pytest.raises(InputError, match=message):
        load_chip("fp4_training", {key: 1})


def test_values_of_every_kind_come_back(tmp_path: Path) -> None:
    """What is written into the file is read as the same value, later keys too; an empty value is one."""
    document = read_yaml(written(tmp_path, "a: 1\nb: {c: [x, 'y: z'], d: old}\ne: text\n"))
    changes = {"a": None, "b.c": ["p", "q: r"], "b.d": "yes: no", "e": 0.5}
    after = changed(document, changes)
    assert after.data == {"a": None, "b": {"c": ["p", "q: r"], "d": "yes: no"}, "e": 0.5}
    for value in changes.values():
        assert change_of(f"k={one_line(value)}") == ("k", value)  # type: ignore[arg-type]


def test_a_key_is_added_where_its_neighbours_stand(tmp_path: Path) -> None:
    """In blocks and in braces, at the top and below; nothing else of the text moves."""
    document = read_yaml(written(tmp_path, "# head\na: 1\nb:\n  # inner\n  c: {d: 2}\n"))
    after = changed(document, {"b.c.e": [3], "b.f": None, "g": "x: y"})
    assert after.text == "# head\ng: 'x: y'\na: 1\nb:\n  # inner\n  f: null\n  c: {e: [3], d: 2}\n"


def test_estimate_and_map_take_changes(capsys: pytest.CaptureFixture[str]) -> None:
    """A key that the file lacks turns the search of residency on."""
    for words in (
        ["estimate", "fp4_training", "letters_mlp", "--json"],
        ["map", "fp4_training", "letters_mlp"],
    ):
        assert shell.main([*words, "--set", "scratchpad.residency=searched"]) == 0
        assert "residency: searched" in (said := capsys.readouterr().out) or "every set that fits" in said


@pytest.mark.parametrize("text", ["accumulator", "=fp16"])
def test_a_change_needs_a_key_and_a_value(text: str) -> None:
    """--set without an equals sign, or without a key."""
    with pytest.raises(InputError, match="must be KEY=VALUE"):
        change_of(text)


@pytest.mark.parametrize(
    ("command", "given", "message"),
    [
        ("estimate", ["x"], "must be KEY=VALUE (array.accumulator=fp16), got 'x'"),
        ("map", ["array.rows=[1"], "array.rows: not valid YAML: the '[' of line 1 is not closed, "),
        ("run", ["array.rows=.nan"], "array.rows: must be a finite number, got .nan"),
        ("estimate", ["array.rows=8", "array.rows=9"], "array.rows: given twice"),
        ("sweep", ["array.rows"], "must be KEY=VALUE,VALUE... (array.rows=4,8,16), got 'array.rows'"),
        ("sweep", ["array.rows=4,.nan"], "array.rows[1]: must be a finite number, got .nan"),
        ("sweep", ["array.rows=4", "array.rows=5"], "array.rows: given twice"),
        ("sweep", [], "a sweep needs a key and its values (array.rows=4,8,16)"),
    ],
)
def test_mistakes_of_set_name_it(
    command: str, given: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """What stands behind --set is no file: the option is the place of a mistake in it."""
    words = [word for text in given for word in ("--set", text)]
    assert shell.main([command, "fp4_training", "letters_mlp", *words]) == 2
    assert capsys.readouterr().err.startswith(f"error: --set: {message}")


def test_a_mistake_of_a_changed_chip_says_what_was_changed(capsys: pytest.CaptureFixture[str]) -> None:
    """The place is the file's, whose text does not hold the value that is refused."""
    words = ["estimate", "fp4_training", "letters_mlp", "--set", "array.rows=-1", "--set", "cores=2"]
    assert shell.main(words) == 2
    told = "array.rows: must be at least 1, got -1 (the file with array.rows=-1, cores=2)\n"
    assert capsys.readouterr().err.endswith(told)


def test_an_ablation_repeats_by_its_command(tmp_path: Path) -> None:
    """The command of a row carries the changes, quoted for a shell."""
    plan = load_study(written(tmp_path, PLAN))
    run = study_runs(plan, [StudyJob("letters", "rough", 1)], tmp_path)[0]
    assert run.command == (
        "accelsim run fp4_training letters_mlp --set array.accumulator=bf16 "
        "--set 'array.dataflows=[output_stationary]' --set array.output_chunk=null --seed 1"
    )


def test_an_ablation_of_nothing_is_refused(tmp_path: Path) -> None:
    """A system cannot ablate what the plan does not name."""
    with pytest.raises(InputError, match=r"\d+:\d+: systems.rough.ablates: the study does not say what"):
        load_study(written(tmp_path, PLAN.replace("ablated: narrow\n", "")))


def test_run_trains_the_changed_chip(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--set reaches the chip that is trained; a key that the file does not have is one line on stderr."""
    fake, seen = FakeVerbs(), []

    def train(chip: Any, workload: Any, **options: Any) -> RunRecord:
        seen.append(chip.array.accumulator)
        return fake.train(chip, workload, **options)

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(api, "load_workload", fake.load_workload)
    monkeypatch.setattr(api, "estimate", fake.estimate)
    monkeypatch.setattr(api, "train", train)
    words = ["run", "fp4_training", "net", "--quiet", "--set"]
    assert shell.main([*words, "array.accumulator=bf16"]) == 0
    assert seen == ["bf16"]
    capsys.readouterr()
    assert shell.main([*words, "array.accu=bf16"]) == 2
    assert "unknown key 'accu' in array" in capsys.readouterr().err
