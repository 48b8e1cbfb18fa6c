"""Numbers of a chip file as exact fractions and whole attojoules."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from accelsim.mapping.attojoules import exact, rounded


@pytest.mark.parametrize(
    ("number", "fraction"), [(0.1, Fraction(1, 10)), (300, Fraction(300)), (2.5e-3, Fraction(1, 400))]
)
def test_a_decimal_is_what_its_text_says(number: float, fraction: Fraction) -> None:
    """Not the binary fraction beside it."""
    assert exact(number) == fraction


@given(dividend=st.integers(0, 10**18), rate=st.fractions(0, 10**9, max_denominator=1000))
def test_a_product_is_rounded_half_to_even(dividend: int, rate: Fraction) -> None:
    """As Python rounds the fraction itself."""
    assert rounded(dividend, rate) == round(dividend * rate)


def test_halves_go_to_the_even_side() -> None:
    """0.5, 1.5 and 2.5 times one."""
    assert [rounded(1, Fraction(halves, 2)) for halves in (1, 3, 5)] == [0, 2, 2]
