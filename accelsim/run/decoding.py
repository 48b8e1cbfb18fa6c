"""Sequences as the trained network writes them: greedy decoding on the chip, and how wrong they are."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accelsim.network import Network
from accelsim.run.chip_executor import ChipExecutor
from accelsim.workload import IGNORED, PairLayout

F32 = NDArray[np.float32]
Ids = NDArray[np.int64]


def greedy_decode(network: Network, chip: ChipExecutor, x: F32, layout: PairLayout) -> Ids:
    """The most likely symbol at each place of the target, given those chosen before it.

    ``x`` is (samples, source + target) token ids, of which only the sources are looked at. Returns
    (samples, target) ids; what stands after a `stop` means nothing. Each place is one forward pass.
    """
    places = x.shape[1] - layout.source
    x = x.copy()
    x[:, layout.source :] = layout.padding
    x[:, layout.source] = layout.start
    chosen = np.full((len(x), places), layout.stop, np.int64)
    open_rows = np.ones(len(x), bool)
    for place in range(places):
        chip.begin(training=False)
        chosen[:, place] = np.argmax(network.forward(x, chip)[:, place], axis=1)
        open_rows &= chosen[:, place] != layout.stop
        if place + 1 == places or not open_rows.any():
            break
        x[:, layout.source + place + 1] = chosen[:, place]
    return chosen


def edit_distance(found: Sequence[int], wanted: Sequence[int]) -> int:
    """Fewest insertions, deletions and replacements that turn one into the other (Levenshtein 1966)."""
    row = list(range(len(wanted) + 1))
    for i, symbol in enumerate(found, 1):
        before, row[0] = row[0], i
        for j, other in enumerate(wanted, 1):
            cost = min(row[j] + 1, row[j - 1] + 1, before + (symbol != other))
            before, row[j] = row[j], cost
    return row[-1]


def sequence_errors(found: Ids, labels: Ids, layout: PairLayout) -> tuple[int, int]:
    """(edits needed, symbols wanted) over all rows, each up to its first `stop`."""
    edits = wanted = 0
    for row, target in zip(found.tolist(), labels.tolist(), strict=True):
        reference = _until_stop([label for label in target if label != IGNORED], layout)
        edits += edit_distance(_until_stop(row, layout), reference)
        wanted += len(reference)
    return edits, wanted


def _until_stop(row: list[int], layout: PairLayout) -> list[int]:
    return row[: row.index(layout.stop)] if layout.stop in row else row
