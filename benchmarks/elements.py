"""Conversions and statistics, element by element: CPU time of one thread."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np

from accelsim.numerics.compiled import set_threads
from accelsim.numerics.formats import number_format
from accelsim.numerics.quantise import (
    codes_of,
    integer_codes,
    largest_magnitude,
    magnitude_moments,
    radix4_codes,
    values_of,
)
from accelsim.numerics.random_bits import stream_key
from benchmarks.measuring import Row, Size, Work, cpu_seconds

FORMATS = {"INT4": "int4", "FP4": "fp4_r4_odd", "FP8": "fp8_e4m3fn"}
NEAREST_NS, STOCHASTIC_NS = 0.5, 1.2


def element_rows(size: Size) -> Iterator[Row]:
    """Values to codes and back; the stated targets are ns per element."""
    set_threads(1)
    values = np.random.default_rng(1).normal(0, 2, size.elements).astype(np.float32)
    shape = f"{size.elements:,}"
    for name, work, note, target in conversions(values):
        ns = cpu_seconds(work, size.repeats) * 1e9 / size.elements
        yield Row("elements", name, shape, ns, "ns/element", None, "", target, "value", note)


def conversions(values: Any) -> Iterator[tuple[str, Work, str, float]]:
    """(name, work, function called, most ns per element)."""
    key = stream_key(1, "benchmark")
    for name, fmt in ((name, number_format(each)) for name, each in FORMATS.items()):
        codes = fmt.encode(values)
        stochastic = partial(fmt.encode, values, "stochastic", key=key)
        yield f"quantise to {name}, nearest", *_nearest(name, values), NEAREST_NS
        yield f"quantise to {name}, stochastic", stochastic, "NumberFormat.encode", STOCHASTIC_NS
        back = partial(values_of, codes, fmt, np.empty_like(values))
        yield f"dequantise {name}", back, "values_of", NEAREST_NS


def _nearest(name: str, values: Any) -> tuple[Work, str]:
    """The conversion that a training run does."""
    fmt = number_format(FORMATS[name])
    if name == "INT4":
        return lambda: integer_codes(values, fmt, 1.0, -8), "integer_codes"
    if name == "FP4":
        return lambda: radix4_codes(values, 3, odd=True), "radix4_codes"
    return lambda: codes_of(values, fmt), "codes_of"


def statistic_rows(size: Size) -> Iterator[Row]:
    """Statistics of a tensor against a memory copy of it."""
    set_threads(1)
    values = np.random.default_rng(1).normal(size=size.elements).astype(np.float32)
    target = np.empty_like(values)
    repeats = 5 * size.repeats  # each is short, and the yardstick is a bound
    copy = cpu_seconds(lambda: np.copyto(target, values), repeats)
    works: dict[str, tuple[Work, str]] = {
        "memory copy": (lambda: np.copyto(target, values), "numpy.copyto"),
        "SAWB moments (sums of |x| and x*x)": (lambda: magnitude_moments(values), "magnitude_moments"),
        "largest magnitude": (lambda: largest_magnitude(values), "largest_magnitude"),
    }
    for name, (work, note) in works.items():
        seconds = copy if name == "memory copy" else cpu_seconds(work, repeats)
        wanted = None if name == "memory copy" else 1.0
        ns = seconds * 1e9 / size.elements
        shape = f"{size.elements:,}"
        yield Row(
            "statistics", name, shape, ns, "ns/element", copy / seconds, "memory copy", wanted, note=note
        )
