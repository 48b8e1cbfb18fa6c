"""The vector unit's functions for language and speech: the bits of scalar loops, and close to the truth."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import naive_language as naive
import numpy as np
import pytest
from vector_check import assert_same_bits, singles, tensor

from accelsim.datapath import curve_kernels
from accelsim.datapath.vector_unit import ChipVectorUnit

STORAGES = ["dlfloat16", "fp32"]
EDGES = [0.0, -0.0, 0.35, -0.35, 0.34999999, 1e-8, -1e-30, 9.5, -9.5, 90.0, -90.0, 3e38, -3e38]


def points() -> np.ndarray:
    """Inputs over the whole range of interest, and the places where a formula changes."""
    rng = np.random.default_rng(1)
    spread = [rng.normal(0, 1, 600), rng.normal(0, 8, 300), rng.normal(0, 0.01, 100), EDGES]
    return np.concatenate(spread).astype(np.float32)


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("name", list(naive.CURVES))
def test_curves(name: str, storage: str) -> None:
    """Sigmoid, tanh, GELU, swish and the hard ones, and their gradients, operation by operation."""
    unit = ChipVectorUnit(storage)
    x = tensor((4, 80), storage, 2) if storage != "fp32" else points()
    dy, kept = tensor(x.shape, storage, 3), unit.curve(name, x) if "sigmoid" in name or name == "tanh" else x
    with np.errstate(over="ignore"):
        wanted, gradient = naive.curve(name, x, storage), naive.curve_backward(name, dy, kept, storage)
    assert_same_bits(lambda: unit.curve(name, x), wanted)
    assert_same_bits(lambda: unit.curve_backward(name, dy, kept), gradient)


@pytest.mark.parametrize(
    ("function", "exact", "bound"),
    [
        (curve_kernels.sigmoid, lambda x: 1 / (1 + math.exp(-x)) if x > -700 else 0.0, 2e-7),
        (curve_kernels.hyperbolic_tangent, math.tanh, 2.5e-7),
        (curve_kernels.normal_share, lambda x: 0.5 * math.erfc(-x / math.sqrt(2)), 3e-7),
    ],
    ids=["sigmoid", "tanh", "normal_share"],
)
def test_curves_are_close_to_the_truth(
    function: Callable[[Any], Any], exact: Callable[[float], float], bound: float
) -> None:
    """Against the host's double precision: tanh in relative error, the others, at most 1, in absolute."""
    relative = exact is math.tanh
    for x in points():
        error = abs(float(function(x)) - exact(float(x)))
        assert error <= bound * (abs(exact(float(x))) if relative else 1.0), x


@pytest.mark.parametrize("name", list(naive.CURVES))
def test_curves_of_no_number(name: str) -> None:
    """NaN stays NaN; no elements give no elements."""
    unit = ChipVectorUnit("fp32")
    assert np.isnan(unit.curve(name, np.float32([np.nan]))).all()
    assert unit.curve(name, np.zeros((0, 3), np.float32)).shape == (0, 3)


@pytest.mark.parametrize("storage", STORAGES)
def test_relu6_and_scaled_mask(storage: str) -> None:
    """Clamped at both ends; a dropout mask scales what stays with one rounding."""
    unit = ChipVectorUnit(storage)
    x = tensor((30, 7), storage, 4)
    mask = np.random.default_rng(5).random(x.shape) < 0.5
    assert_same_bits(lambda: unit.relu6(x), np.where(x > 0, np.minimum(x, np.float32(6)), np.float32(0)))
    scaled = naive.elementwise(lambda v, m: v * np.float32(1 / 0.7) if m else naive.ZERO, x, mask)
    assert_same_bits(lambda: unit.scaled_mask(x, mask, 1 / 0.7), naive.stored(scaled, storage))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 5, 4), (300, 3)])
