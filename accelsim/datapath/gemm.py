"""A plan and its operands -> the result, bit for bit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.mapping import Plan
from accelsim.network import Operand
from accelsim.numerics.accumulate import Accumulation, Matrix, multiply
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.quantise import round_to

F32 = NDArray[np.float32]

_SINGLE_BITS = 24  # significand of a float32


def accumulate(plan: Plan, a: Matrix, b: Matrix) -> tuple[F32, str]:
    """The raw sums of one GEMM in the accumulator's format, and the kernel that computed them.

    Parameters
    ----------
    a: (m, k), b: (k, n); shapes as in the plan.

    Returns
    -------
    float32 (m, n), every value a value of ``plan.accumulator``.
    """
    (m, k), n = a.array.shape, b.array.shape[1]
    if (m, k, n) != (plan.m, plan.k, plan.n) or b.array.shape[0] != k:
        raise InputError(
            f"operands {a.array.shape} x {b.array.shape} do not fit the plan "
            f"({plan.m}, {plan.k}) x ({plan.k}, {plan.n})"
        )
    return multiply(Accumulation(plan.lanes, plan.chunk, plan.accumulator, plan.overflow), a, b)


def scaled_product(plan: Plan, a: Operand, b: Operand, storage: str) -> tuple[F32, str]:
    """The product of two operands as the chip writes it, and the kernel that computed it.

    Sums in the accumulator's format, then one 16-bit multiply by the scales, then one rounding. The
    scales of both operands are combined into one factor whose significand has the storage format's
    width; powers of two (GradScale) move its exponent only and cost no precision.
    """
    sums, kernel = accumulate(plan, _matrix(a), _matrix(b))
    stored = number_format(storage)
    factor = combined_scale(a.scale, b.scale, stored)
    if factor == 1.0:
        return (sums if plan.accumulator == storage else round_to(sums, storage)), kernel
    if number_format(plan.accumulator).significand_bits + stored.significand_bits > _SINGLE_BITS:
        # the product does not fit in a float32: it would be rounded there, and again when it is stored
        return np.asarray(stored.round(sums.astype(np.float64) * factor), np.float32), kernel
    sums *= np.float32(factor)
    return round_to(sums, storage), kernel


def combined_scale(a_scale: float, b_scale: float, storage: NumberFormat) -> float:
    """Product of two scales, its significand rounded to nearest even at the storage format's width."""
    significand, exponent = math.frexp(a_scale * b_scale)
    steps = 1 << storage.significand_bits
    return math.ldexp(np.rint(significand * steps) / steps, exponent)


def _matrix(operand: Operand) -> Matrix:
    fmt = number_format(operand.format)
    return Matrix(operand.array, fmt)


def matrix_of_codes(codes: Any, fmt: NumberFormat) -> Matrix:
    """Codes of any format as a GEMM operand: 8 bits and below stay codes, wider ones become values.

    Raises InputError for codes that are not integers, do not fit the format, or are not 2-D.
    """
    array = np.asarray(codes)
    if array.ndim != 2:
        raise InputError(f"codes must have 2 axes, got shape {array.shape}")
    values = fmt.decode(array)
    if fmt.bits <= 8:
        return Matrix(array.astype(np.uint8), fmt)
    return Matrix(values.astype(np.float32), fmt)
