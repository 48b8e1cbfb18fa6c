"""Sheets of published measurements: every row comes out, mistakes are told, calibrations calibrate."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from accelsim.chip import load_chip
from accelsim.cli.main import main
from accelsim.cost import chip_area
from accelsim.errors import InputError
from accelsim.program import compile_program
from accelsim.recipe import load_recipe
from accelsim.storage import find_resource
from accelsim.validation import Finding, compare_sheets, load_sheet, shipped_sheets, write_validation
from accelsim.validation.comparing import energy_factor
from accelsim.validation.nvdla_sheet import nvdla_sheet_cycles, sheet_layers
from accelsim.validation.picture import findings_picture
from accelsim.validation.quantities import QUANTITIES
from accelsim.validation.schema import ArraySize, Calibration, GemmSize, Run
from accelsim.validation.table import error_text, table_csv, table_markdown
from accelsim.workload import load_workload

GEMM = "{m: 64, k: 64, n: 64, a_format: uint4, b_format: int4}"
SHEET = f"""\
row: mine
title: a measurement of my own
source: a notebook
figures:
  - label: speed
    published: 50
    quantity: tops
    status: predicted
    run: {{chip: rapid_core, gemm: {GEMM}}}
"""


@pytest.fixture(scope="module")
def findings() -> list[Finding]:
    """All shipped sheets, repeated once."""
    return compare_sheets(shipped_sheets())


def written(tmp_path: Path, text: str = SHEET, old: str = "", new: str = "") -> Path:
    """A sheet in a file, with one text replaced."""
    assert old in text
    path = tmp_path / "sheet.yaml"
    path.write_text(text.replace(old, new, 1) if old else text, encoding="utf-8")
    return path


def found(findings: list[Finding], row: str, label: str) -> Finding:
    """The finding of that row and label."""
    (one,) = [each for each in findings if each.row.startswith(f"{row} ") and each.label == label]
    return one


def test_every_published_row_is_repeated(findings: list[Finding]) -> None:
    """All ten rows of the table and the cross-check with SCALE-Sim are there, with source and status."""
    assert {finding.row.split()[0] for finding in findings} >= {str(number) for number in range(1, 12)}
    for finding in findings:
        assert finding.source
        assert finding.status in ("calibrated", "predicted")
        assert finding.ours > 0


@pytest.mark.parametrize(
    ("row", "label"),
    [
        ("1", "FP16 peak"),
        ("1", "FP8 peak"),
        ("1", "INT4 peak"),
        ("4", "cycles of one block, inner length 784 (k + 2n - 2)"),
        ("5", "cycles in which B x 256 inputs pass the array, B = 200"),
        ("6", "conv3, the sheet's rules"),
        ("6", "fc1, the sheet's rules"),
        ("11", "forward, weight stationary"),
    ],
)
def test_what_must_be_exact_is(findings: list[Finding], row: str, label: str) -> None:
    """Peaks and closed forms leave no room for an error."""
    assert found(findings, row, label).error == pytest.approx(0, abs=1e-12)


def test_a_calibrated_figure_is_met_and_the_others_are_not_touched(findings: list[Finding]) -> None:
    """FP8 efficiency is met by its factor; INT4 gets the same factor and stays an honest prediction."""
    fp8, int4 = (found(findings, "2", label) for label in ("FP8", "INT4"))
    assert fp8.ours == pytest.approx(3.54)
    assert fp8.factor == int4.factor
    for finding in (fp8, int4):
        assert finding.uncalibrated is not None
        assert finding.factor is not None
        assert finding.ours == pytest.approx(finding.uncalibrated / finding.factor)
    assert abs(int4.error) < 0.15


def test_time_does_not_depend_on_an_energy_factor(findings: list[Finding]) -> None:
    """A figure without a calibration has no factor, and speed rows are among them."""
    assert found(findings, "7", "conv1 latency").factor is None
    assert found(findings, "7", "conv2 power").factor == found(findings, "7", "conv1 power").factor


def test_errors_are_of_the_nearer_end_of_a_range() -> None:
    """Inside a range the error is 0; outside it counts from the end that was missed."""
    base = {
        "row": "r", "label": "l", "quantity": "tops", "unit": "", "published": (2.0, 4.0),
        "status": "predicted", "uncalibrated": None, "factor": None, "chip": "", "source": "s",
        "note": "", "missing": "",
    }  # fmt: skip
    inside, above, below = (Finding(**(base | {"ours": ours})) for ours in (3.0, 5.0, 1.0))  # type: ignore[arg-type]
    assert (inside.error, above.error, below.error) == (0.0, 0.25, -0.5)
    assert [error_text(each) for each in (inside, above, below)] == ["inside", "+25.0 %", "−50.0 %"]


def test_nvdla_layers_by_hand() -> None:
    """conv3: 256 x 384 kernels of 16 Winograd weights, 13 x 13 in and out, 10.24 bytes a cycle."""
    workload, chip = load_workload("alexnet_2012_224"), load_chip("nvdla_2048")
    moved = 256 * 384 * 16 + 13 * 13 * (256 + 384)
    assert nvdla_sheet_cycles(workload, chip, ("conv3",)) == -(-moved * 100 // 1024)
    (conv1,) = [layer for layer in sheet_layers(workload) if layer.name == "conv1"]
    assert conv1.products == 54 * 54 * 96 * 363
    assert round(nvdla_sheet_cycles(workload, chip)) == 895_444


def test_a_sheet_of_ones_own(tmp_path: Path) -> None:
    """A stranger's file is repeated and may name a shipped calibration."""
    path = written(
        tmp_path, SHEET + "    calibration: rapid_energy\n", "quantity: tops", "quantity: tops_per_w"
    )
    (finding,) = compare_sheets([load_sheet(path)], shipped_sheets())
    assert finding.uncalibrated is not None
    assert finding.ours != finding.uncalibrated
    (again,) = compare_sheets([load_sheet(written(tmp_path))])
    assert 0 < again.ours < 104.8576


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("quantity: tops", "quantity: tps", r"9:5: figures\[0\].quantity: .*one of|quantity"),
        ("chip: rapid_core, ", "", r"figures\[0\].run: needs 'chip', or 'array' for a convention of others"),
        (f"gemm: {GEMM}", "batch: 1", r"run: needs one of 'workload', 'workloads' and 'gemm'"),
        ("quantity: tops", "quantity: speedup", r"'speedup' needs 'against', the run that it is over"),
        ("quantity: tops", "quantity: peak_tops", r"run: a peak needs the chip's 'mode'"),
        ("quantity: tops", "quantity: peak_tops_per_w", r"run: a peak needs the chip's 'mode'"),
        ("quantity: tops", "quantity: co2e_lb", r"run: needs 'electricity_kwh' and 'grid'"),
        ("published: 50", "published: {low: 3, high: 2}", r"low must not be above high, got 3.0 and 2.0"),
        ("status: predicted", "status: predicted\n    over: mean", r"'workloads' and 'over' .* go together"),
        ("chip: rapid_core", "array: {rows: 4, cols: 4}", r"goes with a 'gemm' and a convention of others"),
        (
            "chip: rapid_core",
            "chip: rapid_core, dataflow: weight_stationary",
            "'dataflow' goes with a convention",
        ),
        (
            "chip: rapid_core",
            "chip: rapid_core, chips: 2",
            "'chips' share a workload's mini-batch, not a 'gemm'",
        ),
        (
            "chip: rapid_core",
            "chip: rapid_core, zeros: {share: {}, energy_saved: 0, source: x}",
            "'zeros' goes with 'model: row_stationary'",
        ),
        (
            "chip: rapid_core",
            "chip: rapid_core, rows: {strip: 1, sets: 1, filters: 1, channels: 1, block_filters: 1}",
            "'rows' goes with 'model: row_stationary' and one of 'layers'",
        ),
    ],
)
def test_a_mistake_in_a_sheet_is_told_with_its_place(
    tmp_path: Path, old: str, new: str, message: str
) -> None:
    """One line with file, line, key and what is allowed."""
    path = written(tmp_path, old=old, new=new)
    with pytest.raises(InputError, match=message) as caught:
        load_sheet(path)
    assert str(caught.value).startswith(f"{path}:")


