"""Networks for language on chips: close to exact arithmetic in 16 bits, whole and repeatable in 4."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from plain_executor import PlainExecutor, key_of
from tiny_workload import written
from token_workload import TRANSLATOR, token_workload

from accelsim.chip import load_chip
from accelsim.datapath.quantisers import rms_scale
from accelsim.mapping import Planner
from accelsim.numerics.formats import number_format
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.run.chip_executor import CLIP, ChipExecutor
from accelsim.run.state import initial_state
from accelsim.storage import resource_dir
from accelsim.workload import Workload

MODEL = """\
  - embedding: {tokens: 7, features: 6, deviation: 1, name: words}
  - lstm: {features: 5}
  - lstm: {features: 3, bidirectional: true}
  - layer_norm
  - unembedding: {of: words}
"""
IDS = np.random.default_rng(1).integers(0, 7, (3, 9)).astype(np.float32)


def executor(workload: Workload, chip: str, recipe_name: str) -> ChipExecutor:
    """A chip at the start of a training step."""
    recipe = load_recipe(recipe_name)
    rules = compile_program(workload, recipe).rules
    made = ChipExecutor(Planner(load_chip(chip)), recipe, rules, initial_state(workload), 1)
    made.begin(training=True)
    return made


def step(workload: Workload, chip: ChipExecutor, ids: np.ndarray) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Logits, and gradients of a fixed weighing of them."""
    y = workload.network.forward(ids, chip)
    r = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    workload.network.backward(chip.vector.scaled_mask(r, r == r, 1.0), chip)
    return y, dict(chip.gradients_by_key)


@pytest.mark.parametrize(("layers", "positions"), [(TRANSLATOR, 9), (MODEL, 9)], ids=["translator", "lstm"])
def test_16_bits_are_close_to_exact_arithmetic(tmp_path: Path, layers: str, positions: int) -> None:
    """The same parameters in float64 loops: logits and every gradient differ by roundings only."""
    workload = token_workload(tmp_path, layers, positions, 4 if layers == TRANSLATOR else 9)
    chip = executor(workload, "fp16_training", "fp16_dlfloat")
    # larger first weights than the drawn ones, so that attention has something to tell apart
    for value in chip.state.parameters.values():
        value += np.random.default_rng(value.size).normal(0, 0.3, value.shape).astype(np.float32)
    y, gradients = step(workload, chip, IDS)
    plain = PlainExecutor(list(workload.network.leaves()))
    plain.parameters = {
        key_of(*key.split(".", 1)): value.astype(np.float64) for key, value in chip.state.parameters.items()
    }
    expected = workload.network.forward(IDS.astype(np.float64), plain)
    np.testing.assert_allclose(y, expected, rtol=0.05, atol=0.05 * np.abs(expected).max())
    r = np.random.default_rng(2).normal(size=y.shape).astype(np.float32)
    workload.network.backward(r.astype(np.float64), plain)
    assert len(gradients) == len(plain.gradients_found) > 5
    for key, gradient in gradients.items():
        exact = plain.gradients_found[key_of(*key.split(".", 1))]
        error = np.linalg.norm(gradient - exact) / np.linalg.norm(exact)
        assert error < 0.1, key


@pytest.mark.parametrize("layers", [TRANSLATOR, MODEL], ids=["translator", "lstm"])
def test_4_bits_train_every_site(tmp_path: Path, layers: str) -> None:
    """Every operand site has a clip of its own and a gradient scale where gradients enter; runs repeat."""
    workload = token_workload(tmp_path, layers, 9, 4 if layers == TRANSLATOR else 9)
    found = []
    for _ in range(2):
        chip = executor(workload, "fp4_training", "ibm2020_fp4")
        y, gradients = step(workload, chip, IDS)
        chip.end_of_update()
        assert all(np.isfinite(gradient).all() for gradient in gradients.values())
        found.append((y.tobytes(), {key: value.tobytes() for key, value in gradients.items()}))
    assert found[0] == found[1]
    clips = {key.removesuffix(f".{CLIP}") for key in gradients if key.endswith(CLIP)}
    if layers == MODEL:
        assert {"lstm1.state", "lstm2.state", "lstm2.input"} <= clips
        assert {"lstm1.state", "lstm1.input"} <= set(chip.state.gradient_exponents)
    else:
        operands = ("query", "key", "probabilities", "value", "key_value")
        assert {f"cross_attention1.{operand}" for operand in operands} <= clips
        scales = {"attention1.query", "attention1.probabilities", "cross_attention1.key_value"}
        assert scales <= set(chip.state.gradient_exponents)


