"""The report: derived figures against exact arithmetic, tables, figures and page from records alone."""

from __future__ import annotations

import csv
import io
import os
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
from sample_records import BATCH, FP4, FP16, LAYERS, STEPS, sample_pair, sample_record

from accelsim.errors import InputError
from accelsim.record import COMPONENTS, RunRecord, read_record, record_text
from accelsim.report import (
    compare_records,
    comparison_table,
    draw_figures,
    headline,
    table_csv,
    table_markdown,
    title,
    write_report,
)
from accelsim.report import quantities as q
from accelsim.report.detail import bottleneck_rows, evidence_counts, latest_tensors, plan_rows, source_rows
from accelsim.report.drawing import shortened
from accelsim.report.figures import figure_images
from accelsim.report.layer_series import MOST_LAYERS, energy_series, time_series
from accelsim.report.page import themed_svg
from accelsim.report.readings import bound_share, cost_to_reach, read_off

FIGURES = ["step_overview", "learning_curves", "accuracy_against_energy", "time_by_layer", "energy_by_layer"]


def _changed(record: RunRecord, **changes: Any) -> RunRecord:
    return record.model_copy(update=changes)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of one whole report, written once for all tests that look at it."""
    folder = tmp_path_factory.mktemp("report")
    write_report(sample_pair(), folder)
    return folder


def test_readings_equal_exact_arithmetic() -> None:
    """Throughput, energy and power equal the same figures computed with fractions from the counts."""
    record = sample_record()
    reading = read_off(record)
    step_seconds = Fraction(record.cost.step_cycles, 10**9)
    step_j = Fraction(sum(row.energy_aj.total_aj for row in record.cost.layers), 10**18)
    assert reading.samples_per_second == pytest.approx(float(BATCH / step_seconds), rel=1e-14)
    assert reading.energy_per_sample_j == pytest.approx(float(step_j / BATCH), rel=1e-14)
    assert reading.energy_per_run_j == pytest.approx(float(step_j * 8 * STEPS), rel=1e-14)
    assert reading.run_seconds == pytest.approx(float(step_seconds * 8 * STEPS), rel=1e-14)
    assert reading.power_w == pytest.approx(float(step_j / step_seconds), rel=1e-14)
    assert reading.peak_macs_per_cycle == pytest.approx(FP4.macs_per_cycle, rel=1e-14)


def test_bound_shares_add_up_and_name_the_binding_resource() -> None:
    """The shares of time by binding resource sum to one and the largest one binds."""
    shares = bound_share(sample_record())
    assert sum(shares.values()) == pytest.approx(1)
    assert read_off(sample_record()).binding == max(shares, key=lambda name: shares[name])


def test_an_estimate_counts_the_planned_steps() -> None:
    """Without a training history, a run is epochs times steps."""
    assert read_off(sample_record(trained=False)).steps == 8 * STEPS
    assert read_off(sample_record(trained=False)).accuracy is None


def test_comparison_ratios_speak_for_the_chip() -> None:
    """Swapping chip and baseline inverts every ratio and the sign of the accuracy difference."""
    ours, theirs = sample_pair()
    there, back = compare_records(ours, theirs), compare_records(theirs, ours)
    for name in (
        "speedup",
        "array_speedup",
        "energy_ratio",
        "array_area_ratio",
        "die_area_ratio",
        "mac_ratio",
    ):
        assert getattr(there, name) * getattr(back, name) == pytest.approx(1)
    assert there.speedup > 1 < there.energy_ratio
    assert there.accuracy_points == pytest.approx(-0.8)
    assert back.accuracy_points == pytest.approx(0.8)
    assert there.mac_ratio == pytest.approx(5.5)
    assert there.iso_pe_speedup == pytest.approx(there.speedup / 5.5)
    assert there.bandwidth_ratio == 1


def test_iso_area_ends_at_two_percent() -> None:
    """Arrays within 2 % are iso-area, arrays beyond are not, and a large die alone breaks it too."""
    ours, theirs = sample_pair()
    assert compare_records(ours, theirs).iso_area
    for area, iso in (
        ({"mac_array_mm2": FP16.mac_array_mm2 * 1.0199}, True),
        ({"mac_array_mm2": FP16.mac_array_mm2 * 1.0201}, False),
        ({"die_mm2": theirs.cost.area.die_mm2 * 0.97}, False),
    ):
        cost = ours.cost.model_copy(update={"area": ours.cost.area.model_copy(update=area)})
        assert compare_records(_changed(ours, cost=cost), theirs).iso_area is iso


def test_different_workloads_are_not_compared() -> None:
    """Two records of different workloads are refused, and both names are told."""
    ours, theirs = sample_pair()
    other = _changed(theirs, workload=theirs.workload.model_copy(update={"name": "resnet20"}))
    message = (
        "the two records are of different workloads, 'fashion_cnn' and 'resnet20': they cannot be compared"
    )
    with pytest.raises(InputError, match=message):
        compare_records(ours, other)


@pytest.mark.parametrize("count", [0, 3])
def test_a_report_takes_one_or_two_records(count: int, tmp_path: Path) -> None:
    """No record and three records are refused before anything is written."""
    records = [sample_record()] * count
    with pytest.raises(
        InputError, match=f"a report takes one record, or a chip's and a baseline's; got {count}"
    ):
        write_report(records, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_unequal_settings_are_told() -> None:
    """A comparison across seeds or batches is made, but says so."""
    ours, theirs = sample_pair()
    comparison = compare_records(_changed(ours, seed=7, batch=32), theirs)
    assert comparison.differences == ("batch: 32 against 64", "seed: 7 against 1")
    assert "Not equal on both sides: seed: 7 against 1." in table_markdown([_changed(ours, seed=7), theirs])


def test_headline_says_it_all() -> None:
    """The headline tells speed, energy and accuracy, and turns words round when the chip loses."""
    ours, theirs = sample_pair()
    comparison = compare_records(ours, theirs)
    speed, energy = q.times(comparison.speedup, 2), q.times(comparison.energy_ratio, 2)
    ratios = f"{speed} the speed of fp16_training and {energy} less energy"
    assert headline(comparison) == f"fp4_training: {ratios} at −0.8 points of accuracy"
    assert "more energy at +0.8 points of accuracy" in headline(compare_records(theirs, ours))
    assert headline(compare_records(*sample_pair(trained=False))).endswith("less energy")
    assert title([ours]).startswith("fp4_training: 86.2 % accuracy, ")


def test_main_table_holds_what_a_person_asks_first() -> None:
    """The result rows come first, in the order people ask: accuracy, speed, energy, power, area, bound."""
    rows = comparison_table(sample_pair())
    results = [row.key for row in rows if row.group == "result"]
    assert results == [
        "accuracy", "samples_per_second", "energy_per_sample", "energy_per_run", "run_seconds", "power",
        "mac_array_area", "die_area", "bound_share",
    ]  # fmt: skip
    assert [row.key for row in rows][: len(results)] == results
    assert all(len(row.texts) == len(row.values) == 2 for row in rows)
    area = next(row for row in rows if row.key == "mac_array_area")
    assert area.texts == ("0.358 mm²", "0.354 mm²")
    assert area.reading == "1.01×, iso-area"


def test_estimates_have_no_accuracy_rows() -> None:
    """An estimate's table leaves out what was not computed; a mixed pair shows a dash."""
    keys = {row.key for row in comparison_table(sample_pair(trained=False))}
    assert not keys & {"accuracy", "best_accuracy", "time_to_common_accuracy"}
    mixed = comparison_table([sample_record(), sample_record(FP16, trained=False)])
    assert next(row for row in mixed if row.key == "accuracy").texts == ("86.2 %", "–")


