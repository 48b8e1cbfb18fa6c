"""`accelsim.matmul` against the oracle: plans, shapes, threads, mistakes, bit for bit."""

from __future__ import annotations

import itertools
from dataclasses import asdict
from pathlib import Path

import numba
import numpy as np
import pytest
from array_chips import write_array_chip
from hypothesis import given, settings
from hypothesis import strategies as st
from matmul_check import ACCUMULATORS, OVERFLOWS, check, number_codes, oracle_codes
from oracles import accumulators, catalog, formats

import accelsim
from accelsim.datapath.gemm import rule_of
from accelsim.errors import InputError
from accelsim.numerics.block_formats import block_format_names
from accelsim.numerics.formats import number_format
from accelsim.storage import shipped

FOUR_BITS = ["int4", "uint4", "fp4_r4_even", "fp4_r4_odd", "fp4_e3m0", "fp4_e2m1", "fp4_e1m2"]


@pytest.mark.parametrize("accumulator", ACCUMULATORS)
def test_all_products_of_four_bit_codes(tmp_path: Path, accumulator: str) -> None:
    """All 16 x 16 products of every pair of 4-bit formats, both ways round."""
    pairs = list(itertools.combinations_with_replacement(FOUR_BITS, 2))
    chip = write_array_chip(tmp_path, pairs, lanes=4, accumulator=accumulator)
    every_code = np.arange(16)
    for a_format, b_format in pairs:
        check(chip, every_code[:, None], every_code[None, :], a_format, b_format)
    check(chip, every_code[:, None], every_code[None, :], "fp4_r4_odd", "int4")


@pytest.mark.parametrize(
    ("a_format", "b_format"),
    [("int8", "uint8"), ("fp8_e4m3_ibm", "fp8_e5m2_ibm"), ("fp6_e2m3", "fp6_e3m2")],
)
def test_products_of_wider_codes(tmp_path: Path, a_format: str, b_format: str) -> None:
    """A spread of rows against all columns of the code x code table of 6- and 8-bit formats."""
    chip = write_array_chip(tmp_path, [(a_format, b_format)], lanes=2)
    rows = np.arange(0, 1 << formats.bits(a_format), 11)
    check(chip, rows[:, None], np.arange(1 << formats.bits(b_format))[None, :], a_format, b_format)


@pytest.mark.parametrize("lanes", [1, 2, 4, 16])
def test_all_pairs_of_narrow_formats(tmp_path: Path, lanes: int) -> None:
    """Any two formats of up to 8 bits multiply, either way round, whatever integers hold their values."""
    rng = np.random.default_rng(lanes)
    narrow = [name for name in formats.NAMES if formats.bits(name) <= 8]
    pairs = list(itertools.combinations_with_replacement(narrow, 2))
    chip = write_array_chip(tmp_path, pairs, lanes=lanes, rows=2)
    k = 2 * lanes + 1
    for a_format, b_format in pairs:
        a, b = number_codes(a_format, rng, (2, k)), number_codes(b_format, rng, (k, 2))
        check(chip, a, b, a_format, b_format)
        check(chip, b.T, a.T, b_format, a_format)


@pytest.mark.parametrize("accumulator", ACCUMULATORS)
@pytest.mark.parametrize("dataflow", ["weight_stationary", "input_stationary", "output_stationary"])
@pytest.mark.parametrize("lanes", [1, 2, 3, 16, 64])
def test_lanes_and_chunks(tmp_path: Path, accumulator: str, dataflow: str, lanes: int) -> None:
    """Group and chunk boundaries fall where the plan says, for K below, at and beyond them."""
    rng = np.random.default_rng(lanes)
    for rows in (1, 3) if lanes == 64 else (1, 3, 8):
        output_chunk = rows * lanes if dataflow == "output_stationary" else None
        chip = write_array_chip(
            tmp_path,
            [("int4", "fp4_r4_odd")],
            lanes=lanes,
            rows=rows,
            dataflow=dataflow,
            output_chunk=output_chunk,
            accumulator=accumulator,
        )
        for k in {1, lanes, rows * lanes, rows * lanes + 1, 2 * rows * lanes + lanes - 1}:
            a, b = rng.integers(0, 16, (2, k)), rng.integers(0, 16, (k, 3))
            check(chip, a, b, "int4", "fp4_r4_odd")


@pytest.mark.parametrize("accumulator", ACCUMULATORS)
@pytest.mark.parametrize("a_format", ["uint4", "int8", "fp4_r4_even"])
def test_long_sums(tmp_path: Path, accumulator: str, a_format: str) -> None:
    """Sums of hundreds of products, which swamp and overflow, drained in chunks or kept whole."""
    rng = np.random.default_rng(8)
    for output_chunk in (None, 64):
        chip = write_array_chip(
            tmp_path,
            [(a_format, "fp4_r4_even")],
            lanes=4,
            dataflow="output_stationary",
            output_chunk=output_chunk,
            accumulator=accumulator,
        )
        a = rng.integers(0, 1 << formats.bits(a_format), (2, 701))
        check(chip, a, rng.integers(0, 16, (701, 2)), a_format, "fp4_r4_even")
        check(chip, a, rng.integers(4, 8, (701, 2)), a_format, "fp4_r4_even")