@pytest.mark.parametrize(
    ("recipe", "chip"),
    [
        ("ibm2019_hfp8", "hfp8_training"),
        ("linear_int4", "fp4_training"),
        ("luq2023", "luq_training"),
        ("nvfp4", "mx_training"),
    ],
)
@pytest.mark.parametrize("layers", [TRANSLATOR, MODEL], ids=["translator", "lstm"])
def test_other_systems_train_the_same_networks(tmp_path: Path, layers: str, recipe: str, chip: str) -> None:
    """Scales that change from one step of an LSTM to the next, blocks along K, stochastic gradients."""
    workload = token_workload(tmp_path, layers, 9, 4 if layers == TRANSLATOR else 9)
    y, gradients = step(workload, executor(workload, chip, recipe), IDS)
    exact, wanted = step(workload, executor(workload, "fp16_training", "fp16_dlfloat"), IDS)
    assert np.abs(y - exact).max() < np.abs(exact).max()
    weights = [key for key in wanted if key.endswith("weight")]
    found, true = (np.concatenate([one[key].ravel() for key in weights]) for one in (gradients, wanted))
    assert np.dot(found, true) > 0.5 * np.linalg.norm(found) * np.linalg.norm(true)


def test_an_operand_asked_for_again_is_not_remembered(tmp_path: Path) -> None:
    """The same codes by the same clip; the backward pass answers the call before."""
    chip = executor(token_workload(tmp_path, MODEL, 9, 9), "fp4_training", "ibm2020_fp4")
    chip.state.parameters[f"lstm1.state.{CLIP}"] = np.float32([1.0])
    x = np.float32([[0.5, 2.0, -0.25]])
    first = chip.activation("lstm1.state", x)
    again = chip.activation("lstm1.state", -x, remember=False)
    assert first.scale == again.scale
    assert first.array.tolist() != again.array.tolist()
    dx = np.float32([[1, 1, 1]])
    assert chip.activation_backward("lstm1.state", dx).tolist() == [[1, 0, 1]]


def test_a_table_is_read_in_the_formats_of_its_reader(tmp_path: Path) -> None:
    """An unembedding reads the embedding's master table by its own rule."""
    chip = executor(token_workload(tmp_path, MODEL, 9, 9), "fp4_training", "ibm2020_fp4")
    operand = chip.weight("unembedding1", (7, 6), "weight", "words")
    assert operand.format == "dlfloat16"
    np.testing.assert_allclose(operand.array, chip.parameter("words", "weight"), rtol=1e-3, atol=1e-9)


def test_stacks_are_products_one_by_one(tmp_path: Path) -> None:
    """A stack of operands gives what each of its matrices gives."""
    workload = token_workload(tmp_path, TRANSLATOR)
    chip = executor(workload, "fp4_training", "ibm2020_fp4")
    (leaf,) = [leaf for leaf in workload.network.leaves() if leaf.site.name == "attention1"]
    works = leaf.layer.work(
        leaf.site, 3, {one.name: chip.formats(one.name) for one in leaf.layer.sites(leaf.site)}
    )
    gemm = works[0].gemms[0]
    random = np.random.default_rng(3)
    q, k = (random.normal(size=(gemm.groups, *shape)).astype(np.float32) for shape in ((5, 3), (5, 3)))
    a, b = chip.activation("attention1.query", q), chip.activation("attention1.key", k)
    b = b.rearranged(b.array.transpose(0, 2, 1))
    stack = chip.multiply(gemm, a, b)
    for group in range(gemm.groups):
        one = chip.multiply(gemm, a.rearranged(a.array[group]), b.rearranged(b.array[group]))
        np.testing.assert_array_equal(stack[group], one)


def test_probabilities_have_a_rule_of_their_own(tmp_path: Path) -> None:
    """An override for them moves no other place of an attention, nor any linear layer."""
    recipe = load_recipe(
        written(
            tmp_path,
            (resource_dir("recipes") / "ibm2020_fp4.yaml").read_text(encoding="utf-8")
            + "overrides: [{kinds: [probabilities], activation: {unsigned_format: uint4, "
            "signed_format: int4, scale: max, rounding: stochastic}}]\n",
        )
    )
    rules = compile_program(token_workload(tmp_path, TRANSLATOR, 9, 4), recipe).rules
    chosen = {site for site, rule in rules.items() if rule.activation.scale == "max"}
    assert chosen == {site for site in rules if site.endswith(".probabilities")}
    assert len(chosen) == 4


def test_a_clip_of_deviations_follows_the_values_and_trains_nothing(tmp_path: Path) -> None:
    """The step is that of the rule on what comes; no clip becomes a parameter, no gradient is cut."""
    text = (resource_dir("recipes") / "ibm2020_fp4.yaml").read_text(encoding="utf-8")
    old = "scale: pact, initial_clip: first_batch, clip_decay: 0.0005"
    assert old in text
    recipe = load_recipe(written(tmp_path, text.replace(old, "scale: rms, deviations: [2, 3]")))
    workload = token_workload(tmp_path, MODEL, 9, 9)
    rules = compile_program(workload, recipe).rules
    chip = ChipExecutor(Planner(load_chip("fp4_training")), recipe, rules, initial_state(workload), 1)
    chip.begin(training=True)
    x = np.random.default_rng(1).normal(0, 0.7, (8, 5)).astype(np.float32)
    operand = chip.activation("lstm2.input", x)
    assert operand.scale == rms_scale(x, number_format("int4"), 2.0, "dlfloat16")
    assert set(operand.array.reshape(-1)) & {7, 9}
    assert 8 not in operand.array
    assert np.array_equal(chip.activation_backward("lstm2.input", x), x)
    assert not [key for key in chip.state.parameters if key.endswith(CLIP)]
