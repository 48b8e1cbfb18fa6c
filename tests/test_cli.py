"""The shell: help, mistakes, and the commands that only look at things."""

from __future__ import annotations

import dataclasses
import json
import os
import shlex
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from sample_records import sample_record

import accelsim
from accelsim.cli import main as shell
from accelsim.cli.check import MARKS
from accelsim.cli.writable import require_writable
from accelsim.errors import InputError
from accelsim.record import record_text
from accelsim.storage import shipped

ROOT = Path(__file__).resolve().parent.parent


def run_command(*words: str, cwd: Path = ROOT, **options: Any) -> subprocess.CompletedProcess[str]:
    """``accelsim WORDS`` in a process of its own."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
    return subprocess.run(
        [sys.executable, "-m", "accelsim", *words],
        cwd=cwd,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
        **options,
    )


def test_help_lists_every_command_with_its_own_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The list of commands, written down so that --help imports none, says what the commands say."""
    assert shell.main(["--help"]) == 0
    text = capsys.readouterr().out
    for name, (module, line) in shell.COMMANDS.items():
        command = import_module(f"accelsim.cli.{module}").command
        assert command.name == name
        assert f"{name} " in text
        assert line in text


@pytest.mark.parametrize("name", list(shell.COMMANDS))
def test_each_command_has_help_with_examples(name: str) -> None:
    """Every command explains itself and shows examples that its own parser accepts."""
    command = import_module(f"accelsim.cli.{shell.COMMANDS[name][0]}").command
    result = CliRunner().invoke(shell.cli, [name, "--help"])
    assert result.exit_code == 0
    examples = [line.strip() for line in result.output.split("Examples:")[1].splitlines() if line.strip()]
    assert examples
    for example in examples:
        words = shlex.split(example.split(" | ")[0])
        assert words[:2] == ["accelsim", name]
        with click.Context(command) as context:
            command.parse_args(context, words[2:])


def test_no_words_show_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    """``accelsim`` alone is a question, not a mistake."""
    assert shell.main([]) == 0
    assert "Commands:" in capsys.readouterr().out


def test_study_without_a_word_shows_its_help(capsys: pytest.CaptureFixture[str]) -> None:
    """``accelsim study`` is no mistake: it lists the studies."""
    assert shell.main(["study"]) == 0
    text = capsys.readouterr().out
    assert "accuracy  Tasks trained on" in text
    assert "savings " in text


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """``--version`` prints the version of the package."""
    assert shell.main(["--version"]) == 0
    assert capsys.readouterr().out == f"accelsim {accelsim.__version__}\n"


@pytest.mark.parametrize(
    "words",
    [
        ["--help"],
        ["check", "arch_configs/fp4_training.yaml"],
        ["check", "workloads/fashion_cnn.yaml"],
        ["compare", "--help"],
    ],
)
def test_quick_commands_load_nothing_heavy(words: list[str]) -> None:
    """Help and check answer at once because they import neither a compiler nor a plotting library."""
    code = (
        "import sys\nfrom accelsim.cli.main import main\n"
        f"code = main({words!r})\n"
        "print([name for name in ('numba', 'matplotlib', 'jinja2', 'scipy') if name in sys.modules])\n"
        "sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["comapre"], "unknown command 'comapre' (did you mean 'compare'?); allowed: compare, run, estimate"),
        (["--verson"], "unknown option '--verson' (did you mean '--version'?); allowed: --help, --version"),
        (
            ["run", "a", "b", "--sede", "1"],
            "unknown option '--sede' (did you mean '--seed'?); allowed: --batch,",
        ),
        (["run", "fp4_training"], "Missing argument 'WORKLOAD' (see accelsim run --help)"),
        (
            ["study", "acuracy"],
            "unknown command 'acuracy' (did you mean 'accuracy'?); allowed: accuracy, savings (see accelsim",
        ),
        (["formats", "int4", "int8"], "several NAMEs go with --plot; without it one is wanted, got 2 (see"),
        (
            ["run", "a", "b", "--epochs", "1.5"],
            "Invalid value for '--epochs': '1.5' is not a whole number (see",
        ),
        (["estimate", "a", "b", "--pue", "x"], "Invalid value for '--pue': 'x' is not a number (see"),
        (["run", "a", "b", "--epochs", "0"], "Invalid value for '--epochs': must be at least 1, got 0 (see"),
        (["run", "a", "b", "--seed", "x"], "Invalid value for '--seed': 'x' is not a whole number"),
        (["formats", "int9"], "unknown number format 'int9' (did you mean 'int8'?); allowed: bf16,"),
        (["formats", "fp32"], "fp32: a table of 2**32 codes is too long to list"),
        (["list", "chip"], "unknown kind 'chip' (did you mean 'chips'?); allowed: chips, datasets,"),
        (
            ["estimate", "fp4_trainin", "fashion_cnn"],
            "unknown chip 'fp4_trainin' (did you mean 'fp4_training'?)",
        ),
        (
            ["estimate", "fashion_cnn", "fp4_training"],
            "'fp4_training' is the name of a shipped chip; a workload",
        ),
        (
            ["estimate", "fp4_training", "fashion_cn"],
            "unknown workload 'fashion_cn' (did you mean 'fashion_cnn'?)",
        ),
        (["plot", "no.json"], "no.json: cannot read the record: No such file or directory"),
    ],
)
def test_mistakes_are_one_line_and_exit_code_2(
    capsys: pytest.CaptureFixture[str], words: list[str], text: str
) -> None:
    """A mistake in the words gets one line with what is allowed and the nearest match, nothing else."""
    assert shell.main(words) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(f"error: {text}")
    assert printed.err.count("\n") == 1


