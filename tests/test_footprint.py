"""Joules to kWh, carbon and money: the published example, shipped grids, options and mistakes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from sample_records import sample_pair, sample_record

from accelsim import InputError, with_grid
from accelsim.chip import load_chip
from accelsim.cli.main import main
from accelsim.cost import grid_record, load_grid
from accelsim.record import GridRecord, read_record, record_text
from accelsim.report import comparison_table
from accelsim.report.footprint import JOULE_PER_KWH, electricity_sentence, footprint
from accelsim.report.page import report_html
from accelsim.report.readings import read_off
from accelsim.storage import resource_dir, shipped

POUND_KG = 0.45359237


def place(name: str = "world", battery_wh: float | None = None, **options: Any) -> GridRecord:
    """The record's grid of a shipped file."""
    return GridRecord.model_validate(grid_record(load_grid(name), battery_wh, **options))


def test_the_published_architecture_search_is_284_tonnes() -> None:
    """656,347 kWh at the meter (PUE 1.58 included) at 0.954 lb a kWh are 626,155 lb, 284 t CO2e."""
    grid = place("usa_2018")
    found = footprint(656_347 / 1.58 * JOULE_PER_KWH, grid)
    assert found.kwh == pytest.approx(656_347, rel=1e-12)
    assert round(found.co2e_kg / POUND_KG) == 626_155
    assert round(found.co2e_kg / 1000) == 284


def test_a_footprint_by_hand() -> None:
    """7.2 MJ are 2 kWh, 3.16 at the meter; carbon and money follow by the kWh; 15 Wh are 54 kJ."""
    found = footprint(7.2e6, place("world", price=0.25))
    assert found.kwh == pytest.approx(2 * 1.58)
    assert found.co2e_kg == pytest.approx(2 * 1.58 * 0.445)
    assert (found.money, found.currency) == (pytest.approx(2 * 1.58 * 0.25), "USD")
    assert found.battery_charges is None
    on_battery = footprint(7.2e6, place("world", battery_wh=15))
    assert on_battery.kwh == pytest.approx(2)
    assert on_battery.battery_charges == pytest.approx(7.2e6 / 54e3)


def test_every_shipped_grid_is_right_and_says_where_from() -> None:
    """Names are the files' names; the figures are the documented ones."""
    grids = {name: load_grid(name) for name in shipped("grids")}
    assert all(grid.name == name for name, grid in grids.items())
    carbon = {name: grid.carbon_g_per_kwh.value for name, grid in grids.items()}
    assert (carbon["world"], carbon["usa"], carbon["france"]) == (445, 369, 56)
    assert (grids["world"].pue.value, grids["fleet"].pue.value) == (1.58, 1.09)


def test_a_users_grid_is_one_file(tmp_path: Path) -> None:
    """A path in place of a name; a mistake names file, line and key."""
    text = (resource_dir("grids") / "france.yaml").read_text(encoding="utf-8")
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("name: france", "name: mine"), encoding="utf-8")
    assert load_grid(path).name == "mine"
    path.write_text(text.replace("value: 1.58", "value: 0.58"), encoding="utf-8")
    with pytest.raises(InputError, match=r"mine.yaml:\d+:\d+: pue.value: must be .*1.*0.58"):
        load_grid(path)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"price": -0.1}, r"price: must be between 0 and 1000000 USD a kWh, got -0\.1"),
        ({"pue": 0.9}, r"pue: must be between 1 and 10, got 0\.9"),
        ({"pue": float("nan")}, r"pue: must be between 1 and 10, got nan"),
    ],
)
def test_numbers_no_meter_shows_are_refused(options: dict[str, float], message: str) -> None:
    """A negative price and an overhead below one are mistakes, told with what is allowed."""
    with pytest.raises(InputError, match=message):
        grid_record(load_grid("world"), **options)


def test_an_unknown_grid_has_a_nearest_one() -> None:
    """The message lists what is shipped."""
    with pytest.raises(InputError, match=r"unknown grid 'wrold' \(did you mean 'world'\?\); allowed: fleet"):
        with_grid(sample_record(), "wrold")


def test_a_record_can_move_to_another_grid_and_back(tmp_path: Path) -> None:
    """Any record takes any grid, keeps it in its file, and charges energy in proportion."""
    moved = with_grid(sample_record(), "france", price=0.2)
    path = tmp_path / "record.json"
    path.write_text(record_text(moved), encoding="utf-8")
    found = read_off(read_record(path))
    assert found.footprint is not None
    assert found.footprint.co2e_kg == pytest.approx(found.energy_per_run_j / 3.6e6 * 1.58 * 0.056)
    assert found.footprint.currency == "EUR"


def test_rows_appear_where_a_grid_is_known() -> None:
    """A record of before has no rows of carbon; a pair on one grid is compared; two currencies are not."""
    keys = {row.key for row in comparison_table(sample_pair())}
    assert not keys & {"co2e_kg", "money", "meter_kwh", "battery_charges"}
    pair = [with_grid(record, "world") for record in sample_pair()]
    rows = {row.key: row for row in comparison_table(pair)}
    assert "less" in rows["co2e_kg"].reading
    assert "battery_charges" not in rows
    mixed = [pair[0], with_grid(pair[1], "france")]
    assert {row.key: row for row in comparison_table(mixed)}["money"].reading == ""


def test_a_phone_chip_is_charged_to_its_battery() -> None:
    """The shipped phone-class chips name a battery, the server chips none."""
    assert [
        getattr(load_chip(name).battery_wh, "value", None)
        for name in ("edge_fp4", "edge_fp16", "fp4_training")
    ] == [15, 15, None]


def test_estimate_takes_a_grid(capsys: pytest.CaptureFixture[str]) -> None:
    """``--grid``, ``--price`` and ``--pue`` reach the table and the record."""
    words = ["estimate", "edge_fp4", "letters_mlp", "--batch", "10", "--epochs", "1", "--quiet"]
    assert main([*words, "--grid", "france", "--price", "0.3", "--pue", "1.2"]) == 0
    shown = capsys.readouterr().out
    assert "Carbon of the whole run" in shown
    assert "EUR" in shown
    assert "Share of the battery" in shown
    assert main([*words, "--price", "-1"]) == 2
    assert "error: price: must be between 0 and 1000000 USD a kWh, got -1" in capsys.readouterr().err


def test_the_page_says_where_the_electricity_comes_from() -> None:
    """One sentence a place: name, year, carbon, price, overhead; a phone's says battery."""
    pair = [with_grid(record, "world") for record in sample_pair()]
    page = report_html(pair, {})
    assert "Electricity: world 2024, 445 g CO2e and 0.1 USD a kWh, PUE 1.58." in page
    assert "Electricity:" not in report_html(sample_pair(), {})
    phone = pair[0].model_copy(update={"grid": place("france", battery_wh=15)})
    assert electricity_sentence([phone, pair[1]]).count(";") == 1
    assert "0.12 EUR a kWh, battery" in electricity_sentence([phone])
