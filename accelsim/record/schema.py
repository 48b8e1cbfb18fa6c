"""All that a run leaves behind, enough to redraw every table and figure.

A record holds inputs (texts and digests), exact integer counts and the training history. It holds no
derived figure (throughput, power, ratios): `accelsim.report` computes those, so they can never disagree
with the counts they come from. Cycles, bytes and attojoules (1 aJ = 1e-18 J) are exact integers, and a
record whose totals differ from the sum of their parts does not load.
"""

from __future__ import annotations

import math
from typing import Annotated, Literal, get_args

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from accelsim.operations import Phase

SCHEMA: Literal["accelsim.run/1"] = "accelsim.run/1"

Resource = Literal["array", "dram", "scratchpad", "vector", "link"]
RESOURCES: tuple[Resource, ...] = get_args(Resource)
"""What can bind a layer: the MAC arrays, DRAM, the scratchpads, the vector units, links between chips."""

Component = Literal["mac", "operand_buffer", "scratchpad", "dram", "vector_unit", "static", "clock", "link"]
COMPONENTS: tuple[Component, ...] = get_args(Component)
"""Where energy goes."""

Evidence = Literal["published", "measured", "derived", "estimated"]
EVIDENCE: tuple[Evidence, ...] = get_args(Evidence)
"""How a physical number is known, best first."""


def finite_or_none(value: object) -> object:
    """JSON has no NaN: the loss of a run that diverged is stored as null."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


Count = Annotated[int, Field(strict=True, ge=0)]
PositiveCount = Annotated[int, Field(strict=True, gt=0)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, le=1)]
Loss = Annotated[float | None, BeforeValidator(finite_or_none)]


class Frozen(BaseModel):
    """A part of a record: it cannot change, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class InputFile(Frozen):
    """A chip, workload, recipe or format as the run read it: its whole text and the SHA-256 of that text."""

    name: str
    file: str
    text: str
    sha256: str


class DatasetRecord(Frozen):
    """The data set, by name and digest; its samples are not part of a record."""

    name: str
    sha256: str
    train_samples: Count
    test_samples: Count
    license: str


class MetricRecord(Frozen):
    """The figure that people judge a task by, on the test data; null when not finite."""

    name: str
    value: Loss

    @property
    def less_is_better(self) -> bool:
        """Whether a smaller value is the better one: of all but accuracy."""
        return self.name != "accuracy"


class EpochRecord(Frozen):
    """One epoch: mean losses (null when not finite), accuracies as fractions, seconds of the host.

    Accuracies are shares of all labels that count. Records of older versions have no ``metric``: theirs
    is the accuracy.
    """

    epoch: PositiveCount
    steps: Count
    train_loss: Loss
    train_accuracy: Fraction
    test_loss: Loss
    test_accuracy: Fraction
    learning_rate: NonNegative
    host_seconds: NonNegative
    metric: MetricRecord | None = None


class TensorRecord(Frozen):
    """How one quantised tensor fared in one epoch: fractions saturated and flushed to zero, its scale.

    Against the tensor before quantisation: the ``cosine`` of the angle, and the ``gain`` (the quantised
    tensor's projection over the tensor's length); none where one of them is all zeros. ``exponents``: how
    many of its numbers lie in each binade, as (floor of log2, count).
    """

    epoch: PositiveCount
    layer: str
    role: str
    saturated: Fraction
    underflow: Fraction
    scale: Loss
    cosine: Loss = None
    gain: Loss = None
    exponents: tuple[tuple[int, int], ...] = ()


