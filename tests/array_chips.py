"""Small chips for tests, written as YAML files: one array with a chosen geometry, modes and accumulator."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

TEMPLATE = """\
name: tiny
description: A test chip.
recipe: ibm2020_fp4
technology: none
clock_mhz: {q}
cores: {cores}
corelets: 1
array:
  rows: {rows}
  cols: {cols}
  simd: {simd}
  dataflows: [{dataflow}]
  accumulator: {accumulator}
  overflow: {overflow}
  output_chunk: {output_chunk}
  pipelined: true
  area_um2_per_pe: {q}
  modes:
    - name: only
      operands: [{operands}]
      lanes: {lanes}
      energy_pj_per_mac: {q}
scratchpad:
  capacity_kib: 4096
  bandwidth_bytes_per_cycle: 128
  read_energy_pj_per_byte: {q}
  write_energy_pj_per_byte: {q}
  area_mm2: {q}
operand_buffer:
  energy_pj_per_byte: {q}
dram:
  kind: HBM2
  capacity_gib: 1
  bandwidth_gb_per_s: {q}
  read_energy_pj_per_bit: {q}
  write_energy_pj_per_bit: {q}
vector_unit:
  lanes: 8
  storage_format: dlfloat16
  internal_format: fp32
  cycles_per_operation: {{add: 1, multiply: 1, compare: 1, special: 8}}
  energy_pj_per_operation: {{add: {q}, multiply: {q}, compare: {q}, special: {q}}}
  area_mm2: {q}
static_power_mw: {q}
other_area_mm2: {q}
"""


@dataclass(frozen=True)
class ArrayChip:
    """What decides the bits of a GEMM on the chip, and its YAML file."""

    path: Path
    dataflow: str
    rows: int
    lanes: int
    output_chunk: int | None
    accumulator: str
    overflow: str

    def chunk(self, k: int) -> int:
        """Products per inner accumulation: what one pass of the array covers."""
        if self.dataflow == "output_stationary":
            whole = max(k, 1)
            return min(self.output_chunk or whole, whole)
        return self.rows * self.lanes


def write_array_chip(
    folder: Path,
    operands: Sequence[tuple[str, str]],
    *,
    lanes: int = 1,
    dataflow: str = "weight_stationary",
    rows: int = 4,
    cols: int = 2,
    simd: int = 1,
    cores: int = 1,
    output_chunk: int | None = None,
    accumulator: str = "dlfloat16",
    overflow: str = "format",
) -> ArrayChip:
    """Write the chip's file under a new name into ``folder`` and describe it."""
    path = folder / f"tiny{len(list(folder.iterdir()))}.yaml"
    chip = ArrayChip(path, dataflow, rows, lanes, output_chunk, accumulator, overflow)
    text = TEMPLATE.format(
        q='{value: 1, source: "a test", evidence: estimated}',
        rows=rows,
        cols=cols,
        simd=simd,
        cores=cores,
        dataflow=dataflow,
        accumulator=accumulator,
        overflow=overflow,
        output_chunk="null" if output_chunk is None else output_chunk,
        operands=", ".join(f"[{a}, {b}]" for a, b in operands),
        lanes=lanes,
    )
    chip.path.write_text(text, encoding="utf-8")
    return chip
