"""The savings study: rows that follow from estimates, kept and taken up again, told in tables and figures."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest

from accelsim.api import estimate, read_record
from accelsim.cli import main as shell
from accelsim.errors import InputError
from accelsim.record import RunRecord
from accelsim.report.readings import read_off
from accelsim.storage import shipped
from accelsim.study import savings as study
from accelsim.study.savings import MODELS, PAIRS, Choice, savings_study, time_share
from accelsim.study.savings_record import Savings, read_savings
from accelsim.study.savings_report import savings_csv, savings_markdown, write_savings

SMALL = Choice(("alexnet_imagenet", "vgg16_cifar10"))


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Savings]:
    """Two models on both pairs, and the file they are kept in."""
    path = tmp_path_factory.mktemp("savings") / "savings.json"
    return path, savings_study(path, SMALL, "accelsim study savings")


@pytest.fixture(scope="module")
def records() -> tuple[RunRecord, RunRecord]:
    """AlexNet on the server pair."""
    chip, baseline = (estimate(name, "alexnet_imagenet") for name in PAIRS["server"])
    return chip, baseline


def test_every_model_of_the_study_is_shipped() -> None:
    """Sixteen models, all of them by name, on chips that are shipped too."""
    assert len(set(MODELS)) == len(MODELS) == 16
    assert set(MODELS) <= set(shipped("workloads"))
    assert {name for pair in PAIRS.values() for name in pair} <= set(shipped("arch_configs"))


def test_a_row_says_what_the_estimates_say(
    kept: tuple[Path, Savings], records: tuple[RunRecord, RunRecord]
) -> None:
    """Cycles, attojoules and digests are the records'; ratios and the run's energy follow from them."""
    row = kept[1].of("server")[0]
    assert (row.model, row.batch, row.halvings) == ("alexnet_imagenet", 256, 0)
    assert (row.parameters, row.steps) == (61_100_840, 90 * (1_281_167 // 256))
    for side, record in zip((row.chip, row.baseline), records, strict=True):
        assert side.step_cycles == record.cost.step_cycles
        assert side.step_energy_aj == record.cost.step_energy_aj.total_aj
        assert (side.chip_sha256, side.recipe_sha256) == (record.chip.sha256, record.recipe.sha256)
        assert side.kwh == pytest.approx(1.58 * row.steps * side.step_energy_aj * 1e-18 / 3.6e6)
        assert side.co2e_kg == pytest.approx(0.445 * side.kwh)
    readings = [read_off(record) for record in records]
    assert row.speedup == pytest.approx(readings[1].step_seconds / readings[0].step_seconds)
    assert row.energy_ratio == pytest.approx(readings[1].energy_per_run_j / readings[0].energy_per_run_j)


def test_time_is_shared_out_by_what_binds(records: tuple[RunRecord, RunRecord]) -> None:
    """Shares add up to 1 and to the record's own; only a chip with narrow operands has narrow layers."""
    for record, narrow in zip(records, (True, False), strict=True):
        share, bound = time_share(record.cost.layers), read_off(record).bound_share
        assert sum(share.values()) == pytest.approx(1)
        assert share["array_low"] + share["array_16bit"] == pytest.approx(bound["array"])
        assert share["dram"] == pytest.approx(bound["dram"])
        assert (share["array_low"] > 0) == narrow


def test_the_16_bit_layers_are_what_holds_alexnet_back(kept: tuple[Path, Savings]) -> None:
    """With its ends in 4 bits too the chip comes near the ratio of the peaks; one layer is named."""
    row = kept[1].of("server")[0]
    assert row.speedup < row.all_low_speedup < kept[1].mac_ratios["server"]
    assert row.all_low.time_share["array_16bit"] == 0
    assert row.widest is not None
    name, share = row.widest
    assert name == "conv2d1"
    assert 0 < share <= row.chip.time_share["array_16bit"]
    assert f"MAC arrays, 16-bit layers ({100 * row.chip.time_share['array_16bit']:.0f} %): conv2d1" in (
        savings_markdown(kept[1])
    )


