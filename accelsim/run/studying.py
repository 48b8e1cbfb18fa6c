"""Runs an accuracy study: every run of its plan that is not there yet, several processes at once.

A study takes hours, so it may be stopped at any time: finished runs are kept as rows, unfinished ones as
checkpoints, and the next call does what is left. A row whose chip, recipe, workload or number of epochs
is no longer the plan's is run again. Each process computes on one thread, which changes no bit.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context, parent_process
from pathlib import Path

from accelsim.chip import load_chip
from accelsim.errors import InputError
from accelsim.record import RunRecord
from accelsim.record.study import StudyRow, read_row, row_text, study_row
from accelsim.run.estimating import estimate, resolve
from accelsim.run.progress import Progress
from accelsim.run.study_plan import StudyJob, StudyPlan, System, Task
from accelsim.run.training import train
from accelsim.storage import set_aside, write_text
from accelsim.yamlfile import Change, one_line


@dataclass(frozen=True)
class StudyRun:
    """One run with all it needs, so that another process can do it; paths and names only."""

    job: StudyJob
    chip: str
    changes: Mapping[str, Change]
    recipe: str | None
    workload: str
    epochs: int | None
    folder: Path
    command: str

    @property
    def row_path(self) -> Path:
        """Where the finished run is kept."""
        return self.folder / "rows" / f"{self.job.stem}.json"

    @property
    def checkpoint_path(self) -> Path:
        """Where the unfinished run is kept."""
        return self.folder / "unfinished" / f"{self.job.stem}.npz"


def study_runs(plan: StudyPlan, jobs: Sequence[StudyJob], folder: Path) -> list[StudyRun]:
    """The runs of ``jobs``. Raises `InputError` if one of them cannot be executed, before any is."""
    runs = []
    checked: set[tuple[str, str]] = set()
    for job in jobs:
        system, task = plan.systems[job.system], plan.tasks[job.task]
        if (job.task, job.system) not in checked:
            chip = load_chip(system.chip, system.set)
            estimate(chip, task.workload, recipe=system.recipe, epochs=task.epochs)
            checked.add((job.task, job.system))
        runs.append(
            StudyRun(
                job, system.chip, system.set, system.recipe, task.workload, task.epochs, folder,
                _command(system, task, job.seed),
            )
        )  # fmt: skip
    return runs


def _command(system: System, task: Task, seed: int) -> str:
    """The command that repeats one run."""
    words = ["accelsim", "run", system.chip, task.workload]
    for key, value in system.set.items():
        words += ["--set", f"{key}={one_line(value)}"]
    words += ["--recipe", system.recipe] if system.recipe else []
    words += ["--epochs", str(task.epochs)] if task.epochs else []
    return shlex.join([*words, "--seed", str(seed)])


def finished_row(run: StudyRun) -> StudyRow | None:
    """The row of an earlier study of exactly these inputs, if there is one."""
    if not run.row_path.exists():
        return None
    try:
        row = read_row(run.row_path)
    except InputError:
        return None
    chip, workload, recipe = resolve(load_chip(run.chip, run.changes), run.workload, run.recipe)
    texts = (chip.source_text, workload.source_text, recipe.source_text)
    held = (row.chip.sha256, row.workload.sha256, row.recipe.sha256)
    same = held == tuple(hashlib.sha256(text.encode()).hexdigest() for text in texts)
    return row if same and len(row.epochs) == (run.epochs or workload.epochs) else None


def do_run(run: StudyRun) -> StudyRow:
    """Train one run, from its checkpoint if there is one, and keep its row."""
    try:
        record = _trained(run, resume=run.checkpoint_path.exists())
    except InputError:  # the checkpoint is damaged or of other inputs; what else is wrong is told again
        set_aside(run.checkpoint_path)
        record = _trained(run, resume=False)
    row = study_row(record, run.job.task, run.job.system)
    write_text(run.row_path, row_text(row))
    run.checkpoint_path.unlink(missing_ok=True)
    return row


def _trained(run: StudyRun, *, resume: bool) -> RunRecord:
    return train(
        load_chip(run.chip, run.changes),
        run.workload,
        recipe=run.recipe,
        seed=run.job.seed,
        epochs=run.epochs,
        threads=1,
        checkpoint=run.checkpoint_path,
        resume=resume,
        command=run.command,
        progress=_end_with_the_study,
    )


def _end_with_the_study(_: Progress) -> None:
    """End this process once the study that asked for its run was killed: the pool would wait on for ever."""
    study = parent_process()
    if study is not None and not study.is_alive():
        os._exit(1)


def do_runs(runs: Sequence[StudyRun], processes: int) -> Iterator[StudyRow]:
    """Do ``runs`` in their order, ``processes`` at a time; yields each row as it is finished.

    When the caller stops, the epochs being computed are lost; the checkpoints of those before stay.
    """
    waiting = list(reversed(runs))
    pool = ProcessPoolExecutor(processes, mp_context=get_context("spawn"))
    running: set[Future[StudyRow]] = set()
    try:
        while waiting or running:
            while waiting and len(running) < processes:
                running.add(pool.submit(do_run, waiting.pop()))
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                running.remove(future)
                yield future.result()
    finally:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.terminate()
        pool.shutdown(wait=True, cancel_futures=True)
