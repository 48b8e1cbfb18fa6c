"""Recipe x network -> the number formats of every place where operands enter the array."""

from __future__ import annotations

from accelsim.network import ArrayLayer, Leaf
from accelsim.operations import TensorFormats
from accelsim.recipe import Recipe


def layer_formats(leaves: list[Leaf], recipe: Recipe) -> dict[str, TensorFormats]:
    """Formats of every site of every layer, by name: first, last and depthwise layers may be kept wide."""
    matrix = [leaf for leaf in leaves if leaf.layer.has_gemm]
    found = {}
    for leaf in leaves:
        wide = leaf.layer.has_gemm and _is_wide(leaf, matrix, recipe)
        for site in leaf.layer.sites(leaf.site):
            low = recipe.low_formats(nonnegative=site.nonnegative)
            found[site.name] = recipe.high_formats() if wide else low
    return found


def _is_wide(leaf: Leaf, matrix: list[Leaf], recipe: Recipe) -> bool:
    layer = leaf.layer
    if not isinstance(layer, ArrayLayer):
        return False
    if layer.precision != "recipe":
        return layer.precision == "high"
    wide = recipe.high_precision.layers
    is_first, is_last = leaf is matrix[0], leaf is matrix[-1]
    return (
        (is_first and "first" in wide)
        or (is_last and "last" in wide)
        or (layer.is_depthwise(leaf.site) and "depthwise" in wide)
    )
