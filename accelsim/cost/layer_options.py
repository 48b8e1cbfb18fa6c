"""What every set of a layer's own tensors takes and costs.

DRAM bytes of a work are a sum over its tensors, and so are those that its arrays wait for. So each choice is
priced alone, and a set of them follows from the sums; sets that take and move the same are one option.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from accelsim.cost.nested_sets import Option
from accelsim.cost.pricing import DramBytes, Pricer
from accelsim.mapping import Plan
from accelsim.operations import Gemm, LayerWork

Plans = Mapping[Gemm, Plan]


@dataclass(frozen=True)
class Item:
    """A choice, the bytes that it takes and for how long, and the layer's works as it changes them.

    ``takes``: for the whole ``step``, for the layer's ``update`` work, or less than nothing: what it spills
    is not there (``dram``).
    """

    kept: tuple[Any, ...]
    size_bytes: int
    takes: Literal["step", "update", "dram"]
    works: tuple[LayerWork, ...]
    plans: Plans


@dataclass(frozen=True)
class Room:
    """Bytes that kept tensors may take during each work of a layer, as it is and with its codes spilled."""

    streaming: tuple[int, ...]
    spilling: tuple[int, ...]
    block_bytes: int

    def limit(self, works: Sequence[LayerWork], update_bytes: int, *, spilled: bool) -> int:
        """The most blocks that may be taken from phase to phase; below 0 where the rest alone has no room."""
        rooms = self.spilling if spilled else self.streaming
        left = [
            room - (update_bytes if work.phase == "update" else 0)
            for room, work in zip(rooms, works, strict=True)
        ]
        return min(left) // self.block_bytes

    def blocks(self, size_bytes: int) -> int:
        """Whole blocks of a tensor."""
        return -(-size_bytes // self.block_bytes)


@dataclass(frozen=True)
class _Set:
    """Blocks and bytes taken, and the DRAM bytes of each work."""

    blocks: int
    update_bytes: int
    spilled: bool
    moved: tuple[DramBytes, ...]

    def with_item(self, item: Item, change: Sequence[DramBytes], room: Room) -> _Set:
        """The same and one more item."""
        return _Set(
            self.blocks + (room.blocks(item.size_bytes) if item.takes == "step" else 0),
            self.update_bytes + (item.size_bytes if item.takes == "update" else 0),
            self.spilled or item.takes == "dram",
            tuple(mine.plus(more) for mine, more in zip(self.moved, change, strict=True)),
        )


def layer_options(
    works: Sequence[LayerWork], plans: Plans, items: Sequence[Item], room: Room, pricer: Pricer
) -> list[Option]:
    """The options of one layer, that of no item first."""
    costs = [pricer.price(work, plans) for work in works]
    moved = tuple(pricer.dram_bytes(cost) for cost in costs)
    sets: dict[_Set, tuple[Any, ...]] = {_Set(0, 0, spilled=False, moved=moved): ()}
    for item in items:
        change = list(_changes(works, item, moved, pricer))
        wider = {each.with_item(item, change, room): (*kept, *item.kept) for each, kept in sets.items()}
        sets = wider | sets
    known: dict[tuple[int, DramBytes], tuple[int, int]] = {}
    options = []
    for each, kept in sorted(sets.items(), key=lambda pair: len(pair[1])):
        limit = room.limit(works, each.update_bytes, spilled=each.spilled)
        if each.blocks > limit:
            continue
        cycles = energy_aj = 0
        for place, cost in enumerate(costs):
            key = place, each.moved[place]
            if key not in known:
                known[key] = pricer.with_dram_bytes(cost, each.moved[place])
            cycles, energy_aj = cycles + known[key][0], energy_aj + known[key][1]
        options.append(Option(each.blocks, limit, cycles, energy_aj, kept))
    return options


def _changes(
    works: Sequence[LayerWork], item: Item, moved: Sequence[DramBytes], pricer: Pricer
) -> Iterator[DramBytes]:
    """By how much an item changes the DRAM bytes of each work."""
    for work, changed, before in zip(works, item.works, moved, strict=True):
        same = changed == work
        yield DramBytes() if same else pricer.dram_bytes(pricer.price(changed, item.plans)).less(before)
