"""Gemm x Chip -> Plan: which operand stays in the array, who computes what, which tiles cross DRAM."""

from accelsim.mapping.modes import mode_of, pairs_asked, pairs_taken
from accelsim.mapping.pins import PinFile, load_pins
from accelsim.mapping.plan import Dataflow, Plan
from accelsim.mapping.planner import Planner
from accelsim.mapping.search import OBJECTIVES, Objective, plan_gemm

__all__ = [
    "OBJECTIVES",
    "Dataflow",
    "Objective",
    "PinFile",
    "Plan",
    "Planner",
    "load_pins",
    "mode_of",
    "pairs_asked",
    "pairs_taken",
    "plan_gemm",
]