def test_check_knows_a_sheet(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`accelsim check` tells a sheet by its keys, and its mistakes too."""
    assert main(["check", str(written(tmp_path))]) == 0
    assert "sheet 'mine' is right" in capsys.readouterr().out
    assert main(["check", str(written(tmp_path, old="status: predicted", new="status: guessed"))]) == 2
    assert "figures[0].status" in capsys.readouterr().err


def test_a_speedup_takes_what_it_needs(tmp_path: Path) -> None:
    """A quantity of one run takes no second one, and equal area needs modes for its GEMMs."""
    run = f"{{chip: rapid_core, gemm: {GEMM}}}"
    with pytest.raises(InputError, match="'tops' takes no 'against'"):
        load_sheet(written(tmp_path, SHEET + f"    against: {run}\n"))
    text = SHEET.replace("quantity: tops", "quantity: speedup_at_equal_area") + f"    against: {run}\n"
    with pytest.raises(InputError, match="'speedup_at_equal_area' needs 'modes'"):
        load_sheet(written(tmp_path, text))


def test_a_run_that_does_nothing_has_no_speed(tmp_path: Path) -> None:
    """A rectifier has no products for energy to be divided by; a bare array has no energy to calibrate."""
    layer = "workload: fashion_cnn, layers: [relu1], phases: [forward]"
    path = written(tmp_path, old=f"gemm: {GEMM}", new=layer)
    path.write_text(path.read_text().replace("quantity: tops", "quantity: pj_per_mac"))
    with pytest.raises(InputError, match="run: the run does too little to have a 'pj_per_mac'"):
        compare_sheets([load_sheet(path)])
    size = GemmSize(m=4, k=4, n=4, a_format="int8", b_format="int8")
    bare = Run(array=ArraySize(rows=4, cols=4), gemm=size, model="scalesim")
    calibration = Calibration(name="c", published=1, quantity="energy_mj", run=bare, source="x")
    with pytest.raises(InputError, match="the run of calibration 'c' takes no energy"):
        energy_factor(calibration)


def test_the_cycles_of_a_batch_by_the_nvdla_sheet(tmp_path: Path) -> None:
    """Samples follow one another: twice the batch takes twice the cycles, at the same rate."""
    run = "chip: nvdla_2048, workload: alexnet_2012_224, work: inference, model: nvdla_sheet, batch: 1"
    text = SHEET.replace(f"chip: rapid_core, gemm: {GEMM}", run).replace(
        "quantity: tops", "quantity: samples_per_s"
    )
    one, two = (
        compare_sheets([load_sheet(written(tmp_path, each))])[0].ours
        for each in (text, text.replace("batch: 1", "batch: 2"))
    )
    assert one == pytest.approx(two)


def test_names_that_nobody_states_are_told(tmp_path: Path) -> None:
    """Unknown calibrations, modes and layers name the nearest that exists."""
    path = written(tmp_path, SHEET + "    calibration: rapid_enery\n")
    with pytest.raises(InputError, match=r"unknown calibration 'rapid_enery' \(did you mean 'rapid_energy'"):
        compare_sheets([load_sheet(path)], shipped_sheets())
    peak = written(tmp_path, old=f"gemm: {GEMM}", new="mode: int5")
    peak.write_text(peak.read_text().replace("quantity: tops", "quantity: peak_tops"))
    with pytest.raises(InputError, match=r"unknown mode 'int5' .*chip|chip rapid_core: unknown mode 'int5'"):
        compare_sheets([load_sheet(peak)])
    layer = "workload: letters_mlp, layers: [nowhere], recipe: fp16_dlfloat"
    with pytest.raises(InputError, match="workload letters_mlp: unknown layer 'nowhere'"):
        compare_sheets([load_sheet(written(tmp_path, old=f"gemm: {GEMM}", new=layer))])


EQUAL_AREA = """\
row: area
title: equal area
source: a notebook
figures:
  - label: speed
    published: 2
    quantity: speedup_at_equal_area
    status: predicted
    run: {chip: sun2020_units, workload: letters_mlp, modes: [{mode: fp8}]}
    against: {chip: sun2020_units, workload: letters_mlp, modes: [{mode: fp16}]}
"""


def test_equal_area_is_worked_out_from_units_and_products(tmp_path: Path) -> None:
    """Two lanes in the same area are twice as fast; without an area or a rule there is no answer."""
    (finding,) = compare_sheets([load_sheet(written(tmp_path, EQUAL_AREA))])
    assert finding.ours == pytest.approx(2.0)
    for old, new, message in (
        ("chip: sun2020_units", "chip: rapid_core", "unknown mode 'fp8'"),
        ("chip: sun2020_units, workload: letters_mlp, modes: [{mode: fp8}]",
         "chip: rapid_core, workload: letters_mlp, modes: [{mode: hfp8}]", "'hfp8' has no 'area_um2_alone'"),
        ("{mode: fp8}", "{mode: fp8, phases: [forward]}", r"no rule covers layer '.*' \(\w+\)"),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message):
            compare_sheets([load_sheet(written(tmp_path, EQUAL_AREA, old, new))])


def test_a_calibration_solves_for_its_own_figure(tmp_path: Path) -> None:
    """Half the published efficiency means twice the energy."""
    calibration = shipped_sheets()[1].calibrations[0]
    factor = energy_factor(calibration)
    halved = calibration.model_copy(update={"published": calibration.published / 2})
    assert energy_factor(halved) == pytest.approx(2 * factor)


def test_a_row_stationary_run_needs_convolutions(tmp_path: Path) -> None:
    """A network of linear layers has nothing to keep in rows."""
    run = "chip: eyeriss, workload: letters_mlp, model: row_stationary"
    path = written(tmp_path, old=f"chip: rapid_core, gemm: {GEMM}", new=run)
    with pytest.raises(InputError, match="workload 'letters_mlp' has no convolution to run"):
        compare_sheets([load_sheet(path)])


def test_several_chips_share_the_mini_batch(tmp_path: Path) -> None:
    """Four chips do four times what one does with a quarter, but for the exchange of gradients."""
    one = "chip: ibm_128core, workload: letters_mlp, recipe: fp16_dlfloat, batch: 64"
    text = SHEET.replace(f"chip: rapid_core, gemm: {GEMM}", one)
    four = text.replace("batch: 64", "batch: 256, chips: 4")
    single, shared = (compare_sheets([load_sheet(written(tmp_path, each))])[0].ours for each in (text, four))
    assert single < shared < 4 * single
    forward = one + ", phases: [forward]"
    text = text.replace(one, forward)
    four = text.replace("batch: 64", "batch: 256, chips: 4")
    single, shared = (compare_sheets([load_sheet(written(tmp_path, each))])[0].ours for each in (text, four))
    assert shared == pytest.approx(4 * single)


def test_a_measurement_may_have_its_own_memory(tmp_path: Path) -> None:
    """A product that waits for DRAM is twice as fast with twice its bandwidth, as the sheet says."""
    run = "chip: nvdla_2048, workload: alexnet_2012, layers: [fc1], work: inference, batch: 1"
    text = SHEET.replace(f"chip: rapid_core, gemm: {GEMM}", run)
    own = compare_sheets([load_sheet(written(tmp_path, text))])[0].ours
    (faster,) = compare_sheets(
        [load_sheet(written(tmp_path, text.replace("batch: 1", "batch: 1, dram_gb_per_s: 20")))]
    )
    assert faster.ours == pytest.approx(2 * own, rel=0.01)


def test_files_beside_a_sheet_are_found(tmp_path: Path) -> None:
    """A chip and a workload named by relative paths are those in the sheet's folder, wherever one stands."""
    for kind, name in (("arch_configs", "nvdla_64"), ("workloads", "letters_mlp")):
        text = find_resource(kind, name).read_text(encoding="utf-8")  # type: ignore[arg-type]
        (tmp_path / f"my_{name}.yaml").write_text(text, encoding="utf-8")
    run = "workload: letters_mlp, work: inference, batch: 8"
    shipped = SHEET.replace(f"chip: rapid_core, gemm: {GEMM}", f"chip: nvdla_64, {run}")
    own = shipped.replace("nvdla_64", "my_nvdla_64.yaml").replace("letters_mlp", "my_letters_mlp.yaml")
    first, second = (compare_sheets([load_sheet(written(tmp_path, text))])[0] for text in (shipped, own))
    assert first.ours == second.ours
    with pytest.raises(InputError, match=r"absent\.yaml: no such file"):
        compare_sheets([load_sheet(written(tmp_path, own.replace("my_nvdla_64", "absent")))])


def test_a_slower_clock_and_a_lower_voltage(tmp_path: Path) -> None:
    """Half the clock is half the speed; a voltage asks for the file's operating point."""
    half = written(tmp_path, old="chip: rapid_core,", new="chip: rapid_core, clock_mhz: 800,")
    (slow,) = compare_sheets([load_sheet(half)])
    (fast,) = compare_sheets([load_sheet(written(tmp_path))])
    assert 0.4 < slow.ours / fast.ours < 0.75
    lower = "chip: fp4_training, voltage_v: 0.6,"
    text = SHEET.replace("quantity: tops", "quantity: tops_per_w")
    values = [
        compare_sheets([load_sheet(written(tmp_path, text, "chip: rapid_core,", new))])[0].ours
        for new in (lower, "chip: fp4_training,")
    ]
    assert values[0] > values[1]


def test_the_folder_holds_table_and_picture(findings: list[Finding], tmp_path: Path) -> None:
    """Markdown names every figure, CSV reads back, and the picture is the same each time."""
    paths = write_validation(findings, tmp_path / "out", "accelsim validate")
    assert {path.name for path in paths} == {"table.md", "table.csv", "ratios.png", "ratios.svg"}
    assert all(path.stat().st_size for path in paths)
    text = table_markdown(findings, "accelsim validate")
    assert all(finding.label in text and finding.missing in text for finding in findings)
    rows = list(csv.DictReader(io.StringIO(table_csv(findings))))
    assert [float(row["ours"]) for row in rows] == [finding.ours for finding in findings]
    assert findings_picture(findings[:3]) == findings_picture(findings[:3])


def test_the_command_prints_the_table(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Table and notes, or JSON with full precision; with --out the folder."""
    path = str(written(tmp_path, SHEET + "    missing: the cooling\n"))
    assert main(["validate", path, "--out", str(tmp_path / "kept")]) == 0
    text = capsys.readouterr().out
    assert "predicted" in text
    assert "mine, speed, not followed: the cooling" in text
    assert (tmp_path / "kept" / "table.md").is_file()
    assert main(["validate", path, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert (row["label"], row["published_low"]) == ("speed", 50.0)


def test_cycles_by_convention_for_every_phase(capsys: pytest.CaptureFixture[str]) -> None:
    """Each GEMM in each dataflow, theirs and ours; phases add up; stonne knows one dataflow."""
    assert main(["cycles", "fp16_training", "letters_mlp", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    layers = [row for row in rows if row["layer"]]
    for total in (row for row in rows if not row["layer"]):
        for kind in ("convention_cycles", "our_cycles"):
            own = [row[kind] for row in layers if row["phase"] == total["phase"]]
            assert total[kind] == {name: sum(row[name] for row in own) for name in total[kind]}
    first = layers[0]
    folds = -(-first["m"] // 16) * -(-first["n"] // 16)
    assert first["convention_cycles"]["output_stationary"] == folds * (16 + 16 + first["k"] - 2)
    assert main(["cycles", "fp16_training", "letters_mlp", "--convention", "stonne"]) == 0
    text = capsys.readouterr().out
    assert "stonne OS" in text
    assert "stonne WS" not in text
    assert "all layers" in text


def test_cycles_of_a_recipe_the_chip_cannot_run_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    """The layer, the pair and what to change are named."""
    assert main(["cycles", "fp16_training", "letters_mlp", "--recipe", "ibm2020_fp4"]) == 2
    assert "chip 'fp16_training' has no mode that multiplies" in capsys.readouterr().err


def test_quantities_of_one_run_agree(tmp_path: Path) -> None:
    """Power times time is energy, efficiency is two over the picojoules of a MAC, and so on."""
    run = f"run: {{chip: rapid_core, mode: int4, gemm: {GEMM}}}"
    text = SHEET.replace(f"run: {{chip: rapid_core, gemm: {GEMM}}}", run)
    value = {}
    for name in QUANTITIES:
        if name not in ("speedup", "speedup_at_equal_area", "co2e_tonnes", "co2e_lb"):
            path = written(tmp_path, text, "quantity: tops", f"quantity: {name}")
            value[name] = compare_sheets([load_sheet(path)])[0].ours
    chip = load_chip("rapid_core")
    seconds = value["cycles"] / 1.6e9
    assert value["macs"] == 64**3
    assert value["latency_ms"] == pytest.approx(seconds * 1e3)
    assert value["samples_per_s"] == pytest.approx(64 / seconds)
    assert value["tops"] == pytest.approx(2 * 64**3 / seconds / 1e12)
    assert value["utilization"] == pytest.approx(value["tops"] / value["peak_tops"])
    assert value["energy_mj"] == pytest.approx(value["power_mw"] * seconds)
    assert value["energy_with_dram_mj"] == pytest.approx(value["power_with_dram_mw"] * seconds)
    assert value["tops_per_w"] == pytest.approx(2 / value["pj_per_mac"])
    assert value["tops_per_w_with_dram"] < value["tops_per_w"] < value["peak_tops_per_w"]
    assert value["samples_per_j"] == pytest.approx(64e3 / value["energy_mj"])
    assert value["dram_mb"] == pytest.approx(value["dram_bytes_per_mac"] * 64**3 / 1e6)
    assert value["ops_per_dram_byte"] == pytest.approx(2 / value["dram_bytes_per_mac"])
    assert value["array_latency_ms"] == pytest.approx(value["array_cycles"] / 1.6e6)
    moved_mb = (2 * 64 * 64 / 2 + 64 * 64 * 2) / 1e6
    assert value["scratchpad_mb"] >= 2 * moved_mb
    assert value["stream_cycles"] <= value["array_cycles"] <= value["cycles"]
    assert value["die_mm2"] == pytest.approx(chip_area(chip).die_mm2)
    assert value["peak_tops_per_mm2"] == pytest.approx(value["peak_tops"] / value["die_mm2"])
    assert value["peak_macs_per_dram_byte"] == pytest.approx(value["peak_tops"] / 2 / 0.3)


@pytest.mark.parametrize(
    ("name", "macs", "parameters"),
    [
        ("alexnet_2012", 724_406_816, 60_965_224),
        ("vgg16_imagenet", 15_470_264_320, 138_357_544),
        ("tpu_mlp0", 20_000_000, 20_000_000),
    ],
)
def test_workloads_of_the_sheets_have_their_published_size(name: str, macs: int, parameters: int) -> None:
    """Products of one sample's forward pass and trained parameters."""
    workload = load_workload(name).adjusted(batch=1)
    works = compile_program(workload, load_recipe("fp16_dlfloat")).works
    assert sum(work.macs for work in works if work.phase == "forward") == macs
    leaves = list(workload.network.leaves())
    held = [p for leaf in leaves for p in leaf.layer.parameters(leaf.site).values() if p.trained]
    assert sum(parameter.elements for parameter in held) == parameters