def test_int4_codes_may_be_minus_eight(tmp_path: Path) -> None:
    """-8 x -8 is 64 and sixteen of them are 1024: the asymmetric end of two's complement is not clipped."""
    chip = write_array_chip(tmp_path, [("int4", "int4")], lanes=16)
    result = check(chip, np.full((1, 16), 8), np.full((16, 1), 8), "int4", "int4")
    assert result.values.tolist() == [[1024.0]]


@pytest.mark.parametrize(
    ("m", "k", "n"),
    [(0, 3, 2), (3, 0, 2), (3, 2, 0), (0, 0, 0), (1, 1, 1), (5, 1, 7), (17, 3, 1), (1, 65, 33)],
)
def test_ragged_and_empty_shapes(tmp_path: Path, m: int, k: int, n: int) -> None:
    """Any shape works; an empty sum is +0."""
    rng = np.random.default_rng(m + k + n)
    for dataflow in ("weight_stationary", "input_stationary", "output_stationary"):
        chip = write_array_chip(
            tmp_path, [("int4", "fp4_r4_odd")], lanes=4, cores=3, simd=2, dataflow=dataflow
        )
        a, b = rng.integers(0, 16, (m, k)), rng.integers(0, 16, (k, n))
        result = check(chip, a, b, "int4", "fp4_r4_odd")
        assert (result.codes.dtype, result.values.dtype) == (np.dtype(np.uint16), np.dtype(np.float64))
        if k == 0:
            assert not result.codes.any()


def test_layout_and_type_of_codes_do_not_matter(tmp_path: Path) -> None:
    """Transposed, strided and wide-typed code arrays give the bits of contiguous uint8 ones."""
    rng = np.random.default_rng(6)
    chip = write_array_chip(tmp_path, [("int4", "fp4_r4_odd")], lanes=4)
    a, b = rng.integers(0, 16, (7, 33), dtype=np.uint8), rng.integers(0, 16, (33, 5), dtype=np.uint8)
    plain = check(chip, a, b, "int4", "fp4_r4_odd").codes
    kinds = [(np.asfortranarray(a), b.astype(np.int64)), (np.repeat(a, 2, axis=1)[:, ::2], b.T.copy().T)]
    for other_a, other_b in kinds:
        np.testing.assert_array_equal(accelsim.matmul(chip.path, other_a, other_b).codes, plain)


@pytest.mark.parametrize("name", ["int4", "dlfloat16"])
def test_threads_do_not_change_bits(tmp_path: Path, name: str) -> None:
    """One thread and all threads give the same codes on a product large enough to be shared out."""
    rng = np.random.default_rng(9)
    chip = write_array_chip(tmp_path, [(name, name)], lanes=2)
    a, b = number_codes(name, rng, (97, 130)), number_codes(name, rng, (130, 61))
    before = numba.get_num_threads()
    try:
        numba.set_num_threads(1)
        alone = accelsim.matmul(chip.path, a, b, a_format=name, b_format=name).codes
    finally:
        numba.set_num_threads(before)
    np.testing.assert_array_equal(accelsim.matmul(chip.path, a, b, a_format=name, b_format=name).codes, alone)
    rows, columns = [0, 41, 96], [0, 30, 60]
    wanted = oracle_codes(chip, a[rows], b[:, columns], name, name)
    np.testing.assert_array_equal(alone[np.ix_(rows, columns)], wanted)


def test_large_products_agree_with_their_pieces(tmp_path: Path) -> None:
    """A product beyond any block size has the bits of its rows and columns computed alone."""
    rng = np.random.default_rng(10)
    chip = write_array_chip(tmp_path, [("int4", "fp4_r4_odd")], lanes=16, rows=8)
    a, b = rng.integers(0, 16, (301, 517)), rng.integers(0, 16, (517, 203))
    whole = accelsim.matmul(chip.path, a, b).codes
    rows, columns = [0, 63, 64, 300], [0, 127, 128, 202]
    wanted = oracle_codes(chip, a[rows], b[:, columns], "int4", "fp4_r4_odd")
    np.testing.assert_array_equal(whole[np.ix_(rows, columns)], wanted)


FUZZED = [
    ("int4", "fp4_r4_even"),
    ("uint4", "int4"),
    ("dlfloat16", "dlfloat16"),
    ("fp16", "fp16"),
    ("fp8_e4m3_ibm", "fp8_e5m2_ibm"),
    ("bf16", "bf16"),
]


