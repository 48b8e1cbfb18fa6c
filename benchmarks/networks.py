"""The GEMMs of real networks in all three phases: ResNet-18 with its im2col, and a transformer block."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from accelsim.network.windows import Window, gradient_columns, im2col
from accelsim.numerics.compiled import set_threads
from accelsim.operations import PHASES, Phase
from benchmarks.measuring import Row, Size, cpu_seconds
from benchmarks.products import YARDSTICK, Arithmetic, Float32, cases_of

Job = Callable[[], object]
ROLES: dict[Phase, tuple[str, str]] = {
    "forward": ("activation", "weight"),
    "backward": ("gradient_input", "weight"),
    "update": ("activation", "gradient_weight"),
}


@dataclass(frozen=True)
class Convolution:
    """A square convolution, ``times`` equal ones in the network."""

    channels: int
    filters: int
    kernel: int
    stride: int
    padding: int
    extent: int
    times: int = 1
    first: bool = False

    @property
    def outputs(self) -> int:
        """Positions along one axis of the output."""
        return self.window.positions(self.extent)

    @property
    def window(self) -> Window:
        """The window along either axis."""
        return Window(self.kernel, self.stride, self.padding, self.padding)

    def macs(self, phase: Phase, batch: int) -> int:
        """Products of one of the ``times``; the first layer has no input gradient."""
        macs = batch * self.outputs**2 * self.kernel**2 * self.channels * self.filters
        return 0 if phase == "backward" and self.first else macs

    def job(self, phase: Phase, batch: int, arithmetic: Arithmetic) -> Job:
        """What to time: windows as rows, then the product; tensors are made before."""
        roles, positions = ROLES[phase], self.outputs
        window = self.kernel**2 * self.channels
        if phase == "backward":
            return self._backward(batch, arithmetic)
        images = arithmetic.tensor("activation", (batch, self.extent, self.extent, self.channels))
        if phase == "forward":
            weight = arithmetic.tensor("weight", (window, self.filters))
            return lambda: arithmetic.product(im2col(images, self.window, self.window), weight, roles)
        dy = arithmetic.tensor("gradient_weight", (batch * positions**2, self.filters))
        return lambda: arithmetic.product(im2col(images, self.window, self.window).T, dy, roles)

    def _backward(self, batch: int, arithmetic: Arithmetic) -> Job:
        """A product for each class of input positions that see the same taps."""
        dy = arithmetic.tensor("gradient_input", (batch, self.outputs, self.outputs, self.filters))
        classes = self.window.residues(self.extent)
        pairs = [(down, across) for down in classes for across in classes]
        taps = [down.taps * across.taps * self.filters for down, across in pairs]
        weights = [arithmetic.tensor("weight", (count, self.channels)) for count in taps]

        def run() -> None:
            for (down, across), weight in zip(pairs, weights, strict=True):
                arithmetic.product(gradient_columns(dy, down, across), weight, ROLES["backward"])

        return run


@dataclass(frozen=True)
class Linear:
    """A product of ``rows`` x ``inputs`` by ``inputs`` x ``outputs``, ``times`` equal ones."""

    rows: int
    inputs: int
    outputs: int
    times: int = 1

    def macs(self, phase: Phase, batch: int) -> int:
        """Products of one of the ``times``; all phases have the same."""
        return batch * self.rows * self.inputs * self.outputs

    def job(self, phase: Phase, batch: int, arithmetic: Arithmetic) -> Job:
        """What to time: the product; the transposed operands are views."""
        roles, rows = ROLES[phase], batch * self.rows
        x, weight, y = (rows, self.inputs), (self.inputs, self.outputs), (rows, self.outputs)
        a, b = {"forward": (x, weight), "backward": (y, weight), "update": (x, y)}[phase]
        left, right = arithmetic.tensor(roles[0], a), arithmetic.tensor(roles[1], b)
        left, right = (left.T if phase == "update" else left), (right.T if phase == "backward" else right)
        return lambda: arithmetic.product(left, right, roles)


Layer = Convolution | Linear


def _stage(channels: int, extent: int) -> list[Layer]:
    """A ResNet-18 stage that halves the image: two blocks, the first with a projection."""
    wide = 2 * channels
    return [
        Convolution(channels, wide, 3, 2, 1, extent),
        Convolution(wide, wide, 3, 1, 1, extent // 2, times=3),
        Convolution(channels, wide, 1, 2, 0, extent),
    ]


RESNET_18: tuple[Layer, ...] = (
    Convolution(3, 64, 7, 2, 3, 224, first=True),
    Convolution(64, 64, 3, 1, 1, 56, times=4),
    *_stage(64, 56),
    *_stage(128, 28),
    *_stage(256, 14),
    Linear(1, 512, 1000),
)
"""He et al., CVPR 2016, Table 1: 224 x 224 images."""

TRANSFORMER_BLOCK: tuple[Layer, ...] = (
    Linear(128, 768, 768, times=4),
    Linear(128, 768, 3072),
    Linear(128, 3072, 768),
)
"""Devlin et al., NAACL 2019, BERT-base: 128 tokens, width 768; attention's own products are in `HEADS`."""

HEADS: tuple[Layer, ...] = (Linear(128, 64, 128, times=12), Linear(128, 128, 64, times=12))
"""Scores and context of 12 heads of one sequence."""

SMALL: tuple[Layer, ...] = (
    Convolution(3, 8, 3, 2, 1, 9, first=True),
    Convolution(8, 8, 3, 1, 1, 5, times=2),
    Linear(1, 20, 10),
)


def network_rows(size: Size) -> Iterator[Row]:
    """Every phase of each network, CPU time of one thread; im2col counts on both sides."""
    set_threads(1)
    networks = {"ResNet-18": RESNET_18, "transformer block": (*TRANSFORMER_BLOCK, *HEADS)}
    if size.small_networks:
        networks = {"small network": SMALL}
    for name, layers in networks.items():
        for phase in PHASES:
            macs = sum(layer.times * layer.macs(phase, size.batch) for layer in layers)
            yardstick = _seconds(layers, phase, size, Float32())
            shape = f"{name}, {phase}"
            yield Row("networks", YARDSTICK, shape, yardstick * 1e9 / macs, "ns/MAC", 1.0, YARDSTICK)
            for case in cases_of(size):
                seconds = _seconds(layers, phase, size, case)
                yield Row(
                    "networks", case.name, shape, seconds * 1e9 / macs, "ns/MAC",
                    yardstick / seconds, YARDSTICK, case.target_of(ROLES[phase]),
                )  # fmt: skip


def _seconds(layers: tuple[Layer, ...], phase: Phase, size: Size, arithmetic: Arithmetic) -> float:
    """The sum over the layers, each distinct one timed once."""
    return sum(
        layer.times * cpu_seconds(layer.job(phase, size.batch, arithmetic), size.repeats)
        for layer in layers
        if layer.macs(phase, size.batch)
    )
