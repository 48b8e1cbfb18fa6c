"""Workload x recipe -> `LayerWork` of every layer and phase."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from accelsim.network import Branched, EncoderDecoder, Leaf, Network
from accelsim.numerics.block_formats import stored_bits
from accelsim.numerics.formats import number_format
from accelsim.operations import Gemm, LayerWork, Tensor, TensorFormats, VectorWork
from accelsim.program.formats import site_rules
from accelsim.program.sampling import with_samples
from accelsim.recipe import Recipe, SiteRules
from accelsim.workload import Workload


@dataclass(frozen=True)
class MemoryNeed:
    """Bytes that a training step keeps in DRAM at its peak (the end of the forward pass)."""

    parameter_bytes: int
    optimizer_bytes: int
    saved_activation_bytes: int
    input_bytes: int

    @property
    def peak_bytes(self) -> int:
        """All of it together."""
        return self.parameter_bytes + self.optimizer_bytes + self.saved_activation_bytes + self.input_bytes


@dataclass(frozen=True)
class Program:
    """One training step on one mini-batch.

    ``inside``: by layer, the layers that close the branches it stands in.
    """

    works: tuple[LayerWork, ...]
    rules: Mapping[str, SiteRules]
    memory: MemoryNeed
    inside: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def formats(self) -> dict[str, TensorFormats]:
        """Number formats by site."""
        return {name: rules.formats for name, rules in self.rules.items()}

    @property
    def gemms(self) -> list[Gemm]:
        """All GEMMs, in order."""
        return [gemm for work in self.works for gemm in work.gemms]


@dataclass(frozen=True)
class _Optimizer:
    """Vector operations and state tensors per parameter, of one optimiser step."""

    adds: int
    multiplies: int
    specials: int
    states: int


# SGD: decay, momentum, step. Adam: decay, two moments, their bias corrections, root, step.
_OPTIMIZERS = {"sgd": _Optimizer(3, 3, 0, 1), "adam": _Optimizer(5, 8, 2, 2)}


def compile_program(workload: Workload, recipe: Recipe, batch: int | None = None) -> Program:
    """The program of one training step on ``batch`` samples (default: the workload's).

    Forward work of all layers in order, then backward and update work in reverse order.
    """
    batch = workload.batch if batch is None else batch
    leaves = list(workload.network.leaves())
    rules = site_rules(leaves, recipe)
    formats = {name: rule.formats for name, rule in rules.items()}
    works: list[LayerWork] = []
    for leaf in leaves:
        layer_works = [with_samples(work, rules) for work in leaf.layer.work(leaf.site, batch, formats)]
        works += _with_optimizer(leaf, layer_works, formats, workload)
    works += _loss_work(workload, batch, recipe.storage)
    forward = [work for work in works if work.phase == "forward"]
    readers = _input_readers(workload.network, {work.layer for work in forward if work.gemms or work.reads})
    forward = [_reading_input(work, readers) for work in forward]
    backward = [work for work in reversed(works) if work.phase != "forward"]
    memory = _memory(leaves, forward, formats, workload, batch)
    return Program((*forward, *backward), rules, memory, _closings(workload.network))


def _trained_elements(leaf: Leaf) -> int:
    return sum(p.elements for p in leaf.layer.parameters(leaf.site).values() if p.trained)


def _with_optimizer(
    leaf: Leaf, works: list[LayerWork], formats: Mapping[str, TensorFormats], workload: Workload
) -> list[LayerWork]:
    """The works, with the optimiser's share in the update phase of layers that have parameters."""
    count = _trained_elements(leaf)
    if not count:
        return works
    rule = _OPTIMIZERS[workload.optimizer.kind]
    own = formats[leaf.site.name]
    bits = number_format(own.master).bits
    steps = [VectorWork("optimizer", count, rule.adds, rule.multiplies, 0, rule.specials)]
    if workload.clip_norm is not None:
        # squared and added up while the gradient is at hand; the factor is part of the optimiser's own
        steps.insert(0, VectorWork("gradient_norm", count, adds=1, multiplies=1))
    names = ["master", *(f"optimizer state {i + 1}" for i in range(rule.states))]
    state = tuple(Tensor(f"{leaf.site.name}.{name}", count, bits, "parameter") for name in names)
    gradient = Tensor(f"{leaf.site.name}.gradient", count, number_format(own.storage).bits, "parameter")
    codes = code_tensors(leaf, formats)
    if works and works[-1].phase == "update":
        last = works[-1]
        merged = replace(
            last,
            vector_work=(*last.vector_work, *steps),
            reads=(*last.reads, gradient, *state),
            writes=(*last.writes, *state, *codes),
        )
        return [*works[:-1], merged]
    return [
        *works,
        LayerWork(
            leaf.site.name, leaf.layer.kind, "update", (), tuple(steps), (gradient, *state), (*state, *codes)
        ),
    ]


def code_tensors(leaf: Leaf, formats: Mapping[str, TensorFormats]) -> tuple[Tensor, ...]:
    """The weights as the array reads them, written anew after each step; a shared table is its reader's."""
    parameters = leaf.layer.parameters(leaf.site).items()
    read = [(name, one.elements, one.operand_of) for name, one in parameters if one.operand_of is not None]
    if leaf.site.table is not None and leaf.layer.has_gemm:
        read.append(("weight", math.prod(leaf.site.table), leaf.site.name))
    return tuple(
        Tensor(f"{leaf.site.name}.{name} codes", elements, stored_bits(formats[site].weight), "parameter")
        for name, elements, site in read
    )


def _loss_work(workload: Workload, batch: int, storage: str) -> list[LayerWork]:
    """Softmax cross-entropy and its gradient, on the vector unit."""
    count = batch * math.prod(workload.output_shape)
    bits = number_format(storage).bits
    logits = Tensor("loss.logits", count, bits, "stream")
    gradient = Tensor("loss.gradient", count, bits, "stream")
    # maximum, subtract, exponential, sum, divide; then minus the label (its even part if smoothed, its
    # one-hot part), divided by the batch
    adds = 4 if workload.label_smoothing else 3
    work = VectorWork("softmax_cross_entropy", count, adds=adds, multiplies=1, compares=1, specials=2)
    return [LayerWork("loss", "softmax_cross_entropy", "forward", (), (work,), (logits,), (gradient,))]


def _input_readers(network: Network, reading: set[str]) -> set[str]:
    """Layers that are given the mini-batch itself, or (of the sum of a residual block) its operands.

    ``reading`` are the layers that read anything; the others change a tensor's shape or sign on its
    way to the next.
    """
    for part in network.parts:
        if isinstance(part, Leaf):
            if part.site.name in reading:
                return {part.site.name}
            continue
        found = [_input_readers(branch, reading) or {name} for name, branch in _branches(part).items()]
        return set().union(*found)
    return set()


def _branches(part: Branched | EncoderDecoder) -> dict[str, Network]:
    """What a part hands its input to, by the names of the tensors that a closing layer would read."""
    if isinstance(part, EncoderDecoder):
        return {f"{part.name}.source": part.encoder, f"{part.name}.target": part.decoder}
    pairs = zip(part.branch_names, part.branches, strict=True)
    return {f"{part.closing.site.name}.{name}": branch for name, branch in pairs}


def _closings(network: Network, around: tuple[str, ...] = ()) -> dict[str, tuple[str, ...]]:
    """By layer, the layers that close the branches around it, the outermost first."""
    found: dict[str, tuple[str, ...]] = {}
    for part in network.parts:
        if isinstance(part, Leaf):
            found[part.site.name] = around
            continue
        inner = around if isinstance(part, EncoderDecoder) else (*around, part.closing.site.name)
        for branch in _branches(part).values():
            found |= _closings(branch, inner)
    return found


def _reading_input(work: LayerWork, readers: set[str]) -> LayerWork:
    """The first layer reads the mini-batch itself from memory, not another layer's output."""
    if work.layer in readers and not work.reads:
        gemms = tuple(replace(gemm, a=replace(gemm.a, residence="input")) for gemm in work.gemms)
        return replace(work, gemms=gemms)
    from_input = [tensor.name for tensor in work.reads if {work.layer, tensor.name} & readers]
    reads = tuple(
        replace(t, residence="input") if t.name in from_input and t.residence == "stream" else t
        for t in work.reads
    )
    return replace(work, reads=reads)


def _memory(
    leaves: list[Leaf],
    forward: list[LayerWork],
    formats: Mapping[str, TensorFormats],
    workload: Workload,
    batch: int,
) -> MemoryNeed:
    parameters = optimizer = 0
    rule = _OPTIMIZERS[workload.optimizer.kind]
    for leaf in leaves:
        master_bytes = number_format(formats[leaf.site.name].master).bits // 8
        held = sum(p.elements for p in leaf.layer.parameters(leaf.site).values())
        parameters += held * master_bytes
        parameters += sum(t.size_bytes for t in code_tensors(leaf, formats))
        optimizer += _trained_elements(leaf) * rule.states * master_bytes
    saved = sum(t.size_bytes for work in forward for t in work.writes if t.residence == "saved")
    storage = number_format(formats[leaves[0].site.name].storage).bits
    inputs = Tensor("input", batch * leaves[0].site.elements, storage, "input").size_bytes
    return MemoryNeed(parameters, optimizer, saved, inputs)