@settings(max_examples=150, deadline=None)
@given(
    pair=st.sampled_from(FUZZED),
    accumulator=st.sampled_from(ACCUMULATORS),
    overflow=st.sampled_from(OVERFLOWS),
    lanes=st.sampled_from([1, 2, 4, 16]),
    rows=st.sampled_from([1, 2, 5]),
    seed=st.integers(0, 2**32 - 1),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 24), st.integers(1, 3)),
)
def test_fuzz(
    tmp_path_factory: pytest.TempPathFactory,
    pair: tuple[str, str],
    accumulator: str,
    overflow: str,
    lanes: int,
    rows: int,
    seed: int,
    shape: tuple[int, int, int],
) -> None:
    """Any small product of numbers on any small array has the oracle's bits."""
    rng = np.random.default_rng(seed)
    m, k, n = shape
    tmp_path = tmp_path_factory.mktemp("fuzz")
    chip = write_array_chip(
        tmp_path, [pair], lanes=lanes, rows=rows, accumulator=accumulator, overflow=overflow
    )
    check(chip, number_codes(pair[0], rng, (m, k)), number_codes(pair[1], rng, (k, n)), *pair)


def shipped_modes() -> list[tuple[str, str, str]]:
    """Every shipped chip with every pair of numbers its MACs take (blocks: see test_edge_operands)."""
    chips = [accelsim.load_chip(name) for name in shipped("arch_configs")]
    pairs = [(chip.name, *pair) for chip in chips for mode in chip.array.modes for pair in mode.operands]
    return [each for each in pairs if not set(each) & set(block_format_names())]


@pytest.mark.parametrize(("chip", "a_format", "b_format"), shipped_modes())
def test_shipped_chips(chip: str, a_format: str, b_format: str) -> None:
    """Every operand pair of every shipped chip multiplies with the oracle's values, by the plan's numbers."""
    rng = np.random.default_rng(11)
    a, b = (finite_codes(name, rng, shape) for name, shape in ((a_format, (2, 150)), (b_format, (150, 3))))
    result = accelsim.matmul(chip, a, b, a_format=a_format, b_format=b_format)
    rule = accumulators.Rule(**asdict(rule_of(result.plan)))
    rows = [[catalog.decode(a_format, int(code)) for code in row] for row in a]
    columns = [[catalog.decode(b_format, int(code)) for code in column] for column in b.T]
    for (i, row), (j, column) in itertools.product(enumerate(rows), enumerate(columns)):
        terms = accumulators.products(row, column, a_format, b_format)
        wanted = accumulators.dot(rule, terms, i, j)
        assert float(result.values[i, j]) == wanted, (i, j)


def finite_codes(name: str, rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Codes of numbers: of at most 8 bits drawn evenly, of more drawn so that no sum overflows."""
    fmt = number_format(name)
    if fmt.bits > 8:
        return np.asarray(fmt.encode(rng.normal(size=shape)))
    every = np.arange(1 << fmt.bits)
    return rng.choice(every[np.isfinite(fmt.decode(every))], shape)


def test_shape_mistakes(tmp_path: Path) -> None:
    """Operands that do not fit together are refused in one line that gives the shapes."""
    chip = write_array_chip(tmp_path, [("int4", "int4")])
    with pytest.raises(InputError, match=r"^a is \(2, 3\) but b is \(4, 5\): the inner extents must be eq"):
        accelsim.matmul(chip.path, np.zeros((2, 3), np.uint8), np.zeros((4, 5), np.uint8), "int4", "int4")
    with pytest.raises(InputError, match=r"^codes must have 2 axes, got shape \(3,\)$"):
        accelsim.matmul(chip.path, np.zeros(3, np.uint8), np.zeros((3, 2), np.uint8), "int4", "int4")


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (np.array([[16]]), r"^int4: code 16 does not fit in 4 bits; allowed: 0\.\.15$"),
        (np.array([[-1]]), r"^int4: code -1 does not fit in 4 bits; allowed: 0\.\.15$"),
        (np.array([[1.0]]), r"^int4: codes are integers, got float64$"),
        (np.array([[True]]), r"^int4: codes are integers, got bool$"),
    ],
)
def test_code_mistakes(tmp_path: Path, bad: np.ndarray, message: str) -> None:
    """Codes outside the format, negative codes and anything but integers are refused, on either side."""
    chip = write_array_chip(tmp_path, [("int4", "int4")])
    good = np.zeros((1, 1), np.uint8)
    with pytest.raises(InputError, match=message):
        accelsim.matmul(chip.path, bad, good, "int4", "int4")
    with pytest.raises(InputError, match=message):
        accelsim.matmul(chip.path, good, bad, "int4", "int4")


def test_pair_the_chip_cannot_multiply(tmp_path: Path) -> None:
    """A pair no mode takes is refused with the formats asked for and the pairs there are."""
    chip = write_array_chip(tmp_path, [("int4", "int4")])
    codes = np.zeros((1, 1), np.uint8)
    with pytest.raises(
        InputError, match=r"'tiny' has no mode that multiplies int4 x fp4_r4_odd.* int4 x int4"
    ):
        accelsim.matmul(chip.path, codes, codes)
