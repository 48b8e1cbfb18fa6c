"""SCALE-Sim topology files (CSV): convolutions, or matrix products M, N, K.

Columns and conventions: Samajdar et al., ISPASS 2020, and the tool's reader ``scalesim/topology_utils.py``
(names with DP are depthwise; the output extent is rounded up).
"""

from __future__ import annotations

import csv
from collections.abc import Sequence
from pathlib import Path

from accelsim.errors import InputError
from accelsim.importing.naming import layer_name
from accelsim.importing.problem import Problem, Window

CONVOLUTION = (
    "IFMAP height", "IFMAP width", "filter height", "filter width", "channels", "filters", "stride",
)  # fmt: skip
PRODUCT = ("M", "N", "K")


def read_topology(path: Path) -> list[Problem]:
    """The rows of a topology file.

    Raises `InputError` with file and line for a row with too few columns, a cell that is no whole number of
    at least 1, or a filter larger than its input; and for a file without rows.
    """
    rows = [(line, row) for line, row in _cells(path) if any(cell.strip() for cell in row)]
    if len(rows) < 2:
        raise InputError("holds no layers: a header and one line per layer are wanted", str(path))
    header = [cell.strip().upper() for cell in rows[0][1]]
    product = header[1:4] == list(PRODUCT)
    problems: list[Problem] = []
    for line, row in rows[1:]:
        where = f"{path}:{line}"
        numbers = _numbers(row, PRODUCT if product else CONVOLUTION, where)
        name = layer_name(row[0], {each.name for each in problems}) or f"layer{len(problems) + 1}"
        depthwise = "DP" in row[0]
        problems.append(
            _product(name, numbers) if product else _convolution(name, numbers, row, depthwise, where)
        )
    return problems


def _cells(path: Path) -> list[tuple[int, list[str]]]:
    """Every row with its number."""
    try:
        with open(path, encoding="utf-8-sig", newline="") as file:
            return list(enumerate(csv.reader(file), 1))
    except OSError as error:
        raise InputError(f"cannot read the file: {error.strerror}", str(path)) from None
    except (UnicodeDecodeError, csv.Error):
        raise InputError("not a CSV file in UTF-8", str(path)) from None


def _numbers(row: Sequence[str], columns: Sequence[str], where: str) -> list[int]:
    cells = [cell.strip() for cell in row[1 : len(columns) + 1]]
    missing = [column for column, cell in zip(columns, [*cells, *[""] * 9], strict=False) if not cell]
    if missing:
        raise InputError(f"column '{missing[0]}' is missing; wanted: name, {', '.join(columns)}", where)
    for column, cell in zip(columns, cells, strict=True):
        if not cell.isdecimal() or int(cell) < 1:
            raise InputError(f"{column}: must be a whole number of at least 1, got {cell[:40]!r}", where)
    return [int(cell) for cell in cells]


def _product(name: str, numbers: Sequence[int]) -> Problem:
    m, n, k = numbers
    return Problem(name, m, k, n)


def _convolution(
    name: str, numbers: Sequence[int], row: Sequence[str], depthwise: bool, where: str
) -> Problem:
    height, width, down, across, channels, filters, stride = numbers
    if down > height or across > width:
        raise InputError(f"the filter {down} x {across} is larger than its input {height} x {width}", where)
    second = row[8].strip() if len(row) > 8 else ""
    strides = (stride, int(second)) if second.isdecimal() and int(second) > 0 else (stride, stride)
    # rounded up, as the tool does: a window that reaches over the edge counts as a whole one
    rows, cols = (
        -(-(extent - kernel) // step) + 1
        for extent, kernel, step in zip((height, width), (down, across), strides, strict=True)
    )
    groups, per_group = (channels, 1) if depthwise else (1, channels)
    products = down * across * per_group
    window = Window((down, across), strides)
    return Problem(name, rows * cols, products, filters, groups, window=window, extent=(rows, cols))
