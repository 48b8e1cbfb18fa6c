"""The vector unit against scalar float32 loops: the same bits, not nearly the same numbers.

Shapes have odd extents, one row, no rows, and more rows than one block of a reduction.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import naive_vector as naive
import numpy as np
import pytest
from vector_check import assert_same_bits, singles, tensor

from accelsim.datapath import vector_kernels as kernels
from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.network.resizing import blend
from accelsim.numerics.quantise import SUM_BLOCK

STORAGES = ["dlfloat16", "fp16", "bf16", "fp32"]
SHAPES = [(1, 1), (1, 7), (5, 3), (256, 2), (257, 1), (700, 3), (3, 5, 7, 2), (2, 1, 1, 3)]
IMAGES = [(1, 1, 1, 1), (3, 5, 7, 2), (2, 8, 4, 3), (1, 3, 3, 5)]


def test_the_block_of_a_reduction_is_the_documented_one() -> None:
    """256 rows: the number is part of the order of additions, so no one changes it unnoticed."""
    assert SUM_BLOCK == naive.BLOCK


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_add_and_bias(shape: tuple[int, ...], storage: str) -> None:
    """A sum is formed in float32 and stored with one rounding; the bias runs along the last axis."""
    unit = ChipVectorUnit(storage)
    x, y = tensor(shape, storage, 1), tensor(shape, storage, 2)
    bias = singles(shape[-1], 3)
    assert_same_bits(
        lambda: unit.add(x, y), naive.stored(naive.elementwise(lambda a, b: a + b, x, y), storage)
    )
    assert_same_bits(
        lambda: unit.add_bias(x, bias),
        naive.stored(naive.elementwise(lambda a, b: a + b, x, bias), storage),
    )


@pytest.mark.parametrize("shape", [*SHAPES, (0, 3), (4, 0), (0, 0), (0, 2, 3, 2)])
def test_column_sums(shape: tuple[int, ...]) -> None:
    """Blocks of rows in order, then the blocks in order; no rows give zeros."""
    unit = ChipVectorUnit("dlfloat16")
    x = tensor(shape, "dlfloat16", 4) if math.prod(shape) else np.zeros(shape, np.float32)
    if shape[-1] == 0:
        return  # nothing to add up, and no rows to speak of
    assert_same_bits(lambda: unit.column_sums(x), naive.column_sums(x))


def test_column_sums_depend_on_the_order() -> None:
    """The test above would see another order: these numbers add up differently from one end to the other."""
    x = tensor((700, 1), "dlfloat16", 5, spread=6.0)
    assert naive.column_sums(x)[0] != naive.column_sums(x[::-1])[0]
    assert naive.column_sums(x)[0] != np.sum(x[:, 0], dtype=np.float32)


@pytest.mark.parametrize("shape", [*SHAPES, (0, 3)])
def test_relu_and_masked(shape: tuple[int, ...]) -> None:
    """max(x, 0) with +0 for every zero and for NaN; the mask passes an element or gives +0."""
    unit = ChipVectorUnit("dlfloat16")
    x = tensor(shape, "dlfloat16", 6)
    x.reshape(-1)[:1] = np.nan
    mask = np.random.default_rng(7).random(shape) < 0.5
    assert_same_bits(lambda: unit.relu(x), naive.elementwise(lambda v: v if v > 0 else naive.ZERO, x))
    dy = tensor(shape, "dlfloat16", 8)
    assert_same_bits(
        lambda: unit.masked(dy, mask), naive.elementwise(lambda v, m: v if m else naive.ZERO, dy, mask)
    )


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm(shape: tuple[int, ...], storage: str) -> None:
    """Mean, biased variance, inverse deviation and the normalised tensor, each addition in its place."""
    unit = ChipVectorUnit(storage)
    x, channels = tensor(shape, storage, 9), shape[-1]
    gamma, beta = singles(channels, 10), singles(channels, 11)
    assert_same_bits(
        lambda: unit.batch_norm(x, gamma, beta, 1e-5), naive.batch_norm(x, gamma, beta, 1e-5, storage)
    )


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_fixed(shape: tuple[int, ...], storage: str) -> None:
    """With running statistics every element stands alone."""
    unit = ChipVectorUnit(storage)
    x, channels = tensor(shape, storage, 12), shape[-1]
    parts = [singles(channels, seed) for seed in (13, 14, 15)] + [singles(channels, 16, 0.1)]
    assert_same_bits(
        lambda: unit.batch_norm_fixed(x, *parts), naive.batch_norm_fixed(x, *parts, storage=storage)
    )


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", SHAPES)
def test_batch_norm_backward(shape: tuple[int, ...], storage: str) -> None:
    """dx, dgamma and dbeta from the kept input, normalised again."""
    unit = ChipVectorUnit(storage)
    dy, x, channels = tensor(shape, storage, 17), tensor(shape, storage, 18), shape[-1]
    parts = singles(channels, 19), singles(channels, 20), singles(channels, 21, 0.1)
    assert_same_bits(
        lambda: unit.batch_norm_backward(dy, x, *parts),
        naive.batch_norm_backward(dy, x, *parts, storage=storage),
    )


def test_batch_norm_normalises() -> None:
    """What the loops agree on is batch normalisation: mean 0, variance 1, gradients to match."""
    unit = ChipVectorUnit("fp32")
    x, dy = singles(4000, 22).reshape(-1, 4), singles(4000, 23).reshape(-1, 4)
    ones, zeros = np.ones(4, np.float32), np.zeros(4, np.float32)
    y, mean, variance, inverse = unit.batch_norm(x, ones, zeros, 1e-5)
    np.testing.assert_allclose(mean, x.mean(0), atol=1e-6)
    np.testing.assert_allclose(variance, x.var(0), rtol=1e-5)
    np.testing.assert_allclose(y.var(0), 1, rtol=1e-4)
    dx, dgamma, dbeta = unit.batch_norm_backward(dy, x, ones, mean, inverse)
    np.testing.assert_allclose(dx.sum(0), 0, atol=1e-3)
    np.testing.assert_allclose((dx * y).sum(0), 0, atol=1e-2)
    np.testing.assert_allclose(dgamma, (dy * y).sum(0), atol=1e-2)
    np.testing.assert_allclose(dbeta, dy.sum(0), atol=1e-3)


def test_inverse_deviation_and_moving_average() -> None:
    """1/sqrt(variance + epsilon) and old + momentum * (new - old), float32 at every step."""
    unit = ChipVectorUnit("dlfloat16")
    variance = np.concatenate([singles(500, 24, 0, 9), np.float32([0, 1e-30, 1e30])])
    old, new = singles(500, 25), singles(500, 26)
    assert_same_bits(lambda: unit.inverse_deviation(variance, 1e-5), naive.inverse_deviation(variance, 1e-5))
    assert_same_bits(lambda: unit.moving_average(old, new, 0.1), naive.moving_average(old, new, 0.1))


POOLS = [((1, 1), (1, 1)), ((2, 2), (2, 2)), ((3, 3), (1, 1)), ((2, 2), (1, 1)), ((3, 3), (2, 2)),
         ((2, 2), (3, 3)), ((1, 3), (2, 1)), ((3, 2), (1, 3))]  # fmt: skip


def fits(shape: tuple[int, ...], size: tuple[int, int]) -> bool:
    """Whether a window lies inside an image."""
    return shape[1] >= size[0] and shape[2] >= size[1]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", IMAGES)
def test_max_pool(shape: tuple[int, ...], storage: str) -> None:
    """Windows side by side, overlapping, with gaps: the largest, its place, the gradient's way back."""
    unit = ChipVectorUnit(storage)
    x = tensor(shape, storage, 27)
    for size, stride in [pool for pool in POOLS if fits(shape, pool[0])]:
        wanted = naive.max_pool(x, size, stride)
        assert_same_bits(lambda size=size, stride=stride: unit.max_pool(x, size, stride), wanted)
        y, places = wanted
        dy = tensor(y.shape, storage, 28)
        assert_same_bits(
            lambda dy=dy, places=places, size=size, stride=stride: unit.max_pool_backward(
                dy, places, shape, size, stride
            ),
            naive.max_pool_backward(dy, places, shape, size, stride, storage),
        )


