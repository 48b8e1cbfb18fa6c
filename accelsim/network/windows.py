"""Sliding windows of images as GEMM operands (im2col), forward and transposed."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.lib.stride_tricks import as_strided

from accelsim.network.executor import Array


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


@dataclass(frozen=True)
class Walk:
    """Where windows look: window i of an axis at ``first + i * stride + direction * j`` for its taps j.

    ``positions``, ``taps``, ``first``: (down, across); ``direction``: 1, or -1.
    """

    positions: tuple[int, int]
    taps: tuple[int, int]
    first: tuple[int, int]
    stride: int
    direction: int

    def reach(self, axis: int) -> tuple[int, int]:
        """The lowest position of an axis that a window looks at, and the one after the highest."""
        begin = self.first[axis]
        end = begin + (self.positions[axis] - 1) * self.stride
        span = self.direction * (self.taps[axis] - 1)
        return min(begin, begin + span), max(end, end + span) + 1


def _windows(images: Array, walk: Walk, groups: int) -> Array:
    """Windows of images (n, h, w, c) as a matrix, or a stack like that of `grouped`."""
    if groups > 1:
        return _stack(images, walk, groups)
    # the compiler is loaded here, so that what only reads a workload does not pay for it
    from accelsim.numerics.window_kernels import window_rows

    return window_rows(images, walk.positions, walk.taps, walk.first, walk.stride, walk.direction)


def _stack(images: Array, walk: Walk, groups: int) -> Array:
    """The windows of each group of channels, a matrix each."""
    n, _, _, channels = images.shape
    padded, corner = _padded_planes(images, walk)
    by_channel, by_image, by_row, by_col = padded.strides
    width = channels // groups
    (down, across), step = walk.taps, walk.stride
    start = padded[:, :, walk.first[0] + corner[0] :, walk.first[1] + corner[1] :]
    shape = (groups, down, across, width, n, *walk.positions)
    strides = (
        by_channel * width, by_row * walk.direction, by_col * walk.direction, by_channel, by_image,
        by_row * step, by_col * step,
    )  # fmt: skip
    windows = as_strided(start, shape, strides, writeable=False)
    return windows.reshape(groups, down * across * width, -1).swapaxes(1, 2)


def _padded_planes(images: Array, walk: Walk) -> tuple[Array, tuple[int, int]]:
    """(c, n, h, w) with zeros around the images wherever windows look, and where the images' corner is."""
    n, height, width, channels = images.shape
    (top, bottom), (left, right) = walk.reach(0), walk.reach(1)
    corner = max(-top, 0), max(-left, 0)
    extents = corner[0] + max(bottom, height), corner[1] + max(right, width)
    padded = np.zeros((channels, n, *extents), images.dtype)
    inside = padded[:, :, corner[0] : corner[0] + height, corner[1] : corner[1] + width]
    np.copyto(np.moveaxis(inside, 0, -1), images)
    return padded, corner
