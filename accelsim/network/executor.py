"""What a layer needs from whatever executes it. Layers hold mathematics; the executor holds the chip.

All tensors are float32 arrays whose values are values of the storage format (16 bits on a chip);
operands of the MAC array are codes with a scale.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from accelsim.numerics.window_operand import Windows
from accelsim.operations import Gemm, TensorFormats

F32 = NDArray[np.float32]
Array = NDArray[Any]
Counts = NDArray[np.int64]
Pair = tuple[int, int]


@dataclass(frozen=True)
class Blend:
    """Along one axis, each output is the ``first`` input times 1 - ``share`` plus the ``second`` times it."""

    first: tuple[int, ...]
    second: tuple[int, ...]
    share: tuple[float, ...]


@dataclass(frozen=True)
class Operand:
    """A tensor as the MAC array takes it.

    ``array``: uint8 codes of ``format``, or float32 values where the format has more than 8 bits.
    The number an element stands for is its value times ``scale``.
    """

    array: Array
    format: str
    scale: float = 1.0

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the tensor."""
        return self.array.shape

    def rearranged(self, array: Array) -> Operand:
        """The same numbers in another arrangement (im2col, a transpose, a slice)."""
        return Operand(array, self.format, self.scale)

    def seen(self, windows: Windows) -> Operand:
        """The same numbers, as windows of the tensor."""
        return WindowOperand(windows, self.format, self.scale)

    def transposed(self) -> Operand:
        """The matrix transposed, or each matrix of a stack."""
        return self.rearranged(self.array.swapaxes(-1, -2))


class WindowOperand(Operand):
    """Windows of images, whose matrix is made when its elements are asked for."""

    windows: Windows

    def __init__(self, windows: Windows, fmt: str, scale: float) -> None:
        object.__setattr__(self, "windows", windows)
        object.__setattr__(self, "format", fmt)
        object.__setattr__(self, "scale", scale)

    @property
    def array(self) -> Array:
        """The matrix, made now."""
        return self.windows.array

    @property
    def shape(self) -> tuple[int, ...]:
        """(rows, columns)."""
        return self.windows.shape

    def transposed(self) -> Operand:
        """Rows and columns exchanged."""
        return WindowOperand(self.windows.turned(), self.format, self.scale)


class VectorUnit(Protocol):
    """Functions of the vector unit: float32 inside, results rounded once to the storage format.

    ``rows`` below is all leading axes together; reductions run over them in a fixed order.
    """

    def add(self, x: F32, y: F32) -> F32:
        """x + y."""

    def add_bias(self, x: F32, bias: F32) -> F32:
        """x + bias, bias (c,) along the last axis."""

    def column_sums(self, x: F32) -> F32:
        """(rows, c) -> (c,), float32."""

    def relu(self, x: F32) -> F32:
        """max(x, 0)."""

    def multiply(self, x: F32, y: F32) -> F32:
        """x * y; an axis of extent 1 of y counts for all of x."""

    def relu6(self, x: F32) -> F32:
        """min(max(x, 0), 6)."""

    def curve(self, name: str, x: F32) -> F32:
        """A function of each element by the kind of its layer: ``sigmoid``, ``tanh``, ``gelu`` (by erf)..."""

    def curve_backward(self, name: str, dy: F32, kept: F32) -> F32:
        """dx; ``kept`` is y of a (hard) sigmoid or tanh, x of the others."""

    def masked(self, dy: F32, mask: NDArray[np.bool_]) -> F32:
        """dy where the mask is set, else 0."""

    def scaled_mask(self, x: F32, mask: NDArray[np.bool_], factor: float) -> F32:
        """x * factor where the mask is set, else 0."""

    def batch_norm(self, x: F32, gamma: F32, beta: F32, epsilon: float) -> tuple[F32, F32, F32, F32]:
        """y, and per channel: mean, biased variance, 1/sqrt(variance + epsilon)."""

    def batch_norm_fixed(self, x: F32, gamma: F32, beta: F32, mean: F32, inverse: F32) -> F32:
        """y with given statistics."""

    def batch_norm_backward(
        self, dy: F32, x: F32, gamma: F32, mean: F32, inverse: F32
    ) -> tuple[F32, F32, F32]:
        """dx, dgamma, dbeta."""

    def layer_norm(self, x: F32, gamma: F32, beta: F32, epsilon: float) -> tuple[F32, F32, F32]:
        """y, and per row: mean, 1/sqrt(biased variance + epsilon)."""

    def layer_norm_backward(
        self, dy: F32, x: F32, gamma: F32, mean: F32, inverse: F32
    ) -> tuple[F32, F32, F32]:
        """dx, dgamma, dbeta."""

    def rms_norm(self, x: F32, gamma: F32, epsilon: float) -> tuple[F32, F32]:
        """y, and per row: 1/sqrt(mean square + epsilon)."""

    def rms_norm_backward(self, dy: F32, x: F32, gamma: F32, inverse: F32) -> tuple[F32, F32]:
        """dx, dgamma."""

    def resample(self, x: F32, down: Blend, across: Blend) -> F32:
        """(n, h, w, c) -> (n, oh, ow, c): rows blended first, then columns."""

    def resample_backward(self, dy: F32, shape: tuple[int, ...], down: Blend, across: Blend) -> F32:
        """dx of the given shape."""

    def table_rows(self, table: F32, ids: F32) -> F32:
        """Rows of a table (v, c) by whole numbers of any shape (...): (..., c)."""

    def table_gradient(self, dy: F32, ids: F32, rows: int) -> F32:
        """Sums of dy (..., c) by their ids, in order: (rows, c), float32."""

    def attention_softmax(self, scores: F32, factor: float, causal: bool) -> F32:
        """Softmax of factor * scores (g, queries, keys) over keys; ``causal``: over keys up to the query."""

    def attention_softmax_backward(self, dp: F32, p: F32, factor: float) -> F32:
        """dL/dscores from dL/dp and the probabilities p."""

    def lstm_cell(self, of_input: F32, of_state: F32, bias: F32, before: F32) -> tuple[F32, F32, F32]:
        """Gates i, f, g, o, cell and hidden state of one step.

        ``of_input`` and ``of_state`` (d, n, 4h) are added, then the bias (d, 4h); ``before``: the cell
        (d, n, h).
        """

    def lstm_cell_backward(
        self, dhidden: F32, dcell: F32, gates: F32, before: F32, cell: F32
    ) -> tuple[F32, F32]:
        """Gradients of the sums that went into the gates (d, n, 4h), and of the cell before (d, n, h)."""

    def inverse_deviation(self, variance: F32, epsilon: float) -> F32:
        """1/sqrt(variance + epsilon)."""

    def moving_average(self, old: F32, new: F32, momentum: float) -> F32:
        """old + momentum * (new - old)."""

    def max_pool(self, x: F32, size: Pair, stride: Pair) -> tuple[F32, NDArray[np.uint8]]:
        """(n, h, w, c) -> (n, oh, ow, c) and the position of each maximum in its window; (down, across)."""

    def max_pool_backward(
        self, dy: F32, places: NDArray[np.uint8], shape: tuple[int, ...], size: Pair, stride: Pair
    ) -> F32:
        """dx of the given shape."""

    def average_pool(self, x: F32, size: Pair, stride: Pair, counts: Counts | None = None) -> F32:
        """(n, h, w, c) -> (n, oh, ow, c): sums over ``counts`` (oh, ow), by default the window's elements."""

    def average_pool_backward(
        self, dy: F32, shape: tuple[int, ...], size: Pair, stride: Pair, counts: Counts | None = None
    ) -> F32:
        """dx of the given shape."""


