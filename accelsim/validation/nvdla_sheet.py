"""Cycles by the rules of NVDLA's analytic performance sheet, for cross-checks.

The sheet (nvdla/hw, perf/NVDLA_OpenSource_Performance.xlsx) takes per sample and layer the longer of

- MAC cycles: products over MACs, input channels (times the stride in both directions, as the first layer's
  channel extension packs them) and output channels rounded up to 16; 3 x 3 kernels of stride 1 by
  Winograd's F(2x2, 3x3), which needs 2.25 times fewer products;
- DRAM cycles: input, output (after a pooling layer that follows) and weights once, channels rounded up to
  16, Winograd's weights as 4 x 4 in place of 3 x 3; a linear layer shares its weights among 16 samples.
  Rates count 1 GB as 1000 KiB.

Each group of a grouped convolution is a layer of its own. Everything is one byte (INT8).
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from math import ceil

from accelsim.chip import Chip
from accelsim.network import Conv2d, Leaf, Linear
from accelsim.workload import Workload

_CHANNEL_STEP = 16
_LINEAR_BATCH = 16
_BYTES_PER_GB = 1000 * 1024 * 1000
_WINOGRAD_PRODUCTS = Fraction(9, 4)
_WINOGRAD_WEIGHTS = Fraction(16, 9)


@dataclass(frozen=True)
class SheetLayer:
    """One line of the sheet, per group: products, bytes, and how often the line stands there."""

    name: str
    groups: int
    products: Fraction
    moved_bytes: Fraction

    def cycles(self, chip: Chip) -> Fraction:
        """The longer of MACs (a fraction, as the sheet keeps it) and DRAM (rounded up)."""
        macs = max(chip.macs_per_cycle(mode) for mode in chip.array.modes)
        bytes_per_us = Fraction(str(chip.dram.bandwidth_gb_per_s.value)) * _BYTES_PER_GB / 10**6
        dram = ceil(self.moved_bytes * Fraction(str(chip.clock_mhz.value)) / bytes_per_us)
        return self.groups * max(self.products / macs, Fraction(dram))


def _rounded(channels: int) -> int:
    return -(-channels // _CHANNEL_STEP) * _CHANNEL_STEP


def nvdla_sheet_cycles(workload: Workload, chip: Chip, layers: tuple[str, ...] = ()) -> Fraction:
    """Cycles of ``layers`` (default: all convolutions and linear layers) for one sample."""
    lines = sheet_layers(workload)
    return sum((line.cycles(chip) for line in lines if not layers or line.name in layers), Fraction(0))


def sheet_layers(workload: Workload) -> list[SheetLayer]:
    """The sheet's lines for ``workload``."""
    leaves = list(workload.network.leaves())
    found = []
    for index, leaf in enumerate(leaves):
        after = _after_pooling(leaves, index)
        if isinstance(leaf.layer, Conv2d):
            found.append(_convolution(leaf.layer, leaf, after))
        elif isinstance(leaf.layer, Linear):
            found.append(_linear(leaf))
    return found


def _after_pooling(leaves: list[Leaf], index: int) -> tuple[int, ...]:
    """Shape of what a layer hands on, after a pooling layer that follows before the next matrix layer."""
    shape = leaves[index].layer.output_shape(leaves[index].site)
    for leaf in leaves[index + 1 :]:
        if leaf.layer.has_gemm:
            break
        if leaf.layer.kind == "max_pool":
            return leaf.layer.output_shape(leaf.site)
    return shape


def _convolution(layer: Conv2d, leaf: Leaf, after: tuple[int, ...]) -> SheetLayer:
    """A convolution; its stride is folded into the input channels."""
    height, width, channels = leaf.site.input_shape
    rows, cols, outputs = layer.output_shape(leaf.site)
    down, across = layer.windows
    folded = _rounded(channels // layer.groups * down.stride * across.stride)
    taps = Fraction(layer.taps, down.stride * across.stride)
    winograd = all(window.taps == 3 and window.stride == 1 for window in (down, across))
    kernels = ceil(down.taps / down.stride) * ceil(across.taps / across.stride)
    weights = kernels * (_WINOGRAD_WEIGHTS if winograd else 1)
    kept = outputs // layer.groups
    products = folded * rows * cols * _rounded(kept) * taps
    moved = (
        folded * ceil(height / down.stride) * ceil(width / across.stride)
        + folded * weights * kept
        + after[0] * after[1] * _rounded(kept)
    )
    speedup = _WINOGRAD_PRODUCTS if winograd else 1
    return SheetLayer(leaf.site.name, layer.groups, products / speedup, Fraction(moved))


def _linear(leaf: Leaf) -> SheetLayer:
    """A linear layer of one sample, its weights shared by the samples of a small batch."""
    inputs, outputs = leaf.site.elements, leaf.layer.output_shape(leaf.site)[-1]
    weights = Fraction(_rounded(inputs) * outputs, _LINEAR_BATCH)
    moved = weights + _rounded(inputs) + _rounded(outputs)
    products = Fraction(_rounded(inputs) * _rounded(outputs * _LINEAR_BATCH), _LINEAR_BATCH)
    return SheetLayer(leaf.site.name, 1, products, moved)
