"""Block formats by name: elements of a few bits that share a scale in blocks along one axis.

MX (OCP Microscaling Formats Specification 1.0, section 6.3): 32 elements share a power of two, stored in
eight bits (E8M0). NVFP4 (NVIDIA, "Pretraining Large Language Models with NVFP4", 2025): 16
elements share an E4M3 scale, and all blocks of a tensor an FP32 one.
"""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, Any, Literal

from accelsim.errors import unknown
from accelsim.numerics.formats import NumberFormat, number_format

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike, NDArray


@dataclass(frozen=True, eq=False)
class BlockScales:
    """The scales of one array: uint8 codes of the block scales, and the scale of the whole tensor.

    ``codes`` has the shape of the array with the blocked axis shortened to its number of blocks (the
    last block may be short). ``tensor`` is a value of FP32; 1 in MX formats.
    """

    codes: NDArray[np.uint8]
    tensor: float = 1.0


@dataclass(frozen=True)
class BlockFormat:
    """One block format: the format of its elements, their number per block, the kind of scale.

    ``e8m0``: the scale of a block is ``2**(floor(log2(amax)) - emax)``, where amax is the largest magnitude
    in the block and emax the exponent of the largest element; code c is ``2**(c - 127)``, 255 is NaN;
    a block of zeros has the smallest scale.

    ``e4m3``: the tensor's scale is FP32(amax / (448 * m)), m the largest element, and at least the
    smallest FP32; the block's is E4M3(amax of the block / (m * tensor scale)), nearest even,
    saturating. A block whose scale rounds to zero is all zeros.

    Elements are ``value / (block scale * tensor scale)``, rounded once, saturating; the probability of a
    stochastic rounding is that of the float64 quotient.
    """

    name: str
    element: NumberFormat
    block: int
    scale: Literal["e8m0", "e4m3"]
    source: str

    def __str__(self) -> str:
        return self.name

    @property
    def bits_per_value(self) -> float:
        """Bits of an element with its share of the block scale."""
        return self.element.bits + 8 / self.block

    def encode(
        self,
        values: ArrayLike,
        axis: int = -1,
        rounding: str | None = None,
        *,
        key: int | None = None,
        first: int = 0,
    ) -> tuple[NDArray[Any], BlockScales]:
        """Codes of the elements, uint8 in the shape of ``values``, and the scales.

        Parameters
        ----------
        values: finite real numbers of at least one dimension, taken as float64.
        axis: the one that is cut into blocks. rounding, key, first: of the elements, as in
            `NumberFormat.encode`; the scales are never rounded stochastically.

        Raises
        ------
        InputError: a value that is NaN or infinite, no such axis, and as `NumberFormat.encode`.
        """
        from accelsim.numerics import block_conversion

        return block_conversion.encode(self, values, axis, rounding, key, first)

    def decode(self, codes: ArrayLike, scales: BlockScales, axis: int = -1) -> NDArray[np.float64]:
        """Values, float64 in the shape of ``codes``: element * block scale * tensor scale, exactly.

        Raises
        ------
        InputError: codes that are none, scales whose shape does not fit that of the codes.
        """
        from accelsim.numerics import block_conversion

        return block_conversion.decode(self, codes, scales, axis)


_OCP = "OCP Microscaling Formats (MX) Specification 1.0"
_NVFP4 = "NVIDIA, 2025 (Pretraining Large Language Models with NVFP4)"

_BLOCK_FORMATS = {
    fmt.name: fmt
    for fmt in [
        BlockFormat("mxfp4", number_format("fp4_e2m1"), 32, "e8m0", _OCP),
        BlockFormat("mxfp6_e2m3", number_format("fp6_e2m3"), 32, "e8m0", _OCP),
        BlockFormat("mxfp6_e3m2", number_format("fp6_e3m2"), 32, "e8m0", _OCP),
        BlockFormat("mxfp8_e4m3", number_format("fp8_e4m3fn"), 32, "e8m0", _OCP),
        BlockFormat("mxfp8_e5m2", number_format("fp8_e5m2"), 32, "e8m0", _OCP),
        BlockFormat("nvfp4", number_format("fp4_e2m1"), 16, "e4m3", _NVFP4),
    ]
}


def block_format_names() -> list[str]:
    """The names of all block formats."""
    return list(_BLOCK_FORMATS)


def stored_bits(name: str) -> int | Fraction:
    """Bits of one element in memory of any format; in a block format with its share of the block's scale.

    What is wider than 16 bits lies in words of 32.
    Raises `InputError` for a name that neither kind of format has.
    """
    if name in _BLOCK_FORMATS:
        fmt = _BLOCK_FORMATS[name]
        return fmt.element.bits + Fraction(8, fmt.block)
    bits = number_format(name).bits
    return bits if bits <= 16 else 32


def block_format(name: str | BlockFormat) -> BlockFormat:
    """The block format called ``name`` (a block format is returned as it is).

    Raises
    ------
    InputError: no block format has that name; the nearest is named.
    """
    if isinstance(name, BlockFormat):
        return name
    if name not in _BLOCK_FORMATS:
        raise unknown("block format", str(name), _BLOCK_FORMATS)
    return _BLOCK_FORMATS[name]
