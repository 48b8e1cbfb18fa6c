"""One row of a topology or problem file: a convolution or matrix product on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from accelsim.importing.writing import Item

MOST = 1024
"""The largest kernel, stride and dilation of a layer."""


def one_or_two(pair: Sequence[int]) -> int | list[int]:
    """(down, across) as a workload file says it: one number where they are equal."""
    return pair[0] if pair[0] == pair[1] else list(pair)


@dataclass(frozen=True)
class Window:
    """The sliding window of a convolution, per axis (down, across): kernel, step, step between taps."""

    kernel: tuple[int, int]
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)

    @property
    def sayable(self) -> bool:
        """Whether a `conv2d` layer takes numbers as large as these."""
        return max(*self.kernel, *self.stride, *self.dilation) <= MOST

    def inputs(self, positions: tuple[int, int]) -> tuple[int, int]:
        """Extents of an image of which the window has this many positions, without padding."""
        down, across = (
            (positions[i] - 1) * self.stride[i] + (self.kernel[i] - 1) * self.dilation[i] + 1 for i in (0, 1)
        )
        return down, across


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

        A matrix product is a 1 x 1 convolution of an image as high as the product has rows; so is written a
        convolution whose window is larger than a layer's may be.
        """
        window, extent = self.window, self.extent
        if window is None or not window.sayable:
            window, extent = Window((1, 1)), (self.positions, 1)
        channels = self.groups * self.products // math.prod(window.kernel)
        shape = [*window.inputs(extent), channels]
        settings: dict[str, object] = {"channels": self.groups * self.outputs}
        settings |= {"kernel": one_or_two(window.kernel)}
        settings |= {"stride": one_or_two(window.stride)} if window.stride != (1, 1) else {}
        settings |= {"padding": 0} if window.kernel != (1, 1) else {}
        settings |= {"dilation": one_or_two(window.dilation)} if window.dilation != (1, 1) else {}
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
