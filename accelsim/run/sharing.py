"""How many chips share a mini-batch, and how much of it each takes."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.chip import Chip
from accelsim.errors import InputError


@dataclass(frozen=True)
class Shared:
    """``chips`` of which the fullest takes ``batch`` samples; all are charged as the fullest."""

    chips: int
    batch: int


def share_batch(chip: Chip, batch: int, chips: int | None = None) -> Shared:
    """A mini-batch on ``chips``, by default as many as the chip's file says (one without a ``system``).

    Raises
    ------
    InputError: fewer than one chip, more than samples, or several without a ``system`` in the chip's file.
    """
    if chips is None:
        chips = chip.system.chips if chip.system else 1
    if not 1 <= chips <= batch:
        raise InputError(f"must be between 1 and the {batch} samples of the mini-batch, got {chips}", "chips")
    if chips > 1 and chip.system is None:
        message = f"chip '{chip.name}' has no 'system', so nothing says what joins {chips} of them"
        raise InputError(message, "chips")
    return Shared(chips, -(-batch // chips))


def parts_of(samples: int, chips: int) -> list[slice]:
    """Which of a mini-batch's ``samples`` each chip takes, in order; the first may take one more."""
    each, more = divmod(samples, chips)
    ends = [(place + 1) * each + min(place + 1, more) for place in range(chips)]
    return [slice(first, end) for first, end in zip([0, *ends], ends, strict=False)]
