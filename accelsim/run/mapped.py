"""The verb `map_gemms`: the plans of a workload's GEMMs, each with what it costs alone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from accelsim.chip import Chip
from accelsim.cost import GemmCost, Kept, LayerCost, keep_resident, price_layer
from accelsim.errors import InputError, unknown
from accelsim.mapping import PinFile, Plan
from accelsim.mapping.tiling import plan_loads
from accelsim.operations import PHASES, Gemm, LayerWork
from accelsim.recipe import Recipe
from accelsim.run.estimating import planner_for, resolve
from accelsim.run.phases import step_of
from accelsim.workload import Workload


@dataclass(frozen=True)
class MappedGemm:
    """One GEMM of a training step, its plan, and its cost without the vector work of its layer."""

    kind: str
    gemm: Gemm
    plan: Plan
    cost: LayerCost

    @property
    def counts(self) -> GemmCost:
        """The GEMM's own counts."""
        return self.cost.gemms[0]

    @property
    def loads(self) -> tuple[int | Fraction, int]:
        """How often A and B cross from DRAM in whole, unless they stay in the scratchpads."""
        return plan_loads(self.plan)


def map_gemms(
    chip: Chip | str | Path,
    workload: Workload | str | Path,
    layer: str | None = None,
    *,
    phase: str | None = None,
    recipe: Recipe | str | Path | None = None,
    batch: int | None = None,
    mapping: PinFile | str | Path | None = None,
    objective: str = "latency",
) -> list[MappedGemm]:
    """The mappings of a training step of ``workload`` on ``chip``, in the order of the step.

    Of a chip whose MACs take no GEMM of a backward pass: those of the forward pass as `estimate` has it.
    ``layer``, ``phase``: only those. Equal GEMMs of a layer and phase (the steps of a recurrent layer) are
    listed once.

    Raises
    ------
    InputError: an unknown name or layer, a layer without a GEMM in that phase, and as `estimate`.
    """
    if phase is not None and phase not in PHASES:
        raise unknown("phase", phase, PHASES)
    chip, workload, recipe = resolve(chip, workload, recipe)
    works = step_of(chip, workload.adjusted(batch=batch), recipe).program.works
    plans = planner_for(chip, mapping, objective).plans(gemm for work in works for gemm in work.gemms)
    wanted = {gemm: work.kind for work in works for gemm in work.gemms}
    chosen = [gemm for gemm in wanted if layer in (None, gemm.layer) and phase in (None, gemm.phase)]
    if not chosen:
        raise _nothing(list(wanted), layer, phase)
    return [
        MappedGemm(wanted[gemm], gemm, plans[gemm], _alone(wanted[gemm], gemm, plans, chip))
        for gemm in chosen
    ]


def kept_tensors(
    chip: Chip | str | Path,
    workload: Workload | str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    batch: int | None = None,
    mapping: PinFile | str | Path | None = None,
    objective: str = "latency",
) -> tuple[Kept, ...]:
    """What a step keeps in the scratchpads from the forward pass on; nothing unless the chip's file says so.

    Raises `InputError` as `map_gemms` does.
    """
    chip, workload, recipe = resolve(chip, workload, recipe)
    if chip.scratchpad.residency != "searched":
        return ()
    program = step_of(chip, workload.adjusted(batch=batch), recipe).program
    planner = planner_for(chip, mapping, objective)
    plans = planner.plans(program.gemms)
    return keep_resident(program.works, plans, chip, planner.objective, program.inside).kept


def _alone(kind: str, gemm: Gemm, plans: dict[Gemm, Plan], chip: Chip) -> LayerCost:
    return price_layer(LayerWork(gemm.layer, kind, gemm.phase, (gemm,)), plans, chip)


def _nothing(gemms: Sequence[Gemm], layer: str | None, phase: str | None) -> InputError:
    layers = list(dict.fromkeys(gemm.layer for gemm in gemms))
    if layer is not None and layer not in layers:
        return unknown("layer", layer, layers)
    phases = dict.fromkeys(gemm.phase for gemm in gemms if layer in (None, gemm.layer))
    return InputError(f"'{layer}' has no GEMM in phase {phase}; allowed: {', '.join(phases)}", "phase")
