"""A workload under a recipe, written out as what each layer asks of a chip. It knows no chip."""

from accelsim.program.compiling import MemoryNeed, Program, compile_program
from accelsim.program.inference import inference_program, inference_works
from accelsim.program.size import ModelSize, model_size

__all__ = [
    "MemoryNeed",
    "ModelSize",
    "Program",
    "compile_program",
    "inference_program",
    "inference_works",
    "model_size",
]
