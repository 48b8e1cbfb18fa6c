"""Speed at equal silicon: each mode's unit alone fills the area, no memory, every unit busy.

A mode whose unit alone takes ``area_um2_alone`` for ``lanes`` MACs a cycle does lanes / area MACs per cycle
and um2. So a step takes the sum over its GEMMs of MACs x area / lanes, in cycles on 1 um2. This is how the
iso-area bars of Sun et al., NeurIPS 2020, Figure 6c are meant: compute-bound, one system per way to choose
formats.
"""

from __future__ import annotations

from fractions import Fraction

from accelsim.chip import Chip, Mode
from accelsim.errors import InputError, unknown
from accelsim.network import Conv2d, Leaf
from accelsim.operations import Gemm
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.validation.schema import LayerGroup, ModeRule
from accelsim.workload import Workload


def cycles_on_one_um2(workload: Workload, chip: Chip, rules: tuple[ModeRule, ...]) -> Fraction:
    """Cycles of one training step of ``workload`` on 1 um2 of units.

    Raises `InputError` for a mode that the chip does not have or whose area alone it does not give, and for
    a GEMM that no rule covers.
    """
    program = compile_program(workload, load_recipe(chip.recipe))
    leaves = {leaf.site.name: leaf for leaf in workload.network.leaves()}
    modes = {mode.name: mode for mode in chip.array.modes}
    total = Fraction(0)
    for gemm in program.gemms:
        name = _mode_name(gemm, leaves.get(gemm.layer), rules)
        if name not in modes:
            raise unknown("mode", name, modes, f"chip {chip.name}")
        total += gemm.macs * _area_per_mac(modes[name], chip)
    return total


def _area_per_mac(mode: Mode, chip: Chip) -> Fraction:
    if mode.area_um2_alone is None:
        raise InputError(
            f"chip '{chip.name}': mode '{mode.name}' has no 'area_um2_alone'", "speedup_at_equal_area"
        )
    return Fraction(str(mode.area_um2_alone.value)) / mode.lanes


def _mode_name(gemm: Gemm, leaf: Leaf | None, rules: tuple[ModeRule, ...]) -> str:
    for rule in reversed(rules):
        if gemm.phase in rule.phases and _belongs(leaf, rule.layers):
            return rule.mode
    raise InputError(f"no rule covers layer '{gemm.layer}' ({gemm.phase})", "modes")


def _belongs(leaf: Leaf | None, group: LayerGroup) -> bool:
    if group == "all":
        return True
    if leaf is None or not isinstance(leaf.layer, Conv2d) or leaf.layer.taps != 1:
        return False
    return group == "pointwise" or leaf.layer.channels <= leaf.site.input_shape[2]
