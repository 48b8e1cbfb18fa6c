"""Closed-form counts against the register-by-register walk, and against published conventions."""

from __future__ import annotations

import random
from dataclasses import replace
from fractions import Fraction
from typing import Any

import pytest
from hand_plan import hand_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import accumulate, formats
from walk import WalkResult, walk

from accelsim.cost import GemmCounts, count_gemm
from accelsim.mapping import Plan
from accelsim.operations import Gemm, Tensor

DATAFLOWS = ("weight_stationary", "output_stationary", "input_stationary")


@st.composite
def plans(draw: st.DrawFn) -> Plan:
    """Plans on tiny arrays: every dataflow, ragged and empty shapes, all splits, pipelined or not."""
    dataflow, lanes = draw(st.sampled_from(DATAFLOWS)), draw(st.integers(1, 4))
    extents = {"m": draw(st.integers(0, 9)), "k": draw(st.integers(0, 14)), "n": draw(st.integers(0, 9))}
    chunks = st.sampled_from([lanes, 2 * lanes, 5 * lanes, max(extents["k"], 1)])
    return hand_plan(
        **extents,
        dataflow=dataflow,
        lanes=lanes,
        chunk=draw(chunks),
        groups=draw(st.integers(1, 3)),
        rows=draw(st.integers(1, 5)),
        cols=draw(st.integers(1, 4)),
        simd=draw(st.integers(1, 3)),
        pipelined=draw(st.booleans()),
        m_splits=draw(st.integers(1, 2)),
        n_splits=draw(st.integers(1, 2)),
        group_splits=draw(st.integers(1, 2)),
        k_splits=draw(st.integers(1, 4)),
        link_bytes_per_cycle=draw(st.sampled_from([1, 2, 3, 4, 9])),
        hop_cycles=draw(st.integers(1, 3)),
        sum_bits=draw(st.sampled_from([8, 16, 23])),
    )


def random_operands(plan: Plan, draw_number: Any) -> tuple[Any, Any]:
    """Operands of ``plan`` as the walk takes them."""

    def matrix(rows: int, cols: int) -> list[list[Any]]:
        return [[draw_number() for _ in range(cols)] for _ in range(rows)]

    a = [matrix(plan.m, plan.k) for _ in range(plan.groups)]
    b = [matrix(plan.k, plan.n) for _ in range(plan.groups)]
    return (a[0], b[0]) if plan.groups == 1 else (a, b)


def gemm_of(plan: Plan, bits: int = 4) -> Gemm:
    """The GEMM that ``plan`` maps, with operands of ``bits`` bits."""
    m, k, n, groups = plan.m, plan.k, plan.n, plan.groups
    a = Tensor("a", groups * m * k, bits, "saved")
    b = Tensor("b", groups * k * n, bits, "parameter")
    out = Tensor("out", groups * m * n, 16, "stream")
    return Gemm("fc", "forward", m, k, n, "int4", "int4", a, b, out, groups)


def counts_of(plan: Plan) -> GemmCounts:
    """The closed forms."""
    return count_gemm(gemm_of(plan), plan)


def walked(plan: Plan, round_: Any = lambda value: value) -> WalkResult:
    """The walk on random integers."""
    source = random.Random(1)
    return walk(plan, *random_operands(plan, lambda: source.randint(-8, 7)), round_)


