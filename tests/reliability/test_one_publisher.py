"""G7: every file of a run is written under a temporary name that one function gives, and renamed by it.

By the text of the package, and by the system calls of a whole line (strace); what Python itself opens while
the line is made, test_kills.py looks at.
"""

import ast
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple, TypeAlias

import pytest
from killed_line import STEPS, draw_line_cohort, prepare
from test_architecture_safety import PUBLISHING, called, trees, writes

from wsi_kd.core.leftovers import HIDDEN

Record: TypeAlias = Callable[[str, object], None]
MAKING = {
    *("os.open", "os.link", "os.symlink", "os.rename", "os.replace", "os.truncate", "os.mkfifo"),
    *("mkstemp", "mkdtemp", "NamedTemporaryFile", "TemporaryFile", "TemporaryDirectory", "touch"),
    *("symlink_to", "hardlink_to", "copyfileobj", "copytree", "imsave", "memmap", "rename"),
    "save_file",
}
"""Calls that make or move files besides those of test_architecture_safety.py; safetensors' `save_file` writes
under a random name of its own, which nobody sweeps away after a kill."""
ALLOWED = {
    "wsi_kd/core/files.py": "the one publisher",
    "wsi_kd/core/fault_points.py": "cuts off what the publisher writes, on purpose",
    "wsi_kd/core/run_lock.py": "the lock of a run: a file that is locked, not read",
    "wsi_kd/core/cards.py": "the lock of a card, in the user's runtime folder",
    "wsi_kd/cli/crash_guard.py": "opens /dev/null",
    "wsi_kd/features/stored_rows.py": "opens feature files to read from them",
    "wsi_kd/steps/train_processes.py": "a scratch folder for what its processes tell each other",
}
LEAST_FILES = 50
IN_MEMORY = {"io.BytesIO", "io.StringIO", "BytesIO", "StringIO"}


@cache
def parsed() -> tuple[tuple[str, ast.Module], ...]:
    """The package's files."""
    return tuple(trees())


def names_in(node: ast.AST) -> set[str]:
    return {one.id for one in ast.walk(node) if isinstance(one, ast.Name)}


def of_temporary(block: ast.With) -> set[str]:
    """Names that follow from the block's temporary name, or lie in memory."""
    found: set[str] = set()
    for _ in range(5):  # as far as names follow from names
        for node in ast.walk(block):
            pairs: list[tuple[ast.expr, ast.expr]] = []
            if isinstance(node, ast.withitem) and node.optional_vars is not None:
                pairs = [(node.optional_vars, node.context_expr)]
            elif isinstance(node, ast.Assign):
                pairs = [(target, node.value) for target in node.targets]
            elif isinstance(node, ast.For):
                pairs = [(node.target, node.iter)]
            for target, value in pairs:
                call = called(value) if isinstance(value, ast.Call) else ""
                if call in PUBLISHING | IN_MEMORY or names_in(value) & found:
                    found |= names_in(target)
    return found


def astray(tree: ast.AST) -> list[int]:
    """Lines inside `with publish(...)` that write to anything but its temporary name."""
    lines = []
    for block in ast.walk(tree):
        if not isinstance(block, ast.With) or not any(
            isinstance(item.context_expr, ast.Call) and called(item.context_expr) in PUBLISHING
            for item in block.items
        ):
            continue
        allowed = of_temporary(block)
        calls = [node for node in ast.walk(block) if isinstance(node, ast.Call) and writes(node)]
        lines += [call.lineno for call in calls if not names_in(call) & allowed]
    return sorted(lines)


