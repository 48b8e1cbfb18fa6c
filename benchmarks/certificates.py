"""A rounding at every add by certificate: what it depends on, the operands, from the best to the worst."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import numpy as np

from accelsim import api
from accelsim.datapath import split_k
from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.compiled import set_threads
from accelsim.numerics.formats import number_format
from benchmarks.measuring import Row, Size, cpu_seconds
from benchmarks.products import WHOLE_K, YARDSTICK

Pair = tuple[Matrix, Matrix]
TARGET = 1.0
STEPS = 20
"""Of training, before its operands are taken."""

_DLFLOAT, _HALF = Accumulation(1, 64, "dlfloat16"), Accumulation(1, 64, "fp16")
_LONG, _WHOLE = Accumulation(1, 128, "dlfloat16"), Accumulation(1, WHOLE_K, "dlfloat16")


def _uniform(extent: int) -> Pair:
    rng, fmt = np.random.default_rng(1), number_format("int4")
    a, b = (rng.integers(0, 16, (extent, extent)).astype(np.uint8) for _ in range(2))
    return Matrix(a, fmt), Matrix(b, fmt)


def _rectified(extent: int) -> Pair:
    """Activations after a ReLU: half of them zero, the largest as large as four deviations."""
    values = np.random.default_rng(2).normal(size=(extent, extent)).astype(np.float32)
    fmt = number_format("uint4")
    return Matrix(fmt.encode(np.maximum(values, 0) * np.float32(15 / 4)), fmt), _uniform(extent)[1]


def _largest(extent: int) -> Pair:
    each = Matrix(np.full((extent, extent), 8, np.uint8), number_format("int4"))
    return each, each


_CASES: tuple[tuple[str, Callable[[int], Pair], Accumulation, float | None], ...] = (
    ("uniform INT4 x INT4, chunks of 64", _uniform, _DLFLOAT, TARGET),
    ("uniform INT4 x INT4, half, chunks of 64", _uniform, _HALF, TARGET),
    ("uniform INT4 x INT4, chunks of 128", _uniform, _LONG, TARGET),
    ("UINT4 after a ReLU x uniform INT4, chunks of 64", _rectified, _DLFLOAT, TARGET),
    ("UINT4 after a ReLU x uniform INT4, chunks of 128", _rectified, _LONG, TARGET),
    ("uniform INT4 x INT4, all of K one chunk", _uniform, _WHOLE, None),
    ("all -8 x -8, chunks of 64", _largest, _DLFLOAT, None),
)


def certificate_rows(size: Size) -> Iterator[Row]:
    """The largest square with operands of all kinds, and the forward products of a network in training."""
    set_threads(1)
    extent = size.squares[-1]
    floats = np.random.default_rng(3).normal(size=(extent, extent)).astype(np.float32)
    yardstick = cpu_seconds(lambda: floats @ floats, size.repeats)
    for name, make, rule, target in _CASES:
        a, b = make(extent)
        seconds = cpu_seconds(lambda: multiply(rule, a, b), size.repeats)  # noqa: B023
        ns_per_mac, ratio = seconds * 1e9 / extent**3, yardstick / seconds
        kernel = multiply(rule, a, b)[1]
        yield Row(
            "certificates", name, f"{extent}^3", ns_per_mac, "ns/MAC", ratio, YARDSTICK, target, note=kernel
        )
    if size.training:
        yield from _training_rows(size)


def _training_rows(size: Size) -> Iterator[Row]:
    pairs = forward_operands("fp4_training", "fashion_cnn", STEPS)
    macs = sum(a.array.shape[0] * a.array.shape[1] * b.array.shape[1] for a, b in pairs)
    set_threads(1)
    floats = [(a.values(), b.values()) for a, b in pairs]
    yardstick = sum(cpu_seconds(lambda: x @ y, size.repeats) for x, y in floats)  # noqa: B023
    for chunk in (64, 128):
        rule = Accumulation(1, chunk, "dlfloat16")
        seconds = sum(cpu_seconds(lambda: multiply(rule, *pair), size.repeats) for pair in pairs)  # noqa: B023
        kernels = sorted({multiply(rule, *pair)[1] for pair in pairs})
        yield Row(
            "certificates", f"forward products of fashion_cnn after {STEPS} steps, chunks of {chunk}",
            f"{len(pairs)} products", seconds * 1e9 / macs, "ns/MAC", yardstick / seconds, YARDSTICK,
            note=", ".join(kernels),
        )  # fmt: skip


def forward_operands(chip: str, workload: str, steps: int) -> list[Pair]:
    """The 4-bit integers that the last of a few training steps multiplies, a pair for each product."""
    kept: list[Pair] = []
    whole = split_k.multiply

    def keep(rule: Accumulation, a: Matrix, b: Matrix, *origin: Any) -> Any:
        if {a.format.name, b.format.name} <= {"int4", "uint4"}:
            kept.append((Matrix(a.array.copy(), a.format), Matrix(b.array.copy(), b.format)))
        return whole(rule, a, b, *origin)

    def restart(line: str) -> None:
        if not line.startswith(f"step {steps} of"):
            kept.clear()

    with patch.object(split_k, "multiply", keep):
        api.probe(chip, workload, steps=steps, threads=1, progress=restart)
    return kept
