"""Compute cycles of every GEMM on one array by a named convention, beside our own, for each dataflow."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from accelsim.chip import Chip, Mode
from accelsim.errors import InputError
from accelsim.mapping.conventions import Convention, convention_cycles
from accelsim.mapping.modes import mode_of
from accelsim.mapping.passes import DATAFLOWS, ArrayShape, Share
from accelsim.mapping.plan import Dataflow
from accelsim.operations import PHASES, Gemm, Phase
from accelsim.program import compile_program
from accelsim.recipe import Recipe
from accelsim.workload import Workload


@dataclass(frozen=True)
class CycleRow:
    """One GEMM, or the sum of a phase (``layer`` empty): cycles by dataflow, of the convention and ours."""

    layer: str
    phase: Phase
    m: int
    k: int
    n: int
    groups: int
    theirs: dict[Dataflow, int]
    ours: dict[Dataflow, int]

    @property
    def best(self) -> tuple[Dataflow, Dataflow]:
        """The dataflow of fewest cycles: the convention's and ours."""
        theirs, ours = (min(each, key=lambda name: each[name]) for each in (self.theirs, self.ours))
        return theirs, ours


def cycle_rows(
    workload: Workload,
    recipe: Recipe,
    chip: Chip,
    convention: Convention,
    wanted: Collection[Phase] = PHASES,
) -> list[CycleRow]:
    """Every GEMM of one training step on one array of ``chip``, then the sum of each phase.

    ``wanted``: only these phases; a chip for inference has modes for the forward pass alone.
    Only compute cycles: memory, vector unit and the other arrays do not enter. ``stonne`` has a closed form
    for output stationary arrays alone. Raises `InputError` for a recipe the chip's MACs cannot execute.
    """
    gemms = compile_program(workload, recipe).gemms
    rows = [_row(gemm, chip, convention) for gemm in gemms if gemm.phase in wanted]
    phases = [phase for phase in PHASES if any(row.phase == phase for row in rows)]
    return rows + [_sum([row for row in rows if row.phase == phase], phase) for phase in phases]


def _row(gemm: Gemm, chip: Chip, convention: Convention) -> CycleRow:
    try:
        mode = mode_of(gemm, chip)
    except InputError as error:
        raise InputError(f"{error}; choose another --recipe or --phase") from None
    names: tuple[Dataflow, ...] = ("output_stationary", "weight_stationary", "input_stationary")
    known = names[:1] if convention == "stonne" else names
    theirs = {name: gemm.groups * _theirs(gemm, chip, mode, convention, name) for name in known}
    ours = {name: _ours(gemm, chip, mode, name) for name in names}
    return CycleRow(gemm.layer, gemm.phase, gemm.m, gemm.k, gemm.n, gemm.groups, theirs, ours)


def _theirs(gemm: Gemm, chip: Chip, mode: Mode, convention: Convention, dataflow: Dataflow) -> int:
    rows, k = array_extent(chip, mode.lanes, gemm.k, dataflow)
    cols = chip.array.output_cols
    return convention_cycles(convention, gemm.m, k, gemm.n, rows=rows, cols=cols, dataflow=dataflow)


def array_extent(chip: Chip, lanes: int, k: int, dataflow: Dataflow) -> tuple[int, int]:
    """(rows, K) as one array sees them: lanes lie where K lies, along the rows or in time."""
    if dataflow == "output_stationary":
        return chip.array.rows, -(-k // lanes)
    return chip.array.rows * lanes, k


def _ours(gemm: Gemm, chip: Chip, mode: Mode, dataflow: Dataflow) -> int:
    array = chip.array
    chunk = array.rows * mode.lanes
    if dataflow == "output_stationary":
        chunk = min(array.output_chunk or gemm.k, gemm.k)
    shape = ArrayShape(array.rows, array.cols, array.simd, mode.lanes, max(chunk, 1), array.pipelined)
    return DATAFLOWS[dataflow](Share(gemm.m, gemm.k, gemm.n, gemm.groups), shape).array_cycles


def _sum(rows: Sequence[CycleRow], phase: Phase) -> CycleRow:
    """A whole phase, all layers in one dataflow."""
    theirs = {name: sum(row.theirs[name] for row in rows) for name in rows[0].theirs}
    ours = {name: sum(row.ours[name] for row in rows) for name in rows[0].ours}
    return replace(rows[0], layer="", phase=phase, m=0, k=0, n=0, groups=0, theirs=theirs, ours=ours)
