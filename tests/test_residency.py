"""What a search keeps in the scratchpads from phase to phase: the best set, the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, combinations, product
from math import ceil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import DrawFn, composite, integers, lists, tuples
from priced_chip import priced_chip
from small_workloads import write_workload
from tiny_workload import TEXT, written

import accelsim
from accelsim.chip import Chip, load_chip
from accelsim.cli.main import main
from accelsim.cost import dram_traffic_by_residence, keep_resident, price_step
from accelsim.cost.nested_sets import Choice, Option, best_choice, least_product
from accelsim.cost.residency import weight_gradients
from accelsim.errors import InputError
from accelsim.mapping import Planner
from accelsim.operations import LayerWork, Tensor
from accelsim.program import Program, compile_program
from accelsim.recipe import load_recipe
from accelsim.storage import find_resource
from accelsim.workload import load_workload

OBJECTIVES = ("latency", "energy", "edp")
HEAD = TEXT.split("blocks:")[0]


def goal(cycles: int, energy_aj: int, objective: str) -> tuple[int, int]:
    """What is minimised."""
    return {
        "latency": (cycles, energy_aj),
        "energy": (energy_aj, cycles),
        "edp": (cycles * energy_aj, cycles),
    }[objective]


@composite
def random_layers(draw: DrawFn) -> list[list[Option]]:
    """A few layers, each of which may take up to three things; some have little room."""
    small, saved_cycles, saved_aj = integers(0, 12), integers(-2, 20), integers(-9, 200)
    layers = []
    for _ in range(draw(integers(1, 5))):
        room = draw(integers(0, 25))
        options = [Option(0, room, 40, 400, ("none",))]
        for index in range(draw(integers(0, 3))):
            cycles, energy_aj = 40 - draw(saved_cycles), 400 - draw(saved_aj)
            limit = max(room + draw(integers(-4, 4)), 0)
            options.append(Option(draw(small), limit, cycles, energy_aj, (str(index),)))
        layers.append(options)
    return layers


def all_choices(layers: Sequence[Sequence[Option]]) -> list[Choice]:
    """Every choice of one option per layer that fits in every layer."""
    found = []
    for options in product(*layers):
        taken = list(accumulate(option.blocks for option in options))
        if all(blocks <= option.limit for blocks, option in zip(taken, options, strict=True)):
            cycles, energy_aj = (sum(getattr(o, key) for o in options) for key in ("cycles", "energy_aj"))
            found.append(Choice(cycles, energy_aj, tuple(name for o in options for name in o.kept)))
    return found


@pytest.mark.parametrize("objective", OBJECTIVES)
@settings(max_examples=250, deadline=None)
@given(layers=random_layers(), scale=integers(0, 70))
def test_no_choice_is_better(objective: Any, layers: list[list[Option]], scale: int) -> None:
    """Against every choice of random layers, with numbers of one and of two limbs: exact, ties included."""
    layers = [[replace(each, energy_aj=each.energy_aj << scale) for each in options] for options in layers]
    every, found = all_choices(layers), best_choice(layers, objective)
    assert found in every
    least = min(goal(each.cycles, each.energy_aj, objective) for each in every)
    assert goal(found.cycles, found.energy_aj, objective) == least


def along_tangents(every: Sequence[Choice], start: Choice) -> Choice:
    """Where the product of cycles and energy falls no more by the tangent at the last choice."""
    known = start
    while True:
        found = min(every, key=lambda each: each.weight((known.energy_aj, known.cycles)))
        if found.by_product >= known.by_product:
            return known
        known = found


TWO_VALLEYS = [
    [Option(0, 4, 100, 1000), Option(4, 4, 60, 990, ("fast",)), Option(4, 4, 98, 540, ("thrifty",))],
]
"""Room for one of two things: the one saves cycles, the other energy."""


def test_a_tangent_may_end_at_the_wrong_corner() -> None:
    """A case where following tangents ends above the least product, which the search of corners finds."""
    every = all_choices(TWO_VALLEYS)
    fast = min(every, key=lambda each: each.cycles)
    assert along_tangents(every, fast) == fast
    best = best_choice(TWO_VALLEYS, "edp")
    assert best.kept == ("thrifty",)
    assert best.by_product == min(each.by_product for each in every) < fast.by_product


@settings(max_examples=200, deadline=None)
@given(points=lists(tuples(integers(1, 60), integers(1, 60)), min_size=1, max_size=30))
def test_the_least_product_is_a_corner_of_the_hull(points: list[tuple[int, int]]) -> None:
    """Of any points: the least product found by weighted sums alone, as many as the hull has corners."""
    every = [Choice(cycles, energy_aj, ()) for cycles, energy_aj in points]
    asked = []

    def least(weights: tuple[int, int]) -> Choice:
        asked.append(weights)
        return min(every, key=lambda each: each.weight(weights))

    fastest = min(every, key=lambda each: (each.cycles, each.energy_aj))
    thriftiest = min(every, key=lambda each: (each.energy_aj, each.cycles))
    found = least_product(fastest, thriftiest, least)
    assert found.by_product == min(each.by_product for each in every)
    assert len(asked) <= 2 * len(set(points))


LAYERS = (
    "conv2d: {channels: 4, kernel: 3}",
    "batch_norm",
    "residual: {body: [relu, conv2d: {channels: 4, kernel: 3}]}",
    "flatten",
    "linear: {features: 10}",
)


def small_program(folder: Path, recipe: str) -> Program:
    """A convolution, a branch, a perceptron."""
    path = written(folder, f"{HEAD}network: [{', '.join(LAYERS)}]\n")
    return compile_program(load_workload(path), load_recipe(recipe), 3)


def small_chip(folder: Path, recipe: str, capacity_kib: int, dram_bandwidth: float) -> Chip:
    """A chip for the recipe, with little room."""
    if recipe == "fp16_ieee":
        return priced_chip(folder, capacity_kib=capacity_kib, dram_bandwidth=dram_bandwidth)
    text = find_resource("arch_configs", "fp4_training").read_text(encoding="utf-8")
    changes = {
        "capacity_kib: 2048": f"capacity_kib: {capacity_kib}",
        "\ncores: 4": "\ncores: 1",
        "\n  rows: 8": "\n  rows: 2",
        "value: 300": f"value: {dram_bandwidth}",
    }
    for old, new in changes.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    path = folder / "small.yaml"
    path.write_text(text, encoding="utf-8")
    return load_chip(path)


def uses(work: LayerWork) -> list[tuple[Tensor, bool]]:
    """(tensor, whether it is written) of all that a work moves."""
    read = [tensor for gemm in work.gemms for tensor in (gemm.a, gemm.b)] + list(work.reads)
    return [*((each, False) for each in read), *((each, True) for each in work.writes)]


def spans(program: Program) -> dict[str, tuple[int, list[int]]]:
    """(bytes, places) of what the forward pass has and the same layer's backward wants, and of gradients."""
    found = {}
    names = {tensor.name for work in program.works for tensor, _ in uses(work)}
    for name in names:
        places = {
            place: [(tensor, is_written) for tensor, is_written in uses(work) if tensor.name == name]
            for place, work in enumerate(program.works)
        }
        at = [place for place, each in places.items() if each]
        layers = {program.works[place].layer for place in at}
        written_tensors = [tensor for each in places.values() for tensor, is_written in each if is_written]
        saved = any(tensor.residence == "saved" for tensor in written_tensors)
        operands = {
            tensor.name for work in program.works for gemm in work.gemms for tensor in (gemm.a, gemm.b)
        }
        weight = name in operands and name.endswith("weight codes")
        again = [place for place in at if program.works[place].phase != "forward"
                 and any(not is_written for _, is_written in places[place])]  # fmt: skip
        size = max(t.size_bytes for each in places.values() for t, _ in each)
        if len(layers) == 1 and again and (saved or weight):
            (layer,) = layers
            last = max(p for p, work in enumerate(program.works) if work.layer == layer)
            found[name] = size, list(range(at[0], last + 1))
        if name.endswith(".gradient") and any(gemm for p in at for gemm in program.works[p].gemms):
            found[name] = size, at
    return found


