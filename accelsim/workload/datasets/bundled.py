"""The data sets of arrays that come with the package."""

from __future__ import annotations

from dataclasses import dataclass

from accelsim.errors import unknown
from accelsim.workload.datasets.arrays import read_npz
from accelsim.workload.datasets.facts import DataFacts, Dataset, Origin
from accelsim.workload.datasets.files import DATA_DIR, checked_bytes
from accelsim.workload.datasets.source import DataSource


@dataclass(frozen=True)
class Bundled:
    """A bundled file and what is known without opening it; accelsim/data/README.md tells more."""

    file: str
    origin: Origin
    input_shape: tuple[int, ...]
    classes: int
    train_samples: int
    test_samples: int

    def facts(self) -> DataFacts:
        """What a network needs to know."""
        return DataFacts(self.origin, self.input_shape, self.classes, self.train_samples, self.test_samples)


_ARRAYS = (
    Bundled(
        "fashion_mnist_6k.npz",
        Origin(
            name="fashion_mnist_6k",
            sha256="cd52ddd9ae63b7877737cad5a376a7e1bb50f9fb6c6afe710d71d13eff7a0fde",
            license="MIT, Zalando SE",
            source="Fashion-MNIST (Xiao, Rasul, Vollgraf, arXiv:1708.07747), 5,000 + 1,000 images",
        ),
        input_shape=(28, 28, 1),
        classes=10,
        train_samples=5000,
        test_samples=1000,
    ),
    Bundled(
        "letter_recognition.npz",
        Origin(
            name="letter_recognition",
            sha256="aaa6937dbbbc63f0867bdb601a48f239541601a105419c44c84ac21a79375b69",
            license="CC BY 4.0, D. J. Slate",
            source="UCI Letter Recognition (Frey and Slate 1991), 16,000 + 4,000 rows",
        ),
        input_shape=(16,),
        classes=26,
        train_samples=16000,
        test_samples=4000,
    ),
    Bundled(
        "digits8x8.npz",
        Origin(
            name="digits8x8",
            sha256="e3c31bd3c742722578b770aa53505b0ee47a034f0f998da870cc0a32f73b4b9a",
            license="CC BY 4.0, E. Alpaydin and C. Kaynak",
            source="UCI Optical Recognition of Handwritten Digits (1998), 1,500 + 297 images",
        ),
        input_shape=(8, 8, 1),
        classes=10,
        train_samples=1500,
        test_samples=297,
    ),
    Bundled(
        "share_alike/mnist5k.npz",
        Origin(
            name="mnist5k",
            sha256="083f5e1c7b9edc2015db839f84d5ed42bb3c1aa6d42693f6c13b96b19c66ae60",
            license="CC BY-SA 3.0, Y. LeCun and C. Cortes",
            source="MNIST (LeCun, Bottou, Bengio, Haffner 1998), 4,000 + 1,000 images",
        ),
        input_shape=(28, 28, 1),
        classes=10,
        train_samples=4000,
        test_samples=1000,
    ),
    Bundled(
        "share_alike/asterisk_lang5_3k.npz",
        Origin(
            name="asterisk_lang5_3k",
            sha256="ade02f4bcda327e085847fe14f8165c406b03cfda397760aaef82edf5b468dc1",
            license="CC BY-SA 3.0, Allison Smith, June Wallack, Carlo Flora, Maxim Topal",
            source="telephone prompts of Asterisk 1.6.1 in 5 languages, 2,600 + 650 windows of 0.52 s",
        ),
        input_shape=(32, 20, 1),
        classes=5,
        train_samples=2600,
        test_samples=650,
    ),
)
BUNDLED_ARRAYS = {bundled.origin.name: bundled for bundled in _ARRAYS}
"""By name."""


class BundledArrays(DataSource):
    """A data set of arrays that comes with the package."""

    name: str

    @property
    def _bundled(self) -> Bundled:
        if self.name not in BUNDLED_ARRAYS:
            raise unknown("data set", self.name, BUNDLED_ARRAYS)
        return BUNDLED_ARRAYS[self.name]

    def facts(self) -> DataFacts:
        return self._bundled.facts()

    def load(self) -> Dataset:
        bundled = self._bundled
        content = checked_bytes(bundled.file, bundled.origin.name, bundled.origin.sha256)
        return read_npz(DATA_DIR / bundled.file, content, bundled.origin)
