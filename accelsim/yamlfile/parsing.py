"""Plain data to a frozen pydantic model, or the first mistake as one `InputError`."""

from __future__ import annotations

import json
from typing import TypeVar

from pydantic import BaseModel, ValidationError

from accelsim.yamlfile.explaining import explain
from accelsim.yamlfile.reading import YamlDocument

M = TypeVar("M", bound=BaseModel)


def parse(model: type[M], document: YamlDocument) -> M:
    """Build ``model`` from a document, strictly: no text for a number, no boolean for a number.

    Lists become tuples or lists as the model says. Raises `InputError` with ``file:line:column``,
    the key, the value given and what is allowed, for the first mistake in the file.
    """
    # Strict mode takes a list for a tuple from JSON only, and pydantic's JSON road is exact here:
    # every value is a mapping, list, text, number, boolean or null.
    try:
        return model.model_validate_json(json.dumps(document.data), strict=True)
    except ValidationError as error:
        raise explain(model, error.errors(include_url=False), document) from None
