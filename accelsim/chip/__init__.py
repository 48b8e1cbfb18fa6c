"""A chip: geometry, formats, clock, memories, energies and areas, read from YAML and checked at birth."""

from accelsim.chip.loading import load_chip
from accelsim.chip.quantity import Evidence, PositiveQuantity, Quantity
from accelsim.chip.schema import (
    ActivityModel,
    Chip,
    DataflowName,
    Dram,
    LocalStore,
    MacArray,
    Mode,
    Scratchpad,
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
    "PositiveQuantity",
    "Quantity",
    "Scratchpad",
    "VectorUnit",
    "load_chip",
]
