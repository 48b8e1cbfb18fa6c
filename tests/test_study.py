"""The accuracy study: its plan, its rows, its tables, and that it goes on where it was stopped."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner
from sample_records import sample_record
from small_workloads import PERCEPTRON, write_workload

from accelsim.cli.study import command
from accelsim.errors import InputError
from accelsim.record.schema import EpochRecord
from accelsim.record.study import StudyRow, read_row, row_text, study_row
from accelsim.report.study_tables import Metric, StudyNames, cells, metric_called, study_csv, study_markdown
from accelsim.run.study_plan import SHIPPED, StudyJob, jobs_of, load_study
from accelsim.run.studying import finished_row, study_runs

PLAN = """\
name: small
description: A small study
baseline: wide
systems:
  wide: {chip: fp16_training, label: 16 bits}
  narrow: {chip: fp4_training, recipe: ibm2020_fp4, label: 4 bits}
tasks:
  digits: {workload: WORKLOAD, epochs: 1, label: digits}
runs:
  - {tasks: [digits], systems: [wide, narrow], seeds: [1, 2]}
"""
NAMES = StudyNames({"digits": "digits"}, {"wide": "16 bits", "narrow": "4 bits"}, "wide")


def written(folder: Path, text: str = PLAN) -> Path:
    """The plan as a file, on a workload beside it."""
    workload = write_workload(folder, PERCEPTRON)
    path = folder / "plan.yaml"
    path.write_text(text.replace("WORKLOAD", str(workload)), encoding="utf-8")
    return path


def row(system: str, seed: int, accuracy: float) -> StudyRow:
    """A row that ended in ``accuracy``."""
    made = study_row(sample_record(), "digits", system)
    last = made.epochs[-1].model_copy(update={"test_accuracy": accuracy, "metric": None})
    return made.model_copy(update={"seed": seed, "epochs": (*made.epochs[:-1], last)})


def test_the_shipped_study_names_what_is_shipped() -> None:
    """Every chip, recipe and workload of the study is there, and every system runs every task it is given."""
    plan = load_study(SHIPPED)
    jobs = jobs_of(plan)
    assert len(jobs) == len(set(jobs))
    assert {job.task for job in jobs} == set(plan.tasks)
    assert {job.system for job in jobs} == set(plan.systems)
    assert len(study_runs(plan, jobs, Path("nowhere"))) == len(jobs)


def test_runs_go_seed_by_seed(tmp_path: Path) -> None:
    """A study that is stopped early has every system with the first seed."""
    jobs = jobs_of(load_study(written(tmp_path)))
    assert [(job.system, job.seed) for job in jobs] == [
        ("wide", 1),
        ("narrow", 1),
        ("wide", 2),
        ("narrow", 2),
    ]
    assert jobs_of(load_study(written(tmp_path)), systems=("narrow",))[0] == StudyJob("digits", "narrow", 1)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("baseline: wide", "baseline: wise", r"3:\d+: unknown system 'wise' \(did you mean 'wide'\?\)"),
        ("tasks: [digits]", "tasks: [digit]", r"10:\d+: unknown task 'digit' \(did you mean 'digits'\?\)"),
        ("[wide, narrow]", "[wide, narow]", r"10:\d+: unknown system 'narow'"),
        ("seeds: [1, 2]", "seeds: []", r"runs\[0\].seeds"),
    ],
)
def test_a_mistake_in_a_plan_is_told_with_its_place(tmp_path: Path, old: str, new: str, message: str) -> None:
    """File, line and column, what was given and what was meant."""
    with pytest.raises(InputError, match=message):
        load_study(written(tmp_path, PLAN.replace(old, new)))


def test_a_name_that_the_plan_does_not_have_is_told(tmp_path: Path) -> None:
    """--task and --system narrow a study; they add nothing to it."""
    with pytest.raises(InputError, match=r"unknown task 'numbers'; allowed: digits"):
        jobs_of(load_study(written(tmp_path)), tasks=("numbers",))


def test_differences_are_taken_seed_by_seed() -> None:
    """Means and sample standard deviations by hand: differences 2 and 4 points, mean 3, spread sqrt 2."""
    rows = [row("wide", 1, 0.90), row("wide", 2, 0.92), row("narrow", 1, 0.88), row("narrow", 2, 0.88)]
    found = cells(rows, NAMES.baseline)["digits", "narrow"]
    assert found.mean == pytest.approx(88.0)
    assert found.spread == pytest.approx(0.0)
    assert found.difference == pytest.approx(-3.0)
    assert found.difference_spread == pytest.approx(math.sqrt(2))
    text = study_markdown(rows, NAMES)
    assert "| 16 bits | 91.0 ± 1.4 (2) |" in text
    assert "| 4 bits | \N{MINUS SIGN}3.0 ± 1.4 (2) |" in text
    assert len(study_csv(rows).splitlines()) == 5


def test_a_system_without_its_pair_has_no_difference() -> None:
    """Without a baseline run of the same seed nothing is compared."""
    found = cells([row("wide", 1, 0.9), row("narrow", 2, 0.8)], "wide")["digits", "narrow"]
    assert found.difference is None
    assert "| 4 bits | \N{EN DASH} |" in study_markdown([row("wide", 1, 0.9), row("narrow", 2, 0.8)], NAMES)


def test_lower_is_better_where_the_metric_says_so() -> None:
    """Bits per character: a system that needs fewer is ahead."""

    def bits(system: str, value: float | None) -> StudyRow:
        made = row(system, 1, 0.5)
        fields = made.epochs[-1].model_dump() | {"metric": {"name": "bits per character", "value": value}}
        return made.model_copy(update={"epochs": (EpochRecord.model_validate(fields),)})

    assert cells([bits("wide", 2.9), bits("narrow", 3.0)], "wide")["digits", "narrow"].difference == (
        pytest.approx(-0.1)
    )
    assert "diverges (1)" in study_markdown([bits("wide", 2.9), bits("narrow", None)], NAMES)


def test_a_row_reads_back_and_a_broken_one_says_why(tmp_path: Path) -> None:
    """JSON and back is the same row; a file that is none is told in one line."""
    path = tmp_path / "row.json"
    path.write_text(row_text(row("wide", 1, 0.9)), encoding="utf-8")
    assert read_row(path) == row("wide", 1, 0.9)
    path.write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match="not a row of an accuracy study: task: missing key"):
        read_row(path)
    text = row_text(row("wide", 1, 0.9)).replace('"batch": ', '"batch": 0.5, "batches": ')
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match="not a row of an accuracy study: unknown key 'batches'"):
        read_row(path)
    path.write_text("{", encoding="utf-8")
    with pytest.raises(InputError, match=r"row\.json:1:2: not a row of an accuracy study \(bad JSON: "):
        read_row(path)
    with pytest.raises(InputError, match="cannot read a row of an accuracy study"):
        read_row(tmp_path / "none.json")


def test_a_study_goes_on_where_it_was_and_redraws_from_its_rows(tmp_path: Path) -> None:
    """The second call trains nothing; a row of another workload is not taken for this one's."""
    path, out = written(tmp_path), tmp_path / "out"
    words = ["accuracy", str(path), "--out", str(out), "--system", "wide", "--processes", "1"]
    first = CliRunner().invoke(command, words, obj=())
    assert first.exit_code == 0, first.output
    assert "2 runs, 0 of them kept, 2 to do" in first.stderr
    kept = {each.name: each.read_bytes() for each in (out / "rows").iterdir()}
    assert set(kept) == {"digits.wide.1.json", "digits.wide.2.json"}
    again = CliRunner().invoke(command, words, obj=())
    assert "2 runs, 2 of them kept, 0 to do" in again.stderr
    assert (out / "figures" / "learning_curves.svg").exists()
    assert "| 16 bits |" in (out / "accuracy.md").read_text(encoding="utf-8")
    run = study_runs(load_study(path), [StudyJob("digits", "wide", 1)], out)[0]
    assert finished_row(run) is not None
    workload = Path(run.workload)
    workload.write_text(workload.read_text() + "# another text\n")
    assert finished_row(run) is None


