"""Mappings that a user pins: they are obeyed, and what is not legal is told with file and line."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from priced_chip import priced_chip
from small_workloads import write_workload

import accelsim
from accelsim.chip import Chip
from accelsim.errors import InputError
from accelsim.mapping import Planner, load_pins, plan_gemm
from accelsim.mapping.plan import Splits
from accelsim.operations import Gemm, Tensor


def gemm_of(m: int, k: int, n: int, layer: str = "fc") -> Gemm:
    """A GEMM of a layer's update."""
    a, b = Tensor("a", m * k, 4, "saved"), Tensor("b", k * n, 4, "parameter")
    return Gemm(layer, "update", m, k, n, "int4", "int4", a, b, Tensor("out", m * n, 16, "stream"))


GEMM = gemm_of(60, 70, 50)


@pytest.fixture
def chip(tmp_path: Path) -> Chip:
    """Four arrays on a ring."""
    return priced_chip(tmp_path, cores=4, ring_bandwidth=16)


def pinned(folder: Path, chip: Chip, *lines: str) -> Planner:
    """A planner with one pin for the update of ``fc``."""
    text = "mappings:\n  - layer: fc\n    phase: update\n" + "".join(f"    {line}\n" for line in lines)
    path = folder / "pins.yaml"
    path.write_text(text, encoding="utf-8")
    return Planner(chip, pins=load_pins(path))


def refused(folder: Path, chip: Chip, *lines: str, gemm: Gemm = GEMM) -> str:
    """What is said about the pin's first key, without the place, which is its line and column."""
    with pytest.raises(InputError) as caught:
        pinned(folder, chip, *lines).plans([gemm])
    place, message = str(caught.value).split(": mappings[0].", 1)
    assert place == f"{folder}/pins.yaml:4:5"
    return message


def test_a_pin_fixes_what_it_names_and_leaves_the_rest(tmp_path: Path, chip: Chip) -> None:
    """Dataflow, pieces, tile: each is obeyed; what is left out is the best that remains."""
    lines = ("dataflow: input_stationary", "splits: {n: 2, k: 2}", "tile: {m: 8, n: 50, k: 16}")
    plan = pinned(tmp_path, chip, *lines).plan(GEMM)
    assert (plan.dataflow, plan.splits) == ("input_stationary", Splits(n=2, k=2))
    assert (plan.tile_m, plan.tile_n, plan.tile_k, plan.loop_order) == (8, 50, 16, "m_outer")
    assert pinned(tmp_path, chip, "dataflow: input_stationary").plan(GEMM) == plan_gemm(
        GEMM,
        chip.model_copy(update={"array": chip.array.model_copy(update={"dataflows": ("input_stationary",)})}),
    )
    free = plan_gemm(GEMM, chip)
    same = (f"dataflow: {free.dataflow}", f"splits: {{m: {free.m_splits}, n: {free.n_splits}}}")
    assert pinned(tmp_path, chip, *same).plan(GEMM).splits == Splits(free.m_splits, free.n_splits)


def test_a_pin_for_one_shape_leaves_the_others(tmp_path: Path, chip: Chip) -> None:
    """With ``gemm`` a pin speaks of that shape alone; names of other layers do not matter."""
    planner = pinned(tmp_path, chip, "gemm: [60, 70, 50]", "splits: {m: 4}", "dataflow: output_stationary")
    other = gemm_of(60, 70, 51)
    plans = planner.plans([GEMM, other, gemm_of(60, 70, 50, "fc2")])
    assert (plans[GEMM].dataflow, plans[GEMM].splits) == ("output_stationary", Splits(m=4))
    assert plans[other] == plan_gemm(other, chip)
    assert plans[gemm_of(60, 70, 50, "fc2")] == plan_gemm(GEMM, chip)


