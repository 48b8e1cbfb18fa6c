"""Who lives in the scratchpads: one half for tensors between layers, one half for tiles in work.

The scratchpads of all cores act as one memory. A ``stream`` tensor (handed from one layer to the next)
stays there if it fits into the first half; a layer frees its input as its output grows, so the two
share that half. All other tensors (saved for the backward pass, parameters, the mini-batch) live in
DRAM, unless `accelsim.cost.residency` keeps them. The rule looks at one tensor alone, so its writer and all
its readers agree on where it is.
"""

from __future__ import annotations

from accelsim.chip import Chip
from accelsim.operations import Tensor


def half_capacity_bytes(chip: Chip) -> int:
    """Half of all scratchpads together, in bytes."""
    return chip.cores * chip.scratchpad.capacity_kib * 1024 // 2


class Scratchpads:
    """The rule on one chip, its numbers worked out once."""

    def __init__(self, chip: Chip) -> None:
        self.half_bytes = half_capacity_bytes(chip)
        self.burst_bytes = chip.dram.burst_bytes

    def dram_bytes(self, tensor: Tensor) -> int:
        """Bytes that one reading or writing of the whole ``tensor`` moves to or from DRAM, in whole bursts.

        0 for a tensor that is handed on inside the chip.
        """
        size_bytes = tensor.size_bytes
        if tensor.residence == "kept" or (tensor.residence == "stream" and size_bytes <= self.half_bytes):
            return 0
        return -(-size_bytes // self.burst_bytes) * self.burst_bytes


def dram_bytes(tensor: Tensor, chip: Chip) -> int:
    """`Scratchpads.dram_bytes` of a chip that is asked once."""
    return Scratchpads(chip).dram_bytes(tensor)
