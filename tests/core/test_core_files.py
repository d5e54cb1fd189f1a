import errno
import json
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from wsi_kd.core import files, leftovers
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.files import (
    content_hash,
    publish,
    publish_json,
    publish_table,
    publish_text,
    read_json,
    read_table,
)


def _write_half_then_fail(target):
    with publish(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError


def test_publish_replaces_only_on_a_clean_exit(tmp_path):
    target = tmp_path / "sub" / "a.txt"
    publish_text(target, "old")
    with pytest.raises(ZeroDivisionError):
        _write_half_then_fail(target)
    assert target.read_text() == "old"
    assert sorted(path.name for path in target.parent.iterdir()) == ["a.txt"]


@pytest.mark.parametrize("call", ["fsync", "replace", "open"])
@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "no space left"), (errno.EACCES, "cannot be written")]
)
def test_every_failing_system_call_keeps_the_former_file(tmp_path, monkeypatch, call, number, words):
    target = tmp_path / "a.txt"
    publish_text(target, "old")

    def fail(*_arguments, **_keywords):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.os, call, fail)
    with pytest.raises(RunFailed, match=words):
        publish_text(target, "new")
    monkeypatch.undo()
    assert target.read_text() == "old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]


def test_a_folder_that_may_not_be_entered_is_one_line(tmp_path, monkeypatch):
    """Removing the temporary file fails there too, and must not take the place of the reason."""

    def closed(*_arguments, **_keywords):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files, "_remove_leftovers", closed)
    monkeypatch.setattr(files.Path, "unlink", closed)
    with pytest.raises(RunFailed, match="cannot be written"):
        publish_text(tmp_path / "a.txt", "new")


@pytest.mark.parametrize("name", ["file/a.txt", "file/below/a.txt"])
def test_a_file_in_the_place_of_a_folder_is_the_callers_mistake(tmp_path, name):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadInput, match=r"the folder cannot be written \(.*\); choose another output folder"):
        publish_text(tmp_path / name, "new")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_full_disk_is_one_line_and_leaves_nothing(tmp_path):
    script = (
        "import resource, signal, sys; from pathlib import Path; from wsi_kd.core.files import publish_text;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000));"
        f"publish_text(Path({str(tmp_path / 'big.txt')!r}), 'x' * 100000)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert "RunFailed" in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_under_safetensors_is_one_line_and_leaves_nothing(tmp_path):
    """Its Rust writer raises no OSError: training on a full disk used to end in a traceback."""
    script = (
        "import resource, signal; from pathlib import Path; import numpy as np\n"
        "from safetensors.numpy import save_file; from wsi_kd.core.files import publish\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"with publish(Path({str(tmp_path / 'big.safetensors')!r})) as temporary:\n"
        "    save_file({'a': np.zeros(10_000)}, temporary)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("wsi_kd.core.errors.RunFailed: ")
    assert "big.safetensors: could not be written (File too large)" in last
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("name", ["a.txt", "n" * 240 + ".txt", "\N{CJK UNIFIED IDEOGRAPH-5207}" * 80])
def test_a_killed_writer_leaves_the_former_file_and_the_next_process_cleans_up(tmp_path, name):
    target = tmp_path / name
    publish_text(target, "old")
    script = (
        "import os, signal; from pathlib import Path; from wsi_kd.core.files import publish\n"
        f"with publish(Path({str(target)!r})) as temporary:\n"
        "    temporary.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    done = subprocess.run([sys.executable, "-c", script], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 2
    leftovers._writers.cache_clear()  # a process lists a folder once
    publish_text(target, "new")
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("age_s", "is_left"), [(3600, True), (2 * 86400, False)])
def test_what_another_host_writes_is_spared_for_a_day(tmp_path, age_s, is_left):
    """Of a process on another node nobody here can tell whether it lives."""
    target = tmp_path / "a.txt"
    hidden = leftovers.temporary_beside(target, writer="7@another_node")
    hidden.write_text("half")
    os.utime(hidden, (time.time() - age_s,) * 2)
    publish_text(target, "new")
    assert hidden.exists() == is_left


def test_a_share_whose_folders_know_no_fsync_is_written_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse_folders(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        fsync(descriptor)

    monkeypatch.setattr(files.os, "fsync", refuse_folders)
    publish_text(tmp_path / "a.txt", "new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_json_round_trip_and_one_changed_character_is_refused(tmp_path):
    path = tmp_path / "a.json"
    publish_json(path, {"name": "ä", "value": 0.1})
    assert read_json(path, remake="make a") == {"name": "ä", "value": 0.1}
    path.write_text(path.read_text().replace("0.1", "0.2"))
    with pytest.raises(BadInput, match=r"changed or damaged.*make a$"):
        read_json(path, remake="make a")


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"a": 1}', "\x00", "[" * 100_000])
def test_json_that_is_not_ours_is_bad_input(tmp_path, text):
    path = tmp_path / "a.json"
    path.write_text(text)
    with pytest.raises(BadInput, match="make a"):
        read_json(path, remake="make a")


def test_json_refuses_nan(tmp_path):
    with pytest.raises(ValueError, match="Out of range"):
        publish_json(tmp_path / "a.json", {"a": float("nan")})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("value", ["NaN", "Infinity", "1e999", '"\\ud800"'])
def test_json_with_what_was_never_hashed_is_damaged(tmp_path, value):
    path = tmp_path / "a.json"
    path.write_text(f'{{"value": {value}, "content_sha256": "0"}}')
    with pytest.raises(BadInput, match="make it anew with: make a"):
        read_json(path, remake="make a")


def test_table_round_trip_and_damage(tmp_path):
    path = tmp_path / "a.csv"
    publish_table(path, ("x", "y"), [(1, 'quote " and, comma'), (2, "line\nbreak")], stamp={"kind": "t"})
    assert read_table(path, remake="make a") == [
        {"x": "1", "y": 'quote " and, comma'},
        {"x": "2", "y": "line\nbreak"},
    ]
    path.write_text(path.read_text().replace("1", "3"))
    with pytest.raises(BadInput, match="sha256 differs"):
        read_table(path, remake="make a")


def test_content_hash_does_not_depend_on_key_order():
    first = {"a": 1, "b": [1, 2]}
    assert content_hash(first) == content_hash(json.loads('{"b": [1, 2], "a": 1}'))
    assert content_hash(first) != content_hash({"a": 1, "b": [2, 1]})


def test_only_finished_names_appear(tmp_path):
    target = tmp_path / ("n" * 240 + ".txt")
    publish_text(target, "long name")
    assert [path.name for path in Path(tmp_path).iterdir()] == [target.name]
