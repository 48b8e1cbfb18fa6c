"""Stacks in blocks, in any layout, and their products: the bits of one matrix alone, and of fractions."""

from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hand_plan import hand_plan
from hypothesis import given, settings
from hypothesis import strategies as st
from older_processors import OLDER, check_on
from oracles import accumulators as oracle
from oracles import catalog
from thread_counts import with_one_and_two

from accelsim.datapath import edge
from accelsim.datapath.block_operands import Blocks, in_blocks
from accelsim.datapath.block_product import block_sums, groups_are_exact
from accelsim.datapath.edge import EdgeOperand, edge_product
from accelsim.network import Operand
from accelsim.numerics.block_formats import block_format, block_format_names
from accelsim.numerics.random_bits import random_words

NAMES = block_format_names()
MIDDLES = [0.0, 0.25, 0.5, 0.75, 1.0, 1.25, 1.5, 1.75, 2.0, 2.5, 3.0, 3.5, 4.0, 5.0, 6.0, 7.0]
"""The numbers of E2M1, all its ties, and one above its range."""


def stack(shape: tuple[int, ...], seed: int = 1) -> np.ndarray:
    """float32 of many sizes and both signs, zeros, subnormal numbers and whole zero blocks among them."""
    rng = np.random.default_rng(seed)
    values = rng.choice(MIDDLES, shape) * 2.0 ** rng.integers(-6, 7, shape) * rng.choice([-1.0, 1.0], shape)
    values = values * (1 + rng.choice([0.0, 2.0**-23, -(2.0**-24)], shape))
    values[rng.random(shape) < 0.02] *= 2.0**-130
    values[..., : shape[-1] // 3] *= rng.random(shape[:-1])[..., None] < 0.8
    return values.astype(np.float32)


def naive_blocks(rows: np.ndarray, name: str, key: int | None) -> tuple[list[list[Fraction]], Fraction]:
    """Rows as element times block scale, number by number in fractions; and the tensor's scale."""
    layout, k = catalog.BLOCKS[name], rows.shape[1]
    width = -(-k // layout.block) * layout.block
    flat = [float(row[i]) if i < k else 0.0 for row in rows for i in range(width)]
    codes, scales, tensor = catalog.encode_blocks(name, flat)
    sizes = [catalog.value_of_scale(layout.scale)(scale) for scale in scales]
    found = []
    for r in range(len(rows)):
        found.append([])
        for i in range(k):
            at = r * width + i
            scale, code = sizes[at // layout.block], codes[at]
            if key is not None:
                draw = int(random_words(key, 1, r * k + i)[0]) >> 32
                code = drawn_code(layout.element, flat[at], scale * tensor, draw)
            found[r].append(Fraction(catalog.decode(layout.element, code)) * scale)
    return found, tensor


def drawn_code(element: str, value: float, whole: Fraction, draw: int) -> int:
    """A stochastic rounding of the float64 quotient, as the format says."""
    quotient = abs(value) / float(whole) if whole else 0.0
    return catalog.encode(element, math.copysign(quotient, value), "stochastic", "saturate", draw)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("key", [None, 2**64 - 3])
def test_blocks_in_every_layout_are_those_of_fractions(name: str, key: int | None) -> None:
    """Along rows and columns, as they lie and transposed, ties and tiny numbers: each number exactly."""
    values = stack((3, 70), seed=len(name))
    wanted, tensor = naive_blocks(values, name, key)
    keys = None if key is None else np.array([key], np.uint64)
    turned = np.ascontiguousarray(values.T)
    arranged = [(values, 2), (turned.T, 2), (turned, 1), (values.T, 1), (np.repeat(values, 2, 1)[:, ::2], 2)]
    for array, axis in arranged:
        blocks = in_blocks(array[None], block_format(name), axis, keys=keys)
        found = blocks.values[0] if axis == 2 else blocks.values[0].T
        assert blocks.tensors.tolist() == [float(tensor)]
        assert [[Fraction(float(value)) for value in row] for row in found] == wanted
        sizes = [abs(value) for row in wanted for value in row if value]
        assert blocks.smallest <= min(sizes)
        assert max(sizes) <= blocks.largest


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["mxfp4", "nvfp4"]),
    st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=70),
    st.one_of(st.none(), st.integers(0, 2**64 - 1)),
)
def test_any_numbers(name: str, numbers: list[float], key: int | None) -> None:
    """Whatever float32 there is, subnormal ones and the largest: as by fractions."""
    values = np.array([numbers], np.float32)
    wanted, tensor = naive_blocks(values, name, key)
    keys = None if key is None else np.array([key], np.uint64)
    for array, axis in ((values, 2), (values.T, 1)):
        blocks = in_blocks(array[None], block_format(name), axis, keys=keys)
        assert [Fraction(float(value)) for value in blocks.values.reshape(-1)] == wanted[0]
        assert blocks.tensors.tolist() == [float(tensor)]


