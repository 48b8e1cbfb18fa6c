"""Functions of single elements on the vector unit, and dropout."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from pydantic import Field

from accelsim.network.executor import F32, Executor
from accelsim.network.layer import Formats, Layer, Site, mask_tensor, passing, tensor, vector_layer_work
from accelsim.operations import LayerWork, VectorWork


class Relu(Layer):
    """max(x, 0), applied while the tensor passes through the vector unit; one bit an element is kept."""

    kind: ClassVar[str] = "relu"

    def output_nonnegative(self, site: Site) -> bool:
        return True

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        y = chip.vector.relu(x)
        if chip.training:
            chip.keep(site.name, "mask", y > 0)
        return y

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return chip.vector.masked(dy, chip.kept(site.name, "mask"))

    def vector_work(self, elements: int) -> VectorWork:
        """Operations of either pass."""
        return VectorWork("relu", elements, compares=1)

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements = batch * site.elements
        mask = mask_tensor(site, elements)
        work = [self.vector_work(elements)]
        return [
            vector_layer_work(self, site, "forward", work, writes=[mask]),
            vector_layer_work(self, site, "backward", work, reads=[mask]),
        ]


class Relu6(Relu):
    """min(max(x, 0), 6) (Howard et al., arXiv:1704.04861); one bit an element is kept."""

    kind: ClassVar[str] = "relu6"

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        y = chip.vector.relu6(x)
        if chip.training:
            chip.keep(site.name, "mask", (y > 0) & (y < 6))
        return y

    def vector_work(self, elements: int) -> VectorWork:
        return VectorWork("relu6", elements, compares=2)


class CurveLayer(Layer):
    """A smooth function of each element; what its derivative needs is kept in the storage format."""

    operations: ClassVar[tuple[VectorWork, VectorWork]]
    keeps_output: ClassVar[bool] = False
    """Whether the derivative follows from y; else from x."""

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        y = chip.vector.curve(self.kind, x)
        chip.keep(site.name, "kept", y if self.keeps_output else x)
        return y

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return chip.vector.curve_backward(self.kind, dy, chip.kept(site.name, "kept"))

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements, storage = batch * site.elements, formats[site.name].storage
        forward, backward = (replace(work, elements=elements) for work in self.operations)
        x, y, dy, dx = passing(site, batch, formats)
        kept = tensor(site, "kept", elements, storage, "saved")
        return [
            vector_layer_work(self, site, "forward", [forward], [x], [y, kept]),
            vector_layer_work(self, site, "backward", [backward], [dy, kept], [dx]),
        ]


class Sigmoid(CurveLayer):
    """1 / (1 + e**-x); its derivative y (1 - y) follows from the kept output."""

    kind: ClassVar[str] = "sigmoid"
    keeps_output: ClassVar[bool] = True
    operations: ClassVar[tuple[VectorWork, VectorWork]] = (
        VectorWork("sigmoid", 0, adds=1, compares=1, specials=2),
        VectorWork("sigmoid_gradient", 0, adds=1, multiplies=2),
    )

    def output_nonnegative(self, site: Site) -> bool:
        return True


class Tanh(CurveLayer):
    """Hyperbolic tangent; its derivative 1 - y * y follows from the kept output."""

    kind: ClassVar[str] = "tanh"
    keeps_output: ClassVar[bool] = True
    operations: ClassVar[tuple[VectorWork, VectorWork]] = (
        VectorWork("tanh", 0, adds=2, multiplies=1, compares=2, specials=2),
        VectorWork("tanh_gradient", 0, adds=1, multiplies=2),
    )


class Gelu(CurveLayer):
    """x times the normal distribution function of x (Hendrycks and Gimpel, arXiv:1606.08415), by erf."""

    kind: ClassVar[str] = "gelu"
    operations: ClassVar[tuple[VectorWork, VectorWork]] = (
        # a polynomial of degree 5 in 1 / (1 + p z), times an exponential
        VectorWork("gelu", 0, adds=6, multiplies=10, compares=1, specials=2),
        VectorWork("gelu_gradient", 0, adds=7, multiplies=13, compares=1, specials=2),
    )


class Swish(CurveLayer):
    """x * sigmoid(x) (Ramachandran et al., arXiv:1710.05941)."""

    kind: ClassVar[str] = "swish"
    operations: ClassVar[tuple[VectorWork, VectorWork]] = (
        VectorWork("swish", 0, adds=1, multiplies=1, compares=1, specials=2),
        VectorWork("swish_gradient", 0, adds=3, multiplies=4, compares=1, specials=2),
    )


class HardSigmoid(CurveLayer):
    """x / 6 + 1/2 between 0 and 1 (Howard et al., ICCV 2019, section 5.2)."""

    kind: ClassVar[str] = "hard_sigmoid"
    keeps_output: ClassVar[bool] = True
    operations: ClassVar[tuple[VectorWork, VectorWork]] = (
        VectorWork("hard_sigmoid", 0, adds=1, multiplies=1, compares=2),
        VectorWork("hard_sigmoid_gradient", 0, multiplies=1, compares=2),
    )

    def output_nonnegative(self, site: Site) -> bool:
        return True


class HardSwish(CurveLayer):
    """x * hard_sigmoid(x) (Howard et al., ICCV 2019, section 5.2)."""

    kind: ClassVar[str] = "hard_swish"
    operations: ClassVar[tuple[VectorWork, VectorWork]] = (
        VectorWork("hard_swish", 0, adds=1, multiplies=2, compares=2),
        VectorWork("hard_swish_gradient", 0, adds=2, multiplies=3, compares=4),
    )


class Dropout(Layer):
    """Each element is zero with probability ``rate``, else divided by 1 - rate; in a test nothing happens.

    The mask is drawn from counter-based random bits (Srivastava et al., JMLR 2014); one bit an element
    is kept.
    """

    kind: ClassVar[str] = "dropout"
    rate: float = Field(gt=0, lt=1, description="share of the elements that become zero")

    def output_nonnegative(self, site: Site) -> bool:
        return site.nonnegative

    def forward(self, site: Site, x: F32, chip: Executor) -> F32:
        if not chip.training:
            return x
        mask = chip.dropout_mask(site.name, x.shape, self.rate)
        chip.keep(site.name, "mask", mask)
        return chip.vector.scaled_mask(x, mask, 1 / (1 - self.rate))

    def backward(self, site: Site, dy: F32, chip: Executor) -> F32:
        return chip.vector.scaled_mask(dy, chip.kept(site.name, "mask"), 1 / (1 - self.rate))

    def work(self, site: Site, batch: int, formats: Formats) -> list[LayerWork]:
        elements = batch * site.elements
        mask = mask_tensor(site, elements)
        # five integer operations draw 64 random bits; one compare makes the mask
        forward = VectorWork("dropout", elements, multiplies=1, compares=6)
        backward = VectorWork("dropout_gradient", elements, multiplies=1, compares=1)
        return [
            vector_layer_work(self, site, "forward", [forward], writes=[mask]),
            vector_layer_work(self, site, "backward", [backward], reads=[mask]),
        ]
