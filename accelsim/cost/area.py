"""Silicon area by part."""

from __future__ import annotations

from dataclasses import dataclass
from math import fsum

from accelsim.chip import Chip


@dataclass(frozen=True)
class AreaBreakdown:
    """Area of all arrays, vector units and memories of the chip, and of the rest, in mm2.

    ``scratchpad_mm2``: scratchpads and window buffers.
    """

    mac_array_mm2: float
    vector_unit_mm2: float
    scratchpad_mm2: float
    other_mm2: float

    @property
    def die_mm2(self) -> float:
        """The sum of the four parts, rounded once."""
        return fsum((self.mac_array_mm2, self.vector_unit_mm2, self.scratchpad_mm2, self.other_mm2))

    def as_record(self) -> dict[str, float]:
        """The record's ``cost.area``."""
        return {
            "mac_array_mm2": self.mac_array_mm2,
            "vector_unit_mm2": self.vector_unit_mm2,
            "scratchpad_mm2": self.scratchpad_mm2,
            "other_mm2": self.other_mm2,
            "die_mm2": self.die_mm2,
        }


def chip_area(chip: Chip) -> AreaBreakdown:
    """Area of ``chip``: the numbers of its file times how often the parts occur."""
    pes = chip.workers * chip.array.rows * chip.array.cols
    return AreaBreakdown(
        mac_array_mm2=pes * chip.array.area_um2_per_pe.value / 1e6,
        vector_unit_mm2=chip.workers * chip.vector_unit.area_mm2.value,
        scratchpad_mm2=chip.cores * chip.scratchpad.area_mm2.value + chip.workers * window_buffer_mm2(chip),
        other_mm2=chip.other_area_mm2.value,
    )


def window_buffer_mm2(chip: Chip) -> float:
    """Area of the window buffer of one array: its own figure, or that of as many bytes of a scratchpad.

    An estimate from the scratchpad's cells holds for the buffer's too; that small macros spend more beside
    their cells is left out. 0 without a buffer.
    """
    array, pad = chip.array, chip.scratchpad
    if array.window_bytes is None:
        return 0.0
    if array.window_area_mm2 is not None:
        return array.window_area_mm2.value
    return pad.area_mm2.value * array.window_bytes / (1024 * pad.capacity_kib)
