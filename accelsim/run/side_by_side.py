"""Several training runs at once, each in a process of its own; no bit of a run depends on its neighbours."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

from accelsim.chip import Chip
from accelsim.errors import InputError
from accelsim.record import RunRecord
from accelsim.run.progress import Progress
from accelsim.run.training import train
from accelsim.workload import Workload

_PATIENCE_SECONDS = 10
"""How long a process that was asked to end may take to tidy up."""


@dataclass(frozen=True)
class Order:
    """One run: what `train` takes, but whom it tells of its progress."""

    chip: Chip
    workload: Workload
    options: Mapping[str, Any]


def train_side_by_side(
    orders: Sequence[Order],
    tell: Callable[[int, Progress], None],
    done: Callable[[int, RunRecord], None],
) -> None:
    """Train all ``orders`` at the same time.

    ``tell`` is called after every step and ``done`` at the end of a run, both with the number of the order.

    When one of the runs fails, or the caller is interrupted, the others are ended too; what they have
    written to their checkpoints stays.

    Raises
    ------
    InputError: as `train`, and when a process ended before its run did. Any other error of a run, with the
        place where it happened as a note.
    """
    context = get_context("spawn")
    running: dict[Connection, int] = {}
    processes: list[BaseProcess] = []
    try:
        # Ctrl-C on a terminal reaches every process: this one alone answers it
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            for number, order in enumerate(orders):
                ours, theirs = context.Pipe(duplex=False)
                processes.append(context.Process(target=_work, args=(order, theirs), daemon=True))
                processes[-1].start()
                theirs.close()
                running[ours] = number
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        _listen(running, orders, tell, done)
    finally:
        _end(processes)


def _listen(
    running: dict[Connection, int],
    orders: Sequence[Order],
    tell: Callable[[int, Progress], None],
    done: Callable[[int, RunRecord], None],
) -> None:
    while running:
        for pipe in wait(list(running)):
            assert isinstance(pipe, Connection)
            number = running[pipe]
            try:
                said = pipe.recv()
            except EOFError:
                raise InputError(
                    "the process of this run ended before the run did (was memory short?); "
                    "--processes 1 trains one chip after the other",
                    orders[number].chip.name,
                ) from None
            if isinstance(said, BaseException):
                raise said
            if isinstance(said, Progress):
                tell(number, said)
            else:
                del running[pipe]
                done(number, said)


def _work(order: Order, pipe: Connection) -> None:
    """What a process does: its run, each step and then the record (or the error) sent down the pipe."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # as an exception, so that files are tidied up
    with suppress(ConnectionError):  # nobody is listening any more: there is nothing left to do
        try:
            pipe.send(train(order.chip, order.workload, progress=pipe.send, **order.options))
        except ConnectionError:
            raise
        except Exception as error:
            if not isinstance(error, InputError):
                error.add_note("".join(traceback.format_exception(error)))
            pipe.send(error)


def _end(processes: Sequence[BaseProcess]) -> None:
    for process in processes:
        process.terminate()
    for process in processes:
        process.join(_PATIENCE_SECONDS)
        if process.is_alive():
            process.kill()
            process.join()
