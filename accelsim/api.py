"""The verbs of accelsim, for programs: load, estimate, train, compare, multiply, convert, draw.

Every function here is what a command of the same name does, without printing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from accelsim.chip import Chip, load_chip
from accelsim.cost import Grid, Kept, grid_record, load_grid
from accelsim.errors import InputError
from accelsim.mapping import Plan
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.recipe import Recipe, load_recipe
from accelsim.record import GridRecord, RunRecord, read_record, record_text
from accelsim.record.probe import ProbeRecord
from accelsim.report import Comparison, compare_records
from accelsim.run import Progress, estimate, train
from accelsim.run.gemm_report import GemmReport, gemm_report
from accelsim.run.mapped import MappedGemm, kept_tensors, map_gemms
from accelsim.run.matmul import MatmulResult, matmul
from accelsim.workload import Workload, load_workload

__all__ = [
    "Chip",
    "Comparison",
    "GemmReport",
    "Kept",
    "MappedGemm",
    "MatmulResult",
    "NumberFormat",
    "Plan",
    "Progress",
    "Recipe",
    "RunRecord",
    "Workload",
    "compare",
    "compare_records",
    "draw_formats",
    "draw_four_bits",
    "estimate",
    "gemm_report",
    "kept_tensors",
    "load_chip",
    "load_recipe",
    "load_workload",
    "map_gemms",
    "matmul",
    "number_format",
    "probe",
    "read_record",
    "record_text",
    "train",
    "with_grid",
]


def compare(
    chip: Chip | str | Path, baseline: Chip | str | Path, workload: Workload | str | Path, **options: Any
) -> tuple[RunRecord, RunRecord, Comparison]:
    """Train a workload on two chips and compare: (record, baseline's record, comparison).

    ``options`` are those of `train` but its checkpoint, used for both; each chip runs its own default
    recipe unless ``recipe`` is given. Raises `InputError` as `train` does, and for a checkpoint: two
    runs cannot share one, so train them one by one and use `compare_records`.
    """
    for option in ("checkpoint", "resume"):
        if options.get(option):
            raise InputError("two runs cannot share a checkpoint; call train for each of them", option)
    record = train(chip, workload, **options)
    opponent = train(baseline, workload, **options)
    return record, opponent, compare_records(record, opponent)


def probe(chip: Chip | str | Path, workload: Workload | str | Path, **options: Any) -> ProbeRecord:
    """Training steps of a network of any size, the last of them looked at layer by layer.

    Takes the options of `accelsim.run.probing.probe`, which is imported here because it loads the compiler.
    """
    from accelsim.run.probing import probe as run_probe

    return run_probe(chip, workload, **options)


def with_grid(
    record: RunRecord, grid: Grid | str | Path, *, price: float | None = None, pue: float | None = None
) -> RunRecord:
    """The record with the electricity of another place: a shipped name, a YAML file or a `Grid`.

    ``price`` (of a kWh, in the grid's currency) and ``pue`` replace the grid's own numbers.

    Raises
    ------
    InputError: an unknown grid, a mistake in its file, a negative price, an overhead below 1.
    """
    grid = grid if isinstance(grid, Grid) else load_grid(grid)
    battery_wh = record.grid.battery_wh if record.grid else None
    content = grid_record(grid, battery_wh, price=price, pue=pue)
    return record.model_copy(update={"grid": GridRecord.model_validate(content)})


def draw_formats(names: Sequence[str | NumberFormat], out_dir: str | Path) -> list[Path]:
    """Draw number lines, rounding staircases and relative errors of formats side by side.

    Formats that differ in their exponent offset only (the even and the odd grid of radix-4 FP4) share their
    full scale, so that the shift is seen. Returns the paths of formats.png and formats.svg in ``out_dir``.

    Raises
    ------
    InputError: an unknown format, too many of them, one of more than 8 bits, a folder that cannot be written.
    """
    import numpy as np

    from accelsim.report.format_figure import DrawnFormat
    from accelsim.report.format_figure import draw_formats as draw

    formats = [number_format(name) for name in names]
    drawn = []
    for fmt in formats:
        if fmt.bits > 8:
            raise InputError(f"{fmt}: a figure of all values takes formats of at most 8 bits, got {fmt.bits}")
        values = np.array(sorted({value for _, value in fmt.table() if 0 < value < float("inf")}))
        full_scale = max(each.max_value for each in formats if _kin(each) == _kin(fmt))
        drawn.append(DrawnFormat(fmt.name, values, partial(fmt.round, overflow="saturate"), full_scale))
    return draw(drawn, out_dir)


def draw_four_bits(out_dir: str | Path) -> list[Path]:
    """Draw an image and a weight tensor rescaled linearly to -8..7 and on the base-4 grid, and the scales.

    Returns the paths of four_bits.png and four_bits.svg in ``out_dir``. Raises `InputError` when the folder
    cannot be written.
    """
    import numpy as np

    from accelsim.report.rescaled_figure import Mark, RescaledTensor, draw_rescaled
    from accelsim.run.rescaling import in_four_bits, rescaled, sample_image, sample_weights

    tensors = []
    for title, values in (("an image, 0..1", sample_image()), ("a weight tensor", sample_weights())):
        made = in_four_bits(values)
        tensors.append(RescaledTensor(title, made.values, made.codes, made.logarithmic))
    whole = number_format("int4")
    places = np.array([0.0, 0.3, 1.0])
    falls = rescaled(places, 0.0, 1.0)
    marks = [
        Mark(float(place), float(fall), int(code))
        for place, fall, code in zip(places, falls, whole.round(falls), strict=True)
    ]
    grid = number_format("fp4_r4_even")
    positive = sorted(value / grid.max_value for _, value in grid.table() if value > 0)
    return draw_rescaled(tensors, marks, positive, out_dir)


def _kin(fmt: NumberFormat) -> NumberFormat:
    """The format without name and exponent offset: the same for both grids of two-phase rounding."""
    return replace(fmt, name="kin", exponent_offset=0, source="")
