"""Networks put together by hand, their gradients against finite differences, their GEMMs by phase."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from plain_executor import PlainExecutor, everywhere, key_of

from accelsim.network import Add, Concat, Join, Layer, Leaf, Residual, Sequence, Site
from accelsim.operations import PHASES, Gemm, Phase, TensorFormats

STEP = 1e-5


def chain(shape: tuple[int, ...], *parts: Layer | Residual | Concat) -> Sequence:
    """Layers (and ready residual blocks) one after another, named by kind and number."""
    sequence = Sequence((), shape, False)
    for number, part in enumerate(parts):
        if isinstance(part, Layer):
            site = Site(f"{part.kind}{number}", sequence.output_shape, sequence.output_nonnegative)
            part = Leaf(part, site)
        sequence = Sequence((*sequence.parts, part), shape, False)
    return sequence


def residual(name: str, body: Sequence, shortcut: Sequence) -> Residual:
    """A residual block; its layers get names of their own."""
    branches = renamed(f"{name}.body", body), renamed(f"{name}.shortcut", shortcut)
    return Residual(branches, Leaf(Add(), Site(f"{name}.add", body.output_shape)))


def concat(name: str, *branches: Sequence) -> Concat:
    """A block of branches side by side; their layers get names of their own."""
    named = [renamed(f"{name}.{number}", branch) for number, branch in enumerate(branches)]
    shapes = [branch.output_shape for branch in branches]
    joined = (*shapes[0][:-1], sum(shape[-1] for shape in shapes))
    inputs = int(np.prod(branches[0].input_shape))
    closing = Leaf(Join(branches=len(branches), inputs=inputs), Site(f"{name}.concat", joined))
    return Concat(tuple(named), closing)


def renamed(name: str, part: Any) -> Any:
    """A part with the name put before the names of its layers."""
    if isinstance(part, Leaf):
        return replace(part, site=replace(part.site, name=f"{name}.{part.site.name}"))
    if isinstance(part, Sequence):
        return replace(part, parts=tuple(renamed(name, one) for one in part.parts))
    branches = tuple(renamed(name, branch) for branch in part.branches)
    return replace(part, branches=branches, closing=renamed(name, part.closing))


def differences(values: Any, loss: Any, positions: list[tuple[int, ...]]) -> list[float]:
    """Central differences of ``loss()`` at some elements of ``values``, which is changed and restored."""
    found = []
    for position in positions:
        old = values[position]
        values[position] = old + STEP
        above = loss()
        values[position] = old - STEP
        found.append((above - loss()) / (2 * STEP))
        values[position] = old
    return found


def check_gradients(network: Sequence, batch: int = 2, samples: int = 24, tokens: int | None = None) -> None:
    """dL/dx and dL/dparameter of sum(r * y), r random, against central differences in float64.

    With ``tokens`` the input is token ids below that number, and dL/dx is zero.
    """
    random = np.random.default_rng(7)
    chip = PlainExecutor(list(network.leaves()))
    x: Any = random.normal(size=(batch, *network.input_shape))
    if tokens is not None:
        x = random.integers(0, tokens, x.shape).astype(np.float64)
    r = random.normal(size=(batch, *network.output_shape))

    def loss() -> float:
        return float(np.sum(r * network.forward(x, chip)))

    loss()
    dx = network.backward(r, chip)
    gradients = dict(chip.gradients_found)
    trained = {
        key_of(leaf.site.name, name)
        for leaf in network.leaves()
        for name, parameter in leaf.layer.parameters(leaf.site).items()
        if parameter.trained
    }
    assert set(gradients) == trained
    pairs = [(chip.parameters[key], gradients[key]) for key in gradients]
    if tokens is None:
        pairs.append((x, dx))
    else:
        assert dx.shape == x.shape
        assert not dx.any()
    for values, gradient in pairs:
        assert gradient.shape == values.shape
        chosen = random.permutation(values.size)[:samples]
        positions = [tuple(int(i) for i in np.unravel_index(place, values.shape)) for place in chosen]
        expected = differences(values, loss, positions)
        np.testing.assert_allclose([gradient[p] for p in positions], expected, rtol=2e-6, atol=1e-6)


def settings(layer: Layer) -> str:
    """A layer's settings as the name of a test."""
    given = [f"{key}{value}" for key, value in layer.model_dump(exclude_defaults=True).items()]
    return "-".join([layer.kind, *given])


def executed(network: Sequence, batch: int, chip: PlainExecutor) -> dict[Phase, list[Gemm]]:
    """The GEMMs of one step by phase, in order, each as often as it ran."""
    x = np.random.default_rng(3).normal(size=(batch, *network.input_shape))
    network.backward(network.forward(x, chip), chip)
    return {phase: [gemm for gemm in chip.executed if gemm.phase == phase] for phase in PHASES}


def announced(network: Sequence, batch: int, formats: TensorFormats) -> dict[Phase, list[Gemm]]:
    """The GEMMs of ``work()`` by phase, in order of the layers, each once for each of its groups."""
    works = [
        work for leaf in network.leaves() for work in leaf.layer.work(leaf.site, batch, everywhere(formats))
    ]
    gemms = [gemm for work in works for gemm in work.gemms for _ in range(gemm.groups)]
    return {phase: [gemm for gemm in gemms if gemm.phase == phase] for phase in PHASES}
