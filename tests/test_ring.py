"""Training on several chips: their sums, votes and updates against chips that really send and add."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from oracles import formats as oracle
from small_workloads import CNN, PERCEPTRON, write_digits, write_workload

import accelsim
from accelsim.chip import load_chip
from accelsim.cli.main import main
from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.errors import InputError
from accelsim.mapping import Planner
from accelsim.network import Operand
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.record import RunRecord, TrainingRecord, read_record
from accelsim.report.page import report_html
from accelsim.report.readings import read_off
from accelsim.report.tables import comparison_table
from accelsim.run.chip_executor import ChipExecutor
from accelsim.run.ring import ring_sums
from accelsim.run.sharing import parts_of
from accelsim.run.state import TrainingState, initial_state
from accelsim.run.step import forward_backward, move_parameters, prepared, shared_gradients
from accelsim.workload import Workload, load_workload

F32 = NDArray[np.float32]
STORAGE = "dlfloat16"


def stored(value: float) -> np.float32:
    """One number in the storage format, by the oracle."""
    if not np.isfinite(value):
        return np.float32(np.nan)
    return np.float32(oracle.as_float(oracle.decode(STORAGE, oracle.encode(STORAGE, value))))


def walked_sums(flat: Sequence[Sequence[float]]) -> list[float]:
    """Chips that send a piece to their neighbour, who adds its own, turn by turn, then pass sums round."""
    chips, count = len(flat), len(flat[0])
    length = -(-count // chips)
    pieces = [range(min(p * length, count), min((p + 1) * length, count)) for p in range(chips)]
    held = [[stored(value) for value in chip] for chip in flat]
    for turn in range(2 * (chips - 1)):
        adding = turn < chips - 1
        sent = [(chip, (chip - turn + (0 if adding else chips)) % chips) for chip in range(chips)]
        messages = [[held[chip][index] for index in pieces[piece]] for chip, piece in sent]
        for (chip, piece), message in zip(sent, messages, strict=True):
            target = held[(chip + 1) % chips]
            for index, value in zip(pieces[piece], message, strict=True):
                target[index] = stored(float(np.float32(value + target[index]))) if adding else value
    assert all(np.array_equal(row, held[0], equal_nan=True) for row in held)
    return [float(value) for value in held[0]]


@settings(max_examples=30, deadline=None)
@given(chips=st.integers(2, 5), sizes=st.lists(st.integers(1, 7), min_size=1, max_size=3), data=st.data())
def test_sums_are_those_of_a_walk_around_the_ring(chips: int, sizes: list[int], data: Any) -> None:
    """Every element, whatever piece it is in and however the magnitudes differ, has the walk's bits."""
    number = st.floats(-1e4, 1e4, width=32) | st.sampled_from([0.0, 1.0, 2.0**-12, 3e9, 2.0**-30])
    found = [
        {f"l{i}.w": np.array([data.draw(number) for _ in range(n)], np.float32) for i, n in enumerate(sizes)}
        for _ in range(chips)
    ]
    names = list(found[0])[::-1]  # the network's order is another than that of handing over
    sums = ring_sums(copy.deepcopy(found), names, ChipVectorUnit(STORAGE))
    expected = walked_sums([[float(x) for name in names for x in each[name]] for each in found])
    assert list(sums) == list(found[0])
    assert np.array_equal(np.concatenate([sums[name] for name in names]), expected, equal_nan=True)


def test_clips_travel_behind_the_last_piece() -> None:
    """They do not move the cuts: three chips, four elements in pieces of two, and a clip."""
    unit, big, small = ChipVectorUnit(STORAGE), 1024.0, 0.75
    found = [
        {"a.activation_clip": np.float32([value]), "a.weight": np.full(4, value, np.float32)}
        for value in (big, small, small)
    ]
    sums = ring_sums(found, ["a.weight"], unit)
    in_order = unit.add(unit.add(np.float32([big]), np.float32([small])), np.float32([small]))[0]
    last = unit.add(unit.add(np.float32([small]), np.float32([big])), np.float32([small]))[0]
    middle = unit.add(unit.add(np.float32([small]), np.float32([small])), np.float32([big]))[0]
    assert middle != in_order
    # pieces of two: the first sets out at chip 0, the second at chip 1, the third (empty, and clips) at 2
    assert sums["a.weight"].tolist() == [in_order, in_order, middle, middle]
    assert sums["a.activation_clip"].tolist() == [last]


