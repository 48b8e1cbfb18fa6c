"""Plan x Chip -> exact counts -> cycles, joules and square millimetres."""

from accelsim.cost.activity import energy_ratio, mac_energy_aj, stated_ratio, toggle_energy_aj
from accelsim.cost.all_reduce import all_reduce_cost
from accelsim.cost.area import AreaBreakdown, chip_area
from accelsim.cost.capacity import (
    Capacity,
    Standing,
    dram_traffic_by_residence,
    gradient_bytes,
    peak_memory,
    weight_code_bytes,
)
from accelsim.cost.counts import GemmCost, GemmCounts, count_gemm
from accelsim.cost.energy import Energy
from accelsim.cost.grid import Grid, grid_record, load_grid
from accelsim.cost.layer_cost import LayerCost, LayerTime
from accelsim.cost.pricing import price_layer, price_step
from accelsim.cost.residency import Kept, Residency, keep_resident
from accelsim.cost.resident_weights import with_resident_weights
from accelsim.cost.traffic import Traffic

__all__ = [
    "AreaBreakdown",
    "Capacity",
    "Energy",
    "GemmCost",
    "GemmCounts",
    "Grid",
    "Kept",
    "LayerCost",
    "LayerTime",
    "Residency",
    "Standing",
    "Traffic",
    "all_reduce_cost",
    "chip_area",
    "count_gemm",
    "dram_traffic_by_residence",
    "energy_ratio",
    "gradient_bytes",
    "grid_record",
    "keep_resident",
    "load_grid",
    "mac_energy_aj",
    "peak_memory",
    "price_layer",
    "price_step",
    "stated_ratio",
    "toggle_energy_aj",
    "weight_code_bytes",
    "with_resident_weights",
]
