"""One chip's plans: pinned or searched, each shape once."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from accelsim.chip import Chip
from accelsim.errors import InputError
from accelsim.mapping.pins import Pin, PinFile, check_pin, require_known
from accelsim.mapping.plan import Plan
from accelsim.mapping.row_stationary import runs_by_rows
from accelsim.mapping.search import Objective, Restriction, plan_gemm
from accelsim.mapping.tiling import Tile
from accelsim.operations import Gemm, Tensor


class Planner:
    """Gives each GEMM its plan on ``chip``: what ``pins`` fix, and the best by ``objective`` of the rest.

    GEMMs that differ in their names only share a plan, so a network of repeated blocks is searched once.
    """

    def __init__(self, chip: Chip, objective: Objective = "latency", pins: PinFile | None = None) -> None:
        self.chip, self.objective, self.pins = chip, objective, pins
        self._plans: dict[tuple[Gemm, int | None], Plan] = {}

    def plan(self, gemm: Gemm) -> Plan:
        """The plan of ``gemm``. Raises `InputError` as `plan_gemm` does, and for a pin that is not legal."""
        index = self.pins.index_for(gemm) if self.pins else None
        key = self._nameless(gemm), index
        if key not in self._plans:
            self._plans[key] = self._pinned(gemm, self.pins, index) if self.pins else self._searched(gemm)
        return self._plans[key]

    def plans(self, gemms: Iterable[Gemm]) -> dict[Gemm, Plan]:
        """The plans of a whole program. Raises `InputError` also for a pin that none of them uses."""
        found = {gemm: self.plan(gemm) for gemm in gemms}
        if self.pins:
            require_known(self.pins, found)
        return found

    def _nameless(self, gemm: Gemm) -> Gemm:
        """The GEMM without what decides nothing: names and, on most arrays, phase and images."""
        parts = (gemm.a, gemm.b, gemm.out)
        a, b, out = (Tensor("", each.elements, each.bits, each.residence) for each in parts)
        by_rows = "row_stationary" in self.chip.array.dataflows
        phase = gemm.phase if by_rows else "forward"
        sliding = gemm.sliding if by_rows or self.chip.array.convolution != "im2col" else None
        return replace(gemm, layer="", phase=phase, part="", a=a, b=b, out=out, sliding=sliding)

    def _searched(self, gemm: Gemm) -> Plan:
        return plan_gemm(gemm, self.chip, self.objective)

    def _require_direct(self, pins: PinFile, index: int, gemm: Gemm, only: Restriction) -> None:
        """Raise `InputError` where no direct mapping is left."""
        try:
            plan_gemm(gemm, self.chip, self.objective, replace(only, tile=None))
        except InputError:
            key = "window" if only.patch else "convolution"
            raise pins.mistake(index, key, _why_not_direct(gemm, self.chip)) from None

    def _pinned(self, gemm: Gemm, pins: PinFile, index: int | None) -> Plan:
        if index is None:
            return self._searched(gemm)
        check_pin(pins, index, self.chip)
        only = _restriction(pins.mappings[index], gemm)
        if only.rows is not None:
            return self._pinned_rows(gemm, pins, index, only)
        if only.convolution == "direct":
            self._require_direct(pins, index, gemm, only)
        if only.tile is None:
            return plan_gemm(gemm, self.chip, self.objective, only)
        free = plan_gemm(gemm, self.chip, self.objective, replace(only, tile=None))
        try:
            return plan_gemm(gemm, self.chip, self.objective, only)
        except InputError:
            raise pins.mistake(index, "tile", _why_no_tile(gemm, free, self.chip)) from None

    def _pinned_rows(self, gemm: Gemm, pins: PinFile, index: int, only: Restriction) -> Plan:
        if not runs_by_rows(gemm, self.chip):
            raise pins.mistake(index, "rows", f"'{gemm.layer}' {gemm.phase} does not run row by row")
        try:
            return plan_gemm(gemm, self.chip, self.objective, only)
        except InputError as error:
            raise pins.mistake(index, "rows", str(error)) from None


def _why_not_direct(gemm: Gemm, chip: Chip) -> str:
    if gemm.sliding is None or not gemm.sliding.repeats:
        return f"'{gemm.layer}' {gemm.phase} has no windows that share inputs"
    sliding = gemm.sliding
    if sliding.positions_along == "k":
        sizes = "chunks must be a power of two, or all of a piece of k"
    else:
        widths = dict.fromkeys(-(-sliding.across.positions // parts) for parts in (1, 2, 4, 8))
        sizes = f"rows must be a power of two or {sliding.down.positions}, cols " + " or ".join(
            map(str, widths)
        )
    return f"{sizes}; two patches must fit into the {chip.array.window_bytes} bytes of array.window_bytes"


def _restriction(pin: Pin, gemm: Gemm) -> Restriction:
    """What the pin leaves; a tile larger than the GEMM (of a shorter last batch) is cut to it."""
    wanted, tile = pin.tile, None
    if wanted is not None:
        tile = Tile(min(wanted.m, gemm.m), min(wanted.n, gemm.n), min(wanted.k, gemm.k), wanted.loop_order)
    rows = pin.rows.as_choice() if pin.rows else None
    window = pin.window
    return Restriction(
        pin.dataflow,
        pin.splits.as_splits() if pin.splits else None,
        tile,
        rows,
        "direct" if window else pin.convolution,
        (window.rows, window.cols, window.chunks) if window else None,
    )


def _why_no_tile(gemm: Gemm, free: Plan, chip: Chip) -> str:
    step = free.chunk * free.k_splits
    return (
        f"must be as deep as k ({gemm.k}) or a multiple of {step}, and fit into half of the scratchpads "
        f"({chip.cores} x {chip.scratchpad.capacity_kib} KiB); "
        f"left out, it would be m: {free.tile_m}, n: {free.tile_n}, k: {free.tile_k}"
    )