def test_max_pool_takes_the_first_of_equals() -> None:
    """A window of equal values, and one of zeros of both signs, sends its gradient to the first place."""
    unit = ChipVectorUnit("dlfloat16")
    x = np.float32([[1, 1], [1, 1]]).reshape(1, 2, 2, 1)
    assert unit.max_pool(x, (2, 2), (2, 2))[1].tolist() == [[[[0]]]]
    x = np.float32([[-1, -0.0], [0.0, -1]]).reshape(1, 2, 2, 1)
    assert unit.max_pool(x, (2, 2), (2, 2))[1].tolist() == [[[[1]]]]


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", IMAGES)
def test_average_pool(shape: tuple[int, ...], storage: str) -> None:
    """Square and oblong windows, the whole image among them: sum in order, one multiply, one rounding."""
    unit = ChipVectorUnit(storage)
    x = tensor(shape, storage, 29)
    sizes = [*POOLS, ((2, 3), (1, 1)), ((shape[1], shape[2]), (1, 1))]
    for size, stride in [pool for pool in sizes if fits(shape, pool[0])]:
        wanted = naive.average_pool(x, size, stride, storage)
        assert_same_bits(lambda size=size, stride=stride: unit.average_pool(x, size, stride), wanted)
        dy = tensor(wanted.shape, storage, 30)
        assert_same_bits(
            lambda dy=dy, size=size, stride=stride: unit.average_pool_backward(dy, shape, size, stride),
            naive.average_pool_backward(dy, shape, size, stride, storage),
        )


