"""The folder: Verilog, testbenches, vectors, Makefile and README."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
from numpy.typing import NDArray

import accelsim
from accelsim.chip import Chip
from accelsim.numerics.formats import number_format
from accelsim.rtl.design import CONTROL_BITS, Design, LeftOut, OperandPair, design_of
from accelsim.rtl.golden import Integers
from accelsim.rtl.sequences import Cycles, pe_cycles
from accelsim.rtl.vectors import Vectors, shared_out, unit_vectors
from accelsim.storage import write_text

_TEMPLATES = Path(__file__).with_name("templates")
_PARTS = {"mac4": ["products4.v"], "fma16": ["product16.v"]}


@dataclass(frozen=True)
class Written:
    """What `write_rtl` wrote: files in order, vectors per unit, pairs built and pairs left out."""

    folder: Path
    files: tuple[str, ...]
    vectors: dict[str, int]
    pairs: tuple[OperandPair, ...]
    left_out: tuple[LeftOut, ...]


def write_rtl(chip: Chip, folder: Path, vectors: int = 100_000, seed: int = 1) -> Written:
    """Write the Verilog of one PE of ``chip``, its testbenches and at least ``vectors`` vectors per unit.

    The same chip, ``vectors`` and ``seed`` give the same bytes. Raises `InputError` if no mode of the chip
    can be built or the folder cannot be written.
    """
    design = design_of(chip)
    tables, counts = _vector_tables(design, vectors, np.random.default_rng(seed))
    texts = _verilog(design, counts) | tables
    texts["README.md"] = _render("README.md.j2", _facts(design) | {"counts": counts, "seed": seed})
    for name, text in texts.items():
        write_text(folder / name, text)
    return Written(folder, tuple(texts), counts, design.pairs, design.left_out)


def _verilog(design: Design, counts: dict[str, int]) -> dict[str, str]:
    facts = _facts(design)
    names = [*facts["parts"], *(f"{unit}.v" for unit in design.units)]
    texts = {name: _render(f"{name}.j2", facts) for name in names}
    for unit in design.units:
        bench = "pe_tb.v.j2" if unit == "pe" else "unit_tb.v.j2"
        texts[f"{unit}_tb.v"] = _render(bench, facts | _bench_facts(design, unit, counts[unit]))
    texts["Makefile"] = _render("Makefile.j2", facts)
    return texts


def _bench_facts(design: Design, unit: str, count: int) -> dict[str, Any]:
    """Widths of one line of the unit's vectors, in bits."""
    operand = {"mac4": 4 * design.lanes, "fma16": 16, "pe": design.bus_bits}[unit]
    rest = {"mac4": 4 + 32, "fma16": 32, "pe": 8 + 48}[unit]
    return {"module": unit, "count": count, "width": operand, "bits": rest + 2 * operand}


def _facts(design: Design) -> dict[str, Any]:
    """The names that the templates use."""
    acc = design.accumulator
    ieee = acc.specials == "ieee"
    wide = number_format(design.wide.a) if design.wide else None
    beyond = "the largest number" if design.saturates else "infinity" if ieee else "the NaN-or-infinity code"
    facts: dict[str, Any] = {
        "chip": design.chip, "version": accelsim.__version__, "design": design,
        "acc": acc, "p": acc.significand_bits, "f": acc.fraction_bits, "e": acc.exponent_bits,
        "ieee": ieee, "saturate": design.saturates, "acc_overflow": beyond,
        "acc_rounding": "nearest, ties to even" if ieee else "nearest, ties up in magnitude",
        "lanes": design.lanes, "controls": design.controls, "control_bits": CONTROL_BITS,
        "wide": wide, "both": bool(design.narrow and wide), "bus": design.bus_bits,
        "modules": design.units, "parts": ["accumulate.v"], "chunk_note": _chunk_note(design),
    }  # fmt: skip
    for unit in design.units:
        facts["parts"] += _PARTS.get(unit, [])
    terms = [acc.significand_bits]
    if design.narrow:
        facts["term4"] = design.term4_bits
        facts["a_names"] = " or ".join(sorted({pair.a for pair in design.narrow}))
        facts["b_names"] = " or ".join(sorted({pair.b for pair in design.narrow}))
        terms.append(design.term4_bits)
    if wide:
        facts |= {"term16": design.term16_bits, "wf": wide.fraction_bits, "we": wide.exponent_bits}
        terms.append(design.term16_bits)
    return facts | {"term": max(terms)}


