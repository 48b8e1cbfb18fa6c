"""The verbs of the API with sample records for results, so that the shell is tested alone."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from sample_records import FP4, FP16, sample_record

from accelsim.record import RunRecord
from accelsim.storage import write_text


def step(epoch: int = 1, **changed: Any) -> Any:
    """A progress event in the middle of an epoch."""
    return SimpleNamespace(
        **{
            "chip": "fp4_training",
            "epoch": epoch,
            "epochs": 2,
            "step": 40,
            "steps": 79,
            "loss": 0.5,
            "accuracy": 0.81,
            "samples_per_second": 1234.5,
            "seconds_left": 61.0,
            "metric": None,
            "phase": "train",
            "test_accuracy": None,
        }
        | changed
    )


class FakeVerbs:
    """The verbs of the API with sample records for results, so that the shell is tested alone."""

    def __init__(self) -> None:
        self.calls: list[dict[str, Any]] = []
        self.stop_in: str | None = None

    def load_workload(self, name: str) -> Any:
        data = SimpleNamespace(origin="a data set")
        return SimpleNamespace(name=name, description="a workload", epochs=8, batch=64, seed=1, data=data)

    def estimate(self, chip: Any, workload: Any, **options: Any) -> RunRecord:
        assert options.pop("command").startswith("accelsim ")
        self.calls.append({"verb": "estimate", "chip": chip.name} | options)
        return self._record(chip, trained=False, epochs=options["epochs"])

    def train(self, chip: Any, workload: Any, **options: Any) -> RunRecord:
        progress, checkpoint = options.pop("progress"), options.pop("checkpoint")
        self.calls.append({"verb": "train", "chip": chip.name} | options)
        progress(step(chip=chip.name))
        progress(step(chip=chip.name, phase="test", test_accuracy=0.8))
        write_text(checkpoint, "state")
        progress(step(chip=chip.name, epoch=2))
        if self.stop_in == chip.name:
            raise KeyboardInterrupt
        progress(step(chip=chip.name, epoch=2, phase="test", test_accuracy=0.85))
        return self._record(chip, trained=True, epochs=options["epochs"])

    def trained(self) -> list[str]:
        """The chips trained so far, in order."""
        return [call["chip"] for call in self.calls if call["verb"] == "train"]

    def _record(self, chip: Any, *, trained: bool, epochs: int | None) -> RunRecord:
        return sample_record(FP4 if "fp4" in chip.name else FP16, trained=trained, epochs=epochs or 8)