def called_names(tree: ast.AST) -> Iterator[tuple[int, set[str]]]:
    """Line and names of each call: `touch` of `path.touch()`, `open` and `os.open` of `os.open()`."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            yield node.lineno, {node.func.id}
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, of = node.func.attr, node.func.value
            yield node.lineno, {name, f"{of.id}.{name}"} if isinstance(of, ast.Name) else {name}


def made_elsewhere(tree: ast.AST) -> list[int]:
    return sorted(line for line, names in called_names(tree) if names & MAKING)


@pytest.mark.parametrize(
    ("source", "lines"),
    [
        ("with publish(path) as part:\n    part.write_text('x')", []),
        ("with publish(path) as part:\n    path.write_text('x')", [2]),
        ("with publish(path) as part:\n    save_file(tensors, path)", [2]),
        ("with publish(path) as part, part.open('w') as handle:\n    json.dump(value, handle)", []),
        ("with publish(path) as part, path.open('w') as handle:\n    pass", [1]),
        ("with publish_folder(out) as folder:\n    (folder / 'a').write_text('x')", []),
        ("with publish_folder(out) as folder:\n    (out / 'a').write_text('x')", [2]),
        ("with publish(a) as part:\n    memory = io.BytesIO()\n    h5py.File(memory, 'w')", []),
        ("with publish(a) as part:\n    h5py.File(a, 'w')", [2]),
        ("with publish(a) as part:\n    below = part / 'x'\n    below.write_bytes(b'')", []),
    ],
)
def test_the_rule_on_temporary_names_sees_what_it_should(source: str, lines: list[int]) -> None:
    assert astray(ast.parse(source)) == lines


def test_what_is_published_is_written_under_its_temporary_name(record_property: Record) -> None:
    assert {name: lines for name, tree in parsed() if (lines := astray(tree))} == {}
    blocks = sum(bool(names & PUBLISHING) for _, tree in parsed() for _, names in called_names(tree))
    record_property("figure", f"G7: {blocks} calls of the publisher in the package, 0 writes past it")


def test_no_other_file_makes_or_moves_files() -> None:
    found = {name: lines for name, tree in parsed() if (lines := made_elsewhere(tree))}
    assert {name: lines for name, lines in found.items() if name not in ALLOWED} == {}
    assert set(ALLOWED) - set(found) == set(), "an exception that nothing needs any more"


WHOLE_LINE = """
import json, sys
from wsi_kd.cli.app import run
for arguments in json.loads(sys.argv[1]):
    assert run(arguments) == 0, arguments
"""
CALL = re.compile(r"(?P<call>\w+)\((?P<values>.*)\) += (?P<result>-?\d+)")
QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
SYNCED = re.compile(r"^\d+<.*?/(out(?:/.*)?)>$")
UNFINISHED, RESUMED = " <unfinished ...>", re.compile(r"<\.\.\. \w+ resumed>(.*)")
OPENING = {"open", "openat", "openat2", "creat"}
RENAMING = {"rename", "renameat", "renameat2", "link", "linkat", "symlink", "symlinkat"}
SYNCING = {"fsync", "fdatasync"}
TRACED = ",".join(sorted(OPENING | RENAMING | SYNCING | {"truncate"}))


class SystemCall(NamedTuple):
    """One that succeeded."""

    name: str
    values: str
    paths: tuple[str, ...]
    """Names below `out` that it was given."""


def system_calls(log: str) -> Iterator[SystemCall]:
    """What strace wrote; a call that another thread's interrupted is put together."""
    begun: dict[str, str] = {}
    for line in log.splitlines():
        process, _, told = line.partition(" ")
        told = told.strip()
        if told.endswith(UNFINISHED):
            begun[process] = told.removesuffix(UNFINISHED)
            continue
        resumed = RESUMED.match(told)
        found = CALL.match(begun.pop(process, "") + resumed[1] if resumed else told)
        if found is not None and int(found["result"]) >= 0:
            paths = tuple(name for name in QUOTED.findall(found["values"]) if name.startswith("out/"))
            yield SystemCall(found["call"], found["values"], paths)


