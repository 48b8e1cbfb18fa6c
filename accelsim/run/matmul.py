"""One GEMM of codes on a chip, bit for bit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelsim.chip import Chip, load_chip
from accelsim.errors import InputError
from accelsim.mapping import Plan, plan_gemm
from accelsim.numerics.accumulator import AccumulatorFormat, result_format
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.operations import Gemm, Phase, Tensor


@dataclass(frozen=True, eq=False)
class MatmulResult:
    """The result of one GEMM on a chip.

    ``codes``: (m, n) unsigned integers of ``format``, the accumulator's format (of an exact one, the
    vector unit's storage format); ``values``: (m, n)
    float64, what the codes stand for; ``plan``: how the GEMM ran, which fixes its bits and its
    cycles; ``kernel``: the name of the kernel that computed it.
    """

    codes: NDArray[Any]
    values: NDArray[np.float64]
    format: AccumulatorFormat
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

    a_format, b_format = number_format(a_format), number_format(b_format)
    a, b = matrix_of_codes(a_codes, a_format), matrix_of_codes(b_codes, b_format)
    (m, k), (rows, n) = a.array.shape, b.array.shape
    if k != rows:
        raise InputError(f"a is ({m}, {k}) but b is ({rows}, {n}): the inner extents must be equal")
    chip = chip if isinstance(chip, Chip) else load_chip(chip)
    plan = plan_gemm(lone_gemm("forward", (m, k, n), (a_format, b_format), chip), chip)
    values, kernel = accumulate(plan, a, b)
    result = result_format(plan.accumulator, plan.readout)
    codes = result.encode(values)
    return MatmulResult(codes, result.decode(codes), result, plan, kernel)


def lone_gemm(
    phase: Phase, shape: tuple[int, int, int], formats: tuple[NumberFormat, NumberFormat], chip: Chip
) -> Gemm:
    """A GEMM (m, k, n) that stands alone: both operands come from DRAM, the result stays if it fits.

    The phase is a label: it decides neither plan nor bits.
    """
    (m, k, n), (a, b) = shape, formats
    out_bits = result_format(chip.array.accumulator, chip.vector_unit.storage_format).bits
    return Gemm(
        "matmul", phase, m, k, n, a.name, b.name,
        Tensor("a", m * k, a.bits, "input"),
        Tensor("b", k * n, b.bits, "input"),
        Tensor("out", m * n, out_bits, "stream"),
    )  # fmt: skip