@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("name", ["mxfp4", "nvfp4"])
def test_a_stack_is_its_matrices(name: str, square: bool) -> None:
    """Each has its own tensor's scale and its own random bits, with one thread and with two."""
    values, keys = stack((5, 40, 37)), random_words(3, 5)
    values[2, 7, 9], values[4, 1, 1] = np.nan, -np.inf
    fmt = block_format(name)

    def together() -> np.ndarray:
        found = [in_blocks(values, fmt, axis, keys=keys, square=square).values for axis in (1, 2)]
        return np.stack(found)

    one, two = with_one_and_two(together)
    np.testing.assert_array_equal(one, two)
    for axis, found in zip((1, 2), one, strict=True):
        tensors = in_blocks(values, fmt, axis, keys=keys, square=square).tensors
        for i in range(5):
            alone = in_blocks(values[i : i + 1], fmt, axis, keys=keys[i : i + 1], square=square)
            np.testing.assert_array_equal(alone.values[0], found[i])
            assert alone.tensors[0] == tensors[i]


def test_which_groups_are_exact() -> None:
    """Sums of E2M1 and of six bits fit in single precision; those of eight bits, or across blocks, do not."""
    exact = {name for name in NAMES if groups_are_exact(16, name, name)}
    assert exact == {"mxfp4", "mxfp6_e2m3", "mxfp6_e3m2", "nvfp4"}
    assert groups_are_exact(32, "mxfp4", "mxfp4")
    assert not groups_are_exact(32, "mxfp4", "nvfp4")
    assert not groups_are_exact(16, "mxfp4", "int4")


@pytest.mark.parametrize(("name", "lanes"), [("mxfp4", 32), ("nvfp4", 16), ("mxfp6_e3m2", 32)])
def test_the_largest_group_is_added_exactly(name: str, lanes: int) -> None:
    """A group of the largest products and one of the smallest, by fractions: none is lost."""
    fmt = block_format(name)
    top, low = fmt.element.max_value, fmt.element.min_positive
    scale = 448.0 if fmt.scale == "e4m3" else 4.0
    row = np.full(2 * lanes, top * scale, np.float32)
    row[lanes - 1], row[lanes:] = low * scale, low * scale
    blocks = Blocks(row.reshape(1, 1, -1), np.ones(1), top * scale, low * scale)
    other = Blocks(row.reshape(1, -1, 1), np.ones(1), top * scale, low * scale)
    plan = hand_plan(m=1, k=2 * lanes, n=1, lanes=lanes, rows=2, accumulator="fp32")
    exact = groups_are_exact(lanes, name, name)
    found, kernel = block_sums(plan, blocks, other, exact, np.zeros(1, np.uint64))
    rule, numbers = oracle.Rule(lanes, plan.chunk, "fp32"), [Fraction(x) for x in row.tolist()]
    wanted = oracle.dot(rule, oracle.products(numbers, numbers, "fp32", "fp32"))
    assert kernel == "block_exact"
    assert float(found[0, 0, 0]) == float(wanted)


def test_eight_bit_blocks_are_not_added_in_single_precision() -> None:
    """One large product and small ones: single precision would lose what one rounding of the group keeps."""
    a = np.full((1, 32), 2.0**-9, np.float32)
    a[0, 0] = 448.0
    b = a.T.copy()
    b[0, 0] = 256.0
    plan = hand_plan(m=1, k=32, n=1, lanes=32, rows=2, accumulator="fp32")
    found, kernel = edge_product(plan, EdgeOperand(a, "mxfp8_e4m3"), EdgeOperand(b, "mxfp8_e4m3"), "fp32")
    exact = Fraction(448) * 256 + 31 * Fraction(1, 2**18)
    assert kernel.startswith("f64")
    assert float(found[0, 0]) == float(np.float32(float(exact)))


def operands(name: str, shapes: Any, **fields: Any) -> list[EdgeOperand]:
    """Two stacks of values."""
    return [EdgeOperand(stack(shape, seed), name, **fields) for seed, shape in enumerate(shapes)]


PRODUCTS: list[tuple[str, int, dict[str, Any]]] = [
    ("mxfp4", 32, {}),
    ("nvfp4", 16, {"rounding": "stochastic", "key": 9}),
    ("nvfp4", 16, {"signs": 4, "rounding": "stochastic", "key": 2**64 - 1}),
    ("mxfp8_e5m2", 32, {}),
]


