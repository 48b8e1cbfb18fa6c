"""A data set as four arrays: read from an ``.npz``, checked against each other, frozen."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from pathlib import Path
from tokenize import TokenError
from typing import TYPE_CHECKING, Any

from accelsim.errors import InputError
from accelsim.workload.datasets.facts import IGNORED, DataFacts, Dataset, Origin

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Arrays = Mapping[str, "NDArray[Any]"]

_ARRAYS = ("train_x", "train_y", "test_x", "test_y")
_MOST_CLASSES = 2**24
_BROKEN = (
    ValueError, OSError, EOFError, AttributeError, TypeError, RuntimeError, SyntaxError, TokenError,
    zipfile.BadZipFile, zlib.error,
)  # fmt: skip
"""What NumPy raises for files that are no ``.npz``, or damaged ones."""
TOKENS = "tokens"
"""The array that says that samples are token ids, and how many of these there are."""


def read_npz(path: Path, content: bytes, origin: Origin) -> Dataset:
    """The data set in an ``.npz``.

    Raises `InputError` for a file that is no ``.npz``, an array that is missing, or arrays that do not
    fit together.
    """
    return checked_dataset(path, _read_arrays(path, content), origin)


def checked_dataset(path: Path, arrays: Arrays, origin: Origin) -> Dataset:
    """Check the four arrays against each other and freeze them. Raises `InputError` if they do not fit."""
    tokens = _tokens(path, arrays)
    train_x, test_x = (_samples(path, key, arrays[key], tokens) for key in ("train_x", "test_x"))
    train_y, test_y = (
        _labels(path, key, arrays[key], len(samples))
        for key, samples in (("train_y", train_x), ("test_y", test_x))
    )
    for key, train, test in (("x", train_x, test_x), ("y", train_y, test_y)):
        if train.shape[1:] != test.shape[1:]:
            shapes = f"samples have shape {test.shape[1:]}, those of train_{key} {train.shape[1:]}"
            raise InputError(f"test_{key}: {shapes}", str(path))
    classes = int(train_y.max()) + 1
    if int(test_y.max()) >= classes:
        raise InputError(
            f"test_y: holds class {int(test_y.max())}, but train_y ends at {classes - 1}", str(path)
        )
    facts = DataFacts(
        origin,
        input_shape=train_x.shape[1:],
        classes=classes,
        train_samples=len(train_x),
        test_samples=len(test_x),
        tokens=tokens,
        targets=train_y.shape[1:],
    )
    return Dataset(facts, train_x, train_y, test_x, test_y)


def _read_arrays(path: Path, content: bytes) -> dict[str, NDArray[Any]]:
    import numpy as np

    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            missing = [key for key in _ARRAYS if key not in archive.files]
            if missing:
                held = ", ".join(archive.files) or "nothing"
                raise InputError(
                    f"array '{missing[0]}' is missing; needed: {', '.join(_ARRAYS)}; the file holds: {held}",
                    str(path),
                )
            keys = [key for key in (*_ARRAYS, TOKENS) if key in archive.files]
            return {key: _array(path, key, archive[key]) for key in keys}
    except InputError:
        raise
    except MemoryError:
        raise InputError("an array in it is larger than this computer's memory", str(path)) from None
    except _BROKEN as error:
        reason = "not an .npz file of plain arrays (numpy.savez writes one)"
        if "Object arrays" in str(error):
            reason = "an array in it holds Python objects, which are not read; save plain numbers"
        raise InputError(reason, str(path)) from None


def _array(path: Path, key: str, held: object) -> NDArray[Any]:
    """A member of the file as NumPy hands it over: what is no array comes as bytes."""
    import numpy as np

    if not isinstance(held, np.ndarray):
        raise InputError(f"{key}: is no array (numpy.savez writes one)", str(path))
    return held


def _tokens(path: Path, arrays: Arrays) -> int | None:
    """How many token ids there are; None if samples are numbers."""
    if TOKENS not in arrays:
        return None
    given = arrays[TOKENS]
    if given.size != 1 or given.dtype.kind not in "iu" or int(given.reshape(-1)[0]) < 1:
        plain = given.size == 1 and given.dtype.kind in "iuf"
        shown = given.reshape(-1)[0] if plain else f"{given.dtype} of shape {given.shape}"
        raise InputError(f"{TOKENS}: must be one whole number, how many token ids there are, got {shown}",
                         str(path))  # fmt: skip
    return int(given.reshape(-1)[0])


def _samples(path: Path, key: str, array: NDArray[Any], tokens: int | None) -> NDArray[Any]:
    """Token ids, numbers, or 8-bit images with a channel axis: (n, h, w) becomes (n, h, w, 1)."""
    import numpy as np

    if tokens is not None:
        return _token_rows(path, key, array, tokens)
    if array.dtype != np.uint8 and array.dtype.kind != "f":
        raise InputError(
            f"{key}: must be uint8 (whole numbers 0..255) or floating-point, got {array.dtype}; token ids "
            f"need the array '{TOKENS}' beside them",
            str(path),
        )
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise InputError(
            f"{key}: must be (samples, features), (samples, steps, channels) or (samples, height, width, "
            f"channels) and not empty, got shape {array.shape}",
            str(path),
        )
    most = np.finfo(np.float32).max
    if array.dtype.kind == "f" and not (array.min() >= -most and array.max() <= most):
        message = "holds numbers that are not finite, or beyond those of float32"
        raise InputError(f"{key}: {message}", str(path))
    image = array.dtype == np.uint8 and array.ndim == 3
    kept = np.uint8 if array.dtype == np.uint8 else np.float32
    shaped = np.ascontiguousarray(array[..., None] if image else array, kept)
    shaped.flags.writeable = False
    return shaped


def _token_rows(path: Path, key: str, array: NDArray[Any], tokens: int) -> NDArray[np.int64]:
    import numpy as np

    if array.dtype.kind not in "iu" or array.ndim != 2 or array.size == 0:
        shape = f"{array.dtype} of shape {array.shape}"
        raise InputError(
            f"{key}: token ids must be whole numbers (samples, positions), got {shape}", str(path)
        )
    if int(array.min()) < 0 or int(array.max()) >= tokens:
        worst = int(array.min()) if int(array.min()) < 0 else int(array.max())
        raise InputError(f"{key}: token ids must be 0 to {tokens - 1}, got {worst}", str(path))
    ids = array.astype(np.int64)
    ids.flags.writeable = False
    return ids


def _labels(path: Path, key: str, array: NDArray[Any], samples: int) -> NDArray[np.int64]:
    """One class a sample, or an array of them with `IGNORED` where there is nothing to learn."""
    import numpy as np

    if array.dtype.kind not in "iu":
        raise InputError(f"{key}: must be integers from 0, got {array.dtype}", str(path))
    if not 1 <= array.ndim <= 4 or len(array) != samples or array.size == 0:
        raise InputError(
            f"{key}: must be one label, or an array of labels, for each of the {samples} samples, got shape "
            f"{array.shape}",
            str(path),
        )
    least = 0 if array.ndim == 1 else IGNORED
    if int(array.min()) < least or int(array.max()) < 0:
        padding = "" if least == 0 else f" ({IGNORED} where a position counts for nothing)"
        raise InputError(f"{key}: classes are numbered from 0{padding}, got {int(array.min())}", str(path))
    if int(array.max()) >= _MOST_CLASSES:
        raise InputError(f"{key}: classes must be below {_MOST_CLASSES}, got {int(array.max())}", str(path))
    labels = array.astype(np.int64)
    labels.flags.writeable = False
    return labels
