"""Sliding windows of images as GEMM operands (im2col), forward and transposed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accelsim.network.executor import Array
from accelsim.numerics.window_walk import Walk


@dataclass(frozen=True)
class Residue:
    """The input positions along one axis whose window taps are congruent, in a strided convolution.

    Input position ``i`` with ``(i + padding) % stride == offset`` meets the taps ``offset, offset +
    stride, ...`` only. For the j-th of these taps the output position is ``quotient(i) - j``.
    """

    offset: int
    taps: int
    first_input: int
    inputs: int
    first_quotient: int


@lru_cache(maxsize=4096)
def residues(extent: int, kernel: int, stride: int, padding: int) -> tuple[Residue, ...]:
    """The residue classes of one axis that hold any input position and any tap."""
    found = []
    for offset in range(stride):
        taps = len(range(offset, kernel, stride))
        first = (offset - padding) % stride
        inputs = len(range(first, extent, stride))
        if taps and inputs:
            found.append(Residue(offset, taps, first, inputs, (first + padding - offset) // stride))
    return tuple(found)


def output_extent(extent: int, kernel: int, stride: int, padding: int) -> int:
    """Output positions along one axis (below 1 where the kernel does not fit)."""
    return (extent + 2 * padding - kernel) // stride + 1


def im2col(images: Array, kernel: int, stride: int, padding: int, groups: int = 1) -> Array:
    """Windows of images as rows.

    Parameters
    ----------
    images: (n, h, w, c), codes or values (code 0 is zero in every format).

    Returns
    -------
    (n * oh * ow, kernel * kernel * c), columns ordered (tap row, tap column, channel); of several groups
    of channels a stack (groups, n * oh * ow, kernel * kernel * c / groups).
    """
    n, height, width, channels = images.shape
    rows = output_extent(height, kernel, stride, padding)
    cols = output_extent(width, kernel, stride, padding)
    if kernel == 1 and stride == 1 and padding == 0 and groups == 1:
        return images.reshape(n * rows * cols, channels)
    return _windows(images, Walk((rows, cols), (kernel, kernel), (-padding, -padding), stride, 1), groups)


def gradient_columns(dy: Array, down: Residue, across: Residue, groups: int = 1) -> Array:
    """Windows of dL/dy for one pair of residue classes, as rows.

    Parameters
    ----------
    dy: (n, oh, ow, c).

    Returns
    -------
    (n * inputs down * inputs across, taps down * taps across * c): row i holds, for tap j, the
    output position quotient(i) - j, or zero outside the image. Of several groups a stack as in `im2col`.
    """
    first = down.first_quotient, across.first_quotient
    walk = Walk((down.inputs, across.inputs), (down.taps, across.taps), first, 1, -1)
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


def _windows(images: Array, walk: Walk, groups: int) -> Array:
    """Windows of images (n, h, w, c) as a matrix, or a stack like that of `grouped`."""
    # the compiler is loaded here, so that what only reads a workload does not pay for it
    from accelsim.numerics.window_kernels import window_planes, window_rows

    if groups == 1:
        return window_rows(images, walk)
    return window_planes(np.moveaxis(images, -1, 0), groups, walk).swapaxes(1, 2)
