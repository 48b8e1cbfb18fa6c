"""The training systems that ship: each has a chip that can run it, and says what its source says."""

from __future__ import annotations

import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

import accelsim
from accelsim import api
from accelsim.chip import load_chip
from accelsim.errors import InputError
from accelsim.numerics.formats import number_format
from accelsim.numerics.quantise import round_to
from accelsim.operations import LayerWork
from accelsim.program import compile_program
from accelsim.program.formats import site_rules
from accelsim.recipe import Recipe, SiteRules, load_recipe
from accelsim.storage import resource_dir, shipped
from accelsim.workload import load_workload

HOMES = {
    "bf16": "bf16_training",
    "choi2019_int2": "int2_training",
    "fp16_dlfloat": "fp16_training",
    "fp16_ieee": None,  # for a100 and v100, whose silicon is another
    "fp32": None,
    "gupta2015_fixed16": "fixed16_training",
    "gupta2015_fixed16_nearest": "fixed16_training",
    "ibm2018_fp8": "hfp8_training",
    "ibm2018_fp8_nearest": "hfp8_training",
    "ibm2019_hfp8": "hfp8_training",
    "ibm2020_fp4": "fp4_training",
    "ibm2020_fp4_1x1_fp8": "fp4_fp8_training",
    "ibm2020_fp4_all_layers": "fp4_training",
    "ibm2020_fp4_attention16": "fp4_training",
    "ibm2020_fp4_bottom_1x1_fp8": "fp4_fp8_training",
    "ibm2020_fp4_dlfloat16_master": "fp4_training",
    "ibm2020_fp4_dw_fp8": "fp4_fp8_training",
    "ibm2020_fp4_global_scale": "fp4_training",
    "ibm2020_fp4_no_gradscale": "fp4_training",
    "ibm2020_fp4_radix16": "radix_training",
    "ibm2020_fp4_radix2": "radix_training",
    "ibm2020_fp4_radix8": "radix_training",
    "ibm2020_fp4_single_phase": "fp4_training",
    "ibm2020_fp4_stochastic": "fp4_training",
    "ibm2020_fp4_swapped": "fp4_training",
    "ibm2020_fp4_threshold2": "fp4_training",
    "ibm2020_fp4_ties_down": "fp4_training",
    "int4_e2m1_stochastic": "radix_training",
    "int4_luq_pact_rms": "luq_training",
    "int4_luq_rms": "luq_training",
    "int4_luq_pact_rms_attention16": "luq_training",
    "linear_int4": "fp4_training",
    "luq2023": "luq_training",
    "luq2023_smp": "luq_training",
    "miyashita2016_log5": "log5_training",
    "mxfp4": "mx_training",
    "nvfp4": "mx_training",
    "tf32": None,
}


def test_the_systems_of_the_documentation_ship() -> None:
    """The set that the documentation names; inference recipes of validated chips stand elsewhere."""
    assert set(HOMES) <= set(shipped("recipes"))


@pytest.mark.parametrize(("recipe", "chip"), [row for row in HOMES.items() if row[1]])
def test_a_chip_can_run_it(recipe: str, chip: str) -> None:
    """Every GEMM of a network with all kinds of layers finds a mode, and its price adds up."""
    record = accelsim.estimate(chip, "fashion_depthwise", recipe=recipe, batch=4)
    assert record.cost.step_cycles > 0
    assert record.recipe.name == recipe


def test_a_chip_that_cannot_run_it_says_why() -> None:
    """Layer, phase, the pair of formats, and what the chip takes instead."""
    with pytest.raises(InputError) as caught:
        accelsim.estimate("fp4_training", "letters_mlp", recipe="mxfp4")
    assert str(caught.value).startswith(
        "layer 'linear1' (forward): chip 'fp4_training' has no mode that multiplies bf16 x bf16; its "
    )
    with pytest.raises(InputError, match=r"'fp4_training' has no mode that multiplies u?int4 x fp8_e5m2_ibm"):
        accelsim.estimate("fp4_training", "letters_mlp", recipe="ibm2020_fp4_dw_fp8")


def test_no_code_asks_for_a_recipe_by_name() -> None:
    """A training system is a data file: no source compares the name of one."""
    room = resource_dir("recipes").parent.parent
    asked = re.compile(r"recipe\.name\s*(==|!=|in\b|not in\b)|match recipe\.name")
    for path in room.rglob("*.py"):
        assert not asked.search(path.read_text(encoding="utf-8")), path


def test_iso_area() -> None:
    """The array of each peer takes the silicon of the 16-bit chip's within 2 %."""
    wide = load_chip("fp16_training").array
    area = wide.rows * wide.cols * wide.area_um2_per_pe.value
    for name in {home for home in HOMES.values() if home}:
        array = load_chip(name).array
        assert abs(array.rows * array.output_cols * array.area_um2_per_pe.value / area - 1) < 0.02, name


def rules_of(recipe: Recipe, workload: str = "resnet50_cifar10") -> dict[str, SiteRules]:
    return site_rules(list(load_workload(workload).network.leaves()), recipe)


def test_the_hybrids_change_1x1_convolutions_only() -> None:
    """All of them or those of the first half get FP8 gradients; 3x3, first and last ones stay."""
    leaves = {
        leaf.site.name: getattr(leaf.layer, "kernel", 0)
        for leaf in load_workload("resnet50_cifar10").network.leaves()
        if leaf.layer.has_gemm
    }
    plain = rules_of(load_recipe("ibm2020_fp4"))
    every = rules_of(load_recipe("ibm2020_fp4_1x1_fp8"))
    bottom = rules_of(load_recipe("ibm2020_fp4_bottom_1x1_fp8"))
    pointwise = [name for name, kernel in leaves.items() if kernel == 1]
    changed = [name for name in leaves if every[name] != plain[name]]
    assert changed == pointwise
    assert {every[name].formats.gradient_weight for name in changed} == {"fp8_e5m2_ibm"}
    some = [name for name in leaves if bottom[name] != plain[name]]
    assert some == pointwise[: len(some)]
    assert 0.4 < len(some) / len(pointwise) < 0.6


