"""What every layer is: settings from a workload file, mathematics on an executor, work on a chip."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

from pydantic import BaseModel, ConfigDict, Field

from accelsim.network.executor import F32, Executor
from accelsim.numerics.block_formats import stored_bits
from accelsim.operations import LayerWork, Phase, Residence, Tensor, TensorFormats, VectorWork

Formats = Mapping[str, TensorFormats]
"""Number formats by the name of a site."""

Shape = tuple[int, ...]


class ShapeError(ValueError):
    """A layer that does not fit the tensor it is given; the workload reader adds the place."""


@dataclass(frozen=True)
class Memory:
    """An encoder's output: the name it is shared under, its shape (positions, channels), and its sign."""

    name: str
    shape: Shape
    nonnegative: bool


@dataclass(frozen=True)
class Site:
    """Where a layer stands: its name and what it is given.

    ``input_shape`` is that of one sample: (height, width, channels), (positions, channels) of a
    sequence, (features,), or (positions,) of token ids.
    ``nonnegative`` says that the input cannot be below zero (it comes from a ReLU), so that its
    4-bit codes are unsigned. ``needs_input_gradient`` is false where nothing before it is trained.
    ``table`` is the shape (tokens, features) of an embedding before it whose table the layer shares,
    ``memory`` what a cross attention listens to.
    """

    name: str
    input_shape: Shape
    nonnegative: bool = False
    needs_input_gradient: bool = True
    table: tuple[int, int] | None = None
    memory: Memory | None = None

    def part(self, name: str) -> Site:
        """An operand site within the layer, of signed numbers."""
        return replace(self, name=f"{self.name}.{name}", nonnegative=False)

    @property
    def elements(self) -> int:
        """Elements of the input of one sample."""
        count = 1
        for extent in self.input_shape:
            count *= extent
        return count


@dataclass(frozen=True)
class Parameter:
    """A trained tensor or a running statistic.

    ``initial``: ``kaiming`` draws uniformly from +-sqrt(6 / fan_in) (He et al., ICCV 2015, with
    the gain of a ReLU), ``xavier`` from +-sqrt(6 / (fan_in + fan_out)) (Glorot and Bengio, AISTATS
    2010), ``normal`` has the given standard deviation, ``zeros`` and ``ones`` are
    constants, ``forget_ones`` is one in the second row of (..., 4, c) (an LSTM's forget gate), else zero.
    ``operand_of`` names the site whose weight format the array reads it in, if the array reads it.
    """

    shape: Shape
    initial: Literal["kaiming", "xavier", "normal", "zeros", "ones", "forget_ones"]
    fan_in: int = 1
    trained: bool = True
    decays: bool = False
    fan_out: int = 1
    operand_of: str | None = None
    deviation: float = 0.02

    @property
    def elements(self) -> int:
        """Number of elements."""
        count = 1
        for extent in self.shape:
            count *= extent
        return count


class Layer(BaseModel, ABC):
    """Base of all layers; the fields are the keys a workload file may set.

    Every method is given the `Site`, so that one frozen object can stand in many places.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")
    kind: ClassVar[str]
    has_gemm: ClassVar[bool] = False

    name: str | None = Field(
        default=None,
        pattern=r"^[A-Za-z0-9_.-]+$",
        max_length=64,
        description="name in records; default: kind and a number",
    )

    def output_shape(self, site: Site) -> Shape:
        """Shape of one sample's output. Raises `ShapeError` if the input does not fit."""
        return site.input_shape

    def output_nonnegative(self, site: Site) -> bool:
        """Whether the output cannot be below zero."""
        return False

    def sites(self, site: Site) -> tuple[Site, ...]:
        """Where operands of its GEMMs come from: each has its own formats, clip and gradient scale."""
        return (site,)

    def parameters(self, site: Site) -> dict[str, Parameter]:
        """Parameters by name."""
        return {}

    @abstractmethod
    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        """Output of a mini-batch: float32, first axis the batch."""

    @abstractmethod
    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        """dL/dx of the mini-batch from dL/dy; hands dL/dparameter to the executor."""

    @abstractmethod
    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        """What one mini-batch asks of the chip, phase by phase; ``formats`` are those of its sites."""


def tensor(site: Site, name: str, elements: int, format_name: str, residence: Residence) -> Tensor:
    """A tensor of a layer, its bits taken from its format."""
    return Tensor(f"{site.name}.{name}", elements, stored_bits(format_name), residence)


def passing(site: Site, batch: int, formats: Formats) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """x, y, dy and dx of a layer that keeps the shape of its input, in the storage format."""
    elements, storage = batch * site.elements, formats[site.name].storage
    x, y, dy, dx = (tensor(site, name, elements, storage, "stream") for name in ("x", "y", "dy", "dx"))
    return x, y, dy, dx


def mask_tensor(site: Site, elements: int) -> Tensor:
    """One bit an element, kept for the backward pass."""
    return Tensor(f"{site.name}.mask", elements, 1, "saved")


def vector_layer_work(
    layer: Layer,
    site: Site,
    phase: Phase,
    work: Sequence[VectorWork],
    reads: Sequence[Tensor] = (),
    writes: Sequence[Tensor] = (),
) -> LayerWork:
    """`LayerWork` of a layer without GEMMs."""
    return LayerWork(
        layer=site.name,
        kind=layer.kind,
        phase=phase,
        vector_work=tuple(work),
        reads=tuple(reads),
        writes=tuple(writes),
    )
