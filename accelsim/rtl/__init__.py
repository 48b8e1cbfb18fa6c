"""The PE in Verilog, for a chip, with testbenches and the simulator's own results as vectors."""

from accelsim.rtl.design import Design, design_of
from accelsim.rtl.writing import Written, write_rtl

__all__ = ["Design", "Written", "design_of", "write_rtl"]
