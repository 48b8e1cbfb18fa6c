"""Cycles, energy and memory of a training step without computing a value."""

from __future__ import annotations

from pathlib import Path

from accelsim.chip import Chip, load_chip
from accelsim.errors import InputError, unknown
from accelsim.mapping import OBJECTIVES, PinFile, Planner, load_pins
from accelsim.recipe import Recipe, load_recipe
from accelsim.record import RunRecord
from accelsim.run.phases import step_of
from accelsim.run.recording import cost_of_step, make_record
from accelsim.run.sharing import share_batch
from accelsim.workload import Workload, load_workload


def resolve(
    chip: Chip | str | Path, workload: Workload | str | Path, recipe: Recipe | str | Path | None
) -> tuple[Chip, Workload, Recipe]:
    """Objects from names or paths; without a recipe, the chip's own."""
    chip = chip if isinstance(chip, Chip) else load_chip(chip)
    workload = workload if isinstance(workload, Workload) else load_workload(workload)
    recipe = chip.recipe if recipe is None else recipe
    return chip, workload, recipe if isinstance(recipe, Recipe) else load_recipe(recipe)


def planner_for(chip: Chip, mapping: PinFile | str | Path | None, objective: str) -> Planner:
    """The planner of a run. Raises `InputError` for an unknown objective or a mistake in a mapping file."""
    if objective not in OBJECTIVES:
        raise unknown("objective", objective, OBJECTIVES)
    pins = mapping if mapping is None or isinstance(mapping, PinFile) else load_pins(mapping)
    return Planner(chip, objective, pins)


def require_a_batch(workload: Workload) -> None:
    """Raises `InputError` if a mini-batch is larger than the training data."""
    if workload.batch > workload.data.train_samples:
        raise InputError(
            f"must be at most the {workload.data.train_samples} training samples, got {workload.batch}",
            "batch",
        )


def require_same_storage(chip: Chip, recipe: Recipe) -> None:
    """Raises `InputError` if the chip's vector unit writes other 16-bit numbers than the recipe's.

    Estimates need the width alone; values would be rounded twice, to one format and then to the other.
    """
    held = chip.vector_unit.storage_format
    if recipe.storage != held:
        raise InputError(
            f"recipe '{recipe.name}' stores tensors in {recipe.storage}, but the vector unit of chip "
            f"'{chip.name}' writes {held}; choose another --recipe or another chip"
        )


def estimate(
    chip: Chip | str | Path,
    workload: Workload | str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    batch: int | None = None,
    epochs: int | None = None,
    mapping: PinFile | str | Path | None = None,
    objective: str = "latency",
    chips: int | None = None,
    phases: str | None = None,
    command: str = "",
) -> RunRecord:
    """Cycles, energy, traffic and memory of training ``workload`` on ``chip``.

    The counts are those a training run reports: both come from the same plans. ``mapping``: pinned ones;
    the rest are the best by ``objective`` (latency, energy or edp). ``chips`` share each mini-batch and add
    up their gradients; by default as many as the chip's file says. ``phases``: ``training``, ``forward``
    (one pass over the test data as an inference chip does it), or None: training, unless the chip's MACs
    take no GEMM of a backward pass.

    Raises
    ------
    InputError: an unknown name or word, a mistake in a file, a recipe the chip's MACs cannot execute, several
        chips without a ``system`` in the chip's file or more of them than samples.
    """
    chip, workload, recipe = resolve(chip, workload, recipe)
    workload = workload.adjusted(batch=batch, epochs=epochs)
    shared = share_batch(chip, workload.batch, chips)
    step = step_of(chip, workload, recipe, shared.batch, phases)
    if step.phases == "training":
        require_a_batch(workload)
    else:
        workload = workload.adjusted(epochs=epochs or 1)
    planner = planner_for(chip, mapping, objective)
    cost = cost_of_step(planner, step.program, shared.chips)
    return make_record(
        chip, workload, recipe, cost, planner=planner, command=command, threads=1, training=None,
        shared=shared if shared.chips > 1 else None, phases=step.phases,
    )  # fmt: skip
