"""How far a training run is: a bar on a terminal, one line per epoch elsewhere, nothing when quiet."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from rich.progress import Progress as RichProgress

    from accelsim.run import Progress

Listener = Callable[["Progress"], None]


@contextmanager
def show_progress(quiet: bool) -> Iterator[Listener | None]:
    """A listener for the training loop, fit for where standard error goes; None when quiet."""
    with show_runs(quiet, 1) as (listener,):
        yield listener


@contextmanager
def show_runs(quiet: bool, count: int) -> Iterator[list[Listener | None]]:
    """A listener for each of several runs at once; on a terminal a bar each."""
    if quiet:
        yield [None] * count
    elif sys.stderr.isatty():
        with _bar() as bar:
            yield [_bar_listener(bar) for _ in range(count)]
    else:
        yield [_tell_epoch] * count


def epoch_line(event: Progress) -> str:
    """One line for a finished epoch: loss and accuracy in training, accuracy on the test set, speed."""
    tested = "" if event.test_accuracy is None else f"  test accuracy {100 * event.test_accuracy:5.1f} %"
    if event.metric is not None and event.metric.name != "accuracy":
        tested += f"  {event.metric.name} {event.metric.value:.3f}"
    left = f"  {clock(event.seconds_left)} left" if event.epoch < event.epochs else ""
    return (
        f"{event.chip}  epoch {event.epoch:>{len(str(event.epochs))}}/{event.epochs}  loss {event.loss:.4f}  "
        f"accuracy {100 * event.accuracy:5.1f} %{tested}  {event.samples_per_second:,.0f} samples/s{left}"
    )


def clock(seconds: float) -> str:
    """A length of time as people say it: '45 s', '3 min 05 s', '2 h 10 min'."""
    whole = max(0, round(seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60:02d} s" if whole % 60 else "")
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def _is_epoch_end(event: Progress) -> bool:
    return event.test_accuracy is not None


def _tell_epoch(event: Progress) -> None:
    if _is_epoch_end(event):
        click.echo(epoch_line(event), err=True)


def _bar() -> RichProgress:
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(bar_width=30),
        TextColumn("{task.percentage:>3.0f} %"),
        TextColumn("{task.fields[figures]}"),
        console=Console(stderr=True, highlight=False),
        transient=True,
        refresh_per_second=5,
    )


def _bar_listener(bar: RichProgress) -> Listener:
    task = bar.add_task("", total=None, figures="")

    def listen(event: Progress) -> None:
        done = (event.epoch - 1) * event.steps + event.step
        bar.update(
            task,
            description=f"{event.chip}  epoch {event.epoch}/{event.epochs}",
            total=event.epochs * event.steps,
            completed=event.epoch * event.steps if event.phase == "test" else done,
            figures=_figures(event),
        )
        if _is_epoch_end(event):
            bar.console.print(epoch_line(event))

    return listen


def _figures(event: Progress) -> str:
    if event.phase == "test":
        return "testing"
    return (
        f"loss {event.loss:.3f}  accuracy {100 * event.accuracy:.1f} %  "
        f"{event.samples_per_second:,.0f} samples/s  {clock(event.seconds_left)} left"
    )
