"""Layers against an independent framework's functions and its automatic gradients, in double precision.

For development: install ``jax`` (the plain CPU package) to run these; without it they are skipped.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from gradient_check import chain
from plain_executor import PlainExecutor

from accelsim.network import (
    Attention,
    AveragePool,
    BatchNorm,
    Conv2d,
    Embedding,
    Gelu,
    Layer,
    LayerNorm,
    Lstm,
    MaxPool,
    Sequence,
    Site,
    Swish,
    Tanh,
)

jax: Any = pytest.importorskip("jax", reason="the second framework (pip install jax) is not installed")
jax.config.update("jax_enable_x64", True)
jnp = jax.numpy

Parameters = dict[str, Any]


def convolution(layer: Conv2d) -> Callable[[Any, Parameters], Any]:
    def function(x: Any, p: Parameters) -> Any:
        down, across = layer.windows
        y = jax.lax.conv_general_dilated(
            x, p["weight"], (down.stride, across.stride),
            ((down.before, down.after), (across.before, across.after)),
            rhs_dilation=(down.dilation, across.dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"), feature_group_count=layer.groups,
        )  # fmt: skip
        return y + p.get("bias", 0)

    return function


def attention(heads: int, causal: bool) -> Callable[[Any, Parameters], Any]:
    def function(x: Any, _: Parameters) -> Any:
        parts = [part.reshape(*x.shape[:2], heads, -1) for part in jnp.split(x, 3, axis=-1)]
        y = jax.nn.dot_product_attention(*parts, is_causal=causal)
        return y.reshape(*x.shape[:2], -1)

    return function


def layer_norm(x: Any, p: Parameters) -> Any:
    return jax.nn.standardize(x, axis=-1, epsilon=1e-5) * p["gamma"] + p["beta"]


def batch_norm(x: Any, p: Parameters) -> Any:
    return jax.nn.standardize(x, axis=(0, 1, 2), epsilon=1e-5) * p["gamma"] + p["beta"]


def lstm(features: int, reverse: bool) -> Callable[[Any, Parameters], Any]:
    """A scan, with the gates of one direction side by side: i, f, g, o."""

    def function(x: Any, p: Parameters) -> Any:
        d = int(reverse)
        columns = slice(d * 4 * features, (d + 1) * 4 * features)
        of_input, of_state = p["input.weight"][:, columns], p["state.weight"][d]
        bias = p["bias"][d].reshape(-1)

        def step(carry: Any, now: Any) -> Any:
            h, c = carry
            i, f, g, o = jnp.split(now @ of_input + h @ of_state + bias, 4, axis=-1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), h

        zero = jnp.zeros((len(x), features))
        _, y = jax.lax.scan(step, (zero, zero), x.transpose(1, 0, 2), reverse=reverse)
        return y.transpose(1, 0, 2)

    return function


def both_ways(x: Any, p: Parameters) -> Any:
    return jnp.concatenate([lstm(5, False)(x, p), lstm(5, True)(x, p)], axis=-1)


def pool(layer: MaxPool) -> Callable[[Any, Parameters], Any]:
    def function(x: Any, _: Parameters) -> Any:
        down, across = layer.windows(Site("pool", x.shape[1:]))
        window, step = (1, down.taps, across.taps, 1), (1, down.stride, across.stride, 1)
        edges = ((0, 0), (down.before, down.after), (across.before, across.after), (0, 0))
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, window, step, edges)

    return function


CASES: list[tuple[tuple[int, ...], Layer, Callable[[Any, Parameters], Any]]] = [
    *(
        ((6, 7, 4), layer, convolution(layer))
        for layer in (
            Conv2d(channels=6, kernel=3, stride=2, bias=True),
            Conv2d(channels=4, kernel=5, stride=3, padding=1),
            Conv2d(channels=8, kernel=3, groups=4),
            Conv2d(channels=6, kernel=(1, 5), stride=(2, 3), padding=(0, 1)),
            Conv2d(channels=6, kernel=(3, 2), stride=2, padding=(0, 1, 2, 0), dilation=(2, 3)),
            Conv2d(channels=8, kernel=3, stride=(4, 2), padding=4, dilation=2, groups=2),
        )
    ),
    ((5, 6, 3), BatchNorm(), batch_norm),
    ((4, 6), LayerNorm(), layer_norm),
    ((5, 24), Attention(heads=4), attention(4, False)),
    ((5, 12), Attention(heads=2, causal=True), attention(2, True)),
    ((6, 3), Lstm(features=5), lstm(5, False)),
    ((6, 3), Lstm(features=5, bidirectional=True), both_ways),
    ((4, 3), Gelu(), lambda x, _: jax.nn.gelu(x, approximate=False)),
    ((4, 3), Swish(), lambda x, _: jax.nn.swish(x)),
    ((4, 3), Tanh(), lambda x, _: jnp.tanh(x)),
    ((7, 5, 2), MaxPool(size=3, stride=2, padding=1), pool(MaxPool(size=3, stride=2, padding=1))),
    ((7, 5, 2), MaxPool(size=(2, 3), padding=(0, 1)), pool(MaxPool(size=(2, 3), padding=(0, 1)))),
    ((6, 5, 2), AveragePool(), lambda x, _: x.mean(axis=(1, 2))),
]


def gradients(network: Sequence, x: Any, r: Any) -> tuple[Any, Any, Parameters, Parameters]:
    """Output, dL/dx, parameters and their gradients by name, of sum(r * y)."""
    chip = PlainExecutor(list(network.leaves()))
    y = network.forward(x, chip)
    dx = network.backward(r, chip)
    (leaf,) = network.leaves()
    start = len(leaf.site.name) + 1

    def by_name(values: dict[tuple[str, str], Any]) -> Parameters:
        return {f"{site}.{name}"[start:]: value for (site, name), value in values.items()}

    return y, dx, by_name(chip.parameters), by_name(chip.gradients_found)


@pytest.mark.parametrize(
    ("shape", "layer", "function"), CASES, ids=[f"{layer.kind}-{i}" for i, (_, layer, _) in enumerate(CASES)]
)
def test_layer_is_the_other_frameworks(
    shape: tuple[int, ...], layer: Layer, function: Callable[[Any, Parameters], Any]
) -> None:
    """Forward pass, dL/dx and every dL/dparameter agree to rounding in float64."""
    random = np.random.default_rng(5)
    network = chain(shape, layer)
    x, r = random.normal(size=(3, *shape)), random.normal(size=(3, *network.output_shape))
    y, dx, parameters, found = gradients(network, x, r)
    # the framework forms the softmax of an attention in single precision
    near = {"rtol": 1e-5, "atol": 1e-6} if layer.kind == "attention" else {"rtol": 1e-9, "atol": 1e-11}
    np.testing.assert_allclose(y, function(x, parameters), **near)

    def loss(given: Any, named: Parameters) -> Any:
        return jnp.sum(r * function(given, named))

    expected_dx, expected = jax.grad(loss, argnums=(0, 1))(x, parameters)
    np.testing.assert_allclose(dx, expected_dx, **near)
    for name, gradient in found.items():
        np.testing.assert_allclose(gradient, expected[name], err_msg=name, **near)


def test_embedding_is_the_other_frameworks() -> None:
    """Rows by token, and the scattered gradient."""
    network = chain((6,), Embedding(tokens=5, features=4))
    ids = np.random.default_rng(6).integers(0, 5, (3, 6))
    r = np.random.default_rng(7).normal(size=(3, 6, 4))
    y, _, parameters, found = gradients(network, ids.astype(np.float64), r)
    table = parameters["weight"]
    np.testing.assert_array_equal(y, table[ids])
    expected = jax.grad(lambda weight: jnp.sum(r * weight[ids]))(table)
    np.testing.assert_allclose(found["weight"], expected, rtol=1e-12)
