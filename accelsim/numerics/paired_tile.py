"""The chain that rounds twice to nearest even, and is right, because a second sum settles the ties.

A step has the sum so far, of p bits, and a product. With K = 2**(24 - p) + 1:

- ``total``: their sum in single precision, one rounding;
- ``magic``: the sum of K times both, one rounding. All is exact before it, as K times p bits are 24;
- ``high = magic - (magic - total)``: the total, cut to p bits.

That is how Dekker (1971, section 5) cuts a number, but he takes K times the total for ``magic``, which only
has to be a number of the right size: ``magic`` and the difference are multiples of the last place of p bits,
so ``high`` is the multiple of it that is nearest to the total. Of two that are equally near, ``high`` is odd
or even as ``magic`` is, since the difference is rounded to even. So let the total be a tie, halfway between k
and k + 1 last places, and the exact sum d last places from it. In last places, K times the sum is a whole
number of k's parity, a half, and K times d, which is a half at most (or so little more that it rounds alike).
Rounded, that is even where d is zero, of the parity of k + 1 above, and of that of k below: ``high`` is the
exact sum rounded once.

Below the accumulator's normal numbers the last place does not shrink with the sum: ``high`` is wrong. Sums
are scaled so that they are subnormal there (`chain_tile`). The processor remembers that it was given a
subnormal number; where it was, the last steps are taken once more as ``tied`` sums.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llvmlite import ir
from numba.core import cgutils

from accelsim.numerics.chain_tile import NEAREST, TOWARD_ZERO, ChainConfig, ChainWriter
from accelsim.numerics.tile_writer import I32, index

MOST_BITS = 11
"""Significand bits of an accumulator (and of the operand that is multiplied) that K leaves room for."""

_FIRST, _STEPS = 2, 32  # steps before the first look at what the processor remembers, and between two
_SUBNORMAL_SEEN = 0x2


@dataclass(frozen=True)
class _Steps:
    """Steps of a chunk: where they begin, how many, and whether (one bit) the chunk ends with them."""

    first: Any
    count: Any
    are_last: Any


class PairedWriter(ChainWriter):
    """Writes such a tile: ``a`` is (2, k, rows), the second half K times the first."""

    def __init__(self, builder: ir.IRBuilder, config: ChainConfig, half: Any, rest: Any, zero: Any) -> None:
        super().__init__(builder, config, half, rest, zero)
        self.factor = builder.fadd(builder.sitofp(self.step, self.floats), self.float_const(1.0))

    def paired(self, before: Any, x: Any, multiple: Any, y: Any) -> Any:
        """``before + x * y``, rounded; ``multiple`` is K times x."""
        builder = self.builder
        grown = builder.fmul(before, self.factor)  # at once, so that the total can take the sum's register
        total = self.sum_of(x, y, before)
        magic = self.sum_of(multiple, y, grown)
        return builder.fsub(magic, builder.fsub(magic, total))

    def chunks(self, a: Any, b: Any, c: Any, products: Any, chunk: Any) -> None:
        """As of a `ChainWriter`, in pieces of a few steps, the add of a chunk's sums in the last one."""
        builder = self.builder
        multiples = builder.gep(a, [builder.mul(products, index(self.rows))])
        outer, sums = self.registers(), self.registers()
        self.load_slots(outer, c)
        with cgutils.for_range(builder, self.quotient_up(products, chunk)) as part:
            self.clear(sums)
            first = builder.mul(part.index, chunk)
            count = self.smaller(builder.sub(products, first), chunk)
            # the first products of a chunk are sums by themselves, and more of them are small
            pieces = builder.add(self.quotient_up(builder.sub(count, index(_FIRST)), index(_STEPS)), index(1))
            with cgutils.for_range(builder, pieces) as piece:
                begun = builder.mul(piece.index, index(_STEPS))
                done = self.larger(builder.sub(begun, index(_STEPS - _FIRST)), index(0))
                end = self.smaller(builder.add(begun, index(_FIRST)), count)
                last = builder.icmp_signed("==", end, count)
                steps = _Steps(builder.add(first, done), builder.sub(end, done), last)
                self.guarded(
                    outer + sums,
                    lambda: self.paired_steps(a, multiples, b, outer, sums, steps),
                    lambda: self.tied_steps(a, b, outer, sums, steps),
                )  # fmt: skip
        self.store_slots(outer, c)

    def quotient_up(self, dividend: Any, divisor: Any) -> Any:
        more = self.builder.sub(divisor, index(1))
        return self.builder.sdiv(self.builder.add(dividend, more), divisor)

    def smaller(self, x: Any, y: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed("<", x, y), x, y)

    def larger(self, x: Any, y: Any) -> Any:
        return self.builder.select(self.builder.icmp_signed(">", x, y), x, y)

    def paired_steps(
        self, a: Any, multiples: Any, b: Any, outer: list[Any], sums: list[Any], steps: _Steps
    ) -> None:  # fmt: skip
        """Steps of a chunk; after its last, its sums are added to the outer ones."""
        builder, one = self.builder, self.float_const(1.0)
        with cgutils.for_range(builder, steps.count) as step:
            k = builder.add(steps.first, step.index)
            grown = [multiple for multiple, _ in self.factors(multiples, b, k)]
            for slot, (x, y), multiple in zip(sums, self.factors(a, b, k), grown, strict=True):
                builder.store(self.paired(builder.load(slot), x, multiple, y), slot)
        with builder.if_then(steps.are_last):
            for slot, part in zip(outer, [builder.load(each) for each in sums], strict=True):
                multiple = builder.fmul(part, self.factor)
                builder.store(self.paired(builder.load(slot), part, multiple, one), slot)

    def tied_steps(self, a: Any, b: Any, outer: list[Any], sums: list[Any], steps: _Steps) -> None:
        """The same as ``tied`` sums."""
        builder = self.builder
        with cgutils.for_range(builder, steps.count) as step:
            self.add_products(sums, self.factors(a, b, builder.add(steps.first, step.index)))
        with builder.if_then(steps.are_last):
            self.merge(outer, sums)

    def guarded(self, slots: list[Any], fast: Callable[[], None], right: Callable[[], None]) -> None:
        """What ``fast`` makes of the slots, or if a subnormal number was met, ``right`` toward zero."""
        builder = self.builder
        before = [builder.load(slot) for slot in slots]
        self.fence(slots)
        fast()
        self.fence(slots)
        word = cgutils.alloca_once(builder, I32)
        self.control("stmxcsr", word)
        seen = builder.and_(builder.load(word), ir.Constant(I32, _SUBNORMAL_SEEN))
        with builder.if_then(builder.icmp_unsigned("!=", seen, ir.Constant(I32, 0)), likely=False):
            for slot, value in zip(slots, before, strict=True):
                builder.store(value, slot)
            self.set_control(TOWARD_ZERO)
            self.fence(slots)
            right()
            self.fence(slots)
            self.set_control(NEAREST)

    def set_control(self, wanted: int) -> None:
        """Set how the processor rounds, and forget what it remembers."""
        word = cgutils.alloca_once(self.builder, I32)
        self.builder.store(ir.Constant(I32, wanted), word)
        self.control("ldmxcsr", word)

    def fence(self, slots: list[Any]) -> None:
        """Finish what makes the slots' values here, and begin nothing with them before.

        The compiler does not know that arithmetic reads and writes the control word.
        """
        builder, group = self.builder, self.rows * self.vectors
        for at in range(0, len(slots), group):
            here = slots[at : at + group]
            kind = ir.FunctionType(ir.LiteralStructType([self.floats] * group), [self.floats] * group)
            register = "=v" if self.config.width == 16 else "=x"
            constraints = [register] * group + [str(number) for number in range(group)]
            values = [builder.load(slot) for slot in here]
            held = builder.asm(kind, "", ",".join(constraints), values, side_effect=True)
            for number, slot in enumerate(here):
                builder.store(builder.extract_value(held, number), slot)
