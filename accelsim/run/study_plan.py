"""The plan of an accuracy study: which task is trained on which system with which seeds."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from accelsim.errors import InputError, unknown
from accelsim.yamlfile import Change, YamlDocument, parse, position_of, read_yaml

SHIPPED = Path(__file__).resolve().parent / "shipped" / "accuracy.yaml"
"""The study whose results are kept under reports/accuracy."""

Name = Annotated[str, Field(pattern=r"^[a-z0-9_]+$")]
Seed = Annotated[int, Field(ge=0, lt=2**63)]


class _Keys(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class System(_Keys):
    """What trains: a chip with a recipe (default: the chip's own), and its name in tables.

    ``set``: other values by key of the chip's file, as ``accelsim run --set`` takes them; it is for
    ablations, since what silicon and energy would say about the change is not known. ``ablates``: the
    question that the system answers; it then stands in the tables of ablations and not among the systems.
    """

    chip: str = Field(min_length=1)
    recipe: str | None = None
    label: str = Field(min_length=1)
    set: dict[str, Change] = Field(default_factory=dict)
    ablates: str | None = Field(default=None, min_length=1)


class Task(_Keys):
    """What is trained: a workload, and the epochs that suffice the baseline to converge."""

    workload: str = Field(min_length=1)
    epochs: int | None = Field(default=None, ge=1)
    label: str = Field(min_length=1)


class Selection(_Keys):
    """Every one of ``tasks`` on every one of ``systems`` with every one of ``seeds``."""

    tasks: tuple[Name, ...] = Field(min_length=1)
    systems: tuple[Name, ...] = Field(min_length=1)
    seeds: tuple[Seed, ...] = Field(min_length=1)


class StudyPlan(_Keys):
    """A whole study; ``baseline`` is the system that the others are compared with, seed by seed.

    ``ablated``: the system whose parts the systems with ``ablates`` change, and are compared with.
    """

    name: Name
    description: str = Field(min_length=1)
    baseline: Name
    ablated: Name | None = None
    systems: dict[Name, System] = Field(min_length=1)
    tasks: dict[Name, Task] = Field(min_length=1)
    runs: tuple[Selection, ...] = Field(min_length=1)


@dataclass(frozen=True)
class StudyJob:
    """One run of a study."""

    task: str
    system: str
    seed: int

    @property
    def stem(self) -> str:
        """Name of its files."""
        return f"{self.task}.{self.system}.{self.seed}"


def load_study(path: str | Path = SHIPPED) -> StudyPlan:
    """Read a study's plan. Raises `InputError` with file, line, column and key for the first mistake."""
    document = read_yaml(Path(path))
    plan = parse(StudyPlan, document)
    for key, name in (("baseline", plan.baseline), ("ablated", plan.ablated)):
        if name is not None and name not in plan.systems:
            raise _unknown(document, (key,), "system", name, plan.systems)
    for name, system in plan.systems.items():
        if system.ablates and not plan.ablated:
            raise InputError(
                f"systems.{name}.ablates: the study does not say what is 'ablated'",
                position_of(document, ("systems", name, "ablates")),
            )
    for index, selection in enumerate(plan.runs):
        for key, names, known in (
            ("tasks", selection.tasks, list(plan.tasks)),
            ("systems", selection.systems, list(plan.systems)),
        ):
            for place, name in enumerate(names):
                if name not in known:
                    raise _unknown(document, ("runs", index, key, place), key[:-1], name, known)
    return plan


def _unknown(
    document: YamlDocument, path: tuple[str | int, ...], what: str, name: str, known: object
) -> InputError:
    return unknown(what, name, list(known), position_of(document, path))  # type: ignore[call-overload]


def jobs_of(plan: StudyPlan, tasks: tuple[str, ...] = (), systems: tuple[str, ...] = ()) -> list[StudyJob]:
    """The runs in the plan's order, each once; ``tasks`` and ``systems`` narrow them (empty: all).

    Raises `InputError` for a name that the plan does not have.
    """
    for what, wanted, known in (("task", tasks, plan.tasks), ("system", systems, plan.systems)):
        for name in wanted:
            if name not in known:
                raise unknown(what, name, list(known))
    chosen = dict.fromkeys(
        job
        for job in _all_jobs(plan)
        if (not tasks or job.task in tasks) and (not systems or job.system in systems)
    )
    return list(chosen)


def _all_jobs(plan: StudyPlan) -> Iterator[StudyJob]:
    """Seed by seed, so that a study that is stopped has every pair with the first seed."""
    for selection in plan.runs:
        for seed in selection.seeds:
            for task in selection.tasks:
                for system in selection.systems:
                    yield StudyJob(task, system, seed)