def final_names_written(calls: Iterable[SystemCall]) -> Iterator[SystemCall]:
    """Calls that write to, or put a file under, a name below `out` that is not the publisher's."""
    for call in calls:
        if call.name in OPENING:
            writing = call.name == "creat" or re.search(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC", call.values)
            if writing and any(HIDDEN not in name for name in call.paths):
                yield call
        elif call.name not in SYNCING and call.paths and HIDDEN not in call.paths[0]:
            yield call


def unsynced(calls: Iterable[SystemCall]) -> set[str]:
    """Files that were renamed before their own fsync, and folders that had none after a rename."""
    synced: set[str] = set()
    missing: set[str] = set()
    folders: set[str] = set()
    for call in calls:
        if call.name in SYNCING and (found := SYNCED.match(call.values)):
            synced.add(found[1])
            folders.discard(found[1])
        elif call.name in RENAMING and call.paths:
            missing |= {call.paths[0]} - synced
            folders.add(str(Path(call.paths[-1]).parent))
    return missing | folders


@pytest.mark.parametrize(
    ("line", "found"),
    [
        ('1 openat(AT_FDCWD, "out/a/.tmp-1@h-b.csv", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3', False),
        ('1 openat(AT_FDCWD, "out/a/b.csv", O_WRONLY|O_CREAT|O_TRUNC, 0666) = 3', True),
        ('1 openat(AT_FDCWD, "out/a/b.csv", O_RDWR|O_CLOEXEC) = 3', True),
        ('1 openat(AT_FDCWD, "out/a/b.csv", O_RDONLY|O_CLOEXEC) = 3', False),
        ('1 openat(AT_FDCWD, "elsewhere/b.csv", O_RDWR|O_CREAT) = 3', False),
        ('1 rename("out/a/.tmp-1@h-b.csv", "out/a/b.csv") = 0', False),
        ('1 rename("out/a/c.csv", "out/a/b.csv") = 0', True),
        ('1 truncate("out/a/b.csv", 3) = 0', True),
    ],
)
def test_the_reading_of_system_calls_sees_what_it_should(line: str, found: bool) -> None:
    assert bool(list(final_names_written(system_calls(line)))) == found


WRITTEN = """1 openat(AT_FDCWD</r>, "out/a/.tmp-1@h-b", O_WRONLY|O_CREAT, 0666) = 3</r/out/a/.tmp-1@h-b>"""
FSYNC, FOLDER = "1 fsync(3</r/out/a/.tmp-1@h-b>) = 0", "1 fsync(3</r/out/a>) = 0"
CUT = "1 fsync(3</r/out/a/.tmp-1@h-b> <unfinished ...>\n2 fsync(9</r/x>) = 0\n1 <... fsync resumed>) = 0"
RENAME = '1 rename("out/a/.tmp-1@h-b", "out/a/b") = 0'


@pytest.mark.parametrize(
    ("lines", "found"),
    [
        ([WRITTEN, FSYNC, RENAME, FOLDER], set()),
        ([WRITTEN, CUT, RENAME, FOLDER], set()),
        ([WRITTEN, RENAME, FSYNC, FOLDER], {"out/a/.tmp-1@h-b"}),
        ([WRITTEN, FSYNC, FOLDER, RENAME], {"out/a"}),
        ([WRITTEN, RENAME], {"out/a/.tmp-1@h-b", "out/a"}),
    ],
)
def test_the_reading_of_fsync_sees_what_it_should(lines: list[str], found: set[str]) -> None:
    assert unsynced(system_calls("\n".join(lines))) == found


@pytest.mark.reliability
def test_no_system_call_of_a_whole_line_writes_to_a_final_name(
    tmp_path: Path, record_property: Record
) -> None:
    """Libraries written in C and Rust, too: strace sees what they open."""
    if shutil.which("strace") is None:
        pytest.skip("no strace here; on Debian and Ubuntu: sudo apt-get install strace")
    folder = prepare(tmp_path / "line", draw_line_cohort(tmp_path / "drawn"))
    log = tmp_path / "calls"
    command = ["strace", "-f", "-y", "-qq", "--seccomp-bpf", "-e", f"trace={TRACED}", "-o", str(log)]
    done = subprocess.run(
        [*command, sys.executable, "-c", WHOLE_LINE, json.dumps(list(STEPS.values()))],
        cwd=folder,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    if "ptrace" in done.stderr and not (folder / "out").exists():
        pytest.skip(f"this machine does not let strace look on: {done.stderr.splitlines()[0]}")
    assert done.returncode == 0, done.stderr
    calls = list(system_calls(log.read_text(errors="replace")))
    renamed = sum(call.name in RENAMING and bool(call.paths) for call in calls)
    assert list(final_names_written(calls)) == []
    assert unsynced(calls) == set()
    files = [path for path in (folder / "out").rglob("*") if path.is_file()]
    assert renamed >= len(files) > LEAST_FILES
    record_property(
        "figure",
        f"G7: {len(files)} files of a whole line by {renamed} renames, each after its fsync; "
        "0 opened under a final name",
    )
