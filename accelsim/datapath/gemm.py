"""A plan and its operands -> the result, bit for bit."""

from __future__ import annotations

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.split_k import multiply_pieces
from accelsim.datapath.wide_sum import exact_sums
from accelsim.errors import InputError
from accelsim.mapping import Plan
from accelsim.network import Operand, WindowOperand
from accelsim.numerics.accumulate import Matrix
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.accumulator import result_format
from accelsim.numerics.code_kernels import odd_singles
from accelsim.numerics.formats import NumberFormat, number_format
from accelsim.numerics.operand import WindowMatrix
from accelsim.numerics.quantise import round_to

F32 = NDArray[np.float32]
F64 = NDArray[np.float64]

Seeds = int | NDArray[np.uint64]
"""Of the random bits of a product; of a stack one for each."""

_SINGLE_BITS = 24  # significand of a float32
_DOUBLE_BITS = 53  # significand of a float64
_ODD_SINGLES_WILL_DO = ("bf16", "fp16", "dlfloat16")
"""Formats with at least two bits fewer than a float32 everywhere in their range."""


def rule_of(plan: Plan, seed: int = 0) -> Accumulation:
    """What fixes the bits of a plan's sums; ``seed`` is that of stochastic rounding."""
    return _rule(
        plan.lanes, plan.chunk, plan.accumulator, plan.overflow, plan.rounding, plan.alignment_bits,
        plan.k_splits, plan.readout, seed,
    )  # fmt: skip


_rule = lru_cache(maxsize=1024)(Accumulation)
"""An `Accumulation` checks itself, which each of a run's products need not wait for."""


def accumulate(plan: Plan, a: Matrix, b: Matrix, seed: Seeds = 0) -> tuple[NDArray[Any], str]:
    """The raw sums of one GEMM in the accumulator's format, and the kernel that computed them.

    Parameters
    ----------
    a: (m, k), b: (k, n); shapes as in the plan; or stacks of them.
    seed: of the random bits of an accumulator that rounds stochastically, 0..2**64-1; of stacks one for
        each product, uint64 (stack,).

    Returns
    -------
    (m, n), every value a value of ``plan.accumulator`` (``plan.readout`` if that is exact): float32, or
    float64 where float32 does not hold them all.

    Raises `InputError` for operands that do not fit the plan, and for a row-stationary plan whose sums
    depend on the order of additions.
    """
    (*stack, m, k), n = a.shape, b.shape[-1]
    if (m, k, n) != (plan.m, plan.k, plan.n) or b.shape[:-1] != (*stack, k):
        raise InputError(
            f"operands {a.shape} x {b.shape} do not fit the plan ({plan.m}, {plan.k}) x ({plan.k}, {plan.n})"
        )
    if plan.by_rows is not None and plan.accumulator != "exact":
        raise InputError(
            f"row_stationary adds kernel rows pass by pass, an order that is not computed bit by bit with a "
            f"'{plan.accumulator}' accumulator; use 'estimate', or a chip whose array.accumulator is exact"
        )
    seeds = seed if isinstance(seed, np.ndarray) else [seed] * math.prod(stack)
    wide = exact_sums(rule_of(plan), a, b, seeds)
    if wide is not None:
        return wide, "wide"
    if not isinstance(seed, np.ndarray):
        return multiply_pieces(rule_of(plan, seed), a, b)
    return one_by_one(
        multiply_pieces(rule_of(plan, int(each)), Matrix(x, a.format), Matrix(y, b.format))
        for each, x, y in zip(seed, a.array, b.array, strict=True)
    )


def one_by_one(products: Iterable[tuple[NDArray[Any], str]]) -> tuple[NDArray[Any], str]:
    """Products that were made each by itself as a stack, and all the kernels that made them."""
    found = list(products)
    return np.stack([product for product, _ in found]), "+".join(sorted({name for _, name in found}))


