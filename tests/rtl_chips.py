"""Small chips with a Verilog PE each, and their Verilog."""

from __future__ import annotations

from pathlib import Path

from array_chips import write_array_chip

from accelsim.chip import load_chip
from accelsim.rtl import Written, write_rtl

RADIX4 = [("int4", "fp4_r4_even"), ("int4", "fp4_r4_odd"), ("uint4", "int4"), ("uint4", "uint4")]
# A name for a small chip -> operand pairs and what differs from the template.
SMALL = {
    "fp16_four_bits": (RADIX4, {"lanes": 4, "accumulator": "fp16", "rows": 2}),
    "fp16_saturating": (
        [("fp4_r4_odd", "uint4")],
        {"lanes": 3, "accumulator": "fp16", "overflow": "saturate"},
    ),
    "fp16_fma": ([("fp16", "fp16")], {"accumulator": "fp16", "rows": 2}),
    "fp16_fma_saturating": ([("fp16", "fp16")], {"accumulator": "fp16", "overflow": "saturate"}),
    "fp16_into_dlfloat": ([("fp16", "fp16")], {}),
    "dlfloat_into_fp16": ([("dlfloat16", "dlfloat16")], {"accumulator": "fp16"}),
    "dlfloat_saturating": ([("dlfloat16", "dlfloat16")], {"overflow": "saturate"}),
    "one_lane": (
        [("int4", "int4"), ("fp4_r4_even", "uint4")],
        {"dataflow": "output_stationary", "output_chunk": 3},
    ),
    "many_lanes": ([("uint4", "fp4_r4_odd")], {"lanes": 64, "dataflow": "output_stationary"}),
}


def small_chip(folder: Path, name: str) -> Path:
    """The YAML file of one of the `SMALL` chips."""
    pairs, options = SMALL[name]
    return write_array_chip(folder, pairs, **options).path


def written(folder: Path, chip: Path | str, vectors: int) -> Written:
    """The Verilog of a chip, in a folder of its own."""
    return write_rtl(load_chip(chip), folder / "verilog", vectors)
