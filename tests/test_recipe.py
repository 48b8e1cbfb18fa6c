"""Recipes: the shipped ones load, mistakes are one line, and every layer gets the formats its rule says."""

from __future__ import annotations

from pathlib import Path

import pytest

import accelsim
from accelsim.errors import InputError
from accelsim.network import AveragePool, BatchNorm, Conv2d, Layer, Leaf, Linear, Relu, Sequence, Site
from accelsim.operations import TensorFormats
from accelsim.program.formats import site_rules
from accelsim.recipe import Recipe, load_recipe
from accelsim.storage import resource_dir, shipped

TEXT = (resource_dir("recipes") / "ibm2020_fp4.yaml").read_text(encoding="utf-8")
WIDE = TensorFormats("dlfloat16", "dlfloat16", "dlfloat16", "dlfloat16", "dlfloat16", "fp32")
SIGNED = TensorFormats("int4", "int4", "fp4_r4_even", "fp4_r4_odd", "dlfloat16", "fp32")
UNSIGNED = TensorFormats("int4", "uint4", "fp4_r4_even", "fp4_r4_odd", "dlfloat16", "fp32")


def edited(tmp_path: Path, *changes: tuple[str, str]) -> Path:
    """The 4-bit recipe with the first occurrence of each text replaced."""
    text = TEXT
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path = tmp_path / "own.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("name", shipped("recipes"))
def test_a_shipped_recipe_loads_under_its_own_name(name: str) -> None:
    """File name and recipe name agree, and the file is kept word for word for records."""
    recipe = load_recipe(name)
    assert (recipe.name, recipe.source_name) == (name, f"{name}.yaml")
    assert f"name: {name}\n" in recipe.source_text


def test_the_16_bit_recipe_is_a_configuration() -> None:
    """A quantised layer and a high-precision one have the same formats: there is one road, not two."""
    recipe = load_recipe("fp16_dlfloat")
    low = [recipe.rules((), (), 0.0, nonnegative=each).formats for each in (True, False)]
    assert [*low, recipe.wide_rules().formats] == [WIDE, WIDE, WIDE]


