"""YAML file to `Workload`: a network, its data and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from accelsim.errors import InputError, nearest
from accelsim.network import LAYERS, Network
from accelsim.storage import find_resource
from accelsim.workload.building import NetworkBuilder
from accelsim.workload.datasets import dataset_names, dataset_shape
from accelsim.workload.expansion import Expander, shown
from accelsim.workload.schema import Adam, Constant, Cosine, Normalise, Sgd, Step, WorkloadKeys
from accelsim.yamlfile import YamlDocument, parse, position_of, read_yaml


@dataclass(frozen=True)
class Workload:
    """What is trained and how. ``data`` is a bundled data set's name or an absolute path.

    ``source_text`` and ``source_name`` are the file word for word and its name, for records.
    """

    name: str
    description: str
    data: str
    input_shape: tuple[int, ...]
    classes: int
    batch: int
    epochs: int
    seed: int
    normalise: Normalise
    optimizer: Sgd | Adam
    learning_rate: Constant | Step | Cosine
    network: Network
    source_text: str
    source_name: str

    def adjusted(
        self, *, batch: int | None = None, epochs: int | None = None, seed: int | None = None
    ) -> Workload:
        """The same workload with another batch, number of epochs or seed.

        Raises `InputError` for a batch or number of epochs below 1, or a negative seed.
        """
        for flag, value, least in (("batch", batch, 1), ("epochs", epochs, 1), ("seed", seed, 0)):
            if value is not None and value < least:
                raise InputError(f"must be at least {least}, got {value}", flag)
        return replace(
            self,
            batch=self.batch if batch is None else batch,
            epochs=self.epochs if epochs is None else epochs,
            seed=self.seed if seed is None else seed,
        )


def load_workload(name_or_path: str | Path) -> Workload:
    """Read a workload by the name of a shipped one or by the path of a YAML file.

    Raises `InputError` with file, line, column, key, the value given and what is allowed, for the
    first mistake in the file: keys, blocks, layers whose shapes do not fit, data that is not there.
    """
    document = read_yaml(find_resource("workloads", name_or_path))
    keys = parse(WorkloadKeys, document)
    data, shape, classes = _data(document, keys.data)
    expander = Expander(document, keys.blocks, list(LAYERS))
    network = NetworkBuilder(document).build(expander.expand(keys.network, ("network",)), shape)
    if network.output_shape != (classes,):
        message = f"network: ends in {network.output_shape}, but the data has {classes} classes: ({classes},)"
        raise InputError(message, position_of(document, ("network",)))
    if not any(leaf.layer.has_gemm for leaf in network.leaves()):
        raise InputError("network: has no linear or conv2d layer", position_of(document, ("network",)))
    return Workload(
        name=keys.name,
        description=keys.description,
        data=data,
        input_shape=shape,
        classes=classes,
        batch=keys.batch,
        epochs=keys.epochs,
        seed=keys.seed,
        normalise=keys.normalise,
        optimizer=keys.optimizer,
        learning_rate=keys.learning_rate,
        network=network,
        source_text=document.text,
        source_name=document.path.name,
    )


def _data(document: YamlDocument, name: str) -> tuple[str, tuple[int, ...], int]:
    """The data set's name or absolute path, its sample shape and its number of classes."""
    where = position_of(document, ("data",))
    if name.endswith(".npz"):
        path = _existing(document.path.parent / name, where)
        return str(path), *dataset_shape(path)
    if name not in dataset_names():
        allowed = ", ".join(dataset_names())
        hint = nearest(name, dataset_names())
        message = (
            f"data: unknown data set {shown(name)}{hint}; allowed: {allowed}, or the path of an .npz file"
        )
        raise InputError(message, where)
    return name, *dataset_shape(name)


def _existing(path: Path, where: str) -> Path:
    """The absolute path of a data file; ``where`` is the place of the key that names it."""
    try:
        path = path.resolve()
        found = path.is_file()
    except (OSError, ValueError):  # too long, or characters no file name can hold
        found = False
    if not found:
        raise InputError(f"data: no such file: {str(path)!r}", where)
    return path
