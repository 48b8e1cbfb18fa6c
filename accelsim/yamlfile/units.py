"""Units at the end of keys: ``clock_mhz``, ``read_energy_pj_per_byte``."""

from __future__ import annotations

from collections.abc import Iterable

_UNITS = {
    "hz": "Hz", "khz": "kHz", "mhz": "MHz", "ghz": "GHz",
    "bit": "bit", "bits": "bits", "byte": "byte", "bytes": "bytes",
    "kb": "kB", "mb": "MB", "gb": "GB", "tb": "TB", "kib": "KiB", "mib": "MiB", "gib": "GiB", "tib": "TiB",
    "aj": "aJ", "fj": "fJ", "pj": "pJ", "nj": "nJ", "uj": "uJ", "mj": "mJ", "j": "J",
    "wh": "Wh", "kwh": "kWh", "g": "g",
    "uw": "uW", "mw": "mW", "w": "W", "kw": "kW", "v": "V", "um2": "um2", "mm2": "mm2", "cm2": "cm2",
    "ns": "ns", "us": "us", "ms": "ms", "s": "s",
    "seconds": "seconds", "minutes": "minutes", "hours": "hours",
    "cycle": "cycle", "cycles": "cycles", "percent": "percent", "fraction": "fraction",
    "per": "per", "mac": "MAC", "pe": "PE", "operation": "operation", "op": "operation", "hop": "hop",
    "toggle": "toggle",
}  # fmt: skip


def split_unit(key: str) -> tuple[str, str]:
    """(stem, unit): ``clock_mhz`` -> ("clock", "MHz"); ``rows`` -> ("rows", "")."""
    words = key.split("_")
    start = len(words)
    while start > 1 and words[start - 1].lower() in _UNITS:
        start -= 1
    return "_".join(words[:start]), " ".join(_UNITS[word.lower()] for word in words[start:]).replace(
        " per ", "/"
    )


def same_but_for_unit(key: str, allowed: Iterable[str]) -> str | None:
    """The allowed key that differs from ``key`` in its unit only, if there is exactly one."""
    stem = split_unit(key)[0]
    matches = [
        name for name in allowed if name != key and split_unit(name)[0] == stem and split_unit(name)[1]
    ]
    return matches[0] if len(matches) == 1 else None
