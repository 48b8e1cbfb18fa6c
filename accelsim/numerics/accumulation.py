"""What fixes the bits of a sum of products: one declarative record, checked at birth.

The order of additions, for each output element:

1. K is cut into ``k_splits`` contiguous pieces of whole chunks (as equal as ceil makes them; a piece
   without chunks counts for nothing); a piece is cut into chunks of ``chunk`` products;
2. a chunk's partial sum starts at +0; ``lanes`` products at a time are added to it, exactly among
   themselves, with one rounding;
3. a piece's outer accumulator is loaded with the first chunk's sum; each later one is added with one
   rounding;
4. the result is loaded with the first piece's sum; each later one is added with one rounding.

k ascends throughout, and a zero result is always +0. Chunks: Wang et al., NeurIPS 2018, section 2.3.

With ``alignment_bits`` W an adder is a real chip's: of all terms that meet in one addition the one with
the largest exponent E sets a window, and each term first loses, toward zero, what lies below 2**(E - W).
A product's exponent is the sum of its operands' (it is not normalised), an operand's that of its
leading bit but never below its format's smallest normal number (Fasi et al., PeerJ Computer Science 7,
2021, "Numerical behavior of NVIDIA tensor cores"; Khattak and Mikaitis, ARITH 2025). Zeros have none.

``stochastic``: rounding number r of the element in row i and column j (of the whole result) takes word r
of stream word(word(seed, i), j) of `random_bits`; every rounding of steps 2-4 counts, exact ones too.
So the bits do not depend on threads, nor on the tiles in which a result is computed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from accelsim.errors import InputError, nearest
from accelsim.numerics.accumulator import EXACT, AccumulatorFormat, accumulator_format, result_format
from accelsim.numerics.formats import OVERFLOWS, ROUNDINGS, NumberFormat

OWN = "format"
"""Rounding or overflow: what the accumulator's format does."""

MOST_LANES = 64
MOST_ALIGNMENT_BITS = 64


