"""What a step is: training in all its phases, or the forward pass alone as an inference chip does it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from accelsim.chip import Chip
from accelsim.cost.resident_weights import parameter_bytes, with_resident_weights
from accelsim.errors import unknown
from accelsim.program import Program, compile_program, inference_program
from accelsim.recipe import Recipe
from accelsim.workload import Workload

Phases = Literal["training", "forward"]
PHASE_CHOICES: tuple[Phases, ...] = ("training", "forward")


@dataclass(frozen=True)
class Step:
    """The work of one mini-batch on one chip, and whether it is that of training or of inference."""

    program: Program
    phases: Phases


def step_of(
    chip: Chip, workload: Workload, recipe: Recipe, batch: int | None = None, phases: str | None = None
) -> Step:
    """One step of ``workload`` on ``batch`` samples (default: the workload's).

    ``phases``: ``training``, ``forward`` (see `accelsim.program.inference`), or None: training on a chip
    that can do any of it, the forward pass on one whose MACs take no GEMM of a backward pass.
    Raises `InputError` for any other word.
    """
    if phases not in (None, *PHASE_CHOICES):
        raise unknown("phases", str(phases), PHASE_CHOICES)
    samples = workload.batch if batch is None else batch
    program = compile_program(workload, recipe, samples)
    if phases == "forward" or (phases is None and not _has_backward(chip, program)):
        return Step(_weights_in_place(inference_program(workload, program, samples), chip), "forward")
    return Step(program, "training")


def _weights_in_place(program: Program, chip: Chip) -> Program:
    """The forward pass as ``chip`` does it; what its scratchpads keep need not be in its DRAM."""
    works = with_resident_weights(program.works, chip)
    kept_bytes = parameter_bytes(program.works) - parameter_bytes(works)
    left_bytes = max(program.memory.parameter_bytes - kept_bytes, 0)
    return replace(program, works=works, memory=replace(program.memory, parameter_bytes=left_bytes))


def _has_backward(chip: Chip, program: Program) -> bool:
    """Whether the chip's arrays take any GEMM of the backward or update phase."""
    if chip.array.dataflows == ("row_stationary",):
        return False
    gemms = [gemm for gemm in program.gemms if gemm.phase != "forward"]
    return any(chip.array.mode_for(gemm.a_format, gemm.b_format) for gemm in gemms)
