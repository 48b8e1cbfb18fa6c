"""What stays in the scratchpads between the phases of a step, where a chip's file lets a search choose.

The half of the scratchpads that holds tensors between layers (`accelsim.mapping.scratchpad`) may also keep

- what a layer saves in the forward pass until its backward and update work have read it, so that it is
  neither written to DRAM nor read back;
- weights that a layer's arrays have read in the forward pass until its backward work reads them again.

A tensor takes its room in the work that first uses it, in all works of the layers in between, and in all
backward and update work of its own layer. At every work the tensors kept must fit beside the streams: the
larger of all inputs and all outputs that are handed on inside the chip, and for each block of branches around
the layer what waits for its end (all that the closing layer reads but the largest).

The space is every set of such tensors. Layers go backward in the reverse of their forward order, so their
tensors' spans lie one inside the other, and the cost of a layer's works depends on its own tensors only.
So the exact best set is found layer by layer (`accelsim.cost.nested_sets`). Costs are those of
`accelsim.cost.pricing`; mappings are chosen before and stay, and so do the bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations

from accelsim.chip import Chip
from accelsim.cost.nested_sets import Chosen, LayerOptions, best_choice
from accelsim.cost.pricing import Pricer
from accelsim.mapping import Objective, Plan
from accelsim.mapping.scratchpad import Scratchpads
from accelsim.operations import Gemm, LayerWork, Tensor

Plans = Mapping[Gemm, Plan]


@dataclass(frozen=True)
class Kept:
    """A tensor that may stay: its layer, and its bytes."""

    name: str
    layer: str
    size_bytes: int


@dataclass(frozen=True)
class Residency:
    """A step whose kept tensors have the residence ``kept``, its plans, and what is kept."""

    works: tuple[LayerWork, ...]
    plans: dict[Gemm, Plan]
    kept: tuple[Kept, ...]


def keep_resident(
    works: Sequence[LayerWork],
    plans: Plans,
    chip: Chip,
    objective: Objective,
    inside: Mapping[str, tuple[str, ...]],
) -> Residency:
    """The works of a training step with the best set of tensors kept.

    ``inside``: by layer, the layers that close the branches it stands in (`accelsim.program.Program`).
    """
    tensors = keepable(works)
    rooms = room_bytes(works, chip, inside)
    pricer = Pricer(chip)
    layers = []
    for layer in dict.fromkeys(work.layer for work in works):
        places = [place for place, work in enumerate(works) if work.layer == layer]
        room = min(rooms[place] for place in places)
        own = [each for each in tensors if each.layer == layer and each.size_bytes <= room]
        options = _options([works[place] for place in places], own, plans, pricer)
        layers.append(LayerOptions(tuple(options), room))
    return kept_in(works, plans, best_choice(layers, objective).kept)


def keepable(works: Sequence[LayerWork]) -> list[Kept]:
    """All tensors of the space, in the order of their first use."""
    sizes: dict[tuple[str, str], int] = {}
    layers: dict[str, set[str]] = {}
    first: set[str] = set()
    again: set[str] = set()
    for work in works:
        forward = work.phase == "forward"
        operands = [tensor for gemm in work.gemms for tensor in (gemm.a, gemm.b)]
        for tensor in (*operands, *work.reads, *work.writes):
            layers.setdefault(tensor.name, set()).add(work.layer)
        starts = [each for each in operands if each.residence == "parameter"]
        starts += [each for each in work.writes if each.residence == "saved"]
        ends = [each for each in operands if each.residence in ("parameter", "saved")]
        ends += [each for each in work.reads if each.residence == "saved"]
        for tensor in starts if forward else ends:
            (first if forward else again).add(tensor.name)
            key = tensor.name, work.layer
            sizes[key] = max(sizes.get(key, 0), tensor.size_bytes)
    return [
        Kept(name, layer, size)
        for (name, layer), size in sizes.items()
        if name in first and name in again and layers[name] == {layer}
    ]


def room_bytes(works: Sequence[LayerWork], chip: Chip, inside: Mapping[str, tuple[str, ...]]) -> list[int]:
    """Bytes that kept tensors may take during each work."""
    pads = Scratchpads(chip)
    waiting: dict[str, int] = {}
    for work in works:
        if work.phase == "forward":
            handed = _handed_on(work.reads, pads)
            waiting[work.layer] = sum(handed) - max(handed, default=0)
    found = []
    for work in works:
        of_gemms = [tensor for gemm in work.gemms for tensor in (gemm.a, gemm.b)]
        streams = max(
            sum(_handed_on((*of_gemms, *work.reads), pads)),
            sum(_handed_on((*(gemm.out for gemm in work.gemms), *work.writes), pads)),
        )
        around = sum(waiting.get(closing, 0) for closing in inside.get(work.layer, ()))
        found.append(max(pads.half_bytes - streams - around, 0))
    return found


def _handed_on(tensors: Iterable[Tensor], pads: Scratchpads) -> list[int]:
    """Bytes of the tensors that stay as they are handed on; of a name that stands for parts, the largest."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        if tensor.residence == "stream" and tensor.size_bytes <= pads.half_bytes:
            sizes[tensor.name] = max(sizes.get(tensor.name, 0), tensor.size_bytes)
    return list(sizes.values())


def kept_in(works: Sequence[LayerWork], plans: Plans, kept: Sequence[Kept]) -> Residency:
    """The step with these tensors kept; plans follow their GEMMs."""
    names = frozenset(each.name for each in kept)
    changed = tuple(_with_kept(work, names) for work in works)
    pairs = [
        (new, old)
        for new_work, old_work in zip(changed, works, strict=True)
        for new, old in zip(new_work.gemms, old_work.gemms, strict=True)
    ]
    return Residency(changed, {new: plans[old] for new, old in pairs}, tuple(kept))


def _with_kept(work: LayerWork, names: frozenset[str]) -> LayerWork:
    def read(tensor: Tensor) -> Tensor:
        moves = tensor.residence == "saved" or (tensor.residence == "parameter" and work.phase != "forward")
        return replace(tensor, residence="kept") if moves and tensor.name in names else tensor

    if not names:
        return work
    return replace(
        work,
        gemms=tuple(replace(gemm, a=read(gemm.a), b=read(gemm.b)) for gemm in work.gemms),
        reads=tuple(map(read, work.reads)),
        writes=tuple(read(each) if each.residence == "saved" else each for each in work.writes),
    )


def _options(works: Sequence[LayerWork], own: Sequence[Kept], plans: Plans, pricer: Pricer) -> list[Chosen]:
    """What every set of a layer's own tensors takes and costs."""
    found = []
    for kept in _subsets(own):
        step = kept_in(works, plans, kept)
        costs = [pricer.price(work, step.plans) for work in step.works]
        cycles = sum(cost.time.total_cycles for cost in costs)
        energy_aj = sum(cost.energy.total_aj for cost in costs)
        found.append(Chosen(sum(each.size_bytes for each in kept), cycles, energy_aj, kept))
    return found


def _subsets(own: Sequence[Kept]) -> Iterator[tuple[Kept, ...]]:
    for count in range(len(own) + 1):
        yield from combinations(own, count)
