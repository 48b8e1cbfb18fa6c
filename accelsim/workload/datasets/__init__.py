"""Data sets: the bundled ones, checked against their SHA-256, and the user's own.

Every bundled data set is whole numbers or text, so that no decoder can change a bit at run time.
"""

from __future__ import annotations

from pathlib import Path

from accelsim.errors import unknown
from accelsim.workload.datasets.bundled import BUNDLED_ARRAYS, BundledArrays
from accelsim.workload.datasets.facts import IGNORED, DataFacts, Dataset, Origin, PairLayout
from accelsim.workload.datasets.images import IdxData, ImageData
from accelsim.workload.datasets.own_arrays import NpzData, ShapeOnly
from accelsim.workload.datasets.pairs import BUNDLED_PAIRS, PairData
from accelsim.workload.datasets.source import DataSource
from accelsim.workload.datasets.text import BUNDLED_TEXTS, TextData

__all__ = [
    "DATA_KINDS",
    "IGNORED",
    "DataFacts",
    "DataSource",
    "Dataset",
    "NpzData",
    "Origin",
    "PairLayout",
    "ShapeOnly",
    "data_source",
    "dataset_names",
    "dataset_note",
    "load_dataset",
]

DATA_KINDS: dict[str, type[DataSource]] = {
    "shape": ShapeOnly,
    "text": TextData,
    "pairs": PairData,
    "images": ImageData,
    "idx": IdxData,
}
"""What a mapping under the key ``data`` may describe, by the key that tells it from the others."""


def dataset_names() -> list[str]:
    """Names of the bundled data sets, sorted."""
    return sorted([*BUNDLED_ARRAYS, *BUNDLED_TEXTS, *BUNDLED_PAIRS])


def dataset_note(name: str) -> str:
    """One line about a bundled data set: where it comes from and its licence, for a list.

    Raises InputError for an unknown name.
    """
    origin = data_source(name).facts().origin
    return f"{origin.source}; {origin.license}" if origin else ""


def data_source(name_or_path: str | Path) -> DataSource:
    """A bundled data set by name, or the user's own ``.npz`` by path.

    A path is anything with a separator or the ending ``.npz``; the file holds ``train_x`` and ``test_x``
    (uint8 or floating-point, (samples, features), (samples, height, width) or (samples, height, width,
    channels); or token ids (samples, positions) beside an array ``tokens``) and ``train_y`` and ``test_y``
    (integers from 0, (samples,) or (samples, positions) with -1 for padding).

    Raises InputError for an unknown name.
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith(".npz"):
        return NpzData(path=Path(name_or_path))
    if text in BUNDLED_TEXTS:
        return TextData(text=text)
    if text in BUNDLED_PAIRS:
        return PairData(pairs=text, target=BUNDLED_PAIRS[text].target)
    if text not in BUNDLED_ARRAYS:
        raise unknown("data set", text, dataset_names())
    return BundledArrays(name=text)


def load_dataset(name_or_path: str | Path) -> Dataset:
    """A data set by name or path, as `data_source` takes them.

    Raises InputError for an unknown name, a missing, corrupt or changed file, or arrays that do not
    fit together.
    """
    return data_source(name_or_path).load()