@settings(max_examples=400, deadline=None)
@given(plan=plans())
def test_closed_forms_equal_the_walk(plan: Plan) -> None:
    """Cycles, passes and every crossing of the array's edge are those of the walked registers."""
    walk_result, counts = walked(plan), counts_of(plan)
    assert counts.array_cycles == walk_result.cycles
    assert counts.compute_cycles == walk_result.fed_cycles
    assert counts.array_passes == walk_result.passes
    assert counts.a_buffer_reads == walk_result.a_buffer_reads
    assert counts.b_buffer_reads == walk_result.b_buffer_reads
    assert counts.psum_writes == walk_result.psum_writes
    assert counts.psum_reads == walk_result.psum_reads
    multicast = count_gemm(gemm_of(plan, bits=8), replace(plan, multicast=True))
    assert multicast.a_read_bytes == walk_result.a_shared_reads
    assert multicast.b_read_bytes == walk_result.b_shared_reads
    assert counts.ring_bytes == -(-walk_result.link_sums * plan.sum_bits // 8)


@settings(max_examples=150, deadline=None)
@given(plan=plans(), seed=st.integers(0, 2**32))
def test_the_walks_values_are_sums_in_the_plans_order(plan: Plan, seed: int) -> None:
    """Groups of lanes exact, then a rounding; chunks, then pieces of K in their order, a rounding each."""
    source = random.Random(seed)
    a, b = random_operands(plan, lambda: Fraction(source.randint(-99, 99), 16))
    expected = [
        [[in_order(plan, row, [line[j] for line in right]) for j in range(plan.n)] for row in left]
        for left, right in ([(a, b)] if plan.groups == 1 else zip(a, b, strict=True))
    ]
    assert walk(plan, a, b, three_bits).values == (expected[0] if plan.groups == 1 else expected)


def three_bits(value: Fraction) -> Fraction:
    """``value`` to three significant bits, half to even: coarse, so that any other order shows."""
    unit = Fraction(1)
    while abs(value) >= 8 * unit:
        unit *= 2
    while value and abs(value) < 4 * unit:
        unit /= 2
    return round(value / unit) * unit


def in_order(plan: Plan, left: list[Fraction], right: list[Fraction]) -> Fraction:
    """One output element, addition by addition."""
    chunks = len(range(0, plan.k, plan.chunk))
    piece = max(-(-chunks // plan.k_splits), 1) * plan.chunk
    result = Fraction(0)
    for start in range(0, plan.k, piece):
        outer = Fraction(0)
        for chunk in range(start, min(start + piece, plan.k), plan.chunk):
            inner = Fraction(0)
            chunk_end = min(chunk + plan.chunk, plan.k)
            for group in range(chunk, chunk_end, plan.lanes):
                lanes = range(group, min(group + plan.lanes, chunk_end))
                inner = three_bits(inner + sum(left[k] * right[k] for k in lanes))
            outer = three_bits(outer + inner)
        result = three_bits(result + outer)
    return result


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("accumulator", ["dlfloat16", "fp16"])
def test_the_walk_speaks_the_accumulators_formats(dataflow: str, accumulator: str) -> None:
    """With the accumulator's rounding as callback the walk gives the codes of the oracle's GEMM."""
    plan = hand_plan(dataflow=dataflow, rows=3, cols=2, lanes=2, chunk=6, m=5, k=31, n=4, m_splits=2)
    source = random.Random(7)
    a, b = random_operands(plan, lambda: source.randrange(16))
    real_a = [[formats.decode("int4", code) for code in row] for row in a]
    real_b = [[formats.decode("fp4_r4_odd", code) for code in row] for row in b]

    def rounded(value: Fraction) -> Fraction:
        return formats.decode(accumulator, accumulate.round_to(accumulator, value, "format"))

    codes = accumulate.matmul(a, b, plan.n, "int4", "fp4_r4_odd", 2, 6, accumulator, "format")
    values = walk(plan, real_a, real_b, rounded).values
    assert values == [[formats.decode(accumulator, code) for code in row] for row in codes]


@pytest.mark.parametrize("dataflow", DATAFLOWS)
def test_no_pass_can_start_one_cycle_earlier(dataflow: str) -> None:
    """The walk finds a hazard if a pipelined pass starts one cycle before the closed form says."""
    plan = hand_plan(dataflow=dataflow, rows=4, cols=3, chunk=2, m=9, k=9, n=9)
    if dataflow != "output_stationary":
        plan = hand_plan(dataflow=dataflow, rows=4, cols=3, m=2, k=9, n=2)
    operands = random_operands(plan, lambda: 1)
    assert walk(plan, *operands, lambda value: value).cycles == counts_of(plan).array_cycles
    with pytest.raises(AssertionError, match=r"weights|holds nothing|overrun"):
        walk(plan, *operands, lambda value: value, haste=1)


@pytest.mark.parametrize("dataflow", DATAFLOWS)
@pytest.mark.parametrize("empty", ["m", "k", "n"])
def test_an_empty_dimension_costs_nothing(dataflow: str, empty: str) -> None:
    """No rows, no depth or no columns: every count is zero, by closed form and by walk."""
    plan = hand_plan(**{"m": 3, "k": 4, "n": 5, empty: 0}, dataflow=dataflow, rows=2, cols=2, chunk=2)
    assert set(vars(counts_of(plan)).values()) == {0}
    assert walked(plan).cycles == 0


SCALE_SIM = {
    # forward (128, 784, 512) and weight gradient (784, 128, 512) of an MLP layer on 32 x 32 PEs.
    ("output_stationary", 128, 784, 512): 54_144,
    ("input_stationary", 128, 784, 512): 60_600,
    ("weight_stationary", 128, 784, 512): 88_800,
    ("weight_stationary", 784, 128, 512): 56_192,
    ("input_stationary", 784, 128, 512): 60_600,
    ("output_stationary", 784, 128, 512): 76_000,
}


@pytest.mark.parametrize(("case", "cycles"), SCALE_SIM.items())
def test_folds_one_after_another_are_scale_sims(case: tuple[str, int, int, int], cycles: int) -> None:
    """Not pipelined, our cycles are SCALE-Sim's, plus the output-stationary drain it leaves out."""
    dataflow, m, k, n = case
    plan = hand_plan(dataflow=dataflow, m=m, k=k, n=n, rows=32, cols=32, chunk=k, pipelined=False)
    counts = counts_of(plan)
    left_out = counts.array_passes * 32 if dataflow == "output_stationary" else 0
    assert counts.array_cycles - left_out == cycles


def test_a_wavefront_engine_takes_k_plus_2n_minus_2() -> None:
    """The 28 x 28 engine of Gupta et al. (ICML 2015, section 5): k + 2n - 2 cycles until all sums stand."""
    plan = hand_plan(dataflow="output_stationary", m=28, k=500, n=28, rows=28, cols=28, chunk=500)
    assert counts_of(plan).array_cycles == 500 + 2 * 28 - 2 + 28


def test_a_pipelined_pass_takes_as_many_cycles_as_rows_stream() -> None:
    """First TPU (Jouppi et al., ISCA 2017, section 2): B x 256 inputs take B pipelined cycles."""
    cycles = [
        counts_of(hand_plan(m=1000, k=256 * passes, n=256, rows=256, cols=256)).array_cycles
        for passes in (1, 2, 3)
    ]
    assert cycles == [2 * 256 + 256 - 2 + 1000 * passes for passes in (1, 2, 3)]


def test_a_short_stream_waits_for_the_next_load() -> None:
    """With fewer streamed rows than array rows a pass takes as long as its load, except the last."""
    counts = counts_of(hand_plan(m=3, k=32, n=4, rows=8, cols=4))
    assert (counts.fill_cycles, counts.compute_cycles, counts.drain_cycles) == (8, 4 * 3, 8 + 4 - 2)
    assert counts.stall_cycles == 3 * (8 - 3)


@settings(max_examples=100, deadline=None)
@given(plan=plans(), bits=st.sampled_from([4, 16]))
def test_counts_add_up(plan: Plan, bits: int) -> None:
    """Cycles are the sum of their five kinds; bytes are reads times bits, rounded up."""
    gemm = gemm_of(plan, bits)
    counts = count_gemm(gemm, plan)
    parts = counts.fill_cycles + counts.compute_cycles + counts.stall_cycles + counts.drain_cycles
    assert counts.array_cycles == parts + counts.merge_cycles
    assert counts.macs == plan.groups * plan.m * plan.k * plan.n
    assert counts.a_buffer_bytes == -(-counts.a_buffer_reads * bits // 8)
    assert counts.b_buffer_bytes == -(-counts.b_buffer_reads * bits // 8)
    assert counts.psum_bytes == -(-(counts.psum_writes + counts.psum_reads) * plan.sum_bits // 8)
    edge_bytes = counts.a_buffer_bytes + counts.b_buffer_bytes + counts.psum_bytes
    assert counts.operand_buffer_bytes == edge_bytes
