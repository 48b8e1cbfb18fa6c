"""One training run of an accuracy study, small enough to be kept: a row of its table.

A `RunRecord` echoes every layer of every phase; a study of a hundred runs keeps what its tables and
figures need, and the digests that tell which inputs made it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from accelsim.record.reading import read_part
from accelsim.record.schema import EnergyRecord, EpochRecord, Frozen, RunRecord, TensorRecord

STUDY_SCHEMA: Literal["accelsim.study/1"] = "accelsim.study/1"


class InputDigest(Frozen):
    """An input file: its name and the SHA-256 of its text."""

    name: str
    sha256: str


class StudyRow(Frozen):
    """One run: ``task`` trained on ``system`` with ``seed``.

    Cycles and energy are those of one training step, exact; ``tensors`` are those of the first and of the
    last epoch and of at most three between. ``command`` repeats the run, ``weight_digest`` tells whether it
    came out the same.
    """

    schema_name: Literal["accelsim.study/1"] = Field(default=STUDY_SCHEMA, alias="schema")
    task: str
    system: str
    seed: int
    command: str
    versions: dict[str, str | None]
    chip: InputDigest
    workload: InputDigest
    recipe: InputDigest
    dataset_sha256: str
    batch: int
    steps_per_epoch: int
    epochs: tuple[EpochRecord, ...] = Field(min_length=1)
    weight_digest: str
    clock_mhz: float
    step_cycles: int
    step_energy_aj: EnergyRecord
    tensors: tuple[TensorRecord, ...]

    @property
    def steps(self) -> int:
        """Training steps of the whole run."""
        return self.steps_per_epoch * len(self.epochs)

    @property
    def simulated_seconds(self) -> float:
        """Time the chip takes for the whole run."""
        return self.steps * self.step_cycles / (self.clock_mhz * 1e6)

    @property
    def energy_joules(self) -> float:
        """Energy the chip takes for the whole run."""
        return self.steps * self.step_energy_aj.total_aj * 1e-18


def study_row(record: RunRecord, task: str, system: str) -> StudyRow:
    """What a study keeps of one training run. Raises `ValueError` for a record without training."""
    if record.training is None or record.dataset is None:
        raise ValueError(f"the record of {task} on {system} holds no training")
    training = record.training
    kept = {training.epochs[index].epoch for index in _kept(len(training.epochs))}
    digests = {
        part: InputDigest(name=file.name, sha256=file.sha256)
        for part, file in (("chip", record.chip), ("workload", record.workload), ("recipe", record.recipe))
    }
    return StudyRow(
        task=task,
        system=system,
        seed=record.seed,
        command=record.command,
        versions=record.versions,
        **digests,
        dataset_sha256=record.dataset.sha256,
        batch=record.batch,
        steps_per_epoch=record.steps_per_epoch,
        epochs=training.epochs,
        weight_digest=training.weight_digest,
        clock_mhz=record.cost.clock_mhz,
        step_cycles=record.cost.step_cycles,
        step_energy_aj=record.cost.step_energy_aj,
        tensors=tuple(one for one in training.tensors if one.epoch in kept),
    )


def _kept(count: int) -> set[int]:
    """Of so many epochs: all, or five as far apart as they can be, the first and the last among them."""
    return {step * (count - 1) // 4 for step in range(5)}


def row_text(row: StudyRow) -> str:
    """The row as JSON, one line per key, the same text every time."""
    return row.model_dump_json(by_alias=True, indent=1) + "\n"


def read_row(path: Path) -> StudyRow:
    """Read a row back. Raises `InputError` for a file that is none."""
    return read_part(StudyRow, path, "a row of an accuracy study")
