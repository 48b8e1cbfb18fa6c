"""What is known of a data set: enough to build a network on it, price it and write a record."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int, ...]

IGNORED = -1
"""The label of a position that counts for nothing: padding."""


@dataclass(frozen=True)
class PairLayout:
    """How a source and a target sequence share one row of token ids.

    The first ``source`` positions hold the source, closed by ``stop`` and filled with ``padding``; the
    others hold ``start`` and the target. A sample's labels are the target, closed by ``stop``.
    """

    source: int
    padding: int
    start: int
    stop: int


@dataclass(frozen=True)
class Origin:
    """Where values came from; ``sha256`` is the digest of their file, hexadecimal."""

    name: str
    sha256: str
    license: str
    source: str


def own_origin(path: Path, sha256: str) -> Origin:
    """The origin of the user's own file or folder."""
    return Origin(path.stem, sha256, "as given by the user", str(path))


@dataclass(frozen=True)
class DataFacts:
    """A data set without its values.

    ``input_shape``: of one sample, (height, width, channels), (steps, channels), (features,), or
    (positions,) of token ids. ``tokens``: ids are 0 .. ``tokens`` - 1; None for samples that are numbers.
    ``targets``: shape of the labels of one sample, () for one class. ``classes``: labels are
    0 .. ``classes`` - 1. ``symbol``: what one label of a sequence stands for. ``layout``: of pairs of
    sequences. ``origin``: None where there are no values.
    """

    origin: Origin | None
    input_shape: Shape
    classes: int
    train_samples: int
    test_samples: int
    tokens: int | None = None
    targets: Shape = ()
    symbol: str = "token"
    layout: PairLayout | None = None

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's logits, which the network must end in."""
        return (*self.targets, self.classes)


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory; the arrays are read-only.

    ``train_x`` and ``test_x``: (samples, *input_shape): uint8 or float32 numbers, or integer token ids.
    ``train_y`` and ``test_y``: int64, (samples, *targets), classes from 0, `IGNORED` for padding.
    """

    facts: DataFacts
    train_x: NDArray[Any]
    train_y: NDArray[np.int64]
    test_x: NDArray[Any]
    test_y: NDArray[np.int64]
