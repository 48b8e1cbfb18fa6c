"""The vector unit: what `network.VectorUnit` promises, in float32, stored in 16 bits."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath import curve_kernels, lstm_kernels, row_kernels
from accelsim.datapath import vector_kernels as kernels
from accelsim.network.executor import Blend, Counts, Pair
from accelsim.network.windows import Window
from accelsim.numerics.quantise import round_to

F32 = NDArray[np.float32]


class ChipVectorUnit:
    """Functions of one chip's vector unit. Parameters and statistics stay float32; tensors do not.

    ``storage`` is the format that every tensor result is rounded to, once.
    """

    def __init__(self, storage: str) -> None:
        self.storage = storage

    def _stored(self, values: F32) -> F32:
        """The values in the storage format; C-contiguous, rounded in place if they were."""
        values = np.ascontiguousarray(values)
        return round_to(values, self.storage)

    def add(self, x: F32, y: F32) -> F32:
        """x + y."""
        return self._stored(x + y)

    def add_bias(self, x: F32, bias: F32) -> F32:
        """x + bias, bias (c,) along the last axis."""
        return self._stored(x + bias)

    def column_sums(self, x: F32) -> F32:
        """(rows, c) -> (c,), float32."""
        return np.asarray(kernels.column_sums(_rows(x)), np.float32)

    def relu(self, x: F32) -> F32:
        """max(x, 0); zero comes out as +0."""
        y = np.empty(x.shape, np.float32)
        kernels.positive_part(np.ascontiguousarray(x).reshape(-1), y.reshape(-1))
        return y

    def multiply(self, x: F32, y: F32) -> F32:
        """x * y; an axis of extent 1 of y counts for all of x."""
        return self._stored(x * y)

    def relu6(self, x: F32) -> F32:
        """min(max(x, 0), 6); zero comes out as +0."""
        return np.minimum(self.relu(x), np.float32(6))

    def curve(self, name: str, x: F32) -> F32:
        """A function of `curve_kernels.CURVES` of each element."""
        y = np.empty(x.shape, np.float32)
        flat = np.ascontiguousarray(x).reshape(-1)
        curve_kernels.curve(curve_kernels.CURVES[name], flat, y.reshape(-1))
        return self._stored(y)

    def curve_backward(self, name: str, dy: F32, kept: F32) -> F32:
        """dx; ``kept`` is y of a (hard) sigmoid or tanh, x of the others."""
        dx = np.empty(dy.shape, np.float32)
        flat, point = np.ascontiguousarray(dy).reshape(-1), np.ascontiguousarray(kept).reshape(-1)
        curve_kernels.curve_backward(curve_kernels.CURVES[name], flat, point, dx.reshape(-1))
        return self._stored(dx)

    def scaled_mask(self, x: F32, mask: NDArray[np.bool_], factor: float) -> F32:
        """x * factor where the mask is set, else 0."""
        return self._stored(np.where(mask, x * np.float32(factor), np.float32(0)))

    def masked(self, dy: F32, mask: NDArray[np.bool_]) -> F32:
        """dy where the mask is set, else 0."""
        y = np.empty(dy.shape, np.float32)
        flat = np.ascontiguousarray(dy).reshape(-1), np.ascontiguousarray(mask).reshape(-1)
        kernels.keep_where(*flat, y.reshape(-1))
        return y

    def clip_backward(self, dy: F32, places: NDArray[np.uint8]) -> tuple[F32, F32]:
        """The gradient before a clip, and that of the clip, of each channel by itself, float32.

        ``places``: where the forward pass found each element, of `quantisers.pact`.
        """
        dx = np.empty(dy.shape, np.float32)
        by_channel = kernels.clip_backward(_rows(dy), places.reshape(-1, dy.shape[-1]), _rows(dx))
        return dx, np.asarray(by_channel, np.float32)

    def batch_norm(self, x: F32, gamma: F32, beta: F32, epsilon: float) -> tuple[F32, F32, F32, F32]:
        """y, and per channel: mean, biased variance, 1/sqrt(variance + epsilon)."""
        rows = _rows(x)
        share = np.float32(1.0 / len(rows))
        mean = np.asarray(kernels.column_sums(rows) * share, np.float32)
        variance = np.asarray(kernels.square_sums(rows, mean) * share, np.float32)
        inverse = self.inverse_deviation(variance, epsilon)
        return self.batch_norm_fixed(x, gamma, beta, mean, inverse), mean, variance, inverse

    def batch_norm_fixed(self, x: F32, gamma: F32, beta: F32, mean: F32, inverse: F32) -> F32:
        """y with given statistics."""
        y = np.empty(x.shape, np.float32)
        kernels.normalise(_rows(x), mean, inverse * gamma, beta, _rows(y))
        return self._stored(y)

    def batch_norm_backward(
        self, dy: F32, x: F32, gamma: F32, mean: F32, inverse: F32
    ) -> tuple[F32, F32, F32]:
        """dx, dgamma, dbeta."""
        rows, gradient = _rows(x), _rows(dy)
        dbeta, dgamma = kernels.gradient_sums(gradient, rows, mean, inverse)
        share = np.float32(1.0 / len(rows))
        dx = np.empty(x.shape, np.float32)
        kernels.normalise_backward(
            gradient, rows, mean, inverse, inverse * gamma, dbeta * share, dgamma * share, _rows(dx)
        )
        return self._stored(dx), dgamma, dbeta

    def inverse_deviation(self, variance: F32, epsilon: float) -> F32:
        """1/sqrt(variance + epsilon)."""
        return np.asarray(np.float32(1) / np.sqrt(variance + np.float32(epsilon)), np.float32)

    def moving_average(self, old: F32, new: F32, momentum: float) -> F32:
        """old + momentum * (new - old)."""
        return old + np.float32(momentum) * (new - old)

    def layer_norm(self, x: F32, gamma: F32, beta: F32, epsilon: float) -> tuple[F32, F32, F32]:
        """y, and per row: mean, 1/sqrt(variance + epsilon)."""
        rows, y = _rows(x), np.empty(x.shape, np.float32)
        mean, inverse = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
        share = np.float32(1.0 / x.shape[-1])
        row_kernels.layer_norm(rows, gamma, beta, share, np.float32(epsilon), True, _rows(y), mean, inverse)
        return self._stored(y), mean, inverse

    def layer_norm_backward(
        self, dy: F32, x: F32, gamma: F32, mean: F32, inverse: F32
    ) -> tuple[F32, F32, F32]:
        """dx, dgamma, dbeta."""
        rows, gradient, dx = _rows(x), _rows(dy), np.empty(x.shape, np.float32)
        share = np.float32(1.0 / x.shape[-1])
        row_kernels.layer_norm_backward(gradient, rows, gamma, mean, inverse, share, True, _rows(dx))
        dgamma = row_kernels.row_product_sums(gradient, rows, mean, inverse)
        return self._stored(dx), dgamma, self.column_sums(gradient)

    def rms_norm(self, x: F32, gamma: F32, epsilon: float) -> tuple[F32, F32]:
        """y, and per row: 1/sqrt(mean square + epsilon)."""
        rows, y, none = _rows(x), np.empty(x.shape, np.float32), np.zeros(x.shape[-1], np.float32)
        mean, inverse = np.empty(len(rows), np.float32), np.empty(len(rows), np.float32)
        share = np.float32(1.0 / x.shape[-1])
        row_kernels.layer_norm(rows, gamma, none, share, np.float32(epsilon), False, _rows(y), mean, inverse)
        return self._stored(y), inverse

    def rms_norm_backward(self, dy: F32, x: F32, gamma: F32, inverse: F32) -> tuple[F32, F32]:
        """dx, dgamma."""
        rows, gradient, dx = _rows(x), _rows(dy), np.empty(x.shape, np.float32)
        mean, share = np.zeros(len(rows), np.float32), np.float32(1.0 / x.shape[-1])
        row_kernels.layer_norm_backward(gradient, rows, gamma, mean, inverse, share, False, _rows(dx))
        return self._stored(dx), row_kernels.row_product_sums(gradient, rows, mean, inverse)

    def resample(self, x: F32, down: Blend, across: Blend) -> F32:
        """(n, h, w, c) -> (n, oh, ow, c): rows blended first, then columns; rounded once, at the end."""
        for axis, blend in ((1, down), (2, across)):
            share = _along(blend.share, axis)
            x = x.take(blend.first, axis) * (np.float32(1) - share) + x.take(blend.second, axis) * share
        return self._stored(x)

    def resample_backward(self, dy: F32, shape: tuple[int, ...], down: Blend, across: Blend) -> F32:
        """dx of the given shape: columns first, then rows, outputs in order."""
        for axis, blend in ((2, across), (1, down)):
            share = _along(blend.share, axis)
            to_first, to_second = dy * (np.float32(1) - share), dy * share
            extents = [*dy.shape]
            extents[axis] = shape[axis]
            dy = np.zeros(extents, np.float32)
            total = np.moveaxis(dy, axis, 0)
            parts = [np.moveaxis(part, axis, 0) for part in (to_first, to_second)]
            for output in range(len(blend.share)):
                total[blend.first[output]] += parts[0][output]
                total[blend.second[output]] += parts[1][output]
        return self._stored(dy)

    def table_rows(self, table: F32, ids: F32) -> F32:
        """Rows of a table (v, c) by whole numbers of any shape (...): (..., c)."""
        return self._stored(table[ids.astype(np.int64)])

    def table_gradient(self, dy: F32, ids: F32, rows: int) -> F32:
        """Sums of dy (..., c) by their ids, in order: (rows, c), float32."""
        table = np.zeros((rows, dy.shape[-1]), np.float32)
        row_kernels.add_rows(_rows(dy), ids.astype(np.int64).reshape(-1), table)
        return table

    def attention_softmax(self, scores: F32, factor: float, causal: bool) -> F32:
        """Softmax of factor * scores (g, queries, keys) over keys; ``causal``: over keys up to the query."""
        p = np.empty(scores.shape, np.float32)
        row_kernels.attention_softmax(np.ascontiguousarray(scores), np.float32(factor), causal, p)
        return self._stored(p)

    def attention_softmax_backward(self, dp: F32, p: F32, factor: float) -> F32:
        """dL/dscores from dL/dp and the probabilities p."""
        ds = np.empty(p.shape, np.float32)
        row_kernels.attention_softmax_backward(
            np.ascontiguousarray(dp), np.ascontiguousarray(p), np.float32(factor), ds
        )
        return self._stored(ds)

    def lstm_cell(self, of_input: F32, of_state: F32, bias: F32, before: F32) -> tuple[F32, F32, F32]:
        """Gates i, f, g, o, cell and hidden state of one step; nothing is rounded in between."""
        gates = np.empty(of_input.shape, np.float32)
        cell, hidden = np.empty(before.shape, np.float32), np.empty(before.shape, np.float32)
        operands = (np.ascontiguousarray(one) for one in (of_input, of_state, bias, before))
        lstm_kernels.lstm_cell(*operands, gates, cell, hidden)
        return self._stored(gates), self._stored(cell), self._stored(hidden)

    def lstm_cell_backward(
        self, dhidden: F32, dcell: F32, gates: F32, before: F32, cell: F32
    ) -> tuple[F32, F32]:
        """Gradients of the sums that went into the gates, and of the cell before."""
        dgates, dbefore = np.empty(gates.shape, np.float32), np.empty(before.shape, np.float32)
        operands = (np.ascontiguousarray(one) for one in (dhidden, dcell, gates, before, cell))
        lstm_kernels.lstm_cell_backward(*operands, dgates, dbefore)
        return self._stored(dgates), self._stored(dbefore)

    def max_pool(self, x: F32, size: Pair, stride: Pair) -> tuple[F32, NDArray[np.uint8]]:
        """(n, h, w, c) -> (n, oh, ow, c) and the position of each maximum in its window."""
        y = np.empty(_pooled(x.shape, size, stride), np.float32)
        places = np.empty(y.shape, np.uint8)
        kernels.max_pool(np.ascontiguousarray(x), size, stride, y, places)
        return y, places

    def max_pool_backward(
        self, dy: F32, places: NDArray[np.uint8], shape: tuple[int, ...], size: Pair, stride: Pair
    ) -> F32:
        """dx of the given shape."""
        dx = np.zeros(shape, np.float32)
        kernels.max_pool_backward(np.ascontiguousarray(dy), places, size, stride, dx)
        return self._stored(dx)

    def average_pool(self, x: F32, size: Pair, stride: Pair, counts: Counts | None = None) -> F32:
        """(n, h, w, c) -> (n, oh, ow, c): sums over ``counts`` (oh, ow), by default the window's elements."""
        y = np.empty(_pooled(x.shape, size, stride), np.float32)
        kernels.average_pool(np.ascontiguousarray(x), size, stride, _shares(y.shape, size, counts), y)
        return self._stored(y)

    def average_pool_backward(
        self, dy: F32, shape: tuple[int, ...], size: Pair, stride: Pair, counts: Counts | None = None
    ) -> F32:
        """dx of the given shape."""
        dx = np.zeros(shape, np.float32)
        shares = _shares(dy.shape, size, counts)
        kernels.average_pool_backward(np.ascontiguousarray(dy), size, stride, shares, dx)
        return self._stored(dx)

    def softmax(self, logits: F32) -> F32:
        """Probabilities of each row (n, classes), float32."""
        probabilities = np.empty(logits.shape, np.float32)
        kernels.softmax_rows(np.ascontiguousarray(logits), probabilities)
        return probabilities

    def cross_entropy_gradient(
        self,
        probabilities: F32,
        labels: NDArray[np.int64],
        loss_scale: float,
        smoothing: float = 0.0,
        counted: int | None = None,
    ) -> F32:
        """dL/dlogits of the mean loss over the labels from 0 on, times ``loss_scale``; zero for the others.

        ``counted``: over how many labels the mean is, where these are a part of them; default, all of these.

        ``smoothing`` of the label's weight is spread evenly over all classes (Szegedy et al., CVPR 2016).
        """
        gradient = probabilities.copy()
        if smoothing:
            gradient -= np.float32(smoothing / gradient.shape[1])
        gradient[np.arange(len(labels)), labels] -= np.float32(1.0 - smoothing)
        gradient[labels < 0] = 0
        if counted is None:
            counted = int(np.count_nonzero(labels >= 0))
        gradient *= np.float32(loss_scale / max(counted, 1))
        return self._stored(gradient)


def _rows(x: F32) -> F32:
    """All leading axes together."""
    return np.ascontiguousarray(x).reshape(-1, x.shape[-1])


def _pooled(shape: tuple[int, ...], size: Pair, stride: Pair) -> tuple[int, int, int, int]:
    n, height, width, channels = shape
    down, across = (Window(taps, step) for taps, step in zip(size, stride, strict=True))
    return n, down.positions(height), across.positions(width), channels


def _along(values: tuple[float, ...], axis: int) -> F32:
    """Numbers of one axis of (n, h, w, c)."""
    return np.asarray(values, np.float32).reshape([-1 if each == axis else 1 for each in range(4)])


def _shares(shape: tuple[int, ...], size: Pair, counts: Counts | None) -> F32:
    """What the sum of each window of an output (n, oh, ow, c) is multiplied by."""
    elements = np.full(shape[1:3], size[0] * size[1]) if counts is None else counts
    return np.asarray(1.0 / elements, np.float32)