def test_average_pool_over_given_counts() -> None:
    """Each window's sum times one over its own count, forward and backward, one rounding each."""
    unit, shape = ChipVectorUnit("dlfloat16"), (2, 5, 7, 3)
    x, size, stride = tensor(shape, "dlfloat16", 31), (3, 2), (2, 1)
    counts = np.arange(1, 13).reshape(2, 6)
    wanted = naive.average_pool(x, size, stride, "dlfloat16", counts)
    assert_same_bits(lambda: unit.average_pool(x, size, stride, counts), wanted)
    dy = tensor(wanted.shape, "dlfloat16", 32)
    assert_same_bits(
        lambda: unit.average_pool_backward(dy, shape, size, stride, counts),
        naive.average_pool_backward(dy, shape, size, stride, "dlfloat16", counts),
    )


@pytest.mark.parametrize("storage", STORAGES)
def test_multiply_spreads_a_gate_over_positions(storage: str) -> None:
    """One number a channel for every position, or one an element; one rounding each."""
    unit, x = ChipVectorUnit(storage), tensor((2, 3, 4, 5), storage, 33)
    for shape in ((2, 1, 1, 5), (2, 3, 4, 5)):
        gate = tensor(shape, storage, 34)
        wanted = naive.elementwise(lambda a, b: a * b, x, np.broadcast_to(gate, x.shape).copy())
        assert_same_bits(lambda gate=gate: unit.multiply(x, gate), naive.stored(wanted, storage))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", [(5, 7), (2, 3), (9, 1)], ids=str)
@pytest.mark.parametrize("method", ["nearest", "bilinear"])
def test_resampling_pixel_by_pixel(shape: tuple[int, int], method: str, storage: str) -> None:
    """Rows blended, then columns, one rounding; backwards columns first, outputs added in order."""
    unit, x = ChipVectorUnit(storage), tensor((2, 4, 3, 2), storage, 35)
    down, across = (blend(old, new, method == "nearest") for old, new in zip((4, 3), shape, strict=True))
    rows = np.zeros((2, shape[0], 3, 2), np.float32)
    for n, o, w, c in np.ndindex(*rows.shape):
        s = np.float32(down.share[o])
        rows[n, o, w, c] = x[n, down.first[o], w, c] * (naive.ONE - s) + x[n, down.second[o], w, c] * s
    y = np.zeros((2, *shape, 2), np.float32)
    for n, o, p, c in np.ndindex(*y.shape):
        s = np.float32(across.share[p])
        y[n, o, p, c] = rows[n, o, across.first[p], c] * (naive.ONE - s) + rows[n, o, across.second[p], c] * s
    assert_same_bits(lambda: unit.resample(x, down, across), naive.stored(y, storage))
    dy, drows, dx = tensor(y.shape, storage, 36), np.zeros_like(rows), np.zeros_like(x)
    for p, n, o, c in np.ndindex(shape[1], 2, shape[0], 2):
        s = np.float32(across.share[p])
        drows[n, o, across.first[p], c] += dy[n, o, p, c] * (naive.ONE - s)
        drows[n, o, across.second[p], c] += dy[n, o, p, c] * s
    for o, n, w, c in np.ndindex(shape[0], 2, 3, 2):
        s = np.float32(down.share[o])
        dx[n, down.first[o], w, c] += drows[n, o, w, c] * (naive.ONE - s)
        dx[n, down.second[o], w, c] += drows[n, o, w, c] * s
    found = lambda: unit.resample_backward(dy, x.shape, down, across)  # noqa: E731
    assert_same_bits(found, naive.stored(dx, storage))


