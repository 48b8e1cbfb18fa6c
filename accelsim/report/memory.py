"""What DRAM holds at the fullest moment of a step, whether that fits, and what crosses its interface."""

from __future__ import annotations

from collections.abc import Sequence

from accelsim.record import MemoryRecord, RunRecord
from accelsim.report import quantities as q

_CLASSES = {
    "weight_codes": "Weights as the arrays read them",
    "master_weights": "Master weights",
    "other_parameters": "Biases, shifts and tables of the vector units",
    "optimizer_state": "Optimiser state",
    "mini_batch": "Mini-batch",
    "saved_activations": "Activations saved for the backward pass",
    "gradients": "Gradients of the weights",
    "handed_over": "Tensors between layers that spill",
}
_GROWING = ("mini_batch", "saved_activations", "handed_over")
"""Classes that grow with the mini-batch."""

_TRAFFIC = {
    "parameter": "DRAM traffic of weights and their state",
    "saved": "DRAM traffic of saved activations",
    "stream": "DRAM traffic of spilled tensors",
    "input": "DRAM traffic of the mini-batch",
}

Rows = tuple[tuple[str, tuple[str, ...]], ...]


def memory_rows(records: Sequence[RunRecord]) -> Rows:
    """(what, its size on every chip): DRAM by class at the peak, the peak against the capacity, traffic."""
    columns = [_column(record) for record in records]
    labels = dict.fromkeys(label for column in columns for label in column)
    return tuple((label, tuple(column.get(label, "–") for column in columns)) for label in labels)


def _column(record: RunRecord) -> dict[str, str]:
    memory = record.cost.memory
    read = sum(layer.dram_read_bytes for layer in record.cost.layers)
    written = sum(layer.dram_write_bytes for layer in record.cost.layers)
    return {
        **_parts(memory),
        "Peak": q.size(memory.peak_bytes) + (f" ({memory.peak_at})" if memory.peak_at else ""),
        "DRAM of the chip": q.size(memory.dram_capacity_bytes),
        "Peak of the chip's DRAM": q.percent(memory.peak_bytes / memory.dram_capacity_bytes),
        "Fits": "yes" if fits(record) else "no",
        "DRAM read per step": q.size(read),
        "DRAM written per step": q.size(written),
        **{_TRAFFIC[key]: q.size(moved) for key, moved in memory.dram_traffic.items() if key in _TRAFFIC},
    }


def _parts(memory: MemoryRecord) -> dict[str, str]:
    """The classes at the peak; of a record that does not hold them, what it does hold."""
    if memory.classes:
        return {_CLASSES.get(key, key): q.size(held) for key, held in memory.classes.items()}
    return {
        "Weights": q.size(memory.parameter_bytes),
        "Optimiser state": q.size(memory.optimizer_bytes),
        "Activations saved for the backward pass": q.size(memory.saved_activation_bytes),
    }


def fits(record: RunRecord) -> bool:
    """Whether the fullest moment of a step fits into the chip's DRAM."""
    return record.cost.memory.peak_bytes <= record.cost.memory.dram_capacity_bytes


def fit_sentence(record: RunRecord) -> str:
    """That a step does not fit, by how much, and about which mini-batch would; empty where it fits."""
    if fits(record):
        return ""
    memory = record.cost.memory
    text = (
        f"{record.workload.name} does not fit into the DRAM of {record.chip.name}: the fullest moment of a "
        f"step needs {q.size(memory.peak_bytes)} of {q.size(memory.dram_capacity_bytes)}"
    )
    growing = sum(memory.classes.get(key, 0) for key in _GROWING)
    if not growing:
        return f"{text}."
    room = memory.dram_capacity_bytes - (memory.peak_bytes - growing)
    samples = room * record.batch // growing
    if samples < 1:
        return f"{text}; no mini-batch fits, weights and their state alone are too large."
    return f"{text}; a mini-batch of about {samples:,} samples fits, this one has {record.batch:,}."
