"""A folder is published as a whole: the former one, or the new one, never a part."""

import os
from pathlib import Path

import pytest

from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.files import publish_folder
from wsi_kd.core.leftovers import FORMER, _host, temporary_beside


def write(folder: Path, **files: str) -> None:
    with publish_folder(folder) as temporary:
        (temporary / "below").mkdir()
        for name, text in files.items():
            (temporary / "below" / name).write_text(text)
            assert not (folder / "below" / name).exists()


def fail(temporary: Path, error: Exception) -> None:
    (temporary / "a").write_text("half")
    raise error


def contents(folder: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_a_folder_appears_and_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "out"
    write(target, a="1", b="2")
    assert contents(target) == {"a": "1", "b": "2"}
    write(target, c="3")
    assert contents(target) == {"c": "3"}
    assert [path.name for path in target.parent.iterdir()] == ["out"]


@pytest.mark.parametrize(("error", "told"), [(ValueError("x"), ValueError), (BadInput("x"), BadInput)])
def test_after_an_error_the_former_folder_stands(tmp_path: Path, error, told) -> None:
    target = tmp_path / "out"
    write(target, a="1")
    with pytest.raises(told), publish_folder(target) as temporary:
        fail(temporary, error)
    assert contents(target) == {"a": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_full_disk_is_a_failed_run(tmp_path: Path) -> None:
    with pytest.raises(RunFailed, match="no space left"), publish_folder(tmp_path / "out"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_process_left_is_removed_and_a_living_ones_is_not(tmp_path: Path) -> None:
    dead, alive = (
        temporary_beside(tmp_path / "out", writer=f"{process}@{_host()}")
        for process in (4194999, os.getppid())
    )
    for leftover in (dead, alive):
        leftover.mkdir()
        (leftover / "half").write_text("x")
    write(tmp_path / "out", a="1")
    assert (dead.exists(), alive.exists()) == (False, True)


def test_a_folder_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(BadInput, match="cannot be written"), publish_folder(tmp_path / "file" / "out"):
        pass


def test_a_folder_that_a_killed_process_had_moved_aside_is_put_back(tmp_path: Path) -> None:
    """Killed between the two renames, there is no folder; the next writer fails, the former one stands."""
    former = temporary_beside(tmp_path / "out", FORMER, writer=f"4194999@{_host()}")
    former.mkdir()
    (former / "a").write_text("1")
    with pytest.raises(ValueError, match="x"), publish_folder(tmp_path / "out") as temporary:
        fail(temporary, ValueError("x"))
    assert contents(tmp_path / "out") == {"a": "1"}
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
