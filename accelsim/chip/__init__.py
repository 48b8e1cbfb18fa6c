"""A chip: geometry, formats, clock, memories, energies and areas, read from YAML and checked at birth."""

from accelsim.chip.loading import load_chip
from accelsim.chip.operating import operating_at, with_stated_zeros
from accelsim.chip.quantity import Evidence, PositiveQuantity, Quantity
from accelsim.chip.schema import (
    ActivityModel,
    Chip,
    DataflowName,
    Dram,
    LocalStore,
    MacArray,
    Mode,
    OperatingPoint,
    Scratchpad,
    System,
    VectorUnit,
)

__all__ = [
    "ActivityModel",
    "Chip",
    "DataflowName",
    "Dram",
    "Evidence",
    "LocalStore",
    "MacArray",
    "Mode",
    "OperatingPoint",
    "PositiveQuantity",
    "Quantity",
    "Scratchpad",
    "System",
    "VectorUnit",
    "load_chip",
    "operating_at",
    "with_stated_zeros",
]