MISTAKES = [
    (
        "loss_scale",
        "storage: dlfloat16",
        "storage: dlfloat16\nloss_scale: 0",
        "loss_scale: must be above 0, got 0",
    ),
    (
        "storage",
        "storage: dlfloat16",
        "storage: fp8",
        "storage: must be one of dlfloat16, fp16, bf16, fp32 or fixed16_<IL>_<FL>, got 'fp8'",
    ),
    (
        "storage",
        "storage: dlfloat16",
        "storage: fixed16_9_9",
        "storage: fixed16_9_9: integer and fraction bits must add up to 16, got 18",
    ),
    ("master", "master: fp32", "master: int8", "master: must be one of dlfloat16, fp16, bf16, fp32 or fixed"),
    (
        "loss_scale",
        "storage: dlfloat16",
        "storage: dlfloat16\nloss_scale: {initial: 3, growth_interval: 9}",
        "loss_scale: 'initial' must be a power of two, got 3",
    ),
    ("name", "name: ibm2020_fp4", "name: IBM", "name: must match ^[a-z0-9_]+$, got 'IBM'"),
    (
        "format",
        "weight: {format: int4",
        "weight: {format: int9",
        "weight.format: unknown number format 'int9' (did you mean 'int8'?); allowed: ",
    ),
    (
        "format",
        "weight: {format: int4",
        'weight: {format: "a\\nb"',
        "weight.format: unknown number format 'a\\nb'; allowed: ",
    ),
    (
        "signed_format",
        " signed_format: int4",
        " signed_format: int9",
        "activation.signed_format: unknown number format 'int9'",
    ),
    (
        "unsigned_format",
        "unsigned_format: uint4",
        "unsigned_format: uint9",
        "activation.unsigned_format: unknown number format",
    ),
    (
        "input_format",
        "fp4_r4_even",
        "fp4_r4_evn",
        "gradient.input_format: unknown number format 'fp4_r4_evn' (did you mean 'fp4_r4_even'?)",
    ),
    ("weight_format", "fp4_r4_odd", "fp4_odd", "gradient.weight_format: unknown number format 'fp4_odd'"),
    (
        "scale",
        "weight: {format: int4",
        "weight: {format: uint4",
        "weight.scale: 'sawb' needs int2, int4 or int8, but the format is uint4",
    ),
    (
        "scale",
        "weight: {format: int4",
        "weight: {format: fp16",
        "weight.scale: 'sawb' needs int2, int4 or int8, but the format is fp16",
    ),
    (
        "scale",
        "scale: sawb",
        "scale: cast",
        "weight.scale: 'cast' does not scale, but the format is int4; int4 needs 'sawb'",
    ),
    (
        "scale",
        "scale: sawb",
        "scale: swab",
        "weight.scale: must be one of cast, sawb, max, max_power, block, got 'swab' (did you mean 'sawb'?)",
    ),
    (
        "scale",
        "unsigned_format: uint4",
        "unsigned_format: fp16",
        "activation.scale: 'pact' needs an integer format, but unsigned_format is fp16",
    ),
    (
        "scale",
        "unsigned_format: uint4, signed_format: int4, scale: pact",
        "unsigned_format: uint4, signed_format: fp16, scale: rms",
        "activation.scale: 'rms' needs an integer format, but signed_format is fp16",
    ),
    (
        "scale",
        " signed_format: int4",
        " signed_format: fp16",
        "activation.scale: 'pact' needs an integer format, but signed_format is fp16",
    ),
    (
        "scale",
        "scale: pact",
        "scale: cast",
        "activation.scale: 'cast' does not scale, but unsigned_format is uint4; uint4 needs 'pact'",
    ),
    (
        "signed_format",
        " signed_format: int4",
        " signed_format: uint4",
        "activation.signed_format: must be signed, got uint4",
    ),
    ("initial_clip", "first_batch", "0", "activation.initial_clip: must be above 0, got 0"),
    ("initial_clip", "first_batch", "-2.5", "activation.initial_clip: must be above 0, got -2.5"),
    (
        "initial_clip",
        "first_batch",
        "second",
        "activation.initial_clip: must be a number or 'first_batch', got 'second'",
    ),
    (
        "clip_decay",
        "clip_decay: 0.0005",
        "clip_decay: -1",
        "activation.clip_decay: must be at least 0, got -1",
    ),
    (
        "input_format",
        "fp4_r4_even",
        "int4",
        "gradient.input_format: 'gradscale' needs a floating-point format, got int4",
    ),
    (
        "weight_format",
        "fp4_r4_odd",
        "int8",
        "gradient.weight_format: 'gradscale' needs a floating-point format, got int8",
    ),
    (
        "ties",
        "fp4_r4_even, weight_format: fp4_r4_odd, scale: gradscale, ties: up",
        "fp4_e2m1, weight_format: fp4_r4_odd, scale: gradscale, ties: down",
        "gradient.ties: is for radix 4, but input_format is fp4_e2m1; 'rounding' says how others round",
    ),
    (
        "threshold",
        "fp4_r4_odd, scale: gradscale, ties: up",
        "fp4_e3m0, scale: gradscale, threshold: 2.0",
        "gradient.threshold: is for radix 4, but weight_format is fp4_e3m0",
    ),
    (
        "input_format",
        "fp4_r4_even, weight_format: fp4_r4_odd, scale: gradscale",
        "uint4, weight_format: fp4_r4_odd, scale: max",
        "gradient.input_format: must be signed, got uint4",
    ),
    (
        "samples",
        "scale: gradscale",
        "samples: 2, scale: gradscale",
        "gradient.samples: 2 equal roundings: needs 'rounding: stochastic'",
    ),
    (
        "samples",
        "scale: gradscale",
        "samples: 2, scale: gradscale, rounding: stochastic",
        "gradient.samples: must be 1 for fp4_r4_odd by 'gradscale'; only single numbers by 'cast', 'max' or ",
    ),
    (
        "hadamard",
        "scale: gradscale",
        "hadamard: true, scale: gradscale",
        "gradient.hadamard: needs block formats, but input_format is fp4_r4_even",
    ),
    (
        "rounding",
        "scale: gradscale",
        "rounding: nearst_up, scale: gradscale",
        "gradient.rounding: must be one of format, nearest_even, nearest_up, nearest_down, toward_zero",
    ),
    (
        "scale",
        "fp4_r4_even",
        "mxfp4",
        "gradient.scale: 'gradscale' is for single numbers, but input_format is mxfp4; mxfp4 needs 'block'",
    ),
    (
        "scale",
        "int4, scale: sawb",
        "int4, scale: block",
        "weight.scale: 'block' needs a block format, but the format is int4",
    ),
    (
        "scale",
        "int4, scale: sawb",
        "bf16, scale: max",
        "weight.scale: 'max' needs a format of at most 8 bits, but the format is bf16",
    ),
    (
        "square",
        "int4, scale: sawb",
        "int4, square: true, scale: sawb",
        "weight.square: needs a block format, but the format is int4",
    ),
    (
        "rounding",
        "int4, scale: sawb",
        "mxfp4, rounding: nearest_up, scale: block",
        "weight.rounding: block formats round to even or stochastically, got 'nearest_up'",
    ),
    (
        "{kinds",
        "high_precision",
        "overrides: [{kinds: [first]}]\nhigh_precision",
        "overrides[0]: needs at least one of 'weight', 'activation', 'gradient'",
    ),
    (
        "scale",
        "high_precision",
        "overrides: [{weight: {format: fp8_e5m2_ibm, scale: sawb}}]\nhigh_precision",
        "overrides[0].weight.scale: 'sawb' needs int2, int4 or int8, but the format is fp8_e5m2_ibm",
    ),
    (
        "depth",
        "high_precision",
        "overrides: [{depth: [0.9, 0.1], weight: {format: int4, scale: sawb}}]\nhigh_precision",
        "overrides[0].depth: must go from a lower to a higher number, got 0.9, 0.1",
    ),
    (
        "loss_scale",
        "master: fp32",
        "master: fp32\nloss_scale: 1e300",
        "loss_scale: must be at most 281474976710656, got 1e+300",
    ),
    ("ties", "ties: up", "ties: even", "gradient.ties: must be one of up, down, got 'even'"),
    (
        "layers",
        "[first, last, depthwise]",
        "[frist]",
        "high_precision.layers[0]: must be one of first, last, depthwise, pointwise, conv2d, linear,",
    ),
    (
        "layers",
        "[first, last, depthwise]",
        "first",
        "high_precision.layers: must be a list (each item one of first",
    ),
    ("source", "source: Sun et al.", "sauce: Sun et al.", "unknown key 'sauce' (did you mean 'source'?)"),
]