def test_what_has_not_changed_is_not_computed_again(
    kept: tuple[Path, Savings], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Rows come from the file by the digest of what they follow from; other sources make other digests."""
    path, first = kept
    monkeypatch.setattr(study, "_row", lambda *given: pytest.fail("computed again"))
    assert savings_study(path, SMALL, "accelsim study savings") == first
    assert read_savings(path) == first
    assert len({row.key for row in first.rows}) == len(first.rows) == 4
    monkeypatch.setattr(study, "code_digest", lambda: "other sources")
    with pytest.raises(pytest.fail.Exception, match="computed again"):
        savings_study(path, SMALL, "accelsim study savings")


def test_a_row_follows_from_what_its_grid_says(tmp_path: Path) -> None:
    """A grid file that is edited makes another row, although its name stays."""
    path = tmp_path / "mine.yaml"
    text = (Path(study.__file__).parents[1] / "cost/grids/world.yaml").read_text(encoding="utf-8")
    path.write_text(text, encoding="utf-8")
    key = study._key("server", "alexnet_imagenet", str(path))
    path.write_text(text.replace("value: 445", "value: 45"), encoding="utf-8")
    assert study._key("server", "alexnet_imagenet", str(path)) != key


def test_the_batch_is_halved_until_it_fits(tmp_path: Path) -> None:
    """A phone's 4 GiB hold no step of 256 images of MobileNetV2: 128 do, and the steps double."""
    path = tmp_path / "savings.json"
    server, phone = savings_study(path, Choice(("mobilenetv2_imagenet",)), "").rows
    assert (server.batch, phone.batch, phone.halvings) == (256, 128, 1)
    assert phone.baseline.peak_bytes <= phone.baseline.capacity_bytes < 2 * phone.baseline.peak_bytes
    assert phone.steps == 150 * (1_281_167 // 128)


def test_tables_say_what_the_rows_say(kept: tuple[Path, Savings]) -> None:
    """Markdown names every model, the 284 tonnes and the command; the CSV holds full-precision numbers."""
    text = savings_markdown(kept[1])
    assert "are 284 t CO2e" in text
    assert "`accelsim study savings`" in text
    rows = list(csv.DictReader(io.StringIO(savings_csv(kept[1]))))
    for row, line in zip(kept[1].rows, rows, strict=True):
        assert f"| {row.model} |" in text
        assert (float(line["speedup"]), float(line["chip_kwh"])) == (row.speedup, row.chip.kwh)


def test_the_folder_holds_tables_and_figures(kept: tuple[Path, Savings], tmp_path: Path) -> None:
    """Five figures in two forms, the same bytes every time."""
    paths = write_savings(kept[1], tmp_path)
    assert len(paths) == 2 + 2 * 5
    first = {path: path.read_bytes() for path in paths}
    write_savings(kept[1], tmp_path)
    assert {path: path.read_bytes() for path in paths} == first


def test_the_command_takes_a_study_up_again(
    kept: tuple[Path, Savings], capsys: pytest.CaptureFixture[str]
) -> None:
    """``accelsim study savings`` on a kept folder redraws it."""
    words = ["study", "savings", "--out", str(kept[0].parent), "--quiet"]
    assert shell.main([*words, "--model", "alexnet_imagenet"]) == 0
    assert capsys.readouterr().out.startswith(f"{kept[0].parent}: 2 rows; ")


def test_a_model_for_which_no_memory_is_small_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A step of one sample that does not fit is told with the model, not tried again for ever."""
    monkeypatch.setattr(study, "_fits", lambda record: False)
    with pytest.raises(InputError, match="vgg16_cifar10: a step of one sample does not fit the DRAM of both"):
        savings_study(tmp_path / "savings.json", Choice(("vgg16_cifar10",)), "")


def test_mistakes_are_told(tmp_path: Path) -> None:
    """A model that is none of the study's, and a file that is no study."""
    path = tmp_path / "savings.json"
    with pytest.raises(InputError, match=r"unknown model of the study 'resnet51_cifar10' \(did you mean"):
        savings_study(path, Choice(("resnet51_cifar10",)), "")
    path.write_text("{}", encoding="utf-8")
    message = "not a savings study: command: missing key; remove it or choose another --out"
    with pytest.raises(InputError, match=message):
        savings_study(path, SMALL, "")
    assert path.read_text(encoding="utf-8") == "{}"
    with pytest.raises(InputError, match="not an accelsim run record"):
        read_record(path)