def test_a_pin_for_one_shape_goes_before_one_for_all(tmp_path: Path, chip: Chip) -> None:
    """Whichever stands first in the file: the pin without ``gemm`` is for the rest."""
    special = ["  - layer: fc", "    phase: update", "    gemm: [60, 70, 50]", "    splits: {m: 4}"]
    general = ["  - layer: fc", "    phase: update", "    splits: {n: 4}"]
    for number, order in enumerate([special + general, general + special]):
        path = tmp_path / f"{number}.yaml"
        path.write_text("\n".join(["mappings:", *order]) + "\n", encoding="utf-8")
        planner = Planner(chip, pins=load_pins(path))
        assert planner.plan(GEMM).splits == Splits(m=4)
        assert planner.plan(gemm_of(60, 70, 51)).splits == Splits(n=4)


def test_products_of_one_shape_are_told_apart(tmp_path: Path, chip: Chip) -> None:
    """The pin with a part is for that part alone, and the one without for the other."""
    first, later = replace(GEMM, part="first step"), replace(GEMM, part="later steps")
    path = tmp_path / "pins.yaml"
    entry = "  - {layer: fc, phase: update, gemm: [60, 70, 50], "
    lines = ["splits: {n: 4}}", "part: later steps, splits: {m: 4}}"]
    path.write_text("mappings:\n" + "".join(f"{entry}{line}\n" for line in lines), encoding="utf-8")
    plans = Planner(chip, pins=load_pins(path)).plans([first, later])
    assert (plans[first].splits, plans[later].splits) == (Splits(n=4), Splits(m=4))


def test_a_part_that_is_not_there_is_told(tmp_path: Path, chip: Chip) -> None:
    """The parts of that layer, phase and shape are named; where there is one GEMM, none is needed."""
    several = [replace(GEMM, part="first step"), replace(GEMM, part="later steps")]
    planner = pinned(tmp_path, chip, "part: last step")
    with pytest.raises(InputError, match=r"\.part: must be first step or later steps, got last step$"):
        planner.plans(several)
    with pytest.raises(InputError, match=r"\.part: 'fc' update has one GEMM only; remove this key$"):
        planner.plans([GEMM])


def test_fewer_arrays_may_work(tmp_path: Path, chip: Chip) -> None:
    """A pin may leave arrays idle; the plan still knows how many there are."""
    plan = pinned(tmp_path, chip, "splits: {m: 3}").plan(GEMM)
    assert (plan.splits.workers, plan.workers) == (3, 4)


def test_a_tile_larger_than_a_short_batch_is_cut(tmp_path: Path, chip: Chip) -> None:
    """The last mini-batch may be shorter than the one the tile was made for."""
    plan = pinned(tmp_path, chip, "tile: {m: 60, n: 50, k: 70}").plan(gemm_of(11, 70, 50))
    assert (plan.tile_m, plan.tile_n, plan.tile_k) == (11, 50, 70)


@pytest.mark.parametrize(
    ("lines", "text"),
    [
        (("splits: {m: 5}",), "splits: 5 pieces are more than the 4 arrays of chip 'priced'"),
        (
            ("dataflow: weights_stationary",),
            "dataflow: must be one of weight_stationary, output_stationary, "
            "input_stationary, row_stationary, got 'weights_stationary' (did you mean 'weight_stationary'?)",
        ),
        (
            ("dataflow: row_stationary",),
            "dataflow: chip 'priced' has no row_stationary; allowed: weight_stationary, output_stationary, "
            "input_stationary",
        ),
        (
            ("tile: {m: 60, n: 50, k: 9}", "dataflow: weight_stationary", "splits: {m: 4}"),
            "tile: must be as deep as k (70) or a multiple of 8, and fit into half "
            "of the scratchpads (4 x 64 KiB); left out, it would be m: 60, n: 50, k: 70",
        ),
        (("gemm: [1, 2, 3]",), "gemm: must be [60, 70, 50], got [1, 2, 3]"),
    ],
)  # fmt: skip
def test_what_is_not_legal_is_told(tmp_path: Path, chip: Chip, lines: tuple[str, ...], text: str) -> None:
    """File, line, column, key, the value given and what is allowed."""
    assert refused(tmp_path, chip, *lines) == text


