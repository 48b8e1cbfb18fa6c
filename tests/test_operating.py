"""A chip at another clock or voltage: the laws by hand, what stays, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
from priced_chip import priced_chip

from accelsim import InputError, estimate
from accelsim.chip import Chip, load_chip, operating_at, with_stated_zeros
from accelsim.cli.main import main
from accelsim.cost import price_layer
from accelsim.operations import LayerWork, Tensor

NOTE = 'source: "a test", evidence: estimated'
POINT = f"""\
clock_power_mw: {{value: 20, {NOTE}}}
operating_point:
  voltage_v: {{value: 0.8, {NOTE}}}
  threshold_v: {{value: 0.4, {NOTE}}}
  alpha: {{value: 2, {NOTE}}}
  leakage_exponent: {{value: 3, {NOTE}}}
"""


def pointed_chip(tmp_path: Path, point: str = POINT) -> Chip:
    """The priced chip (500 MHz, 30 mW static) with an operating point."""
    priced_chip(tmp_path)
    path = tmp_path / "priced.yaml"
    path.write_text(path.read_text(encoding="utf-8") + point, encoding="utf-8")
    return load_chip(path)


def test_half_the_overdrive_by_hand(tmp_path: Path) -> None:
    """0.6 V of 0.8: overdrive 0.2 of 0.4, speed (1/4)(8/6) = 1/3; energy 9/16; leakage 27/64."""
    chip = pointed_chip(tmp_path)
    low = operating_at(chip, voltage_v=0.6)
    assert low.clock_mhz.value == pytest.approx(500 / 3)
    assert low.array.modes[0].energy_pj_per_mac.value == pytest.approx(0.0625 * 9 / 16)
    assert low.scratchpad.read_energy_pj_per_byte.value == pytest.approx(1.75 * 9 / 16)
    assert low.operand_buffer.energy_pj_per_byte.value == pytest.approx(0.3 * 9 / 16)
    assert low.vector_unit.energy_pj_per_operation.special.value == pytest.approx(0.19 * 9 / 16)
    assert low.static_power_mw.value == pytest.approx(30 * 27 / 64)
    assert low.clock_power_mw is not None
    assert low.clock_power_mw.value == pytest.approx(20 * 9 / 16 / 3)
    for same in ("dram", "name", "array.rows"):
        one, other = chip, low
        for part in same.split("."):
            one, other = getattr(one, part), getattr(other, part)
        assert one == other
    assert low.array.area_um2_per_pe == chip.array.area_um2_per_pe
    assert low.source_text == chip.source_text
    assert low.clock_mhz.source == "a test; times 0.333333 for another clock or voltage"


def test_a_slower_clock_changes_power_not_energy(tmp_path: Path) -> None:
    """At the file's voltage a lower clock is allowed: operations cost the same, the clock tree less power."""
    chip = pointed_chip(tmp_path)
    slow = operating_at(chip, clock_mhz=250)
    assert slow.array == chip.array
    assert slow.static_power_mw == chip.static_power_mw
    assert slow.clock_power_mw is not None
    assert slow.clock_power_mw.value == 10
    assert operating_at(chip) is chip
    assert operating_at(chip, voltage_v=0.8).clock_mhz == chip.clock_mhz


def test_static_and_clock_power_by_hand(tmp_path: Path) -> None:
    """Each is its power times the time; a step at half the clock leaks twice as much, and clocks the same."""
    chip = pointed_chip(tmp_path)
    work = LayerWork("t", "t", "forward", reads=(Tensor("t", 2000, 8, "stream"),))
    full, half = (price_layer(work, {}, each) for each in (chip, operating_at(chip, clock_mhz=250)))
    cycles = full.time.total_cycles
    assert (full.energy.static, full.energy.clock) == (cycles * 30 * 10**9 // 500, cycles * 20 * 10**9 // 500)
    assert half.time.total_cycles == cycles
    assert (half.energy.static, half.energy.clock) == (2 * full.energy.static, full.energy.clock)


def test_a_chip_without_an_operating_point_takes_any_clock(tmp_path: Path) -> None:
    """Nothing but the clock changes, and DRAM bytes per cycle with it."""
    chip = priced_chip(tmp_path)
    assert operating_at(chip, clock_mhz=2000).clock_mhz.value == 2000
    assert operating_at(chip, clock_mhz=2000).array == chip.array


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"voltage_v": 0.4}, r"voltage_v: must be above the threshold of 0\.4 and at most 1\.6, got 0\.4"),
        ({"voltage_v": 1.7}, r"voltage_v: must be above the threshold of 0\.4 and at most 1\.6, got 1\.7"),
        ({"clock_mhz": 501}, r"clock_mhz: chip 'priced' reaches at most 500 at 0\.8 V, got 501"),
        ({"clock_mhz": 170, "voltage_v": 0.6}, r"clock_mhz: chip 'priced' reaches at most 166\.7 at 0\.6 V"),
        ({"clock_mhz": 0}, r"clock_mhz: must be between 1e-06 and 1000000, got 0"),
        ({"clock_mhz": 1e-300}, r"clock_mhz: must be between 1e-06 and 1000000, got 1e-300"),
        ({"clock_mhz": float("nan")}, r"clock_mhz: must be between 1e-06 and 1000000, got nan"),
        ({"voltage_v": float("nan")}, r"voltage_v: must be above the threshold"),
    ],
)
def test_points_out_of_reach_are_refused(tmp_path: Path, wanted: dict[str, float], message: str) -> None:
    """The message says what the chip reaches."""
    with pytest.raises(InputError, match=message):
        operating_at(pointed_chip(tmp_path), **wanted)


def test_a_voltage_needs_an_operating_point(tmp_path: Path) -> None:
    """A chip whose file has none cannot change its voltage; one that is no law is refused when read."""
    with pytest.raises(InputError, match="voltage_v: chip 'priced' has no 'operating_point'"):
        operating_at(priced_chip(tmp_path), voltage_v=0.6)
    wrong = POINT.replace("threshold_v: {value: 0.4", "threshold_v: {value: 0.8")
    with pytest.raises(InputError, match=r"operating_point.threshold_v: must be below the voltage of 0\.8"):
        pointed_chip(tmp_path, wrong)


def test_stated_zeros_can_be_given() -> None:
    """A share replaces the file's; outside 0..1 or without a model it is refused."""
    chip = with_stated_zeros(load_chip("fp4_training"), 0.5)
    dense, half = (estimate(each, "letters_mlp", batch=10, epochs=1).cost for each in ("fp4_training", chip))
    ratio = half.step_energy_aj.mac / dense.step_energy_aj.mac
    assert ratio == pytest.approx(0.855, abs=1e-6)
    with pytest.raises(InputError, match="zeros: must be between 0 and 1, got -1"):
        with_stated_zeros(chip, -1)
    with pytest.raises(InputError, match=r"zeros: chip 'rapid_core' has no 'array\.activity'"):
        with_stated_zeros(load_chip("rapid_core"), 0.5)


def test_estimate_takes_a_point(capsys: pytest.CaptureFixture[str]) -> None:
    """Voltage, clock and zeros reach the estimate; what the chip cannot do is one line."""
    words = ["estimate", "fp4_training", "letters_mlp", "--batch", "10", "--quiet"]
    assert main([*words, "--voltage", "0.6", "--zeros", "0.5", "--json"]) == 0
    assert "for another clock or voltage" in capsys.readouterr().out
    assert main([*words, "--clock-mhz", "1500"]) == 2
    told = capsys.readouterr().err
    assert told == "error: clock_mhz: chip 'fp4_training' reaches at most 1,000 at 0.75 V, got 1500\n"
