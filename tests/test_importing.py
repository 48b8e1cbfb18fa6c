"""Topologies and problems of other tools as workloads: the same matrix products, and clear mistakes."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest
from plain_executor import PlainExecutor

from accelsim.cli import main as shell
from accelsim.errors import InputError
from accelsim.importing import OnnxChoice, Training, import_file
from accelsim.network import Refit, Site
from accelsim.program import compile_program, model_size
from accelsim.recipe import load_recipe
from accelsim.workload import load_workload

TOPOLOGY = """\
Layer name, IFMAP Height, IFMAP Width, Filter Height, Filter Width, Channels, Num Filter, Strides,
Conv1     ,224         ,224        ,11           ,11          ,3       ,96        ,4      ,
Conv 2    ,27         ,27        ,5            ,5           ,96      ,256       ,1      ,
\tOblong,1,27,1,5,96,64,1,2,

Conv3DP, 13, 13, 3, 3, 32, 1, 1,#dw
FC, 1, 1, 1, 1, 1024, 1000, 1,
"""

ZIGZAG = """\
- id: 0
  name: Conv1
  operator_type: Conv
  equation: O[b][k][oy][ox]+=W[k][c][fy][fx]*I[b][c][iy][ix]
  dimension_relations: [ix=2*ox+1*fx, iy=2*oy+1*fy]
  loop_dims: [B, K, C, OY, OX, FY, FX]
  loop_sizes: [4, 64, 3, 112, 112, 7, 7]
- id: 1
  operator_type: Pooling
- id: 2
  operator_type: Conv
  equation: O[b][g][k][oy][ox]+=W[g][k][c][fy][fx]*I[b][g][c][iy][ix]
  dimension_relations: [ix=1*ox+1*fx, iy=1*oy+1*fy]
  loop_dims: [B, G, K, C, OY, OX, FY, FX]
  loop_sizes: [4, 64, 1, 1, 56, 56, 3, 3]
- id: 3
  operator_type: Gemm
  equation: O[b][k]+=W[k][c]*I[b][c]
  loop_dims: [B, K, C]
  loop_sizes: [4, 1000, 512]
"""

ATTENTION = """\
- id: 4
  operator_type: MatMul
  equation: O[h][m][n]+=A[h][m][k]*B[h][k][n]
  loop_dims: [H, M, N, K]
  loop_sizes: [12, 128, 96, 64]
"""

TIMELOOP = """\
problem:
  shape: cnn-layer
  instance: {C: 64, M: 128, R: 3, S: 3, N: 2, P: 28, Q: 28, Wstride: 2, Hstride: 2}
"""

GEMM = """\
problem:
  shape:
    name: product
    dimensions: [A, B, C]
    data-spaces:
      - {name: Left, projection: [[[A]], [[C]]]}
      - {name: Right, projection: [[[C]], [[B]]]}
      - {name: Result, projection: [[[A]], [[B]]], read-write: true}
  instance: {A: 30, B: 20, C: 10}
