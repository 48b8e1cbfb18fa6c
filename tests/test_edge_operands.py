"""Operands quantised at the array's edge: blocks along the inner axis, products, transforms, samples."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hand_plan import hand_plan
from oracles import accumulators as oracle
from oracles import catalog

from accelsim.datapath import block_product
from accelsim.datapath.block_operands import Blocks, in_blocks, transformed
from accelsim.datapath.edge import EdgeOperand, edge_product, entering
from accelsim.datapath.gemm import rule_of
from accelsim.mapping import Plan
from accelsim.network import Operand
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.block_formats import BlockFormat, block_format, block_format_names, stored_bits
from accelsim.numerics.formats import number_format
from accelsim.numerics.general_kernel import accumulate_general
from accelsim.numerics.random_bits import random_words

Rows = list[list[float]]


def drawn(rows: int, k: int, seed: int, spread: float = 2.0) -> np.ndarray:
    """bf16 values of many sizes, zeros and a block of zeros among them."""
    rng = np.random.default_rng(seed)
    values = rng.normal(0, 1, (rows, k)) * np.exp(rng.normal(0, spread, (rows, k)))
    values[rng.random((rows, k)) < 0.1] = 0
    values[0, : min(32, k)] = 0
    return number_format("bf16").round(values).astype(np.float32)


def block_values(
    values: np.ndarray, fmt: BlockFormat, *, key: int | None = None, square: bool = False
) -> tuple[np.ndarray, float]:
    """One matrix in blocks along its rows: element times block scale, and the tensor's scale."""
    keys = None if key is None else np.array([key], np.uint64)
    blocks = in_blocks(values[None], fmt, 2, keys=keys, square=square)
    return blocks.values[0], float(blocks.tensors[0])


def whole(values: np.ndarray) -> Blocks:
    """Numbers as if they were cut already, of no tensor's scale."""
    sizes = np.abs(values[values != 0])
    return Blocks(values[None], np.ones(1), float(sizes.max()), float(sizes.min()))


