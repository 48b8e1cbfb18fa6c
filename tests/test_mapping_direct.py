"""Convolutions mapped directly: the same values, and counts that a walk over every access finds, too."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
import pytest
from hand_plan import hand_plan
from priced_chip import priced_chip
from walk import walk
from walking.patches import element, taps

from accelsim.chip import Chip, load_chip
from accelsim.cost import chip_area, count_gemm, price_layer
from accelsim.errors import InputError
from accelsim.mapping import Plan, plan_gemm
from accelsim.mapping.partition import array_shape, count_plan, least_direct, partitions
from accelsim.mapping.passes import Share
from accelsim.mapping.plan import Patches, Splits
from accelsim.mapping.search import Restriction
from accelsim.network import Conv2d, Site
from accelsim.network.windows import gradient_columns, im2col
from accelsim.operations import Axis, Gemm, LayerWork, Sliding, TensorFormats

FORMATS = TensorFormats("int4", "int4", "int4", "int4", "fp16", "fp32")
BATCH = 2


def convolution(height: int, width: int, inputs: int, **settings: Any) -> tuple[Conv2d, Site]:
    """A layer on small images."""
    return Conv2d(**settings), Site("conv", (height, width, inputs))


CONVOLUTIONS = {
    "plain": convolution(4, 5, 2, channels=3, kernel=3),
    "strided": convolution(5, 6, 1, channels=2, kernel=3, stride=2),
    "no edge": convolution(5, 4, 1, channels=2, kernel=2, padding=0),
    "gaps": convolution(7, 5, 1, channels=2, kernel=2, stride=3, padding=1),
    "grouped": convolution(4, 4, 4, channels=4, kernel=3, groups=2),
    "depthwise": convolution(4, 3, 2, channels=2, kernel=3, stride=2, groups=2),
    "oblong": convolution(4, 6, 1, channels=2, kernel=(1, 3), stride=(2, 1), padding=(0, 0, 1, 2)),
    "dilated": convolution(6, 5, 1, channels=2, kernel=(3, 2), stride=(1, 2), padding=2, dilation=(2, 3)),
}


def products(name: str) -> list[Gemm]:
    """Forward, every class of dL/dx, dL/dW."""
    layer, site = CONVOLUTIONS[name]
    backward = layer.backward_gemms(site, BATCH, FORMATS)
    given = site, BATCH, FORMATS
    return [layer.forward_gemm(*given), *backward, layer.update_gemm(*given)]


def sliding_of(gemm: Gemm) -> Sliding:
    """The images of a convolution's product."""
    assert gemm.sliding is not None
    return gemm.sliding


def matrices(gemm: Gemm, source: Random) -> tuple[Any, Any, Any]:
    """A (from random images, window by window), a random B, and the images by (group, element)."""
    sliding = sliding_of(gemm)
    along_m = sliding.positions_along == "m"
    images: dict[Any, int] = {}
    a, b = [], []
    for group in range(gemm.groups):
        rows = []
        for i, k in product(range(gemm.m), range(gemm.k)):
            met = element(sliding, *((i, k) if along_m else (k, i)))
            rows.append(0 if met is None else images.setdefault((group, met), source.randint(-8, 7)))
        a.append([rows[at : at + gemm.k] for at in range(0, len(rows), gemm.k)])
        b.append([[source.randint(-8, 7) for _ in range(gemm.n)] for _ in range(gemm.k)])
    return (a[0], b[0], images) if gemm.groups == 1 else (a, b, images)


