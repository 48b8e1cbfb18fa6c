"""The training systems that ship: each has a chip that can run it, and says what its source says."""

from __future__ import annotations

import re

import pytest

import accelsim
from accelsim.chip import load_chip
from accelsim.errors import InputError
from accelsim.numerics.formats import number_format
from accelsim.program.formats import site_rules
from accelsim.recipe import Recipe, SiteRules, load_recipe
from accelsim.storage import resource_dir, shipped
from accelsim.workload import load_workload

HOMES = {
    "bf16": "bf16_training",
    "choi2019_int2": "int2_training",
    "fp16_dlfloat": "fp16_training",
    "fp16_ieee": None,  # no shipped chip multiplies IEEE half
    "gupta2015_fixed16": "fixed16_training",
    "gupta2015_fixed16_nearest": "fixed16_training",
    "ibm2018_fp8": "hfp8_training",
    "ibm2018_fp8_nearest": "hfp8_training",
    "ibm2019_hfp8": "hfp8_training",
    "ibm2020_fp4": "fp4_training",
    "ibm2020_fp4_1x1_fp8": "fp4_fp8_training",
    "ibm2020_fp4_all_layers": "fp4_training",
    "ibm2020_fp4_bottom_1x1_fp8": "fp4_fp8_training",
    "ibm2020_fp4_dlfloat16_master": "fp4_training",
    "ibm2020_fp4_dw_fp8": "fp4_fp8_training",
    "ibm2020_fp4_global_scale": "fp4_training",
    "ibm2020_fp4_radix16": "radix_training",
    "ibm2020_fp4_radix2": "radix_training",
    "ibm2020_fp4_radix8": "radix_training",
    "ibm2020_fp4_single_phase": "fp4_training",
    "ibm2020_fp4_swapped": "fp4_training",
    "ibm2020_fp4_threshold2": "fp4_training",
    "ibm2020_fp4_ties_down": "fp4_training",
    "int4_e2m1_stochastic": "radix_training",
    "linear_int4": "fp4_training",
    "luq2023": "luq_training",
    "luq2023_smp": "luq_training",
    "miyashita2016_log5": "log5_training",
    "mxfp4": "mx_training",
    "nvfp4": "mx_training",
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
