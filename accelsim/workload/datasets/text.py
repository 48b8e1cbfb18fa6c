"""Text as windows of characters, each labelled with the character after it."""

from __future__ import annotations

import hashlib
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import Field

from accelsim.errors import InputError, unknown
from accelsim.workload.datasets.facts import DataFacts, Dataset, Origin, own_origin
from accelsim.workload.datasets.files import checked_bytes, existing, read_bytes
from accelsim.workload.datasets.source import DataSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True)
class BundledText:
    """A bundled text and what is known without opening it."""

    file: str
    characters: int
    symbols: int
    origin: Origin


BUNDLED_TEXTS = {
    "pride_and_prejudice": BundledText(
        file="pride_and_prejudice.txt.xz",
        characters=684_768,
        symbols=75,
        origin=Origin(
            name="pride_and_prejudice",
            sha256="6cf6c847a3192ae802d4f40dc233acd144a2465d5ce06a1626977fb89b7bb773",
            license="public domain",
            source="Pride and Prejudice (Austen 1813), 684,768 characters",
        ),
    ),
}
"""By name."""


class TextData(DataSource):
    """Characters of a text, in windows one after another; the last tenth of the text is for testing.

    Ids are those of the characters in the order of their code points.
    """

    text: str = Field(min_length=1, description="bundled text, or path of a .txt file in UTF-8")
    window: int = Field(default=64, ge=1, le=65536, description="characters of one sample")

    def placed(self, folder: Path) -> TextData:
        if self.text in BUNDLED_TEXTS:
            return self
        if not self.text.endswith(".txt"):
            raise unknown("text (or path of a .txt file)", self.text, BUNDLED_TEXTS)
        return self.model_copy(update={"text": str(existing(folder / self.text))})

    def facts(self) -> DataFacts:
        bundled = BUNDLED_TEXTS.get(self.text)
        if bundled is None:
            return self.load().facts
        return self._facts(bundled.origin, bundled.characters, bundled.symbols)

    def load(self) -> Dataset:
        bundled = BUNDLED_TEXTS.get(self.text)
        if bundled is not None:
            content = checked_bytes(bundled.file, self.text, bundled.origin.sha256)
            ids, _ = _ids(lzma.decompress(content).decode("utf-8"))
            return self._windows(self.facts(), ids)
        content = read_bytes(Path(self.text))
        try:
            ids, symbols = _ids(content.decode("utf-8"))
        except UnicodeDecodeError:
            raise InputError("not text in UTF-8", self.text) from None
        if len(ids) < 10 * (self.window + 1):
            message = f"a tenth of its {len(ids)} characters holds no window of {self.window} and one more"
            raise InputError(message, self.text)
        digest = hashlib.sha256(content).hexdigest()
        facts = self._facts(own_origin(Path(self.text), digest), len(ids), symbols)
        return self._windows(facts, ids)

    def _facts(self, origin: Origin, characters: int, symbols: int) -> DataFacts:
        cut = _cut(characters)
        return DataFacts(
            origin,
            input_shape=(self.window,),
            classes=symbols,
            train_samples=(cut - 1) // self.window,
            test_samples=(characters - cut - 1) // self.window,
            tokens=symbols,
            targets=(self.window,),
            symbol="character",
        )

    def _windows(self, facts: DataFacts, ids: NDArray[np.int64]) -> Dataset:
        cut = _cut(len(ids))
        parts: list[Any] = []
        for part in (ids[:cut], ids[cut:]):
            count = (len(part) - 1) // self.window
            for shift in (0, 1):
                windows = part[shift : count * self.window + shift].reshape(count, self.window)
                windows.flags.writeable = False
                parts.append(windows)
        return Dataset(facts, *parts)


def _cut(characters: int) -> int:
    """Where the last tenth begins."""
    return characters * 9 // 10


def _ids(text: str) -> tuple[NDArray[np.int64], int]:
    """The characters by number, in the order of their code points, and how many different ones there are."""
    import numpy as np

    points = np.frombuffer(text.encode("utf-32-le"), np.dtype("<u4"))
    symbols, ids = np.unique(points, return_inverse=True)
    return ids.astype(np.int64).reshape(-1), len(symbols)
