"""What a search keeps in the scratchpads from phase to phase: the best set, the same bits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations, product
from pathlib import Path
from random import Random
from typing import Any

import pytest
from priced_chip import priced_chip
from small_workloads import write_workload
from tiny_workload import TEXT, written

import accelsim
from accelsim.chip import Chip, load_chip
from accelsim.cli.main import main
from accelsim.cost import keep_resident, price_step
from accelsim.cost.nested_sets import Chosen, LayerOptions, best_choice
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


def random_layers(source: Random) -> list[LayerOptions]:
    """A few layers, each of which may take up to three things; some have little room."""
    layers = []
    for _ in range(source.randint(1, 5)):
        cycles, energy_aj = source.randint(50, 60), source.randint(500, 600)
        options = [Chosen(0, cycles, energy_aj)]
        for _ in range(source.randint(0, 3)):
            saved = source.randint(0, 20), source.randint(0, 200)
            size = source.randint(0, 12)
            options.append(Chosen(size, cycles - saved[0], energy_aj - saved[1]))
        layers.append(LayerOptions(tuple(options), source.randint(0, 25)))
    return layers


def all_choices(layers: Sequence[LayerOptions]) -> list[Chosen]:
    """Every choice of one option per layer that fits in every layer."""
    found = []
    for choice in product(*(layer.options for layer in layers)):
        total = Chosen(0, 0, 0)
        fits = True
        for layer, option in zip(layers, choice, strict=True):
            total = total.with_option(option)
            fits = fits and total.size_bytes <= layer.room_bytes
        if fits:
            found.append(total)
    return found


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_no_choice_is_better(objective: Any) -> None:
    """Against every choice of random layers: exact, for the product along the tangent where it ends."""
    source = Random(objective)
    for _ in range(150):
        layers = random_layers(source)
        every, found = all_choices(layers), best_choice(layers, objective)
        assert found in every
        if objective == "edp":
            tangent = found.energy_aj, found.cycles
            assert found.weight(tangent) == min(each.weight(tangent) for each in every)
        else:
            least = min(goal(each.cycles, each.energy_aj, objective) for each in every)
            assert goal(found.cycles, found.energy_aj, objective) == least


LAYERS = (
    "conv2d: {channels: 4, kernel: 3}",
    "batch_norm",
    "residual: {body: [relu, conv2d: {channels: 4, kernel: 3}]}",
    "flatten",
    "linear: {features: 10}",
)


def small_program(folder: Path) -> Program:
    """A convolution, a branch, a perceptron, all in 16 bits."""
    path = written(folder, f"{HEAD}network: [{', '.join(LAYERS)}]\n")
    return compile_program(load_workload(path), load_recipe("fp16_ieee"), 3)


def uses(work: LayerWork) -> list[tuple[Tensor, bool]]:
    """(tensor, whether it is written) of all that a work moves."""
    read = [tensor for gemm in work.gemms for tensor in (gemm.a, gemm.b)] + list(work.reads)
    return [*((each, False) for each in read), *((each, True) for each in work.writes)]


def spans(program: Program) -> dict[str, tuple[int, int, int]]:
    """(bytes, first and last place) of what the forward pass has and the same layer's backward wants."""
    found = {}
    names = {tensor.name for work in program.works for tensor, _ in uses(work)}
    for name in names:
        places = {
            place: [(tensor, is_written) for tensor, is_written in uses(work) if tensor.name == name]
            for place, work in enumerate(program.works)
        }
        at = [place for place, each in places.items() if each]
        layers = {program.works[place].layer for place in at}
        saved = any(
            is_written and tensor.residence == "saved"
            for each in places.values()
            for tensor, is_written in each
        )
        operands = {
            tensor.name for work in program.works for gemm in work.gemms for tensor in (gemm.a, gemm.b)
        }
        weight = name in operands and name.endswith("weight codes")
        again = [place for place in at if program.works[place].phase != "forward"
                 and any(not is_written for _, is_written in places[place])]  # fmt: skip
        if len(layers) == 1 and again and (saved or weight):
            (layer,) = layers
            last = max(p for p, work in enumerate(program.works) if work.layer == layer)
            found[name] = max(t.size_bytes for each in places.values() for t, _ in each), at[0], last
    return found


