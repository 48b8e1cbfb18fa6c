"""One row of a topology or problem file: a convolution or matrix product on its own."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from accelsim.importing.writing import Item


@dataclass(frozen=True)
class Window:
    """The sliding window of a convolution, per axis (down, across): kernel, step, step between taps."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)

    @property
    def plain(self) -> bool:
        """Whether a `conv2d` layer can say it: square, one step, neighbouring taps."""
        same = self.kernel[0] == self.kernel[1] and self.stride[0] == self.stride[1]
        return same and self.dilation == (1, 1)


@dataclass(frozen=True)
class Problem:
    """``groups`` products of (positions x products) by (products x outputs), for each of ``batch`` samples.

    A convolution has ``window`` and ``extent`` = output positions (down, across), whose product is
    ``positions``; ``products`` is then channels per group x taps.
    """

    name: str
    positions: int
    products: int
    outputs: int
    groups: int = 1
    batch: int = 1
    window: Window | None = None
    extent: tuple[int, int] = field(default=(1, 1))

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one sample's forward pass."""
        return self.groups * self.positions * self.products * self.outputs

    def as_one_sample(self) -> Problem:
        """The same products with the batch among the positions."""
        if self.batch == 1:
            return self
        return replace(self, batch=1, positions=self.batch * self.positions, window=None)

    def items(self) -> list[Item]:
        """The layer, after a `refit` that gives it an input of its own.

        A convolution that `conv2d` cannot say (oblong kernel or step, spread taps) is written as the matrix
        product it becomes on an array: the same GEMMs, its input counted with the repeats of the windows.
        A matrix product is a 1 x 1 convolution of an image as high as the product has rows.
        """
        window = self.window if self.window and self.window.plain else None
        kernel, stride = (window.kernel[0], window.stride[0]) if window else (1, 1)
        rows, cols = self.extent if window else (self.positions, 1)
        channels = self.groups * self.products // kernel**2
        shape = [(rows - 1) * stride + kernel, (cols - 1) * stride + kernel, channels]
        settings: dict[str, object] = {"channels": self.groups * self.outputs, "kernel": kernel}
        settings |= {"stride": stride} if stride > 1 else {}
        settings |= {"padding": 0} if kernel > 1 else {}
        settings |= {"groups": self.groups} if self.groups > 1 else {}
        return [("refit", {"shape": shape}), ("conv2d", settings | {"name": self.name})]


def problem_items(problems: Sequence[Problem]) -> tuple[list[Item], list[int], int]:
    """All rows as one network: (layers, input shape, classes).

    The last `refit` keeps as many values as the last row has outputs, so that the loss stays small.
    """
    items = [item for problem in problems for item in problem.items()]
    shape = list(items[0][1]["shape"])
    classes = max(2, problems[-1].groups * problems[-1].outputs)
    return [*items[1:], ("refit", {"shape": [classes]})], shape, classes