@dataclass(frozen=True)
class Accumulation:
    """How products become one sum (see the module's text for the order).

    ``accumulator``: a name of `accumulator`. ``overflow``, ``rounding``: one of the format's own names, or
    ``format``. ``readout``: the format to which an `EXACT` sum is rounded (``rounding`` and ``overflow``
    are then those of that one rounding; lanes, chunks and splits decide nothing); others are read as
    they are. ``seed``: of stochastic rounding, 0..2**64-1.

    Raises `InputError`, naming the field, for what is out of range or contradicts another field.
    """

    lanes: int
    chunk: int
    accumulator: str
    overflow: str = OWN
    rounding: str = OWN
    alignment_bits: int | None = None
    k_splits: int = 1
    readout: str = "fp32"
    seed: int = 0

    def __post_init__(self) -> None:
        for key, message in _faults(self):
            raise InputError(f"{key}: {message}", "accumulation")

    @cached_property
    def format(self) -> AccumulatorFormat:
        """The format of the result: the accumulator's, or that of the readout."""
        return result_format(self.accumulator, self.readout)

    @cached_property
    def rounding_used(self) -> str:
        """One of `ROUNDINGS`."""
        return self.format.rounding if self.rounding == OWN else self.rounding

    @cached_property
    def overflow_used(self) -> str:
        """One of `OVERFLOWS`."""
        return self.format.overflow if self.overflow == OWN else self.overflow

    @cached_property
    def dtype(self) -> type[Any]:
        """float32 if it holds every value of the result's format, else float64."""
        import numpy as np

        fmt = self.format
        single = fmt.significand_bits <= 24 and fmt.max_value < 2.0**128 and fmt.unit >= 2.0**-149
        return np.float32 if single else np.float64

    def piece(self, k: int) -> int:
        """Products in all pieces of K but a shorter last one.

        Raises `InputError` if a group of lanes would lie across a border of chunks.
        """
        if self.chunk < k and self.chunk % self.lanes:
            raise InputError(
                f"chunk: must be a multiple of the {self.lanes} lanes or at least the {k} products, "
                f"got {self.chunk}",
                "accumulation",
            )
        chunks = -(-k // self.chunk)
        return max(-(-chunks // self.k_splits), 1) * self.chunk


def _faults(rule: Accumulation) -> Iterator[tuple[str, str]]:
    if not 1 <= rule.lanes <= MOST_LANES:
        yield "lanes", f"must be in 1..{MOST_LANES}, got {rule.lanes}"
    if rule.chunk < 1:
        yield "chunk", f"must be at least 1, got {rule.chunk}"
    if rule.k_splits < 1:
        yield "k_splits", f"must be at least 1, got {rule.k_splits}"
    if not 0 <= rule.seed < 1 << 64:
        yield "seed", f"must be in 0..2**64-1, got {rule.seed}"
    yield from adder_faults(rule.accumulator, rule.overflow, rule.rounding, rule.alignment_bits, rule.readout)


def adder_faults(
    accumulator: str, overflow: str, rounding: str, alignment_bits: int | None, readout: str
) -> Iterator[tuple[str, str]]:
    """What is wrong with an adder, as (field, message); later ones rest on earlier ones."""
    key, name = ("readout", readout) if accumulator == EXACT else ("accumulator", accumulator)
    try:
        fmt = accumulator_format(name)
    except InputError as error:
        yield key, error.message
        return
    if accumulator == EXACT and not isinstance(fmt, NumberFormat):
        yield "readout", f"must be a number format of operands or of memory, got '{readout}'"
    yield from _name_faults("rounding", rounding, ROUNDINGS, ROUNDINGS, name)
    yield from _name_faults("overflow", overflow, OVERFLOWS, fmt.overflows, name)
    if alignment_bits is None:
        return
    if not 1 <= alignment_bits <= MOST_ALIGNMENT_BITS:
        yield "alignment_bits", f"must be in 1..{MOST_ALIGNMENT_BITS} or null, got {alignment_bits}"
    if accumulator == EXACT or fmt.kind != "float":
        kept = "loses nothing" if accumulator == EXACT else "has fixed steps"
        yield "alignment_bits", f"must be null: accumulator '{accumulator}' {kept}, so nothing is aligned"


def _name_faults(
    key: str, given: str, known: tuple[str, ...], possible: tuple[str, ...], fmt: str
) -> Iterator[tuple[str, str]]:
    if given != OWN and given not in known:
        yield key, f"unknown {key} '{given}'{nearest(given, known)}; allowed: {', '.join([OWN, *known])}"
    if given != OWN and given not in possible:
        yield key, f"{fmt} cannot overflow to '{given}'; allowed: {', '.join([OWN, *possible])}"


def plain_rule(rule: Accumulation, k: int, largest_product: float, unit: float) -> Accumulation | None:
    """The rule with one piece, no alignment and its format's own rounding that gives the same sums, or None.

    Parameters
    ----------
    k: products per sum. largest_product: a bound of their magnitude (inf and NaN are allowed).
    unit: a power of two of which each is a multiple.

    An integer, fixed-point or exact accumulator that provably neither rounds nor overflows adds what single
    precision adds exactly, in any order: all sums are multiples of ``unit`` below 2**24 of it. The sum of
    an exact accumulator is then still to be read out.
    """
    fmt = rule.format
    whole_piece = rule.piece(k) >= k
    if rule.accumulator != EXACT and fmt.kind == "float":
        plain = whole_piece and rule.alignment_bits is None and rule.rounding_used == fmt.rounding
        return rule if plain else None
    largest_sum = k * largest_product
    held = unit >= fmt.unit and largest_sum <= fmt.max_value
    if rule.accumulator == EXACT:
        held = rule.rounding_used != "stochastic"  # whose random bits only the general kernel draws
    return Accumulation(rule.lanes, rule.chunk, "fp32") if held and largest_sum <= 2.0**24 * unit else None
