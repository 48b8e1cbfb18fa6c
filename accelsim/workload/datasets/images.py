"""The user's own images: folders of binary PNM files, and the four IDX files of MNIST and its kin."""

from __future__ import annotations

import gzip
import hashlib
import math
import re
import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import Field

from accelsim.errors import InputError
from accelsim.workload.datasets.arrays import checked_dataset
from accelsim.workload.datasets.facts import DataFacts, Dataset, own_origin
from accelsim.workload.datasets.files import existing, read_bytes
from accelsim.workload.datasets.source import DataSource

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_IDX_FILES = {
    "train_x": "train-images-idx3-ubyte",
    "train_y": "train-labels-idx1-ubyte",
    "test_x": "t10k-images-idx3-ubyte",
    "test_y": "t10k-labels-idx1-ubyte",
}
_PNM_HEADER = re.compile(rb"P([56])(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)(?:\s|#[^\n]*\n)+(\d+)\s")
_PNM_ENDINGS = (".pgm", ".ppm", ".pnm")


class IdxData(DataSource):
    """A folder with the four files of MNIST's kind, plain or ``.gz`` (LeCun's IDX format)."""

    idx: str = Field(min_length=1, description="folder of train-images-idx3-ubyte and its kin")

    def placed(self, folder: Path) -> IdxData:
        return IdxData(idx=str(existing(folder / self.idx)))

    def facts(self) -> DataFacts:
        return self.load().facts

    def load(self) -> Dataset:
        folder, hashed, arrays = Path(self.idx), hashlib.sha256(), {}
        for key, name in _IDX_FILES.items():
            plain = folder / name
            path = plain if plain.exists() else folder / f"{name}.gz"
            content = read_bytes(path)
            hashed.update(content)
            arrays[key] = _idx(path, content)
        return checked_dataset(folder, arrays, own_origin(folder, hashed.hexdigest()))


class ImageData(DataSource):
    """A folder ``train/CLASS/*.pgm`` and ``test/CLASS/*.pgm`` (or .ppm, .pnm), all of one size.

    Classes are numbered in the order of their folders' names.
    """

    images: str = Field(min_length=1, description="folder of train/CLASS/*.pgm and test/CLASS/*.pgm")

    def placed(self, folder: Path) -> ImageData:
        return ImageData(images=str(existing(folder / self.images)))

    def facts(self) -> DataFacts:
        return self.load().facts

    def load(self) -> Dataset:
        import numpy as np

        folder, hashed, arrays = Path(self.images), hashlib.sha256(), {}
        classes = _class_names(folder / "train")
        for part in ("train", "test"):
            images: list[NDArray[np.uint8]] = []
            labels: list[int] = []
            for path in _image_files(folder / part):
                if path.parent.name not in classes:
                    raise InputError(f"class '{path.parent.name}' has no folder in train", str(path.parent))
                content = read_bytes(path)
                hashed.update(f"{path.relative_to(folder).as_posix()}\0".encode() + content)
                images.append(_pnm(path, content, images[0].shape if images else None))
                labels.append(classes.index(path.parent.name))
            if not images:
                raise InputError(f"no images ({', '.join(_PNM_ENDINGS)}) in its folders", str(folder / part))
            arrays[f"{part}_x"], arrays[f"{part}_y"] = np.stack(images), np.array(labels)
        return checked_dataset(folder, arrays, own_origin(folder, hashed.hexdigest()))


def _class_names(folder: Path) -> list[str]:
    if not folder.is_dir():
        raise InputError("no such folder; images stand in train/CLASS/ and test/CLASS/", str(folder))
    return sorted(path.name for path in folder.iterdir() if path.is_dir())


def _image_files(folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise InputError("no such folder; images stand in train/CLASS/ and test/CLASS/", str(folder))
    return sorted(path for path in folder.glob("*/*") if path.suffix.lower() in _PNM_ENDINGS)


def _pnm(path: Path, content: bytes, shape: tuple[int, ...] | None) -> NDArray[np.uint8]:
    """(height, width, channels) of a binary PGM or PPM file with 8 bits a sample."""
    import numpy as np

    header = _PNM_HEADER.match(content)
    if header is None or int(header[4]) > 255:
        raise InputError("not a binary PGM or PPM image (P5 or P6) with 8 bits a sample", str(path))
    found = (int(header[3]), int(header[2]), 1 if header[1] == b"5" else 3)
    size = found[0] * found[1] * found[2]
    if len(content) - header.end() < size:
        raise InputError(f"cut short: {found} needs {size} bytes after its header", str(path))
    if shape is not None and found != shape:
        raise InputError(f"is {found}, but the images before it are {shape}", str(path))
    return np.frombuffer(content, np.uint8, size, header.end()).reshape(found)


def _idx(path: Path, content: bytes) -> NDArray[np.uint8]:
    """The array of 8-bit integers in an IDX file."""
    import numpy as np

    try:
        content = gzip.decompress(content) if path.suffix == ".gz" else content
    except (OSError, EOFError, zlib.error):
        raise InputError("not a gzip file, or a damaged one", str(path)) from None
    rank = content[3] if content[:3] == b"\0\0\x08" and len(content) > 3 else 0
    start = 4 + 4 * rank
    shape = tuple(int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4))
    if not shape or len(content) != start + math.prod(shape):
        raise InputError("not an IDX file of 8-bit integers, or a damaged one", str(path))
    return np.frombuffer(content, np.uint8, -1, start).reshape(shape)
