"""Plans made by hand, for arrays that no shipped chip has."""

from __future__ import annotations

from math import prod
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
    "m_splits": 1,
    "n_splits": 1,
    "group_splits": 1,
    "k_splits": 1,
    "tile_m": 1,
    "tile_n": 1,
    "tile_k": 1,
    "loop_order": "m_outer",
    "energy_aj_per_mac": 0,
    "sum_bits": 16,
    "link_bytes_per_cycle": 4,
    "hop_cycles": 1,
}


def hand_plan(**fields: Any) -> Plan:
    """A plan of 1 x 1 arrays but for ``fields``, one for each piece; stationary chunks follow from rows."""
    made = {**FIELDS, **fields}
    pieces = (made[name] for name in ("m_splits", "n_splits", "group_splits", "k_splits"))
    made.setdefault("workers", prod(pieces))
    if made["dataflow"] != "output_stationary":
        made["chunk"] = made["rows"] * made["lanes"]
    return Plan(**made)
