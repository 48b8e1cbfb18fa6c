"""Weights that never leave the scratchpads between forward passes, where a chip's file says so.

Chips whose memory holds a whole network (DaDianNao: Chen et al., MICRO 2014; Groq's TSP: Abts et al., ISCA
2020; Simba: Shao et al., MICRO 2019) load its weights once, before the first sample. They stay if all that a
forward pass reads of parameters fits beside the largest inputs or outputs that a layer hands on; else none
does, and all are read in every pass, as on any other chip. A training step changes its weights and is not
asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from accelsim.chip import Chip
from accelsim.cost.residency import room_bytes
from accelsim.mapping.scratchpad import half_capacity_bytes
from accelsim.operations import LayerWork, Tensor


def with_resident_weights(works: Sequence[LayerWork], chip: Chip) -> tuple[LayerWork, ...]:
    """The ``works`` of a forward pass, their weights ``kept`` where `chip` keeps them and they fit."""
    free = half_capacity_bytes(chip) + min(room_bytes(works, chip, {}), default=0)
    if chip.scratchpad.weights == "streamed" or parameter_bytes(works) > free:
        return tuple(works)
    return tuple(map(_kept, works))


def parameter_bytes(works: Sequence[LayerWork]) -> int:
    """Bytes of all parameters that ``works`` read, each counted once."""
    sizes: dict[str, int] = {}
    for work in works:
        for tensor in (*(gemm.b for gemm in work.gemms), *(gemm.a for gemm in work.gemms), *work.reads):
            if tensor.residence == "parameter":
                sizes[tensor.name] = max(sizes.get(tensor.name, 0), tensor.size_bytes)
    return sum(sizes.values())


def _kept(work: LayerWork) -> LayerWork:
    def kept(tensor: Tensor) -> Tensor:
        return replace(tensor, residence="kept") if tensor.residence == "parameter" else tensor

    gemms = tuple(replace(gemm, a=kept(gemm.a), b=kept(gemm.b)) for gemm in work.gemms)
    return replace(work, gemms=gemms, reads=tuple(map(kept, work.reads)))
