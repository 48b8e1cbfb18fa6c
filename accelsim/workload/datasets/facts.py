"""What is known of a data set: enough to build a network on it, price it and write a record."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Shape = tuple[int, ...]

IGNORED = -1
"""The label of a position that counts for nothing: padding."""


@dataclass(frozen=True)
class DataFacts:
    """A data set without its values.

    ``input_shape``: of one sample, (height, width, channels), (steps, channels), (features,), or
    (positions,) of token ids. ``tokens``: ids are 0 .. ``tokens`` - 1; None for samples that are numbers.
    ``targets``: shape of the labels of one sample, () for one class. ``classes``: labels are
    0 .. ``classes`` - 1. ``sha256`` is that of the file, hexadecimal; None where there are no values.
    """

    name: str
    input_shape: Shape
    classes: int
    train_samples: int
    test_samples: int
    tokens: int | None = None
    targets: Shape = ()
    sha256: str | None = None
    license: str = ""
    source: str = ""

    @property
    def output_shape(self) -> Shape:
        """Shape of one sample's logits, which the network must end in."""
        return (*self.targets, self.classes)

    @property
    def labels_per_sample(self) -> int:
        """Number of labels of one sample, padding included."""
        return math.prod(self.targets)


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