def test_exit_code_and_text_of_the_real_process(tmp_path: Path) -> None:
    """The installed way of calling gives the same line and code, and writes nothing."""
    done = run_command("run", "fp4_trainin", "fashion_cnn", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.startswith("error: unknown chip 'fp4_trainin' (did you mean 'fp4_training'?)")
    assert done.stderr.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


def test_a_reader_that_leaves_is_no_error() -> None:
    """``accelsim ... | head`` ends quietly."""
    command = f"{shlex.quote(sys.executable)} -m accelsim formats fp16 | (exit 0)"
    done = subprocess.run(["bash", "-c", command], cwd=ROOT, check=False, capture_output=True, text=True)
    assert done.stderr == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_one_line() -> None:
    """Output that cannot be written is told in one line with exit code 2."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "accelsim", "formats", "int4"],
            cwd=ROOT,
            check=False,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
        )
    assert done.returncode == 2
    assert done.stderr == "error: output: No space left on device\n"


def test_ctrl_c_outside_training_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C anywhere ends in one line and exit code 130."""

    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(shell.cli, "invoke", stop)
    assert shell.main(["list"]) == 130
    assert capsys.readouterr().err == "stopped: interrupted\n"


def test_output_folder_is_tried_first(tmp_path: Path) -> None:
    """A folder that cannot be made or written is refused; a good one is made and left empty."""
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(
        InputError, match=r"file/out: cannot write to the output folder: not a directory; choose"
    ):
        require_writable(tmp_path / "file" / "out")
    require_writable(tmp_path / "a" / "b")
    assert list((tmp_path / "a" / "b").iterdir()) == []


def test_check_says_what_each_file_is(capsys: pytest.CaptureFixture[str]) -> None:
    """Every shipped chip, workload and recipe is told by its keys and found right."""
    kinds = {"chip": "arch_configs", "workload": "workloads", "recipe": "accelsim/recipe/shipped"}
    files = {path: kind for kind, folder in kinds.items() for path in sorted((ROOT / folder).glob("*.yaml"))}
    assert set(files.values()) == set(kinds)
    assert shell.main(["check", *map(str, files)]) == 0
    lines = [line.split("; ")[0] for line in capsys.readouterr().out.splitlines()]
    assert lines == [f"{path}: {kind} '{path.stem}' is right" for path, kind in files.items()]


def test_marks_are_keys_of_their_kind_and_of_no_other() -> None:
    """The keys by which a file's kind is told exist in that kind only."""
    from accelsim.chip import Chip
    from accelsim.cost import Grid
    from accelsim.mapping import PinFile
    from accelsim.numerics.formats import NumberFormat
    from accelsim.recipe import Recipe
    from accelsim.run.study_plan import StudyPlan
    from accelsim.validation import Sheet
    from accelsim.workload.schema import WorkloadKeys

    keys = {
        "chip": set(Chip.model_fields),
        "workload": set(WorkloadKeys.model_fields),
        "recipe": set(Recipe.model_fields),
        "format": {field.name for field in dataclasses.fields(NumberFormat)},
        "grid": set(Grid.model_fields),
        "sheet": set(Sheet.model_fields),
        "study": set(StudyPlan.model_fields),
        "pins": set(PinFile.model_fields),
    }
    for kind, marks in MARKS.items():
        assert marks <= keys.pop(kind)
        for other in MARKS.keys() - {kind}:
            assert not marks & MARKS[other]


def test_check_names_file_line_column_and_key(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A mistake is told with its place, right files are still told, and the exit code is 2."""
    good = ROOT / "arch_configs" / "fp4_training.yaml"
    bad = tmp_path / "bad_chip"
    bad.write_text(good.read_text(encoding="utf-8").replace("  rows: 8", "  rows: 0"), encoding="utf-8")
    assert shell.main(["check", str(bad), str(good)]) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith(f"error: {bad}:")
    assert "array.rows" in printed.err
    assert printed.err.count("\n") == 1
    assert printed.out == f"{good}: chip 'fp4_training' is right\n"


def test_check_takes_a_file_without_an_ending(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A file in this folder is meant as a file, even when it has the name of something shipped."""
    text = (ROOT / "arch_configs" / "fp4_training.yaml").read_text(encoding="utf-8")
    (tmp_path / "fp16_training").write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    assert shell.main(["check", "fp16_training", "--quiet"]) == 0
    assert shell.main(["check", "fp16_training"]) == 0
    assert capsys.readouterr().out == "fp16_training: chip 'fp4_training' is right\n"


def test_check_takes_shipped_names(capsys: pytest.CaptureFixture[str]) -> None:
    """Words that are no files are names of what is shipped; a misspelt one is told its nearest."""
    assert shell.main(["check", "eyeriss", "letters_mlp", "mxfp4", "world"]) == 0
    shown = capsys.readouterr().out
    kinds = {"eyeriss": "chip", "letters_mlp": "workload", "mxfp4": "recipe", "world": "grid"}
    assert shown.splitlines() == [f"{name}: {kind} '{name}' is right" for name, kind in kinds.items()]
    assert shell.main(["check", "eyeris"]) == 2
    told = "error: eyeris: neither a file here nor the name of something shipped (did you mean 'eyeriss'?)"
    assert capsys.readouterr().err.startswith(told)


def test_check_reads_studies_pins_sheets_and_records(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The other kinds of files that the program reads, each told by its keys."""
    pins = tmp_path / "mine.yaml"
    pins.write_text("mappings:\n  - {layer: fc, phase: forward, dataflow: output_stationary}\n")
    record = tmp_path / "record.json"
    record.write_text(record_text(sample_record()), encoding="utf-8")
    sheet = ROOT / "accelsim" / "validation" / "shipped" / "05_tpu_v1.yaml"
    study = ROOT / "accelsim" / "run" / "shipped" / "accuracy.yaml"
    assert shell.main(["check", *map(str, (pins, record, sheet, study)), "--json"]) == 0
    found = [one["kind"] for one in json.loads(capsys.readouterr().out)]
    assert found == ["pins", "record", "sheet", "study"]
    reports = ROOT / "reports"
    kept = [next((reports / "accuracy").rglob("*.json")), *(reports / "savings").glob("*.json")]
    assert shell.main(["check", "--quiet", *map(str, kept)]) == 0
    record.write_text("{}", encoding="utf-8")
    assert shell.main(["check", str(record)]) == 2
    assert f"error: {record}: not an accelsim run record" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("file", "old", "new", "message"),
    [
        (
            "arch_configs/fp4_training.yaml",
            "recipe: ibm2020_fp4",
            "recipe: ibm2020_fp5",
            "recipe: unknown recipe 'ibm2020_fp5' (did you mean 'ibm2020_fp4'?)",
        ),
        (
            "accelsim/run/shipped/accuracy.yaml",
            "chip: mx_training, recipe: nvfp4",
            "chip: mx_trainer, recipe: nvfp4",
            "systems.nvfp4.chip: unknown chip 'mx_trainer' (did you mean 'mx_training'?)",
        ),
        (
            "accelsim/run/shipped/accuracy.yaml",
            "chip: mx_training, recipe: nvfp4",
            "chip: mx_training, recipe: nvfp5",
            "systems.nvfp4.recipe: unknown recipe 'nvfp5' (did you mean 'nvfp4'?)",
        ),
        (
            "accelsim/run/shipped/accuracy.yaml",
            "workload: speech_cnn",
            "workload: speech_rnn",
            "tasks.speech_cnn.workload: unknown workload 'speech_rnn' (did you mean 'speech_cnn'?)",
        ),
    ],
)
def test_check_follows_names(
    file: str, old: str, new: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A recipe, chip or workload that a file names must exist; the message stands at the name's place."""
    text = (ROOT / file).read_text(encoding="utf-8")
    assert old in text
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    assert shell.main(["check", str(path)]) == 2
    line = text[: text.index(old)].count("\n") + 1
    told = capsys.readouterr().err
    assert told.startswith(f"error: {path}:{line}:")
    assert message in told


def changed_chip(folder: Path, old: str, new: str) -> Path:
    """fp4_training with another text at one place."""
    text = (ROOT / "arch_configs" / "fp4_training.yaml").read_text(encoding="utf-8")
    assert text.count(old) == 1
    path = folder / "mine.yaml"
    path.write_text(text.replace(old, new), encoding="utf-8")
    return path


def test_check_refuses_a_chip_that_cannot_run_its_own_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Told at the recipe's place, with the first pair of formats and the phase that no mode takes."""
    path = changed_chip(tmp_path, "recipe: ibm2020_fp4", "recipe: luq2023")
    assert shell.main(["check", str(path)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {path}:")
    assert "recipe: 'luq2023' multiplies fp4_e3m0 x int4 (backward), but no mode of the array does; " in told
    assert "they take: int4 x int4, " in told


def test_check_says_what_a_chip_does_not_do_with_its_recipe(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """An inference chip runs the forward pass alone; other 16-bit numbers than the recipe's are not run."""
    path = changed_chip(tmp_path, "  storage_format: dlfloat16 ", "  storage_format: bf16 ")
    assert shell.main(["check", "tpu_v1", str(path)]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "tpu_v1: chip 'tpu_v1' is right; it runs the forward pass of its recipe 'int8_inference' alone",
        f"{path}: chip 'fp4_training' is right; it can be estimated, not run: recipe 'ibm2020_fp4' stores "
        "dlfloat16, its vector unit bf16",
    ]


def test_check_refuses_what_is_none_of_the_three(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A YAML file of something else is refused with the keys that would tell its kind; --json has it all."""
    path = tmp_path / "x.yaml"
    path.write_text("colour: red\n", encoding="utf-8")
    assert shell.main(["check", str(path), "--json"]) == 2
    printed = capsys.readouterr()
    (result,) = json.loads(printed.out)
    assert result["error"].startswith(f"{path}: neither a chip, a workload nor a recipe: a chip has array, ")
    assert printed.err == f"error: {result['error']}\n"


def test_formats_prints_the_whole_code_table(capsys: pytest.CaptureFixture[str]) -> None:
    """Every code of a format with its value, as the format decodes it; infinities become words in JSON."""
    assert shell.main(["formats", "fp4_r4_odd"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("fp4_r4_odd: 4 bits, 16 codes (")
    assert lines[1:4] == ["0x0  0000  0", "0x1  0001  0.0078125", "0x2  0010  0.03125"]
    assert lines[-1] == "0xf  1111  -32"
    assert shell.main(["formats", "fp8_e5m2", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert len(content["codes"]) == 256
    assert content["codes"][0x7C] == {"code": 0x7C, "value": "inf"}


def test_formats_without_a_name_lists_all(capsys: pytest.CaptureFixture[str]) -> None:
    """All formats, for people and for programs."""
    assert shell.main(["formats"]) == 0
    assert "dlfloat16" in capsys.readouterr().out
    assert shell.main(["formats", "--json"]) == 0
    names = [entry["name"] for entry in json.loads(capsys.readouterr().out)]
    assert {"int4", "fp4_r4_even", "dlfloat16", "fp32"} <= set(names)


def test_list_shows_all_that_is_shipped(capsys: pytest.CaptureFixture[str]) -> None:
    """Everything that can be given by name is listed with one line about it."""
    assert shell.main(["list", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert [row["name"] for row in content["chips"]] == shipped("arch_configs")
    assert [row["name"] for row in content["workloads"]] == shipped("workloads")
    assert [row["name"] for row in content["recipes"]] == shipped("recipes")
    assert all(row["description"] for rows in content.values() for row in rows)
    assert shell.main(["list", "datasets"]) == 0
    text = capsys.readouterr().out
    assert "mnist5k" in text
    assert "fp4_training" not in text


def test_a_blas_gets_one_thread_before_numpy_is_loaded() -> None:
    """--threads counts all threads of a run: libraries that read their number when loaded get one."""
    names = [f"{library}_NUM_THREADS" for library in ("OPENBLAS", "MKL", "BLIS")]
    code = "import os, sys, accelsim.cli.main; assert 'numpy' not in sys.modules; "
    code += f"print(*(os.environ[name] for name in {names}))"
    environment = {key: value for key, value in os.environ.items() if key not in names}
    environment["PYTHONPATH"] = str(ROOT)
    words = [sys.executable, "-c", code]
    for given, expected in (({}, "1 1 1"), ({"MKL_NUM_THREADS": "3"}, "1 3 1")):
        done = subprocess.run(words, env=environment | given, check=False, capture_output=True, text=True)
        assert done.stdout.strip() == expected, done.stderr