def test_a_single_record_has_a_table_without_comparison() -> None:
    """One record gives one column and no ratios."""
    rows = comparison_table([sample_record()])
    assert all(len(row.texts) == 1 and row.reading == "" for row in rows)


def test_cost_to_a_common_accuracy_counts_whole_epochs() -> None:
    """Time and energy to an accuracy run to the end of the first epoch that reaches it."""
    record = sample_record()
    assert record.training is not None
    reading = read_off(record)
    third = record.training.epochs[2].test_accuracy
    cost = cost_to_reach(record, third)
    assert cost is not None
    assert cost[0] == pytest.approx(3 * STEPS * reading.step_seconds)
    assert cost[1] == pytest.approx(3 / 8 * reading.energy_per_run_j)
    assert cost_to_reach(record, 0.99) is None
    assert cost_to_reach(sample_record(trained=False), 0.1) is None


def test_csv_holds_full_precision() -> None:
    """The CSV parses, has one column per chip and holds the numbers the tables round."""
    records = sample_pair()
    lines = list(csv.DictReader(io.StringIO(table_csv(records))))
    speed = next(line for line in lines if line["quantity"] == "samples_per_second")
    assert float(speed["fp4_training"]) == read_off(records[0]).samples_per_second
    assert float(speed["fp16_training"]) == read_off(records[1]).samples_per_second
    assert speed["unit"] == "samples/s"


