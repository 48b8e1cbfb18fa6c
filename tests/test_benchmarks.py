"""``make bench``: the table's structure, what is counted, and that a quick run goes through."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from accelsim.datapath.vector_unit import ChipVectorUnit
from accelsim.numerics import accumulate
from accelsim.numerics.accumulate import Matrix
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.formats import number_format
from benchmarks import __main__ as bench
from benchmarks import certificates, elements, networks, peers, portable, products, shares
from benchmarks.limits import limit_of
from benchmarks.measuring import FULL, QUICK, Row, cpu_seconds, wall_seconds
from benchmarks.networks import HEADS, RESNET_18, TRANSFORMER_BLOCK, Convolution, Linear
from benchmarks.table import SECTIONS, cells, cpu_model, environment, json_text, markdown, summary, text_line

ROOT = Path(__file__).resolve().parent.parent
NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.fixture
def instant(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every measurement takes a millisecond and computes nothing."""
    for module in (products, networks, elements, peers):
        for name in ("cpu_seconds", "wall_seconds"):
            if hasattr(module, name):
                monkeypatch.setattr(module, name, lambda work, repeats: 1e-3)
    monkeypatch.setattr(products.Case, "run", lambda *operands: (None, "kernel"))
    monkeypatch.setattr(products.Case, "tensor", lambda case, role, shape: np.zeros((1, 1)))
    monkeypatch.setattr(products.Float32, "tensor", lambda floats, role, shape: np.zeros((1, 1)))
    monkeypatch.setattr(products, "set_threads", lambda count: count)
    monkeypatch.setattr(peers, "multiply", lambda *operands: (None, "kernel"))


@pytest.mark.parametrize(
    ("target", "target_of", "verdict"),
    [
        (2.0, "ratio", "met"),
        (2.1, "ratio", "missed"),
        (5.0, "value", "met"),
        (4.9, "value", "missed"),
        (None, "ratio", ""),
    ],
)
def test_a_verdict_follows_from_ratio_or_value(target: Any, target_of: Any, verdict: str) -> None:
    """Ratios are to be at least, values at most, what is wanted."""
    row = Row("products", "case", "shape", 5.0, "ns/MAC", 2.0, "numpy", target, target_of)
    assert row.verdict == verdict
    assert Row("products", "case", "shape", None, "", None, "", target, target_of).verdict == ""


def test_every_target_of_the_project_stands_in_the_table(instant: None) -> None:
    """Squares: each rule on each operand pair with its target, on both sizes, beside the yardstick."""
    rows = list(products.square_rows(FULL))
    for extent in (256, 1024):
        targets = {row.case: row.target for row in rows if row.shape == f"{extent}^3"}
        assert targets == {
            "numpy float32": None,
            "INT4 x INT4, one rounding per 64": 2.0,
            "INT4 x FP4, one rounding per 64": 1.2,
            "INT4 x INT4, one rounding per 8": 0.6,
            "INT4 x FP4, one rounding per 8": 0.6,
            "INT4 x INT4, a rounding at every add": 0.4,
            "INT4 x FP4, a rounding at every add": 0.4,
            "16 bits (dlfloat16), a rounding at every add": 0.3,
            "16 bits (fp16), a rounding at every add": 0.3,
        }
    rules = {case.name: (case.rule.lanes, case.rule.chunk) for case in products.CASES}
    assert rules["4 bits, one rounding per 64"] == (64, products.WHOLE_K)
    assert rules["4 bits, one rounding per 8"][0] == 8
    assert {rule[0] for name, rule in rules.items() if "every add" in name} == {1}


def test_certificates_are_measured_on_kind_and_unkind_operands(monkeypatch: pytest.MonkeyPatch) -> None:
    """Uniform, rectified and largest codes, and what a network multiplies in training, if trained at all."""
    pair = certificates._uniform(4)
    monkeypatch.setattr(certificates, "cpu_seconds", lambda work, repeats: 1e-3)
    monkeypatch.setattr(certificates, "forward_operands", lambda chip, workload, steps: [pair, pair])
    rows = list(certificates.certificate_rows(replace(QUICK, training=True)))
    assert {row.target for row in rows} == {1.0, None}
    assert {row.section for row in rows} == {"certificates"}
    assert [row.shape for row in rows[-2:]] == ["2 products"] * 2
    assert [row.ratio for row in rows] == pytest.approx([1.0] * len(rows))
    assert not (certificates._rectified(40)[0].array > 15).any()
    quick = list(certificates.certificate_rows(QUICK))
    assert [row.case for row in quick] == [row.case for row in rows[:-2]]
    row = Row("certificates", "uniform", "9", 1.0, "ns/MAC", 0.9, "numpy float32", 1.0)
    assert "one by one" in limit_of(row)


