"""Plans made by hand, for arrays that no shipped chip has."""

from __future__ import annotations

from typing import Any

from accelsim.mapping import Plan

FIELDS: dict[str, Any] = {
    "m": 1,
    "k": 1,
    "n": 1,
    "groups": 1,
    "dataflow": "weight_stationary",
    "rows": 1,
    "cols": 1,
    "simd": 1,
    "lanes": 1,
    "chunk": 1,
    "accumulator": "fp16",
    "overflow": "format",
    "pipelined": True,
    "workers": 1,
    "split": "m",
    "tile_m": 1,
    "tile_n": 1,
    "tile_k": 1,
    "loop_order": "m_outer",
    "energy_aj_per_mac": 0,
}


def hand_plan(**fields: Any) -> Plan:
    """A plan of one 1 x 1 array but for ``fields``; stationary chunks follow from rows and lanes."""
    made = {**FIELDS, **fields}
    if made["dataflow"] != "output_stationary":
        made["chunk"] = made["rows"] * made["lanes"]
    return Plan(**made)