def test_markdown_is_one_table() -> None:
    """Every line of the Markdown table has the same number of cells, under the headline."""
    text = table_markdown(sample_pair())
    assert text.startswith("# fp4_training: ")
    assert {line.count("|") for line in text.splitlines() if line.startswith("|")} == {5}


@pytest.mark.parametrize(
    ("value", "text"),
    [(0, "0"), (0.012345, "0.0123"), (2.9, "2.90"), (9.999, "10.0"), (41327.4, "41,327"), (-5.5, "−5.50")],
)
def test_numbers_keep_three_digits(value: float, text: str) -> None:
    """Three significant digits, whole digits never cut, thousands separated, rounding carried over."""
    assert q.number(value) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (q.joules(1.23e-5), "12.3 µJ"),
        (q.joules(9.9996e-7), "1.00 µJ"),
        (q.joules(0), "0 J"),
        (q.joules(1234.5), "1.23 kJ"),
        (q.seconds(0.00831), "8.31 ms"),
        (q.seconds(1204), "1,204 s"),
        (q.si(1e-20, "J"), "0.0000100 fJ"),
        (q.size(1_572_864), "1.50 MiB"),
        (q.size(3 << 40), "3,072 GiB"),
        (q.percent(0.8624), "86.2 %"),
        (q.points(-0.84), "−0.8 points"),
        (q.points(0.84), "+0.8 points"),
        (q.points(-0.01), "±0.0 points"),
        (q.times(2.944, 2), "2.9×"),
    ],
)
def test_quantities_read_well(text: str, expected: str) -> None:
    """Units carry SI prefixes, seconds never kilo, memory is binary, differences are signed."""
    assert text == expected


def test_bottlenecks_list_every_layer_and_phase_that_takes_time() -> None:
    """Rows go layer by layer in network order, phases inside, and the speedup is that of the times."""
    records = sample_pair()
    rows = bottleneck_rows(records)
    busy = {(row.layer, row.phase) for row in records[0].cost.layers if row.total_cycles}
    assert {(row.layer, row.phase) for row in rows} == busy
    assert list(dict.fromkeys(row.layer for row in rows)) == [spec[0] for spec in LAYERS]
    first = [record.cost.layers[0].total_cycles for record in records]
    assert rows[0].speedup == q.times(first[1] / first[0])


def test_a_layer_of_one_chip_only_is_left_blank_on_the_other() -> None:
    """When a baseline lacks a layer its cell is empty and there is no speedup."""
    ours, theirs = sample_pair()
    rows = bottleneck_rows([ours, _without_layer(theirs, "pool")])
    pool = next(row for row in rows if row.layer == "pool")
    assert pool.cells[1] is None
    assert pool.speedup == "–"


def _without_layer(record: RunRecord, name: str) -> RunRecord:
    layers = tuple(row for row in record.cost.layers if row.layer != name)
    return _changed(record, cost=record.cost.model_copy(update={"layers": layers}))


def test_plans_list_every_gemm() -> None:
    """The plan table has a row for each GEMM of the record, with its shape and formats."""
    record = sample_record()
    rows = plan_rows(record)
    assert len(rows) == sum(len(row.gemms) for row in record.cost.layers)
    assert rows[0].shape == "50,176 × 9 × 16"
    assert rows[0].formats == "int4 × fp4_r4_odd"


def test_shared_sources_are_listed_once_and_best_evidence_first() -> None:
    """A number both chips share is one row; each kind of evidence is counted."""
    rows = source_rows(sample_pair())
    assert [row.chips for row in rows if row.key == "clock_mhz"] == ["all"]
    assert [row.chips for row in rows if row.key == "array.area_um2_per_pe"] == [
        "fp4_training",
        "fp16_training",
    ]
    assert rows[0].evidence == "published"
    assert sum(evidence_counts(rows).values()) == len(rows)