def codes_of_gradients(program: Program) -> list[str]:
    """What the backward work of the inner convolution writes for dL/dx and dL/dW, in few bits only."""
    names = {tensor.name for work in program.works for tensor in work.writes}
    return sorted(name for name in names if "dy codes" in name)


def free_bytes(program: Program, chip: Chip, spilled: Sequence[str] = ()) -> list[int]:
    """Room beside the streams of each work, and beside the shortcut that waits for the one block's end."""
    half = chip.cores * chip.scratchpad.capacity_kib * 512

    def streams(tensors: Sequence[Tensor]) -> int:
        sizes = {each.name: each.size_bytes for each in tensors if each.residence == "stream"}
        return sum(size for name, size in sizes.items() if size <= half and name not in spilled)

    found = []
    shortcut = next(
        tensor.size_bytes for work in program.works for tensor in work.reads if tensor.name == "add1.shortcut"
    )
    writes = [tensor for work in program.works for tensor in work.writes]
    for work in program.works:
        inputs = [tensor for tensor, is_written in uses(work) if not is_written]
        if work.phase == "update":
            inputs += [each for each in writes if each.name == f"{work.layer}.dy codes (dx)"]
        outputs = [gemm.out for gemm in work.gemms] + list(work.writes)
        around = shortcut if work.layer in ("relu1", "conv2d2") else 0
        found.append(max(half - max(streams(inputs), streams(outputs)) - around, 0))
    return found


