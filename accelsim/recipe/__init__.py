"""Recipes as data: which tensor gets which format, scale rule and rounding. One YAML file each."""

from __future__ import annotations

from pathlib import Path

from accelsim.errors import InputError
from accelsim.recipe.faults import recipe_faults
from accelsim.recipe.rules import ActivationRule, GradientRule, SiteRules, WeightRule
from accelsim.recipe.schema import DynamicLossScale, Recipe
from accelsim.storage import find_resource
from accelsim.yamlfile import key_text, parse, position_of, read_yaml, with_files_beside

__all__ = [
    "ActivationRule",
    "DynamicLossScale",
    "GradientRule",
    "Recipe",
    "SiteRules",
    "WeightRule",
    "load_recipe",
]


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by the name of a shipped one or by the path of a YAML file.

    Raises `InputError` with file, line, column, key, the value given and what is allowed.
    """
    document = with_files_beside(read_yaml(find_resource("recipes", name_or_path)))
    recipe = parse(Recipe, document)
    for path, fault in recipe_faults(recipe):
        raise InputError(f"{key_text(path)}: {fault}", position_of(document, path))
    return recipe.read_from(document)
