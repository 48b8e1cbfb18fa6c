"""True training steps of a network of any size, the last of them held against float32 arithmetic."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.chip import Chip
from accelsim.errors import InputError
from accelsim.mapping import Planner
from accelsim.numerics.random_bits import stream_key, uniform
from accelsim.operations import Phase
from accelsim.program import Program, compile_program
from accelsim.recipe import Recipe
from accelsim.record.probe import AgreementRecord, OperandRecord, ProbeRecord, ProbeStep, ProductRecord
from accelsim.run.estimating import require_a_batch, require_same_storage, resolve
from accelsim.run.float_executor import FloatExecutor, Trace
from accelsim.run.host_threads import use_threads
from accelsim.run.probed_executor import ProbedExecutor, ProductNote
from accelsim.run.recording import cost_of_step, input_file, versions
from accelsim.run.state import initial_state
from accelsim.run.step import forward_backward, move_parameters, prepared
from accelsim.workload import Workload
from accelsim.workload.datasets import data_source

F32 = NDArray[np.float32]
Labels = NDArray[np.int64]


def probe(
    chip: Chip | str | Path,
    workload: Workload | str | Path,
    *,
    steps: int = 1,
    data: str | Path | None = None,
    recipe: Recipe | str | Path | None = None,
    batch: int | None = None,
    seed: int | None = None,
    threads: int | None = None,
    progress: Callable[[str], None] | None = None,
    command: str = "",
) -> ProbeRecord:
    """Train ``steps`` steps of ``workload`` on ``chip`` bit for bit, and look closely at the last.

    Parameters
    ----------
    data: samples in place of the workload's own (an ``.npz``); a workload without data gets random samples,
        numbers 0..255 or token ids, all equally likely. recipe, batch, seed: default the chip's and the
        workload's.
    threads: of the simulation; never changes a bit. progress: called with a line of text after each step.

    Raises
    ------
    InputError: fewer than one step, an unknown name, a mistake in a file, samples of another shape, a recipe
        that the chip's MACs cannot execute.
    """
    if steps < 1:
        raise InputError(f"must be at least 1, got {steps}", "steps")
    chip, workload, recipe = resolve(chip, workload, recipe)
    workload = workload.adjusted(batch=batch, seed=seed)
    require_a_batch(workload)
    require_same_storage(chip, recipe)
    program = compile_program(workload, recipe)
    planner = Planner(chip)
    cost = cost_of_step(planner, program)
    used = use_threads(threads, program)
    batches, samples = _batches(workload, data, recipe)
    with np.errstate(all="ignore"):  # overflow and NaN are values of the modelled chip
        found = _Probe(planner, workload, recipe, program).run(batches, steps, progress)
    return ProbeRecord(
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        command=command,
        versions=versions(),
        seed=workload.seed,
        threads=used,
        chip=input_file(chip.name, chip.source_name, chip.source_text),
        workload=input_file(workload.name, workload.source_name, workload.source_text),
        recipe=input_file(recipe.name, recipe.source_name, recipe.source_text),
        samples=samples,
        batch=workload.batch,
        macs_per_step=sum(work.macs for work in program.works),
        step_cycles=cost["step_cycles"],
        step_energy_aj=cost["step_energy_aj"],
        clock_mhz=cost["clock_mhz"],
        **found,
    )


class _Probe:
    """One probe in progress."""

    def __init__(self, planner: Planner, workload: Workload, recipe: Recipe, program: Program) -> None:
        self._workload, self._recipe = workload, recipe
        self._state = initial_state(workload)
        self._chip = ProbedExecutor(planner, recipe, program.rules, self._state, workload.seed)
        self._float = FloatExecutor(planner, recipe, program.rules, self._state, workload.seed)

    def run(
        self, batches: Iterator[tuple[F32, Labels]], steps: int, progress: Callable[[str], None] | None
    ) -> dict[str, Any]:
        """The fields of the record that are measured."""
        losses = []
        for number in range(1, steps + 1):
            x, labels = next(batches)
            if number == steps:
                self._chip.start_probing()
            started = time.monotonic()
            loss = forward_backward(self._chip, self._workload, x, labels).loss
            agreement: tuple[AgreementRecord, ...] = ()
            reference = None
            if number == steps:
                reference = forward_backward(self._float, self._workload, x, labels).loss
                agreement = self._agreement()
            move_parameters(self._chip, self._workload, self._recipe, 0.0)
            seconds = time.monotonic() - started
            losses.append(ProbeStep(step=number, loss=loss, float32_loss=reference))
            if progress:
                progress(f"step {number} of {steps}: loss {loss:.4f}, {seconds:.1f} s")
        return {
            "steps": tuple(losses),
            "agreement": agreement,
            "operands": tuple(_operands(self._chip)),
            "products": tuple(_product(key, note) for key, note in self._chip.products.items()),
            "host_seconds": seconds,
            "weight_digest": self._state.digest(),
        }

    def _agreement(self) -> tuple[AgreementRecord, ...]:
        """Inputs, gradients and weight gradients of the chip against those of float32."""
        rows = [
            *_traced("forward", self._chip.inputs, self._float.inputs),
            *_traced("backward", self._chip.gradients_seen, self._float.gradients_seen),
        ]
        for key, value in self._chip.gradients_by_key.items():
            if key in self._float.gradients_by_key:
                layer, _, name = key.rpartition(".")
                if name in ("gamma", "beta", "bias"):
                    continue
                label = layer if name == "weight" else key
                rows.append(_compared(label, "update", [value], [self._float.gradients_by_key[key]]))
        return tuple(rows)


def _traced(phase: Phase, ours: Trace, theirs: Trace) -> Iterator[AgreementRecord]:
    for site, tensors in ours.items():
        if site in theirs:
            yield _compared(site, phase, tensors, theirs[site])


def _compared(layer: str, phase: Phase, ours: list[F32], theirs: list[F32]) -> AgreementRecord:
    """Cosine and gain of a tensor that may have come in pieces."""
    product = squares = reference = 0.0
    elements = 0
    for mine, other in zip(ours, theirs, strict=True):
        one, two = mine.astype(np.float64).reshape(-1), other.astype(np.float64).reshape(-1)
        product += float(np.vdot(one, two))
        squares += float(np.vdot(one, one))
        reference += float(np.vdot(two, two))
        elements += one.size
    cosine, gain = _cosine_and_gain(product, squares, reference)
    return AgreementRecord(layer=layer, phase=phase, elements=elements, cosine=cosine, gain=gain)


def _cosine_and_gain(product: float, squares: float, reference: float) -> tuple[float | None, float | None]:
    """<x, y> / |x||y| and <x, y> / <y, y>; None where a tensor is zero or not finite."""
    if not (math.isfinite(squares) and squares > 0 and math.isfinite(reference) and reference > 0):
        return None, None
    return product / math.sqrt(squares * reference), product / reference


def _operands(chip: ProbedExecutor) -> Iterator[OperandRecord]:
    """What the chip's observer saw of each quantised operand."""
    for row in chip.observed.rows() if chip.observed else ():
        octaves = dict(row.pop("exponents"))
        yield OperandRecord(format=getattr(chip.formats(row["layer"]), row["role"]), octaves=octaves, **row)


