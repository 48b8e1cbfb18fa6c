"""The choice of a row-stationary mapping: the one of least energy, DRAM's included.

What a mapping is and counts stands in `accelsim.mapping.row_mapping`. The space is every strip, every number
of filters (powers of two) and channels that a PE holds, every share of the sets that fit among filters and
channels, and every block of samples with the most filters that fit. Eyeriss's designers choose by energy too.
The objective of a search does not matter here: it chooses among other dataflows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache

from accelsim.chip import Chip, LocalStore, Mode
from accelsim.errors import InputError
from accelsim.mapping.attojoules import attojoules, exact, rounded
from accelsim.mapping.passes import ceil_div
from accelsim.mapping.plan import Plan
from accelsim.mapping.row_mapping import ConvolutionShape, RowChoice, RowMapping, shape_of
from accelsim.mapping.whole import whole_plan
from accelsim.operations import Gemm

_FEW_SAMPLES = 16
"""Up to here every block of samples is tried, above only powers of two and all of them."""


@dataclass(frozen=True)
class Placement:
    """``sets`` sets of ``strip`` output rows each on the array at once."""

    strip: int
    sets: int


def placements(shape: ConvolutionShape, rows: int, cols: int) -> list[Placement]:
    """All placements on ``rows`` x ``cols`` PEs, the shortest strip first.

    Raises `InputError` for a kernel with more rows than the array.
    """
    if shape.kernel > rows:
        raise InputError(f"row stationary: a kernel of {shape.kernel} rows does not fit {rows} rows of PEs")
    slots = rows // shape.kernel
    found = []
    for strip in range(1, shape.rows_out + 1):
        segments = ceil_div(strip, cols)
        sets = slots * (cols // strip) if segments == 1 else slots // segments
        if sets:
            found.append(Placement(strip, sets))
    return found


def useful(shape: ConvolutionShape, found: Sequence[Placement]) -> list[Placement]:
    """Of placements with equal sets that cut an image into as many strips, the one of the shortest strips.

    A longer strip takes more of the global buffer and more input rows, and nothing gets less.
    """
    best: dict[tuple[int, int], Placement] = {}
    for place in found:
        best.setdefault((ceil_div(shape.rows_out, place.strip), place.sets), place)
    return list(best.values())


def held(shape: ConvolutionShape, store: LocalStore) -> list[tuple[int, int]]:
    """(filters, channels) that a PE can hold; filters are powers of two."""
    most_channels = max(store.input_words // shape.cols, 1)
    found = []
    for channels in range(1, min(most_channels, shape.channels) + 1):
        most = min(store.filter_words // (shape.taps * channels), store.sum_words)
        found += [(1 << power, channels) for power in range(max(most, 1).bit_length())]
    return found


def shares(sets: int, most_filter_sets: int, most_channel_sets: int) -> list[tuple[int, int]]:
    """(sets on filters, sets on channels for each), the most of the latter for each number of the former."""
    best: dict[int, int] = {}
    for channel_sets in range(1, min(sets, most_channel_sets) + 1):
        best[min(sets // channel_sets, most_filter_sets)] = channel_sets
    return list(best.items())


def sample_blocks(samples: int) -> list[int]:
    """Samples that may share a block."""
    if samples <= _FEW_SAMPLES:
        return [*range(1, samples + 1)]
    return [*(1 << power for power in range((samples - 1).bit_length())), samples]


@dataclass(frozen=True)
class GlobalBuffer:
    """The scratchpad of a row-stationary array, which inputs and sums share bank by bank.

    Eyeriss's 25 banks are given to the one or the other as a layer asks (JSSC 52(1), 2017). A chip whose file
    names no ``banks`` shares the buffer word by word.
    """

    words: int
    bank_words: int

    @classmethod
    def of(cls, chip: Chip, store: LocalStore) -> GlobalBuffer:
        """The buffer of ``chip``."""
        words = chip.scratchpad.capacity_kib * 1024 // store.word_bytes
        banks = chip.scratchpad.banks
        return cls(words, words // banks.count if banks else 1)

    def room(self, inputs: int) -> int:
        """Words left for sums beside ``inputs``; below 0 where those do not fit."""
        banks = self.words // self.bank_words - ceil_div(inputs, self.bank_words)
        return banks * self.bank_words


def mappings(
    shape: ConvolutionShape, chip: Chip, store: LocalStore, mode: Mode, places: Sequence[Placement]
) -> Iterator[RowMapping]:
    """All mappings on ``places`` whose blocks fit, each with the most filters that do."""
    for place in places:
        for filters, channels in held(shape, store):
            most = ceil_div(shape.filters, filters), ceil_div(shape.channels, channels)
            for sets, channel_sets in shares(place.sets, *most):
                for samples in sample_blocks(shape.samples):
                    one = RowMapping(
                        shape=shape, store=store, lanes=mode.lanes, simd=chip.array.simd, strip=place.strip,
                        sets=sets, channel_sets=channel_sets, filters=filters, channels=channels,
                        block_samples=samples, block_filters=filters * sets,
                    )  # fmt: skip
                    yield from _most_filters(one, GlobalBuffer.of(chip, store))


def _most_filters(one: RowMapping, buffer: GlobalBuffer) -> Iterator[RowMapping]:
    """The mapping whose block has as many times the filters of ``one`` as fit, if any do."""
    inputs, sums = one.held_words
    times = buffer.room(inputs) // sums
    if times > 0:
        filters = min(times * one.block_filters, one.shape.filters)
        yield replace(one, block_filters=filters)


@cache
def choose(shape: ConvolutionShape, chip: Chip, store: LocalStore, mode: Mode) -> RowMapping:
    """The mapping of least energy, DRAM's included. Raises `InputError` if none fits."""
    places = useful(shape, placements(shape, chip.array.rows, chip.array.cols))
    space = mappings(shape, chip, store, mode, places)
    found = min(space, key=lambda each: moved_aj(each, chip), default=None)
    if found is None:
        capacity = chip.scratchpad.capacity_kib
        raise InputError(
            f"row stationary: not even one output row of {shape.cols_out} fits into {capacity} KiB"
        )
    return found


