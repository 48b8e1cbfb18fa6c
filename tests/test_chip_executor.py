"""One step on a chip: when scales move, which gradient reaches the clip, what is observed and forgotten."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from oracles import quantise

from accelsim.chip import load_chip
from accelsim.datapath.edge import EdgeOperand
from accelsim.mapping import Planner
from accelsim.numerics.formats import number_format
from accelsim.recipe import DynamicLossScale, WeightRule, load_recipe
from accelsim.run.chip_executor import CLIP, ChipExecutor
from accelsim.run.gradient_scales import NETWORK
from accelsim.run.observing import Observer
from accelsim.run.state import TrainingState


def executor(
    *, nonnegative: bool = True, high: bool = False, clip: float | None = 2.0, recipe: str = "ibm2020_fp4"
) -> ChipExecutor:
    """The 4-bit chip with one layer, ``layer``, in the recipe's low or high formats."""
    system = load_recipe(recipe)
    rules = system.wide_rules() if high else system.rules((), (), 0.0, nonnegative=nonnegative)
    parameters = {"layer.weight": np.float32([[0.5, -0.25], [1.0, 0.0]])}
    if clip is not None:
        parameters[f"layer.{CLIP}"] = np.float32([clip])
    planner, state = Planner(load_chip("fp4_training")), TrainingState(parameters)
    made = ChipExecutor(planner, system, {"layer": rules}, state)
    made.begin(training=True)
    return made


def test_weights_are_quantised_once_per_update() -> None:
    """The same operand serves until the parameters change, also across a test step."""
    chip = executor()
    first = chip.weight("layer", (2, 2))
    chip.begin(training=False)
    assert chip.weight("layer", (2, 2)) is first
    chip.state.parameters["layer.weight"] *= np.float32(2)
    chip.end_of_update()
    second = chip.weight("layer", (2, 2))
    assert second is not first
    assert second.scale == pytest.approx(2 * first.scale, rel=1e-2)


@pytest.mark.parametrize("nonnegative", [True, False])
def test_gradient_of_the_clip(nonnegative: bool) -> None:
    """dL/dclip adds dL/dy where x reached the clip, with the sign of x where codes are signed."""
    chip = executor(nonnegative=nonnegative)
    x = np.float32([[3, -3, 1], [2, 0, -1]])
    dx = np.float32([[1, 2, 4], [8, 16, 32]])
    chip.activation("layer", x)
    passed = chip.activation_backward("layer", dx)
    flat, upstream = x.ravel().tolist(), dx.ravel().tolist()
    wanted = quantise.pact_alpha_gradient(upstream, flat, 2.0)
    if not nonnegative:
        wanted -= quantise.pact_alpha_gradient(upstream, [-value for value in flat], 2.0)
        assert passed.tolist() == [[0, 0, 4], [0, 16, 32]]
    else:
        inputs = zip(upstream, flat, strict=True)
        exact = [float(quantise.pact_input_gradient(g, value, 2.0)) for g, value in inputs]
        assert passed.ravel().tolist() == exact
    assert chip.gradients_by_key[f"layer.{CLIP}"].tolist() == [float(wanted)]


def test_the_first_clip_comes_from_the_first_batch() -> None:
    """Three root mean squares of the first mini-batch, kept as a parameter; all zeros start at 1."""
    chip = executor(clip=None)
    chip.activation("layer", np.float32([[3, 4], [0, 0]]))
    assert chip.state.parameters[f"layer.{CLIP}"].tolist() == [3 * 2.5]
    chip.activation("layer", np.float32([[100, 100]]))
    assert chip.state.parameters[f"layer.{CLIP}"].tolist() == [7.5]
    chip = executor(clip=None)
    chip.activation("layer", np.zeros((2, 2), np.float32))
    assert chip.state.parameters[f"layer.{CLIP}"].tolist() == [1.0]


@pytest.mark.parametrize("nonnegative", [True, False])
def test_a_trained_clip_in_deviations(nonnegative: bool) -> None:
    """The clip is a parameter times the root mean square of what comes, and so is its gradient's share."""
    chip = executor(nonnegative=nonnegative, clip=None, recipe="int4_luq_pact_rms")
    first = np.float32([[8, 1, 1, 1] + 12 * [0]])  # root mean square: sqrt(67 / 16)
    codes = chip.activation("layer", first)
    factor = float(np.float32(3.8 if nonnegative else 2.5))
    assert chip.state.parameters[f"layer.{CLIP}"].tolist() == [factor]
    clip = factor * math.sqrt(67 / 16)
    assert codes.scale == pytest.approx(clip / (15 if nonnegative else 7), rel=2.0**-9)
    dx = np.float32([[0.5, 3, 5, 7] + 12 * [1]])
    assert chip.activation_backward("layer", dx)[0, :4].tolist() == [0, 3, 5, 7]
    found = chip.gradients_by_key[f"layer.{CLIP}"].tolist()
    assert found == [pytest.approx(0.5 * math.sqrt(67 / 16), rel=1e-6)]
    double = chip.activation("layer", 2 * first)
    assert double.scale == pytest.approx(2 * codes.scale, rel=2.0**-9)
    assert double.array.tolist() == codes.array.tolist()


