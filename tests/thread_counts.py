"""Running the same thing with one thread and with two."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from accelsim.numerics.compiled import set_threads

Result = TypeVar("Result")


@contextmanager
def threads(count: int) -> Iterator[None]:
    """``count`` threads inside (fewer on a machine that has fewer cores), all of them again afterwards."""
    set_threads(count)
    try:
        yield
    finally:
        set_threads(None)


def with_one_and_two(function: Callable[[], Result]) -> tuple[Result, Result]:
    """What the function returns with one thread, and with two."""
    with threads(1):
        one = function()
    with threads(2):
        return one, function()