def fixed(
    shape: ConvolutionShape, chip: Chip, store: LocalStore, mode: Mode, choice: RowChoice
) -> RowMapping:
    """The mapping of ``choice``. Raises `InputError` where array, local stores or buffer do not hold it."""
    places = {place.strip: place.sets for place in placements(shape, chip.array.rows, chip.array.cols)}
    sets, most_sets = choice.sets * choice.channel_sets, places.get(choice.strip, 0)
    words = choice.filters * choice.channels * shape.taps
    if sets > most_sets:
        raise InputError(f"{most_sets} sets of {choice.strip} output rows fit, not {sets}")
    if choice.channels * shape.cols > store.input_words or words > store.filter_words:
        raise InputError(
            f"{choice.filters} filters x {choice.channels} channels do not fit a PE's local store"
        )
    if choice.filters > store.sum_words:
        raise InputError(f"a PE holds {store.sum_words} sums, not {choice.filters}")
    found = RowMapping(shape=shape, store=store, lanes=mode.lanes, simd=chip.array.simd, **vars(choice))
    (inputs, sums), buffer = found.held_words, GlobalBuffer.of(chip, store)
    if sums > buffer.room(inputs):
        raise InputError(f"its block needs {inputs + sums:,} words of the {buffer.words:,} of the scratchpad")
    return found


def dram_aj(mapping: RowMapping, chip: Chip) -> int:
    """Energy of DRAM."""
    per_byte = 8 * attojoules(chip.dram.read_energy_pj_per_bit.value)
    return mapping.dram_words() * mapping.store.word_bytes * per_byte


def moved_aj(mapping: RowMapping, chip: Chip) -> int:
    """All energy but that of the MACs, which no mapping changes, and of the clock."""
    reads, writes = mapping.buffer_words()
    pad = chip.scratchpad
    words = (
        reads * attojoules(pad.read_energy_pj_per_byte.value)
        + writes * attojoules(pad.write_energy_pj_per_byte.value)
        + mapping.passed_sums() * attojoules(chip.operand_buffer.energy_pj_per_byte.value)
    )
    static = rounded(
        mapping.cycles(), exact(chip.static_power_mw.value) * 10**9 / exact(chip.clock_mhz.value)
    )
    return words * mapping.store.word_bytes + static + dram_aj(mapping, chip)


def runs_by_rows(gemm: Gemm, chip: Chip) -> bool:
    """Whether ``gemm`` runs row by row on ``chip``: a convolution whose kernel fits, if the chip can.

    Where a chip has no other dataflow, all forward products do. Raises `InputError` for a product of a
    backward or update phase on such a chip.
    """
    array = chip.array
    if "row_stationary" not in array.dataflows:
        return False
    if len(array.dataflows) > 1:
        return gemm.phase == "forward" and gemm.sliding is not None and gemm.sliding.down.taps <= array.rows
    if gemm.phase != "forward":
        raise InputError(
            f"layer '{gemm.layer}' ({gemm.phase}): row_stationary runs forward products alone; add another "
            f"dataflow to array.dataflows of chip '{chip.name}', or estimate the forward phases only"
        )
    return True


def plan_rows(gemm: Gemm, chip: Chip, mode: Mode, sum_bits: int, choice: RowChoice | None = None) -> Plan:
    """The plan of a product that `runs_by_rows`, by ``choice`` if given; its tiles are the whole of it."""
    store, shape = chip.array.local_store, shape_of(gemm)
    assert store is not None, "a chip with row_stationary was checked to have one"
    if not gemm.macs:
        one = RowChoice(strip=1, sets=1, filters=1, channels=1, block_samples=1, block_filters=1)
        mapping = RowMapping(shape=shape, store=store, **vars(one))
    elif choice is None:
        mapping = choose(shape, chip, store, mode)
    else:
        mapping = fixed(shape, chip, store, mode, choice)
    return replace(whole_plan(gemm, chip, mode, "row_stationary", sum_bits), by_rows=mapping)
