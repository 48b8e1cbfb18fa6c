"""How many threads of this computer a run keeps busy; never a matter of bits."""

from __future__ import annotations

from accelsim.numerics.compiled import set_threads
from accelsim.program import Program

_MACS_WORTH_WAKING = 1 << 24
"""MACs of a product that take about as long as waiting threads take to wake, some tenths of a millisecond."""


def use_threads(asked: int | None, program: Program) -> int:
    """Set the threads that ``program`` is run with; returns their number.

    ``asked``: so many; None: all of the computer's, or one where the mean product of the program is too
    short to share: its kernels would spend more time waiting for each other than computing.
    """
    macs = sum(gemm.macs for gemm in program.gemms)
    short = macs < _MACS_WORTH_WAKING * len(program.gemms)
    return set_threads(1 if asked is None and short else asked)
