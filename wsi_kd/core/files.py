"""The one way a file is written: `publish`. A reader sees the old file or the whole new one, never a part.

Temporary name in the same folder, fsync, rename, fsync of the folder. A killed process leaves at most a
hidden `.tmp-*` file behind, which the next writer of the same name removes.
"""

import csv
import errno
import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from wsi_kd.core.errors import BadInput, RunFailed, WsiKdError
from wsi_kd.core.fault_points import reach
from wsi_kd.core.leftovers import FORMER, leftovers, temporary_beside

SIDECAR_SUFFIX = ".meta.json"
NO_FOLDER = frozenset({errno.ENOTDIR, errno.EEXIST})
"""A file stands where a folder is needed."""
_OS_ERROR = re.compile(r"\(os error (\d+)\)")
"""How Rust libraries (safetensors) tell a full disk: as text, in an exception of their own."""


@contextmanager
def publish(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on a clean exit it becomes `path`, on any error it is removed.

    Raises:
        RunFailed: the disk is full or the folder cannot be written; `path` keeps its former content.
    """
    temporary = temporary_beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        reach("open", temporary)
        yield temporary
        reach("write", temporary)
        _sync(temporary)
        _rename(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise _as_run_failed(error, path) from error
    except Exception as error:
        told = _OS_ERROR.search(str(error))
        if told is None or isinstance(error, WsiKdError):
            raise
        number = int(told[1])
        raise _as_run_failed(OSError(number, os.strerror(number)), path) from error
    finally:
        with suppress(OSError):  # what is told is why it could not be written
            temporary.unlink(missing_ok=True)


@contextmanager
def publish_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `path`; on a clean exit it becomes `path`, on any error it is removed.

    Whatever stood at `path` is replaced as a whole; the caller looks first whether it may be. Two renames do
    it: between them, for an instant, there is no folder. Of a process killed there the next writer puts the
    former folder back before it begins.

    Raises:
        RunFailed: as `publish`.
    """
    temporary, former = temporary_beside(path), temporary_beside(path, FORMER)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _put_former_back(path)
        reach("open", temporary)
        temporary.mkdir()
        yield temporary
        reach("write", temporary)
        for entry in [*temporary.rglob("*"), temporary]:
            _sync(entry)
        if path.exists():
            _rename(path, former)
        _rename(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        if former.exists() and not path.exists():
            former.replace(path)
        raise _as_run_failed(error, path) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(former, ignore_errors=True)


def writable_folder(path: Path) -> None:
    """Make a folder, or find out before hours are spent that nothing can be written there.

    Raises:
        RunFailed: it cannot be made or written.
        BadInput: it is a file, or would lie in one.
    """
    probe = temporary_beside(path / "probe")
    try:
        path.mkdir(parents=True, exist_ok=True)
        probe.touch()
        probe.unlink()
    except OSError as error:
        raise unwritable_folder(path, error) from None


def unwritable_folder(path: Path, error: OSError) -> WsiKdError:
    """Say that a folder cannot be made or written; a file in its place is the caller's mistake."""
    kind = BadInput if error.errno in NO_FOLDER else RunFailed
    return kind(f"{path}: the folder cannot be written ({error.strerror}); choose another output folder")


def publish_text(path: Path, text: str) -> None:
    """Write `text` as UTF-8 through `publish`."""
    with publish(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def publish_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write `value` plus `content_sha256`, the hash of its canonical form, through `publish`."""
    signed = {**value, "content_sha256": content_hash(value)}
    publish_text(path, json.dumps(signed, indent=1, ensure_ascii=False, allow_nan=False) + "\n")


def read_json(path: Path, *, remake: str) -> dict[str, Any]:
    """Read what `publish_json` wrote and check its hash; `remake` is the command that makes it anew."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BadInput(f"{path}: no such file; make it with: {remake}") from None
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"{path}: not readable as JSON ({error}); make it anew with: {remake}") from None
    if not isinstance(value, dict) or "content_sha256" not in value:
        raise BadInput(f"{path}: not written by wsi-kd (no content_sha256); make it with: {remake}")
    expected = value.pop("content_sha256")
    try:
        is_whole = content_hash(value) == expected
    except ValueError:  # NaN, infinity or half a character: nothing that was ever hashed holds one
        is_whole = False
    if not is_whole:
        raise BadInput(
            f"{path}: changed or damaged since it was written (sha256 differs); make it anew with: {remake}"
        )
    return value


def publish_table(
    path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], *, stamp: Mapping[str, Any]
) -> None:
    """Write a CSV, then its sidecar `<name>.meta.json` with `stamp` and the CSV's sha256."""
    with publish(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.writer(handle, lineterminator="\n")
        writer.writerow(columns)
        writer.writerows(rows)
    publish_json(sidecar(path), {**stamp, "sha256": file_hash(path)})


def read_table(path: Path, *, remake: str) -> list[dict[str, str]]:
    """Read a CSV written by `publish_table`, checking it against its sidecar."""
    check_table(path, remake=remake)
    with path.open(encoding="utf-8", newline="") as handle:
        return list(csv.DictReader(handle))


def check_table(path: Path, *, remake: str) -> dict[str, Any]:
    """Check a CSV written by `publish_table` against its sidecar; return the sidecar's content."""
    stamp = read_json(sidecar(path), remake=remake)
    if not path.is_file():
        raise BadInput(f"{path}: no such file; make it with: {remake}")
    if file_hash(path) != stamp.get("sha256"):
        raise BadInput(
            f"{path}: changed or damaged since it was written (sha256 differs); make it anew with: {remake}"
        )
    return stamp


def sidecar(path: Path) -> Path:
    """Name the sidecar that carries a table's stamp and hash."""
    return path.with_name(path.name + SIDECAR_SUFFIX)


def file_hash(path: Path) -> str:
    """Return the sha256 of a file's bytes as hex."""
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def content_hash(value: object) -> str:
    """Return the sha256 of a JSON value's canonical form (sorted keys, no spaces) as hex."""
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _sync(path: Path) -> None:
    reach("fsync", path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _sync_folder(path: Path) -> None:
    reach("dirsync", path)
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in {errno.EINVAL, errno.ENOTSUP}:  # a share whose folders know no fsync
            raise
    finally:
        os.close(descriptor)


def _rename(source: Path, target: Path) -> None:
    reach("rename", source)
    source.replace(target)


def _remove_leftovers(path: Path) -> None:
    for leftover in leftovers(path):
        leftover.unlink(missing_ok=True)


def _put_former_back(path: Path) -> None:
    """Restore the folder that a killed process had moved aside, and remove what else it left."""
    for former in leftovers(path, FORMER):
        if not path.exists():
            former.replace(path)
        shutil.rmtree(former, ignore_errors=True)
    for leftover in leftovers(path):
        shutil.rmtree(leftover, ignore_errors=True)


def _as_run_failed(error: OSError, path: Path) -> WsiKdError:
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return RunFailed(
            f"{path}: no space left on the disk; nothing was half written; free space and run again"
        )
    if error.errno in {errno.EACCES, errno.EPERM, errno.EROFS, *NO_FOLDER}:
        return unwritable_folder(path, error)
    return RunFailed(
        f"{path}: could not be written ({error.strerror or error}); nothing was half written; run again"
    )