def test_a_pin_of_nothing_is_told(tmp_path: Path, chip: Chip) -> None:
    """A misspelt layer and a phase without a GEMM name those there are."""
    path = tmp_path / "pins.yaml"
    path.write_text("mappings:\n  - layer: fz\n    phase: update\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"pins\.yaml:2:5: .*no GEMM belongs to layer 'fz'.*allowed: fc$"):
        Planner(chip, pins=load_pins(path)).plans([GEMM])
    path.write_text("mappings:\n  - layer: fc\n    phase: forward\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"yaml:3:5: .*'fc' has no GEMM in phase forward; allowed: update$"):
        Planner(chip, pins=load_pins(path)).plans([GEMM])


def test_a_misspelt_key_is_told(tmp_path: Path) -> None:
    """The key that was meant is guessed, and all are listed."""
    path = tmp_path / "pins.yaml"
    path.write_text("mappings:\n  - {layer: fc, phase: update, split: {m: 2}}\n", encoding="utf-8")
    with pytest.raises(InputError, match=r"yaml:2:32: unknown key 'split' .*did you mean 'splits'\?"):
        load_pins(path)


def test_a_layer_pinned_twice_is_told(tmp_path: Path) -> None:
    """Two pins of one layer, phase and shape contradict each other."""
    path = tmp_path / "pins.yaml"
    path.write_text("mappings:\n" + "  - {layer: fc, phase: update}\n" * 2, encoding="utf-8")
    with pytest.raises(InputError, match=r"yaml:3:6: mappings\[1\]\.layer: 'fc' update is pinned twice$"):
        load_pins(path)


def test_a_chip_may_lack_what_a_pin_wants(tmp_path: Path) -> None:
    """A dataflow the chip's file does not list, and pieces of K without a ring."""
    chip = priced_chip(tmp_path, cores=4, dataflows="weight_stationary")
    assert refused(tmp_path, chip, "dataflow: output_stationary") == (
        "dataflow: chip 'priced' has no output_stationary; allowed: weight_stationary"
    )
    assert refused(tmp_path, chip, "splits: {k: 2}") == (
        "splits: chip 'priced' has no ring to add up pieces of k"
    )


def test_repeated_blocks_are_searched_once(chip: Chip, monkeypatch: pytest.MonkeyPatch) -> None:
    """GEMMs that differ in names only share a plan; another residence is another GEMM."""
    calls: list[Gemm] = []

    def counted(gemm: Gemm, *rest: Any) -> Any:
        calls.append(gemm)
        return plan_gemm(gemm, *rest)

    monkeypatch.setattr("accelsim.mapping.planner.plan_gemm", counted)
    planner = Planner(chip)
    plans = planner.plans([GEMM, replace(GEMM, layer="other", phase="forward"), GEMM])
    assert len(calls) == len(set(plans.values())) == 1
    planner.plan(replace(GEMM, a=replace(GEMM.a, residence="stream")))
    assert len(calls) == 2


def test_a_pinned_mapping_reaches_run_and_estimate(tmp_path: Path) -> None:
    """The plan of the record is the pinned one, in both verbs; K in pieces changes the bits of the run."""
    workload, path = write_workload(tmp_path), tmp_path / "pins.yaml"
    path.write_text(
        "mappings:\n  - {layer: conv2d2, phase: update, dataflow: weight_stationary, splits: {k: 8}}\n",
        encoding="utf-8",
    )
    estimate = accelsim.estimate("fp4_training", workload, epochs=1, mapping=path)
    run = accelsim.train("fp4_training", workload, epochs=1, mapping=path)
    free = accelsim.train("fp4_training", workload, epochs=1)
    assert estimate.cost == run.cost != free.cost
    (row,) = [row for row in run.cost.layers if (row.layer, row.phase) == ("conv2d2", "update")]
    assert (row.gemms[0].dataflow, row.gemms[0].split) == ("weight_stationary", "k")
    assert run.mapping is not None
    assert (run.mapping.name, run.mapping.text) == ("pins", path.read_text(encoding="utf-8"))
    assert run.training is not None
    assert free.training is not None
    assert run.training.weight_digest != free.training.weight_digest


def test_an_unknown_objective_is_told(tmp_path: Path) -> None:
    """The three objectives are named."""
    with pytest.raises(InputError, match=r"unknown objective 'speed'.*allowed: edp, energy, latency$"):
        accelsim.estimate("fp4_training", write_workload(tmp_path), objective="speed")
