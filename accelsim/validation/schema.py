"""The keys of a sheet of published measurements: what was published, and how the simulator repeats it.

A sheet is one YAML file about one source. Each of its ``figures`` names a published number, the quantity it
is of, and the run that repeats it: a chip, a workload or a single GEMM, which phases, how many samples.
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from accelsim.mapping.conventions import Convention
from accelsim.mapping.pins import PinnedRows
from accelsim.mapping.plan import Dataflow
from accelsim.operations import PHASES, Phase

Text = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1)]
Positive = Annotated[float, Field(gt=0)]

QuantityName = Literal[
    "peak_tops",
    "peak_macs_per_dram_byte",
    "peak_tops_per_mm2",
    "die_mm2",
    "macs",
    "cycles",
    "array_cycles",
    "stream_cycles",
    "latency_ms",
    "array_latency_ms",
    "samples_per_s",
    "samples_per_j",
    "tops",
    "utilization",
    "power_mw",
    "power_with_dram_mw",
    "tops_per_w",
    "tops_per_w_with_dram",
    "peak_tops_per_w",
    "energy_mj",
    "energy_with_dram_mj",
    "pj_per_mac",
    "dram_mb",
    "dram_bytes_per_mac",
    "ops_per_dram_byte",
    "scratchpad_mb",
    "speedup",
    "speedup_at_equal_area",
    "co2e_tonnes",
    "co2e_lb",
]
"""What a published number is of; `accelsim.validation.quantities` gives units and definitions."""

Model = Literal["chip", "row_stationary", "nvdla_sheet"] | Convention
"""Which cycles count: ``chip``, the simulator's own, or a convention of others (see `conventions`)."""

LayerGroup = Literal["all", "pointwise", "narrowing_pointwise"]


class Keys(BaseModel):
    """Frozen; a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Span(Keys):
    """A published range."""

    low: Positive
    high: Positive


class GemmSize(Keys):
    """One product (m, k) x (k, n) with the formats of its operands."""

    m: int = Field(ge=1)
    k: int = Field(ge=1)
    n: int = Field(ge=1)
    a_format: Text
    b_format: Text
    out_bits: int = Field(default=16, ge=1, le=64, description="bits of an element of the result")


class ArraySize(Keys):
    """A bare array for the closed forms of others, without a chip."""

    rows: int = Field(ge=1)
    cols: int = Field(ge=1)


class ModeRule(Keys):
    """In these phases and layers the MACs run in this mode; later rules go before earlier ones."""

    mode: Text
    phases: tuple[Phase, ...] = PHASES
    layers: LayerGroup = "all"


class Zeros(Keys):
    """Measured share of zero inputs by layer, and the share of a MAC's energy that a zero saves."""

    share: dict[str, Annotated[float, Field(ge=0, le=1)]]
    energy_saved: float = Field(ge=0, le=1)
    source: Text


class Run(Keys):
    """What the simulator does to repeat a figure; keys that do not apply are left out.

    ``work: inference`` is the forward pass alone with nothing kept for a backward pass and no loss;
    ``phases`` and ``layers`` choose a part of a step. ``workloads`` (in place of ``workload``) gives
    several, of which the figure says ``over`` what. ``model`` says whose cycles count; ``dataflow`` goes with
    the conventions of others, ``zeros`` with ``row_stationary``.
    """

    chip: Text | None = None
    mode: Text | None = Field(default=None, description="a mode of the chip, for its peak")
    modes: tuple[ModeRule, ...] = Field(default=(), description="for speedup_at_equal_area")
    array: ArraySize | None = None
    workload: Text | None = None
    workloads: tuple[Text, ...] = ()
    gemm: GemmSize | None = None
    recipe: Text | None = None
    work: Literal["training", "inference"] = "training"
    phases: tuple[Phase, ...] = PHASES
    layers: tuple[Text, ...] = ()
    batch: int | None = Field(default=None, ge=1)
    model: Model = "chip"
    dataflow: Dataflow | None = None
    zeros: Zeros | None = None
    rows: PinnedRows | None = Field(default=None, description="the designers' mapping, with row_stationary")
    clock_mhz: Positive | None = None
    voltage_v: Positive | None = None
    dram_gb_per_s: Positive | None = Field(
        default=None, description="DRAM of the measurement, not the file's"
    )
    chips: int = Field(default=1, ge=1, description="chips that share the mini-batch, see a chip's 'system'")
    electricity_kwh: Positive | None = Field(default=None, description="at the meter, overhead included")
    grid: Text | None = Field(default=None, description="a shipped grid or a file")


class Calibration(Keys):
    """One measurement that fixes one factor on the energy of a chip (all of it but DRAM)."""

    name: Text
    published: Positive
    quantity: Literal["tops_per_w", "power_mw", "energy_mj"]
    run: Run
    source: Text


class Figure(Keys):
    """One published number. ``calibration`` names the factor that is applied to the chip's energy."""

    label: Text
    published: Positive | Span
    quantity: QuantityName
    run: Run
    against: Run | None = Field(default=None, description="the run that a speedup is over")
    over: Literal["lowest", "mean", "highest"] | None = None
    status: Literal["calibrated", "predicted"]
    calibration: Text | None = None
    note: Text | None = Field(default=None, description="what explains a difference")
    missing: Text | None = Field(default=None, description="what the model does not follow")


class Sheet(Keys):
    """A file of published measurements from one source."""

    row: Text = Field(description="short name, the first column of the table")
    title: Text
    source: Text
    calibrations: tuple[Calibration, ...] = ()
    figures: tuple[Figure, ...] = Field(min_length=1)

    @property
    def name(self) -> str:
        """What `accelsim check` calls it."""
        return self.row
