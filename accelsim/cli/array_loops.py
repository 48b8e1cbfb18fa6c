"""The loops of one array over its own piece of a product, for people to read."""

from __future__ import annotations

from accelsim.mapping.passes import ceil_div
from accelsim.mapping.plan import Patches, Plan
from accelsim.mapping.row_mapping import RowMapping
from accelsim.operations import Axis

Loops = list[tuple[str, str]]
"""Loops, the outermost first, each with a note about data."""

_POSITIONS, _TAPS = "oy, ox", "ky, kx, c"


def array_loops(plan: Plan) -> Loops:
    """The loops of a stationary or output-stationary array; of a direct convolution, over its images."""
    patches = plan.patches
    m, n = ceil_div(plan.m, plan.m_splits), ceil_div(plan.n, plan.n_splits)
    chunks = ceil_div(ceil_div(plan.k, plan.chunk), plan.k_splits)
    groups = ceil_div(plan.groups, plan.group_splits)
    loops: Loops = [(f"for group in {groups}", "")] if plan.groups > 1 else []
    names = {"m": "m", "n": "n", "k": "k"}
    if patches is not None:
        names = {"m": _POSITIONS, "k": _TAPS, "n": "oc"}
        if patches.chunks:
            names = {"m": _TAPS, "k": f"sample, {_POSITIONS}", "n": "oc"}
        loops += _tile_loops(plan, patches, names, chunks)
        m = patches.rows * patches.cols or m
        chunks = patches.chunks or chunks
    if plan.dataflow == "output_stationary":
        return loops + _output_stationary(plan, names, m, n, chunks)
    return loops + _stationary(plan, names, m, n, chunks)


def _tile_loops(plan: Plan, patches: Patches, names: dict[str, str], chunks: int) -> Loops:
    """The loops over tiles of positions, each of which fetches its patch once."""
    sliding = patches.sliding
    down, across = sliding.down, sliding.across
    if patches.chunks:
        note = f"whole rows of {across.reached(0, across.positions)} x {sliding.channels} inputs fetched once"
        tiles = ceil_div(chunks, patches.chunks)
        return [(f"for {names['k']} in {tiles:,} tile(s) of {patches.chunks} chunk(s)", note)]
    rows_in = max(
        down.reached(at, min(patches.rows, down.positions - at)) for at in _starts(down, patches.rows)
    )
    cols_in = max(
        across.reached(at, min(patches.cols, across.positions - at)) for at in _starts(across, patches.cols)
    )
    rows = ceil_div(sliding.samples * down.positions, plan.m_splits)
    note = f"{rows_in} x {cols_in} x {sliding.channels} inputs fetched once a tile"
    return [
        (f"for sample, oy in {rows:,} row(s), {patches.rows} at a time within a sample", ""),
        (f"for ox in {ceil_div(across.positions, patches.cols)} tile(s) of {patches.cols}", note),
    ]


def _starts(axis: Axis, size: int) -> range:
    return range(0, axis.positions, size)


def _output_stationary(plan: Plan, names: dict[str, str], m: int, n: int, chunks: int) -> Loops:
    rows, cols = plan.rows, plan.output_cols
    waves = ceil_div(min(plan.chunk, plan.k), plan.lanes)
    return [
        (f"for {names['m']} in {ceil_div(m, rows):,} block(s) of {rows}", "sums stay in the array"),
        (f"for {names['n']} in {ceil_div(n, cols):,} block(s) of {cols}", ""),
        (f"for {names['k']} in {chunks:,} chunk(s) of {plan.chunk}", "one pass of the array each"),
        (f"for {names['k']} in {waves:,} wave(s), one a cycle", "A and B stream"),
        (f"at once {names['m']} {rows} x {names['n']} {cols}", _pes(plan)),
    ]


def _stationary(plan: Plan, names: dict[str, str], m: int, n: int, chunks: int) -> Loops:
    """One operand stays for a pass, the other streams."""
    of_a = plan.dataflow == "input_stationary"
    (held, own), (moving, stream) = (("m", m), ("n", n)) if of_a else (("n", n), ("m", m))
    operand, other = ("A", "B") if of_a else ("B", "A")
    cols = plan.output_cols
    return [
        (f"for {names[held]} in {ceil_div(own, cols):,} block(s) of {cols}", ""),
        (
            f"for {names['k']} in {chunks:,} chunk(s) of {plan.chunk}",
            f"{operand} stays in the array for a pass",
        ),
        (f"for {names[moving]} in {stream:,}, one a cycle", f"{other} streams"),
        (f"at once {names['k']} {plan.rows * plan.lanes} x {names[held]} {cols}", _pes(plan)),
    ]


def _pes(plan: Plan) -> str:
    pes = f"{plan.rows} x {plan.cols} PEs" + (f" of {plan.simd} columns" if plan.simd > 1 else "")
    return f"{pes}, {plan.lanes} product(s) of k at once"


def row_loops(mapping: RowMapping) -> Loops:
    """The same of a row-stationary array, which slides kernel rows over input rows."""
    shape = mapping.shape
    a_loads, b_loads = mapping.loads
    groups = [(f"for group in {shape.groups}", "")] if shape.groups > 1 else []
    return [
        *groups,
        (
            f"for block of {mapping.block_filters} filters in {mapping.filter_blocks}",
            "sums wait in the scratchpad",
        ),
        (
            f"for block of {mapping.block_samples} samples in {mapping.sample_blocks}",
            f"A read {float(a_loads):.3g} x from memory, B {b_loads} x",
        ),
        (f"for strip of {mapping.strip} output rows in {mapping.strips}", f"{mapping.rows_in} input rows"),
        (
            f"for {mapping.channels * mapping.channel_sets} channel(s) in {mapping.rounds}",
            "sums come and go once in each",
        ),
        (
            f"for {mapping.filters * mapping.sets} filters",
            f"{mapping.sets} set(s) of {mapping.filters} at once",
        ),
        (f"for sample in {mapping.block_samples}", "one pass of the array each"),
        (f"for {mapping.filters} filter(s) x {mapping.channels} channel(s)", "rows held by each PE"),
        (f"for output column in {shape.cols_out}, tap in {shape.taps}", "one MAC a cycle"),
        (
            f"at once {shape.kernel} x {mapping.strip} PEs x {mapping.sets} x {mapping.channel_sets}",
            "kernel x output rows x sets on filters x sets on channels",
        ),
    ]
