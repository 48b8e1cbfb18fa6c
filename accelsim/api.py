"""The verbs of accelsim, for programs: load, estimate, train, compare, multiply, convert.

Every function here is what a command of the same name does, without printing.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.chip import Chip, load_chip
from accelsim.mapping import Plan, plan_gemm
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.operations import Gemm, Tensor
from accelsim.recipe import Recipe, load_recipe
from accelsim.record import RunRecord, read_record, record_text
from accelsim.report import Comparison, compare_records
from accelsim.run import Progress, estimate, train
from accelsim.workload import Workload, load_workload

__all__ = [
    "Chip",
    "Comparison",
    "MatmulResult",
    "NumberFormat",
    "Plan",
    "Progress",
    "Recipe",
    "RunRecord",
    "Workload",
    "compare",
    "estimate",
    "load_chip",
    "load_recipe",
    "load_workload",
    "matmul",
    "number_format",
    "read_record",
    "record_text",
    "train",
]


@dataclass(frozen=True, eq=False)
class MatmulResult:
    """The result of one GEMM on a chip.

    ``codes``: (m, n) unsigned integers of ``format``, the accumulator's format; ``values``: (m, n)
    float64, what the codes stand for; ``plan``: how the GEMM ran, which fixes its bits and its
    cycles; ``kernel``: the name of the kernel that computed it.
    """

    codes: NDArray[Any]
    values: NDArray[np.float64]
    format: NumberFormat
    plan: Plan
    kernel: str


def matmul(
    chip: Chip | str | Path,
    a_codes: ArrayLike,
    b_codes: ArrayLike,
    a_format: str | NumberFormat = "int4",
    b_format: str | NumberFormat = "fp4_r4_odd",
) -> MatmulResult:
    """Multiply two matrices of codes on a chip's MAC array, bit for bit.

    Parameters
    ----------
    chip: a `Chip`, the name of a shipped one, or the path of a YAML file.
    a_codes: unsigned integers (m, k), codes of ``a_format``.
    b_codes: unsigned integers (k, n), codes of ``b_format``.

    Returns
    -------
    `MatmulResult`; no scale is applied. Products of ``plan.lanes`` neighbours along k are added
    exactly, then rounded into the partial sum; after ``plan.chunk`` products the partial sum is
    rounded into the outer accumulator. Every zero is +0.

    Raises
    ------
    InputError: codes that are not integers or do not fit their format, shapes that do not match,
        a chip whose MACs do not take the two formats.
    """
    from accelsim.datapath.gemm import accumulate, matrix_of_codes
    from accelsim.errors import InputError

    a_format, b_format = number_format(a_format), number_format(b_format)
    a, b = matrix_of_codes(a_codes, a_format), matrix_of_codes(b_codes, b_format)
    (m, k), (rows, n) = a.array.shape, b.array.shape
    if k != rows:
        raise InputError(f"a is ({m}, {k}) but b is ({rows}, {n}): the inner extents must be equal")
    chip = chip if isinstance(chip, Chip) else load_chip(chip)
    plan = plan_gemm(_single_gemm(m, k, n, a_format, b_format, chip), chip)
    values, kernel = accumulate(plan, a, b)
    accumulator = number_format(plan.accumulator)
    codes = accumulator.encode(values)
    return MatmulResult(codes, accumulator.decode(codes), accumulator, plan, kernel)


def _single_gemm(m: int, k: int, n: int, a: NumberFormat, b: NumberFormat, chip: Chip) -> Gemm:
    out_bits = number_format(chip.array.accumulator).bits
    return Gemm(
        "matmul", "forward", m, k, n, a.name, b.name,
        Tensor("a", m * k, a.bits, "input"),
        Tensor("b", k * n, b.bits, "input"),
        Tensor("out", m * n, out_bits, "stream"),
    )  # fmt: skip


def compare(
    chip: Chip | str | Path, baseline: Chip | str | Path, workload: Workload | str | Path, **options: Any
) -> tuple[RunRecord, RunRecord, Comparison]:
    """Train a workload on two chips and compare: (record, baseline's record, comparison).

    ``options`` are those of `train`, used for both; each chip runs its own default recipe unless
    ``recipe`` is given.
    """
    record = train(chip, workload, **options)
    opponent = train(baseline, workload, **options)
    return record, opponent, compare_records(record, opponent)