@pytest.mark.parametrize("values", [[0.0, 0.0], [np.inf, 1.0], [np.nan, 1.0]])
def test_a_deviation_that_says_nothing_is_one(values: list[float]) -> None:
    """Of zeros alone, or with values that are not finite, the clip is the parameter itself."""
    chip = executor(nonnegative=False, clip=7.0, recipe="int4_luq_pact_rms")
    assert chip.activation("layer", np.float32([values])).scale == 1.0


def test_gradient_scale_moves_once_per_update() -> None:
    """Set by the first gradients, moved by one at the end of an update, and never by a test step."""
    chip = executor()
    exponents = chip.state.gradient_exponents
    even, odd = chip.gradients("layer", np.float32([[0.5, -1.0]]))
    assert (even.format, odd.format) == ("fp4_r4_even", "fp4_r4_odd")
    assert (exponents["layer"], even.scale, odd.scale) == (6, 2.0**-6, 2.0**-6)
    for largest, after in ((0.25, 7), (0.25, 8), (0.25, 8), (1.0, 7), (0.0, 7)):
        chip.begin(training=True)
        before = exponents["layer"]
        chip.gradients("layer", np.float32([[largest]]))
        assert exponents["layer"] == before
        chip.end_of_update()
        assert exponents["layer"] == after
        chip.begin(training=False)
        chip.end_of_update()
        assert exponents["layer"] == after


def test_wide_layers_are_cast_and_nothing_else() -> None:
    """In high precision there is no scale, no clip and no vote, and both gradients are one operand."""
    chip = executor(high=True, clip=None)
    x = np.float32([[1.0, 1.0 + 2.0**-12]])
    for operand in (chip.activation("layer", x), *chip.gradients("layer", x)):
        assert (operand.format, operand.scale, operand.array.tolist()) == ("dlfloat16", 1.0, [[1.0, 1.0]])
    assert chip.gradients("layer", x)[0] is not chip.weight("layer", (2, 2))
    dx = np.float32([[5.0, 6.0]])
    assert chip.activation_backward("layer", dx) is dx
    chip.end_of_update()
    assert chip.state.gradient_exponents == {}
    assert chip.gradients_by_key == {}


def seen(chip: ChipExecutor, role: str) -> dict[str, Any]:
    """What was observed of the layer in one role."""
    assert chip.observed is not None
    (row,) = [row for row in chip.observed.rows() if row["role"] == role]
    return row


@pytest.mark.parametrize("nonnegative", [True, False])
def test_what_is_observed(nonnegative: bool) -> None:
    """Shares at the largest code, of both signs, and flushed to zero although not zero."""
    chip = executor(nonnegative=nonnegative)
    chip.observed = Observer()
    x = np.float32([[9, 9, -9, 0.01, 0, 1, 1, 1]])
    chip.activation("layer", x)
    flushed = 1 if not nonnegative else 2
    assert seen(chip, "activation")["saturated"] == (2 if nonnegative else 3) / 8
    assert seen(chip, "activation")["underflow"] == flushed / 8
    chip.gradients("layer", np.float32([[1.0, -1.0, 1e-6, 0.0]]))
    row = seen(chip, "gradient_input")
    assert (row["saturated"], row["underflow"], row["scale"]) == (0.5, 0.25, 2.0**-6)
    chip.begin(training=False)
    chip.observed = Observer()
    chip.activation("layer", x)
    assert chip.observed.rows() == []


def test_the_quantised_gradient_is_compared_with_the_exact_one() -> None:
    """Cosine and gain by hand over two tensors of one step, and how many numbers lie in each binade."""
    chip = executor()
    chip.observed = Observer()
    chip.gradients("layer", np.float32([[1.0, -0.75, 0.3, 0.0]]))
    chip.gradients("layer", np.float32([[0.25]]))
    row = seen(chip, "gradient_input")
    exact, found = np.array([1, -0.75, 0.3, 0.25]), np.array([1, -1, 0.25, 0.25])
    inner = float(exact @ found)
    assert row["cosine"] == pytest.approx(inner / math.sqrt(float(exact @ exact) * float(found @ found)))
    assert row["gain"] == pytest.approx(inner / float(exact @ exact))
    assert row["exponents"] == [[-2, 2], [-1, 1], [0, 1]]
    chip = executor()
    chip.observed = Observer()
    chip.gradients("layer", np.float32([[0.0, math.nan, math.inf]]))
    row = seen(chip, "gradient_input")
    assert (row["cosine"], row["gain"], row["exponents"]) == (None, None, [])


