"""Numbers as people read them: three significant digits, SI prefixes, thousands separators."""

from __future__ import annotations

import math

_PREFIXES = {15: "P", 12: "T", 9: "G", 6: "M", 3: "k", 0: "", -3: "m", -6: "µ", -9: "n", -12: "p", -15: "f"}
_MINUS = "−"


def number(value: float, digits: int = 3) -> str:
    """``value`` to ``digits`` significant digits, never cutting whole digits: 0.0123, 2.90, 41,327."""
    if value == 0:
        return "0"
    decimals = max(0, digits - 1 - _exponent(value, digits))
    return f"{value:,.{decimals}f}".replace("-", _MINUS)


def _exponent(value: float, digits: int) -> int:
    """Power of ten of the leading digit after rounding to ``digits``: 9.999 is a 10.0."""
    return int(f"{abs(value):.{digits - 1}e}".split("e")[1])


def prefix_of(value: float, largest: int = 15) -> tuple[float, str]:
    """The SI prefix under which ``value`` reads best: (unit of that prefix, its letter).

    ``largest`` is the highest power of ten allowed: 0 for seconds, because nobody reads kiloseconds.
    """
    if value == 0 or not math.isfinite(value):
        return 1.0, ""
    power = min(max(_exponent(value, 3) // 3 * 3, -15), largest)
    return 10.0**power, _PREFIXES[power]


def si(value: float, unit: str, largest: int = 15) -> str:
    """``value`` in ``unit`` with an SI prefix and three significant digits: '12.3 µJ'."""
    factor, prefix = prefix_of(value, largest)
    return f"{number(value / factor)} {prefix}{unit}"


def seconds(value: float) -> str:
    """A time: '8.31 ms', '45.2 s', '1,204 s'."""
    return si(value, "s", largest=0)


def joules(value: float) -> str:
    """An energy: '41.2 µJ', '3.10 J'."""
    return si(value, "J")


def mass(kilograms: float) -> str:
    """A mass: '3.10 mg', '41.2 g', '12.0 kg', '284 t'."""
    if kilograms >= 1000:
        return f"{number(kilograms / 1000)} t"
    return si(1000 * kilograms, "g")


def money(amount: float, currency: str) -> str:
    """An amount of money: '41.2 USD'; below a thousandth only that."""
    return f"< 0.001 {currency}" if 0 < amount < 0.001 else f"{number(amount)} {currency}"


def share(fraction: float) -> str:
    """A small share: '0.31 %', '< 0.01 %'."""
    return "< 0.01 %" if 0 < fraction < 0.0001 else percent(fraction, 2)


def size(size_bytes: float) -> str:
    """An amount of memory in binary units: '1.50 MiB'."""
    for unit in ("B", "KiB", "MiB"):
        if size_bytes < 1024:
            return f"{number(size_bytes)} {unit}"
        size_bytes /= 1024
    return f"{number(size_bytes)} GiB"


def percent(fraction: float, decimals: int = 1) -> str:
    """A fraction as a percentage: '86.2 %'."""
    return f"{100 * fraction:.{decimals}f} %"


def points(difference: float) -> str:
    """A signed difference of two accuracies in percentage points: '−0.8 points', '±0.0 points'."""
    text = f"{abs(difference):.1f} points"
    if text == "0.0 points":
        return f"±{text}"
    return f"+{text}" if difference > 0 else f"{_MINUS}{text}"


def times(ratio: float, digits: int = 3) -> str:
    """A ratio: '2.90×'."""
    return f"{number(ratio, digits)}×"
