"""YAML files as checked objects: every mistake is one line that names file, line, column and key."""

from accelsim.yamlfile.beside import with_files_beside
from accelsim.yamlfile.changing import Change, change_of, changed, one_line, with_values
from accelsim.yamlfile.origin import FromFile
from accelsim.yamlfile.parsing import parse
from accelsim.yamlfile.reading import (
    KeyPath,
    YamlDocument,
    document_of,
    key_text,
    position_of,
    read_yaml,
    read_yaml_list,
)
from accelsim.yamlfile.units import split_unit

__all__ = [
    "Change",
    "FromFile",
    "KeyPath",
    "YamlDocument",
    "change_of",
    "changed",
    "document_of",
    "key_text",
    "one_line",
    "parse",
    "position_of",
    "read_yaml",
    "read_yaml_list",
    "split_unit",
    "with_files_beside",
    "with_values",
]