def scaled_product(plan: Plan, a: Operand, b: Operand, storage: str, seed: Seeds = 0) -> tuple[F32, str]:
    """The product of two operands as the chip writes it, and the kernel that computed it.

    Sums in the accumulator's format, then one 16-bit multiply by the scales, then one rounding. The
    scales of both operands are combined into one factor whose significand has the storage format's
    width; powers of two (GradScale) move its exponent only and cost no precision.
    """
    sums, kernel = accumulate(plan, _matrix(a), _matrix(b), seed)
    return stored_sums(plan, sums, a.scale, b.scale, storage, storage), kernel


def stored_sums(
    plan: Plan, sums: NDArray[Any], a_scale: float, b_scale: float, storage: str, scales: str
) -> F32:
    """Sums times the scales of both operands, rounded once to the storage format.

    ``scales``: the format that the combined scale's significand is rounded to.
    """
    return _stored(plan, sums, combined_scale(a_scale, b_scale, number_format(scales)), storage, scales)


def stored_stack(plan: Plan, sums: NDArray[Any], a_scales: F64, b_scales: F64, storage: str) -> F32:
    """`stored_sums` of a stack whose operands have a scale each, float64 (stack,); scales are of fp32."""
    single, pairs = number_format("fp32"), zip(a_scales.tolist(), b_scales.tolist(), strict=True)
    factors = [combined_scale(a, b, single) for a, b in pairs]
    alike = all(factor == factors[0] for factor in factors)
    factor = factors[0] if alike and factors else np.array(factors).reshape(-1, 1, 1)
    return _stored(plan, sums, factor, storage, "fp32")


def _stored(plan: Plan, sums: NDArray[Any], factor: Any, storage: str, scales: str) -> F32:
    """Sums times a factor (or one for each matrix of a stack), rounded once to the storage format."""
    stored, plain = number_format(storage), isinstance(factor, float) and factor == 1.0
    fmt = result_format(plan.accumulator, plan.readout)
    if fmt.name == storage and plain:
        return np.asarray(sums, np.float32)
    bits = fmt.significand_bits + (0 if plain else number_format(scales).significand_bits)
    if sums.dtype == np.float32 and bits <= _SINGLE_BITS:
        sums *= np.float32(factor)
        return round_to(sums, storage)
    # the product does not fit in a float32: it would be rounded there, and again when it is stored
    wide = sums.astype(np.float64)
    product = wide * factor if bits <= _DOUBLE_BITS else odd_product(wide, factor)
    if storage in _ODD_SINGLES_WILL_DO and product.size:
        singles = np.empty(product.shape, np.float32)
        odd_singles(product.reshape(-1), singles.reshape(-1))
        return round_to(singles, storage)
    return np.asarray(stored.round(product), np.float32)


def odd_product(values: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """``values * factor`` rounded to odd, so that a later rounding to fewer bits is the only one.

    Integers below 2**53 in any common unit, and a factor of at most 24 significant bits: halves of the
    values have exact products, and the error of adding those is known (Dekker, 1971).
    """
    upper = values.astype(np.float32).astype(np.float64)
    larger, smaller = upper * factor, (values - upper) * factor
    product = larger + smaller
    error = smaller - (product - larger)
    even = np.ldexp(np.frexp(product)[0], _DOUBLE_BITS) % 2 == 0
    odd = np.nextafter(product, np.copysign(np.inf, error))
    return np.where((error != 0) & even, odd, product)


def combined_scale(a_scale: float, b_scale: float, storage: NumberFormat) -> float:
    """Product of two scales, its significand rounded to nearest even at the storage format's width."""
    product = a_scale * b_scale
    if not math.isfinite(product):
        return product
    significand, exponent = math.frexp(product)
    steps = 1 << storage.significand_bits
    return math.ldexp(round(significand * steps) / steps, exponent)


def _matrix(operand: Operand) -> Matrix:
    fmt = number_format(operand.format)
    if isinstance(operand, WindowOperand):
        return WindowMatrix(operand.windows, fmt)
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
