"""A chip: geometry, formats, clock, memories, energies and areas, read from YAML and checked at birth."""

from accelsim.chip.loading import chip_of, load_chip
from accelsim.chip.memories import Banks, Dram, Interconnect, OperandBuffer, Ports, Ring, Scratchpad
from accelsim.chip.operating import operating_at, with_stated_zeros
from accelsim.chip.quantity import Evidence, PositiveQuantity, Quantity
from accelsim.chip.schema import (
    ActivityModel,
    Chip,
    DataflowName,
    LocalStore,
    MacArray,
    Mode,
    OperatingPoint,
    System,
    VectorUnit,
)

__all__ = [
    "ActivityModel",
    "Banks",
    "Chip",
    "DataflowName",
    "Dram",
    "Evidence",
    "Interconnect",
    "LocalStore",
    "MacArray",
    "Mode",
    "OperandBuffer",
    "OperatingPoint",
    "Ports",
    "PositiveQuantity",
    "Quantity",
    "Ring",
    "Scratchpad",
    "System",
    "VectorUnit",
    "chip_of",
    "load_chip",
    "operating_at",
    "with_stated_zeros",
]
