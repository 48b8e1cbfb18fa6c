"""Which products an array can do at all: the modes of its MACs against the formats of a GEMM or a recipe."""

from __future__ import annotations

from accelsim.chip import Chip, Mode
from accelsim.errors import InputError
from accelsim.operations import PHASES, Gemm, Phase
from accelsim.recipe import Recipe


def mode_of(gemm: Gemm, chip: Chip) -> Mode:
    """The mode that runs ``gemm``. Raises `InputError` if none multiplies its operands' formats."""
    mode = chip.array.mode_for(gemm.a_format, gemm.b_format)
    if mode is None:
        raise InputError(
            f"layer '{gemm.layer}' ({gemm.phase}): chip '{chip.name}' has no mode that multiplies "
            f"{gemm.a_format} x {gemm.b_format}; its modes take: {pairs_taken(chip)}"
        )
    return mode


def pairs_taken(chip: Chip) -> str:
    """The pairs of formats that the modes multiply, for a message."""
    return ", ".join(f"{a} x {b}" for mode in chip.array.modes for a, b in mode.operands)


def pairs_asked(recipe: Recipe) -> dict[Phase, list[tuple[str, str]]]:
    """The pairs of formats that ``recipe`` multiplies in nearly every network, by phase.

    By its rules for a layer that no override names, with signed and with unsigned inputs, and by those for
    the layers it keeps wide.
    """
    rules = [recipe.rules((), (), 0.5, nonnegative=sign).formats for sign in (False, True)]
    if recipe.high_precision.layers:
        rules.append(recipe.wide_rules().formats)
    return {phase: list(dict.fromkeys(each.operands(phase) for each in rules)) for phase in PHASES}
