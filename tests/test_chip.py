"""Chips: the shipped ones are what they claim, and an impossible one is refused with its place."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import yaml

from accelsim.chip import Chip, load_chip
from accelsim.errors import InputError
from accelsim.storage import resource_dir, shipped

TEXT = (resource_dir("arch_configs") / "fp4_training.yaml").read_text(encoding="utf-8")
PAIRS = [("fp4_training", "fp16_training"), ("edge_fp4", "edge_fp16")]


def edited(tmp_path: Path, old: str, new: str) -> Path:
    """The shipped 4-bit chip with the first occurrence of a text replaced, as chip.yaml."""
    assert old in TEXT
    path = tmp_path / "chip.yaml"
    path.write_text(TEXT.replace(old, new, 1), encoding="utf-8")
    return path


def complaint(tmp_path: Path, old: str, new: str) -> tuple[str, str, str]:
    """(the line of chip.yaml that the error points at, its column's text, the message)."""
    path = edited(tmp_path, old, new)
    with pytest.raises(InputError) as caught:
        load_chip(path)
    name, line, column, message = str(caught.value).split(":", 3)
    assert name == str(path)
    assert message.isprintable()
    text = path.read_text(encoding="utf-8").splitlines()[int(line) - 1]
    return text, text[int(column) - 1 :], message.strip()


def mac_array_mm2(chip: Chip) -> float:
    """Silicon of all PEs, in mm2."""
    array = chip.array
    return chip.workers * array.rows * array.cols * array.area_um2_per_pe.value / 1e6


@pytest.mark.parametrize("name", shipped("arch_configs"))
def test_a_shipped_chip_loads_under_its_own_name(name: str) -> None:
    """File name and chip name agree, the chip keeps its text, and it can be a dictionary key."""
    chip = load_chip(name)
    assert chip.name == name
    assert chip.source_name == f"{name}.yaml"
    assert yaml.safe_load(chip.source_text)["name"] == name
    assert {chip: 1}[load_chip(name)] == 1


def test_the_shipped_chips_are_there() -> None:
    """The set that the documentation names."""
    pairs = {"edge_fp16", "edge_fp4", "fp16_training", "fp4_training"}
    published = {"rapid_core", "gupta2015", "tpu_v1", "nvdla_2048", "eyeriss", "ibm_128core", "sun2020_units"}
    assert pairs | published <= set(shipped("arch_configs"))


def test_peaks_of_the_published_chip_are_exact() -> None:
    """RaPiD (ISCA 2021) at 1.6 GHz: 13.1 FP16, 26.2 FP8 and 104.9 INT4 tera-operations per second."""
    chip = load_chip("rapid_core")
    peaks = {mode.name: chip.peak_tops(mode) for mode in chip.array.modes}
    assert peaks == {"fp16": 13.1072, "hfp8": 26.2144, "int4": 104.8576}


@pytest.mark.parametrize(("four_bit", "sixteen_bit"), PAIRS)
def test_a_pair_differs_in_its_array_only(four_bit: str, sixteen_bit: str) -> None:
    """Clock, cores, memories, vector unit and static power are the same, text for text."""
    one, two = (yaml.safe_load(load_chip(name).source_text) for name in (four_bit, sixteen_bit))
    different = {key for key in one if one[key] != two[key]}
    assert different == {"name", "description", "recipe", "array"}
    assert {key for key in one["array"] if one["array"][key] != two["array"][key]} == {
        "rows",
        "cols",
        "area_um2_per_pe",
        "modes",
    }


@pytest.mark.parametrize(("four_bit", "sixteen_bit"), PAIRS)
def test_a_pair_takes_the_same_silicon(four_bit: str, sixteen_bit: str) -> None:
    """The two MAC arrays are within 2 % in area."""
    assert mac_array_mm2(load_chip(four_bit)) == pytest.approx(
        mac_array_mm2(load_chip(sixteen_bit)), rel=0.02
    )


def test_derived_figures_are_what_their_sources_say() -> None:
    """The PE area, the energy ratios, the SRAM line and the HBM middle are recomputed."""
    chip = load_chip("fp4_training")
    forward, gradient, half = chip.array.modes
    assert chip.array.area_um2_per_pe.value == 93 + 21 * 16 + (173 - 93)
    assert forward.energy_pj_per_mac.value == pytest.approx(0.50 / 7.65, abs=5e-5)
    assert gradient.energy_pj_per_mac.value == pytest.approx(0.50 / 7.1, abs=5e-5)
    assert half.energy_pj_per_mac.value == 0.34 + 0.16
    assert chip.dram.read_energy_pj_per_bit.value == pytest.approx(350 / 64, abs=5e-3)
    for name in ("fp4_training", "edge_fp4", "rapid_core"):
        pad = load_chip(name).scratchpad
        slope = (14 - 8.5) / (1024**0.5 - 32**0.5)
        expected = (14 + slope * (pad.capacity_kib**0.5 - 1024**0.5)) / 8
        assert pad.read_energy_pj_per_byte.value == pytest.approx(expected, abs=0.006)


def test_the_published_die_adds_up_to_36_mm2() -> None:
    """RaPiD's arrays, vector units, scratchpads and the rest are its 36 mm2."""
    chip = load_chip("rapid_core")
    vector = chip.workers * chip.vector_unit.area_mm2.value
    pads = chip.cores * chip.scratchpad.area_mm2.value
    assert mac_array_mm2(chip) + vector + pads + chip.other_area_mm2.value == pytest.approx(36, abs=0.1)


@pytest.mark.parametrize("name", ["edge_fp4", "edge_fp16"])
def test_an_edge_chip_stays_under_two_watts(name: str) -> None:
    """Every unit busy at once, at its dearest operation, and memory at full bandwidth: under 2 W."""
    chip = load_chip(name)
    array, pad, vector = chip.array, chip.scratchpad, chip.vector_unit
    macs = max(chip.macs_per_cycle(mode) * mode.energy_pj_per_mac.value for mode in array.modes)
    edge_bytes = chip.workers * 2 * (array.rows * max(mode.lanes for mode in array.modes) + array.output_cols)
    per_cycle_pj = (
        macs
        + edge_bytes * chip.operand_buffer.energy_pj_per_byte.value
        + chip.cores * pad.bandwidth_bytes_per_cycle * pad.write_energy_pj_per_byte.value
        + chip.workers * vector.lanes * vector.energy_pj_per_operation.multiply.value
    )
    dram_w = chip.dram.bandwidth_gb_per_s.value * 8 * chip.dram.write_energy_pj_per_bit.value / 1e3
    assert per_cycle_pj * chip.clock_mhz.value / 1e6 + dram_w + chip.static_power_mw.value / 1e3 < 2


def test_modes_take_pairs_in_either_order_and_nothing_else() -> None:
    """An operand pair is unordered; a pair that no mode has is None."""
    array = load_chip("fp4_training").array
    assert array.mode_for("fp4_r4_odd", "int4") is array.mode_for("int4", "fp4_r4_odd") is array.modes[1]
    assert array.mode_for("fp4_r4_odd", "fp4_r4_odd") is None


def test_every_number_with_a_source_is_listed() -> None:
    """The rows of the report's source table: key, value, unit, source, evidence."""
    chip = load_chip("fp4_training")
    rows = {row["key"]: row for row in chip.sources()}
    assert len(rows) == TEXT.count("evidence:")
    assert rows["clock_mhz"]["unit"] == "MHz"
    assert rows["array.modes[1].energy_pj_per_mac"]["unit"] == "pJ/MAC"
    assert rows["vector_unit.energy_pj_per_operation.special"]["unit"] == "pJ/operation"
    assert {row["evidence"] for row in rows.values()} <= {"published", "measured", "derived", "estimated"}
    assert rows["dram.bandwidth_gb_per_s"] == {
        "key": "dram.bandwidth_gb_per_s",
        "value": 300.0,
        "unit": "GB/s",
        "source": chip.dram.bandwidth_gb_per_s.source,
        "evidence": "derived",
    }


@pytest.mark.parametrize(
    ("old", "new", "at", "message"),
    [
        ("  rows: 8\n", "  rows: 0\n", "rows: 0", "array.rows: must be at least 1, got 0"),
        ("  rows: 8\n", "", "array:", "array: missing key 'rows'"),
        (
            "  rows: 8\n",
            "  row: 8\n",
            "row: 8",
            "unknown key 'row' in array (did you mean 'rows'?); allowed: rows,",
        ),
        (
            "clock_mhz:",
            "clock_ghz:",
            "clock_ghz:",
            "unknown key 'clock_ghz': give this value in MHz, as 'clock_mhz'",
        ),
        (
            "  value: 1000\n",
            "  value: 1 GHz\n",
            "value: 1",
            "clock_mhz.value: must be a number, got '1 GHz'; write the",
        ),
        ("value: 1000", "value: -1", "value: -1", "clock_mhz.value: must be above 0, got -1"),
        (
            "value: 0.0654",
            "value: -0.1",
            "value: -0.1",
            "array.modes[0].energy_pj_per_mac.value: must be above 0",
        ),
        (
            "  evidence: estimated\n",
            "",
            "clock_mhz:",
            "clock_mhz: missing key 'evidence' (published, measured,",
        ),
        (
            "evidence: estimated",
            "evidence: guess",
            "evidence: guess",
            "must be one of published, measured, derived",
        ),
        (
            "name: fp4_training",
            "name: FP4 chip",
            "name: FP4",
            "name: must be made of a-z, 0-9 and _, got 'FP4 chip'",
        ),
        (
            "output_stationary,",
            "weight_stationary,",
            "weight_stationary, input",
            "array.dataflows[1]: 'weight_stationary' is listed twice",
        ),
        (
            "[int4, int4]",
            "[int4, int9]",
            "int9]",
            "array.modes[0].operands[0][1]: unknown number format 'int9' (did you mean",
        ),
        (
            "[uint4, int4]]",
            "[uint4, int4], [int4, uint4]]",
            "[int4, uint4]]",
            "array.modes[0].operands[2]: mode 'int4_forward' multiplies int4 x uint4 already",
        ),
        (
            "[[dlfloat16, dlfloat16]]",
            "[[int4, int4]]",
            "[int4, int4]]",
            "array.modes[2].operands[0]: mode 'int4_forward' multiplies int4 x int4 already",
        ),
        (
            "name: fp16\n",
            "name: int4_forward\n",
            "name: int4",
            "another mode is named 'int4_forward' already",
        ),
        (
            "output_chunk: 64",
            "output_chunk: 40",
            "output_chunk",
            "must be a multiple of the 16 lanes of mode 'int4_f",
        ),
        (
            "capacity_kib: 2048",
            "capacity_kib: 10",
            "capacity_kib",
            "scratchpad.capacity_kib: must be at least 11 to hold two 16-bit tiles of 128 x 11 for each of "
            "2 corelets, got 10",
        ),
    ],
)
def test_an_impossible_chip_is_refused_at_its_place(
    tmp_path: Path, old: str, new: str, at: str, message: str
) -> None:
    """Each mistake points at the very key or item and says what is allowed and what was given."""
    _, pointed, said = complaint(tmp_path, old, new)
    assert pointed.startswith(at)
    assert message in said


def test_an_array_without_modes_is_refused(tmp_path: Path) -> None:
    """A chip that multiplies nothing is an error at `modes`."""
    start, end = TEXT.index("  modes:\n"), TEXT.index("scratchpad:")
    _, pointed, said = complaint(tmp_path, TEXT[start:end], "  modes: []\n")
    assert pointed == "modes: []"
    assert said == "array.modes: must have at least 1 item(s), got 0"


def test_the_whole_of_k_may_be_one_chunk(tmp_path: Path) -> None:
    """`output_chunk: null`, or no such key, means one drained sum per output."""
    assert load_chip(edited(tmp_path, "output_chunk: 64", "output_chunk: null")).array.output_chunk is None


def test_mangled_chips_never_escape_as_another_error(tmp_path: Path) -> None:
    """Lines deleted, doubled, cut, retyped and re-indented at random: a chip, or one printable line."""
    rng = random.Random(1)
    junk = ["-1", "true", "null", "[]", "{}", "1e3", "'x'", ".nan", "*a", "&a 1", "9" * 50, "\t", "- a", ": "]
    lines = TEXT.splitlines()
    for _ in range(150):
        mangled = list(lines)
        for _ in range(rng.randint(1, 2)):
            at = rng.randrange(len(mangled))
            line = mangled[at]
            change = [
                [],
                [line, line],
                [line[: len(line) // 2]],
                [line.split(":")[0] + ": " + rng.choice(junk)],
                ["  " + line],
            ]
            mangled[at : at + 1] = rng.choice(change)
        path = tmp_path / "chip.yaml"
        path.write_text("\n".join(mangled), encoding="utf-8")
        refusal = f"{path}:"
        try:
            load_chip(path)
        except InputError as error:
            refusal = str(error)
        assert refusal.isprintable()
        assert refusal.startswith(f"{path}:")


def test_a_quantity_that_is_almost_zero_is_refused(tmp_path: Path) -> None:
    """What a duration is divided by must leave a duration that a float holds."""
    path = edited(tmp_path, "value: 1000", "value: 1e-300")
    with pytest.raises(InputError, match=r"clock_mhz\.value: must be at least 1e-9, got 1e-300"):
        load_chip(path)


def test_a_recipe_beside_the_chip_is_found(tmp_path: Path) -> None:
    """A relative path counts from the chip's file, wherever one stands; a shipped name stays a name."""
    (tmp_path / "own.yaml").write_text("name: own", encoding="utf-8")
    path = tmp_path / "chip.yaml"
    path.write_text(TEXT.replace("recipe: ibm2020_fp4", "recipe: own.yaml"), encoding="utf-8")
    assert load_chip(path).recipe == str(tmp_path / "own.yaml")
    path.write_text(TEXT, encoding="utf-8")
    assert load_chip(path).recipe == "ibm2020_fp4"
