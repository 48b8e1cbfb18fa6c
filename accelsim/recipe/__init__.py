"""Recipes as data: which tensor gets which format, scale rule and rounding. One YAML file each."""

from __future__ import annotations

from pathlib import Path

from accelsim.errors import InputError
from accelsim.numerics.formats import number_format
from accelsim.recipe.schema import Recipe, format_names_used, scale_faults
from accelsim.storage import find_resource
from accelsim.yamlfile import key_text, parse, position_of, read_yaml

__all__ = ["Recipe", "load_recipe"]


def load_recipe(name_or_path: str | Path) -> Recipe:
    """Read a recipe by the name of a shipped one or by the path of a YAML file.

    Raises `InputError` with file, line, column, key, the value given and what is allowed.
    """
    document = read_yaml(find_resource("recipes", name_or_path))
    recipe = parse(Recipe, document)
    for path, name in format_names_used(recipe).items():
        try:
            number_format(name)
        except InputError as error:
            raise InputError(f"{key_text(path)}: {error}", position_of(document, path)) from None
    for path, fault in scale_faults(recipe).items():
        raise InputError(f"{key_text(path)}: {fault}", position_of(document, path))
    recipe._source_text = document.text
    recipe._source_name = document.path.name
    return recipe
