"""Neighbouring arrays that add up their pieces of K: registers and links, cycle by cycle."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from accelsim.mapping.plan import Plan
from walking.machine import Number, OuterAccumulator, Place, Rounding


@dataclass
class Wire:
    """One link: bits of the beat on it that have left, and beats that are still on their hops."""

    plan: Plan
    sending: list[tuple[Place, Number]] = field(default_factory=list)
    sent_bits: int = 0
    flying: deque[tuple[int, list[tuple[Place, Number]]]] = field(default_factory=deque)

    def step(self, cycle: int, waiting: deque[tuple[Place, Number]], sums_left: int) -> int:
        """One cycle: a beat starts if the wire is free and all its sums wait; returns sums that started."""
        started = 0
        if not self.sending:
            in_beat = min(max(8 * self.plan.link_bytes_per_cycle // self.plan.sum_bits, 1), sums_left)
            if in_beat and len(waiting) >= in_beat:
                self.sending = [waiting.popleft() for _ in range(in_beat)]
                started = in_beat
        if self.sending:
            self.sent_bits += 8 * self.plan.link_bytes_per_cycle
            if self.sent_bits >= len(self.sending) * self.plan.sum_bits:
                self.flying.append((cycle + self.plan.hop_cycles, self.sending))
                self.sending, self.sent_bits = [], 0
        return started

    def arrived(self, next_cycle: int) -> list[tuple[Place, Number]]:
        """The beat that can be used from ``next_cycle`` on."""
        if self.flying and self.flying[0][0] == next_cycle:
            return self.flying.popleft()[1]
        return []


def merge(plan: Plan, members: list[OuterAccumulator], round_: Rounding) -> tuple[dict[Place, Number], int]:
    """Add up what ``members`` hold, the first piece of K first: (results, cycles).

    A member reads its sum when the other's has arrived, the first when it sends; the last writes.
    """
    if len(members) == 1:
        return members[0].sums, 0
    places = list(members[0].sums)
    waiting = [deque[tuple[Place, Number]]() for _ in members]
    waiting[0].extend(members[0].sums.items())
    members[0].meter.psum_reads += len(places)
    left = [len(places)] * (len(members) - 1)
    wires = [Wire(plan) for _ in left]
    results: dict[Place, Number] = {}
    cycle = 0
    while len(results) < len(places):
        for index, wire in enumerate(wires):
            started = wire.step(cycle, waiting[index], left[index])
            left[index] -= started
            members[index].meter.link_sums += started
        cycle += 1
        for index, wire in enumerate(wires):
            receiver = members[index + 1]
            for place, value in wire.arrived(cycle):
                receiver.meter.psum_reads += 1
                waiting[index + 1].append((place, round_(value + receiver.sums[place])))
        while waiting[-1]:
            place, value = waiting[-1].popleft()
            results[place] = value
            members[-1].meter.psum_writes += 1
    return results, cycle