def test_tensor_table_shows_the_last_epoch() -> None:
    """Saturation and underflow are shown for the last epoch held, and for no estimate."""
    assert ("block1.conv1", "gradient dx", "0.12 %", "31.00 %", "1,024") in latest_tensors(sample_record())
    assert latest_tensors(sample_record(trained=False)) == ()


def test_layer_series_add_up_to_the_step() -> None:
    """All bars of a record together are its step: elapsed marks to the cycle count, parts to the energy."""
    record = sample_record()
    times, energies = time_series([record]), energy_series([record])
    assert sum(stack.mark or 0 for stack in times.stacks.values()) == pytest.approx(
        read_off(record).step_seconds
    )
    for name in COMPONENTS:
        drawn = sum(stack.parts[name] for stack in energies.stacks.values())
        assert drawn == pytest.approx(record.cost.step_energy_aj.of(name) * 1e-18)


def test_many_layers_are_gathered_and_nothing_is_lost() -> None:
    """Beyond sixty rows the smallest layers become one row, and totals stay."""
    records = sample_pair(trained=False, blocks=6)
    series = time_series(records)
    assert len(series.labels) == MOST_LAYERS
    assert series.labels[-1] == "other (13 layers)"
    drawn = sum(stack.mark or 0 for key, stack in series.stacks.items() if key[0] == 0)
    assert drawn == pytest.approx(read_off(records[0]).step_seconds)
    assert len(time_series(sample_pair(trained=False, blocks=5)).labels) == 60


def test_report_folder_is_complete(report: Path) -> None:
    """A report holds the page, both tables and every figure as PNG and SVG, and nothing else."""
    files = sorted(str(path.relative_to(report)) for path in report.rglob("*") if path.is_file())
    figures = [f"figures/{name}.{kind}" for name in FIGURES for kind in ("png", "svg")]
    assert files == sorted(["comparison.csv", "comparison.md", "report.html", *figures])


def test_figures_are_redrawn_byte_for_byte_elsewhere(report: Path, tmp_path: Path) -> None:
    """Another process with another hash seed and matplotlibrc redraws the same bytes from the JSON files."""
    for index, record in enumerate(sample_pair()):
        (tmp_path / f"{index}.json").write_text(record_text(record), encoding="utf-8")
    (tmp_path / "matplotlibrc").write_text("font.size: 21\nlines.linewidth: 9\nsvg.fonttype: path\n")
    code = (
        "import sys; from accelsim.record import read_record; from accelsim.report import write_report;"
        "write_report([read_record(sys.argv[1]), read_record(sys.argv[2])], sys.argv[3])"
    )
    arguments = [str(tmp_path / name) for name in ("0.json", "1.json", "again")]
    environment = {**os.environ, "PYTHONHASHSEED": "77", "MATPLOTLIBRC": str(tmp_path / "matplotlibrc")}
    subprocess.run([sys.executable, "-c", code, *arguments], check=True, env=environment)
    for path in report.rglob("*.*"):
        assert (tmp_path / "again" / path.relative_to(report)).read_bytes() == path.read_bytes(), path.name


def test_svg_names_every_layer_and_parses(report: Path) -> None:
    """Layer names stand in the SVG as text, and the file is well-formed and undated."""
    for name in ("time_by_layer", "energy_by_layer"):
        text = (report / "figures" / f"{name}.svg").read_text(encoding="utf-8")
        words = {element.text for element in ElementTree.fromstring(text).iter() if element.text}
        assert {spec[0] for spec in LAYERS} <= words
        assert "dc:date" not in text


def test_page_needs_no_other_file(report: Path) -> None:
    """The page loads nothing: no scripts, links, images or addresses outside it."""
    page = (report / "report.html").read_text(encoding="utf-8")
    addresses = set(re.findall(r"https?://[^\s\"'<)]+", page))
    assert addresses <= {"http://www.w3.org/2000/svg", "http://www.w3.org/1999/xlink"}
    assert not re.search(r"<(script|link|img|iframe|object)\b|@import|url\((?!#)", page)
    assert page.count("<svg") == len(FIGURES)