def test_operands_of_training_are_those_of_its_last_step(monkeypatch: pytest.MonkeyPatch) -> None:
    """Products of integers of 4 bits alone, and none of the steps before."""
    pair = certificates._uniform(4)
    gradient = Matrix(pair[0].array, number_format("fp4_r4_odd"))
    rule = Accumulation(1, 64, "dlfloat16")

    def probe(chip: Any, workload: Any, *, steps: int, threads: int, progress: Any) -> None:
        for step in range(1, steps + 1):
            certificates.split_k.multiply(rule, *pair)
            certificates.split_k.multiply(rule, pair[0], gradient)
            progress(f"step {step} of {steps}: loss 1.0, 0.1 s")

    monkeypatch.setattr(certificates.api, "probe", probe)
    ((left, right),) = certificates.forward_operands("chip", "workload", 11)
    np.testing.assert_array_equal(left.array, pair[0].array)
    assert right.format.name == "int4"


def test_threads_are_compared_where_there_are_two(instant: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two threads are to be 1.8 times as fast; one core is said, not measured."""
    assert {row.target for row in products.thread_rows(FULL)} == {1.8}
    monkeypatch.setattr(products, "set_threads", lambda count: 1)
    assert {row.note for row in products.thread_rows(FULL)} == {"this machine has one core"}


def test_networks_have_all_phases_and_their_true_size(instant: None) -> None:
    """ResNet-18 has the 1.814 G products of its paper's network, BERT-base's block its own."""
    rows = list(networks.network_rows(FULL))
    shapes = [f"{name}, {phase}" for name in ("ResNet-18", "transformer block") for phase in networks.PHASES]
    assert list(dict.fromkeys(row.shape for row in rows)) == shapes
    assert len(rows) == len(shapes) * (1 + len(products.CASES))
    wanted = {row.shape: row.target for row in rows if row.case == "4 bits, one rounding per 64"}
    assert [wanted[shape] for shape in shapes] == 2 * [2.0, 1.2, 1.2]
    assert sum(
        layer.times * layer.macs("forward", 1) for layer in RESNET_18 if isinstance(layer, Convolution)
    ) == (1_813_561_344)
    block = sum(layer.times * layer.macs("update", 1) for layer in (*TRANSFORMER_BLOCK, *HEADS))
    assert block == 128 * 12 * 768**2 + 2 * 12 * 128 * 128 * 64


class Counting:
    """An arithmetic that multiplies nothing and counts the products asked for."""

    def __init__(self) -> None:
        self.macs = 0

    def tensor(self, role: str, shape: tuple[int, ...]) -> Any:
        return np.zeros(shape, np.uint8)

    def product(self, a: Any, b: Any, roles: tuple[str, str]) -> Any:
        (m, k), n = a.shape, b.shape[1]
        assert b.shape[0] == k
        self.macs += m * k * n
        return a


@pytest.mark.parametrize("phase", ["forward", "update", "backward"])
@pytest.mark.parametrize(
    "layer",
    [
        Convolution(2, 3, 3, 1, 1, 6),
        Convolution(2, 3, 1, 2, 0, 6),
        Convolution(3, 4, 3, 2, 1, 8),
        Linear(5, 6, 7),
    ],
)
def test_jobs_multiply_what_is_counted(layer: Any, phase: Any) -> None:
    """The operands fit together, and the products are those of the count (at the border a few more)."""
    arithmetic = Counting()
    layer.job(phase, 2, arithmetic)()
    counted = layer.macs(phase, 2)
    exact = phase != "backward" or layer == Linear(5, 6, 7) or layer.kernel == layer.stride
    assert arithmetic.macs == counted if exact else counted <= arithmetic.macs <= 1.2 * counted


def test_peers_that_are_missing_or_fail_are_said(instant: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """A peer that is not there, cannot be imported or breaks gets a word each, and the table goes on."""

    def found(name: str) -> Any:
        if name == "gfloat":
            raise ModuleNotFoundError(name)
        if name == "pychop":
            raise ImportError("no library")
        return SimpleNamespace()

    monkeypatch.setattr(peers, "PACKAGES", {"gfloat": "gfloat", "pychop": "pychop", "ml_dtypes": "ml_dtypes"})
    monkeypatch.setattr(peers, "importlib", SimpleNamespace(import_module=found))

    def call(work: Any, repeats: int) -> float:
        work()
        return 1e-3

    jobs = [
        peers.Job("ml_dtypes", peers.E4M3, "how", lambda: None),
        peers.Job("ml_dtypes", peers.HALF, "how", lambda: 1 / 0),
    ]
    monkeypatch.setattr(peers, "_JOBS", {"ml_dtypes": lambda *given: jobs})
    monkeypatch.setattr(peers, "cpu_seconds", call)
    rows = {row.case: row for row in peers.peer_rows(QUICK)}
    assert "gfloat: skipped, not installed" in rows
    assert "pychop: skipped, cannot be imported: no library" in rows
    assert rows[f"ml_dtypes: {peers.HALF}"].note == "failed: ZeroDivisionError: division by zero"
    assert rows[f"ml_dtypes: {peers.E4M3}"].ratio is not None


def test_markdown_and_json_hold_every_row() -> None:
    """Machine, versions, command and date stand above; each section has its table; bars are escaped."""
    rows = [
        Row("products", "a case", "4^3", 0.5, "ns/MAC", 2.5, "numpy float32", 2.0, note="i8_exact"),
        Row("elements", "sums of |x|", "9", 0.75, "ns/element", None, "", 0.5, "value"),
    ]
    facts = environment("python -m benchmarks", NOW, quick=False)
    text = markdown(facts, rows)
    assert "2026-01-02T03:04:05+00:00, `python -m benchmarks`" in text
    assert f"numpy {np.__version__}" in text
    assert "1 of 2 targets met.\n" in text
    assert f"## {SECTIONS['products']}" in text
    assert f"## {SECTIONS['peers']}" not in text
    assert "| a case | 4^3 | 0.5 ns/MAC | 2.5 x numpy float32 | >= 2 x | met | i8_exact |" in text
    assert r"| sums of \|x\| | 9 | 0.75 ns/element |  | <= 0.5 ns/element | missed |  |" in text
    found = json.loads(json_text(facts, rows))
    assert [row["verdict"] for row in found["rows"]] == ["met", "missed"]
    assert found["schema"] == "accelsim.bench/1"
    assert summary([]) == "0 of 0 targets met"
    assert text_line(rows[0]).split() == " ".join(cells(rows[0])).split()


def test_a_missed_target_says_what_limits_it() -> None:
    """The sentence stands below the table of its section, and only where a target is missed."""
    missed = Row("statistics", "SAWB moments", "9", 1.0, "ns/element", 0.5, "copy", 1.0)
    met = Row("statistics", "largest magnitude", "9", 1.0, "ns/element", 2.0, "copy", 1.0)
    strange = Row("training", "case", "9", 1.0, "", 0.5, "", 1.0)
    assert (limit_of(met), limit_of(strange)) == ("", "not known")
    text = markdown(
        {"created": "", "command": "", "cpu": "", "cores": 2, "versions": {}, "quick": False}, [missed, met]
    )
    assert f"- SAWB moments (9): {limit_of(missed)}." in text.partition("What limits the missed ones:")[2]


def test_portable_kernels_are_compared_case_by_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each case of this machine meets the same one of the other process; five times slower is the limit."""
    size = replace(QUICK, all_cases=True)
    own = dict.fromkeys(("one", "two"), (0.002, 10, "ns/MAC"))
    monkeypatch.setattr(portable, "measured", lambda size: own)
    monkeypatch.setattr(
        portable,
        "_measured_elsewhere",
        lambda: {
            "instructions": "sse2",
            "kernels": {"one": "i16_exact"},
            "seconds": {"one": 9e-3, "two": 11e-3},
        },
    )
    rows = list(portable.portable_rows(size))
    assert [(row.verdict, row.note) for row in rows] == [("met", "sse2, i16_exact"), ("missed", "sse2")]
    assert [row.value for row in portable.portable_rows(QUICK)] == [None]


def test_the_portable_process_reports_what_is_asked_for(
    instant: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same names on both sides: products with their kernels, conversions and statistics."""
    monkeypatch.setattr(portable, "cpu_seconds", lambda work, repeats: 1e-3)
    read = json.loads(portable.report(QUICK))
    assert set(read["seconds"]) == set(portable.measured(QUICK))
    assert set(read["kernels"]) < set(read["seconds"])


def test_the_processor_has_a_name(tmp_path: Path) -> None:
    """As the kernel writes it; where it writes none, the architecture."""
    (tmp_path / "cpuinfo").write_text("processor : 0\nmodel name : A Chip 9000\n", encoding="utf-8")
    assert cpu_model(tmp_path / "cpuinfo") == "A Chip 9000"
    assert cpu_model(tmp_path / "none")


def test_clocks_count_the_least_call() -> None:
    """One call is not counted, and a time is never zero."""
    calls: list[int] = []
    assert cpu_seconds(lambda: calls.append(1), 3) > 0
    assert wall_seconds(lambda: calls.append(1), 2) > 0
    assert len(calls) == 4 + 3


def test_an_unwritable_folder_is_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is printed even if its file cannot be written."""

    def one_row(size: Any) -> Iterator[Row]:
        yield Row("training", "a case", "", 1.0, "samples/s")

    monkeypatch.setitem(bench.MEASUREMENTS, "training", one_row)
    (tmp_path / "file").write_text("", encoding="utf-8")
    assert bench.main(["--only", "training", "--out", str(tmp_path / "file")]) == 2
    printed = capsys.readouterr()
    assert "a case" in printed.out
    assert printed.err.startswith(f"error: {tmp_path / 'file' / 'bench.json'}: cannot write the file: ")


def test_a_quick_run_measures_every_section(tmp_path: Path) -> None:
    """The command as `make bench` calls it, on tiny sizes, with one thread for the yardstick."""
    code = "import benchmarks, os; assert os.environ['OPENBLAS_NUM_THREADS'] == '1'"
    environment = {key: value for key, value in os.environ.items() if key != "OPENBLAS_NUM_THREADS"}
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, env=environment, check=True)
    words = [sys.executable, "-m", "benchmarks", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(words, cwd=ROOT, env=environment, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench.json").read_text("utf-8"))
    assert {row["section"] for row in found["rows"]} == set(SECTIONS) - {"training", "shares"}
    assert found["quick"] is True
    assert all(row["value"] is None or row["value"] > 0 for row in found["rows"])
    assert "a quick run" in (tmp_path / "bench.md").read_text("utf-8")


def test_time_belongs_to_the_innermost_part() -> None:
    """A part that calls another does not count the other's time; what is in no part is the rest."""
    ticks = iter(range(100))
    watch = shares.Stopwatch(lambda: float(next(ticks)), tick=0.0)
    inner = watch.measured(lambda: None, shares.GEMM)
    watch.measured(inner, shares.PACKING)()
    assert watch.stop() == {shares.REST: 2.0, shares.PACKING: 2.0, shares.GEMM: 1.0}
    watch.restart()
    assert watch.stop() == {shares.REST: 1.0}


def test_looking_at_the_clock_is_not_measured() -> None:
    """A clock that takes a second to look at has measured nothing but itself."""
    ticks = iter(range(10_000))
    watch = shares.Stopwatch(lambda: float(next(ticks)))
    watch.restart()
    watch.measured(lambda: None, shares.GEMM)()
    assert watch.stop() == {shares.REST: 0.0, shares.GEMM: 0.0}


def test_parts_are_measured_and_left_as_they_were() -> None:
    """Every function of the table exists, counts while it is measured, and is the old one afterwards."""
    before, watch = accumulate.accumulate_general, shares.Stopwatch()
    with shares.measured_parts(watch):
        assert accumulate.accumulate_general is not before
        ChipVectorUnit("fp32").relu(np.ones((100, 100), np.float32))
    assert accumulate.accumulate_general is before
    assert watch.stop()[shares.VECTOR] > 0


def test_shares_add_up() -> None:
    """Percent of the whole; the goal is set for all that is neither product, packing nor conversion."""
    rows = list(shares._rows("case", {shares.GEMM: 6.0, shares.QUANTISERS: 1.0, shares.VECTOR: 3.0}))
    assert [row.value for row in rows] == [60.0, 0.0, 10.0, 0.0, 30.0, 0.0, 30.0]
    assert [row.verdict for row in rows] == [*[""] * 6, "missed"]