def test_pools_of_no_images() -> None:
    """A batch of none comes back empty, in the right shape."""
    unit = ChipVectorUnit("dlfloat16")
    none = np.zeros((0, 4, 6, 3), np.float32)
    y, places = unit.max_pool(none, (2, 2), (2, 2))
    assert (y.shape, places.shape) == ((0, 2, 3, 3), (0, 2, 3, 3))
    assert unit.max_pool_backward(y, places, none.shape, (2, 2), (2, 2)).shape == none.shape
    assert unit.average_pool(none, (4, 6), (1, 1)).shape == (0, 1, 1, 3)
    assert unit.average_pool_backward(y, none.shape, (2, 2), (2, 2)).shape == none.shape


def test_exponential_bits() -> None:
    """The polynomial term by term, over the whole range and beyond, and at every half multiple of ln 2."""
    rng = np.random.default_rng(31)
    halves = np.float32([-math.log(2) * k / 2 for k in range(252)])
    near = np.concatenate(
        [halves, np.nextafter(halves, np.float32(0)), np.nextafter(halves, np.float32(-99))]
    )
    edges = np.float32([0.0, -0.0, -1e-45, -1e-8, -87.0, -87.00001, -88.0, -1000.0, -3e38, -math.inf])
    for x in np.concatenate([rng.uniform(-90, 0, 1500).astype(np.float32), near, edges]):
        assert float(kernels.exponential(x)) == float(naive.exponential(x)), x
    assert math.isnan(kernels.exponential(np.float32(math.nan)))


def test_exponential_is_within_two_units_in_the_last_place() -> None:
    """The error against the host's double-precision exponential, in units of a float32's last place."""
    rng = np.random.default_rng(32)
    inputs = np.concatenate([rng.uniform(-87, 0, 10_000), -np.exp(rng.uniform(-18, 4.4, 5_000)), [0, -87]])
    worst = 0.0
    for x in inputs.astype(np.float32):
        exact = math.exp(x)
        worst = max(worst, abs(float(kernels.exponential(x)) - exact) / float(np.spacing(np.float32(exact))))
    assert worst <= 2
    assert float(kernels.exponential(np.float32(0))) == 1.0


@pytest.mark.parametrize("shape", [(1, 1), (1, 10), (9, 26), (0, 4)])
def test_softmax(shape: tuple[int, int]) -> None:
    """Rows of ordinary logits, equal ones, and ones so far apart that all but the largest vanish."""
    unit = ChipVectorUnit("dlfloat16")
    for scale in (1.0, 0.0, 1e4):
        logits = (singles(math.prod(shape), 33).reshape(shape) * np.float32(scale)).astype(np.float32)
        assert_same_bits(lambda logits=logits: unit.softmax(logits), naive.softmax(logits))
        np.testing.assert_allclose(unit.softmax(logits).sum(1), 1, atol=1e-6)


def test_softmax_of_what_is_no_number() -> None:
    """A NaN among the logits makes that row NaN and no other; a row of -infinity beside a number is zero."""
    logits = np.float32([[0, math.nan, 1], [0, -math.inf, 0], [1, 2, 3]])
    rows = ChipVectorUnit("dlfloat16").softmax(logits)
    assert np.isnan(rows[0]).all()
    assert rows[1].tolist() == [0.5, 0.0, 0.5]
    np.testing.assert_array_equal(rows[2:], naive.softmax(logits[2:]))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("loss_scale", [1.0, 1024.0])