@pytest.mark.parametrize(
    ("name", "metric"),
    [
        ("accuracy", Metric("accuracy, %", 100.0, 1, True)),
        ("bits per character", Metric("bits per character", 1.0, 3, False)),
        ("word error rate", Metric("word error rate, %", 100.0, 1, False)),
    ],
)
def test_any_metric_has_its_figures(name: str, metric: Metric) -> None:
    """A study may hold tasks of one's own: shares are percent, and only of accuracy is more better."""
    assert metric_called(name) == metric


def test_a_study_that_is_killed_leaves_nothing_running(tmp_path: Path) -> None:
    """Processes that train for a study end by themselves once it is gone, within a step."""
    plan = written(tmp_path, PLAN.replace("epochs: 1,", "epochs: 100000,"))
    words = [sys.executable, "-m", "accelsim", "study", "accuracy", str(plan)]
    study = subprocess.Popen([*words, "--processes", "2", "--out", str(tmp_path)], stdout=subprocess.DEVNULL)
    try:
        held = tmp_path / "unfinished"
        _until(lambda: held.is_dir() and len(list(held.glob("*.npz"))) == 2, seconds=300)
        workers = _children(study.pid)
        assert len(workers) >= 2
    finally:
        study.kill()
        study.wait()
    _until(lambda: not any(_is_there(worker) for worker in workers), seconds=60)


def _children(pid: int) -> list[int]:
    asked = subprocess.run(["pgrep", "-P", str(pid)], capture_output=True, check=True)
    return [int(word) for word in asked.stdout.split()]


def _is_there(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def _until(true: Callable[[], bool], seconds: int) -> None:
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)
