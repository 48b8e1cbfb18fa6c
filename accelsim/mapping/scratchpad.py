"""Who lives in the scratchpads: one half for tensors between layers, one half for tiles in work.

The scratchpads of all cores act as one memory. A ``stream`` tensor (handed from one layer to the next)
stays there if it fits into the first half; a layer frees its input as its output grows, so the two
share that half. All other tensors (saved for the backward pass, parameters, the mini-batch) live in
DRAM. The rule looks at one tensor alone, so its writer and all its readers agree on where it is.
"""

from __future__ import annotations

from accelsim.chip import Chip
from accelsim.operations import Tensor


def half_capacity_bytes(chip: Chip) -> int:
    """Half of all scratchpads together, in bytes."""
    return chip.cores * chip.scratchpad.capacity_kib * 1024 // 2


def stays_in_scratchpad(tensor: Tensor, chip: Chip) -> bool:
    """Whether ``tensor`` is handed on inside the chip and causes no DRAM traffic."""
    return tensor.residence == "stream" and tensor.size_bytes <= half_capacity_bytes(chip)


def dram_bytes(tensor: Tensor, chip: Chip) -> int:
    """Bytes that one reading or writing of the whole ``tensor`` moves to or from DRAM, in whole bursts."""
    if stays_in_scratchpad(tensor, chip):
        return 0
    burst = chip.dram.burst_bytes
    return -(-tensor.size_bytes // burst) * burst
