"""One training step: forward and backward on one chip or on several, and the parameters moved."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.quantisers import cast
from accelsim.numerics.formats import number_format
from accelsim.recipe import Recipe
from accelsim.run.chip_executor import ChipExecutor
from accelsim.run.clipping import clip_factor
from accelsim.run.objective import Score, probabilities_of, score, together
from accelsim.run.optimizing import update
from accelsim.run.ring import ring_sums
from accelsim.run.sharing import parts_of
from accelsim.workload import Workload

F32 = NDArray[np.float32]
Labels = NDArray[np.int64]


def prepared(samples: NDArray[Any], workload: Workload, recipe: Recipe) -> F32:
    """Samples as the chip's memory holds them: normalised, in the storage format; token ids unchanged."""
    rule = workload.normalise
    values = np.asarray(samples, np.float32)
    if rule is None:
        return values
    if samples.dtype == np.uint8:
        values = values / np.float32(255)
    values = (values - np.float32(rule.mean)) / np.float32(rule.deviation)
    return np.asarray(cast(values, number_format(recipe.storage)).array, np.float32)


def forward_backward(
    chip: ChipExecutor, workload: Workload, x: F32, labels: Labels, place: int = 0, counted: int | None = None
) -> Score:
    """All gradients of one mini-batch, which ``chip`` then holds; how well it was known.

    ``x`` (samples, *input_shape) as `prepared` gives it, ``labels`` (samples, *targets). Of a part of a
    mini-batch: the ``place`` of the chip in the ring, and how many labels are ``counted`` in all parts, over
    which the loss is averaged.
    """
    chip.begin(training=True, place=place)
    logits = workload.network.forward(x, chip)
    probabilities = probabilities_of(chip.vector, logits)
    gradient = chip.vector.cross_entropy_gradient(
        probabilities, labels.reshape(-1), chip.loss_scale, workload.label_smoothing, counted
    )
    workload.network.backward(gradient.reshape(logits.shape), chip)
    return score(probabilities, labels)


def shared_gradients(chip: ChipExecutor, workload: Workload, x: F32, labels: Labels, chips: int) -> Score:
    """The same of a mini-batch that ``chips`` share, one after another on ``chip``.

    Each normalises by the statistics of its own samples and votes on gradient scales; what a first
    mini-batch sets and the running statistics are the first chip's. The gradients that ``chip`` then holds
    are the sums of `accelsim.run.ring`, so that of equal parts they are means, as on a single chip.
    """
    counted = int(np.count_nonzero(labels >= 0))
    scores, found = [], []
    for place, part in enumerate(parts_of(len(x), chips)):
        scores.append(forward_backward(chip, workload, x[part], labels[part], place, counted))
        found.append(dict(chip.gradients_by_key))
    chip.gradients_by_key.update(ring_sums(found, _parameter_names(workload), chip.vector))
    return together(scores)


def _parameter_names(workload: Workload) -> list[str]:
    leaves = workload.network.leaves()
    return [f"{leaf.site.name}.{name}" for leaf in leaves for name in leaf.layer.parameters(leaf.site)]


def move_parameters(chip: ChipExecutor, workload: Workload, recipe: Recipe, epoch: float) -> None:
    """One optimiser step by the gradients ``chip`` holds; ``epoch`` (with its fraction) sets the rate."""
    gradients = chip.usable_gradients()
    shrink = clip_factor(chip.vector, gradients, workload.clip_norm, chip.loss_scale)
    rate = workload.learning_rate.at(epoch, workload.epochs)
    update(chip.state, gradients, workload, recipe, rate, chip.loss_scale / shrink, chip.rules)
    chip.end_of_update()
