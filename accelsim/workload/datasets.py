"""Data sets: the bundled ones, checked against their SHA-256, and the user's own ``.npz`` files.

Every data set is 8-bit integers and class labels, so that no decoder can change a bit at run time.
"""

from __future__ import annotations

import hashlib
import io
import zipfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from accelsim.errors import InputError, unknown

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_DATA_DIR = Path(__file__).resolve().parent.parent / "data"
_ARRAYS = ("train_x", "train_y", "test_x", "test_y")


@dataclass(frozen=True, eq=False)
class Dataset:
    """A data set in memory; the arrays are read-only.

    ``train_x`` and ``test_x``: uint8, (samples, height, width, channels) or (samples, features).
    ``train_y`` and ``test_y``: int64, (samples,), classes 0 .. ``classes`` - 1.
    ``sha256``: hexadecimal digest of the file the arrays came from.
    """

    name: str
    train_x: NDArray[np.uint8]
    train_y: NDArray[np.int64]
    test_x: NDArray[np.uint8]
    test_y: NDArray[np.int64]
    classes: int
    sha256: str
    license: str
    source: str


@dataclass(frozen=True)
class _Bundled:
    """What is known of a bundled file without opening it; accelsim/data/README.md tells more."""

    file: str
    shape: tuple[int, ...]
    classes: int
    sha256: str
    license: str
    source: str


_BUNDLED = {
    "fashion_mnist_6k": _Bundled(
        file="fashion_mnist_6k.npz",
        shape=(28, 28, 1),
        classes=10,
        sha256="cd52ddd9ae63b7877737cad5a376a7e1bb50f9fb6c6afe710d71d13eff7a0fde",
        license="MIT, Zalando SE",
        source="Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv:1708.07747), 5,000 + 1,000 images",
    ),
    "letter_recognition": _Bundled(
        file="letter_recognition.npz",
        shape=(16,),
        classes=26,
        sha256="aaa6937dbbbc63f0867bdb601a48f239541601a105419c44c84ac21a79375b69",
        license="CC BY 4.0, D. J. Slate",
        source="UCI Letter Recognition (Frey and Slate 1991), 16,000 + 4,000 rows",
    ),
    "digits8x8": _Bundled(
        file="digits8x8.npz",
        shape=(8, 8, 1),
        classes=10,
        sha256="e3c31bd3c742722578b770aa53505b0ee47a034f0f998da870cc0a32f73b4b9a",
        license="CC BY 4.0, E. Alpaydin and C. Kaynak",
        source="UCI Optical Recognition of Handwritten Digits (1998), 1,500 + 297 images",
    ),
    "mnist5k": _Bundled(
        file="share_alike/mnist5k.npz",
        shape=(28, 28, 1),
        classes=10,
        sha256="083f5e1c7b9edc2015db839f84d5ed42bb3c1aa6d42693f6c13b96b19c66ae60",
        license="CC BY-SA 3.0, Y. LeCun and C. Cortes",
        source="MNIST (LeCun, Bottou, Bengio, Haffner 1998), 4,000 + 1,000 images",
    ),
}


def dataset_names() -> list[str]:
    """Names of the bundled data sets, sorted."""
    return sorted(_BUNDLED)


def dataset_note(name: str) -> str:
    """One line about a bundled data set: where it comes from and its licence, for a list.

    Raises InputError for an unknown name.
    """
    bundled = _find_bundled(name)
    return f"{bundled.source}; {bundled.license}"


def dataset_shape(name_or_path: str | Path) -> tuple[tuple[int, ...], int]:
    """Shape of one sample, (height, width, channels) or (features,), and the number of classes.

    A bundled data set is answered from the table, without opening its file.
    Raises InputError for an unknown name, a missing file or one that is not a data set.
    """
    bundled = None if _is_path(name_or_path) else _find_bundled(str(name_or_path))
    if bundled is not None:
        return bundled.shape, bundled.classes
    dataset = load_dataset(name_or_path)
    return dataset.train_x.shape[1:], dataset.classes


def load_dataset(name_or_path: str | Path) -> Dataset:
    """A bundled data set by name, or the user's own ``.npz`` by path.

    A path is anything with a separator or the ending ``.npz``; the file holds ``train_x`` and
    ``test_x`` (uint8, (samples, features), (samples, height, width) or (samples, height, width,
    channels)) and ``train_y`` and ``test_y`` (integers from 0, (samples,)).
    Raises InputError for an unknown name, a missing, corrupt or changed file, or arrays that do not
    fit together.
    """
    if _is_path(name_or_path):
        path = Path(name_or_path)
        content = _read_bytes(path)
        digest = hashlib.sha256(content).hexdigest()
        return _assemble(path.stem, path, content, digest, "as given by the user", str(path))
    name = str(name_or_path)
    bundled = _find_bundled(name)
    path = _DATA_DIR / bundled.file
    content = _read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != bundled.sha256:
        raise InputError(
            f"the bundled data set '{name}' is corrupt: SHA-256 {digest[:12]}..., expected "
            f"{bundled.sha256[:12]}...; install accelsim again",
            str(path),
        )
    return _assemble(name, path, content, digest, bundled.license, bundled.source)


def _is_path(name_or_path: str | Path) -> bool:
    text = str(name_or_path)
    return isinstance(name_or_path, Path) or "/" in text or "\\" in text or text.endswith(".npz")


def _find_bundled(name: str) -> _Bundled:
    if name not in _BUNDLED:
        raise unknown("data set", name, _BUNDLED)
    return _BUNDLED[name]


def _read_bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such data file", str(path)) from None
    except OSError as error:
        raise InputError(f"cannot read the data file: {error.strerror}", str(path)) from None


def _assemble(name: str, path: Path, content: bytes, digest: str, license: str, source: str) -> Dataset:
    """Check the four arrays of an ``.npz`` against each other and freeze them."""
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
    return Dataset(name, train_x, train_y, test_x, test_y, classes, digest, license, source)


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
