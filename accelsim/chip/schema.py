"""The chip's keys. Attribute names equal the YAML keys; units stand in the names."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field

from accelsim.chip.memories import Dram, Interconnect, OperandBuffer, Ring, Scratchpad
from accelsim.chip.quantity import (
    Cycles,
    Evidence,
    Geometry,
    Part,
    PositiveQuantity,
    Quantity,
    ShareQuantity,
    Text,
)
from accelsim.yamlfile import FromFile, split_unit

DataflowName = Literal["weight_stationary", "output_stationary", "input_stationary", "row_stationary"]
SumRounding = Literal[
    "format", "nearest_even", "nearest_up", "nearest_down", "toward_zero", "to_odd", "stochastic"
]
Share = Annotated[float, Field(ge=0, le=1)]
Ratio = Annotated[float, Field(ge=0, le=100)]


class Mode(Part):
    """What a PE multiplies in one mode: unordered operand pairs, and how many products per cycle.

    The ``lanes`` products of one PE and cycle (per simd column) lie along K and are added exactly.
    """

    name: Text
    operands: tuple[tuple[Text, Text], ...] = Field(min_length=1)
    lanes: int = Field(ge=1, le=64)
    energy_pj_per_mac: PositiveQuantity
    area_um2_alone: PositiveQuantity | None = Field(
        default=None, description="area of a PE that has this mode only, for comparisons at equal area"
    )

    def takes(self, a_format: str, b_format: str) -> bool:
        """Whether the mode multiplies these two formats, in either order."""
        return (a_format, b_format) in self.operands or (b_format, a_format) in self.operands


class ActivityModel(Part):
    """MAC energy against the share of products with a zero operand, over ``energy_pj_per_mac``.

    ``energy_ratios`` stand at ``zero_fractions``, which rise from 0. ``stated_zero_fraction`` is what an
    estimate assumes; a run measures.

    Toggles of the operands' bits have no price of their own unless one of two keys gives it:
    ``energy_pj_per_toggle`` of one bit at a MAC's inputs that changes, or ``toggle_share``, the part of the
    energy that goes with them. The table's numbers hold the toggles of independent random operands, so what
    is charged is the difference to those; an estimate, which states no other, charges none.
    """

    zero_fractions: tuple[Share, ...] = Field(min_length=2)
    energy_ratios: tuple[Ratio, ...] = Field(min_length=2)
    source: Text
    evidence: Evidence
    stated_zero_fraction: ShareQuantity
    toggle_share: ShareQuantity | None = None
    energy_pj_per_toggle: PositiveQuantity | None = None

    @property
    def prices_toggles(self) -> bool:
        """Whether toggles beyond those of independent operands cost anything."""
        return self.toggle_share is not None or self.energy_pj_per_toggle is not None

    @property
    def end_of_curve(self) -> Quantity:
        """The last energy ratio, which stands for the curve in the list of sources."""
        text = f"at {self.zero_fractions[-1]:g} zeros: {self.source}"
        return Quantity(value=self.energy_ratios[-1], source=text, evidence=self.evidence)


class LocalStore(Part):
    """What a PE of a row-stationary array holds, in words, and the buses from the global buffer.

    ``sum_words_per_cycle``: sums to the array, and as many back, in one cycle.
    """

    word_bytes: int = Field(ge=1, le=8)
    input_words: int = Field(ge=1, le=2**16)
    filter_words: int = Field(ge=1, le=2**16)
    sum_words: int = Field(ge=1, le=2**16)
    filter_words_per_cycle: int = Field(ge=1, le=2**12)
    sum_words_per_cycle: int = Field(ge=1, le=2**12)


class MacArray(Part):
    """The PE array of one corelet: ``rows`` x ``cols`` PEs, each ``simd`` output columns wide.

    ``accumulator`` (the format of sums) is a name of `numerics.accumulator`; ``overflow`` and ``rounding``
    are what it does above its range and between two values, ``format`` being its own way.
    ``alignment_bits``: the adder drops, before it adds, what lies that many bits below the largest
    exponent; None: it drops nothing (`numerics.accumulation`).

    ``output_chunk`` is the number of products per drained sum in output_stationary; None: all of K.
    ``pipelined``: passes follow back to back; else one fold ends before the next begins.
    ``convolution``: whether a convolution's windows come from the scratchpads element by element (im2col),
    or from a window buffer at the array's edge that holds ``window_bytes`` of an image (direct; see
    `accelsim.mapping.direct`), or from where the search says (either). ``window_area_mm2``: of one window
    buffer; None: that of as many bytes of the scratchpad. ``activity``:
    how the operands' values change the energy of a MAC; without it they do not.
    """

    rows: Geometry
    cols: Geometry
    simd: int = Field(ge=1, le=64)
    dataflows: tuple[DataflowName, ...] = Field(min_length=1)
    accumulator: Text
    overflow: Literal["format", "saturate", "wrap"]
    rounding: SumRounding = "format"
    alignment_bits: int | None = Field(default=None, ge=1, le=64)
    output_chunk: int | None = Field(default=None, ge=1)
    pipelined: bool
    area_um2_per_pe: PositiveQuantity
    local_store: LocalStore | None = None
    convolution: Literal["im2col", "direct", "either"] = "im2col"
    window_bytes: int | None = Field(default=None, ge=1, le=2**30)
    window_area_mm2: PositiveQuantity | None = None
    modes: tuple[Mode, ...] = Field(min_length=1)
    activity: ActivityModel | None = None

    @property
    def output_cols(self) -> int:
        """Independent output columns: PE columns times SIMD width."""
        return self.cols * self.simd

    def mode_for(self, a_format: str, b_format: str) -> Mode | None:
        """The first mode that multiplies these two formats (in either order), or None."""
        return next((mode for mode in self.modes if mode.takes(a_format, b_format)), None)


class OperationCycles(Part):
    """Cycles a vector lane is busy with one operation."""

    add: Cycles
    multiply: Cycles
    compare: Cycles
    special: Cycles


class OperationEnergy(Part):
    """Energy of one operation of one vector lane."""

    add: PositiveQuantity
    multiply: PositiveQuantity
    compare: PositiveQuantity
    special: PositiveQuantity


def _storage_format(name: str) -> str:
    if name not in ("dlfloat16", "fp16", "bf16", "fp32") and not re.fullmatch(
        r"fixed16_\d\d?_\d\d?", name, re.ASCII
    ):
        raise ValueError(f"must be one of dlfloat16, fp16, bf16, fp32 or fixed16_<IL>_<FL>, got {name!r}")
    return name


class VectorUnit(Part):
    """The element-wise unit of one corelet."""

    lanes: int = Field(ge=1, le=2**16)
    storage_format: Annotated[str, AfterValidator(_storage_format)]
    internal_format: Literal["fp32"]
    cycles_per_operation: OperationCycles
    energy_pj_per_operation: OperationEnergy
    area_mm2: PositiveQuantity


class OperatingPoint(Part):
    """The supply voltage at which the file's numbers hold, and how they change with it.

    See `accelsim.chip.operating` for the laws; the file's clock is taken for the highest at ``voltage_v``.
    """

    voltage_v: PositiveQuantity
    threshold_v: PositiveQuantity
    alpha: PositiveQuantity
    leakage_exponent: PositiveQuantity


class System(Part):
    """Chips in a ring that share a mini-batch; each link carries both directions at its bandwidth.

    ``link_latency_ns``: from a chip's sending to the next one's having received, beside the transfer.
    """

    chips: Geometry
    link_bandwidth_gb_per_s: PositiveQuantity
    link_latency_ns: Quantity
    link_energy_pj_per_bit: PositiveQuantity


class Chip(FromFile, Part):
    """A whole chip: ``cores`` x ``corelets`` PE arrays with their vector units, and their memories.

    Without a ``ring`` no GEMM is split along K; without an ``interconnect`` every scratchpad is at hand.
    ``battery_wh``: the battery it runs on; without one it stands in a data centre. ``static_power_mw`` does
    not depend on the clock, ``clock_power_mw`` (the clock tree's) goes with it. ``system``: how many such
    chips an estimate takes, and what joins them.
    """

    name: Text
    description: Text
    recipe: Text
    technology: Text
    clock_mhz: PositiveQuantity
    cores: Geometry
    corelets: Geometry
    array: MacArray
    scratchpad: Scratchpad
    operand_buffer: OperandBuffer
    ring: Ring | None = None
    interconnect: Interconnect | None = None
    dram: Dram
    vector_unit: VectorUnit
    static_power_mw: Quantity
    other_area_mm2: Quantity
    clock_power_mw: Quantity | None = None
    operating_point: OperatingPoint | None = None
    system: System | None = None
    battery_wh: PositiveQuantity | None = None

    @property
    def workers(self) -> int:
        """Corelets of the whole chip; each works on its own piece of a GEMM."""
        return self.cores * self.corelets

    def macs_per_cycle(self, mode: Mode) -> int:
        """Multiply-accumulates of the whole chip in one cycle, every PE busy."""
        return self.workers * self.array.rows * self.array.output_cols * mode.lanes

    def peak_tops(self, mode: Mode) -> float:
        """Peak tera-operations per second in one mode (1 MAC = 2 operations)."""
        return 2 * self.macs_per_cycle(mode) * self.clock_mhz.value / 1e6

    def sources(self) -> list[dict[str, Any]]:
        """One row {key, value, unit, source, evidence} for every physical number, in file order."""
        return [
            {
                "key": key,
                "value": quantity.value,
                "unit": unit,
                "source": quantity.source,
                "evidence": quantity.evidence,
            }
            for key, unit, quantity in _quantities(self, "", "")
        ]


def _quantities(value: Any, key: str, unit: str) -> Iterator[tuple[str, str, Quantity]]:
    if isinstance(value, Quantity):
        yield key, unit, value
    elif isinstance(value, Part):
        if isinstance(value, ActivityModel):
            yield f"{key}.energy_ratios", "", value.end_of_curve
        for name in type(value).model_fields:
            inner = f"{key}.{name}" if key else name
            yield from _quantities(getattr(value, name), inner, split_unit(name)[1] or unit)
    elif isinstance(value, tuple):
        for index, item in enumerate(value):
            yield from _quantities(item, f"{key}[{index}]", unit)
