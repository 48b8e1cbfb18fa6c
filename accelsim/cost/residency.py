"""What stays in the scratchpads between the works of a step, where a chip's file lets a search choose.

The half of the scratchpads that holds tensors between layers (`accelsim.mapping.scratchpad`) may also keep

- what a layer saves in the forward pass until its backward and update work have read it, so that it is
  neither written to DRAM nor read back;
- weights that a layer's arrays have read in the forward pass until its backward work reads them again;
- the gradients of a layer's weights from the GEMMs that make them to the optimiser, which is part of the same
  work. Not where they wait for others: with the norm of all of them, or with those of other chips.

What a layer hands from one work to the next stays there by its own rule, if it fits into the half. But the
codes of a layer's gradient, of which its backward work writes one set for dL/dx and one for dL/dW, stay
there, or go through DRAM together so that something else can stay.

A tensor takes its room in whole blocks of a 4096th of the half: what is kept from the forward pass in the
work that first uses it, in all works of the layers in between, and in all backward and update work of its own
layer; a gradient of weights in its update work. At every work the tensors kept must fit beside the streams:
the larger of all inputs and all outputs that are handed on inside the chip (of an update work with the codes
that wait for dL/dx), and for each block of branches around the layer what waits for its end (all that the
closing layer reads but the largest).

The space is every set of such tensors. Layers go backward in the reverse of their forward order, so their
tensors' spans lie one inside the other, and the cost of a layer's works depends on its own tensors only.
So the exact best set is found layer by layer (`accelsim.cost.nested_sets`), by latency, energy or their
product. Costs are those of `accelsim.cost.pricing`; mappings are chosen before and stay, and so do the bits.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

from accelsim.chip import Chip
from accelsim.cost.layer_options import Item, Room, layer_options
from accelsim.cost.nested_sets import best_choice
from accelsim.cost.pricing import Pricer
from accelsim.mapping import Objective, Plan
from accelsim.mapping.scratchpad import Scratchpads
from accelsim.operations import Gemm, LayerWork, Residence, Tensor

Plans = Mapping[Gemm, Plan]

BLOCKS = 4096
"""Blocks of the half of the scratchpads that holds tensors between layers."""


@dataclass(frozen=True)
class Kept:
    """A tensor whose place is chosen: its name, layer and bytes.

    It stays for the ``step`` (from the forward pass to the end of its layer's backward and update work) or
    for the ``update`` work alone, or it goes through ``dram`` although its own rule would let it stay.
    """

    name: str
    layer: str
    size_bytes: int
    stays: Literal["step", "update", "dram"] = "step"


@dataclass(frozen=True)
class Residency:
    """A step with the residence of its tensors as chosen, its plans, and what was chosen."""

    works: tuple[LayerWork, ...]
    plans: dict[Gemm, Plan]
    kept: tuple[Kept, ...]


def keep_resident(
    works: Sequence[LayerWork],
    plans: Plans,
    chip: Chip,
    objective: Objective,
    inside: Mapping[str, tuple[str, ...]],
    *,
    gradients_wait: bool = False,
) -> Residency:
    """The works of a training step with the best set of tensors kept.

    ``inside``: by layer, the layers that close the branches it stands in (`accelsim.program.Program`).
    ``gradients_wait``: gradients of weights are needed after their layer's work, as other chips have some.
    """
    codes = gradient_codes(works)
    found = [*keepable(works), *codes]
    if not gradients_wait:
        found += weight_gradients(works)
    streaming = room_bytes(works, chip, inside)
    spilling = room_bytes(works, chip, inside, frozenset(each.name for each in codes))
    block_bytes = -(-Scratchpads(chip).half_bytes // BLOCKS)
    pricer = Pricer(chip)
    layers = []
    for layer in dict.fromkeys(work.layer for work in works):
        places = [place for place, work in enumerate(works) if work.layer == layer]
        own = [works[place] for place in places]
        items = _items(own, [each for each in found if each.layer == layer], plans)
        as_is, roomier = (tuple(of_all[place] for place in places) for of_all in (streaming, spilling))
        layers.append(layer_options(own, plans, items, Room(as_is, roomier, block_bytes), pricer))
    return kept_in(works, plans, best_choice(layers, objective).kept)


def keepable(works: Sequence[LayerWork]) -> list[Kept]:
    """All tensors that may stay from the forward pass on, in the order of their first use."""
    sizes: dict[tuple[str, str], int] = {}
    layers: dict[str, set[str]] = {}
    first: set[str] = set()
    again: set[str] = set()
    for work in works:
        forward = work.phase == "forward"
        operands = _operands(work)
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


def gradient_codes(works: Sequence[LayerWork]) -> list[Kept]:
    """The codes of gradients that backward works write for GEMMs of their layers."""
    wanted = {tensor.name for work in works if work.phase != "forward" for tensor in _operands(work)}
    found = {
        tensor.name: Kept(tensor.name, work.layer, tensor.size_bytes, "dram")
        for work in works
        if work.phase == "backward"
        for tensor in work.writes
        if tensor.residence == "stream" and tensor.name in wanted
    }
    return list(found.values())


def weight_gradients(works: Sequence[LayerWork]) -> list[Kept]:
    """What an update work's GEMMs make and its own optimiser takes; nothing where all wait for a norm."""
    if any(each.function == "gradient_norm" for work in works for each in work.vector_work):
        return []
    found = []
    for work in works:
        made = {gemm.out.name: gemm.out for gemm in work.gemms if gemm.out.residence == "parameter"}
        taken = [each for each in work.reads if each.name.endswith(".gradient")]
        if made and sum(each.elements for each in taken) >= sum(each.elements for each in made.values()):
            size = max(sum(each.size_bytes for each in made.values()), *(each.size_bytes for each in taken))
            found.append(Kept(taken[0].name, work.layer, size, "update"))
    return found


def room_bytes(
    works: Sequence[LayerWork],
    chip: Chip,
    inside: Mapping[str, tuple[str, ...]],
    spilled: frozenset[str] = frozenset(),
) -> list[int]:
    """Bytes that kept tensors may take during each work, if the tensors ``spilled`` go through DRAM."""
    pads = Scratchpads(chip)
    waiting: dict[str, int] = {}
    for work in works:
        if work.phase == "forward":
            handed = _handed_on(work.reads, pads, spilled)
            waiting[work.layer] = sum(handed) - max(handed, default=0)
    codes = _codes_of_inputs(works)
    found = []
    for work in works:
        waits = codes.get(work.layer, []) if work.phase == "update" else []
        inputs = (*_operands(work), *work.reads, *waits)
        outputs = (*(gemm.out for gemm in work.gemms), *work.writes)
        streams = max(sum(_handed_on(each, pads, spilled)) for each in (inputs, outputs))
        around = sum(waiting.get(closing, 0) for closing in inside.get(work.layer, ()))
        found.append(max(pads.half_bytes - streams - around, 0))
    return found


def _codes_of_inputs(works: Sequence[LayerWork]) -> dict[str, list[Tensor]]:
    """By layer, what its backward work writes for its own GEMMs, which is there as its update is at work."""
    found = {}
    for work in works:
        if work.phase == "backward":
            names = {tensor.name for tensor in _operands(work)}
            found[work.layer] = [each for each in work.writes if each.name in names]
    return found


def _operands(work: LayerWork) -> list[Tensor]:
    return [tensor for gemm in work.gemms for tensor in (gemm.a, gemm.b)]


def _handed_on(tensors: Iterable[Tensor], pads: Scratchpads, spilled: frozenset[str]) -> list[int]:
    """Bytes of the tensors that stay as they are handed on; of a name that stands for parts, the largest."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        stays = tensor.residence == "stream" and tensor.size_bytes <= pads.half_bytes
        if stays and tensor.name not in spilled:
            sizes[tensor.name] = max(sizes.get(tensor.name, 0), tensor.size_bytes)
    return list(sizes.values())


def _items(works: Sequence[LayerWork], own: Sequence[Kept], plans: Plans) -> list[Item]:
    """A layer's choices: each tensor on its own, but the codes of its gradient together."""
    codes = tuple(each for each in own if each.stays == "dram")
    alone = [(each,) for each in own if each.stays != "dram"]
    found = []
    for kept in (*alone, *([codes] if codes else [])):
        changed = kept_in(works, plans, kept)
        size = sum(each.size_bytes for each in kept)
        found.append(Item(kept, size, kept[0].stays, changed.works, changed.plans))
    return found


def kept_in(works: Sequence[LayerWork], plans: Plans, kept: Sequence[Kept]) -> Residency:
    """The step with these choices; plans follow their GEMMs."""
    places: dict[str, Residence] = {each.name: "spilled" if each.stays == "dram" else "kept" for each in kept}
    gradients = {each.layer for each in kept if each.stays == "update"}
    changed = tuple(_changed(work, places, gradient=work.layer in gradients) for work in works)
    pairs = [
        (new, old)
        for new_work, old_work in zip(changed, works, strict=True)
        for new, old in zip(new_work.gemms, old_work.gemms, strict=True)
    ]
    return Residency(changed, {new: plans[old] for new, old in pairs}, tuple(kept))


def _changed(work: LayerWork, places: Mapping[str, Residence], *, gradient: bool) -> LayerWork:
    """A work whose tensors are where ``places`` says, and its weights' ``gradient`` in the scratchpads."""
    if not places:
        return work

    def read(tensor: Tensor) -> Tensor:
        chosen = places.get(tensor.name)
        movable = {"saved", "parameter"} if work.phase != "forward" else {"saved"}
        moves = tensor.residence in ({"stream"} if chosen == "spilled" else movable)
        return replace(tensor, residence=chosen) if moves and chosen else tensor

    def made(gemm: Gemm) -> Tensor:
        stays = gradient and work.phase == "update" and gemm.out.residence == "parameter"
        return replace(gemm.out, residence="kept") if stays else gemm.out

    return replace(
        work,
        gemms=tuple(replace(gemm, a=read(gemm.a), b=read(gemm.b), out=made(gemm)) for gemm in work.gemms),
        reads=tuple(map(read, work.reads)),
        writes=tuple(each if each.residence == "parameter" else read(each) for each in work.writes),
    )
