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
    padded = _padded(images, (padding, padding), (padding, padding), groups)
    return _matrices(_windows(padded, (rows, cols), (kernel, kernel), stride), groups)


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
    _, height, width, _ = dy.shape
    top, bottom = _margins(down, height)
    left, right = _margins(across, width)
    padded = _padded(dy, (top, bottom), (left, right), groups)
    start = padded[
        :, top + down.first_quotient - down.taps + 1 :, left + across.first_quotient - across.taps + 1 :
    ]
    view = _windows(start, (down.inputs, across.inputs), (down.taps, across.taps), 1)
    return _matrices(view[:, :, :, ::-1, ::-1, :], groups)


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


def _margins(residue: Residue, extent: int) -> tuple[int, int]:
    before = residue.taps - 1 - residue.first_quotient
    after = residue.first_quotient + residue.inputs - extent
    return max(before, 0), max(after, 0)


def _padded(images: Array, rows: tuple[int, int], cols: tuple[int, int], groups: int) -> Array:
    """Images with zeros around them; of several groups, channel by channel in memory."""
    if not any((*rows, *cols)) and groups == 1:
        return images
    n, height, width, channels = images.shape
    shape = (n, height + sum(rows), width + sum(cols))
    if groups == 1:
        padded = np.zeros((*shape, channels), images.dtype)
    else:
        padded = np.moveaxis(np.zeros((channels, *shape), images.dtype), 0, -1)
    padded[:, rows[0] : rows[0] + height, cols[0] : cols[0] + width] = images
    return padded


def _windows(images: Array, positions: tuple[int, int], taps: tuple[int, int], stride: int) -> Array:
    """View (n, positions down, across, taps down, across, c); every window lies inside ``images``."""
    by_image, by_row, by_col, by_channel = images.strides
    shape = (images.shape[0], *positions, *taps, images.shape[3])
    strides = (by_image, by_row * stride, by_col * stride, by_row, by_col, by_channel)
    return as_strided(images, shape, strides, writeable=False)


def _matrices(windows: Array, groups: int) -> Array:
    """Windows (n, down, across, taps down, taps across, c) as a matrix, or a stack like that of `grouped`."""
    n, down, across, taps_down, taps_across, channels = windows.shape
    positions, taps = n * down * across, taps_down * taps_across
    if groups == 1:
        return windows.reshape(positions, taps * channels)
    width = channels // groups
    split = windows.reshape(*windows.shape[:-1], groups, width)
    by_group = split.transpose(5, 3, 4, 6, 0, 1, 2)
    return by_group.reshape(groups, taps * width, positions).swapaxes(1, 2)