def priced_with(works: Sequence[LayerWork], chip: Chip, plans: Any, kept: set[str]) -> tuple[int, int]:
    """Cycles and energy of works if these tensors neither go to DRAM nor come back, but these codes do."""
    changed, given = [], {}
    for work in works:
        later = work.phase != "forward"

        def moved(tensor: Tensor, later: bool = later) -> Tensor:
            if tensor.name in kept and "dy codes" in tensor.name:
                return replace(tensor, residence="spilled")
            stays = tensor.name in kept and (tensor.residence == "saved" or later)
            return replace(tensor, residence="kept") if stays and tensor.residence != "stream" else tensor

        gradient = f"{work.layer}.gradient" in kept
        gemms = []
        for gemm in work.gemms:
            out = (
                replace(gemm.out, residence="kept") if gradient and gemm.out.name.endswith("dW") else gemm.out
            )
            gemms.append(replace(gemm, a=moved(gemm.a), b=moved(gemm.b), out=out))
            given[gemms[-1]] = plans[gemm]
        writes = tuple(each if each.residence == "parameter" else moved(each) for each in work.writes)
        changed.append(replace(work, gemms=tuple(gemms), reads=tuple(map(moved, work.reads)), writes=writes))
    costs = price_step(changed, chip, given)
    return sum(each.time.total_cycles for each in costs), sum(each.energy.total_aj for each in costs)


def all_sets(program: Program, chip: Chip, plans: Any) -> list[tuple[set[str], int, int]]:
    """Every set that fits at every moment: names, cycles, energy; each layer priced in full."""
    tensors, codes = spans(program), codes_of_gradients(program)
    rooms = free_bytes(program, chip), free_bytes(program, chip, codes)
    half = chip.cores * chip.scratchpad.capacity_kib * 512
    block = ceil(half / 4096)
    layers = list(dict.fromkeys(work.layer for work in program.works))
    known: dict[tuple[str, frozenset[str]], tuple[int, int]] = {}

    def cost_of(layer: str, names: set[str]) -> tuple[int, int]:
        key = layer, frozenset(name for name in names if name.startswith(f"{layer}."))
        if key not in known:
            works = [work for work in program.works if work.layer == layer]
            known[key] = priced_with(works, chip, plans, set(key[1]))
        return known[key]

    found = []
    for count in range(len(tensors) + 1):
        for names, spills in product(combinations(tensors, count), (False, True) if codes else (False,)):
            taken, exact = [0] * len(program.works), [0] * len(program.works)
            for name in names:
                size, places = tensors[name]
                for place in places:
                    if name.endswith(".gradient"):
                        exact[place] += size
                    else:
                        taken[place] += ceil(size / block)
            left = [free - held for free, held in zip(rooms[spills], exact, strict=True)]
            if all(blocks * block <= free for blocks, free in zip(taken, left, strict=True)):
                chosen = {*names, *(codes if spills else ())}
                costs = [cost_of(layer, chosen) for layer in layers]
                found.append((chosen, sum(each[0] for each in costs), sum(each[1] for each in costs)))
    return found


CASES = (
    ("fp16_ieee", 10, 0.3),
    ("fp16_ieee", 16, 0.3),
    ("fp16_ieee", 14, 4),
    ("ibm2020_fp4", 10, 4),
    ("ibm2020_fp4", 12, 0.5),
)


@pytest.mark.parametrize(("recipe", "capacity_kib", "dram_bandwidth"), CASES)
def test_the_best_set_of_a_small_step(
    tmp_path: Path, recipe: str, capacity_kib: int, dram_bandwidth: float
) -> None:
    """Every set of tensors that fits at every moment, priced in full: none is better than what is kept."""
    program = small_program(tmp_path, recipe)
    chip = small_chip(tmp_path, recipe, capacity_kib, dram_bandwidth)
    plans = Planner(chip).plans(program.gemms)
    results = all_sets(program, chip, plans)
    assert 8 < len(results) < 2 ** (len(spans(program)) + (recipe != "fp16_ieee"))
    for objective in OBJECTIVES:
        found = keep_resident(program.works, plans, chip, objective, program.inside)  # type: ignore[arg-type]
        costs = price_step(found.works, chip, found.plans)
        cycles, energy_aj = (sum(each) for each in zip(
            *((cost.time.total_cycles, cost.energy.total_aj) for cost in costs), strict=True
        ))  # fmt: skip
        assert goal(cycles, energy_aj, objective) == min(goal(*each[1:], objective) for each in results)
        assert ({each.name for each in found.kept}, cycles, energy_aj) in results


