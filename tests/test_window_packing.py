"""Windows packed straight from images: the words, and so the products, of a matrix of windows."""

from __future__ import annotations

import numpy as np
import pytest

from accelsim.datapath.split_k import multiply_pieces
from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.compiled import set_threads
from accelsim.numerics.formats import number_format
from accelsim.numerics.operand import WindowMatrix
from accelsim.numerics.window_operand import Windows, all_windows
from accelsim.numerics.window_packing import fits_words, with_edges
from accelsim.numerics.window_walk import Walk

WALKS = {
    "same": ((2, 7, 6, 16), Walk((7, 6), (3, 3), (-1, -1), (1, 1), (1, 1))),
    "gradient": ((3, 5, 4, 8), Walk((5, 4), (3, 3), (1, 1), (1, 1), (-1, -1))),
    "oblong": ((2, 9, 8, 12), Walk((5, 4), (2, 3), (-3, 1), (2, 3), (2, -2))),
    "beyond": ((1, 3, 3, 4), Walk((4, 6), (1, 5), (1, -4), (1, 1), (1, 1))),
    "deep": ((2, 5, 5, 64), Walk((3, 3), (5, 5), (-2, -2), (2, 2), (1, 1))),
}
"""Images (n, h, w, c), and where windows look in them."""
FORMATS = [("uint4", "int4"), ("int4", "fp4_r4_odd")]


def images(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(8).integers(0, 16, shape).astype(np.uint8)


def naive_windows(pixels: np.ndarray, walk: Walk) -> np.ndarray:
    """Element by element, as `Walk` says it; zero outside of the image."""
    n, height, width, channels = pixels.shape
    rows = []
    for image in range(n):
        for r, s in np.ndindex(*walk.positions):
            row = []
            for p, q in np.ndindex(*walk.taps):
                y = walk.first[0] + r * walk.stride[0] + p * walk.tap[0]
                x = walk.first[1] + s * walk.stride[1] + q * walk.tap[1]
                inside = 0 <= y < height and 0 <= x < width
                row += list(pixels[image, y, x]) if inside else [0] * channels
            rows.append(row)
    return np.array(rows, pixels.dtype)


@pytest.mark.parametrize("name", WALKS)
def test_a_layout_finds_every_element_of_every_window(name: str) -> None:
    """Image by image, place by place and run by run, the elements are those of the naive windows."""
    shape, walk = WALKS[name]
    windows, table = all_windows(images(shape), walk), np.arange(3, 19).astype(np.uint8)
    layout = windows.layout()
    pixels = with_edges(windows.images, layout, table)
    found = [
        pixels[image * layout.step + place + run :][: layout.length]
        for image in range(shape[0])
        for place in layout.places
        for run in layout.runs
    ]
    wanted = naive_windows(windows.images, walk)
    assert windows.shape == wanted.shape
    np.testing.assert_array_equal(np.array(found).reshape(wanted.shape), table[wanted])
    np.testing.assert_array_equal(windows.array, wanted)


@pytest.mark.parametrize("formats", FORMATS)
@pytest.mark.parametrize("name", WALKS)
def test_products_of_windows_are_those_of_their_matrix(name: str, formats: tuple[str, str]) -> None:
    """Forward and transposed, on one thread and on two: the bits and the kernel of the matrix itself."""
    shape, walk = WALKS[name]
    windows, rule = all_windows(images(shape), walk), Accumulation(8, 64, "dlfloat16")
    first, second = map(number_format, formats)
    rng = np.random.default_rng(9)
    for seen in (windows, windows.turned()):
        right = Matrix(rng.integers(0, 16, (seen.shape[1], 33)).astype(np.uint8), second)
        wanted, kernel = multiply(rule, Matrix(np.array(seen.array), first), right)
        for threads in (1, 2):
            set_threads(threads)
            fresh = Windows(seen.images, walk, seen.first, seen.last, seen.transposed)
            found, name_of_kernel = multiply(rule, WindowMatrix(fresh, first), right)
            assert name_of_kernel == kernel
            np.testing.assert_array_equal(found.view(np.int32), wanted.view(np.int32))
            if kernel[0] == "i":
                assert "array" not in vars(fresh)  # nobody has made it
    set_threads(None)


def test_pieces_of_a_split_sum_look_at_their_own_images() -> None:
    """K split over windows or over taps gives the sums of the matrix itself, piece by piece."""
    shape, walk = WALKS["same"]
    windows, split = all_windows(images(shape), walk), Accumulation(8, 8, "dlfloat16", k_splits=3)
    first, second = map(number_format, FORMATS[0])
    for seen in (windows, windows.turned()):
        codes = np.random.default_rng(10).integers(0, 16, (seen.shape[1], 9)).astype(np.uint8)
        found = multiply_pieces(split, WindowMatrix(seen, first), Matrix(codes, second))
        wanted = multiply_pieces(split, Matrix(np.array(seen.array), first), Matrix(codes, second))
        np.testing.assert_array_equal(found[0].view(np.int32), wanted[0].view(np.int32))
    part = windows.turned().part(45, 60)  # the last windows of the second of two images
    assert len(part.images) == 1
    np.testing.assert_array_equal(part.array, windows.array[45:60].T)


def test_windows_whose_runs_are_no_whole_words_are_made() -> None:
    """Three channels of bytes do not fill words: the product falls back on the matrix, with its bits."""
    walk = WALKS["same"][1]
    windows, rule = all_windows(images((1, 7, 6, 3)), walk), Accumulation(8, 64, "dlfloat16")
    first, second = map(number_format, FORMATS[0])
    assert not fits_words(windows, np.zeros(16, np.uint8))
    codes = np.random.default_rng(11).integers(0, 16, (27, 16)).astype(np.uint8)
    found, _ = multiply(rule, WindowMatrix(windows, first), Matrix(codes, second))
    wanted, _ = multiply(rule, Matrix(naive_windows(windows.images, walk), first), Matrix(codes, second))
    np.testing.assert_array_equal(found.view(np.int32), wanted.view(np.int32))
