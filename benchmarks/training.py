"""Training of the demo on its two chips, on as many threads as runs choose."""

from __future__ import annotations

import time
from collections.abc import Iterator

from accelsim import api
from benchmarks.measuring import Row, Size

WARM_UP_STEPS = 20


def training_rows(size: Size) -> Iterator[Row]:
    """Samples per second from step `WARM_UP_STEPS` to the end of an epoch; time on the clock."""
    if not size.training:
        return
    workload = api.load_workload("fashion_cnn")
    for name in ("fp4_training", "fp16_training"):
        marks: list[float] = []

        def note(event: api.Progress, marks: list[float] = marks) -> None:
            if event.phase == "train" and event.step >= WARM_UP_STEPS:
                marks.append(time.perf_counter())

        record = api.train(api.load_chip(name), workload, epochs=1, progress=note)
        rate = (len(marks) - 1) * record.batch / (marks[-1] - marks[0])
        yield Row("training", f"fashion_cnn on {name}", "", rate, "samples/s", note="wall clock")