@pytest.mark.parametrize("name", ["ibm2020_fp4", "int4_luq_pact_rms"])
def test_the_hybrid_of_transformers_changes_attention_only(name: str) -> None:
    """Both products of each attention have operands of 16 bits in all phases; the linear layers stay."""
    plain = rules_of(load_recipe(name), "phonemes_transformer")
    wide = rules_of(load_recipe(f"{name}_attention16"), "phonemes_transformer")
    changed = {site for site in plain if wide[site] != plain[site]}
    assert changed == {site for site in plain if "attention" in site}
    operands = {(wide[site].formats.activation, wide[site].formats.gradient_input) for site in changed}
    assert operands == {("dlfloat16", "dlfloat16")}


def test_the_radixes_differ_in_the_gradient_format_alone() -> None:
    """Weights, activations and scale rules are those of the paper's system."""
    paper = load_recipe("ibm2020_fp4")
    for radix in (2, 8, 16):
        other = load_recipe(f"ibm2020_fp4_radix{radix}")
        assert (other.weight, other.activation, other.high_precision) == (
            paper.weight,
            paper.activation,
            paper.high_precision,
        )
        assert other.gradient.scale == paper.gradient.scale
        assert number_format(other.gradient.input_format).radix == radix


def test_samples_and_transforms_are_counted() -> None:
    """Two samples run every 4-bit dL/dW GEMM twice; the transform passes both operands of each."""
    workload = load_workload("letters_mlp")

    def updates(name: str) -> dict[str, LayerWork]:
        works = compile_program(workload, load_recipe(name)).works
        return {work.layer: work for work in works if work.phase == "update" and work.gemms}

    once, twice = updates("luq2023"), updates("luq2023_smp")
    assert [len(work.gemms) for work in once.values()] == [1, 1, 1, 1]
    assert [len(work.gemms) for work in twice.values()] == [1, 2, 2, 1]
    gemm = once["linear2"].gemms[0]
    added = [work for work in twice["linear2"].vector_work if work not in once["linear2"].vector_work]
    assert [(work.function, work.elements) for work in added] == [
        ("gradient_codes", gemm.b.elements),
        ("sample_mean", gemm.out.elements),
    ]
    turned, plain = updates("nvfp4")["linear2"].vector_work, updates("mxfp4")["linear2"].vector_work
    (extra,) = [work for work in turned if work not in plain]
    assert (extra.function, extra.elements) == ("hadamard", gemm.a.elements + gemm.b.elements)


def test_tensors_of_block_formats_have_their_scales() -> None:
    """Bytes in memory are 4.25 and 4.5 bits an element, rounded up to whole bytes per tensor."""
    for name, bits in (("mxfp4", Fraction(17, 4)), ("nvfp4", Fraction(9, 2))):
        program = compile_program(load_workload("letters_mlp"), load_recipe(name))
        gemm = next(gemm for gemm in program.gemms if gemm.a_format == name)
        assert gemm.a.bits == bits
        assert gemm.a.size_bytes == -(-gemm.a.elements * bits // 8)


def test_a_chip_may_store_fixed_point(tmp_path: Path) -> None:
    """The vector unit stores 16 bits, or single precision; another width is refused with what is allowed."""
    text = (resource_dir("arch_configs") / "fixed16_training.yaml").read_text(encoding="utf-8")
    path = tmp_path / "own.yaml"
    path.write_text(
        text.replace("storage_format: fixed16_6_10", "storage_format: fixed8_4_4"), encoding="utf-8"
    )
    with pytest.raises(InputError) as caught:
        load_chip(path)
    assert (
        "vector_unit.storage_format: must be one of dlfloat16, fp16, bf16, fp32 or fixed16_<IL>_<FL>"
        in str(caught.value)
    )


def test_tf32_trains_where_single_precision_is_stored(tmp_path: Path) -> None:
    """A step with TF32 operands is near that of float32; a chip that stores 16 bits is told so."""
    text = (resource_dir("arch_configs") / "a100.yaml").read_text(encoding="utf-8")
    path = tmp_path / "own.yaml"
    path.write_text(text.replace("storage_format: fp16", "storage_format: fp32"), encoding="utf-8")
    found = api.probe(path, "letters_mlp", recipe="tf32", steps=1, batch=8)
    (step,) = found.steps
    assert step.loss == pytest.approx(step.float32_loss, rel=1e-2)
    with pytest.raises(
        InputError, match="'tf32' stores tensors in fp32, but the vector unit of chip 'a100' wr"
    ):
        api.probe("a100", "letters_mlp", recipe="tf32", steps=1, batch=8)


def test_tensors_in_fixed_point_round_once() -> None:
    """To the nearest step, half to even, saturating; what is not a number becomes zero."""
    values = np.float32([0.0001, 1.5 * 2**-12, 2.5 * 2**-12, 9, -9, np.nan, np.inf, 1.25])
    found = round_to(values, "fixed16_4_12").tolist()
    assert found == [0, 2 * 2**-12, 2 * 2**-12, 8 - 2**-12, -8, 0, 8 - 2**-12, 1.25]
