"""One optimiser step on the vector unit, in float32, stored in the master format.

A 16-bit master format keeps parameters and optimiser state by stochastic rounding, without which most
steps would be smaller than half a unit and lost (Wang et al., NeurIPS 2018, section 2.4).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.vector_kernels import adam_step, sgd_step
from accelsim.numerics.formats import number_format
from accelsim.numerics.random_bits import stream_key
from accelsim.recipe import Recipe, SiteRules
from accelsim.run.chip_executor import CLIP
from accelsim.run.state import TrainingState
from accelsim.workload import Workload
from accelsim.workload.schema import Adam, Sgd

F32 = NDArray[np.float32]
Single = np.float32


def update(
    state: TrainingState, gradients: dict[str, F32], workload: Workload, recipe: Recipe, rate: float,
    loss_scale: float, rules: Mapping[str, SiteRules],
) -> None:  # fmt: skip
    """Move every parameter that has a gradient; ``rate`` is this step's learning rate.

    ``loss_scale``: the factor that the gradients were computed with. ``rules``: by site.
    """
    decays = workload.network.decaying
    rule = workload.optimizer
    factor = np.float32(1.0 / loss_scale)
    state.step += 1
    for key, gradient in gradients.items():
        decay = rule.weight_decay if key in decays else 0.0
        if key.endswith(f".{CLIP}"):
            decay = rules[key.removesuffix(f".{CLIP}")].activation.clip_decay
        flat = np.ascontiguousarray(gradient, np.float32).reshape(-1)
        if isinstance(rule, Sgd):
            _sgd(state, key, flat, rule, np.float32(rate), np.float32(decay), factor)
        else:
            _adam(state, key, flat, rule, np.float32(rate), np.float32(decay), factor)
        if recipe.master != "fp32":
            _store(state, key, recipe, workload.seed)


def _store(state: TrainingState, key: str, recipe: Recipe, seed: int) -> None:
    """Round a parameter and its optimiser tensors to the master format, by default stochastically.

    The random bits are those of (seed, step, tensor, element), so no thread or order can change them.
    """
    fmt = number_format(recipe.master)
    kept = {key: state.parameters[key]}
    kept |= {name: tensor for name, tensor in state.optimizer.items() if name.startswith(f"{key}/")}
    for name, tensor in kept.items():
        bits = stream_key(seed, "master", state.step, name)
        if recipe.master_rounding == "stochastic":
            tensor[...] = fmt.round(tensor, "stochastic", "saturate", key=bits)
        else:
            tensor[...] = fmt.round(tensor, None, "saturate")


def _sgd(
    state: TrainingState, key: str, gradient: F32, rule: Sgd, rate: Single, decay: Single, factor: Single
) -> None:
    velocity = _optimizer_tensor(state, f"{key}/velocity", gradient.size)
    weight = state.parameters[key].reshape(-1)
    sgd_step(weight, gradient, velocity, rate, np.float32(rule.momentum), decay, factor)


def _adam(
    state: TrainingState, key: str, gradient: F32, rule: Adam, rate: Single, decay: Single, factor: Single
) -> None:
    first = _optimizer_tensor(state, f"{key}/first", gradient.size)
    second = _optimizer_tensor(state, f"{key}/second", gradient.size)
    weight = state.parameters[key].reshape(-1)
    corrections = [np.float32(1.0 / (1.0 - _power(beta, state.step))) for beta in (rule.beta1, rule.beta2)]
    adam_step(
        weight, gradient, first, second, rate, np.float32(rule.beta1), np.float32(rule.beta2),
        *corrections, np.float32(rule.epsilon), decay, factor,
    )  # fmt: skip


def _power(factor: float, exponent: int) -> float:
    """factor**exponent by repeated squaring, so that a run does not depend on the libm."""
    result = 1.0
    while exponent:
        if exponent & 1:
            result *= factor
        factor, exponent = factor * factor, exponent >> 1
    return result


def _optimizer_tensor(state: TrainingState, key: str, size: int) -> F32:
    if key not in state.optimizer:
        state.optimizer[key] = np.zeros(size, np.float32)
    return state.optimizer[key]