@given(samples=st.integers(1, 200), chips=st.integers(1, 30))
def test_parts_are_neighbours_of_nearly_the_same_size(samples: int, chips: int) -> None:
    """Every sample is in one part, in order; the first parts are at most one larger."""
    parts = parts_of(samples, chips)
    assert [index for part in parts for index in range(samples)[part]] == list(range(samples))
    sizes = [len(range(samples)[part]) for part in parts]
    assert sizes == sorted(sizes, reverse=True)
    assert max(sizes) == -(-samples // chips)
    assert sizes[0] - sizes[-1] <= 1


class Listener(ChipExecutor):
    """A chip of its own that remembers the largest gradient each layer saw."""

    def gradients(self, layer: str, dy: F32) -> tuple[Operand, Operand]:
        """As a chip does."""
        self.heard = {**getattr(self, "heard", {}), layer: float(np.abs(dy).max())}
        return super().gradients(layer, dy)


class Bench:
    """A small workload, its recipe on a chip, and steps of it."""

    def __init__(self, path: Path, recipe: str, chip: str = "fp4_training") -> None:
        self.workload: Workload = load_workload(path)
        self.recipe = load_recipe(recipe)
        self.planner = Planner(load_chip(chip))
        self.rules = compile_program(self.workload, self.recipe).rules
        dataset = self.workload.source.load()
        self.x, self.labels = prepared(dataset.train_x, self.workload, self.recipe), dataset.train_y

    def executor(self, state: TrainingState, kind: type[ChipExecutor] = ChipExecutor) -> ChipExecutor:
        """A chip on a state."""
        return kind(self.planner, self.recipe, self.rules, state, self.workload.seed)

    def begun(self) -> TrainingState:
        """The state after one step on a single chip: clips and scales have their first values."""
        state = initial_state(self.workload)
        self.step(state, slice(0, 24), 1)
        return state

    def step(self, state: TrainingState, chosen: slice, chips: int) -> None:
        """One step of the samples ``chosen``."""
        executor = self.executor(state)
        shared_gradients(executor, self.workload, self.x[chosen], self.labels[chosen], chips)
        move_parameters(executor, self.workload, self.recipe, 0.0)


def real_chips(bench: Bench, start: TrainingState, chosen: slice, chips: int) -> list[TrainingState]:
    """Chips with a state each: they send gradients round the ring, exchange votes, and all update."""
    states = [copy.deepcopy(start) for _ in range(chips)]
    executors = [bench.executor(state, Listener) for state in states]
    x, labels = bench.x[chosen], bench.labels[chosen]
    sizes = [len(x) // chips + (place < len(x) % chips) for place in range(chips)]
    found, first = [], 0
    for place, (executor, size) in enumerate(zip(executors, sizes, strict=True)):
        part = slice(first, first + size)
        forward_backward(executor, bench.workload, x[part], labels[part], place, len(x))
        found.append({key: value.copy() for key, value in executor.gradients_by_key.items()})
        first += size
    leaves = bench.workload.network.leaves()
    order = [f"{one.site.name}.{name}" for one in leaves for name in one.layer.parameters(one.site)]
    order = [key for key in order if key in found[0]]
    moved = walked_sums([[float(v) for key in order for v in each[key].reshape(-1)] for each in found])
    clips = {
        key: _chain([float(each[key][0]) for each in found], chips - 1)
        for key in found[0]
        if key not in order
    }
    scales = _voted(start.gradient_exponents, [executor.heard for executor in executors])
    for executor, state in zip(executors, states, strict=True):
        places = np.cumsum([found[0][key].size for key in order])[:-1]
        for key, values in zip(order, np.split(np.float32(moved), places), strict=True):
            executor.gradients_by_key[key] = values.reshape(found[0][key].shape)
        executor.gradients_by_key.update(clips)
        move_parameters(executor, bench.workload, bench.recipe, 0.0)
        state.gradient_exponents = dict(scales)
    return states


def _chain(values: list[float], first: int) -> F32:
    """One element added up from the chip at ``first`` on."""
    total = stored(values[first])
    for step in range(1, len(values)):
        total = stored(float(np.float32(total + stored(values[(first + step) % len(values)]))))
    return np.float32([total])


def _voted(exponents: dict[str, int], heard: list[dict[str, float]]) -> dict[str, int]:
    """Up by one where more chips' largest gradients are at most 32 when scaled than above 64."""
    moved = dict(exponents)
    for layer, exponent in exponents.items():
        sizes = [each[layer] * 2.0**exponent for each in heard]
        votes = sum(size <= 32 for size in sizes) - sum(size > 64 for size in sizes)
        moved[layer] = exponent + (votes > 0) - (votes < 0)
    return moved


@pytest.mark.parametrize(("chips", "recipe"), [(2, "ibm2020_fp4"), (3, "ibm2020_fp4"), (3, "fp16_dlfloat")])
def test_a_step_is_that_of_real_chips(chips: int, recipe: str, tmp_path: Path) -> None:
    """A CNN with batch norm, 25 samples (an uneven split): parameters, moments and scales, bit for bit."""
    chip = "fp16_training" if recipe == "fp16_dlfloat" else "fp4_training"
    bench = Bench(write_workload(tmp_path, CNN, batch=24), recipe, chip)
    state = bench.begun()
    chosen = slice(30, 55)
    states = real_chips(bench, state, chosen, chips)
    bench.step(state, chosen, chips)
    for key, value in state.parameters.items():
        same = [np.array_equal(value, other.parameters[key]) for other in states]
        # each chip has running statistics of its own; those of the first are kept
        assert all(same) or ("running" in key and same[0] and not any(same[1:])), key
    for key, value in state.optimizer.items():
        assert all(np.array_equal(value, other.optimizer[key]) for other in states), key
    assert state.gradient_exponents == states[0].gradient_exponents


def test_the_sum_of_votes_decides() -> None:
    """Two chips against one, one against one, and all that abstain: the sign of the sum moves the scale."""
    state = TrainingState({}, gradient_exponents={"layer": 0})
    recipe = load_recipe("ibm2020_fp4")
    workload = load_workload("letters_mlp")
    rules = compile_program(workload, recipe).rules
    name = next(name for name, rule in rules.items() if rule.gradient.scale == "gradscale")
    executor = ChipExecutor(Planner(load_chip("fp4_training")), recipe, rules, state)
    for heard, move in (
        ([40.0, 1.0, 1.0], 1),
        ([100.0, 1.0], 0),
        ([100.0, 100.0, 1.0], -1),
        ([40.0, 50.0], 0),
    ):
        state.gradient_exponents = {name: 0}
        for place, largest in enumerate(heard):
            executor.begin(training=True, place=place)
            executor.gradients(name, np.float32([[largest, 0.0]]))
        executor.end_of_update()
        assert state.gradient_exponents[name] == move, heard


def test_gradients_of_shared_samples_are_those_of_one_chip(tmp_path: Path) -> None:
    """Without statistics over samples, three uneven parts add up to the single chip's mean gradient."""
    bench = Bench(write_workload(tmp_path, PERCEPTRON, batch=25), "fp16_dlfloat", "fp16_training")
    found = []
    for chips in (1, 3):
        executor = bench.executor(initial_state(bench.workload))
        score = shared_gradients(executor, bench.workload, bench.x[:25], bench.labels[:25], chips)
        found.append((score, dict(executor.gradients_by_key)))
    (alone, one), (together, three) = found
    assert (together.hits, together.labels) == (alone.hits, alone.labels)
    assert together.loss == pytest.approx(alone.loss, rel=1e-3)
    for key, value in one.items():
        assert np.abs(value - three[key]).max() <= 0.02 * np.abs(value).max(), key


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[int, RunRecord]:
    """Two epochs of a small CNN on one, two and three chips; the data does not divide by three."""
    folder = tmp_path_factory.mktemp("ring")
    write_digits(folder, train=120, test=30)
    workload = write_workload(folder, batch=40)
    return {chips: accelsim.train("fp4_training", workload, chips=chips) for chips in (1, 2, 3)}


def training(record: RunRecord) -> TrainingRecord:
    """The history of a run, which it has."""
    assert record.training is not None
    return record.training


def test_one_chip_is_no_ring(runs: dict[int, RunRecord], tmp_path: Path) -> None:
    """--chips 1 gives the bits of a run that never heard of chips; more give others, and still learn."""
    write_digits(tmp_path, train=120, test=30)
    plain = accelsim.train("fp4_training", write_workload(tmp_path, batch=40))
    assert training(plain).weight_digest == training(runs[1]).weight_digest
    assert plain.system is runs[1].system is None
    assert len({training(run).weight_digest for run in runs.values()}) == 3
    for run in runs.values():
        losses = [epoch.train_loss for epoch in training(run).epochs]
        assert losses[0] is not None
        assert losses[-1] is not None
        assert losses[-1] < losses[0]


def test_a_run_costs_what_its_estimate_says(runs: dict[int, RunRecord], tmp_path: Path) -> None:
    """The same steps, cycles, energy and all-reduce; time and energy are those of the system."""
    write_digits(tmp_path, train=120, test=30)
    workload = write_workload(tmp_path, batch=40)
    for chips in (2, 3):
        assert accelsim.estimate("fp4_training", workload, chips=chips).cost == runs[chips].cost
    reading = read_off(runs[3])
    assert runs[3].system is not None
    assert (reading.chips, runs[3].system.batch_per_chip) == (3, 14)
    last = runs[3].cost.layers[-1]
    assert last.layer == "all_reduce"
    assert reading.all_reduce_share == (
        last.total_cycles / runs[3].cost.step_cycles,
        last.energy_aj.total_aj / runs[3].cost.step_energy_aj.total_aj,
    )
    rows = {row.key: row for row in comparison_table([runs[3], runs[1]])}
    assert rows["chips"].texts == ("3", "–")
    assert rows["all_reduce_share"].texts[0].endswith("of energy")
    assert "fp4_training (the first of 3): " in report_html([runs[3]], {})
    # what is measured on the first chip is charged for all of them
    measured, stated = reading.measured_energy_per_sample_j, reading.energy_per_sample_j
    assert measured == pytest.approx(stated, rel=0.5)


def test_a_stopped_ring_goes_on(tmp_path: Path) -> None:
    """Stopped after an epoch and resumed: the same digest; with another number of chips: refused."""
    write_digits(tmp_path, train=120, test=30)
    workload, checkpoint = write_workload(tmp_path, batch=40), tmp_path / "run.npz"

    def stop(event: accelsim.Progress) -> None:
        if (event.epoch, event.step) == (2, 1):
            raise KeyboardInterrupt

    options: dict[str, Any] = {"chips": 3, "recipe": "mxfp4"}
    whole = accelsim.train("mx_training", workload, **options)
    with pytest.raises(KeyboardInterrupt):
        accelsim.train("mx_training", workload, checkpoint=checkpoint, progress=stop, **options)
    with pytest.raises(InputError, match="belongs to another chip, number of chips, workload"):
        accelsim.train("mx_training", workload, recipe="mxfp4", chips=2, checkpoint=checkpoint, resume=True)
    again = accelsim.train("mx_training", workload, checkpoint=checkpoint, resume=True, **options)
    assert training(again).weight_digest == training(whole).weight_digest


def test_chips_that_nothing_joins_are_refused(tmp_path: Path) -> None:
    """A chip without a system trains alone; so do more chips than samples."""
    workload = write_workload(tmp_path)
    with pytest.raises(InputError, match="chip 'edge_fp4' has no 'system', so nothing says what joins 2"):
        accelsim.train("edge_fp4", workload, chips=2)
    with pytest.raises(
        InputError, match="chips: must be between 1 and the 40 samples of the mini-batch, got 41"
    ):
        accelsim.train("fp4_training", workload, chips=41)


def test_the_command_takes_chips(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``run --chips 2`` says so before and after; --resume keeps it for two chips only."""
    write_digits(tmp_path, train=80, test=20)
    workload = write_workload(tmp_path, PERCEPTRON, batch=40, epochs=1)
    words = ["run", "fp4_training", str(workload), "--out", str(tmp_path / "out")]
    assert main([*words, "--chips", "2"]) == 0
    shown = capsys.readouterr()
    assert "2 x fp4_training: training small" in shown.err
    assert "All-reduce of gradients between chips" in shown.out
    record = read_record(tmp_path / "out" / "fp4_training" / "record.json")
    assert record.chips == 2
    assert main([*words, "--chips", "2", "--resume"]) == 0
    assert "finished before, kept" in capsys.readouterr().err
    assert main([*words, "--resume"]) == 0
    assert "finished before, kept" not in capsys.readouterr().err
