"""Data sets: the bundled ones, checked against their SHA-256, and the user's own.

Every bundled data set is whole numbers, so that no decoder can change a bit at run time.
"""

from __future__ import annotations

from pathlib import Path

from accelsim.workload.datasets.bundled import dataset_names, dataset_note
from accelsim.workload.datasets.facts import IGNORED, DataFacts, Dataset
from accelsim.workload.datasets.sources import BundledData, DataSource, NpzData, ShapeOnly

__all__ = [
    "IGNORED",
    "BundledData",
    "DataFacts",
    "DataSource",
    "Dataset",
    "NpzData",
    "ShapeOnly",
    "data_source",
    "dataset_names",
    "dataset_note",
    "load_dataset",
]


def data_source(name_or_path: str | Path) -> DataSource:
    """A bundled data set by name, or the user's own ``.npz`` by path.

    A path is anything with a separator or the ending ``.npz``; the file holds ``train_x`` and
    ``test_x`` (uint8, (samples, features), (samples, height, width) or (samples, height, width,
    channels)) and ``train_y`` and ``test_y`` (integers from 0, (samples,)).
    """
    text = str(name_or_path)
    if isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith(".npz"):
        return NpzData(path=Path(name_or_path))
    return BundledData(name=text)


def load_dataset(name_or_path: str | Path) -> Dataset:
    """A data set by name or path, as `data_source` takes them.

    Raises InputError for an unknown name, a missing, corrupt or changed file, or arrays that do not
    fit together.
    """
    return data_source(name_or_path).load()
