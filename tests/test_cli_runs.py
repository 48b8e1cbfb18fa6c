"""The shell: estimate, run, compare and plot, with sample records in place of the simulator."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest
from fake_verbs import FakeVerbs
from sample_records import FP4, sample_pair, sample_record

from accelsim.cli import main as shell
from accelsim.record import read_record, record_text
from accelsim.storage import write_text


@pytest.fixture
def verbs(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> FakeVerbs:
    """The shell in an empty folder, with `FakeVerbs` behind it."""
    from accelsim import api

    fake = FakeVerbs()
    for name in ("load_workload", "estimate", "train"):
        monkeypatch.setattr(api, name, getattr(fake, name))
    monkeypatch.setattr("accelsim.cli.training.fit_at_once", lambda *_: False)  # processes know no fakes
    monkeypatch.chdir(tmp_path)
    return fake


@pytest.fixture
def records(tmp_path: Path) -> list[Path]:
    """The record files of a sample comparison."""
    paths = []
    for record in sample_pair():
        paths.append(tmp_path / record.chip.name / "record.json")
        write_text(paths[-1], record_text(record))
    return paths


def test_estimate_shows_layers_memory_and_totals(
    verbs: FakeVerbs, capsys: pytest.CaptureFixture[str]
) -> None:
    """One estimate: the layers with their exact sum, the memory, the main table; nothing is written."""
    assert shell.main(["estimate", "fp4_training", "net", "--batch", "32", "--recipe", "r"]) == 0
    text = capsys.readouterr().out
    cost = sample_record(FP4, trained=False).cost
    assert f"{cost.step_cycles:,}" in text
    assert f"{sum(layer.macs for layer in cost.layers):,}" in text
    assert "Activations saved for the backward pass" in text
    assert "Average power" in text
    mapped = {"mapping": None, "objective": "latency", "chips": None, "phases": None}
    assert verbs.calls == [
        {"verb": "estimate", "chip": "fp4_training", "recipe": "r", "batch": 32, "epochs": None, **mapped}
    ]
    assert list(Path.cwd().iterdir()) == []


def test_estimate_compares_with_a_baseline(verbs: FakeVerbs, capsys: pytest.CaptureFixture[str]) -> None:
    """With a baseline the recipe stays with the chip, and --out leaves records and report behind."""
    words = ["estimate", "fp4_training", "net", "--baseline", "fp16_training", "--recipe", "r", "--out", "o"]
    assert shell.main([*words, "--quiet"]) == 0
    text = capsys.readouterr().out
    assert "chip against baseline" in text
    assert "block1.conv1" not in text
    assert [call["recipe"] for call in verbs.calls] == ["r", None]
    assert read_record("o/fp16_training/record.json").kind == "estimate"
    assert Path("o/report.html").exists()
    assert shell.main([*words, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["chips"] == ["fp4_training", "fp16_training"]
    assert content["records"] == ["o/fp4_training/record.json", "o/fp16_training/record.json"]


def test_estimate_prints_a_record_for_a_program(verbs: FakeVerbs, capsys: pytest.CaptureFixture[str]) -> None:
    """--json without a baseline is the record itself, and nothing else is on standard output."""
    assert shell.main(["estimate", "fp4_training", "net", "--json"]) == 0
    assert capsys.readouterr().out == record_text(sample_record(FP4, trained=False))


def test_a_chip_against_itself_keeps_both_records(verbs: FakeVerbs) -> None:
    """Two records of one chip (another recipe, say) do not overwrite each other."""
    words = ["estimate", "fp4_training", "net", "--baseline", "fp4_training", "--out", "o", "-q"]
    assert shell.main(words) == 0
    assert sorted(path.parent.name for path in Path("o").glob("*/record.json")) == [
        "fp4_training",
        "fp4_training_baseline",
    ]
    assert shell.main(["compare", "fp4_training", "fp4_training", "net", "--out", "c", "-q"]) == 0
    assert Path("c/fp4_training_baseline/record.json").exists()


def test_plot_redraws_from_records(
    records: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Tables, figures and report come from the records alone, into the folder that holds them."""
    backwards = [str(path) for path in reversed(records)]
    assert shell.main(["plot", *backwards, "--baseline", "fp16_training"]) == 0
    assert "fp4_training: 3.5× the speed of fp16_training" in capsys.readouterr().out
    assert (tmp_path / "report.html").exists()
    assert (tmp_path / "comparison.csv").exists()
    assert list((tmp_path / "figures").glob("*.svg"))