def blocked(values: np.ndarray, name: str) -> tuple[list[list[Fraction]], Fraction]:
    """Rows as element times block scale by the fraction oracle, and the tensor's scale.

    The oracle knows one row at a time: a whole tensor goes through it as one row of whole blocks.
    """
    layout = catalog.BLOCKS[name]
    width = -(-values.shape[1] // layout.block) * layout.block
    padded = np.zeros((len(values), width))
    padded[:, : values.shape[1]] = values
    codes, scales, tensor = catalog.encode_blocks(name, padded.reshape(-1).tolist())
    scale_of = catalog.value_of_scale(layout.scale)
    flat = [
        Fraction(catalog.decode(layout.element, code)) * scale_of(scales[i // layout.block])
        for i, code in enumerate(codes)
    ]
    rows = [flat[r * width : r * width + values.shape[1]] for r in range(len(values))]
    return rows, tensor


def plan_for(a: np.ndarray, b: np.ndarray, lanes: int, **fields: Any) -> Plan:
    """A plan of the operands' extents, sums in FP32 unless said otherwise."""
    (m, k), n = a.shape, b.shape[1]
    return hand_plan(**{"m": m, "k": k, "n": n, "lanes": lanes, "rows": 2, "accumulator": "fp32", **fields})


@pytest.mark.parametrize("name", block_format_names())
def test_blocks_along_rows_are_those_of_the_format(name: str) -> None:
    """Every value times the tensor's scale equals the format's own conversion, to even and stochastically."""
    fmt = block_format(name)
    for seed, shape in enumerate([(1, 1), (3, 100), (7, 64), (2, 33)]):
        values = drawn(*shape, seed)
        for key in (None, 77 + seed):
            rounding = None if key is None else "stochastic"
            codes, scales = fmt.encode(values, rounding=rounding, key=key)
            wanted = fmt.decode(codes, scales)
            found, tensor = block_values(values, fmt, key=key)
            assert found.dtype == np.float32
            assert (found * np.float64(tensor) == wanted).all()


@pytest.mark.parametrize("name", block_format_names())
def test_blocks_against_fractions(name: str) -> None:
    """The same by exact fractions, block by block."""
    values = drawn(3, 50, 9)
    wanted, tensor = blocked(values, name)
    found, got = block_values(values, block_format(name))
    assert got == tensor
    assert [[Fraction(float(value)) for value in row] for row in found] == wanted


@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
def test_square_blocks_are_the_same_both_ways(name: str) -> None:
    """A weight has one set of values in the forward and the backward product."""
    values = drawn(70, 50, 3)
    fmt = block_format(name)
    forward, tensor = block_values(values, fmt, square=True)
    backward, same = block_values(np.ascontiguousarray(values.T), fmt, square=True)
    assert tensor == same
    assert (forward == backward.T).all()
    side = fmt.block
    for band in range(0, 70, side):
        for first in range(0, 50, side):
            part = values[band : band + side, first : first + side]
            row, _ = block_values(part.reshape(1, -1), block_format(name))
            if part.size == side and part.any():
                assert (row.reshape(part.shape) == forward[band : band + side, first : first + side]).all()


@pytest.mark.parametrize("name", block_format_names())
def test_a_block_that_holds_no_number_is_none(name: str) -> None:
    """A NaN or an infinity makes its block NaN and leaves the others alone."""
    values = drawn(2, 96, 4)
    clean, _ = block_values(values, block_format(name))
    block = block_format(name).block
    for bad in (math.nan, math.inf, -math.inf):
        values[1, 40] = bad
        found, _ = block_values(values, block_format(name))
        start = 40 // block * block
        assert np.isnan(found[1, start : start + block]).all()
        if block_format(name).scale == "e8m0":
            found[1, start : start + block] = clean[1, start : start + block]
            assert (found == clean).all()


CASES = [
    ("mxfp4", 32, 100, {}),
    ("mxfp4", 32, 257, {"k_splits": 2}),
    ("mxfp4", 16, 70, {}),
    ("nvfp4", 16, 100, {}),
    ("nvfp4", 16, 40, {"dataflow": "output_stationary", "chunk": 40}),
    ("nvfp4", 32, 70, {}),
    ("mxfp8_e4m3", 32, 70, {}),
    ("mxfp4", 32, 100, {"accumulator": "dlfloat16"}),
]


@pytest.mark.parametrize(("name", "lanes", "k", "fields"), CASES)
def test_a_product_against_fractions(name: str, lanes: int, k: int, fields: dict[str, Any]) -> None:
    """Exact groups, one rounding each, chunk by chunk; then the scales and one rounding to storage."""
    a, b = drawn(4, k, 1), drawn(k, 5, 2).astype(np.float32)
    plan = plan_for(a, b, lanes, **fields)
    left, a_tensor = blocked(a, name)
    right, b_tensor = blocked(np.ascontiguousarray(b.T), name)
    rule = oracle.Rule(lanes, plan.chunk, plan.accumulator, k_splits=plan.k_splits)
    factor = Fraction(float(number_format("fp32").round(float(a_tensor * b_tensor))))
    result, kernel = edge_product(plan, EdgeOperand(a, name), EdgeOperand(b, name), "bf16")
    exact_groups = plan.accumulator == "fp32" and block_format(name).block % lanes == 0 and "fp8" not in name
    assert kernel.startswith("block_exact" if exact_groups else "f64")
    for i, row in enumerate(left):
        for j, column in enumerate(right):
            total = oracle.dot(rule, oracle.products(row, column, "fp32", "fp32"))
            assert float(result[i, j]) == catalog_round("bf16", Fraction(total) * factor)


def catalog_round(name: str, value: Fraction) -> float:
    """One exact rounding to the format's nearest number."""
    return float(catalog.decode(name, catalog.encode(name, value)))


@pytest.mark.parametrize("codes_first", [True, False])
def test_codes_may_meet_blocks(codes_first: bool) -> None:
    """A product of 4-bit integers and blocks is that of the numbers which both stand for."""
    codes = np.random.default_rng(3).integers(0, 16, (4, 70)).astype(np.uint8)
    values = drawn(5, 70, 9)
    integers, blocks = Operand(codes, "int4", 0.5), EdgeOperand(values, "mxfp4")
    wanted = entering(integers) @ entering(blocks).T
    a, b = integers, blocks.rearranged(np.ascontiguousarray(values.T))
    if not codes_first:
        a, b, wanted = blocks, integers.rearranged(np.ascontiguousarray(codes.T)), wanted.T
    found, kernel = edge_product(plan_for(a.array, b.array, 32), a, b, "fp32")
    assert kernel.startswith("f64")
    assert np.abs(found - wanted).max() <= 1e-5 * np.abs(wanted).max()


def by_general_kernel(rule: Accumulation, a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Sums of values by the kernel that takes anything."""
    left, right = np.ascontiguousarray(a, np.float64), np.ascontiguousarray(b.T, np.float64)
    return accumulate_general(rule, left, right, (number_format("fp32"), number_format("fp32")))


def test_all_kernels_agree() -> None:
    """Single and double precision give what the general kernel gives."""
    a, _ = block_values(drawn(9, 200, 5), block_format("nvfp4"))
    b, _ = block_values(drawn(11, 200, 6), block_format("nvfp4"))
    plan = plan_for(a, b.T, 16, k_splits=3)
    rule = rule_of(plan)
    seeds = np.zeros(1, np.uint64)
    (fast,), name = block_product.block_sums(plan, whole(a), whole(b.T), True, seeds)
    (slow,), other = block_product.block_sums(plan, whole(a), whole(b.T), False, seeds)
    assert (name, other[:3]) == ("block_exact", "f64")
    assert (fast == slow).all()
    assert (fast == by_general_kernel(rule, a, b.T)).all()
    assert not np.signbit(fast[fast == 0]).any()


@pytest.mark.parametrize("size", [2.0**70, 2.0**-70])
def test_sizes_that_single_precision_cannot_hold(size: float) -> None:
    """Products that could overflow or lose bits are added in double precision."""
    a = drawn(3, 40, 7) * np.float32(size)
    plan = plan_for(a, a.T, 32)
    _, kernel = edge_product(plan, EdgeOperand(a, "mxfp4"), EdgeOperand(a.T, "mxfp4"), "bf16")
    assert kernel.startswith("f64")
    blocks, _ = block_values(a, block_format("mxfp4"))
    sums, _ = block_product.block_sums(plan, whole(blocks), whole(blocks.T), True, np.zeros(1, np.uint64))
    assert (sums[0] == by_general_kernel(rule_of(plan), blocks, blocks.T)).all()


def test_the_hadamard_transform_is_orthogonal() -> None:
    """On both operands it leaves an exact product as it was; K is padded to 16."""
    rng = np.random.default_rng(8)
    a, b = rng.integers(-3, 4, (5, 37)).astype(np.float32), rng.integers(-3, 4, (37, 6)).astype(np.float32)
    left, right = transformed(a[None], 2, 123, "fp32")[0], transformed(b[None], 1, 123, "fp32")[0].T
    assert left.shape == (5, 48)
    assert (left.astype(np.float64) @ right.T.astype(np.float64) == a @ b).all()
    signs = np.where(random_words(123, 16) >> np.uint64(63) == 1, -1, 1)
    matrix = np.array([[1]])
    for _ in range(4):
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    assert (left[:, :16] == (a[:, :16] * signs) @ matrix / 4).all()


def test_one_operand_names_the_transform_for_both() -> None:
    """The signs may stand at either operand; without them the result is another."""
    a, b = drawn(4, 40, 11), drawn(40, 3, 12)
    plan = plan_for(a, b, 16)
    plain = [EdgeOperand(one, "nvfp4") for one in (a, b)]
    signed = [EdgeOperand(one, "nvfp4", signs=9) for one in (a, b)]
    results = [
        edge_product(plan, *pair, "bf16")[0]
        for pair in ((plain[0], signed[1]), (signed[0], plain[1]), (signed[0], signed[1]), tuple(plain))
    ]
    assert (results[0] == results[1]).all()
    assert (results[0] == results[2]).all()
    assert (results[0] != results[3]).any()


def test_samples_are_averaged() -> None:
    """The mean of many stochastic roundings comes close to the exact product; few differ from one."""
    rng = np.random.default_rng(2)
    codes = rng.integers(0, 16, (3, 20)).astype(np.uint8)
    a, dy = Operand(codes, "uint4"), (rng.normal(0, 1, (20, 4))).astype(np.float32)
    plan = plan_for(codes, dy, 4)
    step = float(np.abs(dy).max()) / 8

    def product(samples: int) -> np.ndarray:
        b = EdgeOperand(dy, "fp4_e3m0", step, "stochastic", key=3, samples=samples)
        return edge_product(plan, a, b, "fp32", seed=1)[0]

    exact = codes.astype(np.float64) @ dy
    errors = [float(np.abs(product(samples) - exact).mean()) for samples in (1, 16, 400)]
    assert errors[2] < errors[1] < errors[0]
    assert errors[2] < 0.2 * errors[0]
    assert (product(2) == product(2)).all()


def test_what_enters_the_array() -> None:
    """The numbers of an operand: codes times scale, values times scale, or blocks along the last axis."""
    assert entering(Operand(np.uint8([[1, 15]]), "int4", 0.5)).tolist() == [[0.5, -0.5]]
    assert entering(Operand(np.float32([[3.0]]), "bf16", 2.0)).tolist() == [[6.0]]
    values = drawn(4, 48, 13).reshape(2, 2, 48)
    codes, scales = block_format("mxfp4").encode(values)
    found = entering(EdgeOperand(values, "mxfp4"))
    assert (found == block_format("mxfp4").decode(codes, scales)).all()


def test_an_operand_keeps_its_rules_when_rearranged() -> None:
    """A transpose or im2col moves the values only."""
    operand = EdgeOperand(drawn(2, 3, 1), "nvfp4", rounding="stochastic", key=5, square=True, signs=6)
    moved = operand.rearranged(operand.array.T)
    assert isinstance(moved, EdgeOperand)
    assert (moved.key, moved.square, moved.signs, moved.array.shape) == (5, True, 6, (3, 2))


def test_bits_in_memory() -> None:
    """An element of a block format has its share of the block's scale."""
    assert stored_bits("mxfp4") == Fraction(17, 4)
    assert stored_bits("nvfp4") == Fraction(9, 2)
    assert stored_bits("int4") == 4
