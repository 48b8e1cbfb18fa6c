"""The user's own ``.npz``, and workloads that have no data, only its shape."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated

from pydantic import Field, model_validator

from accelsim.errors import InputError
from accelsim.workload.datasets.arrays import read_npz
from accelsim.workload.datasets.facts import DataFacts, Dataset, own_origin
from accelsim.workload.datasets.files import existing, read_bytes
from accelsim.workload.datasets.source import DataSource

_Extent = Annotated[int, Field(ge=1, le=2**24)]


class NpzData(DataSource):
    """The user's own ``.npz`` of four arrays."""

    path: Path

    def placed(self, folder: Path) -> NpzData:
        return NpzData(path=existing(folder / self.path))

    def facts(self) -> DataFacts:
        return self.load().facts

    def load(self) -> Dataset:
        content = read_bytes(self.path)
        digest = hashlib.sha256(content).hexdigest()
        return read_npz(self.path, content, own_origin(self.path, digest))


class ShapeOnly(DataSource):
    """No data, only its shape: a workload that can be priced but not trained.

    ``tokens`` says that a sample is a row of token ids 0 .. ``tokens`` - 1. ``targets`` is the shape of
    the labels of one sample; without it a sample has one class.
    """

    shape: tuple[_Extent, ...] = Field(min_length=1, max_length=3, description="shape of one sample")
    classes: int = Field(ge=1, le=2**24, description="number of classes")
    samples: int = Field(ge=1, le=2**40, description="training samples of an epoch")
    tokens: int | None = Field(default=None, ge=1, le=2**24, description="token ids are 0 .. tokens - 1")
    targets: tuple[_Extent, ...] = Field(default=(), max_length=3, description="shape of a sample's labels")

    @model_validator(mode="after")
    def _tokens_stand_in_a_row(self) -> ShapeOnly:
        if self.tokens is not None and len(self.shape) != 1:
            raise ValueError(f"shape of token ids must be [positions], got {list(self.shape)}")
        return self

    def facts(self) -> DataFacts:
        return DataFacts(
            None, self.shape, self.classes, self.samples, 0, tokens=self.tokens, targets=self.targets
        )

    def load(self) -> Dataset:
        raise InputError(
            "the workload gives only the shape of its data: it can be priced, not trained", "data"
        )
