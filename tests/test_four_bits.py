"""The figure of a tensor in four bits: what falls where, and that the picture is drawn from it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from accelsim.cli.formats import command
from accelsim.errors import InputError
from accelsim.run.rescaling import in_four_bits, rescaled


def test_the_line_takes_the_span_to_all_sixteen_codes() -> None:
    """0 becomes -8, 1 becomes 7, and 0.3 becomes -3.5, which rounds to -4."""
    falls = rescaled(np.array([0.0, 0.3, 1.0]), 0.0, 1.0)
    assert falls.tolist() == [-8.0, -3.5, 7.0]
    assert in_four_bits(np.array([0.0, 0.3, 1.0])).codes.tolist() == [-8, -4, 7]


def test_a_tensor_has_at_most_fifteen_values_on_the_base_4_grid_each_a_power_of_four() -> None:
    """Every value but zero is the largest magnitude divided by a power of four, 0 to 6."""
    values = np.linspace(-3.0, 5.0, 1001)
    made = in_four_bits(values)
    powers = -np.log2(np.abs(made.logarithmic[made.logarithmic != 0]) / 5.0) / 2
    assert set(powers) <= set(range(7))
    assert np.abs(made.codes - rescaled(values, -3.0, 5.0)).max() <= 0.5
    assert len(np.unique(made.logarithmic)) <= 15


@pytest.mark.parametrize("values", [[], [1.0, 1.0], [0.0, np.nan]])
def test_a_tensor_without_a_span_is_refused(values: list[float]) -> None:
    """There is no line through one point."""
    with pytest.raises(InputError, match="needs at least two different finite values"):
        in_four_bits(np.array(values))


def test_the_command_draws_the_same_picture_twice(tmp_path: Path) -> None:
    """`accelsim formats --pictures` writes PNG and SVG, the same bytes each time."""
    for folder in ("one", "two"):
        outcome = CliRunner().invoke(command, ["--pictures", "--out", str(tmp_path / folder)])
        assert outcome.exit_code == 0, outcome.output
    for kind in ("png", "svg"):
        first = (tmp_path / "one" / f"four_bits.{kind}").read_bytes()
        assert first == (tmp_path / "two" / f"four_bits.{kind}").read_bytes()
        assert len(first) > 10_000
    assert "-3.5 rounds to -4" in (tmp_path / "one" / "four_bits.svg").read_text(encoding="utf-8")
