"""Pairs of sequences (letters and phonemes, two languages) as rows of token ids for an encoder-decoder."""

from __future__ import annotations

import hashlib
import lzma
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from accelsim.errors import InputError, unknown
from accelsim.workload.datasets.facts import IGNORED, DataFacts, Dataset, Origin, PairLayout, own_origin
from accelsim.workload.datasets.files import checked_bytes, existing, read_bytes
from accelsim.workload.datasets.source import DataSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PADDING, _START, _STOP = range(3)
_FIRST = 3
_TEST_SHARE = 15
Symbols = Literal["characters", "words"]


@dataclass(frozen=True)
class _Extent:
    """Sizes of a set of pairs: of the set itself, of its longest sequences and of both vocabularies."""

    pairs: int
    source: int
    target: int
    source_symbols: int
    target_symbols: int


@dataclass(frozen=True)
class BundledPairs:
    """A bundled set of pairs and what is known without opening it."""

    file: str
    extent: _Extent
    source: Symbols
    target: Symbols
    symbol: str
    origin: Origin


BUNDLED_PAIRS = {
    "cmudict_g2p_30k": BundledPairs(
        file="cmudict_g2p_30k.tsv.xz",
        extent=_Extent(30_000, 10, 10, 26, 39),
        source="characters",
        target="words",
        symbol="phoneme",
        origin=Origin(
            name="cmudict_g2p_30k",
            sha256="09284b8cc9b84e8fc18e892b6959b7cfbeebb70f85be4108896e7d3cfffb3577",
            license="BSD 2-Clause, Carnegie Mellon University",
            source="CMU Pronouncing Dictionary, 28,000 + 2,000 words and their phonemes",
        ),
    ),
}
"""By name."""


class PairData(DataSource):
    """Lines of ``source TAB target``; the last fifteenth of the lines is for testing.

    Ids: 0 padding, 1 start, 2 stop, then the symbols of the targets and those of the sources, each in the
    order of their text. Source and target keep separate ids even where they share letters.
    """

    pairs: str = Field(min_length=1, description="bundled pairs, or path of a .tsv file in UTF-8")
    source: Symbols = Field(default="characters", description="what one symbol of a source is")
    target: Symbols = Field(default="characters", description="what one symbol of a target is")

    def placed(self, folder: Path) -> PairData:
        if self.pairs in BUNDLED_PAIRS:
            return self._bundled(BUNDLED_PAIRS[self.pairs])
        if not self.pairs.endswith(".tsv"):
            raise unknown("pairs (or path of a .tsv file)", self.pairs, BUNDLED_PAIRS)
        return self.model_copy(update={"pairs": str(existing(folder / self.pairs))})

    def _bundled(self, bundled: BundledPairs) -> PairData:
        """The source with the symbols of the bundled pairs. Raises `InputError` if others are asked for."""
        fixed: dict[str, Symbols] = {"source": bundled.source, "target": bundled.target}
        for key, symbols in fixed.items():
            if key in self.model_fields_set and getattr(self, key) != symbols:
                message = f"{key}: must be {symbols} in '{self.pairs}', got {getattr(self, key)}"
                raise InputError(message)
        return self.model_copy(update=fixed)

    def facts(self) -> DataFacts:
        bundled = BUNDLED_PAIRS.get(self.pairs)
        if bundled is None:
            return self.load().facts
        return _facts(bundled.origin, bundled.extent, bundled.symbol)

    def load(self) -> Dataset:
        bundled = BUNDLED_PAIRS.get(self.pairs)
        if bundled is not None:
            content = checked_bytes(bundled.file, self.pairs, bundled.origin.sha256)
            sources, targets = self._split(lzma.decompress(content))
            return _rows(self.facts(), sources, targets)
        content = read_bytes(Path(self.pairs))
        sources, targets = self._split(content)
        digest = hashlib.sha256(content).hexdigest()
        origin = own_origin(Path(self.pairs), digest)
        facts = _facts(origin, _extent(sources, targets), self.target.removesuffix("s"))
        return _rows(facts, sources, targets)

    def _split(self, content: bytes) -> tuple[list[list[str]], list[list[str]]]:
        """Symbols of every source and every target."""
        try:
            lines = content.decode("utf-8").splitlines()
        except UnicodeDecodeError:
            raise InputError("not text in UTF-8", self.pairs) from None
        if len(lines) < _TEST_SHARE:
            message = f"must have at least {_TEST_SHARE} lines, got {len(lines)}"
            raise InputError(message, self.pairs)
        sources, targets = [], []
        for number, line in enumerate(lines, 1):
            source, _, target = line.partition("\t")
            if not (source.strip() and target.strip()):
                raise InputError("must be 'source TAB target', both not empty", f"{self.pairs}:{number}")
            sources.append(_symbols(source, self.source))
            targets.append(_symbols(target, self.target))
        return sources, targets


def _symbols(text: str, what: Symbols) -> list[str]:
    return text.split() if what == "words" else list(text)


def _extent(sources: list[list[str]], targets: list[list[str]]) -> _Extent:
    longest = (max(map(len, sources)), max(map(len, targets)))
    return _Extent(len(sources), *longest, len(_vocabulary(sources)), len(_vocabulary(targets)))


def _vocabulary(sequences: list[list[str]]) -> list[str]:
    return sorted({symbol for sequence in sequences for symbol in sequence})


def _facts(origin: Origin, extent: _Extent, symbol: str) -> DataFacts:
    """One position more than the longest sequence on both sides, for the stop or the start."""
    classes = _FIRST + extent.target_symbols
    tested = extent.pairs // _TEST_SHARE
    return DataFacts(
        origin,
        input_shape=(extent.source + 1 + extent.target + 1,),
        classes=classes,
        train_samples=extent.pairs - tested,
        test_samples=tested,
        tokens=classes + extent.source_symbols,
        targets=(extent.target + 1,),
        symbol=symbol,
        layout=PairLayout(extent.source + 1, _PADDING, _START, _STOP),
    )


def _rows(facts: DataFacts, sources: list[list[str]], targets: list[list[str]]) -> Dataset:
    """Token ids (source, stop, padding; start, target, padding) and labels (target, stop, ignored)."""
    import numpy as np

    source_ids = {symbol: facts.classes + i for i, symbol in enumerate(_vocabulary(sources))}
    target_ids = {symbol: _FIRST + i for i, symbol in enumerate(_vocabulary(targets))}
    begin = facts.layout.source if facts.layout else 0
    x = np.full((len(sources), *facts.input_shape), _PADDING, np.int64)
    y = np.full((len(sources), *facts.targets), IGNORED, np.int64)
    for row, (source, target) in enumerate(zip(sources, targets, strict=True)):
        x[row, : len(source) + 1] = [*(source_ids[symbol] for symbol in source), _STOP]
        codes = [target_ids[symbol] for symbol in target]
        x[row, begin : begin + len(codes) + 1] = [_START, *codes]
        y[row, : len(codes) + 1] = [*codes, _STOP]
    return Dataset(facts, *_frozen(facts.train_samples, x, y))


def _frozen(
    cut: int, x: NDArray[np.int64], y: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    x.flags.writeable = y.flags.writeable = False
    return x[:cut], y[:cut], x[cut:], y[cut:]
