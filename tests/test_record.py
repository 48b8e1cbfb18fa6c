"""Run records: what is written comes back, and what is not a record says so in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError
from sample_records import FP16, sample_record

from accelsim.errors import InputError
from accelsim.record import COMPONENTS, EnergyRecord, read_record, record_text


def _written(tmp_path: Path, change: Any = None) -> Path:
    data = json.loads(record_text(sample_record()))
    if change:
        change(data)
    path = tmp_path / "record.json"
    path.write_text(json.dumps(data), encoding="utf-8")
    return path


def _refusal(path: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_record(path)
    text = str(caught.value)
    assert "\n" not in text
    assert text.startswith(str(path))
    return text.removeprefix(str(path))


@pytest.mark.parametrize("record", [sample_record(), sample_record(FP16), sample_record(trained=False)])
def test_a_record_survives_json(record: Any, tmp_path: Path) -> None:
    """Reading back what was written gives an equal record and the same text again."""
    path = tmp_path / "record.json"
    path.write_text(record_text(record), encoding="utf-8")
    assert read_record(path) == record
    assert record_text(read_record(path)) == record_text(record)


def test_text_is_sorted_json_with_the_schema_in_it() -> None:
    """The text is plain JSON, keys sorted, one line end at the end, schema named."""
    text = record_text(sample_record())
    data = json.loads(text)
    assert data["schema"] == "accelsim.run/1"
    assert list(data) == sorted(data)
    assert text.endswith("}\n")


def test_large_energies_stay_exact(tmp_path: Path) -> None:
    """Energies beyond 2^53 attojoules come back to the last digit."""
    huge = 2**70 + 1

    def grow(data: Any) -> None:
        layer = data["cost"]["layers"][0]["energy_aj"]
        data["cost"]["step_energy_aj"]["dram"] += huge - layer["dram"]
        layer["dram"] = huge

    assert read_record(_written(tmp_path, grow)).cost.layers[0].energy_aj.dram == huge


def test_a_loss_that_is_not_finite_is_stored_as_null(tmp_path: Path) -> None:
    """A diverged run still gives valid JSON: NaN and infinity become null."""
    record = sample_record()
    data = record.model_dump()
    data["training"]["epochs"][0]["train_loss"] = float("nan")
    data["training"]["epochs"][0]["test_loss"] = float("inf")
    diverged = type(record).model_validate(data)
    assert diverged.training is not None
    assert diverged.training.epochs[0].train_loss is None
    assert '"test_loss": null' in record_text(diverged)


def test_energy_total_is_the_sum_of_the_components() -> None:
    """The total of an energy record is the exact sum over all components."""
    energy = EnergyRecord(
        mac=1, operand_buffer=10, scratchpad=100, dram=1000, vector_unit=10_000, static=100_000, link=7
    )
    assert energy.total_aj == 111_118
    assert [energy.of(component) for component in COMPONENTS] == [1, 10, 100, 1000, 10_000, 100_000, 0, 7]


def test_records_are_frozen() -> None:
    """Nobody changes a record after its birth."""
    with pytest.raises(ValidationError, match="frozen"):
        sample_record().batch = 1


def test_missing_file_is_named(tmp_path: Path) -> None:
    """A record that is not there gives one line with its path."""
    assert _refusal(tmp_path / "none.json") == ": cannot read the record: No such file or directory"


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"schema": 1,\n "a": }', ":2:7: not an accelsim run record (bad JSON: Expecting value)"),
        (b"", ":1:1: not an accelsim run record (bad JSON: Expecting value)"),
        (b"\xff\xfe", ": not an accelsim run record (not UTF-8 text)"),
        (b"[" * 10**5, ": not an accelsim run record (nested too deep, or a number too long)"),
        (b"9" * 5000, ": not an accelsim run record (nested too deep, or a number too long)"),
        (b"[1, 2]", ": not an accelsim run record (no key 'schema')"),
        (b'{"chip": "x"}', ": not an accelsim run record (no key 'schema')"),
        (b'{"schema": "x/9"}', ": schema: this version reads 'accelsim.run/1', got 'x/9'"),
    ],
)  # fmt: skip
def test_what_is_not_a_record_says_so(content: bytes, message: str, tmp_path: Path) -> None:
    """Other files, broken JSON and other schemas are refused with the reason."""
    path = tmp_path / "record.json"
    path.write_bytes(content)
    assert _refusal(path) == message


def _rename(data: Any) -> None:
    data["cost"]["layers"][3]["array_cycle"] = data["cost"]["layers"][3].pop("array_cycles")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda data: data.pop("seed"), ": seed: missing key"),
        (lambda data: data.update(colour="red"), ": unknown key 'colour'"),
        (_rename, ": unknown key 'cost.layers.3.array_cycle' (did you mean 'array_cycles'?)"),
        (
            lambda data: data["cost"]["layers"][2].update(bound="luck"),
            ": cost.layers.2.bound: input should be 'array', 'dram', 'scratchpad', 'vector' or 'link', "
            'got "luck"',
        ),
        (
            lambda data: data["cost"]["layers"][2].update(macs=1.5),
            ": cost.layers.2.macs: input should be a valid integer, got 1.5",
        ),
        (lambda data: data.update(batch=0), ": batch: input should be greater than 0, got 0"),
    ],
)
def test_mistakes_in_a_record_name_the_key(change: Any, message: str, tmp_path: Path) -> None:
    """Missing, unknown, misspelt, mistyped and out-of-range values are told with their key path."""
    assert _refusal(_written(tmp_path, change)) == message


def test_totals_must_be_sums(tmp_path: Path) -> None:
    """A record whose step is not the sum of its layers does not load: cycles and each energy component."""
    cycles = json.loads(record_text(sample_record()))["cost"]["step_cycles"]
    refusal = _refusal(_written(tmp_path, lambda data: data["cost"].update(step_cycles=cycles + 1)))
    assert refusal == f": cost: step_cycles is {cycles + 1} but the layers add up to {cycles}"
    energy = json.loads(record_text(sample_record()))["cost"]["step_energy_aj"]["static"]
    refusal = _refusal(
        _written(tmp_path, lambda data: data["cost"]["step_energy_aj"].update(static=energy - 1))
    )
    assert refusal == f": cost: step_energy_aj.static is {energy - 1} but the layers add up to {energy}"


def test_a_layer_has_one_row_a_phase(tmp_path: Path) -> None:
    """A record with two rows of the same layer and phase does not load, because tables would lose one."""
    refusal = _refusal(_written(tmp_path, lambda data: data["cost"]["layers"][1].update(layer="conv1")))
    assert refusal == ": cost: layers holds 'conv1' forward twice: one row a layer and phase"


def test_a_step_must_cost_energy(tmp_path: Path) -> None:
    """A record without any energy does not load, because every ratio of it would divide by zero."""

    def drain(data: Any) -> None:
        for energy in [data["cost"]["step_energy_aj"], *(row["energy_aj"] for row in data["cost"]["layers"])]:
            energy.update(dict.fromkeys(energy, 0))

    expected = ": cost: step_energy_aj is zero in every component: a step must cost energy"
    assert _refusal(_written(tmp_path, drain)) == expected


def test_kind_and_history_agree(tmp_path: Path) -> None:
    """A training run holds a history and an estimate holds none."""
    lost = _refusal(_written(tmp_path, lambda data: data.update(training=None)))
    assert lost == ": kind is 'train' but the record holds no training history"
    extra = _refusal(_written(tmp_path, lambda data: data.update(kind="estimate")))
    assert extra == ": kind is 'estimate' but the record holds a training history"


def test_reading_records_and_tables_imports_no_drawing_library() -> None:
    """Records and the whole report package import without matplotlib, jinja2 or numba."""
    code = (
        "import sys, accelsim.record, accelsim.report;"
        "print(sorted({'matplotlib', 'jinja2', 'numba', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
