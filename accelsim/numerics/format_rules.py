"""What the fields of a number format mean, and what they may not be."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import fields
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from accelsim.numerics.format_record import NumberFormat

LARGEST_EXPONENT = 900
"""Every value is 0 or within 2**-900..2**900, so float64 holds it, and its sums and differences."""

_FOREIGN_FIELDS = {
    "integer": (
        "exponent_bits", "fraction_bits", "bias", "radix", "exponent_offset", "exponent_divisor",
        "lowest_binade", "specials",
    ),
    "fixed": (
        "exponent_bits", "bias", "radix", "exponent_offset", "exponent_divisor", "lowest_binade", "specials",
    ),
    "float": ("symmetric", "exponent_divisor"),
    "log": ("symmetric", "fraction_bits", "radix", "specials"),
}  # fmt: skip


def binade_power(fmt: NumberFormat, exponent: int) -> int:
    """floor(log2) of the first value of the binade with this exponent code."""
    log2_radix = fmt.radix.bit_length() - 1
    return log2_radix * (exponent - fmt.bias) // fmt.exponent_divisor + fmt.exponent_offset


def magnitude(fmt: NumberFormat, code: int) -> float:
    """The value of a magnitude code up to ``max_code``."""
    if fmt.kind in ("integer", "fixed"):
        return math.ldexp(code, -fmt.fraction_bits)
    if code < fmt.first_code:
        return 0.0
    exponent, fraction = divmod(code, 1 << fmt.fraction_bits)
    if exponent == 0 and fmt.lowest_binade == "subnormal":
        return fraction * fmt.unit
    significand = 1.0 + fraction / (1 << fmt.fraction_bits)
    if (exponent - fmt.bias) % fmt.exponent_divisor:
        significand = math.sqrt(2.0)
    return math.ldexp(significand, binade_power(fmt, exponent))


def format_faults(fmt: NumberFormat) -> Iterator[tuple[str, str]]:
    """What is wrong with the fields of a format, as (field, message); later ones rest on earlier ones."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", fmt.name):
        yield "name", f"must start with a letter and be made of a-z, 0-9 and _, got {fmt.name!r}"
    if fmt.bits < 1:
        yield "bits", f"must be at least 1, got {fmt.bits}: a format without bits has no codes"
    if fmt.bits > 16 and not _is_single_or_its_head(fmt):
        yield "bits", f"must be at most 16 (only tf32 and fp32 are wider), got {fmt.bits}"
    for key in ("exponent_bits", "fraction_bits"):
        if getattr(fmt, key) < 0:
            yield key, f"must be at least 0, got {getattr(fmt, key)}"
    defaults = {field.name: field.default for field in fields(fmt)}
    for key in _FOREIGN_FIELDS[fmt.kind]:
        if getattr(fmt, key) != defaults[key]:
            yield key, f"does not belong to a format of kind '{fmt.kind}'"
    yield from (_integer_faults if fmt.kind in ("integer", "fixed") else _float_faults)(fmt)


def _is_single_or_its_head(fmt: NumberFormat) -> bool:
    """IEEE single, or what a TF32 multiplier reads of it: its sign, exponent and first fraction bits."""
    shape = (fmt.exponent_bits, fmt.bias, fmt.radix, fmt.exponent_offset)
    kind = (fmt.kind, fmt.signed, fmt.lowest_binade, fmt.specials)
    whole = (shape, kind) == ((8, 127, 2, 0), ("float", True, "subnormal", "ieee"))
    return whole and (fmt.bits, fmt.fraction_bits) in ((19, 10), (32, 23))


def _integer_faults(fmt: NumberFormat) -> Iterator[tuple[str, str]]:
    if fmt.symmetric and not fmt.signed:
        yield "symmetric", "an unsigned format has no negative side to be symmetric with"
    if fmt.symmetric and not fmt.saturates:
        yield "saturates", "must be true: a symmetric format has no room to wrap into"
    if fmt.fraction_bits > fmt.bits:
        yield "fraction_bits", f"must be at most the {fmt.bits} bits of the format, got {fmt.fraction_bits}"
    if fmt.significand_bits < 1:
        yield "bits", "the format has no number above zero"


def _float_faults(fmt: NumberFormat) -> Iterator[tuple[str, str]]:
    total = fmt.signed + fmt.exponent_bits + fmt.fraction_bits
    if total != fmt.bits:
        parts = f"{int(fmt.signed)} sign + {fmt.exponent_bits} exponent + {fmt.fraction_bits} fraction bits"
        yield "bits", f"must be {total} ({parts}), got {fmt.bits}"
    if fmt.radix > 2 and fmt.fraction_bits:
        yield "fraction_bits", f"must be 0 with radix {fmt.radix}: 1.fraction spans one factor of two only"
    if fmt.kind == "log" and fmt.lowest_binade != "zero":
        yield "lowest_binade", "must be 'zero' in a format of kind 'log': exponent code 0 is zero"
    if fmt.specials == "ieee" and (fmt.fraction_bits == 0 or fmt.exponent_bits == 0):
        yield "specials", "'ieee' needs exponent bits, and fraction bits to tell NaN from infinity"
    if fmt.specials == "none" and not fmt.saturates:
        yield "saturates", "must be true: the format has no infinity and no NaN to overflow to"
    if fmt.max_code < fmt.first_code:
        yield "bits", "the format has no number above zero"
    lowest = binade_power(fmt, 0 if fmt.lowest_binade == "normal" else 1) - fmt.fraction_bits
    highest = binade_power(fmt, 1 << fmt.exponent_bits)
    if lowest < -LARGEST_EXPONENT or highest > LARGEST_EXPONENT:
        limit = f"2**-{LARGEST_EXPONENT}..2**{LARGEST_EXPONENT}"
        yield "bias", f"the values would reach from 2**{lowest} to 2**{highest}; allowed: {limit}"
