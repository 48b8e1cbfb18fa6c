"""Running a workload on a chip: estimates and training, each ending in a `RunRecord`."""

from __future__ import annotations

from typing import Any

from accelsim.run.estimating import estimate
from accelsim.run.progress import Progress

__all__ = ["Progress", "estimate", "train"]


def train(*args: Any, **options: Any) -> Any:
    """Train a workload on a chip; see `accelsim.run.training.train`.

    Loaded when first called: estimates and checks must not pay for the compiler.
    """
    from accelsim.run.training import train as run_training

    return run_training(*args, **options)
