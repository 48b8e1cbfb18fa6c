"""Direct convolutions from a user's side: loop nests, pinned windows, and runs whose bits stay."""

from __future__ import annotations

import re
from math import ceil
from pathlib import Path

import pytest
from small_workloads import write_workload

import accelsim
from accelsim.cli.map import loop_nest, pin_text
from accelsim.errors import InputError


def pinned(folder: Path, text: str) -> Path:
    """A file for --mapping."""
    path = folder / "pins.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def test_the_loop_nest_is_that_of_a_convolution() -> None:
    """Rows and columns of outputs, taps, channels; the images' tiles cover every position and tap."""
    direct = [
        each
        for each in accelsim.map_gemms("fp4_direct", "fashion_cnn", objective="energy")
        if each.plan.patches is not None
    ]
    assert {each.gemm.phase for each in direct} == {"forward", "backward", "update"}
    for each in direct:
        loops = [loop for loop, _ in loop_nest(each)]
        names = " ".join(loops)
        assert all(re.search(rf"\b{name}\b", names) for name in ("oy", "ox", "ky", "kx", "c", "oc", "sample"))
        patches = each.plan.patches
        assert patches is not None
        if patches.chunks:
            (tiles,) = (loop for loop in loops if "tile(s) of" in loop and "oy" in loop)
            count = int(re.findall(r" in (\d+) tile", tiles)[0])
            assert count * patches.chunks * each.plan.chunk * each.plan.k_splits >= each.plan.k
        else:
            (tiles,) = (loop for loop in loops if loop.startswith("for ox in"))
            count, cols = map(int, re.findall(r"\d+", tiles))
            assert (count - 1) * cols < patches.sliding.across.positions <= count * cols


def test_a_shown_window_can_be_pinned(tmp_path: Path) -> None:
    """What --pin writes keeps every plan, direct or not, whatever the objective says later."""
    shown = accelsim.map_gemms("fp4_direct", "fashion_cnn", objective="energy")
    path = pinned(tmp_path, pin_text(shown))
    found = accelsim.map_gemms("fp4_direct", "fashion_cnn", mapping=path)
    assert [each.plan for each in found] == [each.plan for each in shown]


def test_a_run_has_the_bits_of_im2col(tmp_path: Path) -> None:
    """The same dataflows and pieces with windows from the buffer or element by element: equal weights."""
    workload = write_workload(tmp_path)
    shown = accelsim.map_gemms("fp4_direct", workload, objective="energy")
    text = pin_text(shown)
    assert sum(each.plan.patches is not None for each in shown) > 2
    plain = re.sub(r"convolution: direct\n    window: .*\n", "convolution: im2col\n", text)
    records = [
        accelsim.train("fp4_direct", workload, epochs=1, mapping=pinned(tmp_path, each))
        for each in (text, plain)
    ]
    digests = [record.training.weight_digest for record in records if record.training]
    assert digests[0] == digests[1]
    assert len(digests) == 2
    assert records[0].cost != records[1].cost


@pytest.mark.parametrize(
    ("chip", "layer", "keys", "message"),
    [
        ("fp4_training", "stem", "convolution: direct", "convolution: chip 'fp4_training' has no window"),
        ("fp4_training", "stem", "window: {rows: 1, cols: 1}", "window: chip 'fp4_training' has no window"),
        ("fp4_direct", "classifier", "convolution: direct", "'classifier' forward has no windows that share"),
        ("fp4_direct", "conv2d2", "window: {rows: 3, cols: 14}",
         "window: rows must be a power of two or 14, cols 14 or 7 or 4 or 2; two patches must"),
    ],
)  # fmt: skip
def test_a_window_that_cannot_be_is_told(
    chip: str, layer: str, keys: str, message: str, tmp_path: Path
) -> None:
    """File, line and key; what the chip has not, and which tiles there are."""
    path = pinned(tmp_path, f"mappings:\n  - layer: {layer}\n    phase: forward\n    {keys}\n")
    with pytest.raises(InputError, match=r"pins\.yaml:4:5: mappings\[0\]\." + f".*{re.escape(message)}"):
        accelsim.map_gemms(chip, "fashion_cnn", mapping=path)


def test_chunks_that_cannot_be_are_told(tmp_path: Path) -> None:
    """A tile of dL/dW is a power of two of chunks, or all of a piece of K; more than all is cut to all."""
    text = "mappings:\n  - layer: conv2d2\n    phase: update\n    window: {chunks: 3}\n"
    with pytest.raises(
        InputError, match=r"window: chunks must be a power of two, or all of a piece of k; two"
    ):
        accelsim.map_gemms("fp4_direct", "fashion_cnn", mapping=pinned(tmp_path, text))
    path = pinned(tmp_path, text.replace("3", "4096"))
    (found,) = accelsim.map_gemms(
        "fp4_direct", "fashion_cnn", "conv2d2", phase="update", batch=1, mapping=path
    )
    plan = found.plan
    assert plan.patches is not None
    assert plan.patches.chunks == ceil(ceil(plan.k / plan.chunk) / plan.k_splits)
