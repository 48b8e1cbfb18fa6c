"""Activity of the GEMMs of one observed training step, and what it does to the energy of the MACs."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from accelsim.chip import Chip
from accelsim.cost import energy_ratio, mac_energy_aj, stated_ratio, toggle_energy_aj
from accelsim.datapath.activity import Activity, StreamActivity, observe
from accelsim.mapping import Plan
from accelsim.network import Operand
from accelsim.numerics.accumulate import Matrix
from accelsim.numerics.formats import number_format
from accelsim.operations import Gemm


@dataclass
class _Totals:
    """Sums over the GEMMs of one layer and phase; fractions are weighted by products."""

    products: int = 0
    idle_products: int = 0
    a_zeros: Fraction = Fraction(0)
    b_zeros: Fraction = Fraction(0)
    toggles: Fraction = Fraction(0)
    independent_toggles: Fraction = Fraction(0)
    stated_mac_aj: int = 0
    of_zeros_aj: int = 0
    of_toggles_aj: int = 0


@dataclass
class ActivityMeter:
    """Counts what it is shown of ``chip``'s GEMMs, by layer and phase."""

    chip: Chip
    _totals: dict[tuple[str, str], _Totals] = field(default_factory=dict)

    def note(self, gemm: Gemm, plan: Plan, a: Operand, b: Operand) -> None:
        """Count one GEMM's operands, or those of each in a stack; a GEMM without products does nothing."""
        stacks = [each.array if each.array.ndim == 3 else each.array[None] for each in (a, b)]
        formats = number_format(a.format), number_format(b.format)
        for left, right in zip(*stacks, strict=True):
            self.note_matrices(gemm, plan, Matrix(left, formats[0]), Matrix(right, formats[1]))

    def note_matrices(self, gemm: Gemm, plan: Plan, a: Matrix, b: Matrix) -> None:
        """The same of operands whose formats are at hand."""
        seen = observe(plan, a, b)
        if not seen.products:
            return
        toggles, independent = _toggle_fraction(seen), _independent_fraction(seen)
        idle = Fraction(seen.idle_products, seen.products)
        model, energy_aj = self.chip.array.activity, plan.energy_aj_per_mac
        total = self._totals.setdefault((gemm.layer, gemm.phase), _Totals())
        total.products += seen.products
        total.idle_products += seen.idle_products
        total.a_zeros += seen.products * _zero_fraction(seen.a)
        total.b_zeros += seen.products * _zero_fraction(seen.b)
        total.toggles += seen.products * toggles
        total.independent_toggles += seen.products * independent
        stated = mac_energy_aj(seen.products, energy_aj, stated_ratio(self.chip))
        by_zeros = mac_energy_aj(seen.products, energy_aj, energy_ratio(model, idle))
        by_toggles = toggle_energy_aj(
            model, seen.products, energy_aj, seen.a.bits + seen.b.bits, toggles - independent
        )
        total.stated_mac_aj += stated
        total.of_zeros_aj += by_zeros - stated
        total.of_toggles_aj += max(by_toggles, -by_zeros)  # toggles that are not there save no more than all

    @property
    def _prices_toggles(self) -> bool:
        return self.chip.array.activity is not None and self.chip.array.activity.prices_toggles

    def rows(self, epoch: int) -> list[dict[str, Any]]:
        """The record's ``training.activity`` rows of what was noted."""
        return [
            {
                "epoch": epoch,
                "layer": layer,
                "phase": phase,
                "products": total.products,
                "idle_products": total.idle_products,
                "a_zero_fraction": float(total.a_zeros / total.products),
                "b_zero_fraction": float(total.b_zeros / total.products),
                "toggle_fraction": float(total.toggles / total.products),
                "independent_toggle_fraction": float(total.independent_toggles / total.products),
                "stated_mac_aj": total.stated_mac_aj,
                "measured_mac_aj": total.stated_mac_aj + total.of_zeros_aj + total.of_toggles_aj,
                "toggle_mac_aj": total.of_toggles_aj if self._prices_toggles else None,
            }
            for (layer, phase), total in self._totals.items()
        ]


def _zero_fraction(stream: StreamActivity) -> Fraction:
    return Fraction(stream.zeros, stream.elements)


def _toggle_fraction(seen: Activity) -> Fraction:
    """Toggled share of the operand bits at the MACs' inputs, both operands together."""
    return _by_bits(
        seen,
        *(
            Fraction(stream.toggled_bits, stream.observed_bits) if stream.observed_bits else Fraction(0)
            for stream in (seen.a, seen.b)
        ),
    )


def _independent_fraction(seen: Activity) -> Fraction:
    """The same if both operands streamed random codes with as many zeros, each drawn on its own.

    A bit is set in (1 - z) / 2 of the elements, and two draws differ in 2 p (1 - p) = (1 - z^2) / 2.
    """
    zeros = (_zero_fraction(seen.a), _zero_fraction(seen.b))
    return _by_bits(seen, *((1 - share * share) / 2 for share in zeros))


def _by_bits(seen: Activity, of_a: Fraction, of_b: Fraction) -> Fraction:
    return (seen.a.bits * of_a + seen.b.bits * of_b) / (seen.a.bits + seen.b.bits)