def test_a_test_step_keeps_nothing() -> None:
    """What the backward pass would need is kept in training only, and forgotten at the next step."""
    chip = executor()
    chip.keep("layer", "mask", 1)
    assert chip.kept("layer", "mask") == 1
    chip.begin(training=False)
    chip.keep("layer", "mask", 2)
    with pytest.raises(KeyError):
        chip.kept("layer", "mask")


def test_a_site_may_be_asked_several_times_a_step() -> None:
    """Backward answers the last activation first, the clip's gradients add up, and the largest votes once."""
    chip = executor(nonnegative=False)
    first, second = np.float32([[3, 1]]), np.float32([[1, -3]])
    chip.activation("layer", first)
    chip.activation("layer", second)
    dx = np.float32([[4, 8]])
    assert chip.activation_backward("layer", dx).tolist() == [[4, 0]]
    assert chip.activation_backward("layer", dx).tolist() == [[0, 8]]
    assert chip.gradients_by_key[f"layer.{CLIP}"].tolist() == [4 - 8]
    for largest in (1.0, 0.25, 2.0, 0.5):
        chip.gradients("layer", np.float32([[largest]]))
    assert chip.state.gradient_exponents["layer"] == 6
    chip.end_of_update()
    assert chip.state.gradient_exponents["layer"] == 5


def test_gradients_of_one_parameter_add_up() -> None:
    """What two uses of a weight hand over is added, and what was handed over before stays as it was."""
    chip = executor()
    first = np.float32([1, 2])
    chip.add_gradient("layer", "weight", first)
    chip.add_gradient("layer", "weight", np.float32([10, 20]))
    assert chip.gradients_by_key["layer.weight"].tolist() == [11, 22]
    assert first.tolist() == [1, 2]
    chip.begin(training=True)
    assert chip.gradients_by_key == {}


def test_a_layer_may_have_several_weights() -> None:
    """Each parameter is quantised by its own clip, once per update."""
    chip = executor()
    chip.state.parameters["layer.state"] = np.float32([[8.0, -4.0, 2.0]])
    state = chip.weight("layer", (1, 3), "state")
    assert chip.weight("layer", (2, 2)).array.shape == (2, 2)
    assert chip.weight("layer", (1, 3), "state") is state


def test_dropout_masks_follow_seed_step_layer_and_turn() -> None:
    """The share kept is 1 - rate; another step, layer or turn draws anew, and a repeated step the same."""
    chip = executor()
    mask = chip.dropout_mask("layer", (100, 50), 0.25)
    assert abs(mask.mean() - 0.75) < 0.02
    assert (chip.dropout_mask("layer", (100, 50), 0.25) != mask).any()
    chip.begin(training=True)
    assert (chip.dropout_mask("layer", (100, 50), 0.25) == mask).all()
    chip.begin(training=True)
    assert (chip.dropout_mask("other", (100, 50), 0.25) != mask).any()
    chip.begin(training=True)
    chip.state.step += 1
    assert (chip.dropout_mask("layer", (100, 50), 0.25) != mask).any()
    assert chip.dropout_mask("layer", (9,), 0.0).all()


def with_recipe(name: str, **changes: Any) -> ChipExecutor:
    """An executor with one quantised layer by another recipe, some of its keys changed."""
    recipe = load_recipe(name)
    recipe = recipe.model_copy(update=changes)
    rules = recipe.rules((), (), 0.0, nonnegative=False)
    parameters = {"layer.weight": np.float32([[0.5, -0.25], [1.0, 0.0]])}
    planner = executor()._planner
    made = ChipExecutor(planner, recipe, {"layer": rules, "other": rules}, TrainingState(parameters))
    made.begin(training=True)
    return made


def test_one_scale_for_the_network() -> None:
    """With scope 'network' the first gradient sets the scale of all, and the largest of all layers votes."""
    chip = with_recipe("ibm2020_fp4_global_scale")
    chip.gradients("layer", np.float32([[1.0]]))
    small = chip.gradients("other", np.float32([[0.001]]))[0]
    assert chip.state.gradient_exponents == {NETWORK: 6}
    assert small.scale == 2.0**-6
    chip.gradients("other", np.float32([[3.0]]))
    chip.end_of_update()
    assert chip.state.gradient_exponents == {NETWORK: 5}


def test_scales_by_the_maximum_need_no_memory() -> None:
    """Weights, activations and gradients each take the step of their own extremes, anew each time."""
    chip = with_recipe("linear_int4")
    x = np.float32([[8.0, -4.0, 0.5]])
    for operand in (chip.activation("layer", x), *chip.gradients("layer", x)):
        assert (operand.format, operand.scale) == ("int4", float(number_format("dlfloat16").round(8 / 7)))
        assert operand.array.tolist() == [[7, 16 - 4, 0]]
    assert chip.weight("layer", (2, 2)).array.tolist() == [[4, 16 - 2], [7, 0]]
    assert chip.state.gradient_exponents == {}
    assert chip.activation_backward("layer", x) is x


