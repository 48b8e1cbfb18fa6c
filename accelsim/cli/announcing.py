"""What is said before a training run: what will be done, where it goes, about how long it takes here."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from accelsim.cli.progress import clock
from accelsim.record import RunRecord
from accelsim.report import quantities
from accelsim.report.readings import read_off

if TYPE_CHECKING:
    from accelsim.chip import Chip
    from accelsim.workload import Workload

# Host time per simulated multiply-accumulate of a training step, all bookkeeping included: where products
# are added in groups, and where each is rounded. Measured on a server of 2021 with the shipped
# workloads; only for the sentence "about N minutes".
_HOST_NS_PER_MAC_GROUPED = 0.15
_HOST_NS_PER_MAC_CHAINED = 0.2


@dataclass(frozen=True)
class Job:
    """One chip to train on: its inputs, where its record goes, and the estimate made beforehand."""

    chip: Chip
    workload: Workload
    recipe: str | None
    mapping: str | None
    folder: Path
    seed: int
    forecast: RunRecord

    @property
    def record_path(self) -> Path:
        """Where the record goes when the run is done."""
        return self.folder / "record.json"

    @property
    def checkpoint_path(self) -> Path:
        """Where the run keeps what it needs to go on."""
        return self.folder / "checkpoint.npz"

    @property
    def macs(self) -> list[int]:
        """Multiply-accumulates of each product of a step."""
        gemms = (gemm for layer in self.forecast.cost.layers for gemm in layer.gemms)
        return [gemm.groups * gemm.m * gemm.k * gemm.n for gemm in gemms]

    @property
    def host_seconds(self) -> float:
        """A rough guess of how long this computer needs for the run, kernels compiled."""
        gemms = (gemm for layer in self.forecast.cost.layers for gemm in layer.gemms)
        costs = (_HOST_NS_PER_MAC_CHAINED if gemm.lanes == 1 else _HOST_NS_PER_MAC_GROUPED for gemm in gemms)
        step_ns = sum(macs * ns for macs, ns in zip(self.macs, costs, strict=True))
        steps = self.forecast.epochs * self.forecast.steps_per_epoch
        return steps * self.forecast.chips * step_ns * 1e-9


def announcement(jobs: Sequence[Job], finished: Sequence[RunRecord | None], *, at_once: bool) -> list[str]:
    """A line for each job (``finished`` holds the records that are kept), then where and how long."""
    lines = [_job_line(job, record) for job, record in zip(jobs, finished, strict=True)]
    times = [job.host_seconds for job, done in zip(jobs, finished, strict=True) if not done]
    folder = jobs[-1].folder.parent
    if not times:
        return [*lines, f"writing to {folder}; nothing is left to train"]
    seconds, way = (max(times), "both at once") if at_once else (sum(times), "in all")
    compiling = "" if _has_compiled_kernels() else ", and a minute or two, once, to compile its kernels"
    return [
        *lines,
        f"writing to {folder}; about {clock(_rounded(seconds))} on this computer {way}{compiling}",
    ]


def _job_line(job: Job, finished: RunRecord | None) -> str:
    forecast, chip = job.forecast, job.chip.name
    if forecast.system:
        chip = f"{forecast.chips} x {chip}"
    if finished:
        return f"{chip}: finished before, kept ({job.record_path})"
    epochs = "1 epoch" if forecast.epochs == 1 else f"{forecast.epochs} epochs"
    steps = f"{epochs} of {forecast.steps_per_epoch} steps of {forecast.batch} samples"
    on_chip = quantities.seconds(read_off(forecast).run_seconds)
    return (
        f"{chip}: training {job.workload.name} with {forecast.recipe.name}, {steps}, seed {job.seed}; "
        f"on the chip that takes {on_chip}"
    )


def _has_compiled_kernels() -> bool:
    """Whether an earlier process has left compiled kernels of this version."""
    # the compiler is loaded here: a training run loads it next, help and estimates never do
    from accelsim.numerics.compiled import cache_folder

    folder = Path(os.environ.get("NUMBA_CACHE_DIR") or cache_folder())
    return next(folder.rglob("*.nbi"), None) is not None


def _rounded(seconds: float) -> float:
    """A guess should not look exact: whole tens of seconds, whole minutes from two on."""
    step = 10 if seconds < 120 else 60
    return step * max(1, round(seconds / step))
