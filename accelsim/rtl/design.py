"""What of a chip becomes Verilog: which units, how wide, and what is left out and why."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from accelsim.chip import Chip, Mode
from accelsim.errors import InputError
from accelsim.numerics.formats import NumberFormat, number_format

ACCUMULATORS = ("dlfloat16", "fp16")
WIDE_FORMATS = ("dlfloat16", "fp16")
INTEGERS = ("int4", "uint4")
RADIX4 = ("fp4_r4_even", "fp4_r4_odd")

# Control input of the 4-bit unit -> its bit in the mode digit of the vectors.
CONTROL_BITS = {"a_unsigned": 0, "b_unsigned": 1, "b_fp4": 2, "fp4_odd": 3}


@dataclass(frozen=True)
class OperandPair:
    """One pair of operand formats of a mode; of a 4-bit pair ``a`` is the integer operand."""

    mode: str
    a: str
    b: str
    lanes: int

    @property
    def is_wide(self) -> bool:
        """Whether the 16-bit unit multiplies it."""
        return self.a in WIDE_FORMATS

    @property
    def control(self) -> int:
        """The mode digit: one bit for each control input of the 4-bit unit."""
        wanted = {
            "a_unsigned": self.a == "uint4",
            "b_unsigned": self.b == "uint4",
            "b_fp4": self.b in RADIX4,
            "fp4_odd": self.b == "fp4_r4_odd",
        }
        return sum(1 << CONTROL_BITS[name] for name, value in wanted.items() if value)


@dataclass(frozen=True)
class LeftOut:
    """A pair of formats that the chip multiplies and the Verilog does not, and why."""

    mode: str
    a: str
    b: str
    reason: str


@dataclass(frozen=True)
class Design:
    """The units of one PE: the pairs they multiply, and the widths that follow."""

    chip: Chip
    accumulator: NumberFormat
    saturates: bool
    narrow: tuple[OperandPair, ...]
    wide: OperandPair | None
    left_out: tuple[LeftOut, ...]

    @property
    def pairs(self) -> tuple[OperandPair, ...]:
        """All pairs that are built, 4-bit ones first."""
        return self.narrow + ((self.wide,) if self.wide else ())

    @property
    def lanes(self) -> int:
        """Lanes of the 4-bit unit: of its widest mode; others leave the upper lanes at zero."""
        return max((pair.lanes for pair in self.narrow), default=0)

    @property
    def controls(self) -> tuple[str, ...]:
        """The control inputs of the 4-bit unit that some pair needs, in the order of their bits."""
        used = 0
        for pair in self.narrow:
            used |= pair.control
        return tuple(name for name, bit in CONTROL_BITS.items() if used >> bit & 1)

    @property
    def largest_product(self) -> int:
        """The largest magnitude of a 4-bit product, in units of its last place."""
        return max(_largest_product(pair) for pair in self.narrow)

    @property
    def term4_bits(self) -> int:
        """Bits of the magnitude of a group sum; at least a significand, which the stage asks for."""
        return max((self.lanes * self.largest_product).bit_length(), self.accumulator.significand_bits)

    @property
    def term16_bits(self) -> int:
        """Bits of the magnitude of a 16-bit product."""
        assert self.wide is not None
        return 2 * number_format(self.wide.a).significand_bits

    @property
    def bus_bits(self) -> int:
        """Bits of each operand port of the PE, which both units share."""
        return max(4 * self.lanes, 16 if self.wide else 0)

    @property
    def units(self) -> tuple[str, ...]:
        """The modules that have a testbench and vectors."""
        return (*(["mac4"] if self.narrow else []), *(["fma16"] if self.wide else []), "pe")


def design_of(chip: Chip) -> Design:
    """Choose the units for a chip.

    Raises `InputError` if none of the chip's modes can be built, with the reason for each.
    """
    accumulator = chip.array.accumulator
    narrow: list[OperandPair] = []
    wide: OperandPair | None = None
    left_out: list[LeftOut] = []
    for mode, a, b in _pairs(chip):
        reason = _adder_obstacle(chip) or _obstacle(mode, a, b, wide)
        if reason:
            left_out.append(LeftOut(mode.name, a, b, reason))
        elif a in WIDE_FORMATS:
            wide = OperandPair(mode.name, a, b, 1)
        else:
            narrow.append(_integer_first(OperandPair(mode.name, a, b, mode.lanes)))
    if not narrow and wide is None:
        reasons = "; ".join(f"{each.mode}: {each.a} x {each.b}: {each.reason}" for each in left_out)
        raise InputError(f"none of its modes can be written as Verilog: {reasons}", f"chip '{chip.name}'")
    saturates = chip.array.overflow == "saturate"
    return Design(chip, number_format(accumulator), saturates, tuple(narrow), wide, tuple(left_out))


def _pairs(chip: Chip) -> Iterator[tuple[Mode, str, str]]:
    for mode in chip.array.modes:
        for a, b in mode.operands:
            yield mode, a, b


def _adder_obstacle(chip: Chip) -> str:
    array = chip.array
    if array.accumulator not in ACCUMULATORS:
        return f"no accumulate stage for {array.accumulator}, only for {' and '.join(ACCUMULATORS)}"
    own = number_format(array.accumulator).rounding
    if array.rounding not in ("format", own):
        return f"the accumulate stage for {array.accumulator} rounds {own}, not {array.rounding}"
    if array.alignment_bits is not None:
        return "the accumulate stage keeps every bit; array.alignment_bits must be null"
    return ""


def _obstacle(mode: Mode, a: str, b: str, wide: OperandPair | None) -> str:
    if a in WIDE_FORMATS and b in WIDE_FORMATS:
        if a != b:
            return "the 16-bit unit multiplies two numbers of one format"
        if mode.lanes != 1:
            return f"the 16-bit unit multiplies one pair a cycle, not {mode.lanes}"
        return f"the 16-bit unit is one of {wide.a} already" if wide else ""
    narrow = {*INTEGERS, *RADIX4}
    if a in narrow and b in narrow:
        return "one of the two operands must be an integer" if {a, b} <= {*RADIX4} else ""
    other = a if a not in narrow else b
    return f"no multiplier for {other}, only for {', '.join([*INTEGERS, *RADIX4, *WIDE_FORMATS])}"


def _integer_first(pair: OperandPair) -> OperandPair:
    """The integer operand as a, and of two integers the unsigned one, so that b is simpler."""
    order = ["uint4", "int4", *RADIX4]
    a, b = sorted((pair.a, pair.b), key=order.index)
    return OperandPair(pair.mode, a, b, pair.lanes)


def _largest_product(pair: OperandPair) -> int:
    largest = {"int4": 8, "uint4": 15, "fp4_r4_even": 4**6, "fp4_r4_odd": 4**6}
    return largest[pair.a] * largest[pair.b]
