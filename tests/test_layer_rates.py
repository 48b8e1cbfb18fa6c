"""Layers in the units of published measurements: ms, TOPS, mW, TOPS/W, MB, operations per byte."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pytest
from click.testing import CliRunner
from sample_records import sample_pair

from accelsim import api
from accelsim.cli import main as shell
from accelsim.report.layer_rates import layer_rates, peaks, rates_csv
from accelsim.storage import find_resource


def test_rates_follow_from_the_counts() -> None:
    """Time is cycles over clock, power energy over time, speed two operations a MAC over time."""
    record = sample_pair()[0]
    rows = {(row.layer, row.phase): row for row in layer_rates(record)}
    for layer in (layer for layer in record.cost.layers if layer.total_cycles):
        row = rows[layer.layer, layer.phase]
        seconds = layer.total_cycles / record.cost.clock_mhz / 1e6
        assert row.total_ms == pytest.approx(seconds * 1e3)
        joules = (row.chip_mw + row.dram_mw) / 1e3 * seconds
        assert joules == pytest.approx(layer.energy_aj.total_aj * 1e-18)
        assert row.tops == pytest.approx(2 * layer.macs / seconds / 1e12)
        if layer.macs:
            assert row.tops_per_w == pytest.approx(row.tops / (row.chip_mw + row.dram_mw) * 1e3)
            assert row.tops_per_w_chip == pytest.approx(row.tops / row.chip_mw * 1e3)
        moved_mb = row.dram_read_mb + row.dram_write_mb
        assert moved_mb * 1e6 == pytest.approx(layer.dram_read_bytes + layer.dram_write_bytes)
        assert (row.ops_per_dram_byte is None) == (moved_mb == 0)


def test_the_step_is_the_sum_of_its_layers() -> None:
    """Times, MACs and bytes of the last line are sums; every phase has a line where there are several."""
    record = sample_pair()[0]
    rows = layer_rates(record)
    layers = [row for row in rows if row.layer != "all layers"]
    step = rows[-1]
    assert step.total_ms == pytest.approx(sum(row.total_ms for row in layers))
    assert step.macs == sum(layer.macs for layer in record.cost.layers)
    assert step.total_ms == pytest.approx(record.cost.step_cycles / record.cost.clock_mhz / 1e3)
    phases = [row.phase for row in rows if row.layer == "all layers"]
    assert phases == ["forward", "backward", "update", ""]


def test_the_csv_holds_every_line_of_both_chips() -> None:
    """Columns carry their units; what is over nothing is empty."""
    records = sample_pair()
    lines = list(csv.DictReader(io.StringIO(rates_csv(records))))
    assert len(lines) == sum(len(layer_rates(record)) for record in records)
    assert {line["chip"] for line in lines} == {record.chip.name for record in records}
    first = layer_rates(records[0])[0]
    assert float(lines[0]["total_ms"]) == first.total_ms
    assert lines[0]["phase"] == first.phase


def test_the_command_shows_and_writes_rates(tmp_path: Path) -> None:
    """`--rates` replaces the table of layers, `--csv` writes the same numbers."""
    path = tmp_path / "deep" / "rates.csv"
    options = ["estimate", "fp4_training", "letters_mlp", "--rates", "--csv", str(path)]
    result = CliRunner().invoke(shell.cli, options)
    assert result.exit_code == 0
    assert "TOPS/W chip" in result.output
    assert "ops/byte" in result.output
    assert f"Rates: {path}" in result.output
    rows = list(csv.DictReader(path.open(encoding="utf-8")))
    record = api.estimate("fp4_training", "letters_mlp")
    assert float(rows[-1]["total_ms"]) == pytest.approx(record.cost.step_cycles / record.cost.clock_mhz / 1e3)
    peak = result.output.split("Peak in mode int4_forward: ")[1]
    assert peak.startswith("22.528 TOPS, ridge 75.09 ops/byte.")


def test_the_ridge_is_peak_over_bandwidth() -> None:
    """Operations a second over bytes a second, for every mode of the chip."""
    record = api.estimate("tpu_v1", "tpu_mlp0")
    ((mode, tops, ridge),) = peaks(record)
    assert mode == "int8"
    assert tops == pytest.approx(2 * 256 * 256 * 700e6 / 1e12)
    assert ridge == pytest.approx(2 * 256 * 256 * 700e6 / 34e9)


def test_a_chip_may_have_less_than_a_gibibyte(tmp_path: Path) -> None:
    """DRAM of a small device is a fraction of a GiB, and so many bytes are in the record."""
    text = find_resource("arch_configs", "nvdla_64").read_text(encoding="utf-8")
    path = tmp_path / "small.yaml"
    path.write_text(text.replace("capacity_gib: 4", "capacity_gib: 0.25"), encoding="utf-8")
    assert api.estimate(path, "letters_mlp").cost.memory.dram_capacity_bytes == 2**28
