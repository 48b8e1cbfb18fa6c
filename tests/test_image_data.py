"""The user's own images: PNM folders and IDX files come back as they are, or one line says why not."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from accelsim.errors import InputError
from accelsim.workload.datasets.images import IdxData, ImageData

NAMES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)


def write_idx(folder: Path, *, packed: bool) -> dict[str, np.ndarray]:
    """The four files of 6 and 2 small images, plain or gzipped."""
    random = np.random.default_rng(1)
    arrays = {}
    for name, count in zip(NAMES, (6, 6, 2, 2), strict=True):
        shape = (count, 3, 4) if "images" in name else (count,)
        array = np.resize(random.integers(0, 256, shape) if "images" in name else np.arange(3), shape)
        arrays[name] = array.astype(np.uint8)
        header = bytes([0, 0, 8, array.ndim]) + np.array(shape, ">u4").tobytes()
        content = header + arrays[name].tobytes()
        if packed:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        else:
            (folder / name).write_bytes(content)
    return arrays


@pytest.mark.parametrize("packed", [False, True])
def test_idx_files_come_back(tmp_path: Path, packed: bool) -> None:
    """Images get a channel axis, labels become classes, plain or gzipped."""
    arrays = write_idx(tmp_path, packed=packed)
    dataset = IdxData(idx=str(tmp_path)).load()
    assert np.array_equal(dataset.train_x, arrays[NAMES[0]][..., None])
    assert np.array_equal(dataset.test_y, arrays[NAMES[3]])
    assert (dataset.facts.input_shape, dataset.facts.classes) == ((3, 4, 1), 3)
    assert IdxData(idx=str(tmp_path)).facts() == dataset.facts


def test_idx_files_that_do_not_do_are_refused(tmp_path: Path) -> None:
    """A missing file, a damaged archive, text and a cut file each get one line."""
    source = IdxData(idx=str(tmp_path))
    with pytest.raises(InputError, match=r"train-images-idx3-ubyte\.gz: no such data file$"):
        source.load()
    write_idx(tmp_path, packed=True)
    (tmp_path / f"{NAMES[1]}.gz").write_bytes(b"hello")
    with pytest.raises(InputError, match=r"not a gzip file, or a damaged one$"):
        source.load()
    for content in (b"", b"hello", b"\0\0\x08\1\0\0\0\7abc"):
        (tmp_path / NAMES[1]).write_bytes(content)
        with pytest.raises(InputError, match=r"not an IDX file of 8-bit integers, or a damaged one$"):
            source.load()


def write_image(path: Path, header: bytes, samples: bytes) -> None:
    """One PNM file, its folder made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(header + samples)


def write_folder(folder: Path) -> None:
    """Two classes, colour, one of the headers with a comment."""
    for part in ("train", "test"):
        for label, name in enumerate(("cat", "dog")):
            header = b"P6 2 1 255\n" if label else b"P6\n# a comment\n2 1\n255\n"
            write_image(folder / part / name / "a.ppm", header, bytes(range(6 * label, 6 * label + 6)))


def test_folders_of_images_come_back(tmp_path: Path) -> None:
    """Classes in the order of their names, samples (height, width, channels)."""
    write_folder(tmp_path)
    dataset = ImageData(images=str(tmp_path)).load()
    assert dataset.train_x.tolist() == [[[[0, 1, 2], [3, 4, 5]]], [[[6, 7, 8], [9, 10, 11]]]]
    assert dataset.test_y.tolist() == [0, 1]
    assert ImageData(images=str(tmp_path)).facts().output_shape == (2,)


def test_folders_that_do_not_do_are_refused(tmp_path: Path) -> None:
    """No folder, no images, another size, another class, no image and half of one each get one line."""
    source = ImageData(images=str(tmp_path))
    with pytest.raises(InputError, match=r"train: no such folder; images stand in train/CLASS/ and test/"):
        source.load()
    (tmp_path / "train").mkdir()
    with pytest.raises(InputError, match=r"train: no images \(\.pgm, \.ppm, \.pnm\) in its folders$"):
        source.load()
    write_folder(tmp_path)
    spoilt = tmp_path / "train" / "dog" / "b.ppm"
    for content, text in (
        (b"P5 1 1 255\na", r"b\.ppm: is \(1, 1, 1\), but the images before it are \(1, 2, 3\)$"),
        (b"hello", r"b\.ppm: not a binary PGM or PPM image \(P5 or P6\) with 8 bits a sample$"),
        (b"P6 2 1 255\nabc", r"b\.ppm: cut short: \(1, 2, 3\) needs 6 bytes after its header$"),
    ):
        spoilt.write_bytes(content)
        with pytest.raises(InputError, match=text):
            source.load()
    spoilt.unlink()
    write_image(tmp_path / "test" / "eel" / "a.ppm", b"P6 2 1 255\n", bytes(6))
    with pytest.raises(InputError, match=r"class 'eel' has no folder in train$"):
        source.load()
