"""Block formats against their slow twin on exact fractions, and as the packages see them."""

from __future__ import annotations

import math

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from oracles import catalog, formats

from accelsim.errors import InputError
from accelsim.numerics.block_conversion import quotients_to_round
from accelsim.numerics.block_formats import BlockScales, block_format, block_format_names, stored_bits
from accelsim.numerics.random_bits import stream_key

NAMES = list(catalog.BLOCKS)
MX = [name for name in NAMES if name.startswith("mx")]


def assert_encodes(name: str, row: list[float], rounding: str = "") -> None:
    """Codes, scale codes and tensor scale of one row are the twin's, and decode to their exact product."""
    codes, scales = block_format(name).encode(row, rounding=rounding or None)
    wanted, scale_codes, tensor = catalog.encode_blocks(name, row, rounding)
    assert scales.codes.tolist() == scale_codes
    assert scales.tensor == tensor
    assert codes.tolist() == wanted
    layout = catalog.BLOCKS[name]
    scale_of = catalog.value_of_scale(layout.scale)
    for index, value in enumerate(block_format(name).decode(codes, scales).tolist()):
        element = catalog.decode(layout.element, wanted[index])
        assert value == element * scale_of(scale_codes[index // layout.block]) * tensor


def hard_row(name: str, seed: int) -> list[float]:
    """A row of elements on thresholds of their scaled format, one float64 beside them, and anywhere."""
    rng = np.random.default_rng(seed)
    layout = catalog.BLOCKS[name]
    length = 3 * layout.block + 5
    row = rng.normal(0, 1, length) * 2.0 ** rng.integers(-3, 4)
    _, scale_codes, tensor = catalog.encode_blocks(name, row.tolist())
    middles = catalog.middles(layout.element)
    for index in range(length):
        scale = catalog.value_of_scale(layout.scale)(scale_codes[index // layout.block]) * tensor
        middle = middles[int(rng.integers(0, len(middles) - 1))]
        hard = float(middle * scale)
        if abs(hard) < np.abs(row[index // layout.block * layout.block :][: layout.block]).max():
            row[index] = [hard, math.nextafter(hard, 0), math.nextafter(hard, 9)][index % 3] * (-1) ** (
                index % 2
            )
    return row.tolist()


def test_names() -> None:
    """The library knows exactly the block formats the twin knows, with their widths."""
    assert block_format_names() == NAMES
    for name in NAMES:
        fmt, layout = block_format(name), catalog.BLOCKS[name]
        assert (fmt.name, str(fmt), fmt.element.name, fmt.block) == (name, name, layout.element, layout.block)
        assert fmt.bits_per_value == formats.bits(layout.element) + 8 / layout.block
        assert block_format(fmt) is fmt


@pytest.mark.parametrize("rounding", ["", *catalog.DETERMINISTIC])
@pytest.mark.parametrize("name", NAMES)
def test_hard_rows(name: str, rounding: str) -> None:
    """Elements on thresholds after scaling, where a rounded quotient goes wrong, in every rounding."""
    for seed in range(6):
        assert_encodes(name, hard_row(name, seed), rounding)


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=60, deadline=None)
@given(
    row=st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=1, max_size=40)
    | st.lists(st.floats(-100, 100, width=32), min_size=1, max_size=70),
    rounding=st.sampled_from(["", *catalog.DETERMINISTIC]),
)
def test_any_row(name: str, row: list[float], rounding: str) -> None:
    """Any finite float64 in any rounding: huge, subnormal, zero, mixed."""
    assert_encodes(name, row, rounding)


@pytest.mark.parametrize("name", NAMES)
def test_zeros_and_extremes(name: str) -> None:
    """Blocks of zeros, of the smallest and of the largest numbers keep their signs and stay finite."""
    block = catalog.BLOCKS[name].block
    rows = [
        [0.0, -0.0] * block,
        [5e-324, -5e-324, 0.0],
        [1.7e308, -1.7e308, 1.0],
        [1.0] * block + [2.0**-40] * block + [-0.0],
        [2.0**-127, 2.0**-128, 1.5 * 2.0**-126, 2.0**-149],
    ]
    for row in rows:
        assert_encodes(name, row)
        assert np.isfinite(block_format(name).decode(*block_format(name).encode(row))).all()


@pytest.mark.parametrize("name", NAMES)
def test_any_axis_is_the_last_axis_moved(name: str) -> None:
    """Blocks along any axis, from either end, are those of the array with that axis moved last."""
    fmt = block_format(name)
    values = np.random.default_rng(8).normal(0, 3, (3, 37, 4))
    last_codes, last_scales = fmt.encode(np.moveaxis(values, 1, -1))
    for axis in (1, -2):
        codes, scales = fmt.encode(values, axis)
        assert codes.dtype == scales.codes.dtype == np.uint8
        np.testing.assert_array_equal(np.moveaxis(codes, 1, -1), last_codes)
        np.testing.assert_array_equal(np.moveaxis(scales.codes, 1, -1), last_scales.codes)
        back = fmt.decode(codes, scales, axis)
        np.testing.assert_array_equal(np.moveaxis(back, 1, -1), fmt.decode(last_codes, last_scales))


@pytest.mark.parametrize("name", NAMES)
def test_encoding_is_stable(name: str) -> None:
    """What a block decodes to encodes to the same numbers again (MX), and never leaves its block's range."""
    fmt = block_format(name)
    values = np.random.default_rng(9).normal(0, 1, (8, 64))
    back = fmt.decode(*fmt.encode(values))
    assert np.abs(back - values).max() <= 0.2 * np.abs(values).max()
    if name in MX:
        np.testing.assert_array_equal(fmt.decode(*fmt.encode(back)), back)


@pytest.mark.parametrize("name", NAMES)
def test_empty(name: str) -> None:
    """No elements, no blocks."""
    for shape, blocks in [
        ((0,), (0,)),
        ((3, 0), (3, 0)),
        ((0, 40), (0, -(-40 // catalog.BLOCKS[name].block))),
    ]:
        codes, scales = block_format(name).encode(np.zeros(shape))
        assert (codes.shape, scales.codes.shape) == (shape, blocks)
        assert block_format(name).decode(codes, scales).shape == shape


def test_stochastic_elements() -> None:
    """Stochastic elements have nearest scales, take the words of their places, and are right on average."""
    fmt, key = block_format("nvfp4"), stream_key(1, "gradient")
    values = np.random.default_rng(4).normal(0, 1, (40, 48))
    codes, scales = fmt.encode(values, rounding="stochastic", key=key)
    nearest, nearest_scales = fmt.encode(values)
    np.testing.assert_array_equal(scales.codes, nearest_scales.codes)
    assert (codes != nearest).any()
    rows = [fmt.encode(row, rounding="stochastic", key=key, first=48 * i)[0] for i, row in enumerate(values)]
    same = [fmt.encode(row)[1].tensor == scales.tensor for row in values]
    assert any(same)
    for row, whole, comparable in zip(rows, codes, same, strict=True):
        assert not comparable or row.tolist() == whole.tolist()
    inside = np.abs(values) < 0.9 * np.abs(values).max()
    draws = [fmt.decode(*fmt.encode(values, rounding="stochastic", key=key + i)) for i in range(300)]
    assert np.abs((np.mean(draws, axis=0) - values)[inside]).mean() < 0.02


def test_scale_codes_are_e8m0() -> None:
    """A second opinion: the codes of MX scales are ml_dtypes' E8M0, NaN included."""
    codes = np.arange(256, dtype=np.uint8)
    theirs = codes.view(ml_dtypes.float8_e8m0fnu).astype(np.float64)
    fmt = block_format("mxfp4")
    ours = fmt.decode(np.full(256 * 32, 2, np.uint8), BlockScales(codes)).reshape(256, 32)
    np.testing.assert_array_equal(ours, np.repeat(theirs[:, None], 32, axis=1))


@pytest.mark.parametrize("name", MX)
def test_gfloat_agrees(name: str) -> None:
    """A second opinion: gfloat quantises the same blocks to the same values."""
    gfloat = pytest.importorskip("gfloat", reason="gfloat is not installed")
    from gfloat import formats as theirs

    info = getattr(theirs, f"format_info_{name}" if name != "mxfp4" else "format_info_mxfp4_e2m1")
    rng = np.random.default_rng(10)
    for _ in range(40):
        block = (rng.normal(0, 1, 32) * 2.0 ** rng.integers(-60, 60)).astype(np.float32).astype(np.float64)
        ours = block_format(name).decode(*block_format(name).encode(block))
        np.testing.assert_array_equal(ours, gfloat.quantize_block(info, block, gfloat.compute_scale_amax))


def test_quotients_fall_on_the_right_side() -> None:
    """One float64 step beside the product of a short number and a divisor, the quotient is on that side."""
    rng = np.random.default_rng(12)
    divisors = rng.integers(1, 2**28, 40_000) * 2.0 ** rng.integers(-150, 100, 40_000)
    short = rng.integers(1, 2**25, 40_000).astype(np.float64)
    short[::7] = 2.0 ** rng.integers(0, 25, len(short[::7]))
    products = short * divisors
    for target, side in ((math.inf, 1), (0.0, -1)):
        quotients = quotients_to_round(np.nextafter(products, target), divisors)
        assert (np.sign(quotients - short) == side).all()
    np.testing.assert_array_equal(quotients_to_round(-products, divisors), -short)
    edge = quotients_to_round(
        np.array([5e-324, -5e-324, -0.0, 1.0, -1.0]), np.array([2.0**90] * 3 + [0.0] * 2)
    )
    assert edge.tolist() == [5e-324, -5e-324, 0.0, 0.0, 0.0]
    assert np.signbit(edge).tolist() == [False, True, True, False, True]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_must_be_finite(bad: float) -> None:
    """A NaN or an infinity in a block is one clear error."""
    with pytest.raises(
        InputError, match=r"^mxfp4: values must be finite, but they hold a NaN or an infinity$"
    ):
        block_format("mxfp4").encode([1.0, bad])


def test_mistakes_of_shape_and_name() -> None:
    """An unknown name, an axis that is not there, scales and codes that do not fit are one error each."""
    fmt = block_format("nvfp4")
    with pytest.raises(
        InputError, match=r"^unknown block format 'nvfp5' \(did you mean 'nvfp4'\?\); allowed: mx"
    ):
        block_format("nvfp5")
    with pytest.raises(InputError, match=r"^nvfp4: there is no axis 1 in an array of 1 dimensions$"):
        fmt.encode([1.0], axis=1)
    with pytest.raises(InputError, match=r"^nvfp4: there is no axis -1 in an array of 0 dimensions$"):
        fmt.encode(1.0)
    codes, scales = fmt.encode(np.ones((2, 33)))
    text = r"^nvfp4: codes of shape \(2, 32\) need scales of shape \(2, 2\), got \(2, 3\)$"
    with pytest.raises(InputError, match=text):
        fmt.decode(codes[:, :32], scales)
    with pytest.raises(InputError, match=r"^fp4_e2m1: code 16 does not fit in 4 bits; allowed: 0\.\.15$"):
        fmt.decode(codes * 0 + 16, scales)
    with pytest.raises(InputError, match=r"^mxfp4: code 256 does not fit in 8 bits; allowed: 0\.\.255$"):
        block_format("mxfp4").decode([1], BlockScales(np.array([256])))
    with pytest.raises(InputError, match=r"^nvfp4: stochastic rounding needs the key of its random bits$"):
        fmt.encode([1.0], rounding="stochastic")
    with pytest.raises(InputError, match=r"^nvfp4: values are real numbers, got complex128$"):
        fmt.encode([1j])


@pytest.mark.parametrize(
    ("name", "bits"), [("tf32", 32), ("fp32", 32), ("bf16", 16), ("int4", 4), ("fp6_e2m3", 6)]
)
def test_what_is_wider_than_sixteen_bits_lies_in_words_of_32(name: str, bits: int) -> None:
    """A TF32 multiplier reads 19 bits of each word; memory holds all of it."""
    assert stored_bits(name) == bits
