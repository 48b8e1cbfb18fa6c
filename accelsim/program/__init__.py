"""A workload under a recipe, written out as what each layer asks of a chip. It knows no chip."""

from accelsim.program.compiling import MemoryNeed, Program, compile_program

__all__ = ["MemoryNeed", "Program", "compile_program"]