def test_page_has_unique_ids_and_every_reference_meets_one(report: Path) -> None:
    """Several figures in one page do not share ids, and clip paths and links find theirs."""
    page = (report / "report.html").read_text(encoding="utf-8")
    ids = re.findall(r'\bid="([^"]+)"', page)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r'(?:url\(|href=")#([^")]+)', page)) <= set(ids)


def test_page_shows_inputs_sources_and_digests(report: Path) -> None:
    """The page echoes the input files (escaped), sources with evidence, digests and versions."""
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "&lt;b&gt;not markup&lt;/b&gt; &amp; a long line" in page
    assert "<b>not markup" not in page
    for record in sample_pair():
        assert record.training is not None
        assert record.training.weight_digest in page
        assert record.chip.sha256 in page
    for word in ("published", "measured", "derived", "estimated", "numba 0.68.0", "chunked_dlfloat16 3,160"):
        assert word in page


def test_page_colours_follow_the_theme(report: Path) -> None:
    """Figures in the page take ink and grid from the theme; those in files keep a white ground."""
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "var(--ink)" in page.split("<svg", 1)[1]
    assert "#ffffff" not in page.split("<svg", 1)[1]
    assert "#ffffff" in (report / "figures" / "time_by_layer.svg").read_text(encoding="utf-8")


def test_themed_svg_keeps_references_together() -> None:
    """Ids and what points at them get the same prefix, sizes and metadata go."""
    svg = '<?xml?><svg width="9pt" height="8pt" viewBox="0"><metadata>x</metadata>'
    svg += '<a id="p1"/><b c="url(#p1)"/></svg>'
    assert themed_svg("f", svg) == '<svg viewBox="0"><a id="f-p1"/><b c="url(#f-p1)"/></svg>'


@pytest.mark.parametrize("records", [[sample_record(epochs=1)], sample_pair(trained=False)])
def test_other_reports_are_written_too(records: list[RunRecord], tmp_path: Path) -> None:
    """A single short run and a pair of estimates each give a page with the figures they allow."""
    write_report(records, tmp_path)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("<svg") == (5 if records[0].training else 3)
    assert ('id="learning"' in page) == bool(records[0].training)


def test_names_that_look_like_formulas_or_markup_are_drawn_as_they_are() -> None:
    """Dollar signs are not formulas, angle brackets are not markup, long names keep their end."""
    record = sample_record(trained=False)
    names = {"conv1": "a$b_{$c", "bn1": "<i>&", "pool": "a_very_long_prefix_of_a_layer.block12.conv3"}
    layers = tuple(
        row.model_copy(update={"layer": names.get(row.layer, row.layer)}) for row in record.cost.layers
    )
    drawn = _changed(record, cost=record.cost.model_copy(update={"layers": layers}))
    svg = figure_images([drawn])["time_by_layer"]["svg"]
    words = {element.text for element in ElementTree.fromstring(svg).iter()}
    assert shortened(names["pool"]) == "a_very_long_p….block12.conv3"
    assert {"a$b_{$c", "<i>&", shortened(names["pool"])} <= words


def test_unwritable_folder_is_one_line(tmp_path: Path) -> None:
    """A report into a place that is a file ends in one line that names it, and leaves it alone."""
    (tmp_path / "file").write_text("mine")
    with pytest.raises(InputError, match=re.escape(str(tmp_path / "file"))) as caught:
        write_report([sample_record(trained=False)], tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert (tmp_path / "file").read_text() == "mine"


def test_draw_figures_names_what_it_wrote(tmp_path: Path) -> None:
    """Drawing alone writes PNG and SVG of each figure and returns their paths, all of them there."""
    paths = draw_figures([sample_record(trained=False)], tmp_path / "plots")
    assert [path.stem for path in paths[::2]] == ["step_overview", "time_by_layer", "energy_by_layer"]
    assert all(path.is_file() for path in paths)
    assert paths[0].read_bytes()[:4] == b"\x89PNG"


def test_a_record_read_from_disk_gives_the_same_tables(tmp_path: Path) -> None:
    """Tables of a record that went through JSON equal those of the record itself."""
    path = tmp_path / "record.json"
    path.write_text(record_text(sample_record()), encoding="utf-8")
    assert table_csv([read_record(path)]) == table_csv([sample_record()])
