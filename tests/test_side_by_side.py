"""Two runs at the same time, each in a process of its own: equal records, one mishap, one Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from test_cli_training import ROOT, workload

from accelsim.chip import load_chip
from accelsim.cli import main as shell
from accelsim.errors import InputError
from accelsim.record import RunRecord, read_record
from accelsim.run.host_threads import fit_at_once
from accelsim.run.side_by_side import Order, train_side_by_side
from accelsim.workload import load_workload

CHIPS = ("fp4_training", "fp16_training")

__all__ = ["workload"]  # the fixture


def comparable(record: RunRecord) -> dict[str, Any]:
    """All of a record but what a clock and the command line say."""
    content = record.model_dump(mode="json")
    for epoch in content["training"]["epochs"]:
        del epoch["host_seconds"]
    return {key: value for key, value in content.items() if key not in ("created", "command")}


def test_runs_at_once_write_the_records_of_runs_one_by_one(
    workload: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both ways every figure is the same; at once both chips' epochs are told, and no checkpoint is left."""
    words = ["compare", *CHIPS, workload, "--epochs", "2", "--threads", "1", "--out"]
    assert shell.main([*words, "at_once", "--processes", "2"]) == 0
    told = capsys.readouterr().err
    assert "on this computer both at once" in told
    assert all(f"{chip}  epoch {epoch}/2" in told for chip in CHIPS for epoch in (1, 2))
    assert shell.main([*words, "in_turn", "--processes", "1", "--quiet"]) == 0
    for chip in CHIPS:
        found, expected = (read_record(f"{folder}/{chip}/record.json") for folder in ("at_once", "in_turn"))
        assert comparable(found) == comparable(expected)
        assert [path.name for path in Path("at_once", chip).iterdir()] == ["record.json"]


def test_a_mistake_of_one_run_is_told_and_ends_the_other(
    workload: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A checkpoint that is none: one line, exit code 2, and no record of either."""
    damaged = Path("o/fp16_training/checkpoint.npz")
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"no checkpoint")
    words = ["compare", *CHIPS, workload, "--epochs", "2000", "--out", "o", "--processes", "2", "--resume"]
    assert shell.main([*words, "--quiet"]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {damaged}: ")
    assert len(told.splitlines()) == 1
    assert not list(Path("o").rglob("record.json"))


def test_stopped_runs_say_what_both_have_kept(workload: str) -> None:
    """Ctrl-C while both train: exit code 130, one last line about both, nothing half-written."""
    words = [sys.executable, "-m", "accelsim", "compare", *CHIPS, workload, "--epochs", "4000", "--out", "o"]
    process = subprocess.Popen(
        [*words, "--processes", "2"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,  # as a terminal does, all processes get the signal
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    kept = [Path(f"o/{chip}/checkpoint.npz") for chip in CHIPS]
    deadline = time.monotonic() + 120
    while not all(map(Path.exists, kept)) and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130, errors
    last = errors.splitlines()[-1]
    assert last.startswith("stopped: fp4_training in epoch ")
    assert all(f"of 4000; kept {path}; " in last for path in kept)
    assert last.endswith("--processes 2 --resume")
    assert "Traceback" not in errors
    assert not list(Path("o").rglob("*.part"))


class Deadly:
    """What ends the process that unpacks it."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os._exit, (3,)


def _told(_: int, __: Any) -> None:
    raise AssertionError("no step can have been done")


@pytest.mark.parametrize(
    ("options", "error", "text"),
    [
        ({"recipe": Deadly()}, InputError, "^fp4_training: the process of this run ended before the run did"),
        ({"no_such_option": 1}, TypeError, "no_such_option"),
    ],
)
def test_what_befalls_a_process_is_told_here(
    options: dict[str, Any], error: type[Exception], text: str
) -> None:
    """A process that dies, and an error that is no mistake of the user, raise in the process that waits."""
    order = Order(load_chip("fp4_training"), load_workload("letters_mlp"), options)
    with pytest.raises(error, match=text) as caught:
        train_side_by_side([order], _told, _told)
    assert error is InputError or "Traceback" in caught.value.__notes__[0]


def test_runs_share_the_cores_only_where_there_are_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two runs of one thread on two cores go together; long products, or two threads each, do not."""
    monkeypatch.setattr("accelsim.run.host_threads._cores", lambda: 2)
    short, long = [1000, 2000], [1 << 30]
    assert fit_at_once(None, [short, short])
    assert fit_at_once(1, [short, long])
    assert not fit_at_once(2, [short, short])
    assert not fit_at_once(None, [short, long])
    assert not fit_at_once(None, [short] * 3)
