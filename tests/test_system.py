"""Chips that share a mini-batch: the all-reduce against a walk of the ring, sums over chips, mistakes."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from priced_chip import priced_chip

from accelsim import InputError, estimate
from accelsim.chip import Chip, load_chip
from accelsim.cli.main import main
from accelsim.cost import LayerCost, all_reduce_cost
from accelsim.operations import LayerWork, Tensor
from accelsim.report.page import report_html
from accelsim.report.readings import read_off
from accelsim.run.sharing import share_batch

NOTE = 'source: "a test", evidence: estimated'
SYSTEM = f"""\
system:
  chips: 4
  link_bandwidth_gb_per_s: {{value: 2, {NOTE}}}
  link_latency_ns: {{value: 100, {NOTE}}}
  link_energy_pj_per_bit: {{value: 7, {NOTE}}}
"""


def joined_chip(tmp_path: Path) -> Chip:
    """The priced chip (500 MHz, DRAM 8 bytes a cycle) in a ring of four."""
    priced_chip(tmp_path)
    path = tmp_path / "priced.yaml"
    path.write_text(path.read_text(encoding="utf-8") + SYSTEM, encoding="utf-8")
    return load_chip(path)


def reduced(chip: Chip, elements: int, chips: int) -> LayerCost:
    """The all-reduce of one layer's gradient of 16-bit ``elements``."""
    gradient = Tensor("fc.gradient", elements, 16, "parameter")
    assert chip.system is not None
    return all_reduce_cost([LayerWork("fc", "linear", "update", reads=(gradient,))], chip, chip.system, chips)


def walked_ring(chips: int) -> dict[str, int]:
    """Do it with integers: pieces that each chip sends and adds; every chip must end with every sum."""
    held = [[1 << (chip * chips + piece) for piece in range(chips)] for chip in range(chips)]
    sums = [sum(held[chip][piece] for chip in range(chips)) for piece in range(chips)]
    sent = added = turns = 0
    for turn in range(chips - 1):
        moving = [(chip, (chip - turn) % chips) for chip in range(chips)]
        values = [held[chip][piece] for chip, piece in moving]
        for (chip, piece), value in zip(moving, values, strict=True):
            held[(chip + 1) % chips][piece] += value
        sent, added, turns = sent + 1, added + 1, turns + 1
    for turn in range(chips - 1):
        moving = [(chip, (chip + 1 - turn) % chips) for chip in range(chips)]
        values = [held[chip][piece] for chip, piece in moving]
        for (chip, piece), value in zip(moving, values, strict=True):
            held[(chip + 1) % chips][piece] = value
        sent, turns = sent + 1, turns + 1
    assert all(row == sums for row in held)
    return {"sent": sent, "added": added, "turns": turns}


@pytest.mark.parametrize("chips", [2, 3, 4, 7])
def test_the_ring_sends_and_adds_what_a_walk_does(tmp_path: Path, chips: int) -> None:
    """Pieces sent and added by each chip are those of a ring in which every sum arrives everywhere."""
    walked = walked_ring(chips)
    cost = reduced(joined_chip(tmp_path), 1000, chips)
    piece_bytes = -(-2000 // chips)
    assert cost.energy.link == walked["sent"] * piece_bytes * 8 * 7_000_000
    assert cost.vector_operations == walked["added"] * -(-piece_bytes // 2)
    turn_cycles = (100 + Fraction(piece_bytes, 2)) / 2  # 2 bytes a ns, 2 ns a cycle
    assert cost.time.link_cycles == -(-walked["turns"] * turn_cycles // 1)


def test_an_all_reduce_by_hand(tmp_path: Path) -> None:
    """Own gradients from DRAM once, sums back once; what passes through goes over the scratchpads."""
    cost = reduced(joined_chip(tmp_path), 1000, 4)
    assert (cost.traffic.dram_read_bytes, cost.traffic.dram_write_bytes) == (2000, 2000)
    assert cost.traffic.scratchpad_read_bytes == 2000 + 6 * 500
    assert (cost.time.bound, cost.time.total_cycles) == ("link", 6 * (100 + 250) // 2)
    assert cost.as_record()["link_cycles"] == 1050


@settings(max_examples=40, deadline=None)
@given(batch=st.integers(1, 300), chips=st.integers(1, 40))
def test_every_sample_has_a_chip(batch: int, chips: int) -> None:
    """The fullest chip takes the batch over the chips, rounded up; more chips than samples are refused."""
    chip = load_chip("fp4_training")
    if chips > batch:
        with pytest.raises(InputError, match=rf"chips: must be between 1 and the {batch} samples"):
            share_batch(chip, batch, chips)
    else:
        shared = share_batch(chip, batch, chips)
        assert shared.batch * chips >= batch > (shared.batch - 1) * chips


def test_a_systems_figures_are_those_of_its_chips(tmp_path: Path) -> None:
    """Four chips of 16 samples: each costs what one with 16 does, plus the all-reduce; readings add up."""
    options: dict[str, Any] = {"epochs": 1}
    alone = estimate("fp4_training", "letters_mlp", batch=16, **options)
    four = estimate("fp4_training", "letters_mlp", batch=64, chips=4, **options)
    assert four.system is not None
    assert (four.chips, four.system.batch_per_chip, alone.system) == (4, 16, None)
    assert four.cost.layers[:-1] == alone.cost.layers
    extra = four.cost.layers[-1]
    assert (extra.layer, extra.phase, extra.bound) == ("all_reduce", "update", "link")
    one, all_four = read_off(alone), read_off(four)
    assert all_four.die_mm2 == pytest.approx(4 * one.die_mm2)
    assert all_four.peak_tops == pytest.approx(4 * one.peak_tops)
    step_j = four.cost.step_energy_aj.total_aj * 1e-18
    assert all_four.energy_per_sample_j == pytest.approx(4 * step_j / 64)
    assert all_four.samples_per_second == pytest.approx(64 / (four.cost.step_cycles * 1e-9))
    assert four.cost.memory.classes["gradients"] > alone.cost.memory.classes["gradients"]


def test_a_chips_file_may_name_a_system(tmp_path: Path) -> None:
    """Its number of chips is the default of an estimate; without a system there is nothing to join them."""
    assert share_batch(joined_chip(tmp_path), 64).chips == 4
    assert share_batch(joined_chip(tmp_path), 64, 1).chips == 1
    with pytest.raises(InputError, match="chip 'edge_fp4' has no 'system', so nothing"):
        share_batch(load_chip("edge_fp4"), 64, 2)


def test_estimate_takes_chips(capsys: pytest.CaptureFixture[str]) -> None:
    """``--chips`` reaches the layers and the headline."""
    words = ["estimate", "fp4_training", "letters_mlp", "--epochs", "1", "--batch", "64"]
    assert main([*words, "--chips", "8"]) == 0
    shown = capsys.readouterr().out
    assert "ring_all_reduce" in shown
    assert "8 × fp4_training" in shown
    assert main([*words, "--chips", "0"]) == 2
    assert (
        "error: chips: must be between 1 and the 64 samples of the mini-batch, got 0"
        in capsys.readouterr().err
    )


def test_the_page_speaks_of_all_chips() -> None:
    """The headline counts the chips, and a sentence says whose each figure is."""
    page = report_html([estimate("fp4_training", "letters_mlp", batch=64, chips=4, epochs=1)], {})
    assert "4 × fp4_training" in page
    assert "4 fp4_training chips share each mini-batch, the fullest with 16 samples" in page
    assert "links between chips" in page