@pytest.mark.parametrize(("key", "old", "new", "message"), MISTAKES, ids=[row[3] for row in MISTAKES])
def test_mistake_is_one_line_that_points_at_its_place(
    tmp_path: Path, key: str, old: str, new: str, message: str
) -> None:
    """Line and column of the key (or list item), value given and what is allowed."""
    path = edited(tmp_path, (old, new))
    with pytest.raises(InputError) as caught:
        load_recipe(path)
    text = str(caught.value)
    assert text.isprintable()
    name, line, column, found = text.split(":", 3)
    assert name == str(path)
    assert found.strip().startswith(message)
    pointed_at = path.read_text(encoding="utf-8").splitlines()[int(line) - 1][int(column) - 1 :]
    assert pointed_at.startswith(("sauce" if key == "source" else key, "frist"))


def test_unknown_recipe_names_the_nearest() -> None:
    """A misspelt name of a shipped recipe is corrected."""
    with pytest.raises(InputError, match=r"unknown recipe 'ibm2020_fp' \(did you mean 'ibm2020_fp4'\?\)"):
        load_recipe("ibm2020_fp")


def formats_of(recipe: Recipe, *layers: Layer) -> list[TensorFormats]:
    """Formats of the layers on the MAC array, in order, on 8 x 8 images of 4 channels."""
    sequence = Sequence((), (8, 8, 4), False)
    for number, layer in enumerate(layers):
        site = Site(f"layer{number}", sequence.output_shape, sequence.output_nonnegative)
        sequence = Sequence((*sequence.parts, Leaf(layer, site)), (8, 8, 4), False)
    found = site_rules(list(sequence.leaves()), recipe)
    return [found[leaf.site.name].formats for leaf in sequence.leaves() if leaf.layer.has_gemm]


def layers(**precision: str) -> list[Layer]:
    """First, plain, depthwise, plain behind a ReLU, and last layer; some with a precision of their own."""
    chosen = {
        name: {"precision": precision.get(name, "recipe")} for name in ("first", "plain", "deep", "last")
    }
    return [
        BatchNorm(),
        Conv2d(channels=4, kernel=3, **chosen["first"]),
        Conv2d(channels=4, kernel=3, **chosen["plain"]),
        Conv2d(channels=4, kernel=3, groups=4, **chosen["deep"]),
        Relu(),
        Conv2d(channels=4, kernel=3),
        AveragePool(),
        Linear(features=2, **chosen["last"]),
    ]


