"""The number formats by name: one record each in a table, and families whose names say their fields.

=========================  =================================================================================
`format_names`             the catalog: every name that stands for one published format
``int<N>`` ``uint<N>``     two's complement and unsigned integers, N = 2..8 bits
``int<N>s``                the same, symmetric: -(2**(N-1) - 1) .. 2**(N-1) - 1
``fixed16_<IL>_<FL>``      16-bit two's complement, IL integer bits (sign included), FL fraction bits
``fp<N>_r<R>``             1-(N-1)-0 in radix R = 2, 4, 8 or 16: zero and +-R**(code - 2**(N-2))
``fp<N>_r4_even``/``odd``  the two grids of two-phase rounding: odd is even read at half its value
``log<N>`` ``log<N>_sqrt2``  sign and N-1 bits of a logarithm to base 2 or sqrt 2: base**(code - 2**(N-2))
``path.yaml``              a user's own format: the fields of `NumberFormat` in a YAML file
=========================  =================================================================================

Formats that share a scale among a block of elements are in `block_formats`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from accelsim.errors import InputError, unknown
from accelsim.numerics.format_record import OVERFLOWS, ROUNDINGS, NumberFormat, Overflow, Rounding

__all__ = [
    "OVERFLOWS",
    "ROUNDINGS",
    "FormatFamily",
    "NumberFormat",
    "Overflow",
    "Rounding",
    "format_families",
    "format_names",
    "load_format",
    "number_format",
]

_SUN = "Sun et al., NeurIPS 2020, section 3.1 and 6 (two-phase rounding: even and odd grid)"
_E3M0 = "radix-2 1-3-0, Sun et al. 2020; rounds as the radix-4 grids do: ties up, below 0.75 * 2**-3 to 0"
_OCP = "OCP Microscaling Formats (MX) Specification 1.0, section 5.3"
_OFP8 = "OCP 8-bit Floating Point Specification 1.0"
_HFP8 = "Sun et al., NeurIPS 2019 (hybrid FP8)"


def _integer(bits: int, *, signed: bool = True, symmetric: bool = False) -> NumberFormat:
    name = f"{'' if signed else 'u'}int{bits}{'s' if symmetric else ''}"
    source = "two's complement" if signed else "unsigned binary"
    source += ", lowest code unused" if symmetric else ""
    return NumberFormat(name, bits, "integer", signed, symmetric, source=source)


def _power_format(name: str, bits: int, radix: Any, source: str, exponent_offset: int = 0) -> NumberFormat:
    """1-E-0: sign and exponent only, exponent code 0 is zero, ties up (the rule of the 2020 paper)."""
    return NumberFormat(
        name, bits, "float", exponent_bits=bits - 1, bias=1 << (bits - 2), radix=radix,
        exponent_offset=exponent_offset, lowest_binade="zero", ties="up", source=source,
    )  # fmt: skip


def _minifloat(name: str, exponent_bits: int, fraction_bits: int, bias: int, **rest: Any) -> NumberFormat:
    bits = 1 + exponent_bits + fraction_bits
    return NumberFormat(
        name, bits, "float", exponent_bits=exponent_bits, fraction_bits=fraction_bits, bias=bias, **rest
    )


_FORMATS: dict[str, NumberFormat] = {
    fmt.name: fmt
    for fmt in [
        *(_integer(bits) for bits in (2, 4, 8)),
        *(_integer(bits, signed=False) for bits in (2, 4, 8)),
        _power_format("fp4_r4_even", 4, 4, _SUN),
        _power_format("fp4_r4_odd", 4, 4, _SUN, exponent_offset=-1),
        _power_format("fp4_e3m0", 4, 2, _E3M0),
        _minifloat("fp4_e2m1", 2, 1, 1, source=_OCP),
        _minifloat("fp4_e1m2", 1, 2, 1, source="1-1-2 minifloat, bias 1"),
        _minifloat("fp6_e2m3", 2, 3, 1, source=_OCP),
        _minifloat("fp6_e3m2", 3, 2, 3, source=_OCP),
        _minifloat("fp8_e4m3_ibm", 4, 3, 11, source=_HFP8),
        _minifloat("fp8_e5m2_ibm", 5, 2, 15, source=_HFP8),
        _minifloat("fp8_e4m3fn", 4, 3, 7, specials="last_code", saturates=False, source=_OFP8),
        _minifloat("fp8_e5m2", 5, 2, 15, specials="ieee", saturates=False, source=_OFP8),
        _minifloat(
            "dlfloat16", 6, 9, 31, lowest_binade="normal", specials="last_code", saturates=False, ties="up",
            source="Agrawal et al., ARITH 2019 (DLFloat 1-6-9)",
        ),
        _minifloat("fp16", 5, 10, 15, specials="ieee", saturates=False, source="IEEE 754-2019 binary16"),
        _minifloat("bf16", 8, 7, 127, specials="ieee", saturates=False, source="bfloat16: half a binary32"),
        _minifloat(
            "tf32", 8, 10, 127, specials="ieee", saturates=False,
            source="NVIDIA A100 Tensor Core GPU Architecture, 2020 (TF32 1-8-10, held in 32 bits)",
        ),
        _minifloat("fp32", 8, 23, 127, specials="ieee", saturates=False, source="IEEE 754-2019 binary32"),
    ]
}  # fmt: skip


@dataclass(frozen=True)
class FormatFamily:
    """Formats whose fields stand in their names.

    ``syntax``: the names as a person writes them; ``pattern``: a regular expression of the whole
    name; ``build``: the format of a match, or `InputError`.
    """

    syntax: str
    pattern: str
    build: Callable[[re.Match[str]], NumberFormat]
    source: str


def _fixed16(match: re.Match[str]) -> NumberFormat:
    integer_bits, fraction_bits = int(match[1]), int(match[2])
    if integer_bits + fraction_bits != 16:
        total = integer_bits + fraction_bits
        raise InputError(f"{match[0]}: integer and fraction bits must add up to 16, got {total}")
    return NumberFormat(match[0], 16, "fixed", fraction_bits=fraction_bits, source=_FIXED)


def _radix(match: re.Match[str]) -> NumberFormat:
    offset = -1 if match[3] == "_odd" else 0
    source = _SUN if match[3] else f"1-{int(match[1]) - 1}-0 in radix {match[2]}"
    return _power_format(match[0], int(match[1]), int(match[2]), source, offset)


def _log(match: re.Match[str]) -> NumberFormat:
    bits = int(match[1])
    return NumberFormat(
        match[0], bits, "log", exponent_bits=bits - 1, bias=1 << (bits - 2), lowest_binade="zero",
        exponent_divisor=2 if match[2] else 1, source=_MIYASHITA,
    )  # fmt: skip


_FIXED = "Gupta et al., ICML 2015: <IL, FL>, steps of 2**-FL, saturating"
_MIYASHITA = "Miyashita et al., 2016: logarithmic data representation, base 2 or sqrt 2"

_FAMILIES = (
    FormatFamily("int<2..8>", "int([2-8])", lambda match: _integer(int(match[1])), "two's complement"),
    FormatFamily(
        "int<2..8>s",
        "int([2-8])s",
        lambda match: _integer(int(match[1]), symmetric=True),
        "two's complement, lowest code unused",
    ),
    FormatFamily(
        "uint<2..8>", "uint([2-8])", lambda match: _integer(int(match[1]), signed=False), "unsigned binary"
    ),
    FormatFamily("fixed16_<IL>_<FL>", r"fixed16_(\d\d?)_(\d\d?)", _fixed16, _FIXED),
    FormatFamily("fp<N>_r<R>", r"fp([2-9]|1[0-6])_r(2|4|8|16)()", _radix, "1-(N-1)-0 in radix R"),
    FormatFamily("fp<N>_r4_<even|odd>", r"fp([2-9]|1[0-6])_r(4)(_even|_odd)", _radix, _SUN),
    FormatFamily("log<3..8>", "log([3-8])()", _log, _MIYASHITA),
    FormatFamily("log<3..8>_sqrt2", "log([3-8])(_sqrt2)", _log, _MIYASHITA),
)


def format_names() -> list[str]:
    """The names of the catalog, in its order. `number_format` also takes the names of families."""
    return list(_FORMATS)


def format_families() -> list[FormatFamily]:
    """The families of formats whose names `number_format` reads."""
    return list(_FAMILIES)


def number_format(name: str | Path | NumberFormat) -> NumberFormat:
    """The format called ``name``: of the catalog, of a family, or in a YAML file (``path.yaml``).

    A format is returned as it is.

    Raises
    ------
    InputError: no format has that name (the nearest is named), a family's name with impossible
    fields, a file with a mistake (see `load_format`).
    """
    if isinstance(name, NumberFormat):
        return name
    if isinstance(name, str) and name in _FORMATS:  # every tensor of a run asks
        return _FORMATS[name]
    if str(name).endswith((".yaml", ".yml")):
        return load_format(name)
    return _own_format(str(name)) or _family_member(str(name))


_READ: dict[str, dict[Path, NumberFormat]] = {}
"""Formats of files that were read, by name: codes carry the name of their format, not its file."""


def _own_format(name: str) -> NumberFormat | None:
    found = _READ.get(name, {})
    if len(set(found.values())) > 1:
        files = " and ".join(map(str, found))
        raise InputError(f"{files} give different formats the name '{name}'; rename all but one")
    return next(iter(found.values()), None)


@cache
def _family_member(name: str) -> NumberFormat:
    for family in _FAMILIES:
        match = re.fullmatch(family.pattern, name, re.ASCII)
        if match:
            return family.build(match)
    from accelsim.numerics.block_formats import block_format_names

    if name in block_format_names():
        raise InputError(
            f"'{name}' is a block format (`block_format`), but one of single numbers is wanted here"
        )
    raise unknown("number format", name, [*_FORMATS, *(each.syntax for each in _FAMILIES), "path.yaml"])


def load_format(path: str | Path) -> NumberFormat:
    """The format whose fields stand in a YAML file, under the names they have in `NumberFormat`.

    Raises
    ------
    InputError: with file, line, column, key, value and what is allowed, for the first mistake.
    """
    file = Path(path)
    try:
        status = file.stat()
        own = _read_as_it_is(file, (status.st_mtime_ns, status.st_size))
    except OSError:
        own = _read_as_it_is(file, None)
    _READ.setdefault(own.name, {})[file.absolute()] = own
    return own


@cache
def _read_as_it_is(file: Path, state: tuple[int, int] | None) -> NumberFormat:
    """The format of a file in this state of it: every tensor of a run asks."""
    from accelsim.numerics.format_file import read_format

    return read_format(file, taken=lambda name: name in _FORMATS or _is_family_member(name))


def _is_family_member(name: str) -> bool:
    return any(re.fullmatch(family.pattern, name, re.ASCII) for family in _FAMILIES)
