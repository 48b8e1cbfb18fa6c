"""An array that holds one operand while the other streams and the sums travel down."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

from walking.machine import Machine, Number, Psums, Wave, Weights, dot, grid
from walking.passes import Pass, pieces


class Stationary(Machine):
    """Weight stationary, and input stationary with the two operands in exchanged roles.

    Row r of the array holds group of lanes r of the chunk. A held operand enters at the top of its column
    and moves down, one shadow register per cycle, to the row it is for; the first wave of its pass
    takes it from there into the active register.
    """

    def __init__(self, *given: Any) -> None:
        super().__init__(*given)
        rows, cols = self.plan.rows, self.plan.cols
        self.holds_a = self.plan.dataflow == "input_stationary"
        self.shadow, self.active = grid(rows, cols), grid(rows, cols)
        self.wave, self.psum = grid(rows, cols), grid(rows, cols)
        self.load_pass, self.load_step = 0, 0
        self.stream_pass, self.line = 0, 0

    def passes_of(
        self, groups: list[int], rows: list[int], columns: list[int], piece: list[int]
    ) -> Iterator[Pass]:
        held, streamed = (rows, columns) if self.holds_a else (columns, rows)
        for group in groups:
            for block in pieces(held, self.plan.cols * self.plan.simd):
                for chunk, depth in enumerate(pieces(piece, self.plan.chunk)):
                    if streamed:
                        yield Pass(group, streamed, block, chunk, depth)

    def results_of(self, each: Pass) -> int:
        return len(each.rows) * self.plan.cols

    def cycle(self) -> None:
        waves = self.next_waves()
        weights = self.next_weights()
        at_rows = [line.step(item) for line, item in zip(self.row_skew, waves, strict=True)]
        at_columns = [line.step(item) for line, item in zip(self.column_skew, weights, strict=True)]
        old_wave, old_psum = self.wave, self.psum
        self.wave, self.psum = grid(self.plan.rows, self.plan.cols), grid(self.plan.rows, self.plan.cols)
        for row in range(self.plan.rows):
            for col in range(self.plan.cols):
                self.wave[row][col] = at_rows[row] if col == 0 else old_wave[row][col - 1]
                above = None if row == 0 else old_psum[row - 1][col]
                self.compute(row, col, above)
        self.move_weights(at_columns)

    def next_waves(self) -> list[Wave | None]:
        """The controller of the streamed operand: one line of it per cycle, once its pass is loaded."""
        nothing: list[Wave | None] = [None] * self.plan.rows
        if self.stream_pass == len(self.passes):
            return nothing
        loaded = self.load_pass * self.plan.rows + self.load_step
        if loaded < (self.stream_pass + 1) * self.plan.rows - self.haste:
            return nothing
        number, line, each = self.stream_pass, self.line, self.passes[self.stream_pass]
        self.meter.fed_cycles += 1
        self.line += 1
        if self.line == len(each.rows):
            self.stream_pass, self.line = self.stream_pass + 1, 0
        return [Wave(number, line, self.streamed(each, line, row)) for row in range(self.plan.rows)]

    def streamed(self, each: Pass, line: int, row: int) -> tuple[Number, ...]:
        """Elements leave the operand buffer of the streamed operand."""
        index, depth = each.rows[line], self.lanes_of(each, row)
        if self.holds_a:
            self.meter.read_b(each.group, index, depth)
            return tuple(self.b[each.group][k][index] for k in depth)
        self.take_a(each, index, depth)
        return tuple(self.a[each.group][index][k] for k in depth)

    def next_weights(self) -> list[Weights | None]:
        """The controller of the held operand: one row of it per cycle, the lowest row first."""
        if self.load_pass == len(self.passes) or (self.load_step == 0 and not self.may_load()):
            return [None] * self.plan.cols
        number, row, each = self.load_pass, self.plan.rows - 1 - self.load_step, self.passes[self.load_pass]
        self.load_step += 1
        if self.load_step == self.plan.rows:
            self.load_pass, self.load_step = self.load_pass + 1, 0
        return [Weights(number, row, self.held(each, row, col)) for col in range(self.plan.cols)]

    def may_load(self) -> bool:
        """Whether the shadow registers are free: the pass before has begun to stream (or has left)."""
        if not self.plan.pipelined:
            return self.ready_after(self.load_pass - 1)
        return (self.stream_pass, self.line) > (self.load_pass - 1, 0) or self.load_pass == 0

    def held(self, each: Pass, row: int, col: int) -> tuple[tuple[Number, ...], ...]:
        """Elements leave the operand buffer of the held operand."""
        depth, columns = self.lanes_of(each, row), []
        for index in self.simd_slots(each.columns, col):
            if index is None:
                columns.append(())
            elif self.holds_a:
                self.take_a(each, index, depth)
                columns.append(tuple(self.a[each.group][index][k] for k in depth))
            else:
                self.meter.read_b(each.group, index, depth)
                columns.append(tuple(self.b[each.group][k][index] for k in depth))
        return tuple(columns)

    def compute(self, row: int, col: int, above: Psums | None) -> None:
        """One PE in one cycle: exact sum of a group of lanes, one rounding into the passing sum."""
        wave = self.wave[row][col]
        if wave is None:
            return
        if wave.line == 0:
            self.active[row][col], self.shadow[row][col] = self.shadow[row][col], None
        weights = self.active[row][col]
        assert weights is not None, "a wave meets a PE that holds nothing yet"
        assert (weights.pass_index, weights.row) == (wave.pass_index, row), "a wave meets another's weights"
        if row > 0:
            assert (above.pass_index, above.line) == (wave.pass_index, wave.line), "sums and wave apart"
        sums = above.values if row else (Fraction(0),) * self.plan.simd
        added = (dot(wave.lanes, lanes) for lanes in weights.columns)
        values = tuple(self.outer.round_(psum + group) for psum, group in zip(sums, added, strict=True))
        self.psum[row][col] = Psums(wave.pass_index, wave.line, values)
        if row == self.plan.rows - 1:
            self.leave(col, self.psum[row][col])

    def leave(self, col: int, psums: Psums) -> None:
        each = self.passes[psums.pass_index]
        line = each.rows[psums.line]
        columns = self.simd_slots(each.columns, col)
        turned = ((index, line) if self.holds_a else (line, index) for index in columns)
        places = [None if None in place else (each.group, *place) for place in turned]
        self.finish(each, places, psums)

    def move_weights(self, at_columns: list[Weights | None]) -> None:
        """Weights above their row move down one register; those in place stay."""
        for col, entering in enumerate(at_columns):
            for row in reversed(range(self.plan.rows)):
                coming = entering if row == 0 else self.shadow[row - 1][col]
                if coming is None or (row > 0 and coming.row == row - 1):
                    continue
                assert self.shadow[row][col] is None, "weights overrun the shadow register"
                self.shadow[row][col] = coming
                if row > 0:
                    self.shadow[row - 1][col] = None
