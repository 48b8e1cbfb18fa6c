"""Windows packed for chains straight from images: the tiles, and so the products, of a matrix of windows."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from test_window_packing import WALKS, naive_windows

from accelsim.numerics.accumulate import Matrix, multiply
from accelsim.numerics.accumulation import Accumulation
from accelsim.numerics.compiled import set_threads
from accelsim.numerics.formats import number_format
from accelsim.numerics.operand import WindowMatrix
from accelsim.numerics.quantise import round_to
from accelsim.numerics.window_operand import all_windows
from accelsim.numerics.window_tiles import pack_window_tiles

SINGLE = number_format("fp32")


@pytest.fixture(autouse=True)
def _all_threads_afterwards() -> Iterator[None]:
    yield
    set_threads(None)


def images(shape: tuple[int, ...], fmt: str) -> np.ndarray:
    """Normal numbers of a 16-bit format, zeros among them; of a narrow one codes, code 0 among them."""
    rng = np.random.default_rng(10)
    if number_format(fmt).bits <= 8:
        return np.asarray(number_format(fmt).encode(rng.normal(size=shape)), np.uint8)
    values = rng.normal(size=shape) * (rng.random(shape) > 0.2)
    return round_to(values.astype(np.float32), fmt)


@pytest.mark.parametrize("height", [1, 4, 8])
@pytest.mark.parametrize("name", WALKS)
def test_tiles_hold_the_rows_of_the_matrix(name: str, height: int) -> None:
    """Element by element: of all windows and of a part, as rows and as columns, scaled, the last repeated."""
    shape, walk = WALKS[name]
    windows = all_windows(images(shape, "dlfloat16"), walk)
    matrix = naive_windows(windows.images, walk)
    count = len(matrix)
    for first, last in ((0, count), (count // 3, count - 1)):
        part = windows.part(first, last)
        for seen, wanted in ((part, matrix[first:last]), (part.turned(), matrix[first:last].T)):
            tiles = pack_window_tiles(WindowMatrix(seen, SINGLE), height, 4.0)
            found = tiles.swapaxes(1, 2).reshape(-1, wanted.shape[1])
            np.testing.assert_array_equal(found[: len(wanted)], wanted * np.float32(4))
            assert (found[len(wanted) :] == found[len(wanted) - 1]).all()


@pytest.mark.parametrize("fmt", ["dlfloat16", "fp16", "fp8_e4m3_ibm"])
@pytest.mark.parametrize("name", WALKS)
def test_chains_of_windows_are_those_of_their_matrix(name: str, fmt: str) -> None:
    """Forward and transposed, wide results and narrow ones, on one thread and two: the bits of the matrix."""
    shape, walk = WALKS[name]
    accumulator = "dlfloat16" if fmt.startswith("fp8") else fmt
    number, rule = number_format(fmt), Accumulation(1, 32, accumulator)
    windows = all_windows(images(shape, fmt), walk)
    for seen in (windows, windows.turned()):
        for columns in (3, 33):
            right = Matrix(images((seen.shape[1], columns), fmt), number)
            wanted, kernel = multiply(rule, Matrix(np.array(seen.array), number), right)
            assert kernel.startswith(("fma", "add"))
            for threads in (1, 2):
                set_threads(threads)
                found, name_of_kernel = multiply(rule, WindowMatrix(seen, number), right)
                assert name_of_kernel == kernel
                assert found.tobytes() == wanted.tobytes()