@pytest.mark.parametrize(("lowest", "smoothing"), [(0, 0.0), (-1, 0.0), (-1, 0.1), (0, 0.3)])
def test_cross_entropy_gradient(storage: str, loss_scale: float, lowest: int, smoothing: float) -> None:
    """(p - label) * (scale / labels that count), stored with one rounding; the probabilities are kept."""
    unit = ChipVectorUnit(storage)
    probabilities = naive.softmax(singles(7 * 5, 34).reshape(7, 5))
    labels = np.random.default_rng(35).integers(lowest, 5, 7)
    assert labels.min() == lowest
    before = probabilities.copy()
    assert_same_bits(
        lambda: unit.cross_entropy_gradient(probabilities, labels, loss_scale, smoothing),
        naive.cross_entropy_gradient(probabilities, labels, loss_scale, storage, smoothing),
    )
    np.testing.assert_array_equal(probabilities, before)


@pytest.mark.parametrize("size", [0, 1, 777])
@pytest.mark.parametrize(("momentum", "decay", "factor"), [(0.9, 5e-4, 1.0), (0.0, 0.0, 1 / 1024)])
def test_sgd_steps(size: int, momentum: float, decay: float, factor: float) -> None:
    """Three steps of momentum SGD with decay and loss scale, scalar by scalar."""
    numbers = [np.float32(number) for number in (0.05, momentum, decay, factor)]

    def steps(step: Callable[..., None]) -> tuple[np.ndarray, np.ndarray]:
        weight, velocity = singles(size, 36), np.zeros(size, np.float32)
        for seed in range(3):
            step(weight, singles(size, 37 + seed), velocity, *numbers)
        return weight, velocity

    assert_same_bits(lambda: steps(kernels.sgd_step), steps(naive.sgd_step))


@pytest.mark.parametrize("size", [0, 1, 777])
@pytest.mark.parametrize(("decay", "factor"), [(5e-4, 1.0), (0.0, 1 / 1024)])
def test_adam_steps(size: int, decay: float, factor: float) -> None:
    """Three steps of Adam with bias correction, decay and loss scale, scalar by scalar."""

    def steps(step: Callable[..., None]) -> tuple[np.ndarray, ...]:
        weight, first, second = singles(size, 40), np.zeros(size, np.float32), np.zeros(size, np.float32)
        for t in (1, 2, 3):
            corrections = [1 / (1 - 0.9**t), 1 / (1 - 0.999**t)]
            numbers = [np.float32(x) for x in (0.01, 0.9, 0.999, *corrections, 1e-8, decay, factor)]
            gradient = singles(size, 41 + t)
            gradient[::7] = 0
            step(weight, gradient, first, second, *numbers)
        return weight, first, second

    assert_same_bits(lambda: steps(kernels.adam_step), steps(naive.adam_step))


def test_layout_does_not_matter() -> None:
    """Transposed and strided tensors give the bits of contiguous ones, through every method."""
    unit = ChipVectorUnit("dlfloat16")
    plain = tensor((6, 4, 4, 6), "dlfloat16", 45)
    ones, half = np.ones(6, np.float32), singles(6, 46, 0.1)
    functions: list[Callable[[np.ndarray], Any]] = [
        lambda x: unit.add(x, x * np.float32(1 / 3)),
        lambda x: unit.add_bias(x, half),
        unit.column_sums,
        lambda x: unit.batch_norm(x, ones, half, 1e-5)[0],
        lambda x: unit.batch_norm_fixed(x, ones, half, half, half),
        lambda x: unit.batch_norm_backward(x, x, ones, half, half)[0],
        lambda x: unit.max_pool(x, (2, 2), (2, 2))[0],
        lambda x: unit.average_pool(x, (4, 4), (1, 1)),
        lambda x: unit.average_pool_backward(x, (6, 8, 8, 6), (2, 2), (2, 2)),
    ]
    transposed = plain.transpose(3, 2, 1, 0).copy().transpose(3, 2, 1, 0)
    strided = np.repeat(plain, 2, axis=3)[..., ::2]
    for function in functions:
        for other in (transposed, strided):
            np.testing.assert_array_equal(function(other), function(plain))
