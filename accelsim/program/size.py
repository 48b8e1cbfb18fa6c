"""How large a model is: trained parameters and multiply-accumulates, as publications count them."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.program.compiling import compile_program
from accelsim.recipe import load_recipe
from accelsim.workload import Workload


@dataclass(frozen=True)
class ModelSize:
    """Trained ``parameters`` (no running statistics) and ``macs`` of one sample's forward pass."""

    layers: int
    parameters: int
    macs: int


def model_size(workload: Workload) -> ModelSize:
    """Exact counts; a shared table counts once. The recipe does not matter, so any will do."""
    leaves = list(workload.network.leaves())
    trained = (
        parameter.elements
        for leaf in leaves
        for parameter in leaf.layer.parameters(leaf.site).values()
        if parameter.trained
    )
    program = compile_program(workload, load_recipe("fp16_dlfloat"), batch=1)
    macs = sum(gemm.macs for gemm in program.gemms if gemm.phase == "forward")
    return ModelSize(len(leaves), sum(trained), macs)
