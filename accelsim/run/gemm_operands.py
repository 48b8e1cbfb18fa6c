"""The operands of a lone GEMM: from a .npy file, an array, or random; always codes of one format."""

from __future__ import annotations

from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelsim.errors import InputError
from accelsim.numerics.formats import NumberFormat
from accelsim.numerics.random_bits import stream_key, uniform

Codes = NDArray[Any]
Shape = tuple[int, int]

_MAGIC = b"\x93NUMPY"
_NORMAL_TERMS = 12  # the variance of a sum of twelve uniforms is 1
_BLOCK = 1 << 16


def given_codes(source: str | Path | NDArray[Any], name: str, shape: Shape, fmt: NumberFormat) -> Codes:
    """Codes of ``fmt`` from a .npy file or an array of that shape.

    Unsigned integers are codes, taken as they are. Floating-point numbers are values: each is rounded
    once to the format, by the format's own rounding and without any scale.

    Raises
    ------
    InputError: a file that cannot be read or holds no such array, another shape, another kind of
        number, a code that does not fit, a NaN for a format that has none. ``name`` (a or b) or the
        file stands in front.
    """
    in_memory = isinstance(source, np.ndarray)
    where = name if in_memory else str(source)
    array = source if isinstance(source, np.ndarray) else _read(Path(source))
    _check(array, name, shape, fmt, where)
    try:
        if array.dtype.kind == "f":
            return fmt.encode(array)
        fmt.decode(array)
    except InputError as error:
        raise InputError(str(error), where) from None
    return np.ascontiguousarray(array, fmt.code_dtype)


def _check(array: NDArray[Any], name: str, shape: Shape, fmt: NumberFormat, where: str) -> None:
    if array.shape != shape:
        held = " x ".join(map(str, array.shape)) or "a single number"
        extents = "M x K" if name == "a" else "K x N"
        raise InputError(f"the array is {held}, but {name} is {extents} = {shape[0]} x {shape[1]}", where)
    if array.dtype.kind not in "uf":
        raise InputError(
            f"the array is {array.dtype}; give codes of {fmt} as unsigned integers (uint8), or values as "
            "floating-point numbers (float32), which are rounded to it",
            where,
        )


def _read(path: Path) -> NDArray[Any]:
    """The array of a .npy file, mapped: a wrong shape is told before the numbers are read."""
    try:
        with open(path, "rb") as file:
            is_array = file.read(len(_MAGIC)) == _MAGIC
        if is_array:
            return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
        reason = "not a .npy file; write one with numpy.save"
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
    except (ValueError, TypeError, SyntaxError, TokenError) as error:
        reason = _fault_of(str(error))
    raise InputError(f"cannot read the array: {reason}", str(path))


def _fault_of(message: str) -> str:
    """What is wrong with a .npy file, by NumPy's message; what a header holds may be any bytes."""
    if "Python objects" in message:
        return "it holds Python objects, not numbers"
    if "mmap length" in message:
        return "it holds fewer numbers than its header says"
    return "its header is damaged"


def random_codes(name: str, seed: int, shape: Shape, fmt: NumberFormat) -> Codes:
    """Codes of normal numbers around zero, the same for a seed on every machine.

    The standard deviation is 1, but for integers, fixed point and formats of at most 5 bits, which are
    used with a scale, a third of the largest value. An unsigned format gets zero for what is negative,
    as after a ReLU. The normal numbers are sums of twelve uniform ones, which no C library has a part in.
    """
    scaled = fmt.kind in ("integer", "fixed") or fmt.bits <= 5
    deviation = fmt.max_value / 3.0 if scaled else 1.0
    count = shape[0] * shape[1]
    codes = np.empty(count, fmt.code_dtype)
    for block, start in enumerate(range(0, count, _BLOCK)):
        size = min(_BLOCK, count - start)
        drawn = uniform(stream_key(seed, "gemm operand", name, block), _NORMAL_TERMS * size)
        normal = np.full(size, -_NORMAL_TERMS / 2)
        for term in drawn.reshape(_NORMAL_TERMS, size):
            normal += term
        codes[start : start + size] = fmt.encode(normal * deviation)
    return codes.reshape(shape)
