"""``accelsim formats --plot``: what is drawn is what the formats do, and mistakes are told."""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import accelsim
from accelsim.cli import main as shell
from accelsim.cli.formats import PLOTTED
from accelsim.errors import InputError
from accelsim.numerics.formats import number_format
from accelsim.report import format_figure
from accelsim.report.format_figure import DrawnFormat, formats_figure


def drawn(name: str, full_scale: float) -> DrawnFormat:
    """A format as the figure gets it."""
    fmt = number_format(name)
    values = np.array(sorted({value for _, value in fmt.table() if value > 0}))
    return DrawnFormat(name, values, fmt.round, full_scale)


def handed_over(monkeypatch: pytest.MonkeyPatch, names: list[str]) -> list[DrawnFormat]:
    """What the verb hands to the drawing."""
    found: list[DrawnFormat] = []
    monkeypatch.setattr(format_figure, "draw_formats", lambda formats, out: found.extend(formats))
    accelsim.draw_formats(names, "nowhere")
    return found


def test_grids_of_one_format_share_their_full_scale(monkeypatch: pytest.MonkeyPatch) -> None:
    """The odd grid stands one octave below the even one; other formats fill their own scale."""
    even, odd, single = handed_over(monkeypatch, ["fp4_r4_even", "fp4_r4_odd", "int4"])
    np.testing.assert_array_equal(even.marks, [-12, -10, -8, -6, -4, -2, 0])
    np.testing.assert_array_equal(odd.marks, even.marks - 1)
    np.testing.assert_allclose(single.marks, np.log2(np.arange(1, 8) / 7))
    (alone,) = handed_over(monkeypatch, ["fp4_r4_odd"])
    assert alone.marks[-1] == 0


def test_infinities_and_nans_are_not_drawn(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only finite values stand on the line, and what is above them saturates."""
    (fmt,) = handed_over(monkeypatch, ["fp8_e5m2"])
    assert fmt.values[-1] == 57344.0
    assert fmt.rounded(np.array([1.0])) == [1.0]


def test_staircase_and_error_are_the_format_s_own() -> None:
    """Octaves to rounded values and relative errors, by hand: ties at 5/8 of radix 4 go up."""
    fmt = drawn("fp4_r4_even", 64.0)
    octaves = np.log2(np.array([40.0, 39.9, 2.5, 0.009, 128.0]) / 64)
    np.testing.assert_array_equal(fmt.rounded(octaves) * 64, [64, 16, 4, 0, 64])
    np.testing.assert_allclose(fmt.error(octaves), [0.6, 1 - 16 / 39.9, 0.6, 1.0, 0.5])
    assert np.min(np.abs(np.exp2(fmt.steps()) * 64 - 40.0)) < 1e-6


def test_figure_holds_a_line_and_two_panels_for_each_format() -> None:
    """Every value has its mark at its place, and the worst error in range stands in the panel."""
    formats = [drawn("fp4_e3m0", 8.0), drawn("fp4_r4_even", 64.0)]
    with format_figure.style():
        figure = formats_figure(formats)
    lines, *panels = figure.axes
    assert len(panels) == 4
    marks = [line.get_xdata() for line in lines.get_lines() if line.get_linestyle() == "None"]
    for found, fmt in zip(marks, formats, strict=True):
        np.testing.assert_array_equal(found, fmt.marks)
    titles = [axes.get_title(loc="left") for axes in panels]
    assert titles[0::2] == ["fp4_e3m0", "fp4_r4_even"]
    assert titles[1].startswith("worst 33 %")
    assert titles[3].startswith("worst 60 %")


def test_values_are_named_as_people_write_them() -> None:
    """Powers below one are fractions; nothing is cut."""
    assert [format_figure._value_text(value) for value in (64.0, 1.5, 0.5, 1 / 128, 0.75)] == [
        "64", "1.5", "1/2", "1/128", "0.75",
    ]  # fmt: skip


def test_command_draws_the_default_the_same_every_time(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """PNG and SVG are written, byte for byte the same, with text that stays text."""
    assert shell.main(["formats", "--plot", "--out", str(tmp_path / "one"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said == {
        "formats": list(PLOTTED),
        "files": [str(tmp_path / "one" / f"formats.{kind}") for kind in ("png", "svg")],
    }
    assert shell.main(["formats", "--plot", "--out", str(tmp_path / "two")]) == 0
    assert capsys.readouterr().out.split() == [
        str(tmp_path / "two" / f"formats.{kind}") for kind in ("png", "svg")
    ]
    for kind in ("png", "svg"):
        first = (tmp_path / "one" / f"formats.{kind}").read_bytes()
        assert first == (tmp_path / "two" / f"formats.{kind}").read_bytes()
    assert (tmp_path / "one" / "formats.png").read_bytes().startswith(b"\x89PNG")
    text = "".join(ElementTree.fromstring((tmp_path / "one" / "formats.svg").read_text("utf-8")).itertext())
    for name in (*PLOTTED, "7 values, 12 octaves", "magnitude / full scale"):
        assert name in text
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == ["formats.png", "formats.svg"]


def test_crowded_and_lonely_formats_can_be_drawn(tmp_path: Path) -> None:
    """A format of a hundred values, one of a wide range, and one alone."""
    accelsim.draw_formats(["fp8_e5m2", "uint2", "fp6_r16"], tmp_path)
    accelsim.draw_formats(["fp4_e2m1"], tmp_path)


@pytest.mark.parametrize(
    ("names", "text"),
    [
        (["fp16"], "fp16: a figure of all values takes formats of at most 8 bits, got 16"),
        (
            ["uint8"],
            "uint8: 255 values above zero are too many for a number line; at most 128 can be told apart",
        ),
        (["int4", "int4"], "the figure shows each format once, got int4, int4"),
        (
            [f"int{bits}" for bits in range(2, 9)] + ["uint2", "uint3"],
            "the figure shows 1 to 8 formats, got 9",
        ),
        ([], "the figure shows 1 to 8 formats, got 0"),
        (["int44"], "unknown number format 'int44' (did you mean 'int4'?)"),
    ],
)
def test_formats_that_cannot_be_drawn(tmp_path: Path, names: list[str], text: str) -> None:
    """What a number line cannot show is refused before anything is written."""
    with pytest.raises(InputError, match="^" + re.escape(text)):
        accelsim.draw_formats(names, tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["int4", "--out", "x"], "--out goes with --plot or --pictures (see accelsim formats --help)"),
        (
            ["int4", "int8"],
            "several NAMEs go with --plot; without it one is wanted, got 2 (see accelsim formats --help)",
        ),
    ],
)
def test_words_that_need_plot(capsys: pytest.CaptureFixture[Any], words: list[str], text: str) -> None:
    """Without --plot there is one NAME and no folder."""
    assert shell.main(["formats", *words]) == 2
    assert capsys.readouterr().err == f"error: {text}\n"
