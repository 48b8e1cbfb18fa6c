"""YAML file to `Workload`: a network, its data and how it is trained."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from accelsim.errors import InputError
from accelsim.network import LAYERS, Network, TableLookup
from accelsim.storage import find_resource
from accelsim.workload.building import NetworkBuilder
from accelsim.workload.data_key import read_source
from accelsim.workload.datasets import DataFacts, DataSource, ShapeOnly
from accelsim.workload.expansion import Expander
from accelsim.workload.schema import Adam, LearningRate, Normalise, Sgd, WorkloadKeys
from accelsim.yamlfile import YamlDocument, parse, position_of, read_yaml


@dataclass(frozen=True)
class Workload:
    """What is trained and how.

    ``source`` is where the data comes from, ``data`` what is known of it. ``normalise`` is None where
    samples are token ids, or have no values. ``source_text`` and ``source_name`` are the file word for
    word and its name, for records.
    """

    name: str
    description: str
    source: DataSource
    data: DataFacts
    batch: int
    epochs: int
    seed: int
    normalise: Normalise | None
    optimizer: Sgd | Adam
    learning_rate: LearningRate
    label_smoothing: float
    clip_norm: float | None
    network: Network
    source_text: str
    source_name: str

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one sample."""
        return self.data.input_shape

    @property
    def classes(self) -> int:
        """Number of classes a label may be."""
        return self.data.classes

    @property
    def output_shape(self) -> tuple[int, ...]:
        """Shape of one sample's logits: (*targets, classes)."""
        return self.data.output_shape

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
    return workload_of(read_yaml(find_resource("workloads", name_or_path)))


def workload_of(document: YamlDocument) -> Workload:
    """The workload of a file that has been read. Raises `InputError` as `load_workload` does."""
    keys = parse(WorkloadKeys, document)
    source = read_source(document, keys.data)
    data = source.facts()
    expander = Expander(document, keys.blocks, list(LAYERS))
    network = NetworkBuilder(document).build(expander.expand(keys.network, ("network",)), data.input_shape)
    _fits(document, network, data)
    _normalised(document, keys, source, data)
    if not any(leaf.layer.has_gemm for leaf in network.leaves()):
        kinds = ", ".join(kind for kind, layer in LAYERS.items() if layer.has_gemm)
        message = f"network: has no layer that runs on the MAC array ({kinds})"
        raise InputError(message, position_of(document, ("network",)))
    return Workload(
        name=keys.name,
        description=keys.description,
        source=source,
        data=data,
        batch=keys.batch,
        epochs=keys.epochs,
        seed=keys.seed,
        normalise=keys.normalise,
        optimizer=keys.optimizer,
        learning_rate=keys.learning_rate,
        label_smoothing=keys.label_smoothing,
        clip_norm=keys.clip_norm,
        network=network,
        source_text=document.text,
        source_name=document.path.name,
    )


def _fits(document: YamlDocument, network: Network, data: DataFacts) -> None:
    """Token ids meet an embedding that knows them all; the network ends in one logit a class and label."""
    where = position_of(document, ("network",))
    embedded = [
        leaf.layer.table(leaf.site)[0] for leaf in network.leaves() if isinstance(leaf.layer, TableLookup)
    ]
    if bool(embedded) != (data.tokens is not None):
        kind = "numbers, which no 'embedding' takes" if embedded else "token ids, which need an 'embedding'"
        raise InputError(f"network: the samples are {kind}", where)
    smallest = min(embedded, default=0)
    if smallest < (data.tokens or 0):
        raise InputError(f"network: 'embedding' knows {smallest} tokens, the data has {data.tokens}", where)
    if network.output_shape == data.output_shape:
        return
    each = f" for each of {data.targets} labels" if data.targets else ""
    message = f"ends in {network.output_shape}, but the data has {data.classes} classes{each}"
    raise InputError(f"network: {message}: {data.output_shape}", where)


def _normalised(document: YamlDocument, keys: WorkloadKeys, source: DataSource, data: DataFacts) -> None:
    """Numbers need a rule to enter the chip by, token ids must not have one."""
    if data.tokens is not None and keys.normalise is not None:
        message = "normalise: token ids enter as they are; remove this key"
        raise InputError(message, position_of(document, ("normalise",)))
    if keys.normalise is None and data.tokens is None and not isinstance(source, ShapeOnly):
        raise InputError(
            "missing key 'normalise' (mean and deviation of the samples)", position_of(document, ())
        )
