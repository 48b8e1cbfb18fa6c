"""Gemm x Chip -> Plan: which operand stays in the array, who computes what, which tiles cross DRAM."""

from accelsim.mapping.plan import Dataflow, Plan
from accelsim.mapping.search import plan_gemm

__all__ = ["Dataflow", "Plan", "plan_gemm"]
