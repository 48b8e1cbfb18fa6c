"""A data set as an ``.npz`` of four arrays: read, checked against each other, frozen."""

from __future__ import annotations

import io
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.errors import InputError
from accelsim.workload.datasets.facts import DataFacts, Dataset

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_ARRAYS = ("train_x", "train_y", "test_x", "test_y")


def read_npz(path: Path, content: bytes, name: str, digest: str, license: str, source: str) -> Dataset:
    """Check the four arrays of an ``.npz`` against each other and freeze them.

    Raises `InputError` for a file that is no ``.npz``, an array that is missing, or arrays that do not
    fit together.
    """
    arrays = _read_arrays(path, content)
    train_x, test_x = (_samples(path, key, arrays[key]) for key in ("train_x", "test_x"))
    train_y, test_y = (
        _labels(path, key, arrays[key], len(samples))
        for key, samples in (("train_y", train_x), ("test_y", test_x))
    )
    if train_x.shape[1:] != test_x.shape[1:]:
        raise InputError(
            f"test_x: samples have shape {test_x.shape[1:]}, those of train_x {train_x.shape[1:]}", str(path)
        )
    classes = int(train_y.max()) + 1
    if int(test_y.max()) >= classes:
        raise InputError(
            f"test_y: holds class {int(test_y.max())}, but train_y ends at {classes - 1}", str(path)
        )
    facts = DataFacts(
        name=name,
        input_shape=train_x.shape[1:],
        classes=classes,
        train_samples=len(train_x),
        test_samples=len(test_x),
        sha256=digest,
        license=license,
        source=source,
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
            return {key: archive[key] for key in _ARRAYS}
    except InputError:
        raise
    except (
        ValueError,
        OSError,
        EOFError,
        AttributeError,
        TypeError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ):
        raise InputError("not an .npz file of plain arrays (numpy.savez writes one)", str(path)) from None


def _samples(path: Path, key: str, array: NDArray[Any]) -> NDArray[np.uint8]:
    """The samples with a channel axis: (n, h, w) becomes (n, h, w, 1)."""
    import numpy as np

    if array.dtype != np.uint8:
        raise InputError(f"{key}: must be uint8 (whole numbers 0..255), got {array.dtype}", str(path))
    if array.ndim not in (2, 3, 4) or array.size == 0:
        raise InputError(
            f"{key}: must be (samples, features) or (samples, height, width, channels) and not empty, "
            f"got shape {array.shape}",
            str(path),
        )
    shaped = np.ascontiguousarray(array[..., None] if array.ndim == 3 else array)
    shaped.flags.writeable = False
    return shaped


def _labels(path: Path, key: str, array: NDArray[Any], samples: int) -> NDArray[np.int64]:
    import numpy as np

    if array.dtype.kind not in "iu":
        raise InputError(f"{key}: must be integers from 0, got {array.dtype}", str(path))
    if array.shape != (samples,):
        raise InputError(
            f"{key}: must be one label for each of the {samples} samples, got shape {array.shape}", str(path)
        )
    if int(array.min()) < 0:
        raise InputError(f"{key}: classes are numbered from 0, got {int(array.min())}", str(path))
    labels = array.astype(np.int64)
    labels.flags.writeable = False
    return labels
