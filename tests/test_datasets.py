"""Data sets: the bundled ones are whole and as described; the user's own are checked with clear words."""

from __future__ import annotations

import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from accelsim.errors import InputError
from accelsim.workload.datasets import data_source, dataset_names, dataset_note, files, load_dataset

SIZES = {
    "fashion_mnist_6k": (5000, 1000, 255),
    "letter_recognition": (16000, 4000, 15),
    "digits8x8": (1500, 297, 16),
    "mnist5k": (4000, 1000, 255),
    "asterisk_lang5_3k": (2600, 650, 255),
}


def own_file(folder: Path, **changed: Any) -> Path:
    """A valid data set of the user's own with some arrays changed; None leaves an array out."""
    arrays: dict[str, Any] = {
        "train_x": np.arange(24, dtype=np.uint8).reshape(6, 2, 2, 1),
        "train_y": np.array([0, 1, 2, 0, 1, 2]),
        "test_x": np.zeros((2, 2, 2, 1), np.uint8),
        "test_y": np.array([1, 2]),
    } | changed
    path = folder / "own.npz"
    np.savez(path, **{key: value for key, value in arrays.items() if value is not None})
    return path


def huge_header() -> bytes:
    """The beginning of an array of 2**50 numbers."""
    stream = io.BytesIO()
    facts = {"descr": "<i8", "fortran_order": False, "shape": (2**50,)}
    np.lib.format.write_array_header_1_0(stream, facts)
    return stream.getvalue()


def test_names_lists_every_bundled_set() -> None:
    """The names that the shell lists are exactly the sets described in the data folder."""
    assert dataset_names() == sorted([*SIZES, "cmudict_g2p_30k", "pride_and_prejudice"])


@pytest.mark.parametrize("name", sorted(SIZES))
def test_bundled_set_is_as_described(name: str) -> None:
    """Sizes, value range, types and classes of a bundled set are what its description says."""
    dataset = load_dataset(name)
    train, test, largest = SIZES[name]
    facts = data_source(name).facts()
    assert dataset.facts == facts
    shape, classes = facts.input_shape, facts.classes
    assert dataset.train_x.shape == (train, *shape)
    assert dataset.test_x.shape == (test, *shape)
    assert dataset.train_x.dtype == dataset.test_x.dtype == np.uint8
    assert dataset.train_y.dtype == dataset.test_y.dtype == np.int64
    assert dataset.train_x.max() == largest
    assert set(dataset.train_y) == set(dataset.test_y) == set(range(classes))
    assert (facts.train_samples, facts.test_samples) == (train, test)
    assert facts.origin is not None
    assert facts.origin.license
    assert facts.origin.source


def test_no_test_image_is_also_a_training_image() -> None:
    """The cut of the image sets leaks nothing: no test image equals a training image."""
    for name in ("fashion_mnist_6k", "mnist5k", "digits8x8", "asterisk_lang5_3k"):
        dataset = load_dataset(name)
        seen = {image.tobytes() for image in dataset.train_x}
        assert not any(image.tobytes() in seen for image in dataset.test_x)


def test_arrays_are_read_only() -> None:
    """A run cannot change the data set it shares with the next one."""
    dataset = load_dataset("digits8x8")
    with pytest.raises(ValueError, match="read-only"):
        dataset.train_x[0, 0, 0, 0] = 1


def test_shape_of_a_bundled_set_opens_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Shapes come from the table, so an estimate reads no data."""
    monkeypatch.setattr(files, "DATA_DIR", tmp_path)
    assert data_source("letter_recognition").facts().output_shape == (26,)


def test_note_tells_source_and_licence() -> None:
    """The list of data sets names where each comes from and its licence."""
    assert dataset_note("mnist5k").startswith("MNIST (LeCun, Bottou")
    assert "CC BY-SA 3.0" in dataset_note("mnist5k")


def test_unknown_name_is_answered_with_the_nearest() -> None:
    """A misspelt name gets the list and the nearest match."""
    with pytest.raises(
        InputError, match=r"unknown data set 'mnist' \(did you mean 'mnist5k'\?\); allowed: asterisk"
    ):
        load_dataset("mnist")
    with pytest.raises(InputError, match="unknown data set 'digits'"):
        data_source("digits").facts()


def test_a_changed_bundled_file_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """One flipped bit in a bundled file is noticed at load."""
    content = bytearray((files.DATA_DIR / "digits8x8.npz").read_bytes())
    content[1000] ^= 1
    (tmp_path / "digits8x8.npz").write_bytes(content)
    monkeypatch.setattr(files, "DATA_DIR", tmp_path)
    with pytest.raises(
        InputError, match=r"digits8x8\.npz: the bundled data set 'digits8x8' is corrupt: SHA-256"
    ):
        load_dataset("digits8x8")
    with pytest.raises(InputError, match=r"mnist5k\.npz: no such data file"):
        load_dataset("mnist5k")


def test_own_file_is_read(tmp_path: Path) -> None:
    """The user's own arrays come back unchanged, with name, digest and class count."""
    path = own_file(tmp_path)
    dataset = load_dataset(path)
    assert dataset.facts.origin is not None
    assert (dataset.facts.origin.name, dataset.facts.classes) == ("own", 3)
    assert dataset.facts.origin.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert dataset.train_x.tobytes() == bytes(range(24))
    assert data_source(str(path)).facts() == dataset.facts


