"""The Verilog of the PE against the simulator, in Icarus Verilog; the linter; the command."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from array_chips import write_array_chip
from rtl_chips import SMALL, small_chip, written

from accelsim.chip import load_chip
from accelsim.cli import main as shell
from accelsim.errors import InputError
from accelsim.rtl import Written, write_rtl

needs_icarus = pytest.mark.skipif(
    shutil.which("iverilog") is None,
    reason="Icarus Verilog (iverilog) is not installed: nothing is simulated",
)
needs_verilator = pytest.mark.skipif(
    shutil.which("verilator") is None, reason="Verilator is not installed: the Verilog is not linted"
)

NEEDS_SEVERAL = ["fp16_four_bits", "fp16_fma", "dlfloat_saturating"]


def simulate(folder: Path, target: str = "sim") -> subprocess.CompletedProcess[str]:
    """``make TARGET`` in the written folder, as its README says."""
    return subprocess.run(["make", "-C", str(folder), target], check=False, capture_output=True, text=True)


def assert_no_mismatch(done: Written) -> None:
    """Every testbench ran all its vectors and found no difference."""
    printed = simulate(done.folder)
    assert printed.returncode == 0, printed.stdout[-2000:] + printed.stderr[-2000:]
    for unit, count in done.vectors.items():
        assert re.search(rf"^{unit}: {count} .* 0 mismatches$", printed.stdout, re.MULTILINE), printed.stdout
    assert "warning" not in printed.stderr


@needs_icarus
def test_hundred_thousand_vectors_per_unit(tmp_path: Path) -> None:
    """The 4-bit training chip: no vector of 100,000 per unit differs, whole sums included."""
    done = written(tmp_path, "fp4_training", 100_000)
    assert set(done.vectors) == {"mac4", "fma16", "pe"}
    assert min(done.vectors.values()) >= 100_000
    assert done.left_out == ()
    assert_no_mismatch(done)


@needs_icarus
@pytest.mark.parametrize("name", ["fp16_training", "rapid_core"])
def test_shipped_chips(name: str, tmp_path: Path) -> None:
    """The 16-bit chip and the 4-core chip have Verilog that equals the simulator."""
    assert_no_mismatch(written(tmp_path, name, 4_000))


@needs_icarus
@pytest.mark.parametrize("name", list(SMALL))
def test_accumulators_operands_and_lanes(name: str, tmp_path: Path) -> None:
    """Both accumulators, saturating or not, both 16-bit operands, 1 to 64 lanes: no difference."""
    assert_no_mismatch(written(tmp_path, small_chip(tmp_path, name), 3_000))


# (chip, file, right, wrong): one constant, comparison or term of the written Verilog made wrong.
MUTATIONS = [
    ("fp16_four_bits", "accumulate.v", "LOW + TERM_BITS + 2;", "LOW + TERM_BITS + 1;"),
    ("fp16_four_bits", "accumulate.v", "sticky | kept[P+3]", "1'b1"),
    ("fp16_four_bits", "accumulate.v", "sticky | kept[P+3]", "sticky"),
    ("fp16_four_bits", "accumulate.v", "18'h07bff", "18'h07bfe"),
    ("fp16_four_bits", "accumulate.v", " || term == {TERM_BITS{1'b0}}", ""),
    ("fp16_four_bits", "products4.v", "-10'sd7", "-10'sd6"),
    ("fp16_four_bits", "products4.v", " & ~a_unsigned", ""),
    ("fp16_four_bits", "products4.v", "? 17'sd0 :", "? 17'sd1 :"),
    ("fp16_four_bits", "pe.v", "(count == chunk_groups)", "(groups == chunk_groups)"),
    ("fp16_four_bits", "pe.v", "opened ? outer", "1'b1 ? outer"),
    ("fp16_four_bits", "pe.v", "if (valid & hold)", "if (hold)"),
    ("fp16_fma", "accumulate.v", "sticky = |kept[P+1:0] ||", "sticky ="),
    ("fp16_fma", "accumulate.v", "psum_infinite && term_infinite && subtract", "1'b0"),
    ("fp16_fma", "accumulate.v", "negative & (code != 15'd0)", "negative"),
    ("fp16_fma", "product16.v", " | (a_infinite & b_zero)", ""),
    ("fp16_fma", "product16.v", " | ~a_normal", ""),
    ("dlfloat_saturating", "accumulate.v", "17'h07ffe", "17'h07fff"),
    ("dlfloat_saturating", "accumulate.v", "15'h7ffe", "15'h7ffd"),
    ("dlfloat_saturating", "accumulate.v", "biased < 10'sd0 ?", "biased < -10'sd1 ?"),
    ("dlfloat_saturating", "accumulate.v", "|placed[P-1:0]}", "1'b0}"),
    ("dlfloat_saturating", "accumulate.v", "up = normal[WINDOW-P-1]", "up = &normal[WINDOW-P-:2]"),
]


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Written]:
    """The Verilog of three small chips, unharmed."""
    folders = {name: tmp_path_factory.mktemp(name) for name in NEEDS_SEVERAL}
    return {name: written(folder, small_chip(folder, name), 6_000) for name, folder in folders.items()}


@needs_icarus
def test_wrong_verilog_is_found(sound: dict[str, Written], tmp_path: Path) -> None:
    """The testbenches really compare: each single wrong constant makes one of them fail."""
    for number, (chip, file, right, wrong) in enumerate(MUTATIONS):
        folder = tmp_path / str(number)
        shutil.copytree(sound[chip].folder, folder)
        text = (folder / file).read_text(encoding="utf-8")
        assert right in text, (chip, file, right)
        (folder / file).write_text(text.replace(right, wrong), encoding="utf-8")
        printed = simulate(folder)
        assert printed.returncode != 0, f"{chip} {file}: '{right}' -> '{wrong}' was not noticed"
        assert "differs from the simulator" in printed.stdout


@needs_verilator
@pytest.mark.parametrize("name", ["fp4_training", "fp16_training", "rapid_core", *SMALL])
def test_verilator_has_nothing_to_say(name: str, tmp_path: Path) -> None:
    """Verilator's linter, all warnings on, accepts every unit of every chip."""
    chip = name if name not in SMALL else small_chip(tmp_path, name)
    printed = simulate(written(tmp_path, chip, 1).folder, "lint")
    assert printed.returncode == 0, printed.stderr


