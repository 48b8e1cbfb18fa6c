"""Design points: one chip with other values than its file's, all combinations, each estimated."""

from __future__ import annotations

import csv
import io
import math
import signal
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cache, partial
from itertools import product
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from accelsim.chip import chip_of
from accelsim.errors import InputError
from accelsim.mapping import Objective
from accelsim.recipe import load_recipe
from accelsim.report.readings import read_off
from accelsim.run.estimating import estimate
from accelsim.storage import find_resource
from accelsim.workload import Workload, load_workload
from accelsim.yamlfile import Change, YamlDocument, change_of, changed, one_line, read_yaml, with_values

Told = Callable[[int, int], None]
"""Called with (points done, points in all)."""


@dataclass(frozen=True)
class Figures:
    """What an estimate says of a point: a step (of all samples of a mini-batch), and the die."""

    step_seconds: float
    step_energy_j: float
    samples_per_second: float
    peak_tops: float
    die_mm2: float
    bound_by: str

    @property
    def aims(self) -> tuple[float, float, float]:
        """What is better the less it is: time, energy, area."""
        return self.step_seconds, self.step_energy_j, self.die_mm2


@dataclass(frozen=True)
class DesignPoint:
    """Other values by key, and either figures or why there is no such chip.

    ``best``: no other point is as quick, as thrifty and as small, and better in one of them.
    """

    changes: tuple[tuple[str, Change], ...]
    figures: Figures | None = None
    mistake: str = ""
    best: bool = False


def axis_of(text: str) -> tuple[str, list[Change]]:
    """Key and values of ``KEY=VALUE,VALUE...``; a list in brackets is one value.

    Raises `InputError` for a text that is no such, and for a value that stands twice.
    """
    key, equals, values = text.partition("=")
    if not equals or not key or not values.strip():
        raise InputError(f"must be KEY=VALUE,VALUE... (array.rows=4,8,16), got {text[:60]!r}")
    _, found = change_of(f"{key}=[{values}]")
    listed: list[Any] = found if isinstance(found, list) else [found]
    for place, value in enumerate(listed):
        if value in listed[:place]:
            raise InputError(f"{key}: {one_line(value)} stands twice")
    return key, listed


def sweep(
    chip: str | Path,
    workload: Workload | str | Path,
    axes: Mapping[str, Sequence[Change]],
    *,
    recipe: str | Path | None = None,
    batch: int | None = None,
    objective: Objective = "latency",
    processes: int = 1,
    told: Told = lambda done, whole: None,
) -> list[DesignPoint]:
    """Estimate a training step on every combination of the values of ``axes``, the first key slowest.

    ``axes``: by key of the chip's file (``array.rows``), the values it takes. ``processes``: how many work at
    a time; points do not depend on it.

    Raises
    ------
    InputError: no axis, a key that the file does not have, a mistake in the workload or recipe, and that of
        the first point if no point can be.
    """
    if not axes:
        raise InputError("a sweep needs a key and its values (array.rows=4,8,16)")
    first = {key: values[0] for key, values in axes.items()}
    document = changed(read_yaml(find_resource("arch_configs", chip)), first)
    loaded = workload if isinstance(workload, Workload) else load_workload(workload)
    if recipe is not None:
        _recipe(str(recipe))
    grid = [tuple(zip(axes, values, strict=True)) for values in product(*axes.values())]
    work = partial(_estimated, document, loaded, {"recipe": recipe, "batch": batch, "objective": objective})
    points = []
    with _mapping(min(processes, len(grid))) as mapped:
        for point in mapped(work, grid):
            points.append(point)
            told(len(points), len(grid))
    if all(point.figures is None for point in points):
        raise InputError(points[0].mistake)
    return with_best(points)


@contextmanager
def _mapping(processes: int) -> Iterator[Callable[..., Iterable[DesignPoint]]]:
    """`map`, or the same over processes."""
    if processes == 1:
        yield map
        return
    with get_context("spawn").Pool(processes, _leave_interrupts) as pool:
        yield partial(pool.imap, chunksize=4)


def _leave_interrupts() -> None:
    """Ctrl-C on a terminal reaches every process: the first alone answers it, and ends the others."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)


_recipe = cache(load_recipe)


def _estimated(
    document: YamlDocument,
    workload: Workload,
    options: Mapping[str, Any],
    changes: tuple[tuple[str, Change], ...],
) -> DesignPoint:
    try:
        chip = chip_of(with_values(document, dict(changes)))
        recipe = _recipe(str(options["recipe"] or chip.recipe))
        record = estimate(chip, workload, **{**options, "recipe": recipe})
    except InputError as error:
        return DesignPoint(changes, mistake=str(error))
    found = read_off(record)
    return DesignPoint(
        changes,
        Figures(
            found.step_seconds,
            found.energy_per_sample_j * record.batch,
            found.samples_per_second,
            found.peak_tops,
            found.die_mm2,
            found.binding,
        ),
    )


def with_best(points: Sequence[DesignPoint]) -> list[DesignPoint]:
    """The points, the best of them marked."""
    aims = sorted({point.figures.aims for point in points if point.figures})
    front: list[tuple[float, float, float]] = []
    for each in aims:  # quicker ones first: only those can be better in everything
        if not any(energy <= each[1] and area <= each[2] for _, energy, area in front):
            front.append(each)
    return [replace(each, best=each.figures is not None and each.figures.aims in front) for each in points]


def points_csv(points: Sequence[DesignPoint]) -> str:
    """All points as CSV: a column for each key, then the figures with their units."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    figures = ("step_ms", "step_energy_mj", "samples_per_second", "edp_uj_s", "peak_tops", "die_mm2")
    keys = [key for key, _ in points[0].changes]
    writer.writerow([*keys, *figures, "bound_by", "best", "mistake"])
    for point in points:
        values = [one_line(value) for _, value in point.changes]
        writer.writerow([*values, *_cells(point.figures), int(point.best), point.mistake])
    return out.getvalue()


def _cells(figures: Figures | None) -> list[str]:
    if figures is None:
        return [""] * 7
    seconds, joules = figures.step_seconds, figures.step_energy_j
    numbers = (1e3 * seconds, 1e3 * joules, figures.samples_per_second, 1e6 * seconds * joules)
    return [*(f"{each:.6g}" for each in (*numbers, figures.peak_tops, figures.die_mm2)), figures.bound_by]


def record_of(point: DesignPoint) -> dict[str, Any]:
    """A point as JSON has it."""
    figures = vars(point.figures) if point.figures else None
    finite = figures is None or all(
        math.isfinite(each) for each in figures.values() if isinstance(each, float)
    )
    return {
        "changes": dict(point.changes),
        "figures": figures if finite else None,
        "best": point.best,
        "mistake": point.mistake,
    }