def test_own_images_without_channels_get_one(tmp_path: Path) -> None:
    """(samples, height, width) is read as one channel."""
    path = own_file(tmp_path, train_x=np.zeros((6, 4, 5), np.uint8), test_x=np.zeros((2, 4, 5), np.uint8))
    assert load_dataset(path).train_x.shape == (6, 4, 5, 1)


@pytest.mark.parametrize(
    ("changed", "text"),
    [
        (
            {"train_y": None},
            "array 'train_y' is missing; needed: train_x, train_y, test_x, test_y; the file holds: tr",
        ),
        (
            {"train_x": np.zeros((6, 4), np.int32)},
            r"train_x: must be uint8 \(whole numbers 0\.\.255\) or floating-point, got int32; token ids",
        ),
        ({"train_x": np.full((6, 4), np.nan)}, r"train_x: holds numbers that are not finite"),
        ({"tokens": np.array([3, 4])}, r"tokens: must be one whole number, .* got int64 of shape \(2,\)"),
        (
            {"tokens": 9},
            r"train_x: token ids must be whole numbers \(samples, positions\), got uint8 of shape",
        ),
        (
            {"tokens": 9, "train_x": np.full((6, 3), 9)},
            "train_x: token ids must be 0 to 8, got 9",
        ),
        (
            {"tokens": 9, "train_x": np.full((6, 3), -2)},
            "train_x: token ids must be 0 to 8, got -2",
        ),
        (
            {"train_y": np.zeros((6, 2), np.int8), "test_y": np.zeros((2, 3), np.int8)},
            r"test_y: samples have shape \(3,\), those of train_y \(2,\)",
        ),
        (
            {"test_y": np.full((2, 3), -1)},
            r"test_y: classes are numbered from 0 \(-1 where a position counts for nothing\), got -1",
        ),
        (
            {"train_x": np.zeros(6, np.uint8)},
            r"train_x: must be \(samples, features\), .* got shape \(6,\)",
        ),
        (
            {"test_x": np.zeros((0, 2, 2, 1), np.uint8)},
            r"test_x: must be .* and not empty, got shape \(0, 2, 2, 1\)",
        ),
        (
            {"test_x": np.zeros((2, 3, 3, 1), np.uint8)},
            r"test_x: samples have shape \(3, 3, 1\), those of train_x \(2, 2, 1\)",
        ),
        ({"train_y": np.zeros(6)}, "train_y: must be integers from 0, got float64"),
        (
            {"test_y": np.array([1])},
            r"test_y: must be one label, or .* for each of the 2 samples, got shape \(1,\)",
        ),
        ({"test_y": np.array([-1, 0])}, "test_y: classes are numbered from 0, got -1"),
        ({"test_y": np.array([1, 7])}, "test_y: holds class 7, but train_y ends at 2"),
        (
            {"train_x": np.array([object()] * 6)},
            r"own\.npz: an array in it holds Python objects, which are not read; save plain numbers",
        ),
        (
            {"train_x": np.full((6, 4), 1e300)},
            "train_x: holds numbers that are not finite, or beyond those of float32",
        ),
        ({"train_x": np.full((6, 4), np.inf)}, "train_x: holds numbers that are not finite"),
        ({"tokens": -3}, "tokens: must be one whole number, how many token ids there are, got -3"),
        (
            {"train_y": np.full(6, 2**63 + 5, np.uint64)},
            "train_y: classes must be below 16777216, got 9223372036854775813",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(tmp_path: Path, changed: dict[str, Any], text: str) -> None:
    """Each way the user's arrays can be wrong is named with file, array, value and what is allowed."""
    path = own_file(tmp_path, **changed)
    with pytest.raises(InputError, match=text):
        load_dataset(path)


def test_files_that_are_no_data_set_are_refused(tmp_path: Path) -> None:
    """A missing file, a folder, a text file and a single array each get one clear line."""
    with pytest.raises(InputError, match=r"gone\.npz: no such data file"):
        load_dataset(tmp_path / "gone.npz")
    with pytest.raises(InputError, match="cannot read the data file: Is a directory"):
        load_dataset(tmp_path)
    (tmp_path / "text.npz").write_text("hello", encoding="utf-8")
    np.save(tmp_path / "single.npy", np.zeros(3))
    truncated = own_file(tmp_path).read_bytes()[:200]
    (tmp_path / "cut.npz").write_bytes(truncated)
    for name in ("text.npz", "single.npy", "cut.npz"):
        with pytest.raises(InputError, match=r"not an \.npz file of plain arrays"):
            load_dataset(tmp_path / name)


@pytest.mark.parametrize(
    ("member", "text"),
    [
        (b"hello", r"own\.npz: test_y: is no array \(numpy\.savez writes one\)"),
        (huge_header(), r"own\.npz: an array in it is larger than this computer's memory"),
    ],
)
def test_members_that_are_no_arrays_are_refused(member: bytes, text: str, tmp_path: Path) -> None:
    """A text in the place of an array, and an array whose header announces more than any memory holds."""
    whole = own_file(tmp_path, test_y=None)
    with zipfile.ZipFile(whole, "a") as archive:
        archive.writestr("test_y.npy", member)
    with pytest.raises(InputError, match=text):
        load_dataset(whole)