def test_codes_of_gradients_give_way(tmp_path: Path) -> None:
    """Where what takes their room saves more, the codes of a gradient go through DRAM, as streams there."""
    program = small_program(tmp_path, "ibm2020_fp4")
    chip = small_chip(tmp_path, "ibm2020_fp4", 10, 4)
    found = keep_resident(program.works, Planner(chip).plans(program.gemms), chip, "energy", program.inside)
    sent = {each.name: each.size_bytes for each in found.kept if each.stays == "dram"}
    assert set(sent) == {"conv2d2.dy codes (dW)", "conv2d2.dy codes (dx)"}
    moved = dram_traffic_by_residence(found.works, found.plans, chip)["stream"]
    assert moved >= 2 * sum(sent.values())


def test_gradients_that_others_wait_for_go_to_dram(tmp_path: Path) -> None:
    """With other chips to add up with, or a norm of all gradients, none stays; with neither, some do."""
    program = small_program(tmp_path, "ibm2020_fp4")
    chip = small_chip(tmp_path, "ibm2020_fp4", 64, 1)
    plans = Planner(chip).plans(program.gemms)
    given = program.works, plans, chip, "latency", program.inside

    def staying(**options: bool) -> set[str]:
        kept = keep_resident(*given, **options).kept  # type: ignore[arg-type]
        return {each.name for each in kept if each.stays == "update"}

    assert staying() == {"conv2d1.gradient", "conv2d2.gradient", "linear1.gradient"}
    assert staying(gradients_wait=True) == set()
    path = written(tmp_path, f"{HEAD}clip_norm: 1\nnetwork: [{', '.join(LAYERS)}]\n")
    clipped = compile_program(load_workload(path), load_recipe("ibm2020_fp4"), 3)
    assert weight_gradients(program.works)
    assert not weight_gradients(clipped.works)


def searched(folder: Path, name: str = "fp4_training", word: str = "searched") -> Path:
    """A shipped chip whose scratchpads keep what a search chooses."""
    text = find_resource("arch_configs", name).read_text(encoding="utf-8")
    path = folder / "searched.yaml"
    kept = text.replace("scratchpad:  ", f"scratchpad:\n  residency: {word}\n  ", 1)
    path.write_text("\n".join(line.rstrip() for line in kept.splitlines()) + "\n", encoding="utf-8")
    return path


def test_a_run_keeps_its_bits_and_moves_less(tmp_path: Path) -> None:
    """The same weights; less DRAM traffic, fewer saved bytes at the peak, the same cost as an estimate's."""
    workload, path = write_workload(tmp_path), searched(tmp_path)
    runs = [accelsim.train(chip, workload, epochs=1) for chip in ("fp4_training", path)]
    digests = {run.training.weight_digest for run in runs if run.training}
    assert len(digests) == 1
    plain, kept = (run.cost for run in runs)
    assert kept.memory.dram_traffic["saved"] < plain.memory.dram_traffic["saved"]
    assert kept.memory.peak_bytes < plain.memory.peak_bytes
    assert kept.step_cycles <= plain.step_cycles
    assert [layer.gemms for layer in kept.layers] == [layer.gemms for layer in plain.layers]
    assert accelsim.estimate(path, workload, epochs=1).cost == kept


def test_a_misspelt_residency_is_told(tmp_path: Path) -> None:
    """File, line, key, and both words."""
    with pytest.raises(
        InputError, match=r"scratchpad\.residency: must be one of streams, searched, got 'all'"
    ):
        load_chip(searched(tmp_path, word="all"))


def test_what_is_kept_is_shown(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The table of mappings ends with the tensors kept and their bytes."""
    words = ["map", str(searched(tmp_path)), "letters_mlp"]
    assert main(words) == 0
    text = capsys.readouterr().out
    kept = accelsim.kept_tensors(words[1], "letters_mlp")
    assert len(kept) > 3
    assert "kept on the chip" in text
    assert "every set that fits of saved tensors and weights, from the forward pass on; gradients of" in text
    assert all(f"{each.name} " in text and f"{each.size_bytes:,}" in text for each in kept)
    assert accelsim.kept_tensors("fp4_training", "letters_mlp") == ()