def tilings(gemm: Gemm, chunk: int) -> list[Patches]:
    """Small and large tiles of positions, ragged ones too."""
    sliding = sliding_of(gemm)
    if sliding.positions_along == "k":
        return [Patches(sliding, chunks=chunks) for chunks in (1, 2, -(-gemm.k // chunk))]
    tall, wide = sliding.down.positions, sliding.across.positions
    return [Patches(sliding, rows, cols) for rows in {1, 2, tall} for cols in {-(-wide // 2), wide}]


def cuts(gemm: Gemm) -> list[dict[str, int]]:
    """One array, and several that share M, N, groups and K."""
    ways = [(1, 1, 1, 1), (3, 1, 1, 2), (2, 2, 1, 1), (1, 2, 2, 1)]
    names = ("m_splits", "n_splits", "group_splits", "k_splits")
    return [dict(zip(names, way, strict=True)) for way in ways]


def plans(gemm: Gemm, source: Random, count: int) -> Iterator[Plan]:
    """Some of all dataflows, pieces, tiles, with and without a pipeline and multicast."""
    for _ in range(count):
        rows, lanes, outputs = source.randint(1, 3), source.randint(1, 2), source.choice([2, 5, gemm.k])
        dataflow = source.choice(["weight_stationary", "input_stationary", "output_stationary"])
        chunk = outputs if dataflow == "output_stationary" else rows * lanes
        yield hand_plan(
            m=gemm.m, k=gemm.k, n=gemm.n, groups=gemm.groups, dataflow=dataflow, rows=rows,
            cols=source.randint(1, 2), simd=source.randint(1, 2), lanes=lanes, chunk=chunk,
            pipelined=source.random() < 0.7, multicast=source.random() < 0.5,
            patches=source.choice(tilings(gemm, chunk)), **source.choice(cuts(gemm)),
        )  # fmt: skip


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_counts_are_those_of_the_walk(name: str) -> None:
    """Cycles, passes, elements of both operands and inputs fetched, in every phase, on random plans."""
    source = Random(name)
    for gemm in products(name):
        for plan in plans(gemm, source, 5):
            a, b, _ = matrices(gemm, source)
            found, counts = walk(plan, a, b, lambda value: value), count_plan(plan)
            assert found.cycles == counts.array_cycles
            assert plan.m_splits > 1 or found.fed_cycles == counts.compute_cycles
            assert found.passes == counts.passes
            assert (found.a_buffer_reads, found.b_buffer_reads) == (
                counts.a_buffer_reads, counts.b_buffer_reads,
            )  # fmt: skip
            assert (found.psum_writes, found.psum_reads) == (counts.psum_writes, counts.psum_reads)
            assert found.b_shared_reads == counts.b_shared_reads
            fetched = found.patch_shared_reads if plan.multicast else found.patch_reads
            assert fetched == counts.patch_reads


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_no_direct_mapping_counts_less_than_the_least(name: str) -> None:
    """Count by count, in every phase, on random plans: what a search bounds all direct mappings by."""
    source = Random(name)
    for gemm in products(name):
        for plan in plans(gemm, source, 40):
            counts = count_plan(plan)
            by_elements = count_plan(replace(plan, patches=None))
            whole = Share(gemm.m, gemm.k, gemm.n, gemm.groups)
            given = by_elements, whole, plan.dataflow, array_shape(plan), sliding_of(gemm)
            least = least_direct(*given)
            assert least.array_cycles <= counts.array_cycles
            for key in COSTLY:
                assert getattr(least, key) <= getattr(counts, key), key


COSTLY = (
    "a_buffer_reads", "b_buffer_reads", "psum_writes", "psum_reads", "link_sums", "b_shared_reads",
    "patch_reads",
)  # fmt: skip
"""Counts that cost traffic or energy; of A, the inputs fetched stand for what arrays share."""


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_bits_are_those_of_im2col(name: str) -> None:
    """A rounding at every add: whatever the tiles, each result is that of the plan without them."""
    source = Random(name)

    def coarse(value: Any) -> Any:
        return round(value / 8) * 8

    for gemm in products(name):
        for plan in plans(gemm, source, 3):
            a, b, _ = matrices(gemm, source)
            assert walk(plan, a, b, coarse).values == walk(replace(plan, patches=None), a, b, coarse).values


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_windows_are_those_that_the_network_multiplies(name: str) -> None:
    """Element by element: what a product's images say of A is what the layer makes of numbered inputs."""
    layer, site = CONVOLUTIONS[name]
    outputs = layer.output_shape(site)
    groups = layer.groups

    def numbered(shape: tuple[int, ...]) -> Any:
        return np.arange(1, 1 + BATCH * int(np.prod(shape))).reshape(BATCH, *shape)

    def described(gemm: Gemm, images: Any) -> Any:
        sliding, stacks = sliding_of(gemm), []
        along_m = sliding.positions_along == "m"
        for group in range(groups):
            own = images[..., group * sliding.channels : (group + 1) * sliding.channels]
            met = [[element(sliding, *((i, k) if along_m else (k, i))) for k in range(gemm.k)]
                   for i in range(gemm.m)]  # fmt: skip
            stacks.append([[0 if one is None else own[one] for one in row] for row in met])
        return np.array(stacks)

    x, dy = numbered(site.input_shape), numbered(outputs)
    columns = im2col(x, *layer.windows, groups).reshape(groups, -1, layer.fan_in(site))
    forward, *backward, update = products(name)
    np.testing.assert_array_equal(described(forward, x), columns)
    np.testing.assert_array_equal(described(update, x), columns.swapaxes(1, 2))
    for gemm, (down, across) in zip(backward, layer.classes(site), strict=True):
        real = gradient_columns(dy, down, across, groups).reshape(groups, gemm.m, down.taps, across.taps, -1)
        found = described(gemm, dy).reshape(real.shape)
        np.testing.assert_array_equal(found[:, :, ::-1, ::-1], real)  # the layer turns the kernel round


@pytest.mark.parametrize(
    "axis",
    [
        Axis(7, 7, 3, 1, -1),
        Axis(9, 4, 2, 3, -1),
        Axis(4, 6, 1, 1, -1),
        Axis(6, 3, 3, 2, -1),
        Axis(9, 5, 3, 1, -2, 2),
        Axis(9, 4, 2, 2, -1, 3),
        Axis(7, 3, 3, 3, 0, 2),
    ],
)
def test_inputs_reached_are_a_set(axis: Axis) -> None:
    """Every run of positions, against a plain set of the inputs that it meets."""
    for start in range(axis.positions):
        for count in range(1, axis.positions - start + 1):
            met = {
                axis.first + position * axis.stride + tap * axis.dilation
                for position in range(start, start + count)
                for tap in range(axis.taps)
            }
            assert axis.reached(start, count) == len(met & set(range(axis.extent)))


def direct_chip(
    folder: Path, kind: str, window_bytes: int | None = 64, more: str = "", **settings: Any
) -> Chip:
    """A chip whose file says how convolutions run."""
    priced_chip(folder, **settings)
    path = folder / "priced.yaml"
    lines = f"  convolution: {kind}\n" + (f"  window_bytes: {window_bytes}\n" if window_bytes else "") + more
    path.write_text(
        path.read_text(encoding="utf-8").replace("array:\n", f"array:\n{lines}"), encoding="utf-8"
    )
    return load_chip(path)


def priced(gemm: Gemm, chip: Chip, plan: Plan, objective: str) -> int:
    """What the search minimises."""
    cost = price_layer(LayerWork("conv", "conv2d", gemm.phase, gemms=(gemm,)), {gemm: plan}, chip)
    cycles, energy = cost.time.total_cycles, cost.energy.total_aj
    return {"latency": cycles, "energy": energy, "edp": cycles * energy}[objective]


def space(gemm: Gemm, chunk: int, window_bytes: int, k_splits: int) -> set[tuple[int, int, int]]:
    """Tiles (rows, columns, chunks) whose largest patch fits twice, found by looking at all of them."""
    sliding = sliding_of(gemm)

    def size(positions: Iterator[int] | range) -> int:
        met = {element(sliding, position, tap) for position in positions for tap in taps(sliding)}
        return len(met - {None})

    down, across = sliding.down.positions, sliding.across.positions
    powers = [1 << power for power in range(9)]
    room = 8 * window_bytes // 2 // int(gemm.a.bits)
    found = set()
    if sliding.positions_along == "k":
        whole = -(-gemm.k // chunk)
        piece = -(-whole // k_splits)
        for chunks in {*(each for each in powers if each < piece), piece}:
            runs = [(p + at, min(p + at + chunks, p + piece, whole)) for p in range(0, whole, piece)
                    for at in range(0, min(piece, whole - p), chunks)]  # fmt: skip
            sizes = []
            for begin, end in runs:
                rows = {place // across for place in range(begin * chunk, min(end * chunk, gemm.k))}
                sizes.append(size(iter([row * across + col for row in rows for col in range(across)])))
            if max(sizes) <= room:
                found.add((0, 0, chunks))
        return found
    for rows in {*(each for each in powers if each < down), down}:
        for cols in {-(-across // parts) for parts in (1, 2, 4, 8)}:
            sizes = [
                size(iter([(top + i) * across + left + j for i in range(rows) for j in range(cols)]))
                for top in range(down - rows + 1) for left in range(across - cols + 1)
            ]  # fmt: skip
            if max(sizes) <= room:
                found.add((rows, cols, 0))
    return found


@pytest.mark.parametrize("objective", ["latency", "energy", "edp"])
@pytest.mark.parametrize("name", ["plain", "depthwise"])
def test_the_search_finds_the_best_of_both(tmp_path: Path, name: str, objective: Any) -> None:
    """Every dataflow, cut and tile of positions that fits, beside im2col: none costs less."""
    chip = direct_chip(
        tmp_path, "either", 24, rows=2, cols=2, cores=2, ring_bandwidth=8, scratchpad_bandwidth=2
    )
    for gemm in products(name):
        best = plan_gemm(gemm, chip, objective)
        prices = []
        for dataflow, splits in product(chip.array.dataflows, partitions(2, split_k=True)):
            plain = Restriction(dataflow, splits, convolution="im2col")
            whole = plan_gemm(gemm, chip, objective, plain)
            prices.append(priced(gemm, chip, whole, objective))
            tiles = space(gemm, whole.chunk, 24, splits.k) if sliding_of(gemm).repeats else ()
            for patch in tiles:
                only = replace(plain, convolution="direct", patch=patch)
                prices.append(priced(gemm, chip, plan_gemm(gemm, chip, objective, only), objective))
        assert priced(gemm, chip, best, objective) == min(prices)


def test_direct_takes_fewer_bytes_from_the_scratchpads(tmp_path: Path) -> None:
    """Inputs of a 3 x 3 convolution come about once, not nine times."""
    layer, site = convolution(16, 16, 8, channels=8, kernel=3)
    gemm = layer.forward_gemm(site, BATCH, FORMATS)
    plans = [
        plan_gemm(gemm, direct_chip(tmp_path, kind, 4096, cols=8, dataflows="output_stationary"))
        for kind in ("im2col", "direct")
    ]
    plain, direct = (count_gemm(gemm, plan) for plan in plans)
    assert plans[0].patches is None
    assert plans[1].patches is not None
    assert plain.a_read_bytes == gemm.m * gemm.k // 2
    assert gemm.a.size_bytes <= direct.a_read_bytes < 2 * gemm.a.size_bytes


def test_what_has_no_taps_to_reuse_stays_as_it_is(tmp_path: Path) -> None:
    """1 x 1 kernels, strides as wide as the kernel, and windows that do not fit run by im2col."""
    chip = direct_chip(tmp_path, "direct", 8)
    for settings in ({"kernel": 1}, {"kernel": 2, "stride": 2, "padding": 0}, {"kernel": 7}):
        layer, site = convolution(8, 8, 16, channels=4, **settings)
        assert plan_gemm(layer.forward_gemm(site, 1, FORMATS), chip).patches is None


def test_a_direct_array_needs_a_window_buffer(tmp_path: Path) -> None:
    """The key that is missing, and a word that is none, are told with file and line."""
    with pytest.raises(InputError, match=r"array\.convolution: 'either' needs 'array\.window_bytes', what"):
        direct_chip(tmp_path, "either", None)
    with pytest.raises(
        InputError, match=r"array\.convolution: must be one of im2col, direct, either, got 'd"
    ):
        direct_chip(tmp_path, "directly")
    area = "  window_area_mm2: {value: 0.5, source: a test, evidence: estimated}\n"
    with pytest.raises(
        InputError, match=r"array\.window_area_mm2: there is no window buffer: give 'array\.w"
    ):
        direct_chip(tmp_path, "im2col", None, area)


def test_window_buffers_have_their_area(tmp_path: Path) -> None:
    """Of each array: the figure of its file, or as much as so many bytes of the scratchpad; none without."""
    area = "  window_area_mm2: {value: 0.5, source: a test, evidence: estimated}\n"
    shape = {"cores": 3, "corelets": 2, "capacity_kib": 64}
    found = [
        chip_area(direct_chip(tmp_path, kind, size, more, **shape)).scratchpad_mm2
        for kind, size, more in (("im2col", None, ""), ("direct", 4096, ""), ("either", 4096, area))
    ]
    assert found == pytest.approx([3 * 1.5, 3 * 1.5 + 6 * 1.5 / 16, 3 * 1.5 + 6 * 0.5])


def test_pieces_that_have_nothing_take_no_time(tmp_path: Path) -> None:
    """More arrays than rows of positions: the rest idle, and the walk agrees."""
    layer, site = convolution(2, 2, 1, channels=1, kernel=3)
    gemm = layer.forward_gemm(site, 1, FORMATS)
    plan = hand_plan(
        m=4, k=9, n=1, rows=2, cols=2, m_splits=5, patches=Patches(sliding_of(gemm), 1, 2), tile_m=4, tile_k=9
    )
    a, b, _ = matrices(gemm, Random(1))
    found, counts = walk(plan, a, b, lambda value: value), count_plan(plan)
    assert (found.cycles, found.passes, found.patch_reads) == (
        counts.array_cycles, counts.passes, counts.patch_reads,
    )  # fmt: skip
    assert plan.splits == Splits(m=5)