class ActivityRecord(Frozen):
    """What the operands of one layer and phase did in the observed step of one epoch.

    ``idle_products``: those with a zero operand. ``toggle_fraction``: of the operands' bits at the MACs'
    inputs, from one product to the next in array order; ``independent_toggle_fraction``: the same if random
    codes with as many zeros streamed. MAC energy of the step as the chip's file states it and as measured;
    ``toggle_mac_aj`` of the difference comes of toggles (below 0: saved), the rest of zeros. None where the
    chip's file gives toggles no price.
    """

    epoch: PositiveCount
    layer: str
    phase: Phase
    products: PositiveCount
    idle_products: Count
    a_zero_fraction: Fraction
    b_zero_fraction: Fraction
    toggle_fraction: Fraction
    independent_toggle_fraction: Fraction
    stated_mac_aj: Count
    measured_mac_aj: Count
    toggle_mac_aj: Annotated[int, Field(strict=True)] | None = None


class TrainingRecord(Frozen):
    """What was learnt: the history, the digest of the final weights, the kernels that computed it."""

    epochs: tuple[EpochRecord, ...]
    final_accuracy: Fraction
    best_accuracy: Fraction
    weight_digest: str
    kernels: dict[str, Count]
    tensors: tuple[TensorRecord, ...]
    activity: tuple[ActivityRecord, ...] = ()


class EnergyRecord(Frozen):
    """Energy by component, exact attojoules."""

    mac: Count
    operand_buffer: Count
    scratchpad: Count
    dram: Count
    vector_unit: Count
    static: Count
    clock: Count = 0
    link: Count = 0

    @property
    def total_aj(self) -> int:
        """Sum of all components, attojoules."""
        return sum(self.of(component) for component in COMPONENTS)

    def of(self, component: Component) -> int:
        """Energy of one component, attojoules."""
        energy_aj: int = getattr(self, component)
        return energy_aj


class GemmRecord(Frozen):
    """One GEMM and the plan it ran by (see `accelsim.mapping.plan.Plan`)."""

    m: Count
    k: Count
    n: Count
    groups: Count
    a_format: str
    b_format: str
    dataflow: str
    split: str
    workers: PositiveCount
    lanes: PositiveCount
    chunk: PositiveCount
    passes: Count
    array_cycles: Count


class LayerRecord(Frozen):
    """One layer in one phase of one mini-batch: busy cycles of each resource, elapsed cycles, energy."""

    layer: str
    kind: str
    phase: Phase
    macs: Count
    array_cycles: Count
    dram_cycles: Count
    scratchpad_cycles: Count
    vector_cycles: Count
    link_cycles: Count = 0
    total_cycles: Count
    bound: Resource
    utilization: Fraction
    dram_read_bytes: Count
    dram_write_bytes: Count
    scratchpad_bytes: Count
    vector_operations: Count
    energy_aj: EnergyRecord
    gemms: tuple[GemmRecord, ...]

    def busy_cycles(self, resource: Resource) -> int:
        """Cycles in which ``resource`` works on this layer."""
        cycles: int = getattr(self, f"{resource}_cycles")
        return cycles


class AreaRecord(Frozen):
    """Silicon of the whole chip, mm2."""

    mac_array_mm2: Positive
    vector_unit_mm2: NonNegative
    scratchpad_mm2: NonNegative
    other_mm2: NonNegative
    die_mm2: Positive


class MemoryRecord(Frozen):
    """DRAM footprint of training, bytes.

    ``peak_bytes`` is the fullest moment of a step, while ``peak_at`` (layer and phase) is at work;
    ``classes`` are its parts. ``dram_traffic``: bytes of a step over the interface, both ways, by where the
    tensors live (``parameter``, ``saved``, ``stream``, ``input``). Empty in records of before.
    """

    parameter_bytes: Count
    optimizer_bytes: Count
    saved_activation_bytes: Count
    peak_bytes: Count
    dram_capacity_bytes: Count
    peak_at: str = ""
    classes: dict[str, Count] = Field(default_factory=dict)
    dram_traffic: dict[str, Count] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _peak_is_a_sum(self) -> MemoryRecord:
        held = sum(self.classes.values())
        if self.classes and held != self.peak_bytes:
            raise ValueError(f"peak_bytes is {self.peak_bytes} but its classes add up to {held}")
        return self


