"""What a probe leaves behind: training steps of a network of any size, looked at layer by layer."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import Field

from accelsim.operations import Phase
from accelsim.record.reading import read_part
from accelsim.record.schema import Count, EnergyRecord, Fraction, Frozen, InputFile, Loss, PositiveCount

PROBE_SCHEMA: Literal["accelsim.probe/1"] = "accelsim.probe/1"

Figure = Loss
"""A figure that is null where it is not defined (the cosine with a zero tensor) or not finite."""


class ProbeStep(Frozen):
    """Loss and hits of one step, on the chip and in float32 with the same parameters and samples."""

    step: PositiveCount
    loss: Figure
    float32_loss: Figure


class AgreementRecord(Frozen):
    """How far a tensor of the step is from what float32 arithmetic makes of the same step.

    ``forward``: the input of a layer; ``backward``: dL/dy as it arrives there; ``update``: dL/dW.
    ``cosine``: of the angle between the two; ``gain``: the chip's tensor projected on the float32 one.
    """

    layer: str
    phase: Phase
    elements: PositiveCount
    cosine: Figure
    gain: Figure


class OperandRecord(Frozen):
    """A quantised operand: fractions saturated and flushed to zero, its scale.

    ``octaves``: how many elements of the tensor, before it was quantised, have the exponent e (2**e <= |x| <
    2**(e + 1)), by e; ``cosine`` and ``gain`` compare it with the tensor before it was quantised.
    """

    layer: str
    role: str
    format: str
    saturated: Fraction
    underflow: Fraction
    scale: Figure
    cosine: Figure
    gain: Figure
    octaves: dict[int, Count]


class ProductRecord(Frozen):
    """The products of one layer in one phase: shapes, kernel, and the error of accumulating them.

    ``error_rms``: root mean square of result minus exact sum of the same operands, over that of the exact
    sums, on a sample of rows; it includes the one rounding into the storage format.
    """

    layer: str
    phase: Phase
    products: PositiveCount
    macs: Count
    kernel: str
    error_rms: Figure


class ProbeRecord(Frozen):
    """All that a probe saw in its last step, and the losses of all steps.

    ``host_seconds``: of the last step on the machine that simulated it, the float32 step and all measuring
    included (and, where it is the first step of a machine, the compilation of kernels).
    """

    schema_name: Literal["accelsim.probe/1"] = Field(default=PROBE_SCHEMA, alias="schema")
    created: str
    command: str
    versions: dict[str, str | None]
    seed: int
    threads: PositiveCount
    chip: InputFile
    workload: InputFile
    recipe: InputFile
    samples: str
    batch: PositiveCount
    steps: tuple[ProbeStep, ...] = Field(min_length=1)
    agreement: tuple[AgreementRecord, ...]
    operands: tuple[OperandRecord, ...]
    products: tuple[ProductRecord, ...]
    macs_per_step: Count
    step_cycles: PositiveCount
    step_energy_aj: EnergyRecord
    clock_mhz: float
    host_seconds: float
    weight_digest: str


def probe_text(record: ProbeRecord) -> str:
    """The record as JSON, the same text every time."""
    return record.model_dump_json(by_alias=True, indent=1) + "\n"


def read_probe(path: Path) -> ProbeRecord:
    """Read a probe's record. Raises `InputError` for a file that is none."""
    return read_part(ProbeRecord, path, "the record of a probe")
