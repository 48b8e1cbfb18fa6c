"""Operations, cycles and energy of the vector units."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from accelsim.chip import Chip
from accelsim.mapping.attojoules import attojoules
from accelsim.mapping.passes import ceil_div
from accelsim.operations import VectorWork


@dataclass(frozen=True)
class VectorCounts:
    """Operations by kind of one or more pieces of work, and the cycles they keep all lanes busy."""

    adds: int
    multiplies: int
    compares: int
    specials: int
    cycles: int

    @property
    def operations(self) -> int:
        """Operations of all kinds."""
        return self.adds + self.multiplies + self.compares + self.specials


def count_vector(works: Iterable[VectorWork], chip: Chip) -> VectorCounts:
    """Counts of ``works``, done one after another on all lanes of all corelets.

    A piece of work takes its lane-cycles (operations times the cycles of their kind) divided by the
    lanes, rounded up.
    """
    cost = chip.vector_unit.cycles_per_operation
    lanes = chip.vector_unit.lanes * chip.workers
    adds = multiplies = compares = specials = cycles = 0
    for work in works:
        lane_cycles = work.elements * (
            work.adds * cost.add
            + work.multiplies * cost.multiply
            + work.compares * cost.compare
            + work.specials * cost.special
        )
        cycles += ceil_div(lane_cycles, lanes)
        adds += work.elements * work.adds
        multiplies += work.elements * work.multiplies
        compares += work.elements * work.compares
        specials += work.elements * work.specials
    return VectorCounts(adds, multiplies, compares, specials, cycles)


def vector_energy_aj(counts: VectorCounts, chip: Chip) -> int:
    """Energy of the operations, in attojoules."""
    energy = chip.vector_unit.energy_pj_per_operation
    return (
        counts.adds * attojoules(energy.add.value)
        + counts.multiplies * attojoules(energy.multiply.value)
        + counts.compares * attojoules(energy.compare.value)
        + counts.specials * attojoules(energy.special.value)
    )
