"""Recipe x network -> rules and number formats of every place where operands enter the array."""

from __future__ import annotations

from fnmatch import fnmatchcase

from accelsim.errors import InputError, unknown
from accelsim.network import ArrayLayer, Conv2d, Leaf
from accelsim.recipe import Recipe, SiteRules


def site_rules(leaves: list[Leaf], recipe: Recipe) -> dict[str, SiteRules]:
    """Rules of every site of every layer, by the site's name.

    A layer's own ``precision`` comes first, then the layers that the recipe keeps wide, then its
    overrides, then its rules for all. Layers with weights are numbered from first to last; what has none
    stands where the layer before it does.

    Raises `InputError` for a rule that does not go with another of the same site, and for an override whose
    name is that of no layer.
    """
    _check_names(leaves, recipe)
    weighty = [leaf.site.name for leaf in leaves if _has_weight(leaf)]
    found, number = {}, 0
    for leaf in leaves:
        number += leaf.site.name in weighty
        kinds = _kinds(leaf, weighty)
        wide = leaf.layer.has_gemm and _is_wide(leaf, kinds, recipe)
        depth = max(number - 1, 0) / max(len(weighty) - 1, 1)
        for site in leaf.layer.sites(leaf.site):
            names = {leaf.site.name, site.name}
            words = kinds | {"probabilities"} if site.name.endswith(".probabilities") else kinds
            low = recipe.rules(names, words, depth, nonnegative=site.nonnegative)
            found[site.name] = recipe.wide_rules() if wide else low
            if not wide and leaf.layer.has_gemm:
                _check_transform(site.name, low, recipe)
    return found


def _check_names(leaves: list[Leaf], recipe: Recipe) -> None:
    """An override for a layer that is not there is a misspelt one."""
    known = {site.name for leaf in leaves for site in leaf.layer.sites(leaf.site)}
    known |= {leaf.site.name for leaf in leaves}
    for index, override in enumerate(recipe.overrides):
        for pattern in override.names:
            if not any(fnmatchcase(name, pattern) for name in known):
                where = f"{recipe.source_name}: overrides[{index}].names"
                raise unknown("layer of the network", pattern, known, where)


def _check_transform(site: str, rules: SiteRules, recipe: Recipe) -> None:
    """A transform of one operand alone would leave another product."""
    if rules.gradient.hadamard and rules.activation.scale != "block":
        given = f"'{site}' takes activations in {rules.formats.activation}"
        message = f"'hadamard' needs activations in a block format, too, but {given}"
        raise InputError(message, recipe.source_name)


def _has_weight(leaf: Leaf) -> bool:
    """Whether the layer counts where a recipe speaks of the first or last: a table of tokens does too."""
    operands = (each.operand_of for each in leaf.layer.parameters(leaf.site).values())
    return leaf.layer.kind in ("embedding", "unembedding") or any(operands)


def _kinds(leaf: Leaf, weighty: list[str]) -> set[str]:
    """The words by which a recipe may mean this layer; ``weighty`` are the layers with weights."""
    layer = leaf.layer
    kinds = {layer.kind}
    if leaf.site.name in weighty[:1]:
        kinds.add("first")
    if leaf.site.name in weighty[-1:]:
        kinds.add("last")
    if isinstance(layer, ArrayLayer) and layer.is_depthwise(leaf.site):
        kinds.add("depthwise")
    if isinstance(layer, Conv2d) and layer.taps == 1 and layer.groups == 1:
        kinds.add("pointwise")
    return kinds


def _is_wide(leaf: Leaf, kinds: set[str], recipe: Recipe) -> bool:
    layer = leaf.layer
    if isinstance(layer, ArrayLayer) and layer.precision != "recipe":
        return layer.precision == "high"
    return any(kind in kinds for kind in recipe.high_precision.layers)