class Executor(Protocol):
    """Runs one training or test step: holds parameters, what the backward pass needs, and gradients."""

    @property
    def training(self) -> bool:
        """Whether batch statistics are used and the backward pass will follow."""

    @property
    def vector(self) -> VectorUnit:
        """The vector unit."""

    def formats(self, layer: str) -> TensorFormats:
        """The number formats of a layer's tensors."""

    def parameter(self, layer: str, name: str) -> F32:
        """A master parameter."""

    def set_statistic(self, layer: str, name: str, value: F32) -> None:
        """Replace a parameter that is not trained (a running mean)."""

    def keep(self, layer: str, name: str, value: Any) -> None:
        """Keep a value for the backward pass (forgotten after the step)."""

    def kept(self, layer: str, name: str) -> Any:
        """A value that the forward pass kept."""

    def dropout_mask(self, layer: str, shape: tuple[int, ...], rate: float) -> NDArray[np.bool_]:
        """Where an element stays, with probability 1 - rate, drawn anew for each step."""

    def add_gradient(self, layer: str, name: str, value: F32) -> None:
        """Hand over the gradient of a parameter, or what is to be added to the one handed over before."""

    def share(self, name: str, value: Any) -> None:
        """Hand a value to another layer of the same pass."""

    def shared(self, name: str) -> Any:
        """What another layer shared."""

    def weight(
        self, layer: str, shape: tuple[int, ...], parameter: str = "weight", owner: str | None = None
    ) -> Operand:
        """A weight in the format of its site, in the given shape; ``owner`` is the layer that has it."""

    def activation(self, layer: str, x: F32, *, remember: bool = True) -> Operand:
        """The layer's input in its format; remembers where it was clipped, unless it is asked for again."""

    def activation_backward(self, layer: str, dx: F32) -> F32:
        """The gradient before the clip of `activation`; hands over the clip's own gradient."""

    def gradients(self, layer: str, dy: F32) -> tuple[Operand, Operand]:
        """dL/dy in the formats of the dL/dx GEMM and of the dL/dW GEMM."""

    def multiply(self, gemm: Gemm, a: Operand, b: Operand) -> F32:
        """a (m, k) times b (k, n), scaled and rounded to the storage format: float32 (m, n).

        Operands may be stacks, one product for each of the GEMM's groups:
        (groups, m, k) times (groups, k, n).
        """
