"""Bytes between DRAM, scratchpads and the units, by one rule for every tensor.

1. Nothing goes from DRAM to a unit or back but through a scratchpad: each byte read from DRAM is
   written into a scratchpad once, each byte written to DRAM is read from one once.
2. A tensor that stays in the scratchpads (see `accelsim.mapping.scratchpad`) causes no DRAM traffic.
   Any other is read once per use and written once; the operands of a GEMM are read as often as the
   plan's tiles ask for.
3. The operand buffers are queues and keep nothing between array passes: each element that enters an
   array's edge is read from a scratchpad: by each array for itself, or once for all that need it at the
   same time (``scratchpad.multicast``).
4. Sums between chunks stay in the accumulators at the array's edge (they are operand-buffer bytes);
   a GEMM's finished result is written into a scratchpad once, in the result's own bits. Sums of a
   row-stationary array wait in a scratchpad between its passes.
5. The vector unit reads and writes each tensor of its layer once.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from fractions import Fraction

from accelsim.chip import Chip
from accelsim.cost.counts import GemmCounts
from accelsim.mapping import Plan
from accelsim.mapping.passes import ceil_div
from accelsim.mapping.scratchpad import dram_bytes
from accelsim.mapping.tiling import plan_loads
from accelsim.operations import Gemm, LayerWork, Tensor


@dataclass(frozen=True)
class Traffic:
    """Bytes read from and written to DRAM and the scratchpads (all cores together)."""

    dram_read_bytes: int = 0
    dram_write_bytes: int = 0
    scratchpad_read_bytes: int = 0
    scratchpad_write_bytes: int = 0

    @property
    def dram_bytes(self) -> int:
        """Bytes over the DRAM interface, both ways."""
        return self.dram_read_bytes + self.dram_write_bytes

    @property
    def scratchpad_bytes(self) -> int:
        """Bytes through the scratchpad ports, both ways."""
        return self.scratchpad_read_bytes + self.scratchpad_write_bytes


def total_traffic(parts: Iterable[Traffic]) -> Traffic:
    """The sum, item by item."""
    dram_read = dram_write = pad_read = pad_write = 0
    for part in parts:
        dram_read += part.dram_read_bytes
        dram_write += part.dram_write_bytes
        pad_read += part.scratchpad_read_bytes
        pad_write += part.scratchpad_write_bytes
    return Traffic(dram_read, dram_write, pad_read, pad_write)


def read_traffic(
    tensor: Tensor, chip: Chip, *, loads: int | Fraction = 1, unit_bytes: int | None = None
) -> Traffic:
    """A unit reads ``tensor``, which crosses from DRAM ``loads`` times.

    ``unit_bytes`` is what the unit takes from the scratchpads; by default the tensor once.
    """
    from_dram = ceil_div(loads * dram_bytes(tensor, chip), 1)
    taken = tensor.size_bytes if unit_bytes is None else unit_bytes
    return Traffic(dram_read_bytes=from_dram, scratchpad_read_bytes=taken, scratchpad_write_bytes=from_dram)


def write_traffic(tensor: Tensor, chip: Chip) -> Traffic:
    """A unit writes ``tensor``, which goes on to DRAM unless it stays."""
    to_dram = dram_bytes(tensor, chip)
    return Traffic(
        dram_write_bytes=to_dram, scratchpad_read_bytes=to_dram, scratchpad_write_bytes=tensor.size_bytes
    )


def gemm_traffic(gemm: Gemm, plan: Plan, counts: GemmCounts, chip: Chip) -> Traffic:
    """Both operands in, the result out. An empty product reads nothing and writes its zeros."""
    result = write_traffic(gemm.out, chip)
    if not gemm.macs:
        return result
    a_loads, b_loads = plan_loads(plan)
    a = read_traffic(gemm.a, chip, loads=a_loads, unit_bytes=counts.a_read_bytes)
    b = read_traffic(gemm.b, chip, loads=b_loads, unit_bytes=counts.b_read_bytes)
    waiting = counts.waiting_sum_bytes
    sums = Traffic(scratchpad_read_bytes=waiting, scratchpad_write_bytes=waiting)
    return total_traffic((a, b, sums, result))


def vector_traffic(work: LayerWork, chip: Chip) -> Traffic:
    """What the vector unit of a layer reads and writes."""
    reads = (read_traffic(tensor, chip) for tensor in work.reads)
    writes = (write_traffic(tensor, chip) for tensor in work.writes)
    return total_traffic((*reads, *writes))
