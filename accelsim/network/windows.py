"""Sliding windows of images as GEMM operands (im2col), forward and transposed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from math import gcd

import numpy as np

from accelsim.network.executor import Array, Operand
from accelsim.numerics.window_operand import all_windows
from accelsim.numerics.window_walk import Walk
from accelsim.operations import Axis


@dataclass(frozen=True)
class Residue:
    """The input positions along one axis that meet the same taps of a window.

    Input position ``i`` meets tap ``p`` if ``i + before - p * dilation`` is a multiple of the stride. Those
    of a class are every stride-th from ``first_input`` on and meet the taps ``offset``, ``offset +
    spacing``, ... only; for the j-th of these the output position is ``quotient(i) - j * back``, where the
    quotient grows by one from an input to the next.
    """

    offset: int
    spacing: int
    taps: int
    first_input: int
    inputs: int
    first_quotient: int
    back: int

    def over(self, outputs: int) -> Axis:
        """The gradient of ``outputs`` positions under the taps of this class: a window of stride 1."""
        first = self.first_quotient - (self.taps - 1) * self.back
        return Axis(outputs, self.inputs, self.taps, 1, first, self.back)


@dataclass(frozen=True)
class Window:
    """How a window slides along one axis.

    Output position ``o`` meets, with tap ``j`` of ``taps``, input position ``o * stride - before + j *
    dilation``; there are ``before`` and ``after`` zeros around the input.
    """

    taps: int
    stride: int = 1
    before: int = 0
    after: int = 0
    dilation: int = 1

    @property
    def span(self) -> int:
        """Input positions from the first tap to the last."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def alone(self) -> bool:
        """Whether each position meets itself and nothing else."""
        return self.taps == self.stride == 1 and self.before == self.after == 0

    def positions(self, extent: int) -> int:
        """Output positions (below 1 where the window does not fit)."""
        return (extent + self.before + self.after - self.span) // self.stride + 1

    def over(self, extent: int) -> Axis:
        """An image of this extent under the window."""
        return Axis(extent, self.positions(extent), self.taps, self.stride, -self.before, self.dilation)

    def residues(self, extent: int) -> tuple[Residue, ...]:
        """The classes of input positions that meet any tap."""
        return _residues(self, extent)


@lru_cache(maxsize=4096)
def _residues(window: Window, extent: int) -> tuple[Residue, ...]:
    stride, common = window.stride, gcd(window.stride, window.dilation)
    spacing, back = stride // common, window.dilation // common
    found = []
    for rest in range(0, stride, common):  # between multiples of the common divisor no tap falls
        offset = next(tap for tap in range(spacing) if (tap * window.dilation - rest) % stride == 0)
        taps = len(range(offset, window.taps, spacing))
        first = (rest - window.before) % stride
        inputs = len(range(first, extent, stride))
        if taps and inputs:
            quotient = (first + window.before - offset * window.dilation) // stride
            found.append(Residue(offset, spacing, taps, first, inputs, quotient, back))
    return tuple(found)


def im2col(images: Array, down: Window, across: Window, groups: int = 1) -> Array:
    """Windows of images as rows.

    Parameters
    ----------
    images: (n, h, w, c), codes or values (code 0 is zero in every format).

    Returns
    -------
    (n * oh * ow, taps down * taps across * c), columns ordered (tap row, tap column, channel); of several
    groups of channels a stack (groups, n * oh * ow, taps down * taps across * c / groups).
    """
    return windowed(Operand(images, ""), down, across, groups).array


def windowed(images: Operand, down: Window, across: Window, groups: int = 1) -> Operand:
    """What `im2col` gives of an operand; of one group the matrix is not made before somebody needs it."""
    n, height, width, channels = images.shape
    if down.alone and across.alone and groups == 1:
        return images.rearranged(images.array.reshape(n * height * width, channels))
    walk = Walk(
        (down.positions(height), across.positions(width)),
        (down.taps, across.taps),
        (-down.before, -across.before),
        (down.stride, across.stride),
        (down.dilation, across.dilation),
    )
    return _windows(images, walk, groups)


def gradient_columns(dy: Array, down: Residue, across: Residue, groups: int = 1) -> Array:
    """Windows of dL/dy for one pair of residue classes, as rows.

    Parameters
    ----------
    dy: (n, oh, ow, c).

    Returns
    -------
    (n * inputs down * inputs across, taps down * taps across * c): row i holds, for tap j, the
    output position quotient(i) - j * back, or zero outside the image. Of several groups a stack as in
    `im2col`.
    """
    return gradient_windowed(Operand(dy, ""), down, across, groups).array


def gradient_windowed(dy: Operand, down: Residue, across: Residue, groups: int = 1) -> Operand:
    """What `gradient_columns` gives of an operand, made late as in `windowed`."""
    first = down.first_quotient, across.first_quotient
    back = -down.back, -across.back
    walk = Walk((down.inputs, across.inputs), (down.taps, across.taps), first, (1, 1), back)
    return _windows(dy, walk, groups)


def grouped(array: Array, groups: int) -> Array:
    """(..., c) as a matrix (rows, c), or a stack of one for each group of channels.

    Each matrix of a stack (groups, rows, c / groups) lies transposed in memory: groups are narrow, and so
    neighbours lie together.
    """
    channels = array.shape[-1]
    if groups == 1:
        return array.reshape(-1, channels)
    by_channel = np.ascontiguousarray(np.moveaxis(array, -1, 0))
    return by_channel.reshape(groups, channels // groups, -1).swapaxes(1, 2)


def ungrouped(stack: Array) -> Array:
    """(rows, c) of what `grouped` gives: the groups' channels beside each other."""
    if stack.ndim == 2:
        return stack
    groups, rows, width = stack.shape
    return stack.transpose(1, 0, 2).reshape(rows, groups * width)


def _windows(images: Operand, walk: Walk, groups: int) -> Operand:
    """Windows of images (n, h, w, c) as a matrix, or a stack like that of `grouped`."""
    if groups == 1:
        return images.seen(all_windows(images.array, walk))
    # the compiler is loaded here, so that what only reads a workload does not pay for it
    from accelsim.numerics.window_kernels import window_planes

    planes = window_planes(np.moveaxis(images.array, -1, 0), groups, walk)
    return images.rearranged(planes.swapaxes(1, 2))
