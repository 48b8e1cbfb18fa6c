"""What every place that data comes from can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from accelsim.workload.datasets.facts import DataFacts, Dataset


class DataSource(BaseModel, ABC):
    """A place that data comes from; the fields are what the key ``data`` of a workload file may say."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    def placed(self, folder: Path) -> DataSource:
        """The same source, its path made absolute from ``folder``, where the workload file stands.

        Raises `InputError` if there is no such file, or no bundled data set of that name.
        """
        return self

    @abstractmethod
    def facts(self) -> DataFacts:
        """What is known of the data; reads the user's own files, but no bundled one."""

    @abstractmethod
    def load(self) -> Dataset:
        """The data itself. Raises `InputError` if there is none, or if it is not as it should be."""
