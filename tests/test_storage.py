"""Files: written whole or not at all; shipped things found by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from accelsim import storage
from accelsim.errors import InputError
from accelsim.storage import find_resource, resource_dir, set_aside, shipped, write_bytes, write_text


def test_a_file_is_written_with_its_folders_and_replaced(tmp_path: Path) -> None:
    """Missing folders are made, an old file is replaced, and no other file is left beside it."""
    path = tmp_path / "a" / "b" / "c.txt"
    write_text(path, "one\n")
    write_text(path, "zwölf\n")
    assert path.read_bytes() == "zwölf\n".encode()
    assert list(path.parent.iterdir()) == [path]


def test_what_is_set_aside_is_never_lost(tmp_path: Path) -> None:
    """Each time under a name that is free; what is not there needs no name."""
    path = tmp_path / "checkpoint.npz"
    assert set_aside(path) is None
    names = []
    for text in ("one", "two", "three"):
        path.write_text(text)
        names.append(set_aside(path))
    expected = [f"checkpoint.before{number}.npz" for number in ("", "2", "3")]
    assert [name.name for name in names if name] == expected
    assert [(tmp_path / name).read_text() for name in expected] == ["one", "two", "three"]
    assert not path.exists()


def test_what_cannot_be_set_aside_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder that cannot be written to: the file stays, and the message has both names."""
    path = tmp_path / "checkpoint.npz"
    path.write_text("one")

    def fail(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(storage.os, "rename", fail)
    message = r"checkpoint\.npz: cannot be renamed to checkpoint\.before\.npz: Permission denied"
    with pytest.raises(InputError, match=message):
        set_aside(path)
    assert path.read_text() == "one"


def test_a_written_file_obeys_the_umask(tmp_path: Path) -> None:
    """A record is as readable as any file the user makes."""
    plain = tmp_path / "plain"
    plain.write_text("")
    write_bytes(tmp_path / "ours", b"")
    assert (tmp_path / "ours").stat().st_mode == plain.stat().st_mode


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_failed_write_leaves_the_old_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failure: BaseException
) -> None:
    """A full disk or Ctrl-C in the middle leaves the old file whole and nothing else."""
    path = tmp_path / "record.json"
    write_text(path, "old")

    def fail(_: int) -> None:
        raise failure

    monkeypatch.setattr(storage.os, "fsync", fail)
    with pytest.raises(InputError if isinstance(failure, OSError) else KeyboardInterrupt) as caught:
        write_text(path, "new")
    if isinstance(failure, OSError):
        assert str(caught.value) == f"{path}: cannot write the file: no space left on device"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_an_unwritable_place_is_named(tmp_path: Path) -> None:
    """A directory in the file's place, a file in a directory's place and a bad name are told apart."""
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write the file: a directory is in its place"):
        write_text(tmp_path, "x")
    with pytest.raises(InputError, match=r"cannot write the file: '.*/file' is not a directory"):
        write_text(tmp_path / "file" / "x" / "y", "x")
    with pytest.raises(InputError, match="cannot write the file: file name too long"):
        write_text(tmp_path / ("x" * 300), "x")


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_a_read_only_folder_is_named(tmp_path: Path) -> None:
    """A folder without write permission is an input error."""
    tmp_path.chmod(0o500)
    with pytest.raises(InputError, match="cannot write the file: permission denied"):
        write_text(tmp_path / "x", "x")


def test_shipped_chips_are_found_by_name_and_by_path(tmp_path: Path) -> None:
    """A name means the shipped file, a path the file itself."""
    assert "fp4_training" in shipped("arch_configs")
    by_name = find_resource("arch_configs", "fp4_training")
    assert by_name == resource_dir("arch_configs") / "fp4_training.yaml"
    assert find_resource("arch_configs", str(by_name)) == by_name
    assert find_resource("arch_configs", tmp_path) == tmp_path


def test_an_installed_package_carries_its_own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder inside the package wins over one beside it; recipes always live inside."""
    monkeypatch.setattr(storage, "_PACKAGE", tmp_path / "accelsim")
    assert resource_dir("workloads") == tmp_path / "workloads"
    (tmp_path / "accelsim" / "workloads").mkdir(parents=True)
    assert resource_dir("workloads") == tmp_path / "accelsim" / "workloads"
    assert resource_dir("recipes") == tmp_path / "accelsim" / "recipe" / "shipped"


def test_an_unknown_name_or_path_says_what_there_is() -> None:
    """A misspelt name gets the nearest one; a path to a shipped name gets the name."""
    expected = (
        r"unknown chip 'fp4_trainin' \(did you mean 'fp4_training'\?\); allowed: .*bf16_training, edge_fp16, "
    )
    with pytest.raises(InputError, match=expected):
        find_resource("arch_configs", "fp4_trainin")
    with pytest.raises(InputError, match=r"nowhere/chip\.yaml: no such file$"):
        find_resource("arch_configs", "nowhere/chip.yaml")
    with pytest.raises(InputError, match="no such file; 'fp4_training' is shipped: give the name alone"):
        find_resource("arch_configs", "fp4_training.yaml")
