"""How fast values are simulated: kernels against numpy's float32 product, and whole training runs.

Times are CPU times of one thread for the kernels, so that other work on the machine counts little, and
wall times for training. Compilation is not counted.
"""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import numpy as np

from accelsim import api
from accelsim.numerics.accumulate import Accumulation, Matrix, multiply
from accelsim.numerics.compiled import set_threads
from accelsim.numerics.formats import number_format

SIZE = 1024
REPEATS = 3
WARM_UP_STEPS = 20
CASES = (
    ("INT4 x INT4, 16 lanes", "int4", "int4", Accumulation(16, 64, "dlfloat16")),
    ("INT4 x radix-4 FP4, 16 lanes", "int4", "fp4_r4_odd", Accumulation(16, 64, "dlfloat16")),
    ("DLFloat16 x DLFloat16, an FMA each", "dlfloat16", "dlfloat16", Accumulation(1, 64, "dlfloat16")),
    ("IEEE half x half, an FMA each", "fp16", "fp16", Accumulation(1, 64, "fp16")),
)


def operand(name: str, generator: np.random.Generator) -> Matrix:
    """A random operand: all codes of a 4-bit format, values around zero of a 16-bit one."""
    fmt = number_format(name)
    if fmt.bits <= 8:
        return Matrix(generator.integers(0, 1 << fmt.bits, (SIZE, SIZE)).astype(np.uint8), fmt)
    return Matrix(fmt.round(generator.normal(0, 0.1, (SIZE, SIZE))).astype(np.float32), fmt)


def cpu_seconds(work: Callable[[], object]) -> float:
    """The least CPU time of a few calls, after one that is not counted."""
    work()
    times = []
    for _ in range(REPEATS):
        start = time.process_time()
        work()
        times.append(time.process_time() - start)
    return min(times)


def bench_kernels() -> None:
    """ns per multiply-accumulate of each kernel, and its speed relative to numpy's float32 product."""
    generator = np.random.default_rng(1)
    set_threads(1)
    floats = generator.normal(size=(SIZE, SIZE)).astype(np.float32)
    yardstick = cpu_seconds(lambda: floats @ floats)
    print(f"{SIZE}^3 product, one thread{'':26}ns/MAC   GMAC/s   x float32   kernel")
    print(f"{'numpy float32 (the yardstick)':50}{line(yardstick, yardstick)}")
    for label, a_format, b_format, rule in CASES:
        a, b = operand(a_format, generator), operand(b_format, generator)
        seconds = cpu_seconds(lambda a=a, b=b, rule=rule: multiply(rule, a, b))  # type: ignore[misc]
        print(f"{label:50}{line(seconds, yardstick)}   {multiply(rule, a, b)[1]}")


def line(seconds: float, yardstick: float) -> str:
    """ns per MAC, GMAC/s and the ratio to the yardstick."""
    return f"{seconds * 1e9 / SIZE**3:6.4f}   {SIZE**3 / seconds / 1e9:6.1f}   {yardstick / seconds:9.2f}"


def bench_training() -> None:
    """Samples per second of training the demo on its two chips, all threads, first steps not counted."""
    workload = api.load_workload("fashion_cnn")
    print(f"\ntraining fashion_cnn, all threads, steps {WARM_UP_STEPS} to the end of an epoch")
    for name in ("fp4_training", "fp16_training"):
        marks: list[float] = []

        def note(event: api.Progress, marks: list[float] = marks) -> None:
            if event.phase == "train" and event.step >= WARM_UP_STEPS:
                marks.append(time.perf_counter())

        record = api.train(api.load_chip(name), workload, epochs=1, progress=note)
        rate = (len(marks) - 1) * record.batch / (marks[-1] - marks[0])
        print(f"{name:50}{rate:8,.0f} samples/s")


if __name__ == "__main__":
    machine = platform.processor() or platform.machine()
    print(f"{machine}, {os.cpu_count()} cores, Python {platform.python_version()}")
    bench_kernels()
    bench_training()
