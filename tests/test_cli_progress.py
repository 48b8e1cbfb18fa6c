"""The shell: how far a training run is, on a terminal and elsewhere."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from fake_verbs import step

from accelsim.cli.progress import clock, epoch_line, show_progress
from accelsim.run import Metric

ROOT = Path(__file__).resolve().parent.parent


def test_plain_progress_is_a_line_per_epoch(capsys: pytest.CaptureFixture[str]) -> None:
    """Where no terminal is, hundreds of steps make no line and an epoch makes one."""
    with show_progress(quiet=False) as listen:
        assert listen is not None
        for number in range(1, 80):
            listen(step(step=number))
        listen(step(phase="test", test_accuracy=0.8))
        listen(step(epoch=2, phase="test", test_accuracy=0.85))
    common = "loss 0.5000  accuracy  81.0 %  test accuracy"
    assert capsys.readouterr().err.splitlines() == [
        f"fp4_training  epoch 1/2  {common}  80.0 %  1,234 samples/s  1 min 01 s left",
        f"fp4_training  epoch 2/2  {common}  85.0 %  1,234 samples/s",
    ]


def test_a_metric_of_its_own_is_told_beside_the_accuracy() -> None:
    """Bits per character stand in the line of an epoch; accuracy is not told twice."""
    bits = epoch_line(step(phase="test", test_accuracy=0.5, metric=Metric("bits per character", 2.25)))
    assert "test accuracy  50.0 %  bits per character 2.250  1,234 samples/s" in bits
    plain = epoch_line(step(phase="test", test_accuracy=0.5, metric=Metric("accuracy", 0.5)))
    assert plain == epoch_line(step(phase="test", test_accuracy=0.5))


def test_quiet_progress_is_nothing() -> None:
    """--quiet has no listener at all."""
    with show_progress(quiet=True) as listen:
        assert listen is None


def test_terminal_gets_a_bar_with_the_figures() -> None:
    """On a terminal: a bar with loss, accuracy, samples/s and time left, and a line per epoch that stays."""
    code = (
        "import sys; sys.path.insert(0, 'tests')\n"
        "from fake_verbs import step; from accelsim.cli.progress import show_progress\n"
        "with show_progress(quiet=False) as listen:\n"
        "    listen(step()); listen(step(phase='test')); listen(step(phase='test', test_accuracy=0.8))\n"
    )
    reader, terminal = pty.openpty()
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "140", "PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env=environment,
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
    )
    os.close(terminal)
    text = read_terminal(reader)
    assert process.wait() == 0, text
    assert "fp4_training  epoch 1/2" in text
    assert "loss 0.5000  accuracy  81.0 %  test accuracy  80.0 %" in text
    assert "━" in text


def read_terminal(reader: int) -> str:
    """All that a process writes to a pseudo-terminal."""
    chunks = []
    try:
        while chunk := os.read(reader, 65536):
            chunks.append(chunk)
    except OSError:  # Linux says so when the last writer has closed it
        pass
    os.close(reader)
    return b"".join(chunks).decode("utf-8", errors="replace")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(-1, "0 s"), (59.4, "59 s"), (60, "1 min"), (185, "3 min 05 s"), (7800, "2 h 10 min")],
)
def test_clock(seconds: float, text: str) -> None:
    """Times are said as people say them."""
    assert clock(seconds) == text
