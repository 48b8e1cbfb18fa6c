"""Parts of a run -> `RunRecord`."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from accelsim import __version__
from accelsim.chip import Chip
from accelsim.cost import (
    Standing,
    all_reduce_cost,
    chip_area,
    dram_traffic_by_residence,
    gradient_bytes,
    grid_record,
    keep_resident,
    load_grid,
    peak_memory,
    price_step,
    weight_code_bytes,
)
from accelsim.mapping import Plan, Planner
from accelsim.numerics.formats import number_format
from accelsim.operations import Gemm
from accelsim.program import Program
from accelsim.recipe import Recipe
from accelsim.record import COMPONENTS, RunRecord
from accelsim.run.phases import Phases
from accelsim.run.sharing import Shared
from accelsim.workload import DataFacts, Workload

_PACKAGES = ("numpy", "numba", "pydantic")


def make_record(
    chip: Chip,
    workload: Workload,
    recipe: Recipe,
    cost: dict[str, Any],
    *,
    planner: Planner,
    command: str,
    threads: int,
    training: dict[str, Any] | None,
    shared: Shared | None = None,
    phases: Phases = "training",
) -> RunRecord:
    """The record of one run by the plans of ``planner``.

    ``training`` is None for an estimate, ``shared`` for a single chip. A record of the ``forward`` pass alone
    is of one pass over the test data.
    """
    pins = planner.pins
    return RunRecord.model_validate(
        {
            "kind": "estimate" if training is None else "train",
            "phases": phases,
            "created": datetime.now(UTC).isoformat(timespec="seconds"),
            "command": command,
            "versions": versions(),
            "seed": workload.seed,
            "threads": threads,
            "chip": input_file(chip.name, chip.source_name, chip.source_text),
            "workload": input_file(workload.name, workload.source_name, workload.source_text),
            "recipe": input_file(recipe.name, recipe.source_name, recipe.source_text),
            "formats": own_formats(chip),
            "mapping": pins and input_file(Path(pins.source_name).stem, pins.source_name, pins.source_text),
            "objective": planner.objective,
            "dataset": _dataset(workload.data),
            "batch": workload.batch,
            "epochs": workload.epochs,
            "steps_per_epoch": steps_per_epoch(workload) if phases == "training" else test_steps(workload),
            "training": training,
            "system": None if shared is None else {"chips": shared.chips, "batch_per_chip": shared.batch},
            "cost": cost,
            "sources": chip.sources(),
            "grid": grid_record(load_grid("world"), chip.battery_wh.value if chip.battery_wh else None),
        }
    )


def steps_per_epoch(workload: Workload) -> int:
    """Optimiser steps of one epoch: whole mini-batches, the shuffled rest is left out (at least one)."""
    return max(1, workload.data.train_samples // workload.batch)


def test_steps(workload: Workload) -> int:
    """Mini-batches of one pass over the test data, the last of them perhaps not full (at least one)."""
    return max(1, -(-workload.data.test_samples // workload.batch))


def _dataset(data: DataFacts) -> dict[str, Any] | None:
    """The record's ``dataset``; None where only a shape was given."""
    if data.origin is None:
        return None
    return {
        "name": data.origin.name,
        "sha256": data.origin.sha256,
        "train_samples": data.train_samples,
        "test_samples": data.test_samples,
        "license": data.origin.license,
    }


def cost_of_step(planner: Planner, program: Program, chips: int = 1) -> dict[str, Any]:
    """The record's ``cost``: one training step of ``program`` on the planner's chip, and the chip itself.

    With several ``chips``, the cost is that of each of them, the all-reduce of gradients (if there are any)
    included.

    Raises `InputError` if the chip's MACs cannot execute the recipe, a tile does not fit, or a pinned
    mapping is not legal.
    """
    chip, plans = planner.chip, planner.plans(program.gemms)
    if chip.scratchpad.residency == "searched":
        step = keep_resident(
            program.works, plans, chip, planner.objective, program.inside, gradients_wait=chips > 1
        )
        program, plans = replace(program, works=step.works), step.plans
    costs = [*price_step(program.works, chip, plans)]
    if chips > 1 and chip.system is not None and gradient_bytes(program.works):
        costs.append(all_reduce_cost(program.works, chip, chip.system, chips))
    layers = [cost.as_record() for cost in costs]
    return {
        "clock_mhz": chip.clock_mhz.value,
        "layers": layers,
        "step_cycles": sum(layer["total_cycles"] for layer in layers),
        "step_energy_aj": {part: sum(layer["energy_aj"][part] for layer in layers) for part in COMPONENTS},
        "area": chip_area(chip).as_record(),
        "memory": _memory(chip, program, plans, keep_gradients=chips > 1),
        "peak_tops": {mode.name: chip.peak_tops(mode) for mode in chip.array.modes},
    }


def _memory(
    chip: Chip, program: Program, plans: Mapping[Gemm, Plan], *, keep_gradients: bool
) -> dict[str, Any]:
    """The record's ``cost.memory``."""
    need, works = program.memory, program.works
    codes = min(weight_code_bytes(works), need.parameter_bytes)
    standing = Standing(codes, need.parameter_bytes - codes, need.optimizer_bytes, need.input_bytes)
    peak = peak_memory(works, chip, standing, keep_gradients=keep_gradients)
    trains = any(work.phase != "forward" for work in works)
    return {
        "parameter_bytes": need.parameter_bytes,
        "optimizer_bytes": need.optimizer_bytes,
        "saved_activation_bytes": need.saved_activation_bytes,
        "peak_bytes": peak.peak_bytes,
        "dram_capacity_bytes": chip.dram.capacity_bytes,
        "peak_at": f"{peak.layer} {peak.phase}",
        "classes": dict(peak.parts) if trains else _of_inference(peak.parts),
        "dram_traffic": dict(dram_traffic_by_residence(works, plans, chip)),
    }


def _of_inference(parts: Mapping[str, int]) -> dict[str, int]:
    """The classes that a forward pass alone has; beside the arrays' weights there are no masters."""
    renamed = {"weight_codes": "weight_codes", "master_weights": "other_parameters"}
    renamed |= {"mini_batch": "mini_batch", "handed_over": "handed_over"}
    return {new: parts[old] for old, new in renamed.items()}


def input_file(name: str, file: str, text: str) -> dict[str, str]:
    """An input as a record echoes it."""
    return {"name": name, "file": file, "text": text, "sha256": hashlib.sha256(text.encode()).hexdigest()}


def own_formats(chip: Chip) -> tuple[dict[str, str], ...]:
    """The files of number formats that the chip's modes name, as a record echoes them."""
    pairs = (pair for mode in chip.array.modes for pair in mode.operands)
    files = sorted({name for pair in pairs for name in pair if name.endswith((".yaml", ".yml"))})
    return tuple(
        input_file(number_format(file).name, Path(file).name, Path(file).read_text(encoding="utf-8"))
        for file in files
    )


def versions() -> dict[str, str | None]:
    """Versions of Python, of accelsim and of the packages whose arithmetic it uses."""
    held = {name: _version(name) for name in _PACKAGES}
    return {"python": platform.python_version(), "accelsim": __version__, **held}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
