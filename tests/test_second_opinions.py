"""Other people's packages on the same conversions, in the rounding modes that they share with us."""

from __future__ import annotations

import math

import numpy as np
import pytest
from oracles import catalog

from accelsim.numerics.formats import number_format

GFLOAT = {
    "fp4_e2m1": "ocp_e2m1",
    "fp6_e2m3": "ocp_e2m3",
    "fp6_e3m2": "ocp_e3m2",
    "fp8_e4m3fn": "ocp_e4m3",
    "fp8_e5m2": "ocp_e5m2",
    "fp16": "binary16",
    "bf16": "bfloat16",
    "fp32": "binary32",
}
GFLOAT_ROUNDINGS = {"nearest_even": "TiesToEven", "nearest_up": "TiesToAway", "toward_zero": "TowardZero"}
APYTYPES_ROUNDINGS = {
    "nearest_even": "TIES_EVEN",
    "nearest_up": "TIES_AWAY",
    "nearest_down": "TIES_ZERO",
    "toward_zero": "TO_ZERO",
    "to_odd": "JAM_UNBIASED",
}


def hard_values(name: str) -> np.ndarray:
    """Numbers, middles and their float64 neighbours from all over a format's range, some beyond."""
    rng = np.random.default_rng(7)
    twin = catalog.twin(name)
    codes = {0, 1, 2, twin.top - 1, twin.top, *rng.integers(0, twin.top, 150).tolist()}
    places = [twin.place(code) * twin.unit if code else 0 for code in sorted(codes)]
    nexts = [twin.place(code + 1) * twin.unit for code in sorted(codes)]
    exact = np.array(
        [float(x) for low, high in zip(places, nexts, strict=True) for x in (low, (low + high) / 2)]
    )
    around = np.concatenate([exact, np.nextafter(exact, math.inf), np.nextafter(exact, 0)])
    return np.concatenate([around, -around, rng.normal(0, 2, 200), [3 * exact.max()]])


@pytest.mark.parametrize("saturate", [False, True])
@pytest.mark.parametrize("rounding", GFLOAT_ROUNDINGS)
@pytest.mark.parametrize("name", GFLOAT)
def test_gfloat(name: str, rounding: str, saturate: bool) -> None:
    """gfloat rounds the hard values to the same numbers, saturating or not."""
    gfloat = pytest.importorskip("gfloat", reason="gfloat is not installed")
    from gfloat import formats as theirs

    number, info = number_format(name), getattr(theirs, f"format_info_{GFLOAT[name]}")
    overflow = "saturate" if saturate else number.overflow
    values = hard_values(name)
    # gfloat adds a half and takes the floor, which lifts the last float64 below a half to one
    values = values[np.abs(values) != math.nextafter(number.min_positive / 2, 0)]
    ours = number.round(values, rounding, overflow)
    mode = gfloat.RoundMode[GFLOAT_ROUNDINGS[rounding]]
    sat = saturate or number.saturates
    wanted = np.array([gfloat.round_float(info, float(value), mode, sat) for value in values])
    np.testing.assert_array_equal(ours, wanted)


@pytest.mark.parametrize("overflow", ["saturate", "wrap"])
@pytest.mark.parametrize("rounding", APYTYPES_ROUNDINGS)
@pytest.mark.parametrize("name", ["int4", "int8", "fixed16_2_14", "fixed16_8_8", "fixed16_16_0"])
def test_apytypes(name: str, rounding: str, overflow: str) -> None:
    """apytypes casts fixed-point numbers to the same codes, saturating or wrapping."""
    apytypes = pytest.importorskip("apytypes", reason="apytypes is not installed")
    number = number_format(name)
    rng = np.random.default_rng(8)
    wide = 2.0 ** (number.bits + 1) * number.unit
    values = np.round(rng.uniform(-wide, wide, 3000) / number.unit * 8) / 8 * number.unit
    fine = apytypes.APyFixedArray.from_float(values, int_bits=20, frac_bits=20)
    assert (fine.to_numpy() == values).all()
    fraction_bits = -int(math.log2(number.unit))
    cast = fine.cast(
        int_bits=number.bits - fraction_bits,
        frac_bits=fraction_bits,
        quantization=getattr(apytypes.QuantizationMode, APYTYPES_ROUNDINGS[rounding]),
        overflow=apytypes.OverflowMode.SAT if overflow == "saturate" else apytypes.OverflowMode.WRAP,
    )
    np.testing.assert_array_equal(number.round(values, rounding, overflow), cast.to_numpy())
