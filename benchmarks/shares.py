"""Where the CPU time of training goes: each step's time by part, one thread."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import wraps
from typing import Any
from unittest.mock import patch

from accelsim import api
from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.numerics.compiled import set_threads
from benchmarks.measuring import Row, Size

GEMM, PACKING, QUANTISERS, LAYOUT, VECTOR = "GEMM kernels", "packing", "quantisers", "im2col", "vector unit"
REST = "everything else"
"""Where a vector function ends, its result is rounded to the storage format, which is a quantiser's work."""
PARTS = (GEMM, PACKING, QUANTISERS, LAYOUT, VECTOR, REST)
WARM_UP_STEPS = 20
OTHERS, MOST_OTHERS = "all but products, packing and quantisers", 20.0
"""Of which there are to be so many percent at most."""

_MAKERS = (
    ("accelsim.numerics.tile_product._tiled_kernel", GEMM),
    ("accelsim.numerics.integer_product._blocked_kernel", GEMM),
    ("accelsim.numerics.chain_product._chained_kernel", GEMM),
    ("accelsim.numerics.integer_product.lengths_kernel", PACKING),
    ("accelsim.numerics.double_kernel._multiply_kernel", GEMM),
)
"""Functions that return a compiled kernel."""

_FUNCTIONS = (
    ("accelsim.numerics.accumulate.accumulate_general", GEMM),
    ("accelsim.numerics.accumulate.accumulate_at", GEMM),
    ("accelsim.datapath.gemm.exact_sums", GEMM),
    ("accelsim.datapath.edge._cut", QUANTISERS),
    ("accelsim.datapath.edge.stored_stack", QUANTISERS),
    ("accelsim.numerics.tile_product.pack_panels", PACKING),
    ("accelsim.numerics.integer_product.pack_words", PACKING),
    ("accelsim.numerics.integer_product.pack_window_words", PACKING),
    ("accelsim.numerics.certified_product._sample", PACKING),
    ("accelsim.numerics.chain_product.pack_panels", PACKING),
    ("accelsim.numerics.chain_product._left", PACKING),
    ("accelsim.numerics.chain_product._singles", PACKING),
    ("accelsim.numerics.accumulate._packed", PACKING),
    ("accelsim.datapath.split_k._rounded", GEMM),
    ("accelsim.datapath.gemm.stored_sums", QUANTISERS),
    ("accelsim.datapath.vector_unit.round_to", QUANTISERS),
    ("accelsim.run.scale_rules.cast", QUANTISERS),
    ("accelsim.run.scale_rules.scaled", QUANTISERS),
    ("accelsim.run.scale_rules.largest_scale", QUANTISERS),
    ("accelsim.run.scale_rules.power_scale", QUANTISERS),
    ("accelsim.run.scale_rules.rms_scale", QUANTISERS),
    ("accelsim.run.chip_executor.sawb", QUANTISERS),
    ("accelsim.run.chip_executor.pact", QUANTISERS),
    ("accelsim.run.chip_executor.gradient_codes", QUANTISERS),
    ("accelsim.run.chip_executor.largest_magnitude", QUANTISERS),
    ("accelsim.numerics.window_kernels.window_rows", LAYOUT),
    ("accelsim.numerics.window_kernels.window_planes", LAYOUT),
    ("accelsim.network.conv2d.grouped", LAYOUT),
    ("accelsim.network.conv2d.ungrouped", LAYOUT),
    ("accelsim.run.step.update", VECTOR),
)


class Stopwatch:
    """CPU time by part, each moment in the innermost part that runs.

    ``tick``: what a look at the clock takes, which is no part of what is measured; default as found.
    """

    def __init__(self, clock: Callable[[], float] = time.process_time, tick: float | None = None) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._clock = clock
        self._tick = _seconds_of(clock) if tick is None else tick
        self._parts = [REST]
        self._since = clock()

    def restart(self) -> None:
        """Forget what was measured."""
        self.seconds.clear()
        self._since = self._clock()

    def _turn(self) -> None:
        now = self._clock()
        self.seconds[self._parts[-1]] += max(now - self._since - self._tick, 0.0)
        self._since = now

    def measured(self, function: Callable[..., Any], part: str) -> Callable[..., Any]:
        """The function, its time counted to ``part``."""

        @wraps(function)
        def run(*words: Any, **options: Any) -> Any:
            self._turn()
            self._parts.append(part)
            try:
                return function(*words, **options)
            finally:
                self._turn()
                self._parts.pop()

        return run

    def stop(self) -> dict[str, float]:
        """Seconds by part, until now."""
        self._turn()
        return dict(self.seconds)


def _seconds_of(clock: Callable[[], float], looks: int = 2000) -> float:
    """What a look at the clock takes."""
    times = [clock() for _ in range(looks)]
    return (times[-1] - times[0]) / (looks - 1)


@contextmanager
def measured_parts(watch: Stopwatch) -> Iterator[None]:
    """Every function that belongs to a part counts its time there."""
    with ExitStack() as stack:
        for name, part in _FUNCTIONS:
            stack.enter_context(_replaced(name, lambda function, part=part: watch.measured(function, part)))
        for name, part in _MAKERS:
            stack.enter_context(_replaced(name, lambda make, part=part: _making(watch, make, part)))
        for name, function in vars(ChipVectorUnit).items():
            if callable(function) and not name.startswith("_"):
                stack.enter_context(patch.object(ChipVectorUnit, name, watch.measured(function, VECTOR)))
        yield


def _making(watch: Stopwatch, make: Callable[..., Any], part: str) -> Callable[..., Any]:
    return lambda *config: watch.measured(make(*config), part)


def _replaced(name: str, change: Callable[[Any], Any]) -> Any:
    place, _, last = name.rpartition(".")
    module = __import__(place, fromlist=[last])
    return patch.object(module, last, change(getattr(module, last)))


def share_rows(size: Size) -> Iterator[Row]:
    """Shares of an epoch from step `WARM_UP_STEPS` on, its test and its record included."""
    if not size.training:
        return
    set_threads(1)
    for workload in ("fashion_cnn", "fashion_depthwise", "speech_cnn"):
        for chip in ("fp4_training", "fp16_training"):
            yield from _rows(f"{workload} on {chip}", shares_of(chip, workload))


def shares_of(chip: str, workload: str) -> dict[str, float]:
    """Seconds of CPU time by part."""
    watch = Stopwatch()

    def note(event: api.Progress) -> None:
        if event.phase == "train" and event.step == WARM_UP_STEPS:
            watch.restart()

    with measured_parts(watch):
        api.train(chip, workload, epochs=1, threads=1, progress=note)
        return watch.stop()


def _rows(case: str, seconds: dict[str, float]) -> Iterator[Row]:
    whole = sum(seconds.values())
    for part in PARTS:
        yield Row("shares", case, part, 100 * seconds.get(part, 0.0) / whole, "%")
    others = sum(seconds.get(part, 0.0) for part in (LAYOUT, VECTOR, REST))
    yield Row("shares", case, OTHERS, 100 * others / whole, "%", None, "", MOST_OTHERS, "value")
