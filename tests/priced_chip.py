"""A small chip for tests of mapping and cost, written as a YAML file.

Every energy and area is a different number, so that a count multiplied by the wrong one shows.
"""

from __future__ import annotations

from pathlib import Path

from accelsim.chip import Chip, load_chip

TEMPLATE = """\
name: priced
description: A test chip.
recipe: ibm2020_fp4
technology: none
clock_mhz: {{value: {clock_mhz}, {known}}}
cores: {cores}
corelets: {corelets}
array:
  rows: {rows}
  cols: {cols}
  simd: {simd}
  dataflows: [{dataflows}]
  accumulator: fp16
  overflow: format
  output_chunk: {output_chunk}
  pipelined: {pipelined}
  area_um2_per_pe: {{value: 300, {known}}}
  modes:
    - name: narrow
      operands: [[int4, int4], [int4, fp4_r4_even]]
      lanes: {lanes}
      energy_pj_per_mac: {{value: 0.0625, {known}}}
    - name: wide
      operands: [[fp16, fp16]]
      lanes: 1
      energy_pj_per_mac: {{value: 0.5, {known}}}
scratchpad:
  capacity_kib: {capacity_kib}
  multicast: {multicast}
  bandwidth_bytes_per_cycle: {scratchpad_bandwidth}
  read_energy_pj_per_byte: {{value: 1.75, {known}}}
  write_energy_pj_per_byte: {{value: 2.25, {known}}}
  area_mm2: {{value: 1.5, {known}}}
operand_buffer:
  energy_pj_per_byte: {{value: 0.3, {known}}}
{ring}dram:
  kind: HBM2
  capacity_gib: 1
  bandwidth_gb_per_s: {{value: {dram_bandwidth}, {known}}}
  read_energy_pj_per_bit: {{value: 4.1, {known}}}
  write_energy_pj_per_bit: {{value: 5.3, {known}}}
vector_unit:
  lanes: 4
  storage_format: fp16
  internal_format: fp32
  cycles_per_operation: {{add: 1, multiply: 2, compare: 1, special: 8}}
  energy_pj_per_operation:
    add: {{value: 0.11, {known}}}
    multiply: {{value: 0.13, {known}}}
    compare: {{value: 0.17, {known}}}
    special: {{value: 0.19, {known}}}
  area_mm2: {{value: 0.25, {known}}}
static_power_mw: {{value: 30, {known}}}
other_area_mm2: {{value: 0.75, {known}}}
"""

RING = """\
ring:
  bandwidth_bytes_per_cycle: {bandwidth}
  hop_cycles: {hop_cycles}
  energy_pj_per_byte: {{value: 0.7, {known}}}
"""

WIDE_PORT_BYTES = 2**20
"""A scratchpad bandwidth that never binds."""

ALL_DATAFLOWS = "weight_stationary, output_stationary, input_stationary"


def priced_chip(
    folder: Path,
    *,
    dataflows: str = ALL_DATAFLOWS,
    rows: int = 4,
    cols: int = 4,
    simd: int = 1,
    lanes: int = 2,
    cores: int = 1,
    corelets: int = 1,
    output_chunk: int | None = 8,
    pipelined: bool = True,
    capacity_kib: int = 64,
    clock_mhz: float = 500,
    scratchpad_bandwidth: int = 16,
    dram_bandwidth: float = 4,
    ring_bandwidth: int | None = None,
    hop_cycles: int = 1,
    multicast: bool = False,
) -> Chip:
    """Write the chip's file into ``folder`` and load it; it has a ring if a bandwidth is given."""
    path = folder / "priced.yaml"
    known = 'source: "a test", evidence: estimated'
    ring = RING.format(bandwidth=ring_bandwidth, hop_cycles=hop_cycles, known=known)
    text = TEMPLATE.format(
        known=known,
        ring=ring if ring_bandwidth else "",
        dataflows=dataflows,
        rows=rows,
        cols=cols,
        simd=simd,
        lanes=lanes,
        cores=cores,
        corelets=corelets,
        output_chunk="null" if output_chunk is None else output_chunk,
        pipelined=str(pipelined).lower(),
        capacity_kib=capacity_kib,
        multicast=str(multicast).lower(),
        clock_mhz=clock_mhz,
        scratchpad_bandwidth=scratchpad_bandwidth,
        dram_bandwidth=dram_bandwidth,
    )
    path.write_text(text, encoding="utf-8")
    return load_chip(path)