@pytest.mark.parametrize(
    ("listed", "wide"),
    [
        ("[first, last, depthwise]", [0, 2, 4]),
        ("[first, last]", [0, 4]),
        ("[first]", [0]),
        ("[last]", [4]),
        ("[depthwise]", [2]),
        ("[]", []),
    ],
)
def test_first_last_and_depthwise_layers_are_wide_where_the_recipe_says(
    tmp_path: Path, listed: str, wide: list[int]
) -> None:
    """Each rule moves its own layer, and a layer behind a ReLU gets the unsigned format."""
    recipe = load_recipe(edited(tmp_path, ("[first, last, depthwise]", listed)))
    low = [SIGNED, SIGNED, SIGNED, UNSIGNED, SIGNED]
    expected = [WIDE if number in wide else formats for number, formats in enumerate(low)]
    assert formats_of(recipe, *layers()) == expected


def test_precision_of_a_layer_overrides_the_recipe() -> None:
    """``low`` quantises even a first, last or depthwise layer; ``high`` keeps any layer wide."""
    recipe = load_recipe("ibm2020_fp4")
    changed = formats_of(recipe, *layers(first="low", plain="high", deep="low", last="low"))
    assert changed == [SIGNED, WIDE, SIGNED, UNSIGNED, SIGNED]


def test_an_override_for_a_layer_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """A misspelt layer would leave its rule unused, and train another system than the one written down."""
    rule = "overrides: [{names: [linaer*], weight: {format: int4, scale: sawb}}]\nhigh_precision"
    path = edited(tmp_path, ("high_precision", rule))
    message = r"own\.yaml: overrides\[0\]\.names: unknown layer of the network 'linaer\*'.*allowed: .*linear1"
    with pytest.raises(InputError, match=message):
        accelsim.estimate("fp4_training", "letters_mlp", recipe=str(path))


def test_a_transform_needs_blocks_on_both_operands(tmp_path: Path) -> None:
    """Codes that meet turned blocks are refused, with the layer and the recipe's file."""
    text = (resource_dir("recipes") / "nvfp4.yaml").read_text(encoding="utf-8")
    mixed = "activation: {unsigned_format: uint4, signed_format: int4, scale: pact}"
    old = "activation: {unsigned_format: nvfp4, signed_format: nvfp4, scale: block}"
    path = tmp_path / "mixed.yaml"
    path.write_text(text.replace(old, mixed).replace("first, last, depthwise", ""), encoding="utf-8")
    leaf = Leaf(Linear(features=3), Site("fc", (16,)))
    with pytest.raises(InputError, match=r"mixed.yaml: 'hadamard' needs .* 'fc' takes activations in int4"):
        site_rules([leaf], load_recipe(path))


def test_only_layer_is_first_and_last() -> None:
    """A network of one layer is wide by either rule."""
    assert formats_of(load_recipe("ibm2020_fp4"), AveragePool(), Linear(features=3)) == [WIDE]


def test_layers_of_the_vector_unit_work_in_storage() -> None:
    """A layer without GEMMs never counts as first or last."""
    formats = site_rules([Leaf(Relu(), Site("relu", (4,)))], load_recipe("fp16_ieee"))["relu"].formats
    assert (formats.storage, formats.master) == ("fp16", "fp32")


def test_recipe_that_a_chip_cannot_execute_is_refused_with_the_reason() -> None:
    """The message names layer, phase, chip, the pair of formats and the pairs its modes take."""
    with pytest.raises(InputError) as caught:
        accelsim.estimate("fp16_training", "letters_mlp", recipe="ibm2020_fp4")
    assert str(caught.value) == (
        "layer 'linear2' (forward): chip 'fp16_training' has no mode that multiplies uint4 x int4; "
        "its modes take: dlfloat16 x dlfloat16"
    )
    with pytest.raises(
        InputError, match=r"layer 'linear1' \(forward\): chip 'fp4_training' .* fp16 x fp16; its"
    ):
        accelsim.estimate("fp4_training", "letters_mlp", recipe="fp16_ieee")


def test_inference_chip_has_no_mode_for_gradients() -> None:
    """A chip that multiplies 4-bit integers only fails at the first gradient, not at the forward pass."""
    with pytest.raises(InputError, match=r"layer '\w+' \((update|backward)\): chip 'rapid_core' has no mode"):
        accelsim.estimate("rapid_core", "letters_mlp", recipe="ibm2020_fp4")
