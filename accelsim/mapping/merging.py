"""Pieces of K meet: an ordered reduction from array to array.

The arrays that share a result and split its K are neighbours in a chain, the first piece of K first.
When they have finished, the first sends its sums, a beat at a time, over the link to the second; each
next one adds its own to what arrives, one rounding each, and sends that on; the last adds and holds the
result. So the order of additions is that of the pieces, ((p0 + p1) + p2) + ..., whatever the sizes.

A beat is as many whole sums as one cycle of the link carries, or one sum over several cycles where it
is wider. A beat that has arrived is added while it waits for its turn; it leaves ``hop_cycles`` after its
last byte left the array before. Beats follow each other without gaps, so B beats of c cycles through a
chain of u arrays take (B - 1) c + (u - 1) (c + hop_cycles - 1) cycles. Chains of different results
have links of their own and work at the same time; nothing else overlaps.
"""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.mapping.passes import ceil_div


@dataclass(frozen=True)
class Link:
    """From one array to the next: bytes in a cycle, cycles of a hop, and the bits of what it carries."""

    bytes_per_cycle: int
    hop_cycles: int
    sum_bits: int


def merge_cycles(sums: int, members: int, link: Link) -> int:
    """Cycles to add up ``sums`` results over a chain of ``members`` arrays."""
    if members < 2 or not sums:
        return 0
    link_bits = 8 * link.bytes_per_cycle
    beats = ceil_div(sums, max(link_bits // link.sum_bits, 1))
    beat_cycles = ceil_div(link.sum_bits, link_bits)
    return (beats - 1) * beat_cycles + (members - 1) * (beat_cycles + link.hop_cycles - 1)
