"""The data sets that come with the package: what each is, and its file checked against its SHA-256."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from accelsim.errors import InputError, unknown
from accelsim.workload.datasets.arrays import read_npz
from accelsim.workload.datasets.facts import DataFacts, Dataset

DATA_DIR = Path(__file__).resolve().parent.parent.parent / "data"


@dataclass(frozen=True)
class Bundled:
    """A bundled file and what is known without opening it; accelsim/data/README.md tells more."""

    file: str
    facts: DataFacts


_ARRAYS = (
    Bundled(
        "fashion_mnist_6k.npz",
        DataFacts(
            name="fashion_mnist_6k",
            input_shape=(28, 28, 1),
            classes=10,
            train_samples=5000,
            test_samples=1000,
            sha256="cd52ddd9ae63b7877737cad5a376a7e1bb50f9fb6c6afe710d71d13eff7a0fde",
            license="MIT, Zalando SE",
            source="Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv:1708.07747), 5,000 + 1,000 images",
        ),
    ),
    Bundled(
        "letter_recognition.npz",
        DataFacts(
            name="letter_recognition",
            input_shape=(16,),
            classes=26,
            train_samples=16000,
            test_samples=4000,
            sha256="aaa6937dbbbc63f0867bdb601a48f239541601a105419c44c84ac21a79375b69",
            license="CC BY 4.0, D. J. Slate",
            source="UCI Letter Recognition (Frey and Slate 1991), 16,000 + 4,000 rows",
        ),
    ),
    Bundled(
        "digits8x8.npz",
        DataFacts(
            name="digits8x8",
            input_shape=(8, 8, 1),
            classes=10,
            train_samples=1500,
            test_samples=297,
            sha256="e3c31bd3c742722578b770aa53505b0ee47a034f0f998da870cc0a32f73b4b9a",
            license="CC BY 4.0, E. Alpaydin and C. Kaynak",
            source="UCI Optical Recognition of Handwritten Digits (1998), 1,500 + 297 images",
        ),
    ),
    Bundled(
        "share_alike/mnist5k.npz",
        DataFacts(
            name="mnist5k",
            input_shape=(28, 28, 1),
            classes=10,
            train_samples=4000,
            test_samples=1000,
            sha256="083f5e1c7b9edc2015db839f84d5ed42bb3c1aa6d42693f6c13b96b19c66ae60",
            license="CC BY-SA 3.0, Y. LeCun and C. Cortes",
            source="MNIST (LeCun, Bottou, Bengio, Haffner 1998), 4,000 + 1,000 images",
        ),
    ),
)
_BUNDLED = {bundled.facts.name: bundled for bundled in _ARRAYS}


def dataset_names() -> list[str]:
    """Names of the bundled data sets, sorted."""
    return sorted(_BUNDLED)


def dataset_note(name: str) -> str:
    """One line about a bundled data set: where it comes from and its licence, for a list.

    Raises InputError for an unknown name.
    """
    facts = bundled_facts(name)
    return f"{facts.source}; {facts.license}"


def bundled_facts(name: str) -> DataFacts:
    """What is known of a bundled data set, without opening its file. Raises InputError for another name."""
    return _found(name).facts


def load_bundled(name: str) -> Dataset:
    """A bundled data set. Raises InputError for an unknown name or a missing or changed file."""
    bundled = _found(name)
    path = DATA_DIR / bundled.file
    content = checked_bytes(path, name, bundled.facts.sha256 or "")
    facts = bundled.facts
    return read_npz(path, content, name, facts.sha256 or "", facts.license, facts.source)


def checked_bytes(path: Path, name: str, sha256: str) -> bytes:
    """The content of a bundled file. Raises InputError if it is missing or not the one that was bundled."""
    content = read_bytes(path)
    digest = hashlib.sha256(content).hexdigest()
    if digest != sha256:
        raise InputError(
            f"the bundled data set '{name}' is corrupt: SHA-256 {digest[:12]}..., expected "
            f"{sha256[:12]}...; install accelsim again",
            str(path),
        )
    return content


def read_bytes(path: Path) -> bytes:
    """The content of a data file. Raises InputError if it cannot be read."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise InputError("no such data file", str(path)) from None
    except OSError as error:
        raise InputError(f"cannot read the data file: {error.strerror}", str(path)) from None


def _found(name: str) -> Bundled:
    if name not in _BUNDLED:
        raise unknown("data set", name, _BUNDLED)
    return _BUNDLED[name]
