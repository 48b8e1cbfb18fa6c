"""Files that a file names: a relative path counts from the file it stands in."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from accelsim.yamlfile.reading import YamlDocument


def with_files_beside(document: YamlDocument) -> YamlDocument:
    """``document`` with each value that names a YAML file beside it (``own.yaml``, ``../own.yml``) as a path.

    Paths to the same file come out alike from files of neighbouring folders. What is no such file stays.
    """
    return replace(document, data=_placed(document.data, document.path.parent))


def _placed(value: Any, folder: Path) -> Any:
    if isinstance(value, dict):
        return {key: _placed(each, folder) for key, each in value.items()}
    if isinstance(value, list):
        return [_placed(each, folder) for each in value]
    if isinstance(value, str) and value.endswith((".yaml", ".yml")) and os.path.lexists(folder / value):
        return os.path.normpath(folder / value)
    return value