"""

Product = tuple[int, int, int, int]


def products(tmp_path: Path, name: str, text: str) -> tuple[int, list[Product]]:
    """(batch, groups and M, K, N of every forward GEMM of the imported file's workload)."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    imported = import_file(tmp_path / name)
    path = tmp_path / "imported_workload.yaml"
    path.write_text(imported.text, encoding="utf-8")
    workload = load_workload(path)
    assert workload.name == imported.name
    program = compile_program(workload, load_recipe("fp16_dlfloat"))
    forward = [gemm for gemm in program.gemms if gemm.phase == "forward"]
    return workload.batch, [(gemm.groups, gemm.m, gemm.k, gemm.n) for gemm in forward]


def test_a_topology_becomes_the_products_that_its_own_tool_counts(tmp_path: Path) -> None:
    """Output extents rounded up, DP rows by channel, an oblong filter with two steps: M, K, N of each row."""
    assert products(tmp_path, "net.csv", TOPOLOGY) == (
        1,
        [
            (1, 55 * 55, 11 * 11 * 3, 96),
            (1, 23 * 23, 5 * 5 * 96, 256),
            (1, 1 * 12, 5 * 96, 64),
            (32, 11 * 11, 9, 1),
            (1, 1, 1024, 1000),
        ],
    )


def test_a_topology_of_products_is_taken_as_it_is(tmp_path: Path) -> None:
    """Columns M, N, K are the GEMM itself, with or without a comma at the end of the line."""
    text = "Layer,M,N,K\nQKT,1024,512,64\nout,128,96,32,\n"
    assert products(tmp_path, "gemm.csv", text) == (1, [(1, 1024, 64, 512), (1, 128, 32, 96)])


def test_zigzag_operators_with_one_batch_share_it(tmp_path: Path) -> None:
    """B is the mini-batch; strides come from the relations; grouped loops are groups; pooling has no MACs."""
    assert products(tmp_path, "zigzag.yaml", ZIGZAG) == (
        4,
        [(1, 4 * 112 * 112, 147, 64), (64, 4 * 56 * 56, 9, 1), (1, 4, 512, 1000)],
    )


def test_zigzag_operators_with_different_batches_are_one_sample(tmp_path: Path) -> None:
    """A product of activations has no batch: all rows then hold their own, and no MAC is lost."""
    batch, found = products(tmp_path, "zigzag.yaml", ZIGZAG + ATTENTION)
    assert batch == 1
    assert found[-1] == (12, 128, 64, 96)
    sizes = [4 * 112 * 112 * 147 * 64, 64 * 4 * 56 * 56 * 9, 4 * 512 * 1000, 12 * 128 * 64 * 96]
    assert [math.prod(product) for product in found] == sizes


def test_timeloop_problems_by_name_and_by_data_spaces(tmp_path: Path) -> None:
    """The shape named cnn-layer, and any product of two tensors that its data spaces spell out."""
    assert products(tmp_path, "conv.yaml", TIMELOOP) == (2, [(1, 2 * 28 * 28, 9 * 64, 128)])
    assert products(tmp_path, "gemm.yaml", GEMM) == (1, [(1, 30, 10, 20)])


def test_oblong_and_spread_windows_stay_convolutions(tmp_path: Path) -> None:
    """Kernel, steps and dilation of each axis, on an image just as large as the windows reach."""
    changed = TIMELOOP.replace("R: 3", "R: 5").replace("Wstride: 2, H", "Wstride: 3, Wdilation: 2, H")
    assert products(tmp_path, "conv.yaml", changed) == (2, [(1, 2 * 28 * 28, 15 * 64, 128)])
    text = import_file(tmp_path / "conv.yaml").text
    assert f"shape: [{27 * 3 + 4 * 2 + 1}, {27 * 2 + 3}, 64]" in text
    assert "kernel: [5, 3], stride: [3, 2], padding: 0, dilation: [2, 1]" in text


def test_windows_beyond_a_layers_are_the_product_that_they_become(tmp_path: Path) -> None:
    """A kernel of more than 1024 taps along an axis keeps its MACs as a matrix product."""
    long = TIMELOOP.replace("R: 3", "R: 2000")
    assert products(tmp_path, "conv.yaml", long) == (2, [(1, 2 * 28 * 28, 6000 * 64, 128)])


def test_training_settings_enter_the_file(tmp_path: Path) -> None:
    """Batch, epochs and samples that the user gives stand in the workload."""
    (tmp_path / "net.csv").write_text(TOPOLOGY, encoding="utf-8")
    imported = import_file(tmp_path / "net.csv", Training(batch=8, epochs=3, samples=100))
    (tmp_path / "net.yaml").write_text(imported.text, encoding="utf-8")
    workload = load_workload(tmp_path / "net.yaml")
    assert (workload.batch, workload.epochs, workload.data.train_samples) == (8, 3, 100)


def test_the_command_writes_a_workload_and_says_its_size(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``accelsim import`` names the file, its layers, parameters and MACs."""
    (tmp_path / "net.csv").write_text(TOPOLOGY, encoding="utf-8")
    out = tmp_path / "net.yaml"
    assert shell.main(["import", str(tmp_path / "net.csv"), "--out", str(out)]) == 0
    size = model_size(load_workload(out))
    counts = f"{size.parameters:,} parameters, {size.macs:,} MACs forward per sample"
    assert capsys.readouterr().out == f"{out}: {size.layers} layers, {counts}\n"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.csv", "Layer,M,N,K\n", "a.csv: holds no layers: a header and one line per layer are wanted"),
        ("a.csv", "Layer,M,N,K\nx,1,2\n", "a.csv:2: column 'K' is missing; wanted: name, M, N, K"),
        ("a.csv", "Layer,M,N,K\nx,1,2,-3\n", "a.csv:2: K: must be a whole number of at least 1, got '-3'"),
        ("a.csv", TOPOLOGY + "big,2,2,3,3,1,1,1,\n", "a.csv:8: the filter 3 x 3 is larger than its input 2"),
        ("a.txt", "", "a.txt: unknown kind of file: an .onnx model, a SCALE-Sim .csv or a "),
        ("a.yaml", "name: x\n", "a.yaml: neither a ZigZag workload (a list of operators) nor a Timeloop"),
        ("a.yaml", "- 5\n", "a.yaml:1:3: must be an operator with 'equation', 'loop_dims' and 'loop_sizes'"),
        ("a.yaml", "- {operator_type: Pooling}\n", "a.yaml: holds no operator that runs on a MAC array"),
        ("a.yaml", "- {equation: 'O[a]+=W[b]'}\n", "a.yaml:1:3: equation: must name three tensors (O[..]+=W"),
        ("a.yaml", ZIGZAG.replace("[B, K, C]", "[B, K]"), "'loop_dims' and 'loop_sizes' must be two lists"),
        ("a.yaml", ZIGZAG.replace("ix=2*ox+1*fx", "ix=ox"), "dimension_relations: cannot read 'ix=ox': ix"),
        ("a.yaml", ZIGZAG.replace("[ix=2*ox+1*fx", "5 # [ix"), "dimension_relations: must be a list, got"),
        ("a.yaml", ATTENTION.replace("B[h][k]", "B[h]"), "loop k indexes one tensor only"),
        ("a.yaml", ATTENTION.replace("12,", "0,"), "H: must be a whole number of at least 1, got '0'"),
        ("a.yaml", TIMELOOP.replace("cnn-", "cn-"), "unknown shape 'cn-layer' (did you mean 'cnn-layer'?)"),
        ("a.yaml", "problem: 3\n", "problem: must be a mapping with 'shape' and 'instance'"),
        ("a.yaml", "problem: {shape: 3}\n", "shape: must be a name or a mapping with 'dimensions' and "),
        ("a.yaml", GEMM.replace(", read-write: true", ""), "shape: needs two data spaces that are read"),
        ("a.yaml", GEMM.replace("[[[A]], [[C]]]", "3"), "data space 'Left': 'projection' must be a list"),
        ("a.yaml", GEMM.replace("[[[A]], [[C]]]", "[[[A]], [[]]]"), "each a list of [LOOP] or [LOOP, COEFF"),
        ("a.yaml", "problem: {shape: {data-spaces: 5, coefficients: [3]}}\n", "shape: needs two data spaces"),
        ("a.yaml", GEMM.replace(", C: 10", ""), "loop 'C' has no size; sizes are given for: A, B"),
    ],
)  # fmt: skip
def test_mistakes_are_told_in_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    """What cannot be read names the file, the row or operator and what is wanted."""
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape(message)):
        import_file(tmp_path / name)


def test_options_of_onnx_go_with_no_other_file(tmp_path: Path) -> None:
    """An option that would change nothing is a mistake, and so is a directory."""
    (tmp_path / "net.csv").write_text(TOPOLOGY, encoding="utf-8")
    with pytest.raises(InputError, match=re.escape("--size: goes with an ONNX file, not with net.csv")):
        import_file(tmp_path / "net.csv", onnx=OnnxChoice({"a": 3}))
    with pytest.raises(InputError, match=re.escape("--output: goes with an ONNX file, not with net.csv")):
        import_file(tmp_path / "net.csv", onnx=OnnxChoice({}, "y"))
    with pytest.raises(InputError, match="this is a directory; a file is wanted"):
        import_file(tmp_path)


def test_a_topology_that_is_no_text_is_told(tmp_path: Path) -> None:
    """Bytes that are no UTF-8 are a mistake of the file, told with its name."""
    path = tmp_path / "a.csv"
    path.write_bytes(b"Layer, M, N, K,\n\xff\xfe,1,2,3,\n")
    with pytest.raises(InputError, match=r"a\.csv: not a CSV file in UTF-8"):
        import_file(path)


def test_what_becomes_no_workload_writes_over_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rows that a topology may have and a workload may not: told at the file, the old workload stays."""
    file, out = tmp_path / "net.csv", tmp_path / "net.yaml"
    file.write_text("Layer,M,N,K,\nwide,100000000,8,8,\n", encoding="utf-8")
    out.write_text("mine", encoding="utf-8")
    assert shell.main(["import", str(file), "--out", str(out)]) == 2
    told = capsys.readouterr().err
    assert told.startswith(f"error: {file}: would become no workload: ")
    assert "must be at most 16777216, got 100000000" in told
    assert out.read_text(encoding="utf-8") == "mine"


def test_a_missing_file_and_a_bad_size_are_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Mistakes on the command line end in one line and exit code 2."""
    assert shell.main(["import", str(tmp_path / "none.onnx")]) == 2
    assert capsys.readouterr().err == f"error: {tmp_path / 'none.onnx'}: no such file\n"
    assert shell.main(["import", "x.onnx", "--size", "batch=-1"]) == 2
    error = "error: --size: must be NAME=NUMBER with a number of at least 1, got 'batch=-1'\n"
    assert capsys.readouterr().err == error


@pytest.mark.parametrize("shape", [(2, 3), (4,), (30,)])
def test_refit_repeats_and_cuts_off(shape: tuple[int, ...]) -> None:
    """Values in order, from the start again where more are wanted; its gradient is the exact transpose."""
    generator = np.random.default_rng(1)
    layer, site = Refit(shape=shape), Site("refit1", (3, 4))
    chip = PlainExecutor([])
    x = generator.standard_normal((2, 3, 4)).astype(np.float32)
    y = layer.forward(site, x, chip)
    flat = [np.resize(each, math.prod(shape)).reshape(shape) for each in x]
    np.testing.assert_array_equal(y, flat)
    dy = np.ones_like(y)
    counts = np.bincount(np.arange(math.prod(shape)) % 12, minlength=12)
    np.testing.assert_array_equal(layer.backward(site, dy, chip)[0], counts.reshape(3, 4))
