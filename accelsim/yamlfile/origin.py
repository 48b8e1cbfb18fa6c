"""What a checked object remembers of the file it was read from."""

from __future__ import annotations

from typing import Self

from pydantic import BaseModel, PrivateAttr

from accelsim.yamlfile.reading import YamlDocument


class FromFile(BaseModel):
    """An object that can show its file, so that a record can echo what it was made from."""

    _source_text: str = PrivateAttr(default="")
    _source_name: str = PrivateAttr(default="")

    @property
    def source_text(self) -> str:
        """The YAML text it was read from, word for word."""
        return self._source_text

    @property
    def source_name(self) -> str:
        """The name of that file, without its folder."""
        return self._source_name

    def read_from(self, document: YamlDocument) -> Self:
        """Remember ``document`` as the file; for those who read one."""
        self._source_text, self._source_name = document.text, document.path.name
        return self