def free_bytes(program: Program, chip: Chip) -> list[int]:
    """Room beside the streams of each work, and beside the shortcut that waits for the one block's end."""
    half = chip.scratchpad.capacity_kib * 512

    def streams(tensors: Sequence[Tensor]) -> int:
        sizes = {each.name: each.size_bytes for each in tensors if each.residence == "stream"}
        return sum(size for size in sizes.values() if size <= half)

    found = []
    shortcut = next(
        tensor.size_bytes for work in program.works for tensor in work.reads if tensor.name == "add1.shortcut"
    )
    for work in program.works:
        inputs = [tensor for tensor, is_written in uses(work) if not is_written]
        outputs = [gemm.out for gemm in work.gemms] + list(work.writes)
        around = shortcut if work.layer in ("relu1", "conv2d2") else 0
        found.append(max(half - max(streams(inputs), streams(outputs)) - around, 0))
    return found


def priced_with(program: Program, chip: Chip, plans: Any, kept: set[str]) -> tuple[int, int]:
    """Cycles and energy of the step if these tensors neither go to DRAM nor come back."""
    works, given = [], {}
    for work in program.works:
        later = work.phase != "forward"

        def moved(tensor: Tensor, later: bool = later) -> Tensor:
            stays = tensor.name in kept and (tensor.residence == "saved" or later)
            return replace(tensor, residence="kept") if stays and tensor.residence != "stream" else tensor

        gemms = tuple(replace(gemm, a=moved(gemm.a), b=moved(gemm.b)) for gemm in work.gemms)
        given.update({new: plans[old] for new, old in zip(gemms, work.gemms, strict=True)})
        writes = tuple(moved(each) if each.residence == "saved" else each for each in work.writes)
        works.append(replace(work, gemms=gemms, reads=tuple(map(moved, work.reads)), writes=writes))
    costs = price_step(works, chip, given)
    return sum(each.time.total_cycles for each in costs), sum(each.energy.total_aj for each in costs)


@pytest.mark.parametrize(("capacity_kib", "dram_bandwidth"), [(10, 0.3), (16, 0.3), (14, 4)])
def test_the_best_set_of_a_small_step(tmp_path: Path, capacity_kib: int, dram_bandwidth: float) -> None:
    """Every set of tensors that fits at every moment, priced in full: none is better than what is kept."""
    program = small_program(tmp_path)
    chip = priced_chip(tmp_path, capacity_kib=capacity_kib, dram_bandwidth=dram_bandwidth)
    plans = Planner(chip).plans(program.gemms)
    tensors, room = spans(program), free_bytes(program, chip)
    possible = {n: each for n, each in tensors.items() if each[0] <= min(room[each[1] : each[2] + 1])}
    results = []
    for count in range(len(possible) + 1):
        for names in combinations(possible, count):
            taken = [0] * len(program.works)
            for name in names:
                size, first, last = possible[name]
                for place in range(first, last + 1):
                    taken[place] += size
            if all(used <= free for used, free in zip(taken, room, strict=True)):
                results.append(priced_with(program, chip, plans, set(names)))
    assert 8 < len(results) < 2 ** len(possible)
    for objective in ("latency", "energy"):
        found = keep_resident(program.works, plans, chip, objective, program.inside)
        costs = price_step(found.works, chip, found.plans)
        cycles, energy_aj = (sum(each) for each in zip(
            *((cost.time.total_cycles, cost.energy.total_aj) for cost in costs), strict=True
        ))  # fmt: skip
        assert goal(cycles, energy_aj, objective) == min(goal(*each, objective) for each in results)
        assert {each.name for each in found.kept} <= set(possible)


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
    assert all(f"{each.name} " in text and f"{each.size_bytes:,}" in text for each in kept)
    assert accelsim.kept_tensors("fp4_training", "letters_mlp") == ()