def test_every_file_says_what_it_is_for(tmp_path: Path) -> None:
    """Each Verilog file and the README name the chip, the purpose and the patent."""
    done = written(tmp_path, "rapid_core", 1)
    for name in done.files:
        if name.endswith((".v", ".md")):
            text = " ".join((done.folder / name).read_text(encoding="utf-8").replace("//", " ").split())
            assert "rapid_core" in text
            assert re.search("serves? verification", text), name
            assert "US patent 12,443,841 B2" in text
    assert "no multiplier for fp8_e4m3_ibm" in (done.folder / "README.md").read_text(encoding="utf-8")


def test_command_writes_and_reports(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """``accelsim rtl`` names the modes, what is left out and why, the vectors, and how to go on."""
    out = tmp_path / "deep" / "folder"
    assert shell.main(["rtl", "rapid_core", "--out", str(out), "--vectors", "500"]) == 0
    text = capsys.readouterr().out
    assert "int4: uint4 x int4, 8 per cycle" in text
    assert "hfp8: fp8_e4m3_ibm x fp8_e5m2_ibm left out: no multiplier for fp8_e4m3_ibm" in text
    assert f"make -C {out} sim" in text
    assert shell.main(["rtl", "rapid_core", "--out", str(out), "--vectors", "500", "--quiet"]) == 0
    assert "per cycle" not in capsys.readouterr().out
    assert shell.main(["rtl", "rapid_core", "--out", str(out), "--vectors", "500", "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["folder"] == str(out)
    assert sorted(summary["files"]) == sorted(path.name for path in out.iterdir())
    assert [row["mode"] for row in summary["left_out"]] == ["hfp8", "hfp8"]


@pytest.mark.parametrize(
    ("pairs", "options", "reason"),
    [
        ([("fp8_e4m3_ibm", "int4")], {}, "no multiplier for fp8_e4m3_ibm, only for int4, uint4, fp4_r4_even"),
        ([("fp4_r4_even", "fp4_r4_odd")], {}, "one of the two operands must be an integer"),
        ([("dlfloat16", "fp16")], {}, "the 16-bit unit multiplies two numbers of one format"),
        ([("fp16", "fp16")], {"lanes": 2}, "the 16-bit unit multiplies one pair a cycle, not 2"),
        ([("int4", "int4")], {"accumulator": "fp32"}, "no accumulate stage for fp32, only for dlfloat16"),
    ],
)
def test_chip_without_a_mode_for_verilog(
    pairs: list[tuple[str, str]],
    options: dict[str, object],
    reason: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A chip of which nothing can be written is an error that says why, and no folder is made."""
    chip = write_array_chip(tmp_path, pairs, **options).path
    assert shell.main(["rtl", str(chip), "--out", str(tmp_path / "out")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    a, b = pairs[0]
    assert f"chip 'tiny': none of its modes can be written as Verilog: only: {a} x {b}: {reason}" in line
    assert not (tmp_path / "out").exists()


def test_second_sixteen_bit_format_is_left_out(tmp_path: Path) -> None:
    """A PE has one 16-bit multiplier: the first format gets it, the second is named with the reason."""
    chip = write_array_chip(tmp_path, [("fp16", "fp16"), ("dlfloat16", "dlfloat16")]).path
    done = written(tmp_path, chip, 1)
    assert [(pair.a, pair.b) for pair in done.pairs] == [("fp16", "fp16")]
    assert [each.reason for each in done.left_out] == ["the 16-bit unit is one of fp16 already"]


def test_mistakes_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Unknown chip, a file in place of the folder, no folder and no vectors: one line each."""
    (tmp_path / "file").write_text("here already")
    somewhere = ["--out", str(tmp_path)]
    mistakes = [
        (["fp4_trainig", *somewhere], "unknown chip 'fp4_trainig' (did you mean 'fp4_training'?)"),
        (["rapid_core", "--out", str(tmp_path / "file")], "cannot write to the output folder: file exists"),
        (["rapid_core"], "Missing option '--out'"),
        (["rapid_core", *somewhere, "--vectors", "0"], "must be between 1 and 10000000, got 0"),
    ]
    for words, text in mistakes:
        assert shell.main(["rtl", *words]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert text in line
    with pytest.raises(InputError, match=r"cannot write the file: .* is not a directory"):
        write_rtl(load_chip("fp16_training"), tmp_path / "file", 1)