def _product(key: tuple[str, str], note: ProductNote) -> ProductRecord:
    error = math.sqrt(note.error_squares / note.exact_squares) if note.exact_squares > 0 else None
    return ProductRecord.model_validate(
        {
            "layer": key[0],
            "phase": key[1],
            "products": note.products,
            "macs": note.macs,
            "kernel": note.kernel,
            "error_rms": error,
        }
    )


def _batches(
    workload: Workload, data: str | Path | None, recipe: Recipe
) -> tuple[Iterator[tuple[F32, Labels]], str]:
    """Mini-batches without end, and what they are."""
    facts = workload.data
    if data is None and facts.origin is None:
        return _random_batches(workload, recipe), "random samples"
    source = workload.source if data is None else data_source(Path(data))
    dataset = source.load()
    mine = (facts.input_shape, facts.tokens, facts.targets)
    given = (dataset.facts.input_shape, dataset.facts.tokens, dataset.facts.targets)
    if mine != given or dataset.facts.classes > facts.classes:
        raise InputError(
            f"samples of shape {given[0]} with {dataset.facts.classes} classes do not fit the workload's "
            f"{mine[0]} with {facts.classes}",
            "data",
        )
    x = prepared(dataset.train_x, workload, recipe)
    name = dataset.facts.origin.name if dataset.facts.origin else "samples"
    return _in_turn(x, dataset.train_y, workload.batch), f"{len(x)} samples of {name}"


def _in_turn(x: F32, labels: Labels, batch: int) -> Iterator[tuple[F32, Labels]]:
    places = np.arange(len(x))
    first = 0
    while True:
        chosen = places.take(np.arange(first, first + batch), mode="wrap")
        yield x[chosen], labels[chosen]
        first = (first + batch) % len(x)


def _random_batches(workload: Workload, recipe: Recipe) -> Iterator[tuple[F32, Labels]]:
    facts, step = workload.data, 0
    shape = (workload.batch, *facts.input_shape)
    targets = (workload.batch, *facts.targets)
    while True:
        step += 1
        drawn = uniform(stream_key(workload.seed, "samples", step), math.prod(shape)).reshape(shape)
        if facts.tokens is None:
            x = prepared((drawn * 256).astype(np.uint8), workload, recipe)
        else:
            x = np.floor(drawn * facts.tokens).astype(np.float32)
        chosen = uniform(stream_key(workload.seed, "labels", step), math.prod(targets)).reshape(targets)
        yield x, np.floor(chosen * facts.classes).astype(np.int64)