def test_layer_norm(shape: tuple[int, ...], storage: str) -> None:
    """Mean and variance of each row in order, and the three gradients."""
    unit = ChipVectorUnit(storage)
    x, dy = tensor(shape, storage, 6, 1.0), tensor(shape, storage, 7)
    gamma, beta = singles(shape[-1], 8), singles(shape[-1], 9)
    wanted = naive.layer_norm(x, gamma, beta, 1e-5, storage)
    assert_same_bits(lambda: unit.layer_norm(x, gamma, beta, 1e-5), wanted)
    _, mean, inverse = wanted
    assert_same_bits(
        lambda: unit.layer_norm_backward(dy, x, gamma, mean, inverse),
        naive.layer_norm_backward(dy, x, gamma, mean, inverse, storage),
    )


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 5, 4), (300, 3)])
def test_rms_norm(shape: tuple[int, ...], storage: str) -> None:
    """The mean square of each row in order, and both gradients."""
    unit = ChipVectorUnit(storage)
    x, dy, gamma = tensor(shape, storage, 6, 1.0), tensor(shape, storage, 7), singles(shape[-1], 8)
    wanted = naive.rms_norm(x, gamma, 1e-5, storage)
    assert_same_bits(lambda: unit.rms_norm(x, gamma, 1e-5), wanted)
    assert_same_bits(
        lambda: unit.rms_norm_backward(dy, x, gamma, wanted[1]),
        naive.rms_norm_backward(dy, x, gamma, wanted[1], storage),
    )


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", [(1, 1, 1), (3, 5, 5), (2, 4, 7)])
def test_attention_softmax(shape: tuple[int, ...], causal: bool, storage: str) -> None:
    """Scaled, the largest subtracted, summed in order; later keys get exactly nothing."""
    if causal and shape[1] != shape[2]:
        shape = (shape[0], shape[1], shape[1])
    unit = ChipVectorUnit(storage)
    scores, dp = tensor(shape, storage, 10), tensor(shape, storage, 11)
    p = naive.attention_softmax(scores, 0.3, causal, storage)
    assert_same_bits(lambda: unit.attention_softmax(scores, 0.3, causal), p)
    assert_same_bits(
        lambda: unit.attention_softmax_backward(dp, p, 0.3),
        naive.attention_softmax_backward(dp, p, 0.3, storage),
    )
    if causal:
        assert not np.triu(p, 1).any()


def test_table_rows_and_their_gradient() -> None:
    """Rows are stored with one rounding; gradients of one token add up in the order of its places."""
    unit = ChipVectorUnit("dlfloat16")
    table, ids = singles(5 * 3, 12).reshape(5, 3), np.float32([[4, 0, 4, 4], [1, 4, 0, 1]])
    rows = naive.stored(table[ids.astype(int)], "dlfloat16")
    assert_same_bits(lambda: unit.table_rows(table, ids), rows)
    dy = tensor((2, 4, 3), "fp32", 13)
    assert_same_bits(lambda: unit.table_gradient(dy, ids, 5), naive.table_gradient(dy, ids, 5))


@pytest.mark.parametrize("storage", STORAGES)
@pytest.mark.parametrize(("directions", "samples", "features"), [(1, 1, 1), (2, 3, 5), (1, 7, 2)])
def test_lstm_cell(directions: int, samples: int, features: int, storage: str) -> None:
    """One step and its gradients: sums, functions, products, each in its place."""
    unit, shape = ChipVectorUnit(storage), (directions, samples, features)
    wide = (directions, samples, 4 * features)
    of_input, of_state, before = (
        tensor(wide, storage, 14),
        tensor(wide, storage, 15),
        tensor(shape, storage, 16),
    )
    bias = singles(directions * 4 * features, 17).reshape(directions, -1)
    wanted = naive.lstm_cell(of_input, of_state, bias, before, storage)
    assert_same_bits(lambda: unit.lstm_cell(of_input, of_state, bias, before), wanted)
    gates, cell, _ = wanted
    dhidden, dcell = tensor(shape, storage, 18), tensor(shape, storage, 19)
    assert_same_bits(
        lambda: unit.lstm_cell_backward(dhidden, dcell, gates, before, cell),
        naive.lstm_cell_backward(dhidden, dcell, gates, before, cell, storage),
    )
