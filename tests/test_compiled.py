"""How kernels are compiled: where they are kept, and how many threads run them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
import pytest

from accelsim.datapath import row_kernels, vector_kernels
from accelsim.numerics import code_kernels, compiled, window_kernels


@pytest.fixture(autouse=True)
def _all_threads_afterwards() -> Iterator[None]:
    yield
    compiled.set_threads(None)


def test_threads_are_clipped_to_what_the_machine_has() -> None:
    """Any number is taken: below one is one, too many are all; the number in use is returned."""
    every = int(numba.config.NUMBA_NUM_THREADS)
    wanted = {1: 1, 0: 1, -3: 1, 10**6: every, None: every}
    for count, used in wanted.items():
        assert compiled.set_threads(count) == used
        assert numba.get_num_threads() == used


def test_kernels_are_kept_by_the_digest_of_their_sources(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder is named after all sources that hold kernels, so that no stale kernel is ever run."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    folder = Path(compiled.cache_folder.__wrapped__())
    assert folder == tmp_path / "accelsim" / compiled.source_digest()
    assert folder.is_dir()


def test_a_cache_that_cannot_be_written_goes_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a file in the place of the cache folder, kernels are kept in a temporary one."""
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    folder = Path(compiled.cache_folder.__wrapped__())
    assert folder.is_dir()
    assert folder.parent == tmp_path
    assert folder.name.startswith("accelsim-kernels-")


def _compiled_closures() -> Iterator[str]:
    """Kernels made inside of a function that hold another compiled function of that function."""
    for path in sorted(Path(compiled.__file__).parent.parent.rglob("*.py")):
        for maker in ast.walk(ast.parse(path.read_text())):
            if isinstance(maker, ast.FunctionDef):
                inner = [each for each in maker.body if isinstance(each, ast.FunctionDef)]
                made = {each.name for each in inner if each.decorator_list}
                for each in inner:
                    names = {node.id for node in ast.walk(each) if isinstance(node, ast.Name)}
                    if each.decorator_list and names & (made - {each.name}):
                        yield f"{path.name}: {each.name} holds {names & made}"


def test_the_cache_finds_every_kernel_again() -> None:
    """No kernel holds a compiled function as its own: Numba names such a kernel anew in each process."""
    assert list(_compiled_closures()) == []
    for module in (code_kernels, window_kernels, vector_kernels):
        for found in vars(module).values():
            cells = getattr(getattr(found, "py_func", None), "__closure__", None) or ()
            assert not [cell for cell in cells if hasattr(cell.cell_contents, "py_func")]


def test_a_kernel_that_divides_by_zero_goes_on() -> None:
    """A softmax over infinities gives NaNs and rows of zero variance infinities, as float32 has it."""
    logits, found = np.full((1, 2), np.inf, np.float32), np.empty((1, 2), np.float32)
    vector_kernels.softmax_rows(logits, found)
    assert np.isnan(found).all()
    y, mean, inverse = (np.empty(shape, np.float32) for shape in ((1, 2), 1, 1))
    one, none = np.ones(2, np.float32), np.zeros(2, np.float32)
    rows = one.reshape(1, 2), one, none, np.float32(0.5), np.float32(0), True
    row_kernels.layer_norm(*rows, y, mean, inverse)
    assert np.isposinf(inverse).all()
