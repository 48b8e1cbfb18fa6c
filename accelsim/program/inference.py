"""The forward work of a training program as an inference chip does it: fused, nothing kept.

- No loss, and no tensor is kept for a backward pass.
- Batch normalisation is folded into the weights before it, dropout keeps everything; rectifiers and other
  element-wise functions of one input work on results as they leave the arrays, so they cost operations but no
  traffic.
- A result leaves the arrays in the code that the next matrix layer reads, and pooling works on codes, so
  no tensor is converted on its own. Where a sum of two branches comes next, or nothing, it leaves in the
  vector unit's format; the matrix layer after a sum reads that and writes its codes first.
- A sum of two branches is done as the results of the matrix layer before it leave the arrays: it reads the
  other branch alone, as the element-wise unit behind NVDLA's convolutions does.
- The samples themselves arrive in the code of the first matrix layer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from fractions import Fraction

from accelsim.numerics.block_formats import stored_bits
from accelsim.numerics.formats import number_format
from accelsim.operations import LayerWork, Tensor, TensorFormats
from accelsim.program.compiling import MemoryNeed, Program, code_tensors
from accelsim.workload import Workload

_FOLDED = ("batch_norm", "dropout")
_SUMS = ("add",)


def inference_program(workload: Workload, program: Program, batch: int) -> Program:
    """One forward pass on ``batch`` samples, from the ``program`` of a training step on as many.

    In memory are the weights as the arrays read them, what else the vector units read (biases, tables of
    tokens; of a normalisation its shift) and the samples in the code of the first matrix layer.
    """
    works, formats = inference_works(program.works, program.formats), program.formats
    leaves = list(workload.network.leaves())
    parameters = 0
    for leaf in leaves:
        master_bytes = number_format(formats[leaf.site.name].master).bits // 8
        held = sum(
            one.elements
            for name, one in leaf.layer.parameters(leaf.site).items()
            if one.operand_of is None and (leaf.layer.kind not in _FOLDED or name == "beta")
        )
        parameters += held * master_bytes + sum(each.size_bytes for each in code_tensors(leaf, formats))
    code = _next_code_bits(works, formats)
    bits = number_format(formats[leaves[0].site.name].storage).bits if code is None else code
    inputs = Tensor("input", batch * leaves[0].site.elements, bits, "input").size_bytes
    return Program(works, program.rules, MemoryNeed(parameters, 0, 0, inputs))


def inference_works(
    works: Sequence[LayerWork], formats: Mapping[str, TensorFormats]
) -> tuple[LayerWork, ...]:
    """Work of one forward pass for inference, from the ``works`` and ``formats`` of a training program."""
    forward = [work for work in works if work.phase == "forward" and work.layer in formats]
    forward = [work for work in forward if work.kind not in _FOLDED]
    found: list[LayerWork] = []
    coded = False
    for index, work in enumerate(forward):
        storage = number_format(formats[work.layer].storage).bits
        next_code = _next_code_bits(forward[index + 1 :], formats)
        bits = storage if next_code is None else next_code
        if work.kind in _SUMS and found and found[-1].gemms:
            found[-1], work = _fused(found[-1], work)
        found.append(_matrix(work, bits, coded) if work.gemms else _vector(work, bits, storage))
        coded = next_code is not None
    return tuple(found)


def _fused(matrix: LayerWork, total: LayerWork) -> tuple[LayerWork, LayerWork]:
    """A matrix layer and the sum behind it, between which nothing is written or read."""
    results = sum(gemm.out.elements for gemm in matrix.gemms)
    mine = next((tensor for tensor in total.reads if tensor.elements == results), None)
    if mine is None:
        return matrix, total
    gemms = tuple(replace(gemm, out=replace(gemm.out, elements=0)) for gemm in matrix.gemms)
    others = tuple(tensor for tensor in total.reads if tensor is not mine)
    return replace(matrix, gemms=gemms), replace(total, reads=others)


def _next_code_bits(
    after: Sequence[LayerWork], formats: Mapping[str, TensorFormats]
) -> int | Fraction | None:
    """Bits of the code that the next matrix layer reads; None where a sum comes first, or nothing."""
    for work in after:
        if work.gemms:
            return stored_bits(formats[work.layer].activation)
        if work.kind in _SUMS:
            break
    return None


def _matrix(work: LayerWork, bits: int | Fraction, coded: bool) -> LayerWork:
    """GEMMs whose results leave in ``bits``; an input that is not ``coded`` is converted first."""
    gemms = tuple(replace(gemm, out=replace(gemm.out, bits=bits)) for gemm in work.gemms)
    if any(tensor.residence == "input" for tensor in work.reads):
        gemms = tuple(replace(gemm, a=replace(gemm.a, residence="input")) for gemm in gemms)
        coded = True
    if coded:
        return replace(work, gemms=gemms, reads=(), writes=())
    codes = {gemm.a.name for gemm in work.gemms}
    writes = [replace(tensor, residence="stream") for tensor in work.writes if tensor.name in codes]
    return replace(work, gemms=gemms, writes=tuple(writes) if work.reads else ())


def _vector(work: LayerWork, bits: int | Fraction, storage: int) -> LayerWork:
    """Element-wise work on codes of ``bits``; sums of branches stay in the vector unit's format."""
    kept = [tensor for tensor in work.writes if tensor.residence != "saved"]
    if work.kind in _SUMS:
        return replace(work, writes=tuple(kept))
    return replace(work, reads=_narrowed(work.reads, bits, storage), writes=_narrowed(kept, bits, storage))


def _narrowed(tensors: Sequence[Tensor], bits: int | Fraction, storage: int) -> tuple[Tensor, ...]:
    return tuple(replace(each, bits=bits) if each.bits == storage else each for each in tensors)
