"""What the two kinds of array share: registers, delay lines, the clock and the outer accumulator."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from accelsim.mapping.plan import Plan
from walking.passes import Element, Pass
from walking.patches import element, tiles, with_patch

Number = Any  # int, Fraction, or a float inf or nan
Matrix = Sequence[Sequence[Number]]
Rounding = Callable[[Number], Number]
Place = tuple[int, int, int]  # group, row of the output, column of the output


@dataclass
class Meter:
    """What is counted on one worker."""

    cycles: int = 0
    fed_cycles: int = 0
    passes: int = 0
    a_buffer_reads: int = 0
    b_buffer_reads: int = 0
    psum_writes: int = 0
    psum_reads: int = 0
    link_sums: int = 0
    a_elements: Counter[Place] = field(default_factory=Counter)
    b_elements: Counter[Place] = field(default_factory=Counter)
    fetched: Counter[tuple[int, int, Element]] = field(default_factory=Counter)

    def read_a(self, group: int, row: int, depth: list[int]) -> None:
        """Elements of a row of A enter the array."""
        self.a_buffer_reads += len(depth)
        self.a_elements.update((group, row, k) for k in depth)

    def read_b(self, group: int, column: int, depth: list[int]) -> None:
        """Elements of a column of B enter the array."""
        self.b_buffer_reads += len(depth)
        self.b_elements.update((group, column, k) for k in depth)


@dataclass
class OuterAccumulator:
    """Adds each chunk's sum to its output with one rounding; chunks must come in ascending K."""

    round_: Rounding
    meter: Meter
    sums: dict[Place, Number] = field(default_factory=dict)
    chunks_seen: dict[Place, int] = field(default_factory=dict)

    def add(self, place: Place, chunk: int, psum: Number) -> None:
        assert self.chunks_seen.get(place, 0) == chunk, "chunks must arrive in ascending K"
        self.chunks_seen[place] = chunk + 1
        if chunk:
            self.meter.psum_reads += 1
        self.sums[place] = self.round_(self.sums.get(place, Fraction(0)) + psum)
        self.meter.psum_writes += 1


def slot(items: list[int], index: int) -> int | None:
    """``items[index]``, or None for a row or column of the array that has nothing to do."""
    return items[index] if index < len(items) else None


def dot(left: Sequence[Number], right: Sequence[Number]) -> Number:
    """The exact sum of products of one group of lanes."""
    return sum((x * y for x, y in zip(left, right, strict=False)), Fraction(0))


class DelayLine:
    """Registers in a row: what goes in comes out ``depth`` cycles later (0: at once)."""

    def __init__(self, depth: int) -> None:
        self.registers: deque[Any] = deque([None] * depth)

    def step(self, item: Any) -> Any:
        self.registers.append(item)
        return self.registers.popleft()


def grid(rows: int, cols: int) -> list[list[Any]]:
    """Empty registers, one per PE."""
    return [[None] * cols for _ in range(rows)]


@dataclass(frozen=True)
class Weights:
    """The held operand on its way to, or in, the PE of ``row``: one group of lanes per simd column."""

    pass_index: int
    row: int
    columns: tuple[tuple[Number, ...], ...]


@dataclass(frozen=True)
class Wave:
    """What streams past in one cycle: one group of lanes, or one per simd column."""

    pass_index: int
    line: int
    lanes: tuple[Any, ...]


@dataclass(frozen=True)
class Psums:
    """Partial sums that travel together, one per simd column; ``line`` is the wave or row they are of."""

    pass_index: int
    line: int
    values: tuple[Number, ...]


class Machine:
    """What the two kinds of array share: the clock, and how outputs leave."""

    def __init__(
        self, plan: Plan, a: Sequence[Matrix], b: Sequence[Matrix], outer: OuterAccumulator, haste: int
    ) -> None:
        self.plan, self.a, self.b, self.outer, self.meter = plan, a, b, outer, outer.meter
        self.haste = haste if plan.pipelined else 0
        self.row_skew = [DelayLine(row) for row in range(plan.rows)]
        self.column_skew = [DelayLine(col) for col in range(plan.cols)]
        self.cycle_number = 0

    def run(self, groups: list[int], rows: list[int], columns: list[int], depth: list[int]) -> None:
        """Walk all passes over these outputs and this piece of K, until the last result has left."""
        self.passes = list(self.walked(groups, rows, columns, depth))
        self.fetch_patches()
        self.results_left = [self.results_of(each) for each in self.passes]
        while any(self.results_left):
            self.cycle()
            self.cycle_number += 1
        self.meter.passes = len(self.passes)
        self.meter.cycles = self.cycle_number

    def walked(
        self, groups: list[int], rows: list[int], columns: list[int], depth: list[int]
    ) -> Iterator[Pass]:
        """The passes in order; of a direct convolution tile after tile, each with its patch."""
        patches = self.plan.patches
        if patches is None:
            yield from self.passes_of(groups, rows, columns, depth)
            return
        for group in groups:
            for tile_rows, run, before, reached in tiles(patches, rows, depth, self.plan.chunk):
                first = run[0] if patches.chunks else reached[0]
                for each in self.passes_of([group], tile_rows, columns, run):
                    yield with_patch(each, patches, first, before, reached)

    def fetch_patches(self) -> None:
        """Every patch comes from the scratchpad once for its group and tile."""
        held = {(each.group, each.tile): each.patch for each in self.passes if each.patch is not None}
        for (group, tile), patch in held.items():
            self.meter.fetched.update((group, tile, one) for one in patch)

    def take_a(self, each: Pass, row: int, depth: list[int]) -> None:
        """Elements of a row of A enter; a direct convolution takes them out of the patch that it holds."""
        self.meter.read_a(each.group, row, depth)
        if each.patch is not None:
            sliding = self.plan.patches.sliding
            places = ((row, k) if sliding.positions_along == "m" else (k, row) for k in depth)
            met = (element(sliding, *place) for place in places)
            assert all(one is None or one in each.patch for one in met), "a window reaches beyond its patch"

    def ready_after(self, previous: int) -> bool:
        """Not pipelined: whether all results of the pass before have left."""
        return previous < 0 or not self.results_left[previous]

    def finish(self, each: Pass, places: list[Place | None], psums: Psums) -> None:
        """Sums leave the array; those of columns beyond the matrix are nobody's."""
        self.results_left[psums.pass_index] -= 1
        for place, value in zip(places, psums.values, strict=True):
            if place is not None:
                self.outer.add(place, each.chunk, value)

    def lanes_of(self, each: Pass, group_of_lanes: int) -> list[int]:
        """The indices of K in one group of lanes of a pass; none beyond the end of a ragged one."""
        first = group_of_lanes * self.plan.lanes
        return each.depth[first : first + self.plan.lanes]

    def simd_slots(self, items: list[int], col: int) -> list[int | None]:
        """The output columns of PE column ``col``."""
        return [slot(items, col * self.plan.simd + lane) for lane in range(self.plan.simd)]
