"""The verb `train`: inputs checked, the loop run, the record made. It is cheap to import."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np

from accelsim import __version__
from accelsim.chip import Chip
from accelsim.errors import InputError
from accelsim.mapping import PinFile, Planner
from accelsim.program import compile_program
from accelsim.recipe import Recipe
from accelsim.record import RunRecord
from accelsim.run.estimating import planner_for, require_a_batch, require_same_storage, resolve
from accelsim.run.progress import Watcher
from accelsim.run.recording import cost_of_step, make_record, own_formats
from accelsim.run.sharing import share_batch
from accelsim.run.state import TrainingState, initial_state, load_checkpoint, save_checkpoint
from accelsim.workload import Dataset, Workload


def train(
    chip: Chip | str | Path,
    workload: Workload | str | Path,
    *,
    recipe: Recipe | str | Path | None = None,
    seed: int | None = None,
    epochs: int | None = None,
    batch: int | None = None,
    mapping: PinFile | str | Path | None = None,
    objective: str = "latency",
    chips: int | None = None,
    threads: int | None = None,
    progress: Watcher | None = None,
    checkpoint: str | Path | None = None,
    resume: bool = False,
    command: str = "",
) -> RunRecord:
    """Train ``workload`` on ``chip``, every multiply-accumulate bit for bit, and record it.

    Parameters
    ----------
    recipe: default the chip's own. seed, epochs, batch: default the workload's.
    mapping: pinned mappings; objective: by which the others are chosen. Both may change bits.
    chips: that share each mini-batch (`accelsim.run.step.shared_gradients`); default as the chip's file says.
    threads: of the simulation (`accelsim.run.host_threads`); never changes a bit. progress: called after
        every step.
    checkpoint: a file written after every epoch; with ``resume`` the run goes on from it, and ends
        with the same bits as a run that was never stopped.

    Raises
    ------
    InputError: an unknown name, a mistake in a file, a recipe the chip's MACs cannot execute, several
        chips without a ``system`` in the chip's file or more of them than samples, a checkpoint of another
        run.
    """
    # the compiler is loaded here, so that estimates and checks do not pay for it
    from accelsim.run.host_threads import use_threads
    from accelsim.run.loop import TrainingRun

    chip, workload, recipe = resolve(chip, workload, recipe)
    workload = workload.adjusted(batch=batch, epochs=epochs, seed=seed)
    require_a_batch(workload)
    require_same_storage(chip, recipe)
    shared = share_batch(chip, workload.batch, chips)
    dataset = workload.source.load()
    program = compile_program(workload, recipe, shared.batch)
    planner = planner_for(chip, mapping, objective)
    cost = cost_of_step(planner, program, shared.chips)
    used = use_threads(threads, program)
    identity = _identity(planner, workload, recipe, dataset, shared.chips)
    state = initial_state(workload) if not resume else load_checkpoint(_required(checkpoint), identity)
    # overflow and NaN are values of the modelled chip: a run that diverges says so in its losses
    with np.errstate(all="ignore"):
        run = TrainingRun(planner, workload, recipe, dataset, program, state, progress, shared)
        while len(state.epochs) < workload.epochs:
            run.epoch()
            if checkpoint is not None:
                save_checkpoint(checkpoint, state, identity)
    return make_record(
        chip, workload, recipe, cost,
        planner=planner, command=command, threads=used, training=_history(state),
        shared=shared if shared.chips > 1 else None,
    )  # fmt: skip


def _required(checkpoint: str | Path | None) -> Path:
    if checkpoint is None:
        raise InputError("needs the checkpoint of the run to go on with", "resume")
    return Path(checkpoint)


def _identity(planner: Planner, workload: Workload, recipe: Recipe, dataset: Dataset, chips: int) -> str:
    """What a checkpoint must share with a run to go on with it; the learning rate depends on ``epochs``."""
    origin = dataset.facts.origin
    digest = origin.sha256 if origin else ""
    parts = [planner.chip.source_text, workload.source_text, recipe.source_text, digest, __version__]
    if planner.pins or planner.objective != "latency":
        parts += [planner.objective, planner.pins.source_text if planner.pins else ""]
    if chips > 1:
        parts.append(f"{chips} chips")
    parts += [each["text"] for each in own_formats(planner.chip)]
    words = (workload.batch, workload.epochs, workload.seed)
    return hashlib.sha256("\x1f".join([*parts, *map(str, words)]).encode()).hexdigest()


def _history(state: TrainingState) -> dict[str, Any]:
    accuracies = [epoch["test_accuracy"] for epoch in state.epochs]
    return {
        "epochs": state.epochs,
        "final_accuracy": accuracies[-1],
        "best_accuracy": max(accuracies),
        "weight_digest": state.digest(),
        "kernels": state.kernels,
        "tensors": state.tensors,
        "activity": state.activity,
    }
