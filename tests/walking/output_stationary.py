"""An array that holds the sums while both operands stream."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from walking.machine import Machine, Number, Psums, Wave, dot, grid, slot
from walking.passes import Pass, pieces


class OutputStationary(Machine):
    """Both operands stream, sums stay; a column's finished sums leave below through drain registers."""

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        rows, cols = self.plan.rows, self.plan.cols
        self.from_left, self.from_top = grid(rows, cols), grid(rows, cols)
        self.sum, self.drain = grid(rows, cols), grid(rows, cols)
        self.released = [-1] * cols
        self.stream_pass, self.line, self.last_wave_cycle = 0, 0, 0

    def passes_of(
        self, groups: list[int], rows: list[int], columns: list[int], piece: list[int]
    ) -> Iterator[Pass]:
        for group in groups:
            for row_block in pieces(rows, self.plan.rows):
                for column_block in pieces(columns, self.plan.cols * self.plan.simd):
                    for chunk, depth in enumerate(pieces(piece, self.plan.chunk)):
                        yield Pass(group, row_block, column_block, chunk, depth)

    def results_of(self, each: Pass) -> int:
        return self.plan.rows * self.plan.cols

    def waves_of(self, each: Pass) -> int:
        return len(pieces(each.depth, self.plan.lanes))

    def cycle(self) -> None:
        lefts, tops = self.next_waves()
        self.move_finished()
        at_rows = [line.step(item) for line, item in zip(self.row_skew, lefts, strict=True)]
        at_columns = [line.step(item) for line, item in zip(self.column_skew, tops, strict=True)]
        old_left, old_top = self.from_left, self.from_top
        self.from_left, self.from_top = (grid(self.plan.rows, self.plan.cols) for _ in range(2))
        for row in range(self.plan.rows):
            for col in range(self.plan.cols):
                self.from_left[row][col] = at_rows[row] if col == 0 else old_left[row][col - 1]
                self.from_top[row][col] = at_columns[col] if row == 0 else old_top[row - 1][col]
                self.compute(row, col)

    def next_waves(self) -> tuple[list[Wave | None], list[Wave | None]]:
        """The controller: one group of lanes of both operands per cycle."""
        if self.stream_pass == len(self.passes) or (self.line == 0 and not self.may_stream()):
            return [None] * self.plan.rows, [None] * self.plan.cols
        number, line, each = self.stream_pass, self.line, self.passes[self.stream_pass]
        self.meter.fed_cycles += 1
        self.line += 1
        if self.line == self.waves_of(each):
            self.stream_pass, self.line, self.last_wave_cycle = number + 1, 0, self.cycle_number
        lefts = [Wave(number, line, self.left(each, line, row)) for row in range(self.plan.rows)]
        tops = [Wave(number, line, self.top(each, line, col)) for col in range(self.plan.cols)]
        return lefts, tops

    def may_stream(self) -> bool:
        """Whether the sums of this pass will find the drain registers free."""
        if not self.plan.pipelined:
            return self.ready_after(self.stream_pass - 1)
        my_last_wave_cycle = self.cycle_number + self.waves_of(self.passes[self.stream_pass]) - 1
        apart = my_last_wave_cycle - self.last_wave_cycle
        return self.stream_pass == 0 or apart >= self.plan.rows - self.haste

    def left(self, each: Pass, line: int, row: int) -> tuple[Number, ...]:
        """Elements of A leave their operand buffer."""
        index, depth = slot(each.rows, row), self.lanes_of(each, line)
        if index is None:
            return ()
        self.take_a(each, index, depth)
        return tuple(self.a[each.group][index][k] for k in depth)

    def top(self, each: Pass, line: int, col: int) -> tuple[tuple[Number, ...], ...]:
        """Elements of B leave their operand buffer."""
        depth, columns = self.lanes_of(each, line), []
        for index in self.simd_slots(each.columns, col):
            if index is None:
                columns.append(())
                continue
            self.meter.read_b(each.group, index, depth)
            columns.append(tuple(self.b[each.group][k][index] for k in depth))
        return tuple(columns)

    def compute(self, row: int, col: int) -> None:
        """One PE in one cycle: exact sum of a group of lanes, one rounding into its own sum."""
        left, top = self.from_left[row][col], self.from_top[row][col]
        assert (left is None) == (top is None), "one operand without the other"
        if left is None:
            return
        assert (left.pass_index, left.line) == (top.pass_index, top.line), "operands of two waves meet"
        sums = self.sum[row][col] if left.line else (Fraction(0),) * self.plan.simd
        added = (dot(left.lanes, lanes) for lanes in top.lanes)
        self.sum[row][col] = tuple(self.outer.round_(psum + g) for psum, g in zip(sums, added, strict=True))
        if left.line == self.waves_of(self.passes[left.pass_index]) - 1:
            assert self.drain[row][col] is None, "a sum overruns the drain register"
            self.drain[row][col] = Psums(left.pass_index, row, self.sum[row][col])

    def move_finished(self) -> None:
        """A column's sums move down one row per cycle once its lowest PE has finished that pass."""
        for col in range(self.plan.cols):
            lowest = self.drain[-1][col]
            if lowest is not None:
                self.released[col] = max(self.released[col], lowest.pass_index)
            for row in reversed(range(self.plan.rows)):
                psums = self.drain[row][col]
                if psums is None or psums.pass_index > self.released[col]:
                    continue
                self.drain[row][col] = None
                if row == self.plan.rows - 1:
                    self.leave(col, psums)
                else:
                    assert self.drain[row + 1][col] is None, "sums overrun each other in the drain"
                    self.drain[row + 1][col] = psums

    def leave(self, col: int, psums: Psums) -> None:
        each = self.passes[psums.pass_index]
        row = slot(each.rows, psums.line)
        columns = self.simd_slots(each.columns, col)
        places = [None if None in (row, index) else (each.group, row, index) for index in columns]
        self.finish(each, places, psums)
