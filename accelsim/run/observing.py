"""How quantised tensors of one step fared: what saturated or vanished, and how far they are from float32.

For the record only: no number of a run follows from what is observed.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.edge import entering
from accelsim.datapath.tensor_counts import BINS, LOWEST, count_tensor
from accelsim.network import Operand
from accelsim.numerics.block_formats import block_format_names
from accelsim.numerics.formats import number_format

F32 = NDArray[np.float32]


@dataclass
class _Totals:
    """Sums over all tensors that one site showed in one role."""

    elements: int = 0
    saturated: int = 0
    flushed: int = 0
    scale: float = 1.0
    products: NDArray[np.float64] = field(default_factory=lambda: np.zeros(3))
    exponents: NDArray[np.int64] = field(default_factory=lambda: np.zeros(BINS, np.int64))


@dataclass
class Observer:
    """Collects the operands of one step by site and role."""

    _totals: dict[tuple[str, str], _Totals] = field(default_factory=dict)

    def note(self, layer: str, role: str, values: F32, operand: Operand) -> None:
        """Count one tensor: its values before, and as the array takes them. Not finite: left out."""
        counts = count_tensor(values, entering(operand), _saturated_from(operand))
        total = self._totals.setdefault((layer, role), _Totals())
        total.elements += values.size
        total.scale = operand.scale
        total.saturated += counts.saturated
        total.flushed += counts.flushed
        total.products += counts.products
        total.exponents += counts.exponents

    def rows(self) -> list[dict[str, Any]]:
        """One mapping of the record's tensor fields per site and role; the epoch is left to the caller."""
        return [
            {"layer": layer, "role": role, **_row(total)} for (layer, role), total in self._totals.items()
        ]


def _saturated_from(operand: Operand) -> float:
    """The largest magnitude of an operand's format; no number in block formats, whose scales follow it."""
    if operand.format in block_format_names():
        return math.nan
    return number_format(operand.format).max_value * operand.scale


def _row(total: _Totals) -> dict[str, Any]:
    mixed, exact, found = (float(value) for value in total.products)
    bins = np.flatnonzero(total.exponents)
    return {
        "saturated": total.saturated / max(total.elements, 1),
        "underflow": total.flushed / max(total.elements, 1),
        "scale": total.scale,
        "cosine": round(mixed / math.sqrt(exact * found), 9) if exact > 0 and found > 0 else None,
        "gain": round(mixed / exact, 9) if exact > 0 else None,
        "exponents": [[int(each) + LOWEST, int(total.exponents[each])] for each in bins],
    }
