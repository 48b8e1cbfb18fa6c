"""YAML to `Workload`: network, data set, optimiser, schedule."""

from accelsim.workload.datasets import Dataset, dataset_names, dataset_note, dataset_shape, load_dataset
from accelsim.workload.loading import Workload, load_workload

__all__ = [
    "Dataset",
    "Workload",
    "dataset_names",
    "dataset_note",
    "dataset_shape",
    "load_dataset",
    "load_workload",
]
