"""Packaging: what a wheel holds, and that it works outside the checkout; the Makefile's promises."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def unpacked_wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of this tree, unpacked as an installer would."""
    folder = tmp_path_factory.mktemp("wheel")
    subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(folder)],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    (wheel,) = folder.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    return folder / "site"


def run_installed(site: Path, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """``accelsim WORDS`` from the unpacked wheel, in a folder outside the checkout."""
    environment = os.environ | {"PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-m", "accelsim", *words],
        cwd=cwd,
        env=environment,
        check=False,
        capture_output=True,
        text=True,
    )


def test_wheel_holds_everything_a_run_needs(unpacked_wheel: Path) -> None:
    """Chips, workloads, recipes, data with licences and the report's template are in the wheel."""
    package = unpacked_wheel / "accelsim"
    for kind, folder in (("arch_configs", ROOT), ("workloads", ROOT), ("recipe/shipped", ROOT / "accelsim")):
        names = sorted(path.name for path in (folder / kind).glob("*.yaml"))
        assert names
        assert sorted(path.name for path in (package / kind).glob("*.yaml")) == names
    for file in (ROOT / "accelsim").rglob("*"):
        if file.is_file() and "__pycache__" not in file.parts:
            assert (unpacked_wheel / file.relative_to(ROOT)).read_bytes() == file.read_bytes()
    assert list((package / "report").rglob("*.html*"))


def test_wheel_carries_its_licences(unpacked_wheel: Path) -> None:
    """Apache-2.0, the notice, and a licence for every bundled data set travel with the wheel."""
    (licenses,) = unpacked_wheel.glob("accelsim-*.dist-info/licenses")
    found = {path.name for path in licenses.rglob("*") if path.is_file()}
    assert {"LICENSE", "NOTICE", "LICENSE.txt", "FASHION_MNIST_LICENSE.txt", "DIGITS_LICENSE.txt"} <= found
    assert "LETTER_RECOGNITION_LICENSE.txt" in found
    notice = (licenses / "NOTICE").read_text(encoding="utf-8")
    assert "12,443,841 B2" in notice
    for data in (ROOT / "accelsim" / "data").rglob("*.npz"):
        assert data.name in notice


def test_installed_command_works_in_an_empty_folder(unpacked_wheel: Path, tmp_path: Path) -> None:
    """Outside the checkout, shipped things are found by name, and looking at them writes nothing."""
    listed = run_installed(unpacked_wheel, tmp_path, "list", "--json")
    assert listed.returncode == 0, listed.stderr
    names = {kind: [row["name"] for row in rows] for kind, rows in json.loads(listed.stdout).items()}
    assert {"fp4_training", "fp16_training"} <= set(names["chips"])
    assert "fashion_cnn" in names["workloads"]
    estimated = run_installed(unpacked_wheel, tmp_path, "estimate", "fp4_training", "fashion_cnn", "--json")
    assert estimated.returncode == 0, estimated.stderr
    assert json.loads(estimated.stdout)["chip"]["name"] == "fp4_training"
    assert list(tmp_path.iterdir()) == []


def test_make_demo_runs_the_main_job() -> None:
    """``make demo`` is the documented comparison, and nothing else."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    printed = subprocess.run(["make", "-n", "demo"], cwd=ROOT, check=True, capture_output=True, text=True)
    assert "accelsim compare fp4_training fp16_training fashion_cnn --out reports/demo" in printed.stdout


def test_make_without_a_fitting_python_says_so(tmp_path: Path) -> None:
    """An old or missing Python ends in one clear line, and leaves no half-made environment."""
    if shutil.which("make") is None:
        pytest.skip("make is not installed")
    for name in ("Makefile", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    done = subprocess.run(
        ["make", "demo", "PYTHON=/no/such/python"], cwd=tmp_path, check=False, capture_output=True, text=True
    )
    assert done.returncode != 0
    assert (
        "error: accelsim needs Python 3.11 or newer with the venv module; tried: /no/such/python"
        in done.stderr
    )
    assert not (tmp_path / ".venv").exists()


def test_ci_runs_make_test() -> None:
    """The continuous integration runs exactly what a developer runs."""
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert script.read_text(encoding="utf-8").rstrip().endswith("exec make test")
    assert "make test" in (ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8")