def test_stochastic_gradients_follow_step_and_turn() -> None:
    """Both GEMMs take one drawing; another turn or step draws anew, and a repeated step the same."""
    chip = with_recipe("luq2023")
    dy = np.random.default_rng(1).normal(0, 1, (20, 30)).astype(np.float32)
    first, weight = chip.gradients("layer", dy)
    assert first is weight
    assert (chip.gradients("layer", dy)[0].array != first.array).any()
    chip.begin(training=True)
    assert (chip.gradients("layer", dy)[0].array == first.array).all()
    chip.begin(training=True)
    chip.state.step += 1
    assert (chip.gradients("layer", dy)[0].array != first.array).any()


def test_samples_reach_the_array() -> None:
    """With samples the dL/dW operand is drawn where it is multiplied, with the step of its maximum."""
    chip = with_recipe("luq2023_smp")
    for_input, for_weight = chip.gradients("layer", np.float32([[8.0, 1.0]]))
    assert for_input.array.tolist() == [[7, 4]]
    assert isinstance(for_weight, EdgeOperand)
    assert (for_weight.samples, for_weight.scale, for_weight.format) == (2, 1.0, "fp4_e3m0")


def test_block_operands_wait_for_their_product() -> None:
    """Values travel as they are; weights in squares, gradients stochastic and turned by the transform."""
    chip = with_recipe("nvfp4")
    x = np.float32([[1.0, 2.0]])
    weight, activation = chip.weight("layer", (2, 2)), chip.activation("layer", x)
    gradients = chip.gradients("layer", x)
    for operand in (weight, activation, *gradients):
        assert isinstance(operand, EdgeOperand)
        assert operand.format == "nvfp4"
    assert isinstance(weight, EdgeOperand)
    assert weight.square
    assert [getattr(one, "signs", None) is None for one in gradients] == [True, False]
    assert [getattr(one, "key", None) is None for one in (weight, activation, *gradients)] == [
        True, True, False, False,
    ]  # fmt: skip


@pytest.mark.parametrize(("gradient", "limit"), [(np.inf, -126), (1.0, 126)], ids=["down", "up"])
def test_a_loss_scale_stays_a_number(gradient: float, limit: int) -> None:
    """However long a run overflows, or does not, its loss scale stays within float32's normal numbers."""
    chip = with_recipe("fp16_dlfloat", loss_scale=DynamicLossScale(initial=1024.0, growth_interval=1))
    for _ in range(150):
        chip.begin(training=True)
        assert 2.0**-126 <= chip.loss_scale <= 2.0**126
        chip.add_gradient("fc", "bias", np.float32([gradient]))
        chip.usable_gradients()
        chip.end_of_update()
    assert chip.loss_scale == 2.0**limit


def test_a_dynamic_loss_scale() -> None:
    """Halved, and no gradient handed on, where one is not finite; doubled at every interval."""
    rule = DynamicLossScale(initial=1024.0, growth_interval=2)
    chip = with_recipe("fp16_dlfloat", loss_scale=rule)
    assert chip.loss_scale == 1024.0
    for step, (gradient, scale) in enumerate([(1.0, 1024), (1.0, 2048), (math.inf, 1024), (1.0, 2048)], 1):
        chip.begin(training=True)
        chip.add_gradient("layer", "weight", np.float32([gradient]))
        assert bool(chip.usable_gradients()) == math.isfinite(gradient)
        chip.state.step = step
        chip.end_of_update()
        assert chip.loss_scale == scale
    fixed = with_recipe("fp16_dlfloat")
    fixed.add_gradient("layer", "weight", np.float32([math.inf]))
    assert fixed.usable_gradients() == fixed.gradients_by_key


@pytest.mark.parametrize("scale", ["sawb", "max"])
def test_stochastic_weights_do_not_depend_on_when_they_are_asked_for(scale: str) -> None:
    """After an update a test may come first or not (a resumed run has none): the codes are the same."""
    rule = WeightRule(format="int4", scale=scale, rounding="stochastic")  # type: ignore[arg-type]
    master = np.random.default_rng(3).normal(0, 1, (20, 30)).astype(np.float32)
    codes = []
    for draws in (0, 2):
        chip = with_recipe("luq2023", weight=rule)
        chip.state.parameters["layer.weight"] = master
        for _ in range(draws):
            chip.gradients("layer", master)
        codes.append(chip.weight("layer", master.shape).array)
    assert (codes[0] == codes[1]).all()
    chip.state.step += 1
    chip.end_of_update()
    assert (chip.weight("layer", master.shape).array != codes[0]).any()