def _chunk_note(design: Design) -> str:
    """How many groups a chunk has, by dataflow."""
    array = design.chip.array
    notes = []
    for dataflow in array.dataflows:
        if dataflow != "output_stationary":
            notes.append(f"{array.rows} ({dataflow})")
        elif array.output_chunk is None:
            notes.append("all of the sum (output_stationary)")
        else:
            counts = sorted({array.output_chunk // pair.lanes for pair in design.pairs})
            notes.append(f"{' or '.join(map(str, counts))} ({dataflow})")
    return ", ".join(notes)


def _render(template: str, facts: dict[str, Any]) -> str:
    environment = jinja2.Environment(
        block_start_string="<%",
        block_end_string="%>",
        variable_start_string="<%=",
        variable_end_string="%>",
        comment_start_string="<%#",
        comment_end_string="%>",
        loader=jinja2.FileSystemLoader(_TEMPLATES),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )
    environment.filters["padded"] = _padded
    return environment.get_template(template).render(facts)


def _padded(name: str, bits: int, wanted: int) -> str:
    """A Verilog signal widened with zeros."""
    return name if bits == wanted else f"{{{wanted - bits}'d0, {name}}}"


def _vector_tables(
    design: Design, count: int, rng: np.random.Generator
) -> tuple[dict[str, str], dict[str, int]]:
    """The text of every vector file, and how many vectors each holds."""
    texts, counts, singles = {}, {}, []
    for unit in design.units[:-1]:
        pairs = design.narrow if unit == "mac4" else design.pairs[-1:]
        shares = zip(pairs, shared_out(count, len(pairs)), strict=True)
        blocks = [unit_vectors(design, pair, share, rng) for pair, share in shares]
        texts[f"{unit}.hex"] = "".join(_unit_lines(design, block) for block in blocks)
        counts[unit] = sum(len(block) for block in blocks)
        singles += blocks
    cycles = pe_cycles(design, singles, count, rng)
    texts["pe.hex"] = _pe_lines(design, cycles)
    counts["pe"] = len(cycles)
    return texts, counts


def _unit_lines(design: Design, vectors: Vectors) -> str:
    lanes = 1 if vectors.pair.is_wide else design.lanes
    width = 16 if vectors.pair.is_wide else 4 * lanes
    mode = np.full(len(vectors), vectors.pair.control)
    columns = [_hex(vectors.psum, 4), *(_bus_hex(each, width) for each in (vectors.a, vectors.b))]
    columns.append(_hex(vectors.result, 4))
    return _lines(columns if vectors.pair.is_wide else [_hex(mode, 1), *columns])


def _pe_lines(design: Design, cycles: Cycles) -> str:
    columns = [
        _hex(cycles.control, 1),
        _hex(cycles.mode, 1),
        _hex(cycles.chunk_groups, 4),
        _hex(cycles.psum, 4),
    ]
    wide = cycles.control & 8 != 0
    for operand in (cycles.a, cycles.b):
        narrow = _bus_hex(operand, design.bus_bits)
        first = _hex(operand[:, 0], design.bus_bits // 4)
        columns.append(np.where(wide, first, narrow))
    return _lines([*columns, _hex(cycles.expected, 4)])


def _hex(codes: Integers, digits: int) -> NDArray[np.str_]:
    return np.array([f"{code:0{digits}x}" for code in codes.tolist()])


def _bus_hex(codes: Integers, bits: int) -> NDArray[np.str_]:
    """Rows of codes as one number each, lane 0 lowest."""
    if codes.shape[1] == 1:
        return _hex(codes[:, 0], bits // 4)
    rows = ("".join(f"{code:x}" for code in reversed(row)) for row in codes.tolist())
    return np.array([row.rjust(bits // 4, "0") for row in rows])


def _lines(columns: list[NDArray[np.str_]]) -> str:
    return "".join(
        "_".join(fields) + "\n" for fields in zip(*(column.tolist() for column in columns), strict=True)
    )
