"""A tile of a chain of fused multiply-adds as compiled code calls it."""

from __future__ import annotations

from typing import Any

from numba.core import types
from numba.extending import intrinsic

from accelsim.numerics.chain_tile import ChainConfig, ChainWriter
from accelsim.numerics.paired_tile import PairedWriter
from accelsim.numerics.tile_writer import F32, array_place


@intrinsic(prefer_literal=True)
def _chain_tile(  # type: ignore[no-untyped-def]
    typing_context, config, a, a_at, b, b_at, c, c_at, half, rest, zero, products, chunk
):
    """Add ``products`` products in chunks of ``chunk`` to the outer accumulators ``c[c_at:]``.

    ``a[a_at:]`` is (k, rows), scaled, and for ``paired`` sums its multiples after it, ``b[b_at:]`` (k, cols),
    ``c[c_at:]`` (rows, cols): contiguous float32, offsets in elements. A sum's bits are rounded by adding
    ``half`` and clearing those of ``rest``, one less than a step of the accumulator; those of ``zero`` and
    below are flushed where the configuration says so (or else show where it has subnormal numbers).
    All three are int32. ``config``: a packed `ChainConfig` known at compile time.
    """
    tile = ChainConfig.unpack(config.literal_value)
    signature = types.void(config, a, a_at, b, b_at, c, c_at, *[types.int32] * 3, products, chunk)

    def generate(context: Any, builder: Any, call: Any, values: Any) -> Any:
        places = [array_place(context, builder, call, values, each, F32) for each in (1, 3, 5)]
        writer = PairedWriter if tile.method == "paired" else ChainWriter
        writer(builder, tile, *values[7:10]).tile(*places, *values[10:12])
        return context.get_dummy_value()

    return signature, generate


chain_tile: Any = _chain_tile
"""`_chain_tile` without the typing context, which the compiler passes."""
