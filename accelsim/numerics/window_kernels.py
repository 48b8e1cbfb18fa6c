"""Kernels that copy windows of images: an element is a few words of memory, whatever they stand for.

A `Walk` says where windows look. What lies outside of the image is zero.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numba import prange
from numba.core import cgutils, types
from numba.extending import intrinsic, register_jitable
from numpy.typing import NDArray

from accelsim.numerics.compiled import kernel
from accelsim.numerics.window_walk import Walk

_U = np.uintp  # an index that cannot be below zero costs nothing to check


@intrinsic
def _copy_words(  # type: ignore[no-untyped-def]
    typing_context, source, at, target, to, count
):
    """target[to : to + count] = source[at : at + count], of arrays that do not overlap."""
    signature = types.void(source, at, target, to, count)

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        to_place, from_place = (
            builder.gep(context.make_array(call.args[i])(context, builder, values[i]).data, [values[i + 1]])
            for i in (2, 0)
        )
        size: Any = call.args[0].dtype.bitwidth // 8
        cgutils.raw_memcpy(builder, to_place, from_place, values[4], size)
        return context.get_dummy_value()

    return signature, generate


copy_words: Any = _copy_words
"""`_copy_words` without the typing context, which the compiler passes."""


@register_jitable
def _inside(first: int, stride: int, extent: int, count: int) -> Any:
    """The range of i < count with 0 <= first + i * stride < extent."""
    begin = min(max(0, -(first // stride)), count)
    end = min(max(begin, -((first - extent) // stride)), count)
    return begin, end


@register_jitable
def _blank(target: Any, to: Any, apart: Any, count: Any, words: Any) -> None:
    for i in range(count):
        for w in range(words):
            target[to + i * apart + w] = 0


@register_jitable
def _spaced(
    source: Any, at: Any, step: Any, target: Any, to: Any, apart: Any, count: Any, words: Any
) -> None:
    """target[to + i * apart + w] = source[at + i * step + w]; written out where there are few words."""
    if words == _U(1):
        for i in range(count):
            target[to + i * apart] = source[at + i * step]
    elif words == _U(2):
        for i in range(count):
            target[to + i * apart] = source[at + i * step]
            target[to + i * apart + _U(1)] = source[at + i * step + _U(1)]
    elif words == _U(4):
        for i in range(count):
            for w in range(_U(4)):
                target[to + i * apart + w] = source[at + i * step + w]
    else:
        for i in range(count):
            copy_words(source, at + i * step, target, to + i * apart, words)


def window_rows(images: NDArray[Any], walk: Walk) -> NDArray[Any]:
    """Windows of images (n, h, w, c) as rows (n * rows * cols, taps down * taps across * c)."""
    (n, height, width, channels), (rows, cols), (down, across) = images.shape, walk.positions, walk.taps
    out = np.empty((n * rows * cols, down * across * channels), images.dtype)
    size = channels * images.itemsize
    word = next(word for word in (np.uint64, np.uint32, np.uint8) if size % np.dtype(word).itemsize == 0)
    source = np.ascontiguousarray(images).reshape(-1).view(word)
    shape = n, height, width, size // np.dtype(word).itemsize
    _window_rows(source, shape, tuple(walk), out.reshape(-1).view(word))
    return out


@kernel(parallel=True)
def _window_rows(source: Any, shape: Any, walk: Any, out: Any) -> None:
    """Images (n, h, w, words), ``shape``, flat, to (n, rows, cols, taps down, taps across, words), flat."""
    n, height, width, words = shape
    (rows, cols), (down, across), first, stride, tap = walk
    apart = down * across * words
    for line in prange(n * rows):
        image, r = line // rows, line % rows
        for p in range(down):
            y = first[0] + r * stride[0] + tap[0] * p
            if tap[1] == 1 and words > 4 and 0 <= y < height:
                row = (image * height + y) * width
                for s in range(cols):
                    x = first[1] + s * stride[1]
                    begin, end = _inside(x, 1, width, across)
                    to = (line * cols + s) * apart + p * across * words
                    _blank(out, _U(to), _U(1), _U(begin * words), _U(1))
                    _blank(out, _U(to + end * words), _U(1), _U((across - end) * words), _U(1))
                    if begin < end:
                        at, to = (row + x + begin) * words, to + begin * words
                        copy_words(source, _U(at), out, _U(to), _U((end - begin) * words))
                continue
            for q in range(across):
                begin, end = _inside(first[1] + tap[1] * q, stride[1], width, cols)
                if not 0 <= y < height:
                    end = begin
                to = line * cols * apart + (p * across + q) * words
                _blank(out, _U(to), _U(apart), _U(begin), _U(words))
                _blank(out, _U(to + end * apart), _U(apart), _U(cols - end), _U(words))
                column = first[1] + begin * stride[1] + tap[1] * q
                at = ((image * height + y) * width + column) * words
                if begin < end:
                    _spaced(
                        source, _U(at), _U(stride[1] * words), out, _U(to + begin * apart), _U(apart),
                        _U(end - begin), _U(words),
                    )  # fmt: skip


def window_planes(planes: NDArray[Any], groups: int, walk: Walk) -> NDArray[Any]:
    """Windows of images (c, n, h, w), a matrix for each group of channels.

    Returns (groups, taps down * taps across * c / groups, n * rows * cols).
    """
    (channels, n), (rows, cols), (down, across) = planes.shape[:2], walk.positions, walk.taps
    width = channels // groups
    out = np.empty((groups, down * across * width, n * rows * cols), planes.dtype)
    word = np.dtype(f"u{planes.itemsize}")
    source = np.ascontiguousarray(planes).reshape(-1).view(word)
    _window_planes(source, planes.shape, width, tuple(walk), out.reshape(-1).view(word))
    return out


@kernel(parallel=True)
def _window_planes(source: Any, shape: Any, group_width: int, walk: Any, out: Any) -> None:
    channels, n, height, width = shape
    (rows, cols), (down, across), first, stride, tap = walk
    taps = down * across
    size = n * rows * cols
    for line in prange(channels * taps):
        group, rest = line // (group_width * taps), line % (group_width * taps)
        t, place = rest // group_width, rest % group_width
        at, to = (group * group_width + place) * n * height * width, line * size
        y, x = first[0] + tap[0] * (t // across), first[1] + tap[1] * (t % across)
        top, bottom = _inside(y, stride[0], height, rows)
        left, right = _inside(x, stride[1], width, cols)
        if stride[0] == 1 and stride[1] == 1 and rows == height and cols == width:
            # all images at once, moved by as much as the window is; what came from elsewhere goes below
            shift = y * width + x
            begin, end = min(max(0, -shift), size), max(min(size, size - shift), 0)
            if begin < end:
                copy_words(source, _U(at + begin + shift), out, _U(to + begin), _U(end - begin))
        else:
            step, inside = _U(stride[1]), _U(right - left)
            for image in range(n):
                for r in range(top, bottom):
                    line_at = at + (image * height + y + r * stride[0]) * width
                    start = _U(to + (image * rows + r) * cols + left)
                    row = _U(max(line_at + x + left * stride[1], 0))
                    for s in range(inside):
                        out[start + s] = source[row + s * step]
        _blank(out, _U(to), _U(cols), _U(n * rows), _U(left))
        _blank(out, _U(to + right), _U(cols), _U(n * rows), _U(cols - right))
        _blank(out, _U(to), _U(rows * cols), _U(n), _U(top * cols))
        _blank(out, _U(to + bottom * cols), _U(rows * cols), _U(n), _U((rows - bottom) * cols))