@pytest.mark.parametrize(("name", "lanes", "fields"), PRODUCTS)
@pytest.mark.parametrize(("m", "k", "n"), [(5, 70, 33), (9, 40, 2), (1, 33, 17)])
def test_products_of_a_stack_are_those_of_its_pairs(
    name: str, lanes: int, fields: dict[str, Any], m: int, k: int, n: int
) -> None:
    """Wide, narrow and flat, split along k, with random bits and with the transform."""
    plan = hand_plan(m=m, k=k, n=n, lanes=lanes, rows=1, accumulator="fp32", k_splits=2)
    a, b = operands(name, [(3, m, k), (3, k, n)], **fields)
    a.array[1] = 0
    seeds = random_words(8, 3)
    together, kernel = edge_product(plan, a, b, "bf16", seeds)
    pairs = zip(a.array, b.array, seeds, strict=True)
    alone = [edge_product(plan, a.rearranged(x), b.rearranged(y), "bf16", int(seed)) for x, y, seed in pairs]
    np.testing.assert_array_equal(together, np.stack([product for product, _ in alone]))
    assert (kernel == "block_exact") == all(each == "block_exact" for _, each in alone)


def test_stacks_whose_products_are_made_one_by_one() -> None:
    """Codes drawn in each product, and averages of samples: a stack is what its pairs are."""
    a, dy = Operand(np.arange(120, dtype=np.uint8).reshape(2, 3, 20) % 16, "uint4"), stack((2, 20, 4))
    plan = hand_plan(m=3, k=20, n=4, lanes=4, rows=2, accumulator="fp32")
    b = EdgeOperand(dy, "fp4_e3m0", 2.0, "stochastic", key=3, samples=2)
    seeds = random_words(8, 2)
    together, _ = edge_product(plan, a, b, "fp32", seeds)
    for i in range(2):
        pair = a.rearranged(a.array[i]), b.rearranged(b.array[i])
        assert (together[i] == edge_product(plan, *pair, "fp32", int(seeds[i]))[0]).all()


def test_what_many_products_take_is_cut_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A weight is cut once for each way it is turned; one with random bits, and others, in every product."""
    cuts: list[tuple[int, ...]] = []

    def noted(values: np.ndarray, *args: Any, **more: Any) -> Blocks:
        cuts.append(values.shape)
        return in_blocks(values, *args, **more)

    monkeypatch.setattr(edge, "in_blocks", noted)
    weight = EdgeOperand(stack((40, 33)), "nvfp4", square=True, kept={})
    x = EdgeOperand(stack((7, 40), 2), "nvfp4")
    plan = hand_plan(m=7, k=40, n=33, lanes=16, rows=2, accumulator="fp32")
    back = hand_plan(m=7, k=33, n=40, lanes=16, rows=2, accumulator="fp32")
    dy = EdgeOperand(stack((7, 33), 3), "nvfp4")
    first = [edge_product(plan, x, weight, "bf16")[0], edge_product(back, dy, weight.transposed(), "bf16")[0]]
    assert len(cuts) == 4
    again = [edge_product(plan, x, weight, "bf16")[0], edge_product(back, dy, weight.transposed(), "bf16")[0]]
    assert cuts[4:] == [(1, 7, 40), (1, 7, 33)]
    np.testing.assert_array_equal(first[0], again[0])
    np.testing.assert_array_equal(first[1], again[1])
    drawn = EdgeOperand(weight.array, "nvfp4", rounding="stochastic", key=1, kept={})
    assert (edge_product(plan, x, drawn, "bf16", 1)[0] != edge_product(plan, x, drawn, "bf16", 2)[0]).any()


def test_of_many_arrangements_few_are_kept() -> None:
    """Slices of one operand do not pile up, and each gives what it gives alone."""
    weight, x = EdgeOperand(stack((40, 33)), "mxfp4", kept={}), EdgeOperand(stack((7, 40), 2), "mxfp4")
    plan = hand_plan(m=7, k=40, n=3, lanes=32, rows=2, accumulator="fp32")
    for first in range(12):
        part = weight.array[:, first : first + 3]
        kept = edge_product(plan, x, weight.rearranged(part), "bf16")[0]
        assert (kept == edge_product(plan, x, EdgeOperand(part, "mxfp4"), "bf16")[0]).all()
        assert weight.kept is not None
        assert len(weight.kept) <= 4


_OLDER = """
from accelsim.numerics.instructions import instruction_set
import test_block_operands as here
for name in ("mxfp4", "nvfp4"):
    for key in (None, 77):
        here.test_blocks_in_every_layout_are_those_of_fractions(name, key)
here.test_the_largest_group_is_added_exactly("nvfp4", 16)
print(instruction_set())
"""


@pytest.mark.parametrize(("processor", "features", "wanted"), OLDER)
def test_an_older_processor_gives_the_same_bits(processor: str, features: str, wanted: str) -> None:
    """Blocks and their sums by kernels for another processor, against the same fractions."""
    check_on(processor, features, wanted, _OLDER)
