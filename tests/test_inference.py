"""The forward work of an inference chip: fused, with nothing kept for a backward pass."""

from __future__ import annotations

from accelsim.program import compile_program, inference_works
from accelsim.recipe import load_recipe
from accelsim.workload import load_workload


def test_inference_is_the_forward_pass_without_what_training_keeps() -> None:
    """The same products; no loss, no saved tensor, no normalisation of its own; codes leave the arrays."""
    program = compile_program(load_workload("fashion_cnn").adjusted(batch=1), load_recipe("ibm2020_fp4"))
    works = inference_works(program.works, program.formats)
    forward = [work for work in program.works if work.phase == "forward"]
    assert sum(work.macs for work in works) == sum(work.macs for work in forward)
    assert {work.kind for work in works} <= {work.kind for work in forward} - {"batch_norm"}
    assert all(tensor.residence != "saved" for work in works for tensor in (*work.reads, *work.writes))
    moved = [sum(t.size_bytes for w in each for t in (*w.reads, *w.writes)) for each in (works, forward)]
    assert moved[0] < moved[1] / 4


def test_results_leave_in_the_code_of_their_reader() -> None:
    """A convolution before another writes 4-bit codes, one before a sum or the end writes 16 bits."""
    program = compile_program(load_workload("resnet18_cifar10").adjusted(batch=1), load_recipe("ibm2020_fp4"))
    works = inference_works(program.works, program.formats)
    for index, work in enumerate(works[:-1]):
        later = next((each for each in works[index + 1 :] if each.gemms or each.kind == "add"), None)
        if work.gemms:
            expected = 16
            if later is not None and later.gemms:
                expected = 4 if program.formats[later.layer].activation in ("int4", "uint4") else 16
            assert work.gemms[0].out.bits == expected


def test_codes_as_wide_as_storage_are_codes_all_the_same() -> None:
    """16-bit fixed point is written by the layer before, not converted from 16-bit storage once more."""
    program = compile_program(
        load_workload("alexnet_2012").adjusted(batch=2), load_recipe("fixed16_inference")
    )
    works = [work for work in inference_works(program.works, program.formats) if work.gemms]
    assert all(not work.reads and not work.writes for work in works)


def test_dropout_does_nothing_in_inference() -> None:
    """It keeps every element, so no work of it is left."""
    program = compile_program(load_workload("alexnet_2012").adjusted(batch=2), load_recipe("int8_inference"))
    assert any(work.kind == "dropout" for work in program.works)
    works = inference_works(program.works, program.formats)
    assert all(work.kind != "dropout" for work in works)


def test_a_sum_reads_the_other_branch_alone() -> None:
    """What the matrix layer before a sum computes is neither written nor read; the sum is written once."""
    program = compile_program(
        load_workload("resnet50_imagenet").adjusted(batch=1), load_recipe("int8_inference")
    )
    works = inference_works(program.works, program.formats)
    sums = [index for index, work in enumerate(works) if work.kind == "add"]
    assert len(sums) == 16
    for index in sums:
        (written,), (read,) = works[index].writes, works[index].reads
        assert written.elements == read.elements
        assert [gemm.out.size_bytes for gemm in works[index - 1].gemms] == [0]
