"""Tensors for the vector unit, and the comparison of its bits with a slow twin's, by one thread and two."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from thread_counts import with_one_and_two

from accelsim.numerics.quantise import round_to


def tensor(shape: tuple[int, ...], storage: str, seed: int = 0, spread: float = 2.0) -> np.ndarray:
    """Numbers of many sizes and both signs, zeros among them, all values of the storage format."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, shape) * np.exp(rng.normal(0, spread, shape))
    values[rng.random(shape) < 0.1] = 0
    return round_to(values.astype(np.float32), storage)


def singles(count: int, seed: int, low: float = -2.0, high: float = 2.0) -> np.ndarray:
    """Parameters and statistics: float32 with all of its bits in use."""
    return np.random.default_rng(seed).uniform(low, high, count).astype(np.float32)


def assert_same_bits(function: Callable[[], Any], wanted: Any) -> None:
    """With one thread and with two, every array equals the slow twin's in type, shape and bits."""
    for result in with_one_and_two(function):
        pairs = zip(result, wanted, strict=True) if isinstance(wanted, tuple) else [(result, wanted)]
        for got, exact in pairs:
            assert (got.dtype, got.shape) == (exact.dtype, exact.shape)
            np.testing.assert_array_equal(
                np.ascontiguousarray(got).view(np.uint8), np.ascontiguousarray(exact).view(np.uint8)
            )
