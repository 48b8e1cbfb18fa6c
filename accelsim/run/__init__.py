"""Running a workload on a chip: estimates and training, each ending in a `RunRecord`."""

from accelsim.run.estimating import estimate
from accelsim.run.progress import Metric, Progress
from accelsim.run.training import train

__all__ = ["Metric", "Progress", "estimate", "train"]
