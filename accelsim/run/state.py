"""All that changes while a network is trained; a run's checkpoint is this and nothing else."""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
import zlib
from dataclasses import dataclass, field
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.network import Parameter
from accelsim.numerics.random_bits import stream_key, uniform
from accelsim.storage import write_bytes
from accelsim.workload import Workload

F32 = NDArray[np.float32]

Key = str
"""``layer.parameter``."""


@dataclass
class TrainingState:
    """Master parameters, optimiser state, scales, and how far the run is.

    ``parameters``: those of the network and the trained activation clip of each quantised layer.
    ``gradient_exponents``: power-of-two gradient scales by layer. ``epochs``: one mapping of the
    record's epoch fields per finished epoch; ``tensors``, ``activity`` and ``kernels`` likewise for the
    record.
    """

    parameters: dict[Key, F32]
    optimizer: dict[Key, F32] = field(default_factory=dict)
    gradient_exponents: dict[str, int] = field(default_factory=dict)
    step: int = 0
    epochs: list[dict[str, Any]] = field(default_factory=list)
    tensors: list[dict[str, Any]] = field(default_factory=list)
    activity: list[dict[str, Any]] = field(default_factory=list)
    kernels: dict[str, int] = field(default_factory=dict)

    def digest(self) -> str:
        """SHA-256 of all parameters: names, shapes and bits, in the order of the names."""
        hashed = hashlib.sha256()
        for key in sorted(self.parameters):
            value = np.ascontiguousarray(self.parameters[key], dtype="<f4")
            # the sign of a NaN that arithmetic makes is the host's choice
            value = np.where(np.isnan(value), np.float32(np.nan), value)
            hashed.update(f"{key}{value.shape}".encode())
            hashed.update(value.tobytes())
        return hashed.hexdigest()


def initial_state(workload: Workload) -> TrainingState:
    """Freshly drawn parameters: a stream of random bits per tensor, keyed by the seed and its name."""
    parameters = {}
    for leaf in workload.network.leaves():
        for name, parameter in leaf.layer.parameters(leaf.site).items():
            key = f"{leaf.site.name}.{name}"
            parameters[key] = _drawn(parameter, stream_key(workload.seed, "initial", key))
    return TrainingState(parameters)


def _drawn(parameter: Parameter, key: int) -> F32:
    if parameter.initial == "zeros":
        return np.zeros(parameter.shape, np.float32)
    if parameter.initial == "ones":
        return np.ones(parameter.shape, np.float32)
    if parameter.initial == "forget_ones":
        gates = np.zeros(parameter.shape, np.float32)
        gates[..., 1, :] = 1
        return gates
    if parameter.initial == "normal":
        return _scaled_normal(parameter, key)
    fan = parameter.fan_in if parameter.initial == "kaiming" else parameter.fan_in + parameter.fan_out
    drawn = (2.0 * uniform(key, parameter.elements) - 1.0) * np.sqrt(6.0 / fan)
    return np.asarray(drawn, np.float32).reshape(parameter.shape)


def _scaled_normal(parameter: Parameter, key: int) -> F32:
    drawn = parameter.deviation * _normal(key, parameter.elements)
    return np.asarray(drawn, np.float32).reshape(parameter.shape)


def _normal(key: int, count: int) -> NDArray[np.float64]:
    """Nearly normal numbers: twelve uniform ones added in order, less six, which needs no libm."""
    terms = uniform(key, 12 * count).reshape(12, count)
    total: NDArray[np.float64] = terms[0] - 6.0
    for term in terms[1:]:
        total += term
    return total


def save_checkpoint(path: str | Path, state: TrainingState, identity: str) -> None:
    """Write a state as ``.npz``, whole or not at all. ``identity`` says which run it belongs to."""
    notes = {
        "identity": identity,
        "gradient_exponents": state.gradient_exponents,
        "step": state.step,
        "epochs": state.epochs,
        "tensors": state.tensors,
        "activity": state.activity,
        "kernels": state.kernels,
    }
    arrays: dict[str, Any] = {f"parameter/{key}": value for key, value in state.parameters.items()}
    arrays |= {f"optimizer/{key}": value for key, value in state.optimizer.items()}
    arrays["notes"] = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    write_bytes(path, buffer.getvalue())


def load_checkpoint(path: Path, identity: str) -> TrainingState:
    """Read a state back.

    Raises `InputError` if the file is not there, is not a checkpoint, or belongs to another run
    (another chip, workload, recipe, data set, seed or batch, or another version of accelsim).
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        raise InputError("no checkpoint to resume from", str(path)) from None
    except OSError as error:
        raise InputError(f"cannot read the checkpoint: {error.strerror}", str(path)) from None
    try:
        owner, state = _unpacked(content)
    except (
        ValueError, KeyError, TypeError, AttributeError, EOFError, RuntimeError, SyntaxError, MemoryError,
        TokenError, zipfile.BadZipFile, zlib.error,
    ):  # fmt: skip
        raise InputError("not a checkpoint of accelsim, or a damaged one", str(path)) from None
    if owner != identity:
        message = (
            "the checkpoint belongs to another chip, number of chips, workload, recipe, data set, seed, "
            "batch, number of epochs or version of accelsim; remove it or use another --out"
        )
        raise InputError(message, str(path))
    return state


def _unpacked(content: bytes) -> tuple[str, TrainingState]:
    """The identity and the state that `save_checkpoint` wrote; any other bytes raise something."""
    with np.load(io.BytesIO(content), allow_pickle=False) as file:
        arrays = {key: file[key] for key in file.files}
    notes = json.loads(arrays.pop("notes").tobytes())
    parts: dict[str, dict[Key, F32]] = {"parameter": {}, "optimizer": {}}
    for key, value in arrays.items():
        kind, _, name = key.partition("/")
        parts[kind][name] = value
    state = TrainingState(
        parts["parameter"], parts["optimizer"], notes["gradient_exponents"], notes["step"],
        notes["epochs"], notes["tensors"], notes["activity"], notes["kernels"],
    )  # fmt: skip
    return notes["identity"], state
