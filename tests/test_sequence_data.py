"""Texts and pairs of sequences: windows, ids, padding and splits are what their descriptions say."""

from __future__ import annotations

import lzma
from pathlib import Path

import numpy as np
import pytest

from accelsim.errors import InputError
from accelsim.workload.datasets import IGNORED, data_source, files, load_dataset
from accelsim.workload.datasets.pairs import PairData
from accelsim.workload.datasets.text import TextData


def bundled_text(name: str) -> str:
    """A bundled compressed file as text."""
    return lzma.decompress((files.DATA_DIR / name).read_bytes()).decode("utf-8")


@pytest.mark.parametrize("window", [1, 64, 100])
def test_austen_comes_back_from_her_windows(window: int) -> None:
    """Windows put one after another are the text, labels are the characters after, the last tenth is kept."""
    text = bundled_text("pride_and_prejudice.txt.xz")
    symbols = sorted(set(text))
    dataset = TextData(text="pride_and_prejudice", window=window).load()
    assert dataset.facts == TextData(text="pride_and_prejudice", window=window).facts()
    assert (dataset.facts.tokens, dataset.facts.classes) == (75, 75)
    begin = 0
    for x, y in ((dataset.train_x, dataset.train_y), (dataset.test_x, dataset.test_y)):
        assert x.shape == y.shape
        assert "".join(symbols[i] for i in x.reshape(-1)) == text[begin : begin + x.size]
        assert "".join(symbols[i] for i in y.reshape(-1)) == text[begin + 1 : begin + 1 + y.size]
        begin = len(text) * 9 // 10
    assert len(dataset.train_x) == dataset.facts.train_samples
    assert len(dataset.test_x) == dataset.facts.test_samples


def test_every_word_comes_back_from_its_row() -> None:
    """A row of the dictionary's ids, read by its layout, is the line of the file, in training and test."""
    lines = bundled_text("cmudict_g2p_30k.tsv.xz").splitlines()
    dataset = load_dataset("cmudict_g2p_30k")
    facts = dataset.facts
    assert facts == data_source("cmudict_g2p_30k").facts()
    assert (len(dataset.train_x), len(dataset.test_x)) == (facts.train_samples, facts.test_samples)
    assert (facts.train_samples, facts.test_samples) == (28_000, 2_000)
    phonemes = sorted({phoneme for line in lines for phoneme in line.split("\t")[1].split()})
    names = ["", "<", ">", *phonemes, *(f"{chr(97 + i)}" for i in range(26))]
    assert (facts.classes, facts.tokens) == (3 + 39, len(names))
    rows = np.concatenate([dataset.train_x, dataset.test_x])
    labels = np.concatenate([dataset.train_y, dataset.test_y])
    for line, row, label in zip(lines, rows, labels, strict=True):
        word, target = line.split("\t")
        assert "".join(names[i] for i in row[:11]) == f"{word}>"
        assert " ".join(names[i] for i in row[11:]).strip() == f"< {target}"
        assert " ".join(names[i] for i in label if i != IGNORED) == f"{target} >"


def test_no_word_is_on_both_sides_of_the_cut() -> None:
    """The cut of the dictionary leaks nothing."""
    dataset = load_dataset("cmudict_g2p_30k")
    seen = {row[:11].tobytes() for row in dataset.train_x}
    assert not any(row[:11].tobytes() in seen for row in dataset.test_x)


def test_own_text_is_read(tmp_path: Path) -> None:
    """Characters beyond ASCII are characters like any other."""
    path = tmp_path / "own.txt"
    path.write_text("äbcäbcäbcä" * 10, encoding="utf-8")
    dataset = TextData(text="own.txt", window=4).placed(tmp_path).load()
    assert dataset.facts.tokens == 3
    assert dataset.train_x[0].tolist() == [2, 0, 1, 2]
    assert dataset.train_y[0].tolist() == [0, 1, 2, 0]
    assert (dataset.facts.train_samples, dataset.facts.test_samples) == (22, 2)
    assert dataset.facts.origin is not None
    assert dataset.facts.origin.name == "own"


def test_own_pairs_are_read(tmp_path: Path) -> None:
    """Words to characters; the shorter sequences are padded and their labels ignored there."""
    path = tmp_path / "own.tsv"
    path.write_text("one two\tab\n" * 14 + "two\tb\n", encoding="utf-8")
    source = PairData(pairs="own.tsv", source="words").placed(tmp_path)
    dataset = source.load()
    facts = dataset.facts
    assert (facts.classes, facts.tokens, facts.input_shape, facts.targets) == (5, 7, (6,), (3,))
    assert facts.symbol == "character"
    assert dataset.train_x[0].tolist() == [5, 6, 2, 1, 3, 4]
    assert dataset.train_y[0].tolist() == [3, 4, 2]
    assert dataset.test_x.tolist() == [[6, 2, 0, 1, 4, 0]]
    assert dataset.test_y.tolist() == [[4, 2, IGNORED]]


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xff\xfe", r"own\.txt: not text in UTF-8$"),
        (b"short", r"own\.txt: a tenth of its 5 characters holds no window of 4 and one more$"),
    ],
)
def test_texts_that_do_not_do_are_refused(tmp_path: Path, content: bytes, text: str) -> None:
    """Bytes that are no text, and too little of it."""
    (tmp_path / "own.txt").write_bytes(content)
    with pytest.raises(InputError, match=text):
        TextData(text="own.txt", window=4).placed(tmp_path).facts()


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\xff\xfe" * 40, r"own\.tsv: not text in UTF-8$"),
        (b"a\tb\n" * 14, r"own\.tsv: must have at least 15 lines, got 14$"),
        (b"a\tb\n" * 15 + b"ab\n", r"own\.tsv:16: must be 'source TAB target', both not empty$"),
    ],
)
def test_pairs_that_do_not_do_are_refused(tmp_path: Path, content: bytes, text: str) -> None:
    """Bytes that are no text, too few lines, and a line without a tab by its number."""
    (tmp_path / "own.tsv").write_bytes(content)
    with pytest.raises(InputError, match=text):
        PairData(pairs="own.tsv").placed(tmp_path).facts()


def test_names_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """A misspelt bundled name gets the nearest one, a missing file its path."""
    with pytest.raises(InputError, match=r"unknown text \(or path of a \.txt file\) 'pride'"):
        TextData(text="pride").placed(tmp_path)
    with pytest.raises(InputError, match=r"unknown pairs .* 'cmudict' .*allowed: cmudict_g2p_30k"):
        PairData(pairs="cmudict").placed(tmp_path)
    with pytest.raises(InputError, match=r"^no such file: '.*gone\.txt'$"):
        TextData(text="gone.txt").placed(tmp_path)
