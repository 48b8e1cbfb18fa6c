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

from accelsim.cost.counts import GemmCost
from accelsim.mapping.passes import ceil_div
from accelsim.mapping.scratchpad import Scratchpads
from accelsim.mapping.tiling import plan_loads
from accelsim.operations import LayerWork


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


def layer_traffic(work: LayerWork, gemms: Iterable[GemmCost], pads: Scratchpads) -> Traffic:
    """What the GEMMs of a layer and its vector unit move, all of it together."""
    from_dram = to_dram = taken = given = 0
    for each in gemms:
        gemm, counts = each.gemm, each.counts
        to_dram += pads.dram_bytes(gemm.out)
        given += gemm.out.size_bytes
        if gemm.macs:  # an empty product reads nothing and writes its zeros
            a_loads, b_loads = plan_loads(each.plan)
            from_dram += ceil_div(a_loads * pads.dram_bytes(gemm.a), 1) + b_loads * pads.dram_bytes(gemm.b)
            taken += counts.a_read_bytes + counts.b_read_bytes + counts.waiting_sum_bytes
            given += counts.waiting_sum_bytes
    for tensor in work.reads:
        from_dram += pads.dram_bytes(tensor)
        taken += tensor.size_bytes
    for tensor in work.writes:
        to_dram += pads.dram_bytes(tensor)
        given += tensor.size_bytes
    return Traffic(
        dram_read_bytes=from_dram,
        dram_write_bytes=to_dram,
        scratchpad_read_bytes=taken + to_dram,
        scratchpad_write_bytes=given + from_dram,
    )