def test_plot_of_one_record_for_a_program(
    records: list[Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """--json gives the main table with full-precision numbers; --quiet alone prints nothing."""
    out = str(tmp_path / "again")
    assert shell.main(["plot", str(records[0]), "--out", out, "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["chips"] == ["fp4_training"]
    assert {row["key"] for row in content["rows"]} >= {"accuracy", "energy_per_sample", "power"}
    assert shell.main(["plot", str(records[0]), "--out", out, "--quiet"]) == 0
    assert capsys.readouterr().out == ""
    assert (tmp_path / "again" / "report.html").exists()


def test_plot_knows_the_baseline_by_its_chip(records: list[Path], capsys: pytest.CaptureFixture[str]) -> None:
    """A baseline that is none of the records is refused with those there are."""
    assert shell.main(["plot", *map(str, records), "--baseline", "fp16"]) == 2
    assert (
        capsys.readouterr().err
        == "error: --baseline: unknown chip 'fp16'; allowed: fp16_training, fp4_training\n"
    )


def test_run_trains_one_chip_and_keeps_everything(
    verbs: FakeVerbs, capsys: pytest.CaptureFixture[str]
) -> None:
    """Options reach the training; record, tables, figures and report are left; the checkpoint is not."""
    words = ["run", "fp4_training", "net", "--seed", "7", "--epochs", "2", "--threads", "1", "--batch", "64"]
    words += ["--recipe", "r", "--mapping", "m.yaml", "--objective", "edp", "--chips", "4"]
    assert shell.main(words) == 0
    (call,) = [call for call in verbs.calls if call["verb"] == "train"]
    assert call == {
        "verb": "train",
        "chip": "fp4_training",
        "recipe": "r",
        "mapping": "m.yaml",
        "objective": "edp",
        "chips": 4,
        "seed": 7,
        "epochs": 2,
        "batch": 64,
        "threads": 1,
        "resume": False,
        "command": shlex.join(["accelsim", *words]),
    }
    folder = Path("reports/runs/fp4_training_net")
    assert read_record(folder / "fp4_training" / "record.json").kind == "train"
    assert not (folder / "fp4_training" / "checkpoint.npz").exists()
    assert (folder / "report.html").exists()
    printed = capsys.readouterr()
    assert "Test accuracy after the last epoch" in printed.out
    assert (
        "fp4_training: training net with ibm2020_fp4, 2 epochs of 79 steps of 64 samples, seed 7"
        in printed.err
    )
    assert "writing to reports/runs/fp4_training_net; about " in printed.err
    assert "fp4_training  epoch 1/2  loss 0.5000  accuracy  81.0 %  test accuracy  80.0 %" in printed.err


@pytest.mark.parametrize("compiled", [False, True])
def test_the_time_of_compiling_is_announced(
    compiled: bool, verbs: FakeVerbs, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A fresh install compiles its kernels in the first run, which takes longer than a small run itself."""
    cache = Path("kernels/numerics")
    cache.mkdir(parents=True)
    if compiled:
        (cache / "accumulate.nbi").touch()
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(cache.parent))
    assert shell.main(["run", "fp4_training", "net"]) == 0
    said = "on this computer in all, and a minute or two, once, to compile its kernels\n"
    assert (said in capsys.readouterr().err) == (not compiled)


def test_run_for_a_program(verbs: FakeVerbs, capsys: pytest.CaptureFixture[str]) -> None:
    """--json --quiet: the record on standard output and not a word besides."""
    assert shell.main(["run", "fp4_training", "net", "--json", "--quiet", "--out", "o"]) == 0
    printed = capsys.readouterr()
    assert printed.out == record_text(sample_record(FP4))
    assert printed.err == ""


def test_compare_trains_both_and_compares(verbs: FakeVerbs, capsys: pytest.CaptureFixture[str]) -> None:
    """The main job: two records, the table with its headline, and the report."""
    words = ["compare", "fp4_training", "fp16_training", "net", "--recipe", "r", "--mapping", "m"]
    assert shell.main(words) == 0
    assert verbs.trained() == ["fp4_training", "fp16_training"]
    trained = [call for call in verbs.calls if call["verb"] == "train"]
    assert [(call["recipe"], call["mapping"]) for call in trained] == [("r", "m"), (None, None)]
    folder = Path("reports/runs/fp4_training_vs_fp16_training_net")
    made = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert {
        "fp4_training/record.json",
        "fp16_training/record.json",
        "comparison.csv",
        "comparison.md",
        "report.html",
    } <= made
    text = capsys.readouterr().out
    assert (
        "fp4_training: 3.5× the speed of fp16_training and 2.8× less energy at −0.8 points of accuracy"
        in text
    )
    assert f"Report: {folder / 'report.html'}" in text


def test_compare_for_a_program(verbs: FakeVerbs, capsys: pytest.CaptureFixture[str]) -> None:
    """--json is one JSON document on standard output with the table's numbers and the record files."""
    assert shell.main(["compare", "fp4_training", "fp16_training", "net", "--json", "--out", "o"]) == 0
    content = json.loads(capsys.readouterr().out)
    (accuracy,) = [row for row in content["rows"] if row["key"] == "accuracy"]
    assert accuracy["values"] == [0.862, 0.87]
    assert content["records"] == ["o/fp4_training/record.json", "o/fp16_training/record.json"]


def test_unwritable_output_is_found_before_training(
    verbs: FakeVerbs, capsys: pytest.CaptureFixture[str]
) -> None:
    """No run is lost at its end because the folder cannot be written."""
    Path("file").write_text("", encoding="utf-8")
    for words in (["run", "fp4_training"], ["compare", "fp4_training", "fp16_training"]):
        assert shell.main([*words, "net", "--out", "file/o"]) == 2
        assert capsys.readouterr().err.startswith(
            "error: file/o: cannot write to the output folder: not a directory"
        )
    assert verbs.trained() == []


def test_stopped_run_says_what_was_kept_and_goes_on(
    verbs: FakeVerbs, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C in the second chip: one line with the command that goes on; finished work is not done again."""
    words = ["compare", "fp4_training", "fp16_training", "net", "--epochs", "2", "--out", "o"]
    verbs.stop_in = "fp16_training"
    assert shell.main([*words, "--quiet"]) == 130
    assert capsys.readouterr().err == (
        "stopped: fp16_training in epoch 2 of 2; kept o/fp16_training/checkpoint.npz; "
        f"go on with: accelsim {shlex.join(words)} --quiet --resume\n"
    )
    assert Path("o/fp4_training/record.json").exists()
    assert not Path("o/report.html").exists()

    verbs.stop_in, verbs.calls = None, []
    assert shell.main([*words, "--resume"]) == 0
    assert "fp4_training: finished before, kept (o/fp4_training/record.json)" in capsys.readouterr().err
    assert [(call["chip"], call["resume"]) for call in verbs.calls if call["verb"] == "train"] == [
        ("fp16_training", True)
    ]


def test_resume_does_not_take_a_record_of_other_inputs(
    verbs: FakeVerbs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A finished record counts only for the same chip, workload, recipe, seed, batch and epochs."""
    monkeypatch.setattr("accelsim.cli.run.write_report", lambda records, folder: None)  # drawing takes long
    assert shell.main(["run", "fp4_training", "net", "--epochs", "2", "--out", "o", "-q"]) == 0
    assert shell.main(["run", "fp4_training", "net", "--epochs", "3", "--out", "o", "-q", "--resume"]) == 0
    assert (
        shell.main(
            ["run", "fp4_training", "net", "--epochs", "3", "--seed", "2", "--out", "o", "-q", "--resume"]
        )
        == 0
    )
    assert len(verbs.trained()) == 3
    assert shell.main(["run", "fp4_training", "net", "--epochs", "3", "--out", "o", "-q", "--resume"]) == 0
    assert len(verbs.trained()) == 3


def test_old_checkpoint_is_not_taken_for_a_new_run(
    verbs: FakeVerbs, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without --resume a run starts anew: stopped before its first checkpoint, it has none to go on from."""
    from accelsim import api

    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    write_text("o/fp4_training/checkpoint.npz", "of an earlier run")
    monkeypatch.setattr(api, "train", stop)
    assert shell.main(["run", "fp4_training", "net", "--out", "o", "-q"]) == 130
    kept, stopped = capsys.readouterr().err.splitlines()
    before = Path("o/fp4_training/checkpoint.before.npz")
    assert kept == f"fp4_training: the checkpoint of an unfinished run is kept as {before}"
    assert before.read_text(encoding="utf-8") == "of an earlier run"
    assert stopped.startswith("stopped: fp4_training; nothing of it was kept yet; go on with: ")
