"""What DRAM holds at the fullest moment of a training step, and what crosses its interface, by class."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction

from accelsim.chip import Chip
from accelsim.mapping import Plan
from accelsim.mapping.passes import ceil_div
from accelsim.mapping.scratchpad import dram_bytes
from accelsim.mapping.tiling import plan_loads
from accelsim.operations import Gemm, LayerWork, Phase, Residence, Tensor


@dataclass(frozen=True)
class Standing:
    """Bytes that are in DRAM all the time: weights as the arrays read them, their masters, state, input."""

    weight_codes: int
    master_weights: int
    optimizer_state: int
    mini_batch: int


@dataclass(frozen=True)
class Capacity:
    """Bytes in DRAM at the fullest moment, by class, and the layer and phase at work then."""

    parts: Mapping[str, int]
    layer: str
    phase: Phase

    @property
    def peak_bytes(self) -> int:
        """All classes together."""
        return sum(self.parts.values())


def peak_memory(
    works: Sequence[LayerWork], chip: Chip, standing: Standing, *, keep_gradients: bool = False
) -> Capacity:
    """Walk the step's works in order and keep the fullest moment (the first of equals).

    ``saved_activations`` live from the work that writes them to the last one that reads them, ``gradients``
    of parameters while their layer's update is at work (to the end of the step with ``keep_gradients``, as
    an all-reduce wants them, or where their common norm is taken), ``handed_over`` tensors that do not fit
    the scratchpads while a work reads or writes them. Compare: `accelsim.mapping.scratchpad` for what fits.
    """
    last_read = {name: place for place, work in enumerate(works) for name in _names_read(work)}
    live: dict[str, int] = {}
    kept_gradients = 0
    keep_gradients |= any(each.function == "gradient_norm" for work in works for each in work.vector_work)
    fullest: Capacity | None = None
    for place, work in enumerate(works):
        live.update({tensor.name: tensor.size_bytes for tensor in work.writes if tensor.residence == "saved"})
        gradients = _gradient_bytes(work)
        parts = {
            **vars(standing),
            "saved_activations": sum(live.values()),
            "gradients": gradients + kept_gradients,
            "handed_over": sum(dram_bytes(tensor, chip) for tensor in _distinct(work, "stream", "spilled")),
        }
        moment = Capacity(parts, work.layer, work.phase)
        if fullest is None or moment.peak_bytes > fullest.peak_bytes:
            fullest = moment
        kept_gradients += _optimizer_gradient_bytes(work) if keep_gradients else 0
        live = {name: size for name, size in live.items() if last_read.get(name, len(works)) > place}
    return fullest or Capacity(vars(standing), "", "forward")


def weight_code_bytes(works: Sequence[LayerWork]) -> int:
    """Bytes of all weights in the arrays' formats, each counted once however many GEMMs read it."""
    tensors = (tensor for work in works for tensor in _distinct(work, "parameter"))
    return sum(_sizes(tensor for tensor in tensors if tensor.name.endswith(" codes")).values())


def gradient_bytes(works: Sequence[LayerWork]) -> int:
    """Bytes of the gradients of all parameters, as an all-reduce between chips moves them.

    A table that two layers share has one gradient, which the optimiser reads with its owner.
    """
    return sum(map(_optimizer_gradient_bytes, works))


def dram_traffic_by_residence(
    works: Sequence[LayerWork], plans: Mapping[Gemm, Plan], chip: Chip
) -> dict[Residence, int]:
    """DRAM bytes of a step, both ways, by where the tensor lives; ``stream`` is what spilled."""
    moved: dict[Residence, int] = {"parameter": 0, "saved": 0, "stream": 0, "input": 0}
    for work in works:
        for tensor, times in _uses(work, plans):
            if tensor.residence != "kept":
                place = "stream" if tensor.residence == "spilled" else tensor.residence
                moved[place] += ceil_div(times * dram_bytes(tensor, chip), 1)
    return moved


def _uses(work: LayerWork, plans: Mapping[Gemm, Plan]) -> Iterator[tuple[Tensor, int | Fraction]]:
    """Every tensor that a work moves, and how often it crosses in whole where it lives in DRAM."""
    for gemm in work.gemms:
        yield gemm.out, 1
        if gemm.macs:
            plan = plans[gemm]
            a_loads, b_loads = plan_loads(plan)
            yield gemm.a, a_loads
            yield gemm.b, b_loads
    for tensor in (*work.reads, *work.writes):
        yield tensor, 1


def _names_read(work: LayerWork) -> Iterator[str]:
    yield from (tensor.name for tensor in work.reads)
    yield from (tensor.name for gemm in work.gemms for tensor in (gemm.a, gemm.b))


def _distinct(work: LayerWork, *residences: Residence) -> list[Tensor]:
    """Tensors of these residences that a work touches; of a name that stands for parts, the largest."""
    of_gemms = (tensor for gemm in work.gemms for tensor in (gemm.a, gemm.b, gemm.out))
    named: dict[str, Tensor] = {}
    for tensor in (*of_gemms, *work.reads, *work.writes):
        if tensor.name not in named or tensor.size_bytes > named[tensor.name].size_bytes:
            named[tensor.name] = tensor
    return [tensor for tensor in named.values() if tensor.residence in residences]


def _sizes(tensors: Iterable[Tensor]) -> dict[str, int]:
    """Bytes by name; of a name that stands for parts, those of the largest."""
    sizes: dict[str, int] = {}
    for tensor in tensors:
        sizes[tensor.name] = max(sizes.get(tensor.name, 0), tensor.size_bytes)
    return sizes


def _gradient_bytes(work: LayerWork) -> int:
    """Gradients of a layer's parameters: the results of its update GEMMs, or all that its optimiser reads."""
    results = _sizes(gemm.out for gemm in work.gemms if gemm.out.residence == "parameter")
    return max(sum(results.values()), _optimizer_gradient_bytes(work))


def _optimizer_gradient_bytes(work: LayerWork) -> int:
    """Gradients of the parameters that a layer owns, where they are in DRAM."""
    named = (tensor for tensor in work.reads if tensor.name.endswith(".gradient"))
    return sum(_sizes(tensor for tensor in named if tensor.residence != "kept").values())
