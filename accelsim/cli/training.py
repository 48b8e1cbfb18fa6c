"""What ``run`` and ``compare`` share: check first, say what will happen, train, keep the record.

Every mistake that can be found is found before the first step: files are read, the output folder is
written to. A run that is stopped keeps its last checkpoint, and the last line says how to go on.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from accelsim import api
from accelsim.cli.announcing import Job, announcement
from accelsim.cli.progress import Listener, show_progress, show_runs
from accelsim.cli.writable import require_writable
from accelsim.record import RunRecord, read_record, record_text
from accelsim.run.host_threads import fit_at_once
from accelsim.run.side_by_side import Order, train_side_by_side
from accelsim.storage import set_aside, write_text

if TYPE_CHECKING:
    from accelsim.chip import Chip
    from accelsim.run import Progress
    from accelsim.workload import Workload


@dataclass(frozen=True)
class Settings:
    """What the user asked of a training run; None leaves the choice to the workload."""

    seed: int | None
    epochs: int | None
    batch: int | None
    objective: str
    chips: int | None
    threads: int | None
    resume: bool
    quiet: bool
    processes: int | None = None


def make_job(
    chip: Chip,
    workload: Workload,
    recipe: str | None,
    mapping: str | None,
    folder: Path,
    settings: Settings,
) -> Job:
    """Estimate the run, which also finds the mistakes that only chip and workload together can have."""
    if workload.data.origin is None:
        workload.source.load()  # which says why there is nothing to train on, before anything is announced
    forecast = api.estimate(
        chip,
        workload,
        recipe=recipe,
        batch=settings.batch,
        epochs=settings.epochs,
        mapping=mapping,
        objective=settings.objective,
        chips=settings.chips,
        phases="training",
        command=command_line(),
    )
    seed = workload.seed if settings.seed is None else settings.seed
    return Job(chip, workload, recipe, mapping, folder, seed, forecast)


def train_jobs(jobs: Sequence[Job], settings: Settings) -> list[RunRecord]:
    """Train all jobs and write their records; returns them in order.

    At the same time, each in a process of its own, where there is a core for each thread of theirs and
    ``processes`` does not forbid it; else one after the other. With ``resume`` a finished record of the same
    inputs is taken as it is, and an unfinished run goes on from its checkpoint. Raises InputError before any
    training when a folder cannot be written, and KeyboardInterrupt with a text that says what was kept
    and how to go on.
    """
    for job in jobs:
        require_writable(job.folder)
    finished = [_finished_record(job) if settings.resume else None for job in jobs]
    left = [job for job, record in zip(jobs, finished, strict=True) if record is None]
    at_once = len(left) > 1 and _at_once(left, settings)
    if not settings.quiet:
        click.echo("\n".join(announcement(jobs, finished, at_once=at_once)), err=True)
    trained = iter(_train_at_once(left, settings) if at_once else (_train(job, settings) for job in left))
    return [record or next(trained) for record in finished]


def _at_once(jobs: Sequence[Job], settings: Settings) -> bool:
    if settings.processes is not None:
        return settings.processes >= len(jobs)
    return fit_at_once(settings.threads, [job.macs for job in jobs])


def command_line() -> str:
    """The command as the user typed it, for the record."""
    words = click.get_current_context().find_root().obj or ()
    return shlex.join(("accelsim", *words))


@dataclass
class _Watcher:
    """Passes progress on, and remembers the last of it for the sentence that follows Ctrl-C."""

    listener: Listener | None = None
    last: Progress | None = None

    def __call__(self, event: Progress) -> None:
        self.last = event
        if self.listener is not None:
            self.listener(event)


def _train(job: Job, settings: Settings) -> RunRecord:
    options = _options(job, settings)
    watcher = _Watcher()
    try:
        with show_progress(settings.quiet) as watcher.listener:
            record: RunRecord = api.train(job.chip, job.workload, progress=watcher, **options)
    except KeyboardInterrupt:
        raise KeyboardInterrupt(_stopped_text([(job, watcher.last)])) from None
    return _kept(job, record)


def _train_at_once(jobs: Sequence[Job], settings: Settings) -> list[RunRecord]:
    """Records are written as soon as they are there: what one run has done, a mishap of another leaves."""
    orders = [Order(job.chip, job.workload, _options(job, settings)) for job in jobs]
    watchers = [_Watcher() for _ in jobs]
    records: dict[int, RunRecord] = {}

    def done(number: int, record: RunRecord) -> None:
        records[number] = _kept(jobs[number], record)

    try:
        with show_runs(settings.quiet, len(jobs)) as listeners:
            for watcher, listener in zip(watchers, listeners, strict=True):
                watcher.listener = listener
            train_side_by_side(orders, lambda number, event: watchers[number](event), done)
    except KeyboardInterrupt:
        open_jobs = [(job, watchers[number].last) for number, job in enumerate(jobs) if number not in records]
        raise KeyboardInterrupt(_stopped_text(open_jobs)) from None
    return [records[number] for number in range(len(jobs))]


def _options(job: Job, settings: Settings) -> dict[str, Any]:
    """What `api.train` is told of a job, which starts anew unless it goes on."""
    resume = settings.resume and job.checkpoint_path.exists()
    if not resume and (kept := set_aside(job.checkpoint_path)):
        # it must not be taken for one of this run, and may hold hours of another
        click.echo(f"{job.chip.name}: the checkpoint of an unfinished run is kept as {kept}", err=True)
    return {
        "recipe": job.recipe,
        "seed": settings.seed,
        "epochs": settings.epochs,
        "batch": settings.batch,
        "mapping": job.mapping,
        "objective": settings.objective,
        "chips": settings.chips,
        "threads": settings.threads,
        "checkpoint": job.checkpoint_path,
        "resume": resume,
        "command": command_line(),
    }


def _kept(job: Job, record: RunRecord) -> RunRecord:
    """The record, written; the checkpoint has served."""
    write_text(job.record_path, record_text(record))
    job.checkpoint_path.unlink(missing_ok=True)
    return record


def _stopped_text(stopped: Sequence[tuple[Job, Progress | None]]) -> str:
    """What was kept, and how to go on."""
    parts = []
    for job, last in stopped:
        where = f" in epoch {last.epoch} of {last.epochs}" if last else ""
        kept = f"kept {job.checkpoint_path}" if job.checkpoint_path.exists() else "nothing of it was kept yet"
        parts.append(f"{job.chip.name}{where}; {kept}")
    command = command_line()
    again = command if "--resume" in command else f"{command} --resume"
    return "; ".join([*parts, f"go on with: {again}"])


def _finished_record(job: Job) -> RunRecord | None:
    """The record of an earlier run of exactly these inputs, if there is one."""
    if not job.record_path.exists():
        return None
    record, forecast = read_record(job.record_path), job.forecast
    same = (
        record.kind == "train"
        and record.seed == job.seed
        and (record.batch, record.epochs) == (forecast.batch, forecast.epochs)
        and record.chip.sha256 == forecast.chip.sha256
        and record.workload.sha256 == forecast.workload.sha256
        and record.recipe.sha256 == forecast.recipe.sha256
        and record.formats == forecast.formats
        and (record.mapping, record.objective) == (forecast.mapping, forecast.objective)
        and record.system == forecast.system
        and (forecast.dataset is None or record.dataset == forecast.dataset)
    )
    return record if same else None
