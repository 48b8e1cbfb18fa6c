"""The sums of several chips' gradients, bit for bit as the ring of `accelsim.cost.all_reduce` adds them.

Each chip rounds its gradients to the storage format, in which they travel. They stand one after another in
the order of the network's parameters, cut into as many pieces as there are chips (the last ones may be
shorter). Piece p sets out at chip p and visits the chips in their order; each adds its own piece on its
vector unit and rounds the sum to the storage format: ((g[p] + g[p + 1]) + ...) + g[p - 1]. Then all chips
hold the same sums (Patarasuk and Yuan, Journal of Parallel and Distributed Computing 69(2), 2009). Trained
clips are no parameters of the network; they travel behind the last piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.numerics.quantise import round_to

F32 = NDArray[np.float32]


def ring_sums(
    gradients: Sequence[Mapping[str, F32]], parameters: Iterable[str], vector: ChipVectorUnit
) -> dict[str, F32]:
    """Gradients by name, added up over the chips; those of a single chip stay as they are.

    ``gradients``: of each chip, all of the same names and shapes. ``parameters``: of the network, in its
    order. The result's names are in the first chip's order.
    """
    if len(gradients) == 1:
        return dict(gradients[0])
    first = gradients[0]
    known = [name for name in parameters if name in first]
    names = [*known, *(name for name in first if name not in known)]
    flat = [_in_storage([each[name] for name in names], vector.storage) for each in gradients]
    ends = list(accumulate(first[name].size for name in names))
    counted = ends[len(known) - 1] if known else 0
    total = np.concatenate([_piece(flat, place, bounds, vector) for place, bounds in _bounds(counted, flat)])
    sums = dict(zip(names, np.split(total, ends[:-1]), strict=True))
    return {name: sums[name].reshape(value.shape) for name, value in first.items()}


def _in_storage(tensors: Sequence[F32], storage: str) -> F32:
    """All tensors one after another, as they travel."""
    return round_to(np.concatenate([tensor.reshape(-1) for tensor in tensors]), storage)


def _bounds(counted: int, flat: Sequence[F32]) -> list[tuple[int, slice]]:
    """The pieces: ``counted`` elements in equal ones, what is behind them with the last."""
    chips, total = len(flat), flat[0].size
    length = -(-counted // chips)
    cuts = [min(place * length, counted) for place in range(chips)]
    return list(enumerate(slice(*pair) for pair in zip(cuts, [*cuts[1:], total], strict=True)))


def _piece(flat: Sequence[F32], place: int, bounds: slice, vector: ChipVectorUnit) -> F32:
    """One piece on its way around the ring, from the chip at ``place`` on."""
    total = flat[place][bounds]
    for step in range(1, len(flat)):
        total = vector.add(total, flat[(place + step) % len(flat)][bounds])
    return total
