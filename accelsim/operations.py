"""The words every floor shares: what one layer asks of a chip in one phase.

A layer says what it needs in these records and knows no chip; ``mapping`` turns each `Gemm` into a
`Plan`, ``cost`` prices all of it, ``datapath`` computes the values. All counts are exact integers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from math import gcd
from typing import Literal

Phase = Literal["forward", "backward", "update"]
PHASES: tuple[Phase, ...] = ("forward", "backward", "update")

Residence = Literal["stream", "saved", "parameter", "input", "kept", "spilled"]
"""Where a tensor may live between its uses.

``stream``: handed from one layer to the next, free to stay in the scratchpad when it fits;
``saved``: kept from the forward pass for the backward pass, so it goes to DRAM and comes back;
``parameter``: weights, gradients of weights and optimiser state, which live in DRAM;
``input``: the mini-batch itself, read from DRAM;
``kept``: in the scratchpads by the choice of `accelsim.cost.residency`;
``spilled``: a stream that goes through DRAM by that choice.
"""


@dataclass(frozen=True)
class Tensor:
    """A tensor as the memory system sees it: how many distinct elements of how many bits.

    ``bits`` may be broken: an element of a block format has its share of the block's scale.
    """

    name: str
    elements: int
    bits: int | Fraction
    residence: Residence

    @property
    def size_bytes(self) -> int:
        """Size in bytes, elements packed without gaps (two 4-bit codes to the byte)."""
        return -(-self.elements * self.bits // 8)


@dataclass(frozen=True)
class Axis:
    """One axis of an image under a sliding window.

    Position p meets the inputs ``first + p stride + j dilation`` for j in 0 .. ``taps`` - 1; those outside
    0 .. ``extent`` - 1 are zeros that no memory holds.
    """

    extent: int
    positions: int
    taps: int
    stride: int
    first: int
    dilation: int = 1

    @property
    def span(self) -> int:
        """Inputs from the first tap of a window to its last."""
        return (self.taps - 1) * self.dilation + 1

    @property
    def repeats(self) -> bool:
        """Whether windows share inputs: p stride = j dilation for some p and some j below ``taps``."""
        return self.taps > self.stride // gcd(self.stride, self.dilation)

    def reached(self, start: int, count: int) -> int:
        """Inputs of the image that ``count`` positions from ``start`` on meet, each counted once."""
        begin = self.first + start * self.stride
        if self.dilation > 1:  # neighbouring windows may leave out inputs between their taps
            begins = range(begin, begin + count * self.stride, self.stride)
            met = {first + j * self.dilation for first in begins for j in range(self.taps)}
            return sum(0 <= place < self.extent for place in met)
        if self.stride > self.taps:
            return sum(self._inside(begin + p * self.stride, self.taps) for p in range(count))
        return self._inside(begin, (count - 1) * self.stride + self.taps)

    def _inside(self, begin: int, length: int) -> int:
        return max(min(begin + length, self.extent) - max(begin, 0), 0)


@dataclass(frozen=True)
class Sliding:
    """The images whose elements A of a convolution's GEMM repeats, once for each window that meets them.

    Positions run over (sample, row, column), taps over (row, column, channel of a group). One of the two
    lies along M, the other along K: positions along K where a gradient of weights sums over them.
    """

    samples: int
    channels: int
    down: Axis
    across: Axis
    positions_along: Literal["m", "k"]

    @property
    def repeats(self) -> bool:
        """Whether neighbouring windows share inputs."""
        return self.down.repeats or self.across.repeats


@dataclass(frozen=True)
class Gemm:
    """``groups`` independent products (m, k) x (k, n) -> (m, n) of one layer in one phase.

    ``a`` and ``b`` name the operands' formats and their distinct elements in memory: a convolution
    reads each input once from memory although im2col repeats it, so ``a.elements <= groups*m*k``.
    ``sliding``: the images behind A, of a product of a convolution. ``part`` says which it is where a layer
    has several in a phase. ``causal``: a mask hides the half of its products that look ahead; an array
    computes the whole rectangle all the same, and all of it counts.
    """

    layer: str
    phase: Phase
    m: int
    k: int
    n: int
    a_format: str
    b_format: str
    a: Tensor
    b: Tensor
    out: Tensor
    groups: int = 1
    part: str = ""
    sliding: Sliding | None = field(default=None, hash=False)
    causal: bool = field(default=False, hash=False)

    def __hash__(self) -> int:
        """Of what tells GEMMs apart, because every product of a run looks up its plan."""
        return hash((self.layer, self.phase, self.m, self.k, self.n, self.groups))

    @property
    def macs(self) -> int:
        """Multiply-accumulates (1 MAC = 2 operations), those of zeros and of what a mask hides among them."""
        return self.groups * self.m * self.k * self.n


@dataclass(frozen=True)
class VectorWork:
    """Element-wise or reducing work of the vector unit: operations per element, by kind.

    ``specials`` are divisions, square roots and exponentials. ``compares`` are compares, selects,
    shifts and format conversions.
    """

    function: str
    elements: int
    adds: int = 0
    multiplies: int = 0
    compares: int = 0
    specials: int = 0


@dataclass(frozen=True)
class LayerWork:
    """All a layer asks of the chip in one phase, for one mini-batch.

    ``reads`` and ``writes`` are the tensors that the vector unit moves; the operands and results of
    the GEMMs stand in the GEMMs and are not repeated here.
    """

    layer: str
    kind: str
    phase: Phase
    gemms: tuple[Gemm, ...] = ()
    vector_work: tuple[VectorWork, ...] = ()
    reads: tuple[Tensor, ...] = ()
    writes: tuple[Tensor, ...] = field(default=())

    @property
    def macs(self) -> int:
        """Useful multiply-accumulates of all GEMMs."""
        return sum(gemm.macs for gemm in self.gemms)


@dataclass(frozen=True)
class TensorFormats:
    """Number formats of one layer's tensors, by name; bits follow from the format."""

    weight: str
    activation: str
    gradient_input: str
    gradient_weight: str
    storage: str
    master: str

    def operands(self, phase: Phase) -> tuple[str, str]:
        """Formats of the two operands of a layer's GEMM in ``phase``."""
        return {
            "forward": (self.activation, self.weight),
            "backward": (self.gradient_input, self.weight),
            "update": (self.activation, self.gradient_weight),
        }[phase]
