"""Counter-based random bits: the i-th number of a stream, whatever was drawn before it.

The same seed gives the same bits on every machine, with any number of threads and any version of
NumPy (whose own generators promise that only within a version).
"""

from __future__ import annotations

import hashlib

import numpy as np
from numpy.typing import NDArray

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)


def stream_key(seed: int, *words: str | int) -> int:
    """A 64-bit key for one stream of a run: seed, purpose, tensor, epoch."""
    text = "\x1f".join([str(seed), *map(str, words)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")


def random_words(key: int, count: int, first: int = 0) -> NDArray[np.uint64]:
    """``count`` words of a stream from word ``first`` on: uint64 (count,).

    SplitMix64 (Steele et al., OOPSLA 2014).
    """
    with np.errstate(over="ignore"):
        word = np.uint64(key) + _GOLDEN * np.arange(first + 1, first + count + 1, dtype=np.uint64)
        word = (word ^ (word >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        word = (word ^ (word >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return word ^ (word >> np.uint64(31))


def uniform(key: int, count: int) -> NDArray[np.float64]:
    """Uniform in [0, 1), multiples of 2**-53: float64 (count,)."""
    return (random_words(key, count) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def permutation(key: int, count: int) -> NDArray[np.int64]:
    """A random order of 0 .. count - 1: int64 (count,)."""
    return np.argsort(random_words(key, count), kind="stable").astype(np.int64)
