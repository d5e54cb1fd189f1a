"""G6: the N-th open, write, fsync or rename fails, N = 1, 2, ... until none does: one line, nothing lost."""

import os
from collections.abc import Callable, Iterator
from itertools import count
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
import pytest
from command_server import CommandServer, Ended, command_server
from killed_line import (
    OTHER_SETTINGS,
    TRIED,
    UNFINISHED,
    Line,
    before_step,
    draw_line_cohort,
    hidden_in,
    make_line,
    run_step,
    tree_of,
)
from safetensors.numpy import save_file

from wsi_kd.core import fault_points
from wsi_kd.core.errors import BadInput, RunFailed
from wsi_kd.core.fault_points import ERRORS, POINTS, VARIABLE
from wsi_kd.core.files import publish, publish_folder, publish_json, publish_table, publish_text

Record: TypeAlias = Callable[[str, object], None]
EACH_ERROR = ("mask", "split", "train")
"""Steps whose N-th call fails with each error; of the others with one of the three by turns."""
REMOVING = "infer"
"""Takes a former answer away before it makes a new one: no old score may stand beside a new answer."""
FILE_LIMITS = (0, 100, 300)


def write_table(folder: Path, text: str) -> None:
    publish_table(folder / "a.csv", ("a",), [(text,)], stamp={"kind": text})


def write_weights(folder: Path, text: str) -> None:
    with publish(folder / "a.safetensors") as temporary:
        save_file({text: np.zeros(9)}, temporary)


def write_folder(folder: Path, text: str) -> None:
    with publish_folder(folder / "a") as temporary:
        for name in ("b", "c"):
            (temporary / name).write_text(text)


WRITERS: dict[str, Callable[[Path, str], None]] = {
    "text": lambda folder, text: publish_text(folder / "a.txt", text),
    "json": lambda folder, text: publish_json(folder / "a.json", {"a": text}),
    "table": write_table,
    "weights": write_weights,
    "folder": write_folder,
}


def contents(folder: Path) -> dict[str, bytes]:
    found = [Path(root, name) for root, _, names in os.walk(folder) for name in names]
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


def fail_until_clean(
    write: Callable[[Path, str], None], folder: Path, spec: str, patch: pytest.MonkeyPatch
) -> int:
    """Fail the first, second, ... time of a point; return how often something failed."""
    patch.delenv(VARIABLE, raising=False)
    write(folder, "new")
    new = contents(folder)
    for number in count(1):
        patch.delenv(VARIABLE, raising=False)
        write(folder, "old")
        old = contents(folder)
        fault_points._parse.cache_clear()
        patch.setenv(VARIABLE, f"{spec}:{number}")
        told = failure_of(write, folder)
        found = contents(folder)
        if not told:
            assert found == new
            return number - 1
        assert told.count("\n") == 0
        assert found.keys() == old.keys()
        assert all(content in (old[name], new[name]) for name, content in found.items())
    raise AssertionError


def failure_of(write: Callable[[Path, str], None], folder: Path) -> str:
    try:
        write(folder, "new")
    except RunFailed as error:
        return str(error)
    return ""


@pytest.mark.parametrize("kind", WRITERS)
def test_every_call_of_every_writer_may_fail(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = {"table": 2}.get(kind, 1)
    renames = {"folder": 2, "table": 2}.get(kind, 1)
    for error in ERRORS:
        found = {
            point: fail_until_clean(WRITERS[kind], tmp_path, f"{point}:{error}", monkeypatch)
            for point in POINTS
        }
        fsyncs = 3 if kind == "folder" else files
        assert found == {
            "open": files,
            "write": files,
            "fsync": fsyncs,
            "rename": renames,
            "dirsync": files,
        }


@pytest.mark.parametrize("asked", ["open", "open:", "opened:kill", "open:enospace", "open:kill:x"])
def test_a_fault_that_there_is_not_is_refused(
    asked: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A misspelled fault that does nothing would be a test that cannot fail."""
    monkeypatch.setenv(VARIABLE, asked)
    with pytest.raises(BadInput, match=r"expected <point>:<what>\[:<n>\]"):
        publish_text(tmp_path / "a.txt", "x")
    assert list(tmp_path.iterdir()) == []


class Place(NamedTuple):
    """Where steps fail: a finished line, and another one whose files stand where a step writes."""

    server: CommandServer
    line: Line
    former: Line
    trial: Path


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    scratch = draw_line_cohort(tmp_path_factory.mktemp("faults"))
    with command_server() as server:
        line = make_line(server, scratch / "line", cohort=scratch)
        former = make_line(server, scratch / "former", cohort=scratch, settings=OTHER_SETTINGS)
        yield Place(server, line, former, scratch / "trial")


def try_step(place: Place, step: str, **how: object) -> bool:
    """Run a step over another run's files while something fails; return whether it came to its end."""
    before_step(place.line, step, place.trial, former=place.former)
    ended = run_step(place.server, step, place.trial, **how)
    found = tree_of(place.trial)
    assert hidden_in(found) == []
    wrote = {*place.line.wrote[step], *place.former.wrote[step]}
    for name in found:
        allowed = {place.line.tree.get(name), *([place.former.tree.get(name)] if name in wrote else [])}
        assert found[name] in allowed or Path(name).name in UNFINISHED, name
    if step != REMOVING:
        assert found.keys() >= set(place.former.wrote[step])
    if ended.code == 0:
        assert all(found[name] == place.line.tree[name] for name in place.line.wrote[step])
        return True
    check_told(ended)
    return False


def check_told(ended: Ended) -> None:
    assert ended.code == RunFailed.exit_code, ended.err
    assert ended.err.startswith("wsi-kd: error: ")
    assert ended.err.count("\n") == 1, ended.err


def fail_every(place: Place, step: str, point: str) -> int:
    """Let every call of a point fail; return how often one did."""
    failed = 0
    for number in count(1):
        names = list(ERRORS)
        for error in names if step in EACH_ERROR else [names[number % len(names)]]:
            if try_step(place, step, environment={VARIABLE: f"{point}:{error}:{number}"}):
                return failed
            failed += 1
    raise AssertionError


@pytest.mark.reliability
def test_every_call_of_every_step_may_fail(place: Place, record_property: Record) -> None:
    assert all(place.line.tree[name] != place.former.tree.get(name) for name in place.line.wrote["train"])
    failed = {step: sum(fail_every(place, step, point) for point in POINTS) for step in TRIED}
    limited = sum(not try_step(place, step, max_file_bytes=limit) for step in TRIED for limit in FILE_LIMITS)
    assert place.line.tree == tree_of(place.line.folder)
    assert place.former.tree == tree_of(place.former.folder)
    record_property(
        "figure",
        f"G6: {sum(failed.values())} failing calls of {len(TRIED)} steps (ENOSPC, EIO, EACCES) and {limited} "
        "full disks: each one line, 0 lost files, 0 temporary files",
    )
    assert limited == len(TRIED) * len(FILE_LIMITS)
