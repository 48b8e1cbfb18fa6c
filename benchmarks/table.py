"""The table on the terminal, as Markdown and as JSON."""

from __future__ import annotations

import json
import os
import platform
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import numba
import numpy as np

import accelsim
from benchmarks.limits import limit_of
from benchmarks.measuring import Row
from benchmarks.peers import peer_versions

SECTIONS = {
    "products": "Square products, CPU time of one thread",
    "certificates": "A rounding at every add, by the operands, CPU time of one thread",
    "networks": "GEMMs of networks with their im2col, CPU time of one thread",
    "threads": "Two threads against one, time on the clock",
    "elements": "Conversions, CPU time of one thread",
    "statistics": "Statistics of a tensor, CPU time of one thread",
    "portable": "Portable kernels (no AVX), CPU time of one thread",
    "mapping": "Mappings of a whole training step, CPU time",
    "peers": "The same work by other packages, CPU time of one thread",
    "training": "Training, time on the clock",
    "shares": "Where the CPU time of training goes, one thread",
}
QUICK_WARNING = " (a quick run: at these tiny sizes neither times nor verdicts mean anything)"
HEADER = ("case", "shape", "time", "speed", "target", "", "note")


def environment(command: str, now: datetime, *, quick: bool) -> dict[str, Any]:
    """What the figures depend on."""
    versions = {"python": platform.python_version(), "numpy": np.__version__, "numba": numba.__version__}
    return {
        "schema": "accelsim.bench/1",
        "created": now.isoformat(timespec="seconds"),
        "command": command,
        "quick": quick,
        "cpu": cpu_model(),
        "cores": os.cpu_count(),
        "versions": {"accelsim": accelsim.__version__, **versions, **peer_versions()},
    }


def cpu_model(path: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as its maker writes it, or its architecture."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def cells(row: Row) -> tuple[str, ...]:
    """The row as text, in the order of `HEADER`."""
    time = f"{row.value:.4g} {row.unit}" if row.value is not None else ""
    speed = f"{row.ratio:.3g} x {row.against}" if row.ratio is not None else ""
    target = ""
    if row.target is not None:
        target = f">= {row.target:g} x" if row.target_of == "ratio" else f"<= {row.target:g} {row.unit}"
    return row.case, row.shape, time, speed, target, row.verdict, row.note


def text_line(row: Row) -> str:
    """The row on a terminal."""
    case, shape, time, speed, target, verdict, note = cells(row)
    line = f"{case:46} {shape:28} {time:>20} {speed:>24} {target:>19} {verdict:6} {note}"
    return line.rstrip()


def summary(rows: Sequence[Row]) -> str:
    """How many targets are met."""
    verdicts = [row.verdict for row in rows if row.verdict]
    return f"{verdicts.count('met')} of {len(verdicts)} targets met"


def markdown(facts: dict[str, Any], rows: Sequence[Row]) -> str:
    """The whole table."""
    versions = ", ".join(f"{name} {number}" for name, number in facts["versions"].items())
    head = [
        "# Speed",
        "",
        f"{facts['created']}, `{facts['command']}`, on {facts['cpu']} ({facts['cores']} cores). {versions}.",
        "",
        "Speeds are ratios of times in this run: above 1 is faster than what stands beside the figure. "
        "Compilation is not counted.",
        "",
        f"{summary(rows)}{QUICK_WARNING if facts['quick'] else ''}.",
    ]
    for section, title in SECTIONS.items():
        chosen = [row for row in rows if row.section == section]
        if chosen:
            lines = map(_line, map(cells, chosen))
            head += ["", f"## {title}", "", _line(HEADER), _line(["---"] * len(HEADER)), *lines]
            head += _missed(chosen)
    return "\n".join(head) + "\n"


def _missed(rows: Sequence[Row]) -> list[str]:
    """A list of what limits the rows that miss their targets."""
    reasons: dict[str, list[str]] = {}
    for row in rows:
        if why := limit_of(row):
            reasons.setdefault(why, []).append(f"{row.case} ({row.shape})")
    lines = [f"- {'; '.join(cases)}: {why}." for why, cases in reasons.items()]
    return ["", "What limits the missed ones:", "", *lines] if lines else []


def _line(texts: Sequence[str]) -> str:
    return "| " + " | ".join(text.replace("|", "\\|") for text in texts) + " |"


def json_text(facts: dict[str, Any], rows: Sequence[Row]) -> str:
    """Environment and rows for a program."""
    content = facts | {
        "summary": summary(rows),
        "rows": [row.as_record() | {"limit": limit_of(row)} for row in rows],
    }
    return json.dumps(content, indent=1, ensure_ascii=False) + "\n"
