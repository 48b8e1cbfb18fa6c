"""YAML to `Workload`: network, data set, optimiser, schedule."""

from accelsim.workload.datasets import (
    IGNORED,
    DataFacts,
    Dataset,
    DataSource,
    PairLayout,
    dataset_names,
    dataset_note,
    load_dataset,
)
from accelsim.workload.loading import Workload, load_workload, workload_of

__all__ = [
    "IGNORED",
    "DataFacts",
    "DataSource",
    "Dataset",
    "PairLayout",
    "Workload",
    "dataset_names",
    "dataset_note",
    "load_dataset",
    "load_workload",
    "workload_of",
]
