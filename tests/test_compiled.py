"""How kernels are compiled: where they are kept, and how many threads run them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numba
import pytest

from accelsim.numerics import compiled


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