class CostRecord(Frozen):
    """The price of one training step (one mini-batch): parts by layer and phase, and exact sums."""

    clock_mhz: Positive
    layers: tuple[LayerRecord, ...]
    step_cycles: PositiveCount
    step_energy_aj: EnergyRecord
    area: AreaRecord
    memory: MemoryRecord
    peak_tops: dict[str, Positive] = Field(min_length=1)

    @model_validator(mode="after")
    def _rows_are_distinct(self) -> CostRecord:
        seen = set()
        for row in self.layers:
            if (row.layer, row.phase) in seen:
                raise ValueError(f"layers holds '{row.layer}' {row.phase} twice: one row a layer and phase")
            seen.add((row.layer, row.phase))
        return self

    @model_validator(mode="after")
    def _totals_are_sums(self) -> CostRecord:
        cycles = sum(layer.total_cycles for layer in self.layers)
        if cycles != self.step_cycles:
            raise ValueError(f"step_cycles is {self.step_cycles} but the layers add up to {cycles}")
        for component in COMPONENTS:
            parts = sum(layer.energy_aj.of(component) for layer in self.layers)
            total = self.step_energy_aj.of(component)
            if parts != total:
                raise ValueError(f"step_energy_aj.{component} is {total} but the layers add up to {parts}")
        if self.step_energy_aj.total_aj == 0:
            raise ValueError("step_energy_aj is zero in every component: a step must cost energy")
        return self


class SourceRecord(Frozen):
    """Where one physical number of the chip comes from."""

    key: str
    value: float
    unit: str
    source: str
    evidence: Evidence


class GridRecord(Frozen):
    """Where the electricity comes from; ``battery_wh`` is that of a chip that runs on one.

    ``carbon_g_per_kwh`` in grams CO2 equivalent, ``price_per_kwh`` in ``currency``, both at the meter;
    ``pue`` (power usage effectiveness) is meter power over chip power.
    """

    name: str
    year: Count
    currency: str
    carbon_g_per_kwh: NonNegative
    price_per_kwh: NonNegative
    pue: Annotated[float, Field(ge=1, allow_inf_nan=False)]
    battery_wh: Positive | None
    sources: tuple[SourceRecord, ...]


class SystemRecord(Frozen):
    """Chips that share each mini-batch; ``cost`` is that of each one, with ``batch_per_chip`` samples."""

    chips: PositiveCount
    batch_per_chip: PositiveCount


class RunRecord(Frozen):
    """One run (``train``: values were computed; ``estimate``: cycles and energy only) on one chip.

    ``formats``: files of number formats that the chip names beside those of the catalog. ``phases``: a step
    is one of training, or the forward pass alone (of inference: nothing is kept), whose epochs are passes
    over the test data.
    """

    schema_name: Literal["accelsim.run/1"] = Field(default=SCHEMA, alias="schema")
    kind: Literal["train", "estimate"]
    phases: Literal["training", "forward"] = "training"
    created: str
    command: str
    versions: dict[str, str | None]
    seed: int
    threads: PositiveCount
    chip: InputFile
    workload: InputFile
    recipe: InputFile
    formats: tuple[InputFile, ...] = ()
    mapping: InputFile | None = None
    objective: Literal["latency", "energy", "edp"] = "latency"
    dataset: DatasetRecord | None
    batch: PositiveCount
    epochs: PositiveCount
    steps_per_epoch: PositiveCount
    training: TrainingRecord | None
    cost: CostRecord
    sources: tuple[SourceRecord, ...]
    grid: GridRecord | None = None
    system: SystemRecord | None = None

    @property
    def chips(self) -> int:
        """Chips that work on one mini-batch."""
        return self.system.chips if self.system else 1

    @model_validator(mode="after")
    def _training_matches_kind(self) -> RunRecord:
        if (self.kind == "train") != (self.training is not None):
            held = "no training history" if self.training is None else "a training history"
            raise ValueError(f"kind is '{self.kind}' but the record holds {held}")
        return self
